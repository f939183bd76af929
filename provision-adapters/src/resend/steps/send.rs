//! Sends a mail once.

use provision_core::{
    Effect, Step, StepContext, StepError, Verdict,
    step::{Irreversible, irreversible},
};
use serde::{Deserialize, Serialize};

use super::mail::Mail;
use crate::resend::{
    KEY_TRUSTED,
    client::{Resend, SEND},
};

/// The undo of a mail: there is none.
pub const SENT: Irreversible = irreversible("a mail that was sent cannot be recalled");

/// A mail that the provider has taken. Whether it arrived is told by the provider's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MailSent {
    /// The provider's id.
    pub id: String,
}

/// Sends a mail, once however often the step is repeated.
///
/// The step's key is the provider's idempotency key. After an unknown end the same mail is sent
/// again under it, which the provider answers with the first one's id, for [`KEY_TRUSTED`] from the
/// step's first attempt. Later the step asks for a person (`key_expired`): repeated then, the mail
/// could go out twice.
#[derive(Debug, Clone)]
pub struct SendMail {
    resend: Resend,
}

impl SendMail {
    /// Sends through `resend`.
    #[must_use]
    pub fn new(resend: &Resend) -> Self {
        Self { resend: resend.clone() }
    }

    async fn send(&self, cx: &StepContext, mail: &Mail) -> Result<MailSent, StepError> {
        if let Some(why) = mail.objection() {
            return Err(StepError::permanent(SEND).with_code("invalid_mail").with_message(why));
        }
        if is_forgotten(cx) {
            return Err(StepError::new(Effect::None, Verdict::Operator, SEND)
                .with_code("key_expired")
                .with_message("an earlier attempt may have sent it, too long ago to be repeated")
                .with_hint("look for the mail in the provider's log, then resolve the step"));
        }
        let run = cx.run_id().to_string();
        let accepted = self.resend.send_email(cx, cx.idempotency_key(), &mail.wire(&run)).await?;
        Ok(MailSent { id: accepted.id })
    }
}

/// S10: whether an earlier call may have sent it, and the provider may not know its key any more.
fn is_forgotten(cx: &StepContext) -> bool {
    let memory = cx.memory();
    memory.unknown && memory.begun_at.is_none_or(|at| cx.now() >= at.plus(KEY_TRUSTED))
}

impl Step for SendMail {
    const KIND: &'static str = "resend.send_mail";
    type Input = Mail;
    type Output = MailSent;

    async fn run(&self, cx: &StepContext, mail: Mail) -> Result<MailSent, StepError> {
        self.send(cx, &mail).await
    }
}

/// Sends a mail if there is one to send: the step of terminal hooks, which run at every end and
/// often have something to say at some of them only. Otherwise as [`SendMail`].
#[derive(Debug, Clone)]
pub struct NotifyByMail {
    mail: SendMail,
}

impl NotifyByMail {
    /// Sends through `resend`.
    #[must_use]
    pub fn new(resend: &Resend) -> Self {
        Self { mail: SendMail::new(resend) }
    }
}

impl Step for NotifyByMail {
    const KIND: &'static str = "resend.notify";
    type Input = Option<Mail>;
    type Output = Option<MailSent>;

    async fn run(
        &self,
        cx: &StepContext,
        mail: Option<Mail>,
    ) -> Result<Option<MailSent>, StepError> {
        match mail {
            Some(mail) => self.mail.send(cx, &mail).await.map(Some),
            None => Ok(None),
        }
    }
}
