//! What is looked at again and again: at every beat whether the agents answer, and once a day
//! whether the providers hold what is wanted and nothing else.
//!
//! Both are runs that a schedule begins, once for each moment however many workers there are. What
//! is found is written down to be mailed with the finding itself, and mailed once.

use std::time::Duration;

use futures_util::future::join_all;
use provision_adapters::http::Http;
use provision_core::{
    Engine, Error, NothingToUndo, Policy, RunStatus, Saga, SagaError, SagaId, Step, StepContext,
    StepError, Timestamp, engine::SweepReport, schedule::Schedule, store::RunFilter,
};
use serde::{Deserialize, Serialize};

use crate::{
    mails::{self, QueueMail},
    providers::Providers,
    saga::ask,
    table::{Asked, Row, State, Table},
};

/// Asks all agents; its output is the subscriptions whose agents count as not well from now on.
pub const HEALTH: SagaId<Beat, Vec<String>> = SagaId::new("agent-health", 2);
/// Compares what the providers hold with what is wanted.
pub const SWEEP: SagaId<Beat, Found> = SagaId::new("agent-sweep", 2);

/// Agents that are asked at the same time.
const ASKED_AT_ONCE: usize = 16;
/// How often a sweep looks again at providers whose limit was used up, and how soon.
const SWEEPS_MAX: u32 = 20;
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// From one beat to the next; at least a second.
    pub heartbeat: Duration,
    /// From one sweep to the next; at least a second.
    pub sweep: Duration,
}

impl Watch {
    /// When agents are asked.
    ///
    /// # Errors
    /// The time is too short or too long.
    pub fn heartbeats(self) -> Result<Schedule, Error> {
        Schedule::every("agent-health", self.heartbeat)
    }

    /// When providers are swept.
    ///
    /// # Errors
    /// The time is too short or too long.
    pub fn sweeps(self) -> Result<Schedule, Error> {
        Schedule::every("agent-sweep", self.sweep)
    }
}

/// The moment that a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// As the schedule has planned it.
    pub at: Timestamp,
}

/// What a sweep has found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// Things that are there as wanted.
    pub wanted: usize,
    /// What is not, one line each.
    pub alerts: Vec<String>,
}

/// Wires the saga that asks all agents.
///
/// # Errors
/// Never for this graph.
pub fn health(table: &Table, providers: &Providers) -> Result<Saga<Beat, Vec<String>>, SagaError> {
    let asking = AskAll {
        table: table.clone(),
        agents: providers.agents.clone(),
        to: providers.alerts_to.clone(),
    };
    Saga::define(HEALTH, |s| s.step("ask", asking, NothingToUndo).input((), |beat, ()| beat.at))
}

/// Wires the saga that sweeps. `engine` knows the sagas whose things are swept, and not this one.
///
/// # Errors
/// Never for this graph.
pub fn sweeping(
    engine: &Engine,
    table: &Table,
    providers: &Providers,
) -> Result<Saga<Beat, Found>, SagaError> {
    let sweep = SweepAll { engine: engine.clone() };
    let to = providers.alerts_to.clone();
    Saga::define(SWEEP, |s| {
        let found = s
            .step("sweep", sweep, NothingToUndo)
            .retry(Policy::attempts(SWEEPS_MAX).fixed(SWEEP_AGAIN))
            .input((), |_, ()| ());
        let told = s.step("note", QueueMail(table.clone()), NothingToUndo);
        let told = told.input(found, move |_, found| mails::swept(&to, &found.alerts));
        s.value("found").after(told).input(found, |_, found| found)
    })
}

/// Takes out of a report what only looks amiss: a key of one use is gone as soon as its machine has
/// joined, and that a machine is off is a row of the ledger and nothing that a provider lists.
#[must_use]
pub fn without_noise(mut report: SweepReport) -> SweepReport {
    report.missing.retain(|row| row.kind != "auth_key");
    report
}

/// Whether a provider did not answer because its limit was used up: it is to be asked again.
#[must_use]
pub fn is_throttled(report: &SweepReport) -> bool {
    report.failures.iter().any(|failure| failure.code == "throttled")
}

/// What is amiss in a report, one line each.
#[must_use]
pub fn alerts(report: &SweepReport) -> Vec<String> {
    let stray =
        report.strays.iter().map(|stray| format!("nobody wants {} {}", stray.kind, stray.id));
    let missing = report.missing.iter().map(|row| {
        let id = row.external_id.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("gone without an order: {}.{} {id}", row.provider, row.kind)
    });
    let unread = report.failures.iter().map(|failure| format!("could not be listed: {failure}"));
    stray.chain(missing).chain(unread).collect()
}

/// The runs that wait for a person: what they hold is billed meanwhile.
async fn parked(engine: &Engine) -> Result<Vec<String>, Error> {
    let filter = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
    let runs = engine.runs(&filter).await?.runs;
    Ok(runs.iter().map(|run| format!("run {} waits for a person", run.id)).collect())
}

struct AskAll {
    table: Table,
    agents: Http,
    to: String,
}

impl Step for AskAll {
    const KIND: &'static str = "agents.ask_all";
    type Input = Timestamp;
    type Output = Vec<String>;

    async fn run(&self, cx: &StepContext, beat: Timestamp) -> Result<Vec<String>, StepError> {
        let rows = self.table.all().await.map_err(|trouble| away(&trouble))?;
        let rows: Vec<_> = rows.iter().filter(|row| row.state == State::Running).collect();
        let mut asked = Vec::with_capacity(rows.len());
        for some in rows.chunks(ASKED_AT_ONCE) {
            asked.extend(join_all(some.iter().map(|row| self.one(cx, row))).await);
        }
        let asked = asked.into_iter().flatten().collect();
        let noted = self.table.note_heard(beat, asked, &self.to).await;
        noted.map_err(|trouble| away(&trouble))
    }
}

impl AskAll {
    async fn one(&self, cx: &StepContext, row: &Row) -> Option<Asked> {
        let (run, agent) = (row.run?, row.agent.as_ref()?);
        let health = ask(&self.agents, cx, &agent.hostname).await;
        Some(Asked {
            subscription: row.subscription.id.clone(),
            run,
            answered: health.is_ok_and(|health| health.is_set_up()),
        })
    }
}

/// The host's table is away: worth repeating.
pub(crate) fn away(trouble: &example_command::exit::Trouble) -> StepError {
    StepError::retry("look at the subscriptions")
        .with_code(trouble.code().to_owned())
        .with_message(trouble.message().to_owned())
}

struct SweepAll {
    engine: Engine,
}

impl Step for SweepAll {
    const KIND: &'static str = "agents.sweep";
    type Input = ();
    type Output = Found;

    async fn run(&self, _: &StepContext, (): ()) -> Result<Found, StepError> {
        let unread = |error: Error| StepError::retry("sweep").with_code(error.code().to_owned());
        let report = without_noise(self.engine.sweep(false).await.map_err(unread)?);
        if is_throttled(&report) {
            return Err(StepError::retry("sweep").with_code("throttled"));
        }
        let mut alerts = alerts(&report);
        alerts.extend(parked(&self.engine).await.map_err(unread)?);
        Ok(Found { wanted: report.wanted, alerts })
    }
}
