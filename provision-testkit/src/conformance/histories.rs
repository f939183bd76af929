//! Random histories leave the rows that the store in memory leaves.

use std::{sync::Arc, time::Duration};

use provision_core::{
    MemoryStore,
    id::{RunId, Timestamp},
    run::RunStatus,
    store::{Append, Appended, Incarnation, LeaseRequest, Leased, Release, RunHead, RunRecord},
};

use super::{
    Fixture, Handle, append_of,
    given::{acquire_any, held_for, run_head},
    new_worker,
};
use crate::rng::Rng;

const SEEDS: u64 = 6;
const ACTS: u32 = 60;
/// No lease of a history expires by itself.
const TTL: Duration = Duration::from_secs(86_400);
const STATUSES: [RunStatus; 6] = [
    RunStatus::Running,
    RunStatus::Running,
    RunStatus::Running,
    RunStatus::Unwinding,
    RunStatus::Waiting,
    RunStatus::Parked,
];

/// Appends of every shape, refused ones and repeats among them, requests, releases and deaths: after
/// each, both stores have given the same answer and hold the same row and the same journal.
// covers: S3, S5, S19
pub async fn a_history_leaves_the_rows_that_memory_leaves(f: Fixture) {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed);
        // Every other run is never asked anything: stores may write such a one in another way.
        let mut pair = Pair::started(&f.main, seed % 2 == 0).await;
        for act in 0..ACTS {
            let done = pair.act(&mut rng).await;
            let (ours, theirs) = (plain(pair.memory.record(pair.run).await), pair.other().await);
            assert_eq!(theirs, ours, "seed {seed}, act {act}: {done}");
        }
        // Later histories claim what is due: this run is not among it.
        pair.rest().await;
    }
}

/// One run in two stores.
struct Pair<'a> {
    run: RunId,
    memory: Handle,
    store: &'a Handle,
    worker: Incarnation,
    /// The leases of the run, in memory and in the store.
    leased: Option<(Leased, Leased)>,
    /// Whether requests are sent to it.
    asked: bool,
    seq: u64,
    last: Option<(Append, Append)>,
}

impl<'a> Pair<'a> {
    async fn started(store: &'a Handle, asked: bool) -> Self {
        let memory = Handle::of(Arc::new(MemoryStore::new()));
        let head = run_head();
        let run = memory.started(head.clone()).await;
        store.started(head).await;
        Self { run, memory, store, worker: new_worker(), leased: None, asked, seq: 0, last: None }
    }

    async fn other(&self) -> (RunHead, Vec<(u64, u64, String)>) {
        plain(self.store.record(self.run).await)
    }

    async fn act(&mut self, rng: &mut Rng) -> String {
        if self.leased.is_none() {
            if self.asked && rng.chance(30) {
                return self.request().await;
            }
            return self.claim(new_worker(), Vec::new()).await;
        }
        match rng.below(12) {
            0 if self.asked => self.request().await,
            1 => {
                let died = self.worker;
                self.claim(new_worker(), vec![died]).await
            }
            2 => self.give_back(rng).await,
            3 => self.repeat().await,
            4 => {
                let mut append = self.next(rng);
                append.seq += rng.between(1, 2);
                self.append(append).await
            }
            5 => {
                let mut append = self.next(rng);
                append.seq = self.seq;
                append.frame = None;
                self.append(append).await
            }
            _ => {
                let append = self.next(rng);
                self.append(append).await
            }
        }
    }

    /// A next append as memory has it leased; the fence is exchanged where it is written.
    fn next(&self, rng: &mut Rng) -> Append {
        let (leased, _) = self.leased.as_ref().expect("a lease");
        let seq = self.seq + 1;
        let mut append = append_of(leased, seq);
        append.status = STATUSES[rng.index(STATUSES.len())];
        append.summary.done = u32::try_from(seq).unwrap_or(u32::MAX);
        append.open = rng.chance(60);
        append.settled = rng.chance(50);
        append.consumed = if rng.chance(20) { leased.record.head.requests } else { 0 };
        if rng.chance(15) {
            append.release = Some(self.release(rng));
        }
        append
    }

    async fn append(&mut self, append: Append) -> String {
        let (_, leased) = self.leased.as_ref().expect("a lease");
        let theirs = Append { fence: leased.fence, ..append.clone() };
        let (a, b) =
            (self.memory.append(append.clone()).await, self.store.append(theirs.clone()).await);
        let done = format!("{append:?}");
        assert_eq!(b, a, "{done}");
        if matches!(a, Appended::Applied { .. }) {
            self.seq = append.seq;
            if append.release.is_some() {
                self.leased = None;
            }
            self.last = Some((append, theirs));
        }
        done
    }

    /// S19: the last append that was taken, once more.
    async fn repeat(&self) -> String {
        let Some((ours, theirs)) = self.last.clone() else { return "nothing to repeat".to_owned() };
        let (a, b) = (self.memory.append(ours).await, self.store.append(theirs).await);
        assert_eq!(b, a, "a repeat");
        "a repeat".to_owned()
    }

    async fn request(&self) -> String {
        let body = "{\"go\":true}";
        let (a, b) =
            (self.memory.request(self.run, body).await, self.store.request(self.run, body).await);
        assert_eq!(b, a, "the number of a request");
        "a request".to_owned()
    }

    /// A worker claims the run, after the death of `dead`.
    async fn claim(&mut self, worker: Incarnation, dead: Vec<Incarnation>) -> String {
        let done = format!("a claim after {} deaths", dead.len());
        let request = LeaseRequest { dead, ..acquire_any(worker, TTL) };
        let (a, b) = (self.memory.lease(&request).await, self.store.lease(&request).await);
        let mine = |leased: Vec<Leased>| leased.into_iter().find(|l| l.record.head.id == self.run);
        self.leased = match (mine(a.leased), mine(b.leased)) {
            (Some(a), Some(b)) => {
                assert_eq!(plain(b.record.clone()), plain(a.record.clone()), "{done}");
                assert_eq!(b.died_at.is_some(), a.died_at.is_some(), "{done}");
                Some((a, b))
            }
            (None, None) => None,
            (a, b) => panic!("{done}: memory leased {a:?}, the store {b:?}"),
        };
        self.worker = worker;
        done
    }

    async fn give_back(&mut self, rng: &mut Rng) -> String {
        let (a, b) = self.leased.take().expect("a lease");
        let release = self.release(rng);
        let done = format!("{release:?}");
        for (handle, fence) in [(&self.memory, a.fence), (self.store, b.fence)] {
            let release = vec![(self.run, fence, release.clone())];
            handle.lease(&LeaseRequest { release, ..held_for(self.worker, TTL) }).await;
        }
        done
    }

    /// Who is never asked is due again at once, or would be for ever at rest.
    fn release(&self, rng: &mut Rng) -> Release {
        let due = match self.asked && rng.chance(50) {
            true => Timestamp::NEVER,
            false => Timestamp::ZERO,
        };
        Release { due, seen: rng.below(3), ..never() }
    }

    async fn rest(mut self) {
        self.claim(new_worker(), vec![self.worker]).await;
        if self.leased.is_some() {
            let mut append = self.next(&mut Rng::new(0));
            append.release = Some(Release { seen: u64::MAX >> 12, ..never() });
            self.append(append).await;
        }
    }
}

fn never() -> Release {
    Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 }
}

/// What does not depend on clocks and draws.
fn plain(record: RunRecord) -> (RunHead, Vec<(u64, u64, String)>) {
    let mut head = record.head;
    head.created_at = Timestamp::ZERO;
    head.updated_at = Timestamp::ZERO;
    head.due = if head.due == Timestamp::NEVER { Timestamp::NEVER } else { Timestamp::ZERO };
    let frames = record.frames.iter().map(|f| (f.seq, f.epoch, f.body.to_string())).collect();
    (head, frames)
}
