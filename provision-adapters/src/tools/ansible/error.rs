//! The table from how Ansible and SSH end to our errors. Texts are compared here and nowhere else.
//!
//! Exit codes are those of `ansible.errors.ExitCode` (ansible-core 2.19, read 2026-11-22): 4 is
//! used for machines that are out of reach and for playbooks that cannot be read, so the report
//! decides. `ssh` exits with 255 when it did not reach a shell, else with the code of its command.

use provision_core::{Effect, Secret, StepError, Verdict};

use super::{machine::Machine, model::Report};
use crate::tools::process::Ended;

const PLAY: &str = "run a playbook";
/// Longest name of a task that is shown.
const TASK_CHARACTERS_MAX: usize = 80;

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
        let touched = report.stats.values().any(|stats| stats.ok > 0 || stats.changed > 0);
        let effect = if touched { Effect::Unknown } else { Effect::None };
        // R2-56: connecting is repeated by the engine, with the step's policy.
        return Err(unknown("unreachable").with_effect(effect).with_message(listed(&unreachable)));
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

/// The report stands at the end of the output; warnings may stand before it.
fn read(output: &[u8]) -> Option<Report> {
    let begin = output.iter().position(|byte| *byte == b'{')?;
    serde_json::from_slice(output.get(begin..)?).ok()
}

fn without_report(ended: &Ended) -> StepError {
    let complaint = ended.complaint();
    match ended.code() {
        // Nothing was begun: a playbook is read and its options are looked at before that.
        Some(UNREACHABLE_OR_UNREADABLE) => permanent("playbook_unreadable")
            .with_hint("run `ansible-playbook --syntax-check` on it"),
        Some(OPTIONS) => permanent("options_refused"),
        Some(_) if complaint.contains("ansible.posix.json") => {
            StepError::new(Effect::None, Verdict::Operator, PLAY)
                .with_code("callback_missing")
                .with_hint(
                    "install the collection: ansible-galaxy collection install ansible.posix",
                )
        }
        Some(INTERRUPTED) => unknown("interrupted"),
        Some(UNEXPECTED) => unknown("unexpected"),
        Some(0) => unknown("unreadable").with_message("the playbook ended well without a report"),
        Some(_) => unknown("failed"),
        None => unknown("killed"),
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
