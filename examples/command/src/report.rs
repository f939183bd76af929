//! What stands at the end: for programs as one JSON object, for people as a table.

use std::{
    io::{self, Write},
    time::Duration,
};

use provision_core::{
    CostPer, Engine, Failure, LedgerQuery, LedgerRow, ResourceState, RunId, RunStatus, Timestamp,
    engine::{Snapshot, StepStatus, StepView},
};
use serde::Serialize;

use crate::{
    Wording,
    exit::{Exit, Trouble},
    progress::Screen,
};

/// A row of the host's own that a run has written; shown beside what providers hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRow {
    /// What it is a row about, such as `client`.
    pub kind: &'static str,
    /// Its key.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where to look, such as an address.
    pub place: String,
    /// Whether it counts at present.
    pub is_alive: bool,
}

impl OwnRow {
    fn line(&self) -> ResourceLine {
        ResourceLine {
            provider: "internal".to_owned(),
            kind: self.kind.to_owned(),
            id: Some(self.id.clone()),
            name: Some(self.name.clone()),
            origin: "created",
            state: if self.is_alive { "alive" } else { "gone" },
        }
    }
}

/// What a report is about beside its run.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// How long the command has worked.
    pub elapsed: Duration,
    /// The host's own rows of the run.
    pub own: Vec<OwnRow>,
    /// Words of the program.
    pub wording: Wording,
    /// Whether the phases of the saga are told as stages.
    pub stages: bool,
}

/// How many phases of a saga are complete, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageCount {
    done: usize,
    total: usize,
}

/// One step in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepLine {
    path: String,
    status: &'static str,
    attempts: u32,
}

/// One resource in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceLine {
    provider: String,
    kind: String,
    id: Option<String>,
    name: Option<String>,
    origin: &'static str,
    state: &'static str,
}

/// Why a run failed, needs a person, or does without a step; the same words as any error's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorLine {
    code: String,
    message: String,
    hint: String,
}

/// How one run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    run: String,
    status: &'static str,
    steps: Vec<StepLine>,
    resources: Vec<ResourceLine>,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<StageCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine>,
    #[serde(skip)]
    exit: Option<Exit>,
    #[serde(skip)]
    table: Vec<String>,
}

impl RunReport {
    /// Reads how a run stands.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read(engine: &Engine, run: RunId, beside: &Beside) -> Result<Self, Trouble> {
        let snapshot = engine.snapshot(&run).await?;
        let query = LedgerQuery { run: Some(run), ..LedgerQuery::default() };
        let rows = engine.ledger(&query).await?;
        let own = beside.own.iter().map(OwnRow::line);
        let resources = rows.iter().map(line).chain(own).collect();
        let status = snapshot.head.status;
        let failed = snapshot.head.summary.failure.is_some();
        Ok(Self {
            run: run.to_string(),
            status: status.as_str(),
            steps: snapshot.steps.iter().map(step).collect(),
            resources,
            elapsed_ms: millis(beside.elapsed),
            stages: beside.stages.then(|| stages(&snapshot)),
            error: failure_of(&snapshot).map(|failure| error_line(failure, next(status, beside))),
            exit: Some(Exit::of(status, failed)),
            table: table(&snapshot, &rows, beside),
        })
    }

    /// The exit code that its status means.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit.unwrap_or(Exit::Bug)
    }

    /// Shows people what exists, where, since when and at what cost.
    pub fn show(&self, screen: &Screen) {
        self.table.iter().for_each(|line| screen.line(line));
    }
}

/// How the runs of a fleet stand.
#[derive(Debug, Serialize)]
pub struct FleetReport {
    runs: Vec<RunReport>,
    elapsed_ms: u64,
}

impl FleetReport {
    /// Puts reports together.
    #[must_use]
    pub fn new(runs: Vec<RunReport>, elapsed: Duration) -> Self {
        Self { runs, elapsed_ms: millis(elapsed) }
    }
}

/// Shows what came of the runs of a command that was about `wanted` subjects; the exit code of the
/// worst. With `json` one object: a run's, or with `fleet` those of all.
///
/// # Errors
/// They cannot be written as JSON.
pub fn tell(
    screen: &Screen,
    fleet: FleetReport,
    wanted: usize,
    as_fleet: bool,
    json: bool,
) -> Result<Exit, Trouble> {
    let FleetReport { runs, elapsed_ms } = fleet;
    runs.iter().for_each(|report| report.show(screen));
    let begun = if runs.len() < wanted { Exit::Cancelled } else { Exit::Done };
    let exit = runs.iter().map(RunReport::exit).fold(begun, Exit::or_worse);
    match runs.as_slice() {
        _ if !json => {}
        [.., report] if !as_fleet => print_json(report)?,
        _ => print_json(&FleetReport { runs, elapsed_ms })?,
    }
    Ok(exit)
}

/// Prints one JSON object as the last line of stdout.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Trouble> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|error| Trouble::bug("json", error.to_string()))?;
    // A reader that has gone away is no reason to fail.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn step(view: &StepView) -> StepLine {
    let status = match view.status {
        StepStatus::Succeeded => "succeeded",
        StepStatus::Failed => "failed",
        StepStatus::Unknown => "unknown",
        StepStatus::Skipped => "skipped",
        StepStatus::Compensated => "compensated",
        StepStatus::Parked => "parked",
        // What is neither over nor stuck waits: for its turn, its time, or the next command.
        _ => "waiting",
    };
    StepLine { path: view.path.clone(), status, attempts: view.attempts }
}

fn stages(snapshot: &Snapshot) -> StageCount {
    let mut phases: Vec<(&str, bool)> = Vec::new();
    for step in &snapshot.steps {
        let Some(phase) = step.phase.as_deref() else { continue };
        let done = matches!(step.status, StepStatus::Succeeded | StepStatus::Skipped);
        match phases.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, all)) => *all &= done,
            None => phases.push((phase, done)),
        }
    }
    let done = phases.iter().filter(|(_, done)| *done).count();
    StageCount { done, total: phases.len() }
}

fn line(row: &LedgerRow) -> ResourceLine {
    ResourceLine {
        provider: row.provider.clone(),
        kind: row.kind.clone(),
        id: row.external_id.as_ref().map(ToString::to_string),
        name: row.name.clone(),
        origin: row.origin.as_str(),
        state: row.state.as_str(),
    }
}

/// Why the run failed or parked; of one that succeeded, what it tolerated.
fn failure_of(snapshot: &Snapshot) -> Option<&Failure> {
    let tolerated = || {
        let partly = snapshot.head.status == RunStatus::PartlySucceeded;
        let lost =
            |step: &&StepView| matches!(step.status, StepStatus::Failed | StepStatus::Compensated);
        let lost = snapshot.steps.iter().filter(lost).find_map(|step| step.failure.as_ref());
        lost.filter(|_| partly)
    };
    snapshot.head.summary.failure.as_ref().or_else(tolerated)
}

fn error_line(failure: &Failure, next: &str) -> ErrorLine {
    let hint = failure.hint.as_deref().unwrap_or(next);
    ErrorLine {
        code: failure.code.clone(),
        message: failure.to_string(),
        hint: hint.trim_start_matches("next: ").to_owned(),
    }
}

fn table(snapshot: &Snapshot, rows: &[LedgerRow], beside: &Beside) -> Vec<String> {
    let head = &snapshot.head;
    let mut lines = vec![String::new(), format!("run {}: {}", head.id, head.status.as_str())];
    if let Some(failure) = failure_of(snapshot) {
        let word = if head.status == RunStatus::PartlySucceeded { "without" } else { "because" };
        lines.push(format!("{word} {failure}"));
        lines.extend(failure.hint.as_ref().map(|hint| format!("hint: {hint}")));
    }
    let there: Vec<_> = rows.iter().filter(|row| row.state != ResourceState::Gone).collect();
    let own: Vec<_> = beside.own.iter().filter(|row| row.is_alive).collect();
    if there.is_empty() && own.is_empty() {
        lines.push("nothing of it exists".to_owned());
    } else {
        let head = ("what", "name or id", "where", "since", "cost");
        lines.push(columns(head.0, head.1, head.2, head.3, head.4));
    }
    for row in there {
        let what = format!("{}.{}", row.provider, row.kind);
        let id = row.external_id.as_ref().map(ToString::to_string);
        let name = row.name.clone().or(id).unwrap_or_else(|| "?".to_owned());
        let place = row.region.as_deref().unwrap_or(&row.account).to_owned();
        lines.push(columns(&what, &name, &place, &moment(row.since), &cost(row)));
    }
    for row in own {
        let what = format!("internal.{}", row.kind);
        lines.push(columns(&what, &row.id, &row.place, &moment(head.updated_at), "-"));
    }
    lines.push(next(head.status, beside).to_owned());
    lines
}

fn columns(what: &str, name: &str, place: &str, since: &str, cost: &str) -> String {
    let name = match name.char_indices().nth(42) {
        Some((end, _)) => format!("{}..", name.get(..end).unwrap_or(name)),
        None => name.to_owned(),
    };
    let line = format!("  {what:<21} {name:<44} {place:<34} {since:<20} {cost}");
    line.trim_end().to_owned()
}

fn cost(row: &LedgerRow) -> String {
    let Some(cost) = &row.cost else { return "-".to_owned() };
    let per = match cost.per {
        CostPer::Hour => "/h",
        CostPer::Month => "/month",
        CostPer::Once => "",
    };
    format!("{}.{:02} {}{per}", cost.milli / 1000, cost.milli % 1000 / 10, cost.currency)
}

/// What a person may do next.
fn next(status: RunStatus, beside: &Beside) -> &'static str {
    match status {
        RunStatus::Succeeded | RunStatus::PartlySucceeded => beside.wording.succeeded,
        RunStatus::Parked => "next: mend the cause and type the command again",
        RunStatus::RolledBack | RunStatus::RolledBackKeeping | RunStatus::TornDown => {
            "next: type the command again to begin anew"
        }
        _ => "next: type the command again to go on, or --tear-down to undo it",
    }
}

/// A moment as people read it: `2026-11-21 10:05:07Z`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let seconds = at.as_millis() / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970, with years that begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use provision_core::Timestamp;

    use super::moment;

    #[test]
    fn moments_are_shown_as_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00Z"),
            (1_709_210_096_789, "2024-02-29 12:34:56Z"),
            (1_767_225_599_000, "2025-12-31 23:59:59Z"),
            (1_767_225_600_000, "2026-01-01 00:00:00Z"),
        ];
        for (ms, expected) in cases {
            assert_eq!(moment(Timestamp::from_millis(ms)), expected);
        }
    }
}
