//! Looking before starting: what a run would do (`plan`), and whether it could (`preflight`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Engine, Start, look::nobodys};
use crate::{
    context::Attempt,
    drive::fold,
    error::{Effect, Error, ErrorKind, Failure, StepError},
    id::{ExternalId, Payload, RunId},
    panics,
    proof::Seen,
    resource::{AdoptPolicy, Listing},
    run::decide::{Phase, State},
    saga::graph::{Kind, Ref, ValueOf, Values},
};

/// What would become of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
#[non_exhaustive]
pub enum Change {
    /// A resource would be created.
    Create,
    /// It exists and is as the run left it.
    Unchanged {
        /// The provider's id.
        id: Option<ExternalId>,
    },
    /// A foreign resource would be used.
    Adopt {
        /// The provider's id.
        id: ExternalId,
    },
    /// A foreign resource stands in the way.
    Conflict {
        /// The provider's id.
        id: ExternalId,
        /// The run it belongs to, if it carries our mark.
        owner: Option<RunId>,
    },
    /// A plain step would run.
    Run,
    /// It is not wanted.
    Skip,
    /// It can only be told once these steps have run.
    Later {
        /// The first step whose output is needed.
        needs: String,
    },
    /// The provider could not be asked.
    Unclear {
        /// Why.
        failure: Failure,
    },
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Stable path.
    pub path: String,
    /// Durable kind.
    pub kind: String,
    /// What would become of it.
    #[serde(flatten)]
    pub change: Change,
}

/// What a run would do. Serializes with its format version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format: 1.
    pub format: u32,
    /// The saga.
    pub saga: String,
    /// Its version.
    pub version: u32,
    /// The run that is looked at, if it exists already.
    pub run: Option<RunId>,
    /// Steps in the order of the definition.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// Whether starting the run would change anything.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        let unchanged =
            |step: &PlannedStep| matches!(step.change, Change::Unchanged { .. } | Change::Skip);
        !self.steps.iter().all(unchanged)
    }
}

/// Whether the providers of a saga can be asked with the credentials at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// One entry per kind of resource that was asked for: its failure, if it has one.
    pub checks: Vec<(String, Option<Failure>)>,
    /// Kinds that nothing lists: there is no harmless question, so nothing is known of them.
    #[serde(default)]
    pub unasked: Vec<String>,
}

impl Preflight {
    /// Whether nothing that was asked stands against a start.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|(_, failure)| failure.is_none())
    }
}

impl Engine {
    /// Says what a run of this saga with this input would do. Calls `find` only.
    ///
    /// ```
    /// use provision_core::{
    ///     Engine, MemoryStore, Saga, SagaId, engine::Change, executor::{Executor, HostDriven},
    /// };
    /// use provision_testkit::harness::{World, world::{Entry, RemoveEntry, Thing}};
    ///
    /// const SHOP: SagaId<String, String> = SagaId::new("shop", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cloud = World::new();
    /// let saga = Saga::define(SHOP, |s| {
    ///     let db = s.resource("db", Thing::named(&cloud)).input((), |name, ()| name.clone());
    ///     let dns = s.step("dns", Entry(cloud.clone()), RemoveEntry(cloud.clone()));
    ///     dns.input(db, |_, db| db)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let plan = engine.plan(SHOP, &"acme".to_owned()).await?;
    /// assert_eq!(plan.steps[0].change, Change::Create);
    /// assert_eq!(plan.steps[1].change, Change::Later { needs: "db".to_owned() });
    /// assert!(cloud.names().is_empty());
    ///
    /// // Of a run that exists it says whether everything is still there.
    /// let run = engine.start(SHOP, &"acme".to_owned()).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert!(!engine.plan_run(run.id()).await?.has_changes());
    /// // In another's way stands what belongs to that run.
    /// let plan = engine.plan(SHOP, &"acme".to_owned()).await?;
    /// assert!(matches!(&plan.steps[0].change, Change::Conflict { owner, .. } if *owner == Some(*run.id())));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The saga is not registered, its checks object to the input (kind `Invalid`), or the input
    /// cannot be encoded.
    pub async fn plan<S: Start>(&self, saga: S, input: &S::Input) -> Result<Plan, Error> {
        let plan = self.plan_of(saga.name(), saga.version())?;
        let input = super::encode(input, "input_too_large", "encode the input")?;
        plan.checks.pass(&input)?;
        let now = self.inner.store.now().await?;
        let run = crate::draw::run_id(&*self.inner.entropy, now).map_err(|error| {
            Error::new(ErrorKind::Internal, "no_randomness", "draw a run id").with_source(error)
        })?;
        let state = State::new(run, &plan, input);
        self.plan_state(&state, None, None).await
    }

    /// Says what driving an existing run on would change, and whether what it made is still there.
    ///
    /// # Errors
    /// There is no such run, or its journal is damaged.
    pub async fn plan_run(&self, run: &RunId) -> Result<Plan, Error> {
        let record = self.load(run).await?;
        let state = fold(&record.head, &record.frames, &self.inner.plans)?;
        self.plan_state(&state, Some(*run), record.head.tenant.clone()).await
    }

    async fn plan_state(
        &self,
        state: &State,
        run: Option<RunId>,
        tenant: Option<String>,
    ) -> Result<Plan, Error> {
        let mut steps = Vec::new();
        for number in 0..state.nodes.len() {
            let node = state.node(number);
            if node.def().is_hook() {
                continue;
            }
            let looking = self.change(state, number, tenant.clone());
            let looked = panics::guarded("plan a step", &node.path, Effect::None, looking).await;
            let change = match looked {
                Ok(change) => change,
                Err(error) => {
                    Change::Unclear { failure: Failure::of(node.path.to_string(), 0, &error) }
                }
            };
            let kind = node.def().kind_name().to_owned();
            steps.push(PlannedStep { path: node.path.to_string(), kind, change });
        }
        let saga = &state.plan.saga;
        Ok(Plan { format: 1, saga: saga.name.clone(), version: saga.version, run, steps })
    }

    async fn change(
        &self,
        state: &State,
        number: usize,
        tenant: Option<String>,
    ) -> Result<Change, StepError> {
        let node = state.node(number);
        let def = node.def();
        let scope = state.scope(node.scope);
        if let Some(when) = &def.when
            && !when(&scope.input)?
        {
            return Ok(Change::Skip);
        }
        let Kind::Action { action, .. } = &def.kind else {
            let done = matches!(node.phase, Phase::Succeeded | Phase::Skipped);
            return Ok(if done { Change::Unchanged { id: None } } else { Change::Run });
        };
        let input = match &node.input {
            Some(input) => input.clone(),
            None => match self.input(state, number)? {
                Ok(input) => input,
                Err(needs) => return Ok(Change::Later { needs }),
            },
        };
        let memory = state.memory(number);
        let adopted = node.noted.iter().any(|(_, o)| *o == crate::ledger::Origin::Adopted);
        let attempt = Attempt { memory, ..nobodys(state.run, &*node.path, tenant) };
        let cx = self
            .looking(attempt)
            .await
            .map_err(|error| StepError::retry("read the store's clock").with_source(error))?;
        Ok(match action.look(cx, input).await? {
            None if node.phase == Phase::Succeeded => Change::Unchanged { id: None },
            None => Change::Run,
            Some(Seen::Ours(id)) if node.phase == Phase::Succeeded => {
                Change::Unchanged { id: Some(id) }
            }
            Some(Seen::Ours(_) | Seen::Absent | Seen::Going | Seen::Many(_)) => Change::Create,
            Some(Seen::Foreign(foreign)) if node.noted.iter().any(|(id, _)| *id == foreign.id) => {
                Change::Unchanged { id: Some(foreign.id) }
            }
            Some(Seen::Foreign(foreign)) if adopted || def.adopt == AdoptPolicy::Use => {
                Change::Adopt { id: foreign.id }
            }
            Some(Seen::Foreign(foreign)) => {
                Change::Conflict { id: foreign.id, owner: foreign.owner.map(|o| o.run()) }
            }
        })
    }

    /// A node's input, or the path of the step whose output is missing for it.
    fn input(&self, state: &State, number: usize) -> Result<Result<Payload, String>, StepError> {
        let node = state.node(number);
        let values = state.values(node.scope);
        let missing = node.def().deps.iter().find_map(|dep: &Ref| {
            let open = matches!(values.value(*dep), ValueOf::Open);
            let dep = state.resolve(node.scope, *dep).filter(|_| open)?;
            Some(state.node(dep).path.to_string())
        });
        match missing {
            Some(path) => Ok(Err(path)),
            None => (node.def().map)(&state.scope(node.scope).input, &values).map(Ok),
        }
    }

    /// Asks every provider of a saga one harmless question, with the credentials at hand.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId};
    /// use provision_testkit::harness::{World, world::Thing};
    ///
    /// const DISK: SagaId<String, String> = SagaId::new("disk", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cloud = World::new();
    /// let saga = Saga::define(DISK, |s| {
    ///     s.resource("disk", Thing::named(&cloud)).input((), |name, ()| name.clone())
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let preflight = engine.preflight(DISK).await?;
    /// assert!(preflight.is_ok());
    /// assert_eq!(preflight.checks, [("world.thing".to_owned(), None)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The saga is not registered, or the store cannot be reached.
    pub async fn preflight<S: Start>(&self, saga: S) -> Result<Preflight, Error> {
        let plan = self.plan_of(saga.name(), saga.version())?;
        let mut checks: Vec<(String, Option<Failure>)> = Vec::new();
        let mut unasked = Vec::new();
        let mut asked = BTreeSet::new();
        for (def, action) in plan.graph.actions() {
            let kind = def.kind_name().to_owned();
            let place = (kind.clone(), action.account().to_owned());
            if action.timing().is_none() || !asked.insert(place) {
                continue;
            }
            let run = RunId::from_uuid(uuid::Uuid::nil());
            let cx = self.looking(nobodys(run, &*def.path, None)).await?;
            match action.list_owned(cx).await {
                Ok(Some(Listing::Unlisted | Listing::Unmarked)) => unasked.push(kind),
                Ok(Some(Listing::Complete(_)) | None) => checks.push((kind, None)),
                Err(error) => {
                    checks.push((kind, Some(Failure::of(def.path.to_string(), 0, &error))));
                }
            }
        }
        Ok(Preflight { checks, unasked })
    }
}
