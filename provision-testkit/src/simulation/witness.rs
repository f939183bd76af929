//! What the store has promised, as an onlooker between workers and store writes it down: leases,
//! journals, ledger rows. Every later answer is compared with it.
//!
//! It is a second, simpler account of the same rules; it shares no code with the engine.

use std::{collections::BTreeMap, sync::Arc};

use provision_core::{
    LedgerRow, RunId, RunStatus, Timestamp,
    run::journal::Record,
    store::{
        Append, Appended, Incarnation, LeaseGrant, LeaseRequest, RunRecord, Submission, Submitted,
    },
};

use super::{account::Account, state::State, world::Request};

/// A lease as it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) worker: Incarnation,
    pub(super) epoch: u64,
    nonce: u64,
}

/// One incarnation, as far as its lease goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worker {
    pub(super) life: usize,
    pub(super) until: Timestamp,
    retired: bool,
}

/// One run.
#[derive(Debug)]
pub(super) struct RunModel {
    /// Its number, in the order of creation: what traces call it.
    pub(super) number: usize,
    pub(super) lease: Option<Lease>,
    epoch: u64,
    pub(super) frames: Vec<(u64, Arc<str>)>,
    pub(super) status: RunStatus,
    pub(super) requests: u64,
    pub(super) consumed: u64,
    pub(super) account: Account,
}

/// Everything that was promised.
#[derive(Debug, Default)]
pub(super) struct Witness {
    pub(super) runs: BTreeMap<RunId, RunModel>,
    pub(super) workers: BTreeMap<Incarnation, Worker>,
    pub(super) keys: BTreeMap<String, RunId>,
    pub(super) ledger: BTreeMap<(RunId, String, u32, u32), LedgerRow>,
    /// Buckets that were told to pause.
    pub(super) pauses: BTreeMap<String, Timestamp>,
}

/// What is wrong, by invariant.
pub(super) type Findings = Vec<(&'static str, String)>;

impl Witness {
    fn holds(&self, lease: &Lease, now: Timestamp) -> bool {
        self.workers.get(&lease.worker).is_some_and(|w| !w.retired && w.until > now)
    }

    /// What stands against a mutating call at the moment of its first byte.
    pub(super) fn judge_call(&mut self, request: &Request, now: Timestamp) -> Findings {
        let who = &request.who;
        let held = self.runs.get(&who.run).and_then(|run| run.lease).filter(|l| self.holds(l, now));
        let life = held.and_then(|lease| self.workers.get(&lease.worker)).map(|w| w.life);
        let mut found = Findings::new();
        if who.attempt > 0 && life != Some(who.life) {
            let what = format!("life {} calls {} without the lease", who.life, who.path);
            found.push(("S6", what));
        }
        if let Some(run) = self.runs.get_mut(&who.run) {
            run.account.judge_call(request, now, &mut found);
        }
        found
    }

    /// Whether nothing more is to be expected of any run.
    pub(super) fn is_still(&self) -> bool {
        let still = |run: &RunModel| {
            (run.status.is_end() || run.status == RunStatus::Parked)
                && run.requests <= run.consumed
                && run.lease.is_none()
        };
        self.runs.values().all(still)
    }
}

impl State {
    /// New runs and requests.
    pub(super) fn submitted(&mut self, now: Timestamp, batch: &[Submission], got: &[Submitted]) {
        for (asked, answer) in batch.iter().zip(got) {
            match (asked, answer) {
                (Submission::Run(new), Submitted::Created(leased)) => {
                    let head = &new.head;
                    let number = self.witness.runs.len();
                    if let Some(key) = &head.key
                        && let Some(other) = self.witness.keys.insert(key.clone(), head.id)
                    {
                        self.violated(now, "S2", format!("key {key} has {other} and {}", head.id));
                    }
                    self.say(now, || format!("run {number} is {}", head.id));
                    let run = RunModel {
                        number,
                        lease: None,
                        epoch: 0,
                        frames: Vec::new(),
                        status: RunStatus::Running,
                        requests: 0,
                        consumed: 0,
                        account: Account::new(head.id, &self.shape),
                    };
                    self.witness.runs.insert(head.id, run);
                    if let (Some(leased), Some(lease)) = (leased, &new.lease_to) {
                        self.renewed(lease.worker, None, now.plus(lease.ttl));
                        if let Some(first) = new.first() {
                            self.wrote(now, head.id, 1, &first.body);
                        }
                        self.granted(now, lease.worker, leased);
                    }
                }
                (Submission::Run(new), Submitted::Known(head)) => {
                    let known = new.head.key.as_ref().and_then(|key| self.witness.keys.get(key));
                    if known != Some(&head.id) {
                        self.violated(now, "S2", format!("{:?} is {}", new.head.key, head.id));
                    }
                }
                (
                    Submission::Request { run, .. } | Submission::Reopen { run, .. },
                    Submitted::Requested(number),
                ) => {
                    if let Some(model) = self.witness.runs.get_mut(run) {
                        model.requests = model.requests.max(*number);
                    }
                }
                _ => {}
            }
        }
    }

    fn renewed(&mut self, worker: Incarnation, life: Option<usize>, until: Timestamp) {
        let known = self.witness.workers.entry(worker);
        let entry = known.or_insert(Worker { life: usize::MAX, until, retired: false });
        entry.until = entry.until.max(until);
        if let Some(life) = life {
            entry.life = life;
        }
    }

    /// Leases granted, renewed and given back.
    pub(super) fn leased(
        &mut self,
        now: Timestamp,
        life: usize,
        request: &LeaseRequest,
        grant: &LeaseGrant,
    ) {
        if grant.alive || request.retire {
            self.renewed(request.worker, Some(life), now.plus(request.ttl));
        }
        for (id, epoch) in &request.strangers {
            if let Some(run) = self.witness.runs.get_mut(id) {
                let given = |l: &Lease| l.worker == request.worker && l.epoch == *epoch;
                run.lease = run.lease.filter(|lease| !given(lease));
            }
        }
        for leased in &grant.leased {
            self.granted(now, request.worker, leased);
        }
        for (run, epoch) in &grant.held {
            let lease = self.witness.runs.get(run).and_then(|run| run.lease);
            if lease.is_none_or(|l| l.worker != request.worker || l.epoch != *epoch) {
                let granted = lease.map(|lease| lease.epoch);
                let what = format!("{run} is said to be held at {epoch}, granted {granted:?}");
                self.violated(now, "S5", what);
            }
        }
        if request.retire {
            for run in self.witness.runs.values_mut() {
                run.lease = run.lease.filter(|lease| lease.worker != request.worker);
            }
            if let Some(worker) = self.witness.workers.get_mut(&request.worker) {
                worker.retired = true;
            }
        }
    }

    fn granted(
        &mut self,
        now: Timestamp,
        worker: Incarnation,
        leased: &provision_core::store::Leased,
    ) {
        let id = leased.record.head.id;
        self.compare(now, &leased.record);
        let Some(run) = self.witness.runs.get(&id) else {
            return self.violated(now, "S1", format!("{id} was never created"));
        };
        let (number, epoch) = (run.number, leased.fence.epoch);
        if let Some(old) = run.lease.filter(|old| self.witness.holds(old, now)) {
            let what = format!("run {number} is leased again while epoch {} lasts", old.epoch);
            self.violated(now, "S6", what);
        }
        let last = self.witness.runs.get(&id).map_or(0, |run| run.epoch);
        if epoch <= last || leased.fence.owner != worker {
            let what = format!("run {number} has epoch {epoch} after {last}");
            self.violated(now, "S5", what);
        }
        self.say(now, || format!("run {number} leased at epoch {epoch} by {worker:?}"));
        if let Some(run) = self.witness.runs.get_mut(&id) {
            run.epoch = run.epoch.max(epoch);
            run.lease = Some(Lease { worker, epoch, nonce: leased.fence.nonce });
        }
    }

    /// What is read must be what was written.
    pub(super) fn compare(&mut self, now: Timestamp, record: &RunRecord) {
        let Some(run) = self.witness.runs.get(&record.head.id) else { return };
        let same = record.frames.len() == run.frames.len()
            && record.frames.iter().zip(&run.frames).zip(1_u64..).all(|((got, want), seq)| {
                got.seq == seq && got.epoch == want.0 && got.body == want.1
            });
        if !same {
            let what = format!(
                "the journal of run {} has {} frames, acknowledged were {}, or others",
                run.number,
                record.frames.len(),
                run.frames.len()
            );
            self.violated(now, "S3", what);
        }
    }

    /// One append and its answer.
    pub(super) fn appended(&mut self, now: Timestamp, append: &Append, answer: &Appended) {
        let Some(run) = self.witness.runs.get(&append.run) else {
            return self.violated(now, "S1", format!("{} was never created", append.run));
        };
        let lease = Lease {
            worker: append.fence.owner,
            epoch: append.fence.epoch,
            nonce: append.fence.nonce,
        };
        let (number, last) = (run.number, run.frames.len() as u64);
        let current = run.lease == Some(lease);
        let lasting = self.witness.holds(&lease, now);
        let Appended::Applied { lease_lost, .. } = answer else {
            let due = last + u64::from(append.frame.is_some());
            if current && lasting && append.seq == due && *answer == Appended::Stale {
                self.violated(now, "S5", format!("run {number}: a current write was refused"));
            }
            return self.say(now, || format!("run {number} append {}: {answer:?}", append.seq));
        };
        if let Some(body) = append.frame.as_ref().filter(|_| append.seq <= last) {
            let index = usize::try_from(append.seq.saturating_sub(1)).unwrap_or(usize::MAX);
            let same = run.frames.get(index) == Some(&(lease.epoch, Arc::clone(body)));
            if !same || (!current && !lease_lost) {
                self.violated(now, "S19", format!("run {number}: {} is another", append.seq));
            }
            return;
        }
        if !current || append.seq != last + u64::from(append.frame.is_some()) {
            let (epoch, seq) = (lease.epoch, append.seq);
            let what = format!("run {number}: epoch {epoch} wrote {seq} after {last}");
            self.violated(now, "S5", what);
        }
        self.accept(now, append, lease);
    }

    fn accept(&mut self, now: Timestamp, append: &Append, lease: Lease) {
        let Some(run) = self.witness.runs.get_mut(&append.run) else { return };
        let number = run.number;
        run.status = append.status;
        run.consumed = run.consumed.max(append.consumed);
        if append.release.is_some() {
            run.lease = None;
        }
        for row in &append.ledger {
            let key = (row.run, row.path.clone(), row.generation, row.index);
            self.witness.ledger.insert(key, row.clone());
        }
        let Some(body) = &append.frame else {
            return self.say(now, || format!("run {number} row: {:?}", append.status));
        };
        self.wrote(now, append.run, lease.epoch, body);
    }

    /// One frame more.
    fn wrote(&mut self, now: Timestamp, id: RunId, epoch: u64, body: &Arc<str>) {
        let Some(run) = self.witness.runs.get_mut(&id) else { return };
        run.frames.push((epoch, Arc::clone(body)));
        let (number, seq) = (run.number, run.frames.len());
        self.say(now, || format!("run {number} frame {seq} {body}"));
        let Ok(records) = Record::decode(body) else {
            return self.violated(now, "S3", format!("run {number}: a frame cannot be read"));
        };
        let mut found = Findings::new();
        if let Some(run) = self.witness.runs.get_mut(&id) {
            for record in &records {
                run.account.take(record, now, &mut found);
            }
            let ledger = &self.witness.ledger;
            let row_of = |path: &str, generation| ledger.get(&(id, path.to_owned(), generation, 0));
            run.account.check_ledger(row_of, &mut found);
        }
        for (id, what) in found {
            self.violated(now, id, format!("run {number}: {what}"));
        }
    }
}
