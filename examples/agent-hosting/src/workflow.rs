//! The other path: a workflow of continuous integration makes the machine, and reports what it does.
//!
//! The saga dispatches it, under a key by which its run is found again, and hands it tokens with
//! which it can report and nothing else. The machine is a resource of this saga all the same: its
//! intent is in the ledger before the workflow is dispatched, it is found by its owner mark, and an
//! undo deletes it once the workflow has stopped.

use std::time::Duration;

use example_command::stage::Stage;
use provision_adapters::{
    github::{Dispatch, DispatchSpec, DispatchedRun, GitHub, RepoSecrets, SecretsSpec},
    hetzner::{Server, ServerMade, ServerSpec},
    webhook::Callbacks,
};
use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, OwnerMark, Policy, Readiness, Resource,
    ResourceState, RunId, Saga, SagaError, SagaId, Secret, SignalId, StepContext, StepError,
    Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    input::Subscription,
    providers::Providers,
    saga::{Agent, Prepared, machine, noted, prepared, set_up},
    table::Table,
    watch::away,
};

/// Hosts an agent on a machine that a workflow makes.
pub const HOST_BY_WORKFLOW: SagaId<Subscription, Agent> =
    SagaId::new("agent-hosting-by-workflow", 1);

/// Steps, in the order of the definition: those of [`crate::saga::STEPS`], and two of its own.
///
/// | Path | Makes | Needs | Phase |
/// |---|---|---|---|
/// | `join-secret` | the join key as a secret of the repository: inputs can be read there | `join-key` | `terraform_init` |
/// | `dispatch` | the run of the workflow | all before, and that `server` is in the ledger | `terraform_init` |
/// | `server` | nothing: waits for the machine that the workflow makes | all before `dispatch` | `vm_created` |
pub const STEPS: [&str; 10] = [
    "prices",
    "ssh-key",
    "firewall",
    "join-key",
    "join-secret",
    DISPATCH,
    SERVER,
    "device",
    "agent",
    "finalize",
];
const DISPATCH: &str = "dispatch";
const SERVER: &str = "server";

/// The workflow has begun.
pub const BEGUN: SignalId<Told> = SignalId::new("terraform_init");
/// The workflow has made the machine.
pub const VM_CREATED: SignalId<Told> = SignalId::new("vm_created");

/// How often a workflow is dispatched that does not succeed.
const DISPATCHES_MAX: u32 = 2;
/// How often it is looked for a machine before the workflow is dispatched.
const LOOKS_MAX: u32 = 1_000;
/// How long a run that was cancelled may still work: a runner that does not end by itself is ended
/// after five minutes (docs.github.com, canceling a workflow run, read 2026-11-22), and its last
/// call may land a minute later.
pub const STOPS_WITHIN: Duration = Duration::from_secs(6 * 60);

/// What a workflow reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Name of the machine.
    pub machine: String,
}

/// The workflow, and how it reports.
#[derive(Debug, Clone)]
pub struct Workflows {
    /// Whose repository it is in.
    pub github: GitHub,
    /// The repository, as `owner/name`, and its id.
    pub repository: (String, u64),
    /// Its file name.
    pub file: String,
    /// Makes the tokens of its reports.
    pub callbacks: Callbacks,
    /// How long it may take.
    pub within: Duration,
    /// How often it is looked at.
    pub look_again: Duration,
    /// How long it may still work once it was cancelled.
    pub stops_within: Duration,
}

/// Reports are believed that come with a token of these.
#[must_use]
pub fn accepted(callbacks: Callbacks) -> Callbacks {
    callbacks.accept(BEGUN).accept(VM_CREATED)
}

/// Name of the Actions secret that holds the join key of a subscription.
#[must_use]
pub fn secret_name(order: &Subscription) -> String {
    format!("JOIN_{}", order.id.to_uppercase().replace('-', "_"))
}

/// Wires the hosting saga over a workflow.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn hosting(
    providers: &Providers,
    table: &Table,
    stage: &Stage,
) -> Result<Saga<Subscription, Agent>, SagaError> {
    let Workflows { github, repository, file, within, look_again, .. } =
        providers.workflows.clone();
    let patience = Policy::attempts(LOOKS_MAX).fixed(providers.ask_every).with_total(within);
    let keep = RepoSecrets::new(&github);
    let ordering =
        Ordering { dispatch: dispatch(&providers.workflows), table: table.clone(), look_again };
    let ordered = OrderedServer {
        server: Server::new(&providers.hetzner),
        table: table.clone(),
        workflows: providers.workflows.clone(),
    };
    Saga::define(HOST_BY_WORKFLOW, |s| {
        noted(s, providers, table);
        let prepared = prepared(s, providers, stage);
        let Prepared { prices, key, wall, join } = prepared;
        let secret_in = repository.clone();
        let secret = s.resource("join-secret", stage.on(keep)).input(join, move |order, join| {
            let (name, id) = &secret_in;
            SecretsSpec::new(*id, name.as_str()).with(secret_name(order), join.key)
        });
        let run = s
            .resource(DISPATCH, stage.on(ordering))
            .retry(Policy::attempts(DISPATCHES_MAX))
            .after(secret)
            .input((prices, key, wall, join), move |order, (prices, key, wall, join)| {
                let wanted = machine(order, &prices, (&key, &wall), join);
                DispatchSpec::new(repository.0.as_str(), file.as_str(), "main")
                    .with_key_input("provision_key")
                    .with_input("machine", told(&wanted))
                    .with_input("join_secret", secret_name(order))
                    .until_succeeded()
            });
        let begun = s.signal(BEGUN).input((), move |_, ()| within);

        s.phase("vm_created");
        let server = s
            .resource(SERVER, stage.on(ordered))
            .retry(patience)
            .after(secret)
            .input((prices, key, wall, join), |order, (prices, key, wall, join)| {
                machine(order, &prices, (&key, &wall), join)
            });
        let created = s.signal(VM_CREATED).after(begun).input((), move |_, ()| within);
        // A machine of which nobody has reported is none that the workflow is done with.
        let made = s.value("made").after(created).after(run).input(server, |_, server| server);
        set_up(s, (providers, stage), &prepared, made)
    })
}

/// What the workflow is told of the machine. The place of the join key stays open: who may read the
/// repository's runs may read this.
fn told(wanted: &ServerSpec) -> String {
    json!({
        "name": wanted.name, "server_type": wanted.server_type, "image": wanted.image,
        "location": wanted.location, "ssh_keys": wanted.ssh_keys, "firewalls": wanted.firewalls,
        "labels": wanted.labels,
        "user_data": wanted.user_data.as_ref().map(|data| data.text.as_str()),
    })
    .to_string()
}

/// A dispatch that hands the workflow the owner mark of the machine, and the tokens of its reports.
fn dispatch(workflows: &Workflows) -> Dispatch {
    let Workflows { callbacks, within, .. } = workflows.clone();
    let mark = |cx: &StepContext| {
        let labels = OwnerMark::new(*cx.run_id(), SERVER).labels();
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|(name, value)| (name, json!(value))).collect();
        Secret::new(serde_json::Value::Object(labels).to_string())
    };
    let tokens = move |cx: &StepContext| {
        let token = |signal| {
            let token = callbacks.token(cx, signal, cx.now().plus(within));
            json!(token.expose())
        };
        let tokens = json!({ BEGUN.name(): token(BEGUN), VM_CREATED.name(): token(VM_CREATED) });
        Secret::new(tokens.to_string())
    };
    Dispatch::new(&workflows.github)
        .with_look_again(workflows.look_again)
        .with_input_at_sending("mark", mark)
        .with_input_at_sending("callbacks", tokens)
}

/// Dispatches once the machine that it will make is in the ledger.
struct Ordering {
    dispatch: Dispatch,
    table: Table,
    look_again: Duration,
}

impl Resource for Ordering {
    const KIND: &'static str = Dispatch::KIND;
    type Spec = DispatchSpec;
    type Output = DispatchedRun;

    fn identity(&self, spec: &DispatchSpec) -> Identity {
        self.dispatch.identity(spec)
    }

    async fn find(&self, cx: &StepContext, spec: &DispatchSpec) -> Result<Found, StepError> {
        let found = self.dispatch.find(cx, spec).await?;
        if cx.memory().intent.is_some() || is_announced(&self.table, cx.run_id()).await? {
            return Ok(found);
        }
        Ok(Found::Going { again_in: self.look_again })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        self.dispatch.create(cx, spec, intent).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        id: &ExternalId,
    ) -> Result<Readiness<DispatchedRun>, StepError> {
        self.dispatch.ready(cx, spec, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.dispatch.delete(cx, spec, id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.dispatch.list_owned(cx).await
    }

    fn timing(&self) -> Timing {
        self.dispatch.timing()
    }
}

/// Whether the machine of a run is in the ledger, and not gone.
async fn is_announced(table: &Table, run: &RunId) -> Result<bool, StepError> {
    let rows = table.ledger(run, SERVER).await.map_err(|trouble| away(&trouble))?;
    Ok(rows.iter().any(|row| row.state != ResourceState::Gone))
}

/// A machine that a workflow makes: never created here, and looked for as long as the workflow may
/// make it.
struct OrderedServer {
    server: Server,
    table: Table,
    workflows: Workflows,
}

impl OrderedServer {
    /// Whether a workflow of this run may still make a machine.
    async fn may_come(&self, cx: &StepContext) -> Result<bool, StepError> {
        let rows = self.table.ledger(cx.run_id(), DISPATCH).await;
        let rows = rows.map_err(|trouble| away(&trouble))?;
        let stopping = |row: &provision_core::LedgerRow| {
            row.until.is_some_and(|until| cx.now() < until.plus(self.workflows.stops_within))
        };
        Ok(rows.iter().any(|row| row.state != ResourceState::Gone || stopping(row)))
    }
}

impl Resource for OrderedServer {
    const KIND: &'static str = Server::KIND;
    type Spec = ServerSpec;
    type Output = ServerMade;

    fn identity(&self, spec: &ServerSpec) -> Identity {
        self.server.identity(spec)
    }

    async fn find(&self, cx: &StepContext, spec: &ServerSpec) -> Result<Found, StepError> {
        let found = self.server.find(cx, spec).await?;
        // Before its own intent nothing was dispatched for it.
        if found != Found::Absent || cx.memory().intent.is_none() || !self.may_come(cx).await? {
            return Ok(found);
        }
        Ok(Found::Going { again_in: self.workflows.look_again })
    }

    /// Sends nothing. That it was ordered is in the ledger now, and what it ends as is not known.
    async fn create(
        &self,
        _: &StepContext,
        _: &ServerSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        Err(StepError::unknown("wait for the workflow").with_code("machine_ordered"))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ServerSpec,
        id: &ExternalId,
    ) -> Result<Readiness<ServerMade>, StepError> {
        self.server.ready(cx, spec, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &ServerSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.server.delete(cx, spec, id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.server.list_owned(cx).await
    }

    fn timing(&self) -> Timing {
        Timing { ready_within: self.workflows.within, ..self.server.timing() }
    }

    fn facts(&self, spec: &ServerSpec) -> Facts {
        self.server.facts(spec)
    }
}
