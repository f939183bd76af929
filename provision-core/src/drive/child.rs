//! Sub-sagas: runs of their own, begun by the very append that begins their parent's step, once
//! per generation; waited for by wake and by asking, cancelled or torn down when the parent unwinds.

use std::{sync::Arc, time::Duration};

use super::{Plans, Shared, Unusable, fold, patience::patiently};
use crate::{
    context::idempotency_key,
    error::{Effect, StepError, StoreError, Verdict},
    id::{Payload, RunId, Timestamp},
    offers::offer_of,
    protocol::Flow,
    run::{
        RunStatus, RunSummary,
        decide::{Decision, Node, State},
        journal::{Direction, Order, Record, RequestBody, WaitReason},
    },
    saga::graph::Kind,
    store::{NewRun, RunHead, RunRecord, SagaRef, Submission},
};

/// How often a parent asks by itself; the child's end wakes it earlier.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// What a child inherits.
#[derive(Debug)]
pub(crate) struct Parent {
    run: RunId,
    path: String,
    generation: u32,
    tenant: Option<String>,
    queue: String,
    priority: i32,
    context: std::collections::BTreeMap<String, String>,
}

impl Parent {
    pub(crate) fn of(state: &State, head: &RunHead, node: usize) -> Self {
        let node = state.node(node);
        Self {
            run: state.run,
            path: node.path.to_string(),
            generation: node.generation,
            tenant: head.tenant.clone(),
            queue: head.queue.clone(),
            priority: head.priority,
            context: head.context.clone(),
        }
    }

    /// The child's own id: the same for every attempt of a generation.
    pub(crate) fn child(&self) -> RunId {
        RunId::from_uuid(idempotency_key(&self.run, &self.path, self.generation, "child"))
    }
}

fn store_trouble(error: StoreError) -> StepError {
    StepError::retry("drive a sub-saga").with_code("store").with_source(error).uncounted()
}

pub(crate) async fn run(
    shared: Arc<Shared>,
    (child, saga): (RunId, SagaRef),
    input: Payload,
    dir: Direction,
) -> Result<Flow, StepError> {
    match dir {
        Direction::Forward => forward(&shared, child, &saga, &input).await,
        Direction::Undo => match load(&shared, child).await? {
            Some(record) => undo(&shared, record).await,
            None => Ok(Flow::Done(Payload::null())),
        },
    }
}

async fn load(shared: &Shared, run: RunId) -> Result<Option<RunRecord>, StepError> {
    let asked = [run];
    let mut records = patiently(|| shared.store.load(&asked)).await.map_err(store_trouble)?;
    Ok(records.pop().flatten())
}

async fn forward(
    shared: &Shared,
    child: RunId,
    saga: &SagaRef,
    input: &Payload,
) -> Result<Flow, StepError> {
    if let Some(record) = load(shared, child).await? {
        shared.changes.work.notify_waiters();
        return judge(&shared.plans, &record);
    }
    if let Some(plan) = shared.plans.get(saga) {
        plan.checks.pass(input).map_err(|refused| {
            let objection = refused.context().unwrap_or_default().to_owned();
            StepError::permanent("start a sub-saga")
                .with_code(refused.code())
                .with_message(objection)
        })?;
    }
    // It began with the very write that began this attempt: it was refused then.
    Err(StepError::permanent("start a sub-saga").with_code("child_refused"))
}

/// Runs that begin with an append, because a step that is a saga begins with it. S6: the append is
/// fenced, so an owner that has lost its lease starts nothing that no undo would find.
pub(crate) fn begun(
    shared: &Shared,
    state: &State,
    head: &RunHead,
    decision: &Decision,
) -> Vec<NewRun> {
    let begins = |node: &Node| {
        decision.append.iter().any(|record| {
            matches!(record, Record::Started { path, dir: Direction::Forward, .. }
                if *path == node.path)
        })
    };
    let forward = decision.perform.iter().filter(|command| command.dir == Direction::Forward);
    let starts = forward.filter_map(|command| {
        let node = state.node(command.node);
        let Kind::Saga { child } = &node.def().kind else { return None };
        let input = node.input.clone().filter(|_| begins(node))?;
        let plan = shared.plans.get(child);
        // What its checks object to does not begin; the attempt says why.
        plan.is_none_or(|plan| plan.checks.pass(&input).is_ok()).then_some(())?;
        let parent = Parent::of(state, head, command.node);
        Some(NewRun { head: new_head(shared, &parent, child.clone(), input), lease_to: None })
    });
    starts.collect()
}

fn wait(child: RunId) -> Flow {
    Flow::NotYet { after: ASK_EVERY, reason: WaitReason::Child { run: child } }
}

fn judge(plans: &Plans, record: &RunRecord) -> Result<Flow, StepError> {
    let head = &record.head;
    let failed = |verdict: Verdict, effect: Effect, code: &'static str| {
        let mut error = StepError::new(effect, verdict, "run a sub-saga").with_code(code);
        if let Some(failure) = &head.summary.failure {
            error = error.with_message(failure.to_string());
        }
        Err(error)
    };
    match head.status {
        RunStatus::Succeeded | RunStatus::PartlySucceeded => {
            let state = match fold(head, &record.frames, plans) {
                // S22: its output is there, for a worker that can read it.
                Err(Unusable::Newer { .. }) => return Ok(wait(head.id)),
                state => state.map_err(|damage| {
                    StepError::new(Effect::Applied, Verdict::Operator, "read a sub-saga")
                        .with_code("damaged_journal")
                        .with_message(damage.to_string())
                })?,
            };
            Ok(Flow::Done(state.output.unwrap_or_else(Payload::null)))
        }
        RunStatus::RolledBack | RunStatus::TornDown => {
            failed(Verdict::Permanent, Effect::None, "child_rolled_back")
        }
        RunStatus::RolledBackKeeping => {
            failed(Verdict::Permanent, Effect::Applied, "child_rolled_back_keeping")
        }
        _ => Ok(wait(head.id)),
    }
}

async fn undo(shared: &Shared, record: RunRecord) -> Result<Flow, StepError> {
    let head = &record.head;
    let order = match head.status {
        RunStatus::RolledBack | RunStatus::TornDown => return Ok(Flow::Done(Payload::null())),
        RunStatus::RolledBackKeeping => return Ok(Flow::Kept),
        RunStatus::Succeeded | RunStatus::PartlySucceeded => Order::TearDown,
        RunStatus::Unwinding | RunStatus::Parked => return Ok(wait(head.id)),
        RunStatus::Running | RunStatus::Waiting | RunStatus::Paused => {
            if !may_be_cancelled(shared, &record) {
                return Ok(wait(head.id));
            }
            Order::Cancel
        }
    };
    let pending = record.requests.iter().any(|request| {
        matches!(request.body.decode(), Ok(RequestBody::Order { order: asked, .. }) if asked == order)
    });
    if !pending {
        let body = RequestBody::Order {
            order,
            who: "parent run".to_owned(),
            why: "the parent is being undone".to_owned(),
        };
        let body = Payload::encode(&body)
            .map_err(|e| StepError::permanent("order a sub-saga").with_source(e))?;
        // Asked for twice, an order is refused the second time.
        let request = [Submission::Request { run: head.id, body }];
        patiently(|| shared.store.submit(&request)).await.map_err(store_trouble)?;
        shared.changes.work.notify_waiters();
        if let Some(offers) = &shared.offers {
            offers.put(&[offer_of(head, head.updated_at)]).await;
        }
    }
    Ok(wait(head.id))
}

/// Not one that somebody holds on its way back, which goes on some day; nor one past its point of no
/// return, which ends first and is torn down then. What cannot be read here is asked.
fn may_be_cancelled(shared: &Shared, record: &RunRecord) -> bool {
    let state = fold(&record.head, &record.frames, &shared.plans);
    state.map_or(true, |state| state.run_unwind().is_none() && !state.pivot_passed())
}

fn new_head(shared: &Shared, parent: &Parent, saga: SagaRef, input: Payload) -> RunHead {
    let now = shared.lease.now();
    RunHead {
        id: parent.child(),
        saga,
        tenant: parent.tenant.clone(),
        queue: parent.queue.clone(),
        priority: parent.priority,
        key: Some(format!("child:{}:{}:{}", parent.run, parent.path, parent.generation)),
        guard: None,
        input_hash: crate::engine::input_hash(&input),
        input,
        parent: Some(crate::store::Parent { run: parent.run, path: parent.path.clone() }),
        context: parent.context.clone(),
        status: RunStatus::Running,
        due: now,
        polls: Default::default(),
        seq: 0,
        epoch: 0,
        owner: None,
        requests: 0,
        consumed: 0,
        open: false,
        deaths: 0,
        summary: RunSummary::default(),
        created_at: now,
        updated_at: Timestamp::ZERO,
    }
}
