//! Commands that die at a chosen step, and are typed again.

use std::collections::{BTreeMap, BTreeSet};

use provision_core::{engine::What, run::journal::Direction};
use tenant_projects::saga::{STAGES, STEPS};

use crate::place::{Place, keys_of};

// covers: R4-13, R4-21, S8, S9
#[tokio::test]
async fn a_crash_at_any_step_is_taken_up_and_no_stage_is_shown_twice() {
    let Some(place) = Place::new().await else { return };
    for step in STEPS {
        let fast = ["--key-hash", "argon2id"];
        let ran = place.run(&[&fast[..], &["--crash-at", step]].concat()).await;
        assert_eq!(ran.code, None, "{step}: {ran:?}");
        let ran = place.run(&fast).await;
        assert_eq!(ran.code, Some(0), "{step}: {ran:?}");
        assert_eq!(keys_of(&ran.json()).len(), 2, "{step}: both keys are shown");
        let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
        assert_eq!(place.number(valid).await, 2, "{step}: one valid key of each purpose");
        assert_eq!(place.catalog().await.len(), 3, "{step}: {:?}", place.catalog().await);
        stages_in_order(&place, &ran.json(), step).await;
        let gone = place.run(&["--tear-down"]).await;
        assert_eq!(gone.code, Some(0), "{step}: {gone:?}");
        assert!(place.catalog().await.is_empty(), "{step}: {:?}", place.catalog().await);
    }
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
