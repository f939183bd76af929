//! A process killed while it writes loses nothing that was acknowledged.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    time::Duration,
};

use provision_core::store::{Appended, NewRun, RunFilter, StateStore as _, Submission, Submitted};
use provision_testkit::conformance::{acquire_any, append_of, new_worker, run_head};
use tokio::task::JoinSet;

use crate::{
    given::{namespace, open, url},
    processes::child,
};

/// Set in children; its value is the namespace.
const CHILD: &str = "PROVISION_REDIS_TEST_CRASH";

// Only does something in a child: writes until it is killed, and prints what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Ok(namespace) = std::env::var(CHILD) else { return };
    let store = open(url().unwrap(), &namespace).await;
    let worker = new_worker();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let new = NewRun {
                head: run_head(),
                lease_to: Some((worker, Duration::from_secs(600)).into()),
            };
            let answers = store.submit(&[Submission::Run(Box::new(new))]).await.unwrap();
            let Some(Submitted::Created(Some(leased))) = answers.into_iter().next() else {
                panic!("not created");
            };
            for seq in 1..1_000_000 {
                let answers = store.append(&[append_of(&leased, seq)]).await.unwrap();
                assert!(matches!(answers[..], [Appended::Applied { .. }]));
                // One write, so that a kill cuts a line at its end only.
                let line = format!("ack {} {seq}\n", leased.record.head.id);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

// covers: S1, S19
#[test]
fn kill_during_writes_loses_nothing_acknowledged() {
    let Some(url) = url() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..3 {
        let namespace = namespace();
        let mut writer = child("crash::child_writes_until_it_is_killed", CHILD, &namespace);
        let mut acknowledged = BTreeMap::new();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            seen += note(&line, &mut acknowledged);
            if seen == 200 + round * 150 {
                writer.kill().unwrap();
            }
        }
        writer.wait().unwrap();
        assert!(seen >= 200, "only {seen} appends were acknowledged");
        runtime.block_on(async {
            let store = open(url, &namespace).await;
            let runs = store.list(&RunFilter::default()).await.unwrap().runs;
            assert_eq!(runs.len(), 8);
            for run in &runs {
                let record = store.load(&[run.id]).await.unwrap().remove(0).unwrap();
                let least = acknowledged.get(&run.id.to_string()).copied().unwrap_or(0);
                assert!(record.head.seq >= least, "{} of {least}", record.head.seq);
                assert_eq!(record.frames.len() as u64, record.head.seq, "no half append");
            }
            let grant = store.lease(&acquire_any(new_worker(), Duration::from_secs(15))).await;
            assert!(grant.unwrap().alive);
        });
    }
}

/// Notes one acknowledged append; 1 if the line tells of one.
fn note(line: &str, acknowledged: &mut BTreeMap<String, u64>) -> usize {
    let mut words = line.split(' ').skip_while(|word| !word.ends_with("ack")).skip(1);
    let (Some(run), Some(seq)) = (words.next(), words.next()) else { return 0 };
    let Ok(seq) = seq.parse::<u64>() else { return 0 };
    let known = acknowledged.entry(run.to_owned()).or_default();
    *known = seq.max(*known);
    1
}
