//! What the program prints, word by word, kept in `tests/golden`.
//!
//! Times, ids and folders are replaced. Steps that run beside each other are printed in whatever
//! order they go on, so the lines of a step are put together here, in the order of the saga; how
//! often something was not ready yet, or had to be waited out, is up to the machine, and left out.
//!
//! `UPDATE_EXPECT=1 cargo test -p client-onboarding --test it golden` writes the files anew; what
//! has changed in them is then read like every other change.

mod diff;
mod plain;

use std::{fmt::Write as _, path::PathBuf};

use serde_json::Value;

use crate::place::{Place, Ran};

/// Fast, and without the refusal that somebody may want to watch.
const FAST: &str = "0.004";
/// From here on the first repository is refused once, and asked for a second later.
const WATCHED: &str = "0.01";

/// What is typed one after the other, in one folder.
struct Typed {
    name: &'static str,
    speed: &'static str,
    commands: &'static [&'static [&'static str]],
}

impl Typed {
    const fn fast(name: &'static str, commands: &'static [&'static [&'static str]]) -> Self {
        Self { name, speed: FAST, commands }
    }

    /// Types it all twice, for people and for programs, and compares with the file.
    fn check(&self) {
        let (people, programs) = (Place::new(), Place::new());
        let mut printed = String::new();
        for command in self.commands {
            let told = people.typed(&with(command, &["--speed", self.speed]));
            let json = programs.typed(&with(command, &["--json", "--speed", self.speed]));
            assert_eq!(told.code, json.code, "{command:?}: {told:?}\n{json:?}");
            printed += &shown(command, &told, &json);
        }
        compare(self.name, &printed);
    }
}

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more].concat()
}

/// One command as a page shows it.
fn shown(command: &[&str], told: &Ran, json: &Ran) -> String {
    let quoted =
        |word: &&str| if word.contains(' ') { format!(" '{word}'") } else { format!(" {word}") };
    let mut page =
        format!("$ client-onboarding{}\n", command.iter().map(quoted).collect::<String>());
    // What is printed last before a death is up to the moment.
    let lines = if told.code.is_some() { usize::MAX } else { 2 };
    page.extend(plain::text(&told.stdout).lines().take(lines).map(|line| format!("{line}\n")));
    for line in plain::text(&told.stderr).lines() {
        let _ = writeln!(page, "stderr: {line}");
    }
    match told.code {
        Some(code) => drop(writeln!(page, "exit code {code}")),
        None => page += "killed by a signal\n",
    }
    match json.stdout.lines().collect::<Vec<_>>()[..] {
        [] => page += "--json prints nothing\n",
        _ if serde_json::from_str::<Value>(json.stdout.trim()).is_err() => {
            page += "--json prints the same\n";
        }
        [_] => {
            let text = plain::object(json.json());
            let _ = writeln!(page, "--json prints, on one line:\n{text}");
        }
        _ => panic!("more than one line: {json:?}"),
    }
    page.push('\n');
    page
}

fn compare(name: &str, printed: &str) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var("UPDATE_EXPECT").is_ok_and(|set| set == "1") {
        std::fs::write(&path, printed).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == printed,
        "{} says something else (- kept, + printed); UPDATE_EXPECT=1 writes it anew:\n{}",
        path.display(),
        diff::lines(&kept, printed)
    );
}

// covers: R1-21
#[test]
fn a_success() {
    Typed::fast("success", &[&["--tier", "enterprise"], &[]]).check();
}

#[test]
fn a_plan() {
    Typed::fast("plan", &[&["--plan"]]).check();
}

#[test]
fn a_plan_without_changes() {
    Typed::fast("plan-without-changes", &[&[], &["--plan"]]).check();
}

#[test]
fn a_refusal_at_the_first_step() {
    let (people, programs) = (Place::new(), Place::new());
    let command = ["--tier", "starter", "--fail-at", "supabase"];
    let told = people.typed(&with(&command, &["--speed", FAST]));
    let json = programs.typed(&with(&command, &["--json", "--speed", FAST]));
    let printed = shown(&command, &told, &json);
    // How far the repository and what needs it have come meanwhile is up to the moment.
    let others = ["repo", "vercel", " site ", "\"site\"", "env", "deployment", "webhook-key"];
    let lines = printed.lines().filter(|line| !others.iter().any(|other| line.contains(other)));
    compare("fail-early", &lines.map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn a_refusal_at_the_last_step() {
    Typed::fast("fail-late", &[&["--fail-at", "finalize"], &[]]).check();
}

#[test]
fn a_tolerated_failure() {
    Typed::fast("partly", &[&["--tier", "enterprise", "--fail-at", "domain"]]).check();
}

/// At the last step, so that what had begun beside it is over.
#[test]
fn a_crash_and_the_way_on() {
    Typed::fast("crash-and-resume", &[&["--crash-at", "finalize"], &[]]).check();
}

#[test]
fn a_tear_down() {
    Typed::fast("tear-down", &[&["--tier", "starter"], &["--tear-down"], &["--tear-down"]]).check();
}

#[test]
fn a_provider_that_asks_to_slow_down() {
    let commands: &[&[&str]] = &[&["--tier", "starter"]];
    Typed { name: "throttled", speed: WATCHED, commands }.check();
}

#[tokio::test]
async fn a_run_that_needs_a_person_and_is_driven_again() {
    let (people, programs) = (Place::new(), Place::new());
    let mut printed = String::new();
    for place in [&people, &programs] {
        assert_eq!(place.typed(&["--crash-at", "finalize", "--speed", FAST]).code, None);
        place.tamper("update provision_heads set deaths = 3").await;
    }
    for _ in 0..2 {
        let told = people.typed(&["--speed", FAST]);
        printed += &shown(&[], &told, &programs.typed(&["--json", "--speed", FAST]));
    }
    // Whether the cut attempt is told as cut before the run is parked, or after, is up to the moment.
    let lines = printed.lines().filter(|line| !line.contains("finalize"));
    let printed: String = lines.map(|line| format!("{line}\n")).collect();
    compare("park-and-redrive", &printed);
}

#[test]
fn a_fleet() {
    Typed::fast("fleet", &[&["--fleet", "2", "--client", "acme", "--tier", "starter"]]).check();
}

#[test]
fn the_inventory() {
    Typed::fast("inventory", &[&["inventory"], &[], &["inventory"]]).check();
}

#[test]
fn wrong_usage() {
    let commands: &[&[&str]] = &[
        &["--tiers"],
        &["--tier", "gold"],
        &["--plan", "--tear-down"],
        &["--tear-down"],
        &["--client", "Not An Id"],
        &["--fail-at", "nowhere"],
    ];
    Typed::fast("wrong-usage", commands).check();
}

#[test]
fn a_store_out_of_reach() {
    let stores: &[&[&str]] =
        &[&["--store", "redis://127.0.0.1:1"], &["--store", "mysql://127.0.0.1"]];
    Typed::fast("unreachable-store", stores).check();
}

#[tokio::test]
async fn a_journal_that_was_damaged() {
    let (people, programs) = (Place::new(), Place::new());
    for place in [&people, &programs] {
        assert_eq!(place.typed(&["--crash-at", "finalize", "--speed", FAST]).code, None);
        place.tamper("update provision_frames set body = '{' where seq = 3").await;
    }
    let told = people.typed(&["--speed", FAST]);
    compare("damaged", &shown(&[], &told, &programs.typed(&["--json", "--speed", FAST])));
}

#[test]
fn the_help() {
    Typed::fast("help", &[&["--help"], &["worker", "--help"]]).check();
}
