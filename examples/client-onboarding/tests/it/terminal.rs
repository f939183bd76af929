//! What people see: live in a terminal, plain lines elsewhere, at the speed that nobody has chosen.

use std::process::{Command, Stdio};

use crate::place::Place;

/// A run of the program in a terminal of its own, as `script` gives one; `None`, said aloud, where
/// that is not installed.
fn in_a_terminal(place: &Place, arguments: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_client-onboarding");
    let folder = place.path().display();
    let typed = format!("stty cols 150; exec {program} --data-dir {folder} {arguments}");
    let mut script = Command::new("script");
    script.args(["-qec", &typed, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    match script.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{text}");
            Some(text)
        }
        Err(error) => {
            provision_testkit::skips::refused_in_ci(&format!("script: {error}"));
            println!("SKIPPED: script: {error}");
            None
        }
    }
}

#[test]
fn a_terminal_shows_progress_live() {
    let place = Place::new();
    let Some(text) = in_a_terminal(&place, "--speed 0.01") else { return };
    for part in [
        "data: ",
        "database    supabase        begins",
        "code        repo            attempt 2",
        "asked to slow down by github/acme/creates",
        "is not ready yet, looks again in",
        ": Succeeded",
        // The bar: how many steps are done, of how many.
        "/12 ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // It is drawn over and over in its own line.
    assert!(text.matches("\u{1b}[2K").count() > 5, "{text:?}");
    let Some(text) = in_a_terminal(&place, "--speed 0.01 --client next") else { return };
    let bars = text.split(['\r', '\n']).filter(|line| line.contains("/12 "));
    let told = bars.filter(|line| line.contains(", about ") && line.contains(" s to go")).count();
    assert!(told > 0, "the bar tells how long it still takes: {text:?}");
}

#[test]
fn at_the_usual_speed_a_run_takes_seconds_and_shows_its_waits() {
    let place = Place::new();
    let output = place.command(&["--json"]).output().unwrap();
    let ran = crate::place::Ran::from(output);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // Long enough to be watched; the upper bound is for a machine that is busy with other tests.
    let took = ran.json()["elapsed_ms"].as_u64().unwrap();
    assert!((1_000..45_000).contains(&took), "{took} ms");
    let lines = |part: &str| ran.stderr.lines().filter(|line| line.contains(part)).count();
    assert!(lines("is not ready yet, looks again in") >= 3, "{}", ran.stderr);
    assert_eq!(lines("throttled HTTP 429"), 1, "{}", ran.stderr);
    assert_eq!(lines("asked to slow down by github"), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains(['\u{1b}', '\r']), "plain lines: {}", ran.stderr);
}
