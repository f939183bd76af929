//! Plain values that cases start from and change where they differ.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{Cost, CostPer, LedgerRow, Origin, ResourceState},
    run::{RunStatus, RunSummary},
    store::{Acquire, Append, Incarnation, LeaseRequest, Leased, Release, RunHead, SagaRef},
};
use uuid::Uuid;

/// The saga of all runs of the suites.
#[must_use]
pub fn suite_saga() -> SagaRef {
    SagaRef { name: "suite".to_owned(), version: 1, fingerprint: "f00d".to_owned() }
}

/// A new incarnation.
#[must_use]
pub fn new_worker() -> Incarnation {
    Incarnation(Uuid::now_v7())
}

/// A new run that is due at once, later in order than all before.
#[must_use]
pub fn run_head() -> RunHead {
    RunHead {
        id: RunId::from_uuid(Uuid::now_v7()),
        saga: suite_saga(),
        tenant: None,
        queue: "default".to_owned(),
        priority: 0,
        key: None,
        guard: None,
        input: Payload::null(),
        input_hash: "input-1".to_owned(),
        parent: None,
        context: BTreeMap::new(),
        status: RunStatus::Running,
        due: Timestamp::ZERO,
        polls: BTreeMap::new(),
        seq: 0,
        epoch: 0,
        owner: None,
        requests: 0,
        consumed: 0,
        open: false,
        deaths: 0,
        summary: RunSummary::default(),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(1),
    }
}

/// A new run that moves by a person's order alone.
#[must_use]
pub(super) fn resting() -> RunHead {
    RunHead { status: RunStatus::Parked, due: Timestamp::NEVER, ..run_head() }
}

/// Renews `worker` for `ttl`.
#[must_use]
pub fn held_for(worker: Incarnation, ttl: Duration) -> LeaseRequest {
    LeaseRequest {
        worker,
        ttl,
        acquire: None,
        release: Vec::new(),
        strangers: Vec::new(),
        dead: Vec::new(),
        retire: false,
    }
}

/// Renews `worker` for `ttl` and acquires up to 1,000 due runs of any queue.
#[must_use]
pub fn acquire_any(worker: Incarnation, ttl: Duration) -> LeaseRequest {
    let acquire = Acquire {
        limit: 1_000,
        runs: None,
        queues: Vec::new(),
        code: vec![suite_saga()],
        caps: provision_core::caps::Caps::default(),
    };
    LeaseRequest { acquire: Some(acquire), ..held_for(worker, ttl) }
}

/// Frame number `seq` of a leased run, with that number as its content, an attempt open.
#[must_use]
pub fn append_of(leased: &Leased, seq: u64) -> Append {
    Append {
        run: leased.record.head.id,
        fence: leased.fence,
        seq,
        frame: Some(Arc::from(format!("[{{\"n\":{seq}}}]"))),
        at: Timestamp::from_millis(seq),
        status: RunStatus::Running,
        summary: RunSummary::default(),
        open: true,
        settled: true,
        consumed: leased.record.head.consumed,
        release: None,
        free_guard: false,
        ledger: Vec::new(),
        sealed: Vec::new(),
        wakes: Vec::new(),
        starts: Vec::new(),
    }
}

/// A release that is due at `due`, without polls.
#[must_use]
pub(super) fn until(due: Timestamp) -> Release {
    Release { due, polls: BTreeMap::new(), seen: 0 }
}

/// A live created row of `run` with every field set, named `name`.
#[must_use]
pub fn ledger_row(run: RunId, path: &str, name: &str) -> LedgerRow {
    LedgerRow {
        run,
        path: path.to_owned(),
        generation: 1,
        index: 0,
        tenant: Some("acme".to_owned()),
        provider: "hetzner".to_owned(),
        account: "main".to_owned(),
        kind: "server".to_owned(),
        name: Some(name.to_owned()),
        external_id: Some(ExternalId::new(format!("id-{name}"))),
        origin: Origin::Created,
        state: ResourceState::Alive,
        region: Some("fsn1".to_owned()),
        template: Some("v3".to_owned()),
        cost: Some(Cost { milli: 4_490, currency: "EUR".to_owned(), per: CostPer::Month }),
        suspect: false,
        watch_at: None,
        since: Timestamp::from_millis(5),
        until: None,
    }
}
