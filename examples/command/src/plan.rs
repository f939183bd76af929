//! `--plan`: shows what a run would do, found out by looking alone.

use provision_core::engine::{Change, Plan};

use crate::{
    Wording,
    exit::{Exit, Trouble},
    progress::Screen,
    report::print_json,
};

/// Shows a plan, and says whether there are changes.
///
/// # Errors
/// A part of it could not be looked at: a plan with a hole in it is none.
pub fn show(plan: &Plan, wording: Wording, screen: &Screen, json: bool) -> Result<Exit, Trouble> {
    if let Some(failure) = unasked(plan) {
        return Err(failure);
    }
    if json {
        print_json(plan)?;
    } else {
        for step in &plan.steps {
            screen.line(format!("  {:<15} {}", step.path, words(&step.change, wording)));
        }
        let changes = plan.steps.iter().filter(|step| changes(&step.change)).count();
        screen
            .line(format!("plan: {changes} of {} steps would change something", plan.steps.len()));
    }
    Ok(if plan.has_changes() { Exit::Changes } else { Exit::Done })
}

/// A plan with a hole in it is none.
fn unasked(plan: &Plan) -> Option<Trouble> {
    plan.steps.iter().find_map(|step| match &step.change {
        Change::Unclear { failure } => {
            let hint = failure.hint.clone();
            Some(Trouble::unavailable(
                &failure.code,
                failure.to_string(),
                hint.unwrap_or_else(|| "type the command again later".to_owned()),
            ))
        }
        _ => None,
    })
}

fn changes(change: &Change) -> bool {
    !matches!(change, Change::Unchanged { .. } | Change::Skip)
}

fn words(change: &Change, wording: Wording) -> String {
    match change {
        Change::Create => "create".to_owned(),
        Change::Unchanged { id: Some(id) } => format!("unchanged, exists as {id}"),
        Change::Unchanged { id: None } => "unchanged".to_owned(),
        Change::Adopt { id } => format!("use {id}, which somebody else made"),
        Change::Conflict { id, owner: Some(run) } => format!("conflict: {id} belongs to run {run}"),
        Change::Conflict { id, owner: None } => format!("conflict: {id} is somebody else's"),
        Change::Run => "run".to_owned(),
        Change::Skip => wording.skipped.to_owned(),
        Change::Later { needs } => format!("create, after {needs}"),
        other => format!("{other:?}"),
    }
}
