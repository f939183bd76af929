//! What is mailed to those who run the service. A mail stands in the journal: there is no secret in
//! any of them.

use provision_adapters::resend::Mail;
use provision_core::{RunStatus, saga::End};

use crate::input::Subscription;

/// Sender; its domain has to be verified at the provider.
pub const FROM: &str = "Agents <agents@example.com>";
/// Longest list in a mail; what is beyond is counted.
const LINES_MAX: usize = 50;

/// Says that an agent could not be made. Nothing is said of what was made, nor of what was ended by
/// an order.
#[must_use]
pub fn failure(to: &str, order: &Subscription, end: &End) -> Option<Mail> {
    let failed = matches!(end.status, RunStatus::RolledBack | RunStatus::RolledBackKeeping);
    let failure = end.failure.as_ref().filter(|_| failed)?;
    let left = match end.status {
        RunStatus::RolledBack => "Nothing of it is left.",
        _ => "Some of it is left behind: see `sweep`.",
    };
    let hint = failure.hint.as_deref().map(|hint| format!("\nHint: {hint}.")).unwrap_or_default();
    let text = format!("{failure}.\n{left}{hint}\n");
    let subject = format!("No agent for subscription {}", order.id);
    Some(Mail::new(FROM, to, subject).with_text(text).with_tag("kind", "failure"))
}

/// Says which agents do not answer any more.
#[must_use]
pub fn silent(to: &str, subscriptions: &[String]) -> Option<Mail> {
    let count = subscriptions.len();
    alert(to, "silent", &format!("{count} agents do not answer"), subscriptions)
}

/// Says what a sweep has found.
#[must_use]
pub fn swept(to: &str, findings: &[String]) -> Option<Mail> {
    alert(to, "sweep", &format!("The sweep has found {} things", findings.len()), findings)
}

fn alert(to: &str, kind: &str, subject: &str, lines: &[String]) -> Option<Mail> {
    if lines.is_empty() {
        return None;
    }
    let mut text =
        lines.iter().take(LINES_MAX).fold(String::new(), |text, line| text + line + "\n");
    if lines.len() > LINES_MAX {
        text += &format!("and {} more\n", lines.len() - LINES_MAX);
    }
    Some(Mail::new(FROM, to, subject).with_text(text).with_tag("kind", kind))
}
