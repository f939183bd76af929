//! Many at once, through two handles: what must stay one, stays one.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_core::{
    clock::sleep,
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Sighting},
    retention::Prune,
    run::RunStatus,
    store::{
        Append, Appended, Guard, GuardUntil, LeaseRequest, NewRun, RunFilter, RunHead, Submission,
        Submitted,
    },
};
use tokio::task::JoinSet;

use super::{
    Fixture, Handle, acquire_any, append_of,
    capping::{named, under},
    given::until,
    ledger_row, new_worker, run_head,
};

const WRITERS: usize = 8;

fn handle(f: &Fixture, n: usize) -> Handle {
    if n.is_multiple_of(2) { f.main.clone() } else { f.again.clone() }
}

/// A hundred starts of one key make one run.
// covers: S2, R3-32
pub async fn a_hundred_starts_of_one_key_make_one_run(f: Fixture) {
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let handle = handle(&f, n);
        tasks.spawn(async move {
            let mut head = run_head();
            head.key = Some("order:1".to_owned());
            let id = head.id;
            match handle.start(head).await {
                Submitted::Created(_) => (id, true),
                Submitted::Known(known) => (known.id, false),
                other => panic!("expected one run, found {other:?}"),
            }
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(_, new)| *new).count(), 1);
    assert_eq!(answers.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), 1);
}

/// A business key is taken by one of many.
// covers: R2-51
pub async fn one_of_many_takes_the_guard(f: Fixture) {
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let handle = handle(&f, n);
        tasks.spawn(async move {
            let mut head = run_head();
            head.guard = Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Gone });
            matches!(handle.start(head).await, Submitted::Created(_))
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|created| *created).count(), 1);
}

/// Workers that acquire at the same time never share a run, and leave none behind.
// covers: S5, S23, R1-11, R2-40, R3-32
pub async fn workers_never_share_a_run(f: Fixture) {
    let batch: Vec<_> = (0..200)
        .map(|_| Submission::Run(Box::new(NewRun { head: run_head(), lease_to: None })))
        .collect();
    f.main.state.submit(&batch).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let handle = handle(&f, n);
        let mut request = acquire_any(new_worker(), f.ttl * 10);
        request.acquire.as_mut().unwrap().limit = 7;
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let leased = handle.lease(&request).await.leased;
                if leased.is_empty() {
                    return mine;
                }
                mine.extend(leased.into_iter().map(|leased| leased.record.head.id));
            }
        });
    }
    let all: Vec<RunId> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (200, 200));
}

/// Writers that race for the same number of the same run: one wins each time.
// covers: S3, S5
pub async fn racing_appends_leave_one_order(f: Fixture) {
    let leased = Arc::new(f.leased(new_worker(), run_head()).await);
    let run = leased.record.head.id;
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let (handle, leased) = (handle(&f, n), Arc::clone(&leased));
        tasks.spawn(async move {
            let mut won = 0_u64;
            for seq in 1..=20 {
                let mut append = append_of(&leased, seq);
                append.frame = Some(Arc::from(format!("[\"writer {n}\"]")));
                won += u64::from(matches!(handle.append(append).await, Appended::Applied { .. }));
            }
            won
        });
    }
    let won: u64 = tasks.join_all().await.into_iter().sum();
    let record = f.main.record(run).await;
    assert!(record.frames.iter().zip(1..).all(|(frame, seq)| frame.seq == seq));
    assert_eq!((record.frames.len() as u64, record.head.seq), (won, won));
}

/// Requests that arrive at the same time get different numbers, without gaps.
pub async fn concurrent_requests_are_numbered_without_gaps(f: Fixture) {
    let run = f.main.started(run_head()).await;
    let mut tasks = JoinSet::new();
    for n in 0..40 {
        let handle = handle(&f, n);
        tasks.spawn(async move { handle.request(run, &n.to_string()).await });
    }
    let mut numbers = tasks.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    assert_eq!(f.main.record(run).await.requests.len(), 40);
}

/// Of many runs that want the same name, one gets its row in.
pub async fn one_of_many_gets_the_name(f: Fixture) {
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let handle = handle(&f, n);
        let leased = f.leased_run(new_worker()).await;
        tasks.spawn(async move {
            let mut append = append_of(&leased, 1);
            append.ledger = vec![ledger_row(append.run, "vm", "web-1")];
            match handle.append(append).await {
                Appended::Applied { .. } => true,
                Appended::Conflict(row) => {
                    assert_eq!(row.name.as_deref(), Some("web-1"));
                    false
                }
                Appended::Stale => panic!("nobody else writes this run"),
            }
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

/// Workers that acquire, append, release and die at random: every journal stays a chain whose
/// epochs never go back, and no accepted write is lost.
// covers: S3, S5, S19, R2-40
pub async fn dying_writers_leave_every_journal_whole(f: Fixture) {
    for _ in 0..6 {
        f.main.started(run_head()).await;
    }
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let handle = handle(&f, n);
        let ttl = f.ttl * 10;
        tasks.spawn(async move { live_and_die(&handle, ttl, n as u64).await });
    }
    let accepted: usize = tasks.join_all().await.into_iter().sum();
    let runs = f.main.state.list(&provision_core::store::RunFilter::default()).await.unwrap().runs;
    let mut stored = 0;
    for run in runs {
        let record = f.main.record(run.id).await;
        assert!(record.frames.iter().zip(1..).all(|(frame, seq)| frame.seq == seq));
        assert!(record.frames.windows(2).all(|pair| pair[0].epoch <= pair[1].epoch));
        assert_eq!(record.head.seq, record.frames.len() as u64);
        stored += record.frames.len();
    }
    assert_eq!(stored, accepted);
}

/// One writer's lives; answers how many of its appends were accepted.
async fn live_and_die(handle: &Handle, ttl: std::time::Duration, seed: u64) -> usize {
    let (mut dice, mut accepted) = (seed, 0);
    let mut roll = move |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut worker = new_worker();
    let mut abandoned = Vec::new();
    for _ in 0..40 {
        let mut request = acquire_any(worker, ttl);
        request.acquire.as_mut().unwrap().limit = 2;
        let grant = handle.lease(&request).await;
        for leased in grant.leased {
            let mut seq = leased.record.head.seq;
            for _ in 0..roll(3) {
                seq += 1;
                match handle.append(append_of(&leased, seq)).await {
                    Appended::Applied { .. } => accepted += 1,
                    _ => break,
                }
            }
            if roll(3) == 0 {
                abandoned.push(leased);
            } else {
                let release = vec![(leased.record.head.id, leased.fence, until(Timestamp::ZERO))];
                let request = LeaseRequest { release, ..super::held_for(worker, ttl) };
                handle.lease(&request).await;
            }
        }
        if roll(4) == 0 {
            // Its next life proves the last one dead, and goes on writing under its old leases.
            let dead = worker;
            worker = new_worker();
            let request = LeaseRequest { dead: vec![dead], ..super::held_for(worker, ttl) };
            handle.lease(&request).await;
            for old in abandoned.drain(..) {
                let answer = handle.append(append_of(&old, old.record.head.seq + 9)).await;
                assert_eq!(answer, Appended::Stale);
            }
        }
    }
    accepted
}

/// Requests that race with releases are never slept through.
// covers: L7
pub async fn requests_racing_with_releases_are_found(f: Fixture) {
    let worker = new_worker();
    for _ in 0..20 {
        let leased = f.leased(worker, run_head()).await;
        let run = leased.record.head.id;
        let mut park = append_of(&leased, 1);
        park.release = Some(until(Timestamp::NEVER));
        let ask = Submission::Request { run, body: Payload::null() };
        let (batch, asks) = ([park], [ask]);
        let (parked, asked) =
            tokio::join!(f.main.state.append(&batch), f.again.state.submit(&asks));
        assert!(parked.is_ok() && asked.is_ok());
        let found = f.take(worker).await;
        assert_eq!(found.len(), 1, "the request was slept through");
        let mut done = append_of(&found[0], 2);
        done.consumed = 1;
        done.release = Some(until(Timestamp::NEVER));
        f.main.applied(done).await;
    }
}

/// Starts of a key whose run is removed at the same moment find the run, or what is left of it.
// covers: S1, S2
pub async fn starts_racing_with_a_removal_make_no_second_run(f: Fixture) {
    for round in 0..5 {
        let keyed = || RunHead { key: Some(format!("order:{round}")), ..run_head() };
        let worker = new_worker();
        let leased = f.leased(worker, keyed()).await;
        let run = leased.record.head.id;
        let release = Some(until(Timestamp::NEVER));
        let status = RunStatus::Succeeded;
        f.main.applied(Append { status, release, ..append_of(&leased, 1) }).await;
        let prune = Prune { succeeded: true, ..Prune::before(f.later(f.ttl).await) };
        let mut tasks = JoinSet::new();
        for n in 0..100 {
            let (handle, head) = (handle(&f, n), keyed());
            let prune = (n % 20 == 10).then(|| prune.clone());
            tasks.spawn(async move {
                if let Some(prune) = prune {
                    let pruned = handle.retention.prune(&prune).await.expect("prune answers");
                    return pruned.runs.len();
                }
                match handle.start(head).await {
                    Submitted::Known(known) => assert_eq!(known.id, run),
                    Submitted::Pruned(left) => assert_eq!(left.run, run),
                    other => panic!("expected the one run, found {other:?}"),
                }
                0
            });
        }
        // One that met a start on its way may have passed the run over.
        let mut removed: usize = tasks.join_all().await.into_iter().sum();
        let last = f.main.retention.prune(&prune).await.expect("prune answers");
        removed += last.runs.len();
        assert_eq!(removed, 1, "it is removed once");
        assert!(matches!(f.main.start(keyed()).await, Submitted::Pruned(left) if left.run == run));
        assert!(f.main.state.list(&RunFilter::default()).await.expect("list").runs.is_empty());
    }
}

/// Claimants that race for a capped queue never hold more of it together, and fill it.
// covers: R5-29, S5
pub async fn claimants_never_pass_a_cap(f: Fixture) {
    const CAP: u32 = 5;
    for _ in 0..120 {
        let mut head = run_head();
        head.queue = "publish".to_owned();
        f.main.started(head).await;
    }
    // Held together now, and the most there ever were.
    let held = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let (handle, held) = (handle(&f, n), Arc::clone(&held));
        let mut request = under(&f, 3, &[named("publish", CAP)]);
        request.ttl = f.ttl * 10;
        tasks.spawn(async move {
            let (mut driven, mut idle) = (0, 0);
            while idle < 100 {
                let leased = handle.lease(&request).await.leased;
                let count = u32::try_from(leased.len()).unwrap();
                let now = held.0.fetch_add(count, Ordering::SeqCst) + count;
                held.1.fetch_max(now, Ordering::SeqCst);
                idle = if count == 0 { idle + 1 } else { 0 };
                // Held for long enough that others come meanwhile.
                sleep(Duration::from_millis(if count == 0 { 3 } else { 30 })).await;
                for leased in leased {
                    // Out of the count before the store knows: it is never counted too late.
                    held.0.fetch_sub(1, Ordering::SeqCst);
                    let mut end = append_of(&leased, 1);
                    end.release = Some(until(Timestamp::NEVER));
                    handle.applied(end).await;
                    driven += 1;
                }
            }
            driven
        });
    }
    let driven: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(driven, 120, "nothing is left behind");
    // That a cap can be filled by one claimant is a case of its own; many may miss it by a moment.
    let most = held.1.load(Ordering::SeqCst);
    assert!((2..=CAP).contains(&most), "{most} of {CAP} at once");
}

/// What comes at the same moment as a removal finds the run whole, or what is left of it.
// covers: S1, S5, S15, S17
pub async fn what_meets_a_removal_keeps_the_run_or_learns_of_it(f: Fixture) {
    for round in 0..30 {
        let status = RunStatus::RolledBack;
        let head = RunHead { status, due: Timestamp::NEVER, ..run_head() };
        let run = f.main.started(head).await;
        let prune = Prune::before(f.later(f.ttl).await);
        let (name, body) = (format!("late-{round}"), Payload::null());
        let row = LedgerRow { index: 1, ..ledger_row(run, "vm", &name) };
        let seen = Sighting {
            run,
            path: "vm".to_owned(),
            generation: 1,
            provider: "hetzner".to_owned(),
            kind: "server".to_owned(),
            external_id: ExternalId::new("seen"),
            epoch: 1,
            at: Timestamp::ZERO,
        };
        let with = handle(&f, round);
        let (enter, sight) = (LedgerOp::Enter(Box::new(row)), LedgerOp::Sight(seen.clone()));
        let mut other = JoinSet::new();
        match round % 4 {
            0 => other.spawn(async move { with.changes(enter).await }),
            1 => other.spawn(async move { with.changes(sight).await }),
            n => other.spawn(async move {
                let asked = match n {
                    2 => Submission::Request { run, body },
                    _ => Submission::Reopen { run, body },
                };
                match with.submit(asked).await {
                    Submitted::Requested(_) => true,
                    Submitted::Pruned(left) if left.run == run => false,
                    other => panic!("expected the run or what is left, found {other:?}"),
                }
            }),
        };
        let walk = f.main.retention.prune(&prune).await.expect("prune answers");
        let changed = other.join_all().await.contains(&true);
        let is_there = f.again.state.load(&[run]).await.expect("load").remove(0).is_some();
        assert_eq!(walk.runs, if is_there { Vec::new() } else { vec![run] });
        let rows = f.again.rows(LedgerQuery::default()).await;
        assert!(rows.iter().all(|row| row.run != run || is_there), "a row is left of {run}");
        if round % 4 == 1 {
            // Whoever came first, what was seen is still known.
            match f.again.ledger(LedgerOp::Sightings(Some(run))).await {
                LedgerReply::Sightings(found) => assert_eq!(found, [seen]),
                other => panic!("expected sightings, found {other:?}"),
            }
        } else {
            assert_eq!(changed, is_there, "round {round}");
        }
    }
}
