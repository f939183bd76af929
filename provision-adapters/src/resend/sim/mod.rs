//! A simulated Resend: it takes mails, keeps them, and remembers keys for a day.

mod send;
mod state;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::state::State;
use super::CALLS_PER_SECOND;
use crate::sim::{InventoryItem, Provider, SimRequest, SimResponse, SimTime};

pub use state::Email;

/// Key the simulator accepts.
pub const KEY: &str = "re_simulated_resend_key";
/// Domain that is verified from the beginning.
pub const DOMAIN: &str = "example.com";

/// A simulated account. What a test may decide is a method named for it.
#[derive(Debug)]
pub struct ResendSim {
    state: State,
    setup: Setup,
    /// Calls of this second, and when it began.
    window: (u64, u32),
}

#[derive(Debug)]
struct Setup {
    keys: BTreeSet<String>,
    sending_only: BTreeSet<String>,
    domains: BTreeSet<String>,
    calls_per_second: u32,
    daily: Option<usize>,
}

impl Default for ResendSim {
    fn default() -> Self {
        Self::new()
    }
}

impl ResendSim {
    /// An account with one key, one verified domain, two calls a second, and no quota.
    #[must_use]
    pub fn new() -> Self {
        let setup = Setup {
            keys: BTreeSet::from([KEY.to_owned()]),
            sending_only: BTreeSet::new(),
            domains: BTreeSet::from([DOMAIN.to_owned()]),
            calls_per_second: CALLS_PER_SECOND,
            daily: None,
        };
        Self { state: State::default(), setup, window: (0, 0) }
    }

    /// Accepts this key as well.
    pub fn accept_key(&mut self, key: &str) {
        self.setup.keys.insert(key.to_owned());
    }

    /// Accepts this key as well, for sending alone.
    pub fn accept_sending_key(&mut self, key: &str) {
        self.accept_key(key);
        self.setup.sending_only.insert(key.to_owned());
    }

    /// Accepts this key no more.
    pub fn revoke_key(&mut self, key: &str) {
        self.setup.keys.remove(key);
    }

    /// Lets mails come from this domain as well.
    pub fn verify_domain(&mut self, domain: &str) {
        self.setup.domains.insert(domain.to_owned());
    }

    /// Sets the calls that are allowed in a second. Default 2.
    pub fn set_calls_per_second(&mut self, calls: u32) {
        self.setup.calls_per_second = calls;
    }

    /// Sets the mails that are allowed in 24 hours. Default none: any number.
    pub fn set_daily_quota(&mut self, mails: Option<usize>) {
        self.setup.daily = mails;
    }

    /// The mails that went out, in their order.
    #[must_use]
    pub fn mails(&self) -> Vec<Email> {
        self.state.emails.clone()
    }

    /// The mails that went out to an address.
    #[must_use]
    pub fn mails_to(&self, address: &str) -> Vec<Email> {
        let to = |email: &&Email| email.to.iter().any(|known| known == address);
        self.state.emails.iter().filter(to).cloned().collect()
    }

    /// The checks before any route.
    fn admit(&mut self, request: &SimRequest, now: u64) -> Result<(), SimResponse> {
        if request.header("user-agent").is_none_or(str::is_empty) {
            return Err(SimResponse::text(403, "text/plain", "error code: 1010"));
        }
        let Some(key) = request.bearer() else {
            let text = "Missing API key in the authorization header.";
            return Err(refusal(401, "missing_api_key", text));
        };
        if !self.setup.keys.contains(key) {
            return Err(refusal(403, "invalid_api_key", "API key is invalid."));
        }
        let sends =
            request.method == "POST" && request.path.iter().map(String::as_str).eq(["emails"]);
        if self.setup.sending_only.contains(key) && !sends {
            let text = "This API key is restricted to only send emails.";
            return Err(refusal(401, "restricted_api_key", text));
        }
        if now.saturating_sub(self.window.0) >= 1_000 {
            self.window = (now, 0);
        }
        if self.window.1 >= self.setup.calls_per_second {
            let text = "Too many requests. Please limit the number of requests per second.";
            return Err(refusal(429, "rate_limit_exceeded", text).header("retry-after", "1"));
        }
        self.window.1 += 1;
        Ok(())
    }

    fn route(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["emails"]) => self.send(request, now),
            ("GET", ["emails", id]) => match self.state.emails.iter().find(|e| e.id == *id) {
                Some(email) => SimResponse::json(200, &shown(email)),
                None => refusal(404, "not_found", "Email not found"),
            },
            _ => SimResponse::unhandled(request),
        }
    }
}

impl Provider for ResendSim {
    fn name(&self) -> &'static str {
        "resend"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &["POST /emails"]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let answer = match self.admit(request, now) {
            Ok(()) => self.route(request, now),
            Err(refusal) => refusal,
        };
        let most = self.setup.calls_per_second;
        let left = most.saturating_sub(self.window.1);
        answer
            .header("ratelimit-limit", &most.to_string())
            .header("ratelimit-remaining", &left.to_string())
            .header("ratelimit-reset", "1")
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let item = |email: &Email| InventoryItem {
            provider: "resend".to_owned(),
            kind: "email".to_owned(),
            id: email.id.clone(),
            name: email.subject.clone(),
            labels: email.tags.clone(),
        };
        self.state.emails.iter().map(item).collect()
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        match status {
            401 => refusal(401, "missing_api_key", "Missing API key."),
            403 => refusal(403, "invalid_api_key", "API key is invalid."),
            409 => refusal(409, "concurrent_idempotent_requests", "Still in progress."),
            429 => refusal(429, "rate_limit_exceeded", "Too many requests."),
            500..=599 => refusal(status, "internal_server_error", "An unexpected error occurred."),
            _ => refusal(status, "validation_error", "refused"),
        }
    }
}

/// The provider's way to refuse.
fn refusal(status: u16, name: &str, message: &str) -> SimResponse {
    let body = json!({ "statusCode": status, "name": name, "message": message });
    SimResponse::json(status, &body)
}

fn shown(email: &Email) -> Value {
    let body = |name: &str| email.body.get(name).cloned();
    let list = |name: &str| body(name).unwrap_or_else(|| json!([]));
    let at = provision_core::Timestamp::from_millis(email.created);
    json!({
        "object": "email", "id": email.id, "to": email.to, "from": email.from,
        "created_at": crate::http::format_rfc3339(at), "subject": email.subject,
        "html": body("html").unwrap_or_default(), "text": body("text").unwrap_or_default(),
        "cc": list("cc"), "bcc": list("bcc"), "reply_to": list("reply_to"),
        "tags": list("tags"), "last_event": "delivered",
    })
}
