//! Several processes on one file: they take turns, and see each other's commits.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use provision_core::queue::{Claim, Queue as _};
use provision_core::store::{Appended, NewRun, StateStore as _, Submission, Submitted};
use provision_store_sqlite::SqliteStore;
use provision_testkit::conformance::{Handle, append_of, new_worker, run_head};

/// Set in children; its value is the path of the file.
const CHILD: &str = "PROVISION_SQLITE_TEST_TURNS";

/// Starts this test binary again, to run one test with a variable set.
pub(crate) fn child(test: &str, variable: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

// Only does something in a child: appends as fast as it can for a while, and prints how often.
#[tokio::test]
async fn child_takes_turns() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = SqliteStore::open(&path).await.unwrap();
    let new =
        NewRun { head: run_head(), lease_to: Some((new_worker(), Duration::from_secs(60)).into()) };
    let answers = store.submit(&[Submission::Run(Box::new(new))]).await.unwrap();
    let Some(Submitted::Created(Some(leased))) = answers.into_iter().next() else { panic!() };
    // All of them begin together.
    let ready = format!("{path}.ready");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&ready).unwrap();
    std::io::Write::write_all(&mut file, b"r").unwrap();
    let begun = Instant::now();
    while std::fs::metadata(&ready).unwrap().len() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the others do not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (start, mut seq) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) {
        seq += 1;
        let answers = store.append(&[append_of(&leased, seq)]).await.unwrap();
        assert!(matches!(answers[..], [Appended::Applied { .. }]));
    }
    println!("\nappended {seq}");
}

#[test]
fn four_processes_on_one_file_progress_evenly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let children: Vec<_> =
        (0..4).map(|_| child("processes::child_takes_turns", CHILD, &path)).collect();
    let counts: Vec<u64> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("appended ")).unwrap();
            line.parse().unwrap()
        })
        .collect();
    println!("{counts:?}");
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(least * 4 >= *most, "uneven: {counts:?}");
}

// covers: L7
#[tokio::test]
async fn a_claim_sees_a_run_that_another_writer_committed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let here = SqliteStore::open(&path).await.unwrap();
    let there = Handle::of(Arc::new(SqliteStore::open(&path).await.unwrap()));
    let wait =
        Claim { limit: 1, queues: Vec::new(), except: Vec::new(), wait: Duration::from_secs(60) };
    let start = Instant::now();
    let (found, run) = tokio::join!(here.claim(&wait), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        there.started(run_head()).await
    });
    assert_eq!(found.unwrap(), [run]);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
