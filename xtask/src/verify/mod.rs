//! `cargo xtask verify`: the one command that says whether the tree may land.
//!
//! All stages run even when one fails, so that one look shows everything; the first failure's
//! output is printed whole, the others' ends, and every output stays in `target/verify/`.

mod features;
mod graph;
mod licence;
mod outsider;
mod policy;
mod totals;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use totals::Totals;

use crate::{Outcome, command, metadata::Metadata, services::Services, tidy};

/// Longest time one command may take; the long lane asks for more.
const LIMIT: Duration = Duration::from_secs(50 * 60);
const LIMIT_LONG: Duration = Duration::from_secs(4 * 60 * 60);
/// Lines shown of a failure that is not the first.
const TAIL: usize = 25;
/// Tells tests how much they may try: `quick`, `default` or `long`.
const LANE: &str = "PROVISION_TEST_LANE";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// No server, nothing slow.
    Quick,
    /// All that a landing needs.
    Default,
    /// Everything the tests can be asked for.
    Long,
}

impl Lane {
    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Default => "default",
            Self::Long => "long",
        }
    }
}

/// What the stages share.
struct Verify {
    root: PathBuf,
    metadata: Metadata,
    logs: PathBuf,
    lane: Lane,
    services: Services,
    totals: Totals,
    /// Sentences that must not be overlooked at the end.
    notices: Vec<String>,
}

/// A stage answers with its whole output when it fails.
type Stage = fn(&mut Verify) -> Outcome;

/// In the order in which they find mistakes cheapest; the lane is the first that has the stage.
const STAGES: [(&str, Lane, Stage); 9] = [
    ("format", Lane::Quick, format),
    ("tidy", Lane::Quick, tidied),
    ("clippy", Lane::Quick, clippy),
    ("dependencies", Lane::Quick, dependencies),
    ("tests", Lane::Quick, tests),
    ("doc tests", Lane::Quick, doc_tests),
    ("features", Lane::Default, features::check),
    ("docs", Lane::Default, docs),
    ("outsider", Lane::Default, outsider::check),
];

/// Runs the lane that the arguments name.
pub(crate) fn run(root: &Path, args: &[&str]) -> Outcome {
    let (lane, only) = match args {
        [] => (Lane::Default, None),
        ["--quick"] => (Lane::Quick, None),
        ["--long"] => (Lane::Long, None),
        ["--only", stage] => (Lane::Default, Some(*stage)),
        _ => return Err("verify takes --quick, --long or --only STAGE".to_owned()),
    };
    if only.is_some_and(|only| STAGES.iter().all(|(name, ..)| *name != only)) {
        return Err(format!("no such stage; there are {:?}", STAGES.map(|(name, ..)| name)));
    }
    let begun = Instant::now();
    let mut verify = Verify::new(root, lane, only.is_none_or(|only| only.contains("test")))?;
    let mut failed: Vec<&str> = Vec::new();
    for (name, first, stage) in STAGES {
        if first > lane || only.is_some_and(|only| only != name) {
            continue;
        }
        let stage_begun = Instant::now();
        println!("[{:>5} s] {name}", begun.elapsed().as_secs());
        if let Err(output) = stage(&mut verify) {
            show(&output, failed.is_empty());
            failed.push(name);
            println!("        {name}: FAILED after {} s", stage_begun.elapsed().as_secs());
        }
    }
    verify.conclude(begun.elapsed(), &failed)
}

fn show(output: &str, whole: bool) {
    let lines: Vec<&str> = output.lines().collect();
    let from = if whole { 0 } else { lines.len().saturating_sub(TAIL) };
    for line in lines.iter().skip(from) {
        println!("        {line}");
    }
}

/// Whether the providers' documents are where the adapters' tests look for them: a folder that is
/// named, `specs` in the repository, or `shared/specs` beside it.
fn specs(root: &Path) -> bool {
    let named = std::env::var_os("PROVISION_SPECS_DIR").map(std::path::PathBuf::from);
    let beside = ["specs", "../shared/specs", "../../shared/specs"].map(|place| root.join(place));
    let mut folders = named.into_iter().chain(beside);
    folders.any(|folder| folder.join("github.openapi.json").is_file())
}

impl Verify {
    fn new(root: &Path, lane: Lane, with_services: bool) -> Outcome<Self> {
        let metadata = Metadata::read(root)?;
        let logs = metadata.target.join("verify");
        fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        let wanted = lane != Lane::Quick && with_services;
        let services = if wanted { Services::find(true)? } else { Services::none() };
        for line in services.describe() {
            println!("{line}");
        }
        let mut notices = services.missing();
        if !specs(root) {
            notices.push(
                "requests and answers against the published specifications (they are not there: \
                 set PROVISION_SPECS_DIR)"
                    .to_owned(),
            );
        }
        let totals = Totals::default();
        Ok(Self { root: root.to_owned(), metadata, logs, lane, services, totals, notices })
    }

    fn cargo(&self, args: &[&str]) -> Command {
        let mut command = command::cargo(&self.root);
        command.args(args).env(LANE, self.lane.name());
        command
    }

    /// Runs one command of a stage; the failure is its whole output.
    fn expect(&self, name: &str, command: &mut Command) -> Outcome<String> {
        let done = self.finish(name, command)?;
        if done.success { Ok(done.output) } else { Err(done.output) }
    }

    fn finish(&self, name: &str, command: &mut Command) -> Outcome<command::Done> {
        let limit = if self.lane == Lane::Long { LIMIT_LONG } else { LIMIT };
        let file = name.replace([' ', '/'], "-");
        command::finish(command, &self.logs.join(file).with_extension("log"), limit)
    }

    /// Runs tests, adds their results to the totals, and looks at tests that were left out.
    fn count(&mut self, name: &str, mut command: Command) -> Outcome {
        self.services.lend(&mut command);
        let done = self.finish(name, &mut command)?;
        let found = Totals::read(&done.output);
        println!("        {name}: {found}");
        self.totals.add(&found);
        if !done.success {
            return Err(totals::without_passes(&done.output));
        }
        match found.ignored {
            0 => Ok(()),
            left_out => Err(format!("{left_out} tests are ignored; none may be")),
        }
    }

    fn conclude(&self, took: Duration, failed: &[&str]) -> Outcome {
        for notice in &self.notices {
            println!("NOT CHECKED: {notice}");
        }
        println!("{}", self.totals);
        let took = took.as_secs();
        if failed.is_empty() {
            println!("verify ({}): all stages are good, {took} s", self.lane.name());
            return Ok(());
        }
        let names = failed.join(", ");
        let logs = self.logs.display();
        Err(format!(
            "verify ({}): FAILED in {names}, {took} s; outputs in {logs}",
            self.lane.name()
        ))
    }
}

fn format(verify: &mut Verify) -> Outcome {
    verify.expect("format", &mut verify.cargo(&["fmt", "--all", "--check"])).map(drop)
}

fn tidied(verify: &mut Verify) -> Outcome {
    let report = tidy::report(&verify.root)?;
    report.print_warnings();
    report.into_outcome()
}

fn clippy(verify: &mut Verify) -> Outcome {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    verify.expect("clippy", &mut verify.cargo(&args)).map(drop)
}

fn dependencies(verify: &mut Verify) -> Outcome {
    graph::check(verify)?;
    policy::check(verify)
}

fn tests(verify: &mut Verify) -> Outcome {
    // One build for all: per-package calls would resolve other features and build again.
    let args = ["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--locked"];
    let command = verify.cargo(&args);
    verify.count("tests", command)
}

fn doc_tests(verify: &mut Verify) -> Outcome {
    let command = verify.cargo(&["test", "--workspace", "--doc", "--no-fail-fast", "--locked"]);
    verify.count("doc tests", command)
}

fn docs(verify: &mut Verify) -> Outcome {
    let mut command = verify.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    let features = features::every(&verify.metadata, &[]);
    command.args(["--features", &features]).env("RUSTDOCFLAGS", "-D warnings");
    verify.expect("docs", &mut command).map(drop)
}
