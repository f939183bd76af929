//! The other path: a workflow of continuous integration makes the machine, and reports what it does.
//!
//! The saga dispatches it, under a key by which its run is found again, and hands it tokens with
//! which it can report and nothing else. The machine is a resource of this saga all the same: its
//! intent is in the ledger before the workflow is dispatched, it is found by its owner mark, and an
//! undo deletes it once the workflow has stopped.

use std::{sync::Arc, time::Duration};

use example_command::stage::Stage;
use provision_adapters::{
    github::{Dispatch, DispatchSpec, DispatchedRun, GitHub, RepoSecrets, SecretsSpec},
    hetzner::{Server, ServerMade, ServerSpec},
    webhook::Callbacks,
};
use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, LedgerQuery, LedgerRow, Listing, OwnerMark, Policy,
    Readiness, Resource, ResourceState, RunId, Saga, SagaError, SagaId, Secret, SignalId,
    StepContext, StepError, Timing, Verdict,
    ledger::{LedgerOp, LedgerReply},
    retry::Jitter,
    store::StateStore,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    input::Subscription,
    providers::Providers,
    saga::{Agent, Prepared, machine, noted, prepared, set_up},
    table::Table,
};

/// Hosts an agent on a machine that a workflow makes.
pub const HOST_BY_WORKFLOW: SagaId<Subscription, Agent> =
    SagaId::new("agent-hosting-by-workflow", 2);
/// The same as earlier programs have begun it: their runs go on in the shape that they have.
pub const HOST_BY_WORKFLOW_1: SagaId<Subscription, Agent> =
    SagaId::new("agent-hosting-by-workflow", 1);

/// Steps, in the order of the definition: those of [`crate::saga::STEPS`], and two of its own.
///
/// | Path | Makes | Needs | Phase |
/// |---|---|---|---|
/// | `join-secret` | the join key as a secret of the repository: inputs can be read there | `join-key` | `terraform_init` |
/// | `dispatch` | the run of the workflow | all before, and that `server` is in the ledger | `terraform_init` |
/// | `server` | nothing: waits for the machine that the workflow makes | all before `dispatch` | `terraform_init` |
///
/// The phase `vm_created` begins when the workflow reports it.
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
pub const DISPATCHES_MAX: usize = 2;
/// For how long GitHub may not answer: the workflow works meanwhile. What ends the patience is the
/// time, and never the number of looks.
const TRIED_FOR: Duration = Duration::from_secs(2 * 3_600);
/// More than fit into that time.
const TRIES_MAX: u32 = 1_000;
/// How long the reports of a workflow are waited for, from its dispatch, and how long the tokens are
/// good with which it reports. Longer than all dispatches may take, of which each has six hours and
/// may wait for a runner: that it has failed is told by its run, and sooner.
pub const REPORTS_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// How often it is looked for a machine before the workflow is dispatched: for eight hours and more
/// in a program that is not hurried.
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
    /// How long it may take until it has reported, from its dispatch.
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

/// How a GitHub that does not answer is asked again: soon, then at least every minute.
fn unanswered() -> Policy {
    Policy::attempts(TRIES_MAX)
        .with_jitter(Jitter::Equal)
        .with_total(TRIED_FOR)
        .with_max_throttled(TRIED_FOR)
}

/// Name of the Actions secret that holds the join key of a subscription.
#[must_use]
pub fn secret_name(order: &Subscription) -> String {
    format!("JOIN_{}", order.id.to_uppercase().replace('-', "_"))
}

/// Where the runs of these sagas are, with what the ledger knows of them.
pub type Runs = Arc<dyn StateStore>;

/// Wires the hosting saga over a workflow, in the shape of one of its versions.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn hosting(
    version: SagaId<Subscription, Agent>,
    providers: &Providers,
    (table, runs): (&Table, &Runs),
    stage: &Stage,
) -> Result<Saga<Subscription, Agent>, SagaError> {
    let Workflows { github, repository, file, within, .. } = providers.workflows.clone();
    let patience = Policy::attempts(LOOKS_MAX)
        .exponential(providers.ask_every, 2, 12 * providers.ask_every)
        .with_jitter(Jitter::Equal)
        .with_total(within);
    let keep = RepoSecrets::new(&github);
    let ordering = Ordering::new(&providers.workflows, runs);
    let ordered = OrderedServer::new(providers, runs);
    let is_first = version.version() == HOST_BY_WORKFLOW_1.version();
    Saga::define(version, |s| {
        noted(s, providers, table);
        let prepared = prepared(s, providers, stage);
        let Prepared { prices, key, wall, join } = prepared;
        let secret_in = repository.clone();
        let secret = s.resource("join-secret", stage.on(keep)).input(join, move |order, join| {
            let (name, id) = &secret_in;
            SecretsSpec::new(*id, name.as_str()).with(secret_name(order), join.key)
        });
        let run = s.resource(DISPATCH, stage.on(ordering)).retry(unanswered()).after(secret).input(
            (prices, key, wall, join),
            move |order, (prices, key, wall, join)| {
                let wanted = machine(order, &prices, (&key, &wall), join);
                DispatchSpec::new(repository.0.as_str(), file.as_str(), "main")
                    .with_key_input("provision_key")
                    .with_input("machine", told(&wanted))
                    .with_input("join_secret", secret_name(order))
                    .until_succeeded()
            },
        );
        // Its time begins when the workflow can be dispatched.
        let begun = match is_first {
            true => s.signal(BEGUN).input((), move |_, ()| within),
            false => s.signal(BEGUN).after(secret).input((prices, key, wall), move |_, _| within),
        };
        let server = s
            .resource(SERVER, stage.on(ordered))
            .retry(patience)
            .after(secret)
            .input((prices, key, wall, join), |order, (prices, key, wall, join)| {
                machine(order, &prices, (&key, &wall), join)
            });
        let created = s.signal(VM_CREATED).after(begun).input((), move |_, ()| within);

        // What waits begins early; the phase begins with what follows the report.
        s.phase("vm_created");
        let heard = if is_first {
            created
        } else {
            s.value("reported").input(created, |_, created| created)
        };
        // A machine of which nobody has reported is none that the workflow is done with.
        let made = s.value("made").after(heard).after(run).input(server, |_, server| server);
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
    runs: Runs,
    look_again: Duration,
}

impl Ordering {
    fn new(workflows: &Workflows, runs: &Runs) -> Self {
        let (dispatch, look_again) = (dispatch(workflows), workflows.look_again);
        Self { dispatch, runs: Arc::clone(runs), look_again }
    }

    /// How many workflows were dispatched for this run: a generation whose dispatch never arrived
    /// had none.
    async fn dispatched(&self, cx: &StepContext) -> Result<usize, StepError> {
        let rows = ledger(&self.runs, cx.run_id(), DISPATCH).await?;
        Ok(rows.iter().filter(|row| row.external_id.is_some()).count())
    }
}

/// What a workflow ends with that is not dispatched again.
fn for_good(failed: &StepError) -> StepError {
    let code = failed.code().to_owned();
    let over = StepError::new(failed.effect(), Verdict::Permanent, failed.operation().to_owned())
        .with_code(code)
        .with_hint("read the run's log there; redriven, it is dispatched once more");
    match failed.message() {
        Some(message) => over.with_message(message.to_owned()),
        None => over,
    }
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
        if cx.memory().intent.is_some() || is_announced(&self.runs, cx.run_id()).await? {
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
        match self.dispatch.ready(cx, spec, id).await {
            Err(failed) if failed.is_broken() => {
                let used_up = self.dispatched(cx).await? >= DISPATCHES_MAX;
                Err(if used_up { for_good(&failed) } else { failed })
            }
            // A look that had no answer is no end of the workflow, and uses up no dispatch.
            ready => ready,
        }
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

/// What the ledger knows of a step of a run, in all its generations.
async fn ledger(runs: &Runs, run: &RunId, path: &str) -> Result<Vec<LedgerRow>, StepError> {
    let unread = |code: &str| StepError::retry("read the ledger").with_code(code.to_owned());
    let query =
        LedgerQuery { run: Some(*run), path: Some(path.to_owned()), ..LedgerQuery::default() };
    let read = runs.ledger(&[LedgerOp::Query(query)]).await;
    match read.map_err(|error| unread(error.code()).with_source(error))?.pop() {
        Some(LedgerReply::Rows(rows)) => Ok(rows),
        _ => Err(unread("no_rows")),
    }
}

/// Whether the machine of a run is in the ledger, and wanted: what a person has given up in an
/// earlier generation announces nothing.
async fn is_announced(runs: &Runs, run: &RunId) -> Result<bool, StepError> {
    use ResourceState::{Alive, Unknown};
    let rows = ledger(runs, run, SERVER).await?;
    Ok(rows.iter().any(|row| row.index == 0 && matches!(row.state, Unknown | Alive)))
}

/// A machine that a workflow makes: never created here, and looked for as long as the workflow may
/// make it.
struct OrderedServer {
    server: Server,
    dispatch: Dispatch,
    runs: Runs,
    workflows: Workflows,
}

impl OrderedServer {
    fn new(providers: &Providers, runs: &Runs) -> Self {
        Self {
            server: Server::new(&providers.hetzner),
            dispatch: Dispatch::new(&providers.workflows.github),
            runs: Arc::clone(runs),
            workflows: providers.workflows.clone(),
        }
    }

    /// Whether a workflow of this run may still make a machine.
    async fn may_come(&self, cx: &StepContext) -> Result<bool, StepError> {
        for row in ledger(&self.runs, cx.run_id(), DISPATCH).await? {
            let may_come = match row.state {
                // Its own step looks after it, and says when it is over.
                ResourceState::Unknown | ResourceState::Alive => true,
                // Nobody asks for it any more; what it still makes is found by a sweep.
                ResourceState::LeftBehind => false,
                ResourceState::Gone => self.works_on(cx, &row).await?,
            };
            if may_come {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a workflow that was cancelled, or is over, may still make something.
    async fn works_on(&self, cx: &StepContext, row: &LedgerRow) -> Result<bool, StepError> {
        // Surely never dispatched.
        let Some(id) = &row.external_id else { return Ok(false) };
        let (repository, _) = &self.workflows.repository;
        let run = DispatchSpec::new(repository.as_str(), self.workflows.file.as_str(), "main");
        // The last calls of one that was stopped, or has lost its runner, land a little later.
        let lands = row.until.is_some_and(|at| cx.now() < at.plus(self.workflows.stops_within));
        Ok(match self.dispatch.ready(cx, &run, id).await? {
            Readiness::Ready(DispatchedRun { conclusion: None, .. }) => true,
            Readiness::Ready(run) if run.conclusion.as_deref() == Some("success") => false,
            // It is over, or nobody knows it any more.
            _ => lands,
        })
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

#[cfg(test)]
mod tests {
    use provision_core::{
        Timestamp,
        retry::{Next, Series, Why},
    };

    use super::{Duration, TRIED_FOR, unanswered};

    #[test]
    fn a_github_that_does_not_answer_is_asked_until_the_time_is_over() {
        let (policy, begun) = (unanswered(), Timestamp::from_millis(1_000));
        for draw in [0, u64::MAX / 3, u64::MAX] {
            let (mut now, mut attempts) = (begun, 1);
            let why = loop {
                match policy.next(&Series::new(attempts, begun, now, draw)) {
                    Next::After(wait) => (now, attempts) = (now.plus(wait), attempts + 1),
                    Next::Exhausted(why) => break why,
                }
            };
            assert_eq!(why, Why::Total);
            assert!(now.since(begun) + Duration::from_secs(60) > TRIED_FOR, "{attempts}");
            assert!(attempts < 300, "{attempts}");
        }
    }
}
