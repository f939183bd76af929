//! A process killed while it removes runs leaves each of them whole, or removed with its tombstone.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    time::Duration,
};

use provision_core::{
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, ResourceState},
    retention::{Prune, RetentionStore as _, TombstoneQuery},
    run::RunStatus,
    secret::{Sealed, SecretKey, SecretStore as _},
    store::{Append, NewRun, Release, RunHead, StateStore as _, Submission, Submitted},
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{append_of, ledger_row, new_worker, run_head};

use crate::processes::child;

/// Set in children; its value is the path of the file.
const CHILD: &str = "PROVISION_SQLITE_TEST_PRUNE";
const RUNS: usize = 400;

async fn walk(store: &SqliteStore) -> Prune {
    let now = store.now().await.unwrap();
    Prune { limit: 3, ..Prune::before(now.plus(Duration::from_secs(1))) }
}

// Only does something in a child: removes runs until it is killed, and prints which.
#[tokio::test]
async fn child_removes_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = SqliteStore::open(path).await.unwrap();
    let mut prune = walk(&store).await;
    loop {
        let pruned = store.prune(&prune).await.unwrap();
        for run in &pruned.runs {
            // One write, so that a kill cuts a line at its end only.
            std::io::stdout().write_all(format!("\nremoved {run}\n").as_bytes()).unwrap();
        }
        prune.after = pruned.next;
        if prune.after.is_none() {
            return;
        }
    }
}

fn secret(run: RunId) -> SecretKey {
    SecretKey {
        scope: run.to_string(),
        generation: 1,
        name: "password".to_owned(),
        path: "vm".to_owned(),
    }
}

fn keyed(n: usize) -> RunHead {
    RunHead { key: Some(format!("order:{n}")), ..run_head() }
}

/// Runs that are over, each with a journal, a row of the ledger and a sealed value.
async fn ended(store: &SqliteStore) -> Vec<RunId> {
    let worker = new_worker();
    let starts = (0..RUNS).map(|n| {
        let lease_to = Some((worker, Duration::from_secs(600)).into());
        Submission::Run(Box::new(NewRun { head: keyed(n), lease_to }))
    });
    let answers = store.submit(&starts.collect::<Vec<_>>()).await.unwrap();
    let (mut steps, mut ends, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for answer in answers {
        let Submitted::Created(Some(leased)) = answer else { panic!("found {answer:?}") };
        let run = leased.record.head.id;
        let row = ledger_row(run, "vm", &format!("web-{run}"));
        let sealed = Sealed { format: 1, key_id: "k1".to_owned(), bytes: vec![7] };
        steps.push(Append {
            ledger: vec![LedgerRow { state: ResourceState::Gone, ..row }],
            sealed: vec![(secret(run), sealed)],
            ..append_of(&leased, 1)
        });
        let release = Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 };
        ends.push(Append {
            status: RunStatus::TornDown,
            open: false,
            release: Some(release),
            ..append_of(&leased, 2)
        });
        runs.push(run);
    }
    store.append(&steps).await.unwrap();
    store.append(&ends).await.unwrap();
    runs
}

/// What is there of a run: its frames, its rows of the ledger, and whether its value is.
async fn pieces(store: &SqliteStore, run: RunId) -> (Option<usize>, usize, bool) {
    let record = store.load(&[run]).await.unwrap().remove(0);
    let query = LedgerQuery { run: Some(run), ..LedgerQuery::default() };
    let rows = match store.ledger(&[LedgerOp::Query(query)]).await.unwrap().remove(0) {
        LedgerReply::Rows(rows) => rows.len(),
        other => panic!("expected rows, found {other:?}"),
    };
    let sealed = store.get(&secret(run)).await.unwrap().is_some();
    (record.map(|record| record.frames.len()), rows, sealed)
}

/// How many of the runs are removed; every one of them is that, or whole.
async fn removed(store: &SqliteStore, runs: &[RunId]) -> BTreeSet<RunId> {
    let left = store.tombstones(&TombstoneQuery::Runs(runs.to_vec())).await.unwrap();
    let left: BTreeSet<RunId> = left.into_iter().map(|tombstone| tombstone.run).collect();
    for (n, run) in runs.iter().enumerate() {
        let there = pieces(store, *run).await;
        let start = NewRun { head: keyed(n), lease_to: None };
        let again = store.submit(&[Submission::Run(Box::new(start))]).await.unwrap().remove(0);
        if left.contains(run) {
            assert_eq!(there, (None, 0, false), "half of {run} is left");
            assert!(matches!(again, Submitted::Pruned(found) if found.run == *run));
        } else {
            assert_eq!(there, (Some(2), 1, true), "half of {run} is gone");
            assert!(matches!(again, Submitted::Known(found) if found.id == *run));
        }
    }
    left
}

/// Runs a child that removes runs, and kills it when it has told of `enough`; what it had told of.
fn told_before_the_kill(path: &Path, enough: usize) -> BTreeSet<RunId> {
    let mut remover = child("retention::child_removes_until_it_is_killed", CHILD, path);
    let lines = BufReader::new(remover.stdout.take().unwrap()).lines();
    let mut told = BTreeSet::new();
    for line in lines.map_while(Result::ok) {
        if let Some(run) = line.strip_prefix("removed ") {
            told.insert(run.parse::<RunId>().unwrap());
            if told.len() == enough {
                remover.kill().unwrap();
            }
        }
    }
    let status = remover.wait().unwrap();
    assert!(!status.success(), "a child that was killed cannot succeed");
    told
}

// covers: S1, S19
#[test]
fn kill_during_a_removal_leaves_every_run_whole_or_removed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.db");
        let runs =
            runtime.block_on(async { ended(&SqliteStore::open(&path).await.unwrap()).await });
        let told = told_before_the_kill(&path, 20 + round * 35);
        runtime.block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            let gone = removed(&store, &runs).await;
            assert!(told.is_subset(&gone), "what was told is not removed");
            assert!(gone.len() < RUNS, "the kill came too late");
            let orphans = "SELECT count(*) FROM provision_frames WHERE run NOT IN \
                           (SELECT run FROM provision_heads)";
            let count = |conn: &rusqlite::Connection| conn.query_row(orphans, (), |row| row.get(0));
            let left: i64 = store.query_host(count).await.unwrap();
            assert_eq!(left, 0);
            // Another process removes the rest.
            let mut prune = walk(&store).await;
            loop {
                prune.after = store.prune(&prune).await.unwrap().next;
                if prune.after.is_none() {
                    break;
                }
            }
            assert_eq!(removed(&store, &runs).await.len(), RUNS);
        });
    }
}
