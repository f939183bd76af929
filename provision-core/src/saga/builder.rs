//! The typed builder: what, then options, then `.input(deps, map)`.

use std::{collections::BTreeSet, marker::PhantomData, sync::Arc, time::Duration};

use super::{
    OnFailure, Saga, SagaError, SignalId,
    check::Checks,
    each::Each,
    graph::{Graph, ItemsFn, JoinRule, Kind, MapFn, NodeDef, OutputFn, Ref},
    handle::{Always, Deps, Handle, Reader},
    node::Node,
};
use crate::{
    error::{Failure, StepError},
    id::{Data, Payload},
    protocol::{ResourceAction, StepAction},
    resource::{Declared, Resource},
    step::{Compensator, Step},
};

const NODES_MAX: usize = 2000;
const PATH_MAX: usize = 60;
const ATTEMPT_MAX: Duration = Duration::from_hours(24 * 30);

/// Collects the nodes of one scope.
#[derive(Debug)]
pub struct SagaBuilder<'s, I> {
    pub(super) depth: u16,
    pub(super) nodes: Vec<NodeDef>,
    pub(super) error: Option<SagaError>,
    pub(super) checks: Checks,
    pub(super) on_failure: Option<OnFailure>,
    phase: Option<&'static str>,
    paths: BTreeSet<String>,
    brand: Brand<'s, I>,
}

/// Invariant in the saga's lifetime: a builder never stands in for one of another lifetime.
type Brand<'s, I> = PhantomData<(fn(&'s ()) -> &'s (), fn(I))>;

impl<I> SagaBuilder<'_, I> {
    pub(super) fn root() -> Self {
        Self::at_depth(0, None)
    }

    pub(super) fn at_depth(depth: u16, phase: Option<&'static str>) -> Self {
        Self {
            depth,
            nodes: Vec::new(),
            error: None,
            checks: Checks::default(),
            on_failure: None,
            phase,
            paths: BTreeSet::new(),
            brand: PhantomData,
        }
    }

    pub(super) fn current_phase(&self) -> Option<&'static str> {
        self.phase
    }

    pub(super) fn fail(&mut self, error: SagaError) {
        self.error.get_or_insert(error);
    }

    pub(super) fn add(&mut self, node: NodeDef) -> Ref {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if node.path.is_empty() || node.path.len() > PATH_MAX || !node.path.chars().all(usable) {
            self.fail(SagaError::BadPath { path: node.path.to_string() });
        }
        if !self.paths.insert(node.path.to_string()) {
            self.fail(SagaError::DuplicatePath { path: node.path.to_string() });
        }
        for policy in [&node.policy, &node.undo_policy] {
            if let Err(error) = policy.validate() {
                let (path, why) = (node.path.to_string(), error.to_string());
                self.fail(SagaError::BadPolicy { path, why });
            }
        }
        if node.attempt_timeout.is_zero() || node.attempt_timeout > ATTEMPT_MAX {
            let why = "an attempt takes more than nothing, and at most 30 days".to_owned();
            self.fail(SagaError::BadTiming { path: node.path.to_string(), why });
        }
        if self.nodes.len() >= NODES_MAX {
            self.fail(SagaError::TooLarge);
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        Ref { depth: self.depth, index }
    }

    pub(super) fn finish_with(self, output: OutputFn) -> Result<Graph, SagaError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Graph::new(self.depth, self.nodes, output)),
        }
    }
}

/// Reads a handle as a stored payload, without a detour where the stored output is that already.
pub(super) fn output_fn<T: Data>(handle: Handle<'_, T>) -> OutputFn {
    let (node, plain, decode) = (handle.node, handle.plain, handle.decode);
    Arc::new(move |values| match values.value(node) {
        super::ValueOf::Output(payload) if plain => Ok(payload.clone()),
        value => encode(&decode(value)?),
    })
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<Payload, StepError> {
    Payload::encode(value).map_err(|error| {
        StepError::permanent("encode a value").with_code("not_serializable").with_source(error)
    })
}

/// S25: what is computed for a step, listed for a fan-out or joined has a bound, like every output.
pub(crate) fn check_size(bytes: usize) -> Result<(), StepError> {
    let most = Payload::MAX_BYTES;
    if bytes <= most {
        return Ok(());
    }
    Err(StepError::permanent("keep a value")
        .with_code("value_too_large")
        .with_message(format!("{bytes} bytes, at most {most}"))
        .with_hint("keep the blob elsewhere and pass a reference"))
}

/// As [`encode`], for what is journaled.
pub(super) fn encode_bounded<T: serde::Serialize>(value: &T) -> Result<Payload, StepError> {
    let payload = encode(value)?;
    check_size(payload.as_str().len()).map(|()| payload)
}

pub(super) fn decode_input<T: Data>(payload: &Payload) -> Result<T, StepError> {
    payload.decode().map_err(|error| {
        StepError::new(
            crate::error::Effect::None,
            crate::error::Verdict::Operator,
            "read the input",
        )
        .with_code("input_shape")
        .with_hint("the saga's input type changed: give the saga a new version")
        .with_source(error)
    })
}

pub(super) fn no_input() -> MapFn {
    Arc::new(|_, _| Ok(Payload::null()))
}

impl<'s, I: Data> SagaBuilder<'s, I> {
    pub(super) fn finish<O: Data>(self, output: Handle<'s, O>) -> Result<Graph, SagaError> {
        self.finish_with(output_fn(output))
    }

    /// Adds a step and what undoes it: a [`Compensator`] or `irreversible("why")`.
    pub fn step<S: Step>(
        &mut self,
        path: impl Into<String>,
        step: S,
        undo: impl Compensator<S>,
    ) -> Node<'_, 's, I, S::Input, S::Output> {
        let irreversible = undo.irreversible_because();
        let kind = Kind::Action {
            kind: S::KIND,
            revision: S::REVISION,
            action: Arc::new(StepAction::new(step, undo)),
        };
        let mut node = Node::new(self, path.into(), kind);
        node.def.irreversible = irreversible;
        node
    }

    /// Adds a resource: found, created, waited for, and deleted when the run unwinds.
    pub fn resource<R: Resource>(
        &mut self,
        path: impl Into<String>,
        resource: R,
    ) -> Node<'_, 's, I, R::Spec, R::Output> {
        let path = path.into();
        let declared = Declared::of(&resource).unwrap_or_else(|why| {
            self.fail(SagaError::BadTiming { path: path.clone(), why });
            Declared::default()
        });
        let kind = Kind::Action {
            kind: R::KIND,
            revision: R::REVISION,
            action: Arc::new(ResourceAction::new(resource, declared)),
        };
        Node::new(self, path, kind)
    }

    /// Adds another saga, as a run of its own that this one waits for and undoes.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const HOME: SagaId<u32, u32> = SagaId::new("home", 1);
    /// const STREET: SagaId<u32, Vec<u32>> = SagaId::new("street", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let home = Saga::define(HOME, |s| s.value("number").input((), |n, ()| *n))?;
    /// let street = Saga::define(STREET, |s| {
    ///     let left = s.saga("left", &home).input((), |n, ()| *n);
    ///     let right = s.saga("right", &home).input((), |n, ()| n + 1);
    ///     s.value("both").input((left, right), |_, (left, right)| vec![left, right])
    /// })?;
    /// let builder = Engine::builder(MemoryStore::new()).register(home).register(street);
    /// let engine = builder.build().await?;
    /// let run = engine.start(STREET, &7).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(run.output().await?, [7, 8]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn saga<I2: Data, O2: Data>(
        &mut self,
        path: impl Into<String>,
        child: &Saga<I2, O2>,
    ) -> Node<'_, 's, I, I2, O2> {
        Node::new(self, path.into(), Kind::Saga { child: child.plan.saga.clone() })
    }

    /// Adds a value, computed once and journaled.
    pub fn value<T: Data>(&mut self, path: impl Into<String>) -> Node<'_, 's, I, T, T> {
        Node::new(self, path.into(), Kind::Value)
    }

    /// Adds a durable wait; its input is the duration.
    pub fn sleep(&mut self, path: impl Into<String>) -> Node<'_, 's, I, Duration, ()> {
        Node::new(self, path.into(), Kind::Sleep)
    }

    /// Adds a wait for a signal; its input is the time-out. A signal that came early is kept.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, SignalId, executor::{Executor, HostDriven}};
    ///
    /// const ORDER: SagaId<u32, bool> = SagaId::new("order", 1);
    /// const APPROVED: SignalId<bool> = SignalId::new("approved");
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(ORDER, |s| {
    ///     let pause = s.sleep("pause").input((), |_, ()| Duration::from_secs(60));
    ///     s.signal(APPROVED).after(pause).input((), |_, ()| Duration::from_secs(3600))
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(ORDER, &1).await?;
    /// // It comes before anybody waits for it.
    /// engine.signal(run.id(), APPROVED, &true).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert!(run.output().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal<T: Data>(&mut self, signal: SignalId<T>) -> Node<'_, 's, I, Duration, T> {
        Node::new(self, signal.name().to_owned(), Kind::Signal { name: signal.name() })
    }

    /// Adds a fan-out over a list; every item has its own steps, status and memo.
    pub fn each<D: Deps<'s>, T: Data>(
        &mut self,
        path: impl Into<String>,
        deps: D,
        items: impl Fn(&I, D::Values) -> Vec<T> + Send + Sync + 'static,
    ) -> Each<'_, 's, I, T> {
        let mut edges = Vec::new();
        let reader = deps.reader(&mut edges);
        let items: ItemsFn = Arc::new(move |input, values| {
            let list = items(&decode_input(input)?, reader.read(values)?);
            list.iter()
                .enumerate()
                .map(|(index, item)| Ok((index.to_string(), encode(item)?)))
                .collect()
        });
        Each::new(self, path.into(), edges, items)
    }

    /// Waits for all members; succeeds with the outputs of those that did, if at least `k` did.
    ///
    /// Members are optional steps; [`Self::any`] gives the first of them instead.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Outcome, Saga, SagaId, StepError, executor::{Executor, HostDriven}};
    ///
    /// const OFFERS: SagaId<u32, Vec<u32>> = SagaId::new("offers", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(OFFERS, |s| {
    ///     let closed = || Err(StepError::permanent("ask"));
    ///     let here = s.value("here").optional().input((), |price, ()| *price);
    ///     let there = s.value("there").optional().try_input((), move |_, ()| closed());
    ///     s.any("first", vec![here, there]);
    ///     s.at_least("offers", 1, vec![here, there])
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(OFFERS, &9).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// let Outcome::PartlySucceeded(offers, failures) = run.outcome().await? else { panic!() };
    /// assert_eq!((offers, failures.len()), (vec![9], 1));
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::needless_pass_by_value, reason = "reads like the members of `deps`")]
    pub fn at_least<T: Data>(
        &mut self,
        path: impl Into<String>,
        k: usize,
        members: Vec<Handle<'s, Result<T, Failure>>>,
    ) -> Handle<'s, Vec<T>> {
        let node = self.join(path.into(), JoinRule::AtLeast(k), &members);
        Handle::new::<Always, Vec<T>>(node)
    }

    /// Waits for all members; succeeds with the output of the first that did, in journal order.
    #[allow(clippy::needless_pass_by_value, reason = "reads like the members of `deps`")]
    pub fn any<T: Data>(
        &mut self,
        path: impl Into<String>,
        members: Vec<Handle<'s, Result<T, Failure>>>,
    ) -> Handle<'s, T> {
        let node = self.join(path.into(), JoinRule::Any, &members);
        Handle::new::<Always, T>(node)
    }

    fn join<T>(&mut self, path: String, rule: JoinRule, members: &[Handle<'s, T>]) -> Ref {
        let asked = match rule {
            JoinRule::AtLeast(k) => k,
            JoinRule::Any => 1,
        };
        if asked == 0 || asked > members.len() {
            self.fail(SagaError::BadJoin { path: path.clone(), asked, members: members.len() });
        }
        if members.iter().any(|member| member.node.depth != self.depth) {
            self.fail(SagaError::OuterMember { path: path.clone() });
        }
        let mut def = Node::<I, (), ()>::definition(path, Kind::Join { rule }, self.phase);
        def.deps = members.iter().map(|member| member.node).collect();
        self.add(def)
    }

    /// Adds a durable step that runs after everything else, whatever the end; it never unwinds.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, Step, StepContext, StepError, executor::{Executor, HostDriven}};
    ///
    /// struct Tell(Arc<Mutex<Vec<String>>>);
    /// impl Step for Tell {
    ///     const KIND: &'static str = "docs.tell";
    ///     type Input = String;
    ///     type Output = ();
    ///     async fn run(&self, _: &StepContext, text: String) -> Result<(), StepError> {
    ///         self.0.lock().unwrap().push(text);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.on_end("tell", Tell(Arc::clone(&told)), |n, end| format!("{n} {}", end.status.as_str()));
    ///     s.value("seats").input((), |seats, ()| *seats)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(*told.lock().unwrap(), ["4 Succeeded"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_end<S: Step>(
        &mut self,
        path: impl Into<String>,
        step: S,
        map: impl Fn(&I, &super::End) -> S::Input + Send + Sync + 'static,
    ) {
        let kind = Kind::Hook {
            kind: S::KIND,
            revision: S::REVISION,
            action: Arc::new(StepAction::new(step, crate::step::irreversible("a hook"))),
            input: Arc::new(move |input, end| encode_bounded(&map(&decode_input(input)?, end))),
        };
        let def = Node::<I, (), ()>::definition(path.into(), kind, self.phase);
        self.add(def);
    }

    /// Refuses inputs before anything is stored: `start` and `plan` answer with kind `Invalid`, code
    /// `invalid_input` and what the check said, and a sub-saga fails for good without an effect.
    ///
    /// Checks run in their order, up to the first objection. They look at the input alone; a run
    /// that is stored is never checked again, so a stricter check does not stop what is under way.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.validate(|seats| if *seats > 0 { Ok(()) } else { Err("no seats are asked for") });
    ///     s.value("seats").input((), |seats, ()| *seats)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let refused = engine.start(SEATS, &0).await.unwrap_err();
    /// assert_eq!(refused.code(), "invalid_input");
    /// assert_eq!(refused.context(), Some("no seats are asked for"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn validate<E: std::fmt::Display>(
        &mut self,
        check: impl Fn(&I) -> Result<(), E> + Send + Sync + 'static,
    ) {
        self.checks.add(move |input| {
            let input = decode_input(input).map_err(|error| error.to_string())?;
            check(&input).map_err(|objection| objection.to_string())
        });
    }

    /// Says what becomes of finished steps when a later one fails for good; default
    /// [`OnFailure::Compensate`].
    ///
    /// ```
    /// # use provision_core::{Saga, SagaId};
    /// use provision_core::saga::OnFailure;
    ///
    /// let saga = Saga::define(SagaId::<u32, u32>::new("seats", 1), |s| {
    ///     s.on_failure(OnFailure::Ask);
    ///     s.value("seats").input((), |seats, ()| *seats)
    /// });
    /// # saga.unwrap();
    /// ```
    pub fn on_failure(&mut self, rule: OnFailure) {
        self.on_failure = Some(rule);
    }

    /// Names the phase of the nodes that follow, for progress.
    ///
    /// ```
    /// use provision_core::{Engine, MemoryStore, Saga, SagaId, executor::{Executor, HostDriven}};
    ///
    /// const SEATS: SagaId<u32, u32> = SagaId::new("seats", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let saga = Saga::define(SEATS, |s| {
    ///     s.phase("reserve");
    ///     s.value("seats").input((), |seats, ()| *seats)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(SEATS, &4).await?;
    /// let head = HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(head.summary.phase.as_deref(), Some("reserve"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn phase(&mut self, name: &'static str) {
        self.phase = Some(name);
    }
}
