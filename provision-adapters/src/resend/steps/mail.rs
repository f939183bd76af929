//! A mail, and whether it can be sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resend::{
    BODY_BYTES_MAX, RECIPIENTS_MAX, SUBJECT_BYTES_MAX, TAG_CHARS_MAX, TAGS_MAX,
    model::{NewEmail, Tag},
};

/// Label that every mail carries, with the id of its run.
pub(super) const RUN_TAG: &str = "provision_run";

/// A mail to send. It is journaled as it is: never put a secret into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mail {
    /// Sender: `ops@example.com` or `Acme <ops@example.com>`, of a domain that is verified there.
    pub from: String,
    /// Recipients; at least one, at most [`RECIPIENTS_MAX`] together with the copies.
    pub to: Vec<String>,
    /// Who gets a copy. Default none.
    #[serde(default)]
    pub cc: Vec<String>,
    /// Who gets a copy that the others do not see. Default none.
    #[serde(default)]
    pub bcc: Vec<String>,
    /// Where answers go. Default none: to the sender.
    #[serde(default)]
    pub reply_to: Vec<String>,
    /// Subject: one line, 1 to [`SUBJECT_BYTES_MAX`] bytes.
    pub subject: String,
    /// The plain text; this or `html` is needed.
    #[serde(default)]
    pub text: Option<String>,
    /// The HTML. What users typed has to be escaped by the host.
    #[serde(default)]
    pub html: Option<String>,
    /// Labels that the provider's events show. Default none, besides the run's own.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Mail {
    /// A mail to one address, without a body so far.
    #[must_use]
    pub fn new(from: impl Into<String>, to: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            from: from.into(),
            to: vec![to.into()],
            cc: Vec::new(),
            bcc: Vec::new(),
            reply_to: Vec::new(),
            subject: subject.into(),
            text: None,
            html: None,
            tags: BTreeMap::new(),
        }
    }

    /// Sets the plain text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the HTML.
    #[must_use]
    pub fn with_html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// Adds a recipient.
    #[must_use]
    pub fn also_to(mut self, address: impl Into<String>) -> Self {
        self.to.push(address.into());
        self
    }

    /// Adds a copy.
    #[must_use]
    pub fn with_copy_to(mut self, address: impl Into<String>) -> Self {
        self.cc.push(address.into());
        self
    }

    /// Adds a copy that the others do not see.
    #[must_use]
    pub fn with_hidden_copy_to(mut self, address: impl Into<String>) -> Self {
        self.bcc.push(address.into());
        self
    }

    /// Adds an address for answers.
    #[must_use]
    pub fn with_reply_to(mut self, address: impl Into<String>) -> Self {
        self.reply_to.push(address.into());
        self
    }

    /// Adds a label: letters, digits, `_` and `-` alone.
    #[must_use]
    pub fn with_tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }

    /// Says why it cannot be sent, if it cannot; for hosts that ask before a run is started, as
    /// with `SagaBuilder::validate`. The step asks too, before anything is sent.
    #[must_use]
    pub fn objection(&self) -> Option<&'static str> {
        let everybody = [&self.to, &self.cc, &self.bcc].into_iter().map(Vec::len).sum::<usize>();
        let others = [&self.to, &self.cc, &self.bcc, &self.reply_to];
        let bytes = [&self.text, &self.html].into_iter().flatten().map(String::len).sum::<usize>();
        let label = |text: &str| {
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            (1..=TAG_CHARS_MAX).contains(&text.len()) && text.chars().all(word)
        };
        if !is_address(&self.from) {
            Some("the sender is no address")
        } else if self.to.is_empty() {
            Some("there is no recipient")
        } else if everybody > RECIPIENTS_MAX || self.reply_to.len() > RECIPIENTS_MAX {
            Some("there are too many addresses")
        } else if !others.into_iter().flatten().all(|address| is_address(address)) {
            Some("a recipient is no address")
        } else if self.subject.trim().is_empty() || self.subject.len() > SUBJECT_BYTES_MAX {
            Some("the subject is empty or too long")
        } else if self.subject.chars().any(char::is_control) {
            Some("the subject is more than one line")
        } else if bytes == 0 {
            Some("the mail has neither text nor html")
        } else if bytes > BODY_BYTES_MAX {
            Some("the mail is too long")
        } else if self.tags.len() >= TAGS_MAX || self.tags.contains_key(RUN_TAG) {
            Some("there are too many labels, or one has the name of ours")
        } else if !self.tags.iter().all(|(name, value)| label(name) && label(value)) {
            Some("a label has other characters than letters, digits, `_` and `-`")
        } else {
            None
        }
    }

    /// As it is sent; the same on every attempt of a run.
    pub(super) fn wire<'a>(&'a self, run: &'a str) -> NewEmail<'a> {
        let own = self.tags.iter().map(|(name, value)| Tag { name, value });
        NewEmail {
            from: &self.from,
            to: &self.to,
            cc: &self.cc,
            bcc: &self.bcc,
            reply_to: &self.reply_to,
            subject: &self.subject,
            text: self.text.as_deref(),
            html: self.html.as_deref(),
            tags: std::iter::once(Tag { name: RUN_TAG, value: run }).chain(own).collect(),
        }
    }
}

/// `local@domain` or `Name <local@domain>`, as far as can be said without asking anybody.
fn is_address(text: &str) -> bool {
    // A line break would begin another header of the mail.
    if text.chars().any(char::is_control) {
        return false;
    }
    let plain = match text.strip_suffix('>').map(|text| text.split_once('<')) {
        Some(Some((name, plain))) if name.ends_with(' ') && !name.contains(['>', ',']) => plain,
        Some(_) => return false,
        None => text,
    };
    let Some((local, domain)) = plain.rsplit_once('@') else { return false };
    let part = |c: char| c.is_ascii_graphic() && !"()<>[]:;@\\,\"".contains(c);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=64).contains(&local.len())
        && local.chars().all(part)
        && domain.len() <= 253
        && domain.contains('.')
        && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::{Mail, is_address};
    use crate::resend::{BODY_BYTES_MAX, RECIPIENTS_MAX, SUBJECT_BYTES_MAX};

    // covers: S25
    #[test]
    fn what_cannot_be_sent_is_said_before_anything_is() {
        let good = || Mail::new("Acme <ops@example.com>", "ada@example.com", "Hi").with_text("x");
        assert_eq!(good().with_tag("kind", "failure").objection(), None);
        let many = (0..RECIPIENTS_MAX).fold(good(), |mail, n| mail.also_to(format!("a{n}@b.de")));
        let line = Mail { subject: "Hi\r\nBcc: eve@example.com".to_owned(), ..good() };
        let cases = [
            (Mail { from: "ops".to_owned(), ..good() }, "sender"),
            (Mail { to: Vec::new(), ..good() }, "no recipient"),
            (many, "too many addresses"),
            (good().also_to("ada@example.com\nBcc: eve@example.com"), "recipient"),
            (good().with_hidden_copy_to("eve"), "recipient"),
            (Mail { subject: " ".to_owned(), ..good() }, "subject"),
            (Mail { subject: "x".repeat(SUBJECT_BYTES_MAX + 1), ..good() }, "subject"),
            (line, "one line"),
            (Mail { text: None, ..good() }, "neither"),
            (good().with_html("x".repeat(BODY_BYTES_MAX)), "too long"),
            (good().with_tag("provision_run", "other"), "ours"),
            (good().with_tag("kind", "a b"), "label"),
        ];
        for (mail, words) in cases {
            let said = mail.objection().unwrap_or_default();
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn addresses_are_read_as_the_provider_takes_them() {
        for good in ["a@b.de", "Ada L. <ada+x@mail.example.com>"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("{}@b.de", "x".repeat(65));
        let two = "Ada <a@b.de>, Eve <eve@c.de>";
        let bad =
            ["", "a", "a@b", "a@@b.de", "a b@c.de", "Ada ada@b.de", "Ada <a@b.de", "<a@b.de>"];
        for bad in bad.into_iter().chain(["a@-b.de", "a@b..de", "\"a\"@b.de", two, &long]) {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
