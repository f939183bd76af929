//! Commands that die at a chosen step, and are typed again.

use std::collections::{BTreeMap, BTreeSet};

use provision_core::{engine::What, run::journal::Direction};
use tenant_projects::{
    cloud::Cloud,
    saga::{STAGES, STEPS},
};

use crate::place::{Place, Ran};

// covers: R4-13, R4-21, S8, S9
#[tokio::test]
async fn a_crash_at_any_step_is_taken_up_and_no_stage_is_shown_twice() {
    let Some(place) = Place::new().await else { return };
    let mut registrations = 0;
    for step in STEPS {
        let fast = ["--key-hash", "argon2id"];
        let crashed = place.run(&[&fast[..], &["--crash-at", step]].concat()).await;
        assert_eq!(crashed.code, None, "{step}: {crashed:?}");
        let ran = place.run(&fast).await;
        assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
        stages_are_told_once(&crashed, &ran, step);
        registered_once(&place, &ran);
        registrations += 1;
        assert_eq!(sent(&place, "POST"), [registrations; 3], "{step}: calls that register");
        assert_eq!(ran.keys().len(), 2, "{step}: both keys are shown");
        let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
        assert_eq!(place.number(valid).await, 2, "{step}: one valid key of each purpose");
        assert_eq!(place.catalog().await.len(), 3, "{step}: {:?}", place.catalog().await);
        stages_in_order(&place, &ran.json(), step).await;
        let gone = place.run(&["--tear-down"]).await;
        assert_eq!(gone.code, Some(0), "{step}: {gone:?}");
        assert!(place.catalog().await.is_empty(), "{step}: {:?}", place.catalog().await);
        assert_eq!(sent(&place, "DELETE"), [registrations; 3], "{step}: calls that remove");
    }
}

/// How many calls of this method each of the services was ever sent.
fn sent(place: &Place, method: &str) -> [u64; 3] {
    ["auth", "realtime", "storage"].map(|service| {
        let kept = std::fs::read(place.path().join(format!("cloud/{service}.json"))).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        kept["state"]["sent"][method].as_u64().unwrap_or_default()
    })
}

/// What people read: no stage is told by both commands, and each tells its own one after the other.
fn stages_are_told_once(crashed: &Ran, ran: &Ran, step: &str) {
    let told = |ran: &Ran| -> Vec<usize> {
        let lines = ran.error.lines().filter_map(|line| line.strip_prefix("stage "));
        lines.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    let (before, after) = (told(crashed), told(ran));
    let stage = 1 + STAGES.iter().position(|stage| *stage == stage_of(step)).unwrap();
    let rest: Vec<usize> = (stage..=STAGES.len()).collect();
    // What the second one's worker does before it is watched is not told.
    assert!(rest.ends_with(&after), "{step}: {after:?}");
    // The last lines before a death may not have been printed.
    let begun: Vec<usize> = (1..=before.len()).collect();
    assert!(before == begun && before.len() < stage, "{step}: {before:?}");
    let all = serde_json::json!({ "done": STAGES.len(), "total": STAGES.len() });
    assert_eq!(ran.json()["stages"], all, "{step}");
}

fn stage_of(step: &str) -> &str {
    if ["auth", "realtime", "storage"].contains(&step) { "services" } else { step }
}

/// The services, asked without the run: each has one registration, with the mark of this run.
fn registered_once(place: &Place, ran: &Ran) {
    let stored = Cloud::stored(place.path()).unwrap();
    let providers: Vec<&str> = stored.iter().map(|item| item.provider.as_str()).collect();
    assert_eq!(providers, ["auth", "realtime", "storage"]);
    let run = ran.json()["run"].as_str().unwrap().to_owned();
    assert!(stored.iter().all(|item| item.labels.values().any(|label| *label == run)), "{run}");
}

/// Each step is done once, and no stage begins before the one before it is complete.
async fn stages_in_order(place: &Place, ran: &serde_json::Value, crashed: &str) {
    let host = place.host().await;
    let run = ran["run"].as_str().unwrap().parse().unwrap();
    let snapshot = host.engine.snapshot(&run).await.unwrap();
    let phase: BTreeMap<_, _> =
        snapshot.steps.iter().map(|step| (step.path.clone(), step.phase.clone())).collect();
    let stage = |path: &str| {
        let phase = phase[path].clone().unwrap();
        STAGES.iter().position(|stage| *stage == phase).unwrap()
    };
    let mut events = host.engine.watch(&run, 0);
    let (mut done, mut last, mut before) = (BTreeSet::new(), 0, 0);
    while let Some(event) = events.next().await.unwrap() {
        assert!(event.summary.done >= before, "{crashed}: progress goes back");
        before = event.summary.done;
        if !matches!(event.what, What::Done { dir: Direction::Forward }) {
            continue;
        }
        assert!(done.insert(event.path.clone()), "{crashed}: {} is done twice", event.path);
        let now = stage(&event.path);
        assert!(now == last || now == last + 1, "{crashed}: {} comes after {last}", event.path);
        last = now;
    }
    assert_eq!(last + 1, STAGES.len(), "{crashed}: all eight are shown");
    assert!(STEPS.iter().all(|step| done.contains(*step)), "{crashed}: {done:?}");
}

// covers: R4-33, S14, S15
#[tokio::test]
async fn a_tear_down_that_is_killed_twice_is_gone_on_with() {
    let Some(place) = Place::new().await else { return };
    let ran = place.run(&["--key-hash", "argon2id"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // One more step is undone before each death; the last command is left alone.
    let undone = "SELECT count(*) FROM provision.journal_view
        WHERE record::text LIKE '%undo%'";
    let mut before = place.number(undone).await;
    for _ in 0..2 {
        let mut child = place.spawn(&["--tear-down"]);
        let begun = std::time::Instant::now();
        while place.number(undone).await <= before && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < crate::place::WITHIN, "nothing is undone");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        before = place.number(undone).await;
    }
    let gone = place.run(&["--tear-down"]).await;
    assert_eq!((gone.code, &gone.json()["status"]), (Some(0), &"TornDown".into()), "{gone:?}");
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
    assert!(Cloud::stored(place.path()).unwrap().is_empty());
    let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
    assert_eq!(place.number(valid).await, 0);
}
