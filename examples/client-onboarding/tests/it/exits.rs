//! How the program ends: its exit codes, each reached by running it, and what it says then.

use client_onboarding::cloud::Addresses;
use serde_json::Value;

use crate::place::{Place, Ran};

/// One way for the program to end.
struct Ending {
    code: i32,
    /// The word of its error, where it has one.
    word: Option<&'static str>,
    /// The run's status, where it speaks of a run.
    status: Option<&'static str>,
    ran: Ran,
}

impl Ending {
    fn run(code: i32, word: Option<&'static str>, status: &'static str, ran: Ran) -> Self {
        Self { code, word, status: Some(status), ran }
    }

    fn refusal(code: i32, word: &'static str, ran: Ran) -> Self {
        Self { code, word: Some(word), status: None, ran }
    }

    fn check(&self) {
        let Self { code, word, status, ran } = self;
        assert_eq!(ran.code, Some(*code), "{ran:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "one object and nothing else: {ran:?}");
        let told = ran.json();
        assert_eq!(told.get("status").and_then(Value::as_str), *status, "{ran:?}");
        let error = &told["error"];
        assert_eq!(error.get("code").and_then(Value::as_str), *word, "{ran:?}");
        if word.is_none() {
            return;
        }
        let keys: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["code", "hint", "message"], "{ran:?}");
        assert!(keys.iter().all(|key| !error[key].as_str().unwrap().is_empty()), "{ran:?}");
        match status {
            Some(_) => {
                let message = error["message"].as_str().unwrap();
                assert!(ran.stderr.contains(message), "people read the same: {ran:?}");
            }
            None => {
                assert_eq!(told.as_object().unwrap().len(), 1, "{ran:?}");
                ran.refused(*code, word.unwrap());
            }
        }
    }
}

/// Every exit code of the README that speaks of runs which come to an end by themselves.
fn runs_that_end() -> Vec<Ending> {
    let (whole, undone, partly) = (Place::new(), Place::new(), Place::new());
    let cancelled = Place::new();
    assert_eq!(cancelled.run(&["--crash-at", "env"]).code, None, "killed by a signal");
    vec![
        Ending { code: 2, word: None, status: None, ran: whole.run(&["--plan"]) },
        Ending::run(0, None, "Succeeded", whole.run(&[])),
        Ending { code: 0, word: None, status: None, ran: whole.run(&["--plan"]) },
        Ending::run(0, None, "TornDown", whole.run(&["--tear-down"])),
        Ending::run(
            1,
            Some("probe_failed"),
            "RolledBack",
            undone.run(&["--fail-at", "deployment"]),
        ),
        Ending::run(
            4,
            Some("forbidden"),
            "PartlySucceeded",
            partly.run(&["--tier", "enterprise", "--fail-at", "domain"]),
        ),
        Ending::run(5, None, "RolledBack", cancelled.run(&["--tear-down"])),
    ]
}

// covers: R5-75, R5-76
#[tokio::test]
async fn every_exit_code_is_reached_and_told_as_one_object() {
    let mut endings = runs_that_end();
    let place = Place::new();
    assert_eq!(place.run(&["--crash-at", "env"]).code, None, "killed by a signal");
    // A run that killed three workers waits for a person.
    place.tamper("update provision_heads set deaths = 3").await;
    endings.push(Ending::run(3, Some("crash_loop"), "Parked", place.run(&[])));
    endings.push(Ending::refusal(64, "usage", place.run(&["--wat"])));
    endings.push(Ending::refusal(64, "unknown_tier", place.run(&["--tier", "gold"])));
    for arguments in [&["inventory", "--wat"][..], &["cloud", "--speed", "x"], &["submit", "--x"]] {
        endings.push(Ending::refusal(64, "usage", place.run(arguments)));
    }
    let nowhere = place.run(&["--store", "redis://127.0.0.1:1"]);
    endings.push(Ending::refusal(69, "redis_unreachable", nowhere));
    // What the library has stored for us is not what we know as a client any more.
    place.tamper("update provision_runs set input = '{}'").await;
    for arguments in [&[][..], &["--plan"], &["--tear-down"]] {
        endings.push(Ending::refusal(70, "input", place.run(arguments)));
    }
    endings.iter().for_each(Ending::check);
    let reached: std::collections::BTreeSet<_> = endings.iter().map(|ended| ended.code).collect();
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let documented = rows.filter_map(|cell| cell.parse::<i32>().ok()).collect();
    assert_eq!(reached, documented, "the README lists what is reached here");
}

/// The cloud is one that another process serves, and its providers do not answer.
#[test]
fn a_provider_out_of_reach_is_told_with_its_exit_code() {
    let place = Place::new();
    let cloud = place.path().join("cloud");
    std::fs::create_dir_all(&cloud).unwrap();
    let serving = std::fs::File::create(cloud.join("in-use")).unwrap();
    serving.lock().unwrap();
    let nowhere = serde_json::to_vec(&Addresses::nowhere(0.0)).unwrap();
    std::fs::write(cloud.join("addresses.json"), nowhere).unwrap();
    let ran = place.run(&["--plan"]);
    Ending::refusal(69, "connect", ran).check();
    drop(serving);
    assert_eq!(place.run(&["--plan"]).code, Some(2), "once it answers, the look succeeds");
}

#[test]
fn a_reader_that_is_gone_changes_no_exit_code() {
    let place = Place::new();
    for (arguments, code) in [
        (&["--wat"][..], 64),
        (&["--store", "redis://127.0.0.1:1"], 69),
        (&["--fail-at", "env"], 1),
        (&["--tier", "starter"], 0),
        (&["inventory"], 0),
        (&["--help"], 0),
    ] {
        for json in [&["--json"][..], &[]] {
            let ran = place.run_unheard(&[arguments, json].concat());
            assert_eq!(ran, Some(code), "{arguments:?} {json:?}");
        }
    }
}
