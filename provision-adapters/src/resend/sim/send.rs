//! What the simulator makes of a new mail.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    ResendSim, refusal,
    state::{Answered, Email},
};
use crate::{
    resend::{KEY_LIFETIME, RECIPIENTS_MAX},
    sim::{SimRequest, SimResponse},
};

/// Longest key.
const KEY_CHARS_MAX: usize = 256;

impl ResendSim {
    pub(super) fn send(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let key = request.header("idempotency-key").map(ToOwned::to_owned);
        if key.as_ref().is_some_and(|key| !(1..=KEY_CHARS_MAX).contains(&key.chars().count())) {
            let text = "The key must be between 1-256 chars.";
            return refusal(400, "invalid_idempotency_key", text);
        }
        let Ok(body) = request.json::<Map<String, Value>>() else {
            return refusal(422, "validation_error", "The request body is no JSON object.");
        };
        let lifetime = u64::try_from(KEY_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        self.state.keys.retain(|_, answered| now < answered.at.saturating_add(lifetime));
        let whole = Value::Object(body.clone());
        if let Some(known) = key.as_ref().and_then(|key| self.state.keys.get(key)) {
            if known.body != whole {
                let text = "Same idempotency key used with a different request payload.";
                return refusal(409, "invalid_idempotent_request", text);
            }
            return SimResponse::json(200, &json!({ "id": known.id }));
        }
        match self.read(&body) {
            Err(refusal) => refusal,
            Ok(_) if self.setup.daily.is_some_and(|most| self.sent_since(now, DAY) >= most) => {
                let text = "You have reached your daily email sending quota.";
                refusal(429, "daily_quota_exceeded", text)
            }
            Ok(mut email) => {
                email.id = self.state.id();
                (email.created, email.key) = (now, key.clone());
                let id = email.id.clone();
                if let Some(key) = key {
                    let answered = Answered { id: id.clone(), body: whole, at: now };
                    self.state.keys.insert(key, answered);
                }
                self.state.emails.push(email);
                SimResponse::json(200, &json!({ "id": id }))
            }
        }
    }

    fn sent_since(&self, now: u64, within: u64) -> usize {
        let recent = |email: &&Email| now < email.created.saturating_add(within);
        self.state.emails.iter().filter(recent).count()
    }

    /// The mail of a body, or why it is refused.
    fn read(&self, body: &Map<String, Value>) -> Result<Email, SimResponse> {
        let missing = |name: &str| {
            refusal(422, "missing_required_field", &format!("Missing `{name}` field."))
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let from = text("from").ok_or_else(|| missing("from"))?;
        let subject = text("subject").ok_or_else(|| missing("subject"))?;
        if !body.contains_key("to") {
            return Err(missing("to"));
        }
        let to = addresses(body, "to")?;
        for name in ["cc", "bcc", "reply_to"] {
            addresses(body, name)?;
        }
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            return Err(refusal(422, "validation_error", "The `to` field has 1 to 50 addresses."));
        }
        if text("html").is_none() && text("text").is_none() {
            return Err(missing("html` or `text"));
        }
        let domain = domain(from).ok_or_else(|| {
            let text = "Invalid `from` field. The email address needs to follow the \
                        `email@example.com` or `Name <email@example.com>` format.";
            refusal(422, "validation_error", text)
        })?;
        if !self.setup.domains.contains(domain) {
            let text = format!("The {domain} domain is not verified. Please, add and verify it.");
            return Err(refusal(403, "validation_error", &text));
        }
        Ok(Email {
            id: String::new(),
            from: from.to_owned(),
            to,
            subject: subject.to_owned(),
            text: text("text").map(ToOwned::to_owned),
            tags: tags(body)?,
            key: None,
            body: Value::Object(body.clone()),
            created: 0,
        })
    }
}

/// Milliseconds of a day.
const DAY: u64 = 24 * 3_600 * 1_000;

/// One address or a list of them; none where the field is missing.
fn addresses(body: &Map<String, Value>, name: &str) -> Result<Vec<String>, SimResponse> {
    let all: Vec<&Value> = match body.get(name) {
        None => Vec::new(),
        Some(Value::Array(all)) => all.iter().collect(),
        Some(one) => vec![one],
    };
    let read = |value: &Value| {
        let text = value.as_str().filter(|text| domain(text).is_some());
        text.map(ToOwned::to_owned).ok_or_else(|| {
            let text = format!("Invalid `{name}` field. It has to be an email address.");
            refusal(422, "validation_error", &text)
        })
    };
    all.into_iter().map(read).collect()
}

/// The domain of an address, with or without a name before it.
fn domain(text: &str) -> Option<&str> {
    let plain = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>')?,
        None => text,
    };
    let (local, domain) = plain.split_once('@')?;
    let fits = !local.is_empty() && domain.contains('.') && !plain.contains([' ', '\n', '\r']);
    fits.then_some(domain)
}

fn tags(body: &Map<String, Value>) -> Result<BTreeMap<String, String>, SimResponse> {
    let word = |text: &&str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        (1..=256).contains(&text.len()) && text.chars().all(known)
    };
    let all = body.get("tags").and_then(Value::as_array).into_iter().flatten();
    let read = |tag: &Value| {
        let part = |name: &str| tag.get(name).and_then(Value::as_str).filter(word);
        match (part("name"), part("value")) {
            (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            _ => {
                let text =
                    "Tags should only contain ASCII letters, numbers, underscores, or dashes.";
                Err(refusal(422, "validation_error", text))
            }
        }
    };
    all.map(read).collect()
}
