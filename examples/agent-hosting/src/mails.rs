//! What is mailed to those who run the service, and the saga that sends it. A mail stands in the
//! journal: there is no secret in any of them.
//!
//! Each mail is a run of its own: a provider of mails that is away for hours holds nothing else up.

use std::time::Duration;

use provision_adapters::resend::{Mail, MailSent, SENT, SendMail};
use provision_core::{
    Policy, RunStatus, Saga, SagaError, SagaId, Step, StepContext, StepError,
    retry::Jitter,
    saga::{End, OnFailure},
};

use crate::{
    input::Subscription,
    providers::Providers,
    table::{Table, begins_anew},
    watch::away,
};

/// Sends one mail.
pub const MAIL: SagaId<Mail, MailSent> = SagaId::new("agent-mail", 1);
/// The step that sends it.
pub const TELL: &str = "tell";

/// How long after a first attempt a mail is tried again, and how long after a late one.
pub const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30 * 60));
/// How long it is tried. The provider knows for a day which mails it has sent: whoever asks within
/// this time is not sent one twice.
const TRIED_FOR: Duration = Duration::from_secs(20 * 3_600);
/// More than fit into that time.
const TRIES_MAX: u32 = 1_000;

/// How a mail is tried again: soon, then less and less often, for hours. A provider whose quota of
/// the day is used up is waited for as long.
#[must_use]
pub const fn patience((first, longest): (Duration, Duration)) -> Policy {
    Policy::attempts(TRIES_MAX)
        .exponential(first, 2, longest)
        .with_jitter(Jitter::Equal)
        .with_total(TRIED_FOR)
        .with_max_throttled(TRIED_FOR)
}

/// Wires the saga that sends a mail. One that cannot be sent waits for a person, as each sweep says.
///
/// # Errors
/// Never for this graph.
pub fn sending(providers: &Providers) -> Result<Saga<Mail, MailSent>, SagaError> {
    let (send, patience) = (SendMail::new(&providers.resend), patience(providers.mail_again));
    Saga::define(MAIL, |s| {
        s.on_failure(OnFailure::Ask);
        s.step(TELL, send, SENT).retry(patience).input((), |mail, ()| mail.clone())
    })
}

/// Writes a mail that is to go out, if there is one; repeated, it is the same one.
#[derive(Debug, Clone)]
pub struct QueueMail(pub Table);

impl Step for QueueMail {
    const KIND: &'static str = "internal.queue_mail";
    type Input = Option<Mail>;
    type Output = ();

    async fn run(&self, cx: &StepContext, mail: Option<Mail>) -> Result<(), StepError> {
        let Some(mail) = mail else { return Ok(()) };
        self.0.queue(cx.idempotency_key(), &mail).await.map_err(|trouble| away(&trouble))
    }
}

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
    let next = match failure.hint.as_deref() {
        _ if begins_anew(end.status, Some(&failure.code)) => {
            "\nIt begins anew with another key, unless it has for a day or is to go.".to_owned()
        }
        Some(hint) => format!("\nHint: {hint}."),
        None => String::new(),
    };
    let text = format!("{failure}.\n{left}{next}\n");
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

#[cfg(test)]
mod tests {
    use provision_adapters::resend::KEY_TRUSTED;
    use provision_core::{
        Timestamp,
        retry::{Next, Series, Why},
    };

    use super::{AGAIN, Duration, TRIED_FOR, patience};

    // covers: R2-27
    #[test]
    fn a_mail_is_tried_for_hours_and_never_later_than_the_provider_knows_its_key() {
        let (policy, begun) = (patience(AGAIN), Timestamp::from_millis(1_000));
        for draw in [0, u64::MAX / 3, u64::MAX] {
            let (mut now, mut attempts) = (begun, 1);
            let why = loop {
                match policy.next(&Series::new(attempts, begun, now, draw)) {
                    Next::After(wait) => (now, attempts) = (now.plus(wait), attempts + 1),
                    Next::Exhausted(why) => break why,
                }
            };
            let tried = now.since(begun);
            assert_eq!(why, Why::Total);
            assert!(tried <= TRIED_FOR && TRIED_FOR < KEY_TRUSTED, "{tried:?}");
            assert!(tried + Duration::from_secs(3_600) > TRIED_FOR, "{tried:?}");
            assert!((30..200).contains(&attempts), "{attempts}");
        }
    }
}
