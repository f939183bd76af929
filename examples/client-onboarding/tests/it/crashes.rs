//! Whatever step fails, and whenever the process dies: nothing is left over, nothing is there
//! twice.

use std::time::Duration;

use client_onboarding::saga::{OPTIONAL, PURE, STEPS};
use provision_core::run::journal::{Direction, Record};

use crate::place::Place;

/// What an undisturbed run leaves.
fn undisturbed() -> Vec<String> {
    let place = Place::new();
    let ran = place.run(&["--tier", "enterprise"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.things()
}

// covers: R1-05, R1-40, R1-43, R1-53
#[test]
fn a_step_that_fails_for_good_leaves_nothing() {
    for step in required() {
        let place = Place::new();
        let ran = place.run(&["--tier", "enterprise", "--fail-at", step]);
        assert_eq!(ran.code, Some(1), "{step}: {ran:?}");
        let report = ran.json();
        assert_eq!(report["status"], "RolledBack", "{step}");
        assert!(place.inventory().is_empty(), "{step}: {:?}", place.inventory());
        let resources = report["resources"].as_array().unwrap();
        assert!(resources.iter().all(|row| row["state"] == "gone"), "{step}: {resources:?}");
        let because = format!("because {step}: ");
        assert!(ran.stderr.contains(&because), "{step}: {ran:?}");
        // A step with calls failed because its provider said so.
        let said = ran.stderr.contains("403");
        assert_eq!(said, step != "finalize", "{step}: {ran:?}");
        let again = place.run(&["--tier", "enterprise"]);
        assert_eq!(again.code, Some(0), "{step}: a new run begins: {again:?}");
        assert_ne!(again.json()["run"], report["run"]);
    }
}

/// The steps without which nothing is left.
pub(crate) fn required() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().filter(|step| !OPTIONAL.contains(step))
}

// covers: S13
#[test]
fn an_optional_step_that_fails_for_good_takes_nothing_else_with_it() {
    let whole = undisturbed();
    for step in OPTIONAL {
        let place = Place::new();
        let ran = place.run(&["--tier", "enterprise", "--fail-at", step]);
        assert_eq!((ran.code, &ran.json()["status"]), (Some(4), &"PartlySucceeded".into()));
        assert!(ran.stderr.contains(&format!("without {step}: ")), "{ran:?}");
        let without: Vec<_> =
            whole.iter().filter(|thing| !thing.contains(&format!(" {step} "))).cloned().collect();
        assert_eq!(without.len() + 1, whole.len(), "{step}: {whole:?}");
        assert_eq!(place.things(), without, "{step}: what it had made is undone");
        place.is_as_told(&[ran.json()]);
        let again = place.run(&[]);
        assert_eq!((again.code, &again.json()["run"]), (Some(4), &ran.json()["run"]), "{again:?}");
        let gone = place.run(&["--tear-down"]);
        assert_eq!(gone.code, Some(0), "{gone:?}");
        assert!(place.inventory().is_empty(), "{step}: {:?}", place.inventory());
    }
}

/// What a step has made, as its provider and kind; nothing for one that makes nothing.
fn made_by(step: &str) -> Option<&'static str> {
    Some(match step {
        "supabase" => "supabase project ",
        "repo" => "github repo ",
        "repo-secrets" => "github repo_secrets ",
        "repo-variables" => "github repo_variables ",
        "site" => "vercel project ",
        "env" => "vercel env ",
        "deployment" => "vercel deployment ",
        "domain" => "vercel domain ",
        "webhook-key" => "n8n credential ",
        "workflow" => "n8n workflow ",
        "activation" => "n8n activation ",
        _ => return None,
    })
}

/// Asserts that a process died where `--crash-at` says: the effect is there, or the step without one
/// has just begun, and its end is on no record.
async fn died_at(place: &Place, step: &str) {
    let journal = place.journal().await;
    let begun = |record: &Record| matches!(record, Record::Started { path, dir: Direction::Forward, .. } if **path == *step);
    let done =
        |record: &Record| matches!(record, Record::Succeeded { path, .. } if **path == *step);
    assert!(journal.iter().any(begun), "{step} has not begun: {journal:?}");
    assert!(!journal.iter().any(done), "{step}: its end was recorded");
    let things = place.things();
    match made_by(step) {
        Some(thing) => {
            let made = things.iter().filter(|made| made.starts_with(thing)).count();
            assert_eq!(made, 1, "{step}: {things:?}");
        }
        None => {
            assert!(PURE.contains(&step), "{step}");
            assert!(journal.last().is_some_and(begun), "{step}: something came after its begin");
        }
    }
}

// covers: R1-03, R1-25, R1-32, R1-45, R1-78, R1-80, R3-34
#[tokio::test]
async fn a_crash_after_any_effect_is_made_up_for_by_typing_again() {
    let expected = undisturbed();
    for step in STEPS {
        let place = Place::new();
        let died = place.run(&["--tier", "enterprise", "--crash-at", step]);
        assert_eq!(died.code, None, "{step}: killed by a signal: {died:?}");
        died_at(&place, step).await;
        assert_eq!(place.ended_and_written().await, (false, false), "{step}");
        let again = place.run(&["--tier", "enterprise"]);
        assert_eq!(again.code, Some(0), "{step}: {again:?}");
        assert_eq!(place.things(), expected, "{step}");
        assert_eq!(place.ended_and_written().await, (true, true), "{step}");
    }
}

#[test]
fn a_skipped_step_can_neither_fail_nor_crash() {
    let place = Place::new();
    let ran = place.run(&["--tier", "starter", "--crash-at", "workflow"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let place = Place::new();
    let ran = place.run(&["--tier", "starter", "--fail-at", "workflow"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Kills the process itself, from outside, after so many milliseconds.
fn killed_after(place: &Place, arguments: &[&str], ms: u64) {
    let mut child = place.spawn(arguments);
    std::thread::sleep(Duration::from_millis(ms));
    child.kill().unwrap();
    child.wait().unwrap();
}

// covers: R1-03, R1-53, R1-80
#[tokio::test]
async fn a_kill_at_any_moment_is_made_up_for_by_typing_again() {
    let expected = undisturbed();
    for ms in [0, 15, 40, 70, 110, 160, 220, 290, 370] {
        let place = Place::new();
        killed_after(&place, &["--tier", "enterprise"], ms);
        // Killed again while it recovers.
        killed_after(&place, &["--tier", "enterprise"], 370 - ms);
        let (ended, written) = place.ended_and_written().await;
        assert_eq!(ended, written, "{ms} ms: the row is there if and only if the end is");
        let again = place.run(&["--tier", "enterprise"]);
        assert_eq!(again.code, Some(0), "{ms} ms: {again:?}");
        assert_eq!(place.things(), expected, "{ms} ms");
    }
}

#[test]
fn a_tear_down_that_is_killed_goes_on_when_it_is_typed_again() {
    for ms in [30, 80, 140] {
        let place = Place::new();
        assert_eq!(place.run(&["--tier", "enterprise"]).code, Some(0));
        killed_after(&place, &["--tear-down"], ms);
        let again = place.run(&["--tear-down"]);
        assert_eq!((again.code, &again.json()["status"]), (Some(0), &"TornDown".into()), "{ms} ms");
        assert!(place.inventory().is_empty(), "{ms} ms: {:?}", place.inventory());
    }
}

#[test]
fn a_killed_run_can_be_undone_instead() {
    let place = Place::new();
    let died = place.run(&["--tier", "enterprise", "--crash-at", "env"]);
    assert_eq!(died.code, None);
    let undone = place.run(&["--tear-down"]);
    assert_eq!((undone.code, &undone.json()["status"]), (Some(5), &"RolledBack".into()));
    assert!(place.inventory().is_empty());
}

// covers: R1-53
#[test]
fn a_step_that_fails_in_a_whole_fleet_leaves_nothing() {
    for step in ["supabase", "repo", "env", "webhook-key"] {
        let place = Place::new();
        let ran = place.run(&["--fleet", "4", "--fail-at", step]);
        assert_eq!(ran.code, Some(1), "{step}: {ran:?}");
        let report = ran.json();
        let runs = report["runs"].as_array().unwrap();
        assert!(runs.iter().all(|run| run["status"] == "RolledBack"), "{step}: {runs:?}");
        assert!(place.inventory().is_empty(), "{step}: {:?}", place.inventory());
        let said = ran.stderr.matches("403").count();
        assert!(said >= 4, "{step}: each was refused by the provider: {ran:?}");
    }
}
