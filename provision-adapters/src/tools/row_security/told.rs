//! What a verification means for the step that asked for it.

use provision_core::{Effect, StepError, Verdict};

use super::{Executor, Openings, Scope, Trouble, finding::Finding, verify};

/// Most findings an error names.
const FINDINGS_SHOWN: usize = 10;

/// Looks as [`verify`] does; whatever is open, or could not be looked at, is an error.
///
/// # Errors
/// `exposed` (permanent) with the findings, `unverifiable` or `too_open` (permanent), or what the
/// executor had no answer to.
pub async fn prove<E: Executor<Error = StepError>>(
    operation: &'static str,
    executor: &E,
    scope: &Scope,
    openings: &Openings,
) -> Result<(), StepError> {
    match verify(executor, scope, openings).await {
        Ok(findings) if findings.is_empty() => Ok(()),
        Ok(findings) => Err(exposed(operation, &findings)),
        Err(trouble) => Err(unverified(operation, scope, trouble)),
    }
}

/// X11: the schema lets anonymous readers in; no repetition changes that.
fn exposed(operation: &'static str, findings: &[Finding]) -> StepError {
    let shown: Vec<String> = findings.iter().take(FINDINGS_SHOWN).map(Finding::to_string).collect();
    let more = match findings.len().saturating_sub(FINDINGS_SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    StepError::new(Effect::Applied, Verdict::Permanent, operation)
        .with_code("exposed")
        .with_message(format!("{}{more}", shown.join("; ")))
        .with_hint("close it in the migrations, or name it in the openings of the schema")
}

fn unverified(operation: &'static str, scope: &Scope, trouble: Trouble<StepError>) -> StepError {
    let permanent = StepError::new(Effect::Applied, Verdict::Permanent, operation);
    match trouble {
        Trouble::Executor(error) => error,
        Trouble::Refused { question, sqlstate } => permanent
            .with_code("unverifiable")
            .with_message(format!("{question}: the database answered SQLSTATE {sqlstate}")),
        Trouble::Unreadable { question } => StepError::retry(operation)
            .with_code("garbage")
            .with_message(format!("{question}: the answer has another form")),
        Trouble::TooMany => permanent
            .with_code("too_open")
            .with_message(format!("more than {} reads as anonymous are needed", scope.probes_max))
            .with_hint("grant the anonymous role only what it needs"),
    }
}
