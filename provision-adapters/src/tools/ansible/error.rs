//! The table from how Ansible and SSH end to our errors. Texts are compared here and nowhere else.
//!
//! Exit codes are those of `ansible.errors.ExitCode` (ansible-core 2.19, read 2026-11-22): 4 is
//! used for machines that are out of reach and for playbooks that cannot be read, and neither says
//! that nothing was done: a machine that is out of reach at its first task may have begun that one.
//! `ssh` exits with 255 when it did not reach a shell, else with the code of its command.

use provision_core::{Effect, Secret, StepError, Verdict};

use super::{machine::Machine, model::Report};
use crate::tools::process::Ended;

const PLAY: &str = "run a playbook";
/// Longest name of a task that is shown.
const TASK_CHARACTERS_MAX: usize = 80;

const GENERAL: i32 = 1;
const FAILED: i32 = 2;
const UNREACHABLE_OR_UNREADABLE: i32 = 4;
const OPTIONS: i32 = 5;
const INTERRUPTED: i32 = 99;
const UNEXPECTED: i32 = 250;

/// The report of a playbook that went well on all machines.
///
/// # Errors
/// What went wrong, and what may have happened.
pub(crate) fn report(
    ended: &Ended,
    machines: &[Machine],
    secrets: &[Secret],
) -> Result<Report, StepError> {
    let report = read(ended.output());
    let Some(report) = report else { return Err(without_report(ended)) };
    let unreachable: Vec<&str> = named(&report, |stats| stats.unreachable > 0);
    let failed: Vec<&str> = named(&report, |stats| stats.failures > 0);
    if !failed.is_empty() || ended.code() == Some(FAILED) {
        let mut message = format!("on {}", listed(&failed));
        if let Some(task) = failed_task(&report, secrets) {
            message = format!("`{task}` {message}");
        }
        return Err(unknown("task_failed").with_message(message));
    }
    if !unreachable.is_empty() {
        // R2-56: connecting is repeated by the engine, with the step's policy. S9: the connection
        // may have been lost in the middle of the very first task, which no count tells.
        return Err(unknown("unreachable").with_message(listed(&unreachable)));
    }
    if !ended.is_success() {
        return Err(without_report(ended));
    }
    // Exit code 0 is also that of a playbook whose plays match no machine.
    let unmet = machines.iter().find(|machine| !report.stats.contains_key(&machine.name));
    let other = report.stats.keys().find(|name| machines.iter().all(|m| m.name != **name));
    match (unmet, other) {
        (None, None) => Ok(report),
        (Some(machine), _) => Err(permanent("machine_not_met")
            .with_effect(Effect::Unknown)
            .with_message(format!("no play was run on {}", machine.name))
            .with_hint("let the plays name `hosts: all`")),
        (None, Some(_)) => Err(permanent("other_machine")
            .with_effect(Effect::Unknown)
            .with_message("a play was run on something that is not in the inventory")
            .with_hint("let the plays name `hosts: all`, and nothing be done locally")),
    }
}

/// Reads the report: one value of JSON that begins a line. Warnings may stand before it, and
/// anything behind it.
fn read(output: &[u8]) -> Option<Report> {
    let mut rest = output;
    loop {
        if rest.first() == Some(&b'{') {
            let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Report>();
            if let Some(Ok(report)) = values.next() {
                return Some(report);
            }
        }
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        rest = rest.get(end + 1..)?;
    }
}

/// What Ansible says before it does anything when it has not got the callback that reports; the
/// second one since ansible-core 2.19.
const CALLBACK_MISSING: [&str; 2] = [
    "Invalid callback for stdout specified: ansible.posix.json",
    "Could not load 'ansible.posix.json' callback plugin.",
];

fn without_report(ended: &Ended) -> StepError {
    let complaint = ended.complaint();
    let callback_missing = || {
        ended.output().is_empty() && CALLBACK_MISSING.iter().any(|text| complaint.contains(text))
    };
    match ended.code() {
        // Nothing was begun: options are looked at before anything else.
        Some(OPTIONS) => permanent("options_refused"),
        Some(GENERAL) if callback_missing() => {
            StepError::new(Effect::None, Verdict::Operator, PLAY)
                .with_code("callback_missing")
                .with_hint(
                    "install the collection ansible.posix where every user finds it, or name its \
                     folder by ANSIBLE_COLLECTIONS_PATH with `with_environment`",
                )
        }
        Some(UNREACHABLE_OR_UNREADABLE) => {
            unknown("without_report").with_hint("run `ansible-playbook --syntax-check` on it")
        }
        Some(INTERRUPTED) => unknown("interrupted"),
        Some(UNEXPECTED) => unknown("unexpected"),
        Some(0) => unknown("unreadable").with_message("the playbook ended well without a report"),
        Some(_) => unknown("failed"),
        None => unknown("killed"),
    }
}

/// What is to be told of a playbook that could not be watched to its end. More output than is read
/// would be as much the next time.
pub(crate) fn unwatched(error: StepError) -> StepError {
    match error.code() {
        "output_too_large" => StepError::new(error.effect(), Verdict::Operator, PLAY)
            .with_code("output_too_large")
            .with_message("the playbook has more output than is read, and was killed")
            .with_hint("run it on fewer machines at a time, or let its tasks say less"),
        _ => error,
    }
}

fn unknown(code: &'static str) -> StepError {
    StepError::unknown(PLAY).with_code(code)
}

fn permanent(code: &'static str) -> StepError {
    StepError::permanent(PLAY).with_code(code)
}

fn named(report: &Report, is: impl Fn(&super::model::Stats) -> bool) -> Vec<&str> {
    report.stats.iter().filter(|(_, stats)| is(stats)).map(|(name, _)| name.as_str()).collect()
}

/// The first names, and how many more there are.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The task that ended it, as the playbook calls it: earlier failures were let pass.
fn failed_task(report: &Report, secrets: &[Secret]) -> Option<String> {
    let tasks = report.plays.iter().flat_map(|play| &play.tasks);
    let mut failed = tasks.filter(|task| task.hosts.values().any(|end| end.failed));
    let name = &failed.next_back()?.task.name;
    // X1: a name may be made of values. Which task it was is then not told.
    let shown = !name.is_empty() && !secrets.iter().any(|secret| name.contains(secret.expose()));
    let plain = name.chars().filter(|c| !c.is_control());
    shown.then(|| plain.take(TASK_CHARACTERS_MAX).collect())
}

/// What a look at a machine over SSH has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Booted,
    NotYet,
}

/// Sorts how `ssh` ended.
///
/// # Errors
/// The machine has another key than the recorded one, or the command is not one.
pub(crate) fn seen(ended: &Ended) -> Result<Seen, StepError> {
    const LOOK: &str = "look whether a machine has booted";
    let complaint = ended.complaint();
    let other_key = ["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"];
    match ended.code() {
        Some(0) => Ok(Seen::Booted),
        Some(255) if other_key.iter().any(|text| complaint.contains(text)) => {
            Err(StepError::new(Effect::None, Verdict::Operator, LOOK)
                .with_code("host_key_changed")
                .with_message("the machine has another host key than the recorded one")
                .with_hint("somebody else may answer there: find out before anything is sent"))
        }
        // R2-47: refused, out of reach, or not yet willing to let us in; or not booted.
        Some(255 | 1) => Ok(Seen::NotYet),
        _ => Err(StepError::retry(LOOK).with_code("probe_failed")),
    }
}
