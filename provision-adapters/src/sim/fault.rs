//! What can happen to a request on its way, by plan.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::message::SimRequest;

/// How a 429 says how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfterForm {
    /// `Retry-After: <seconds>`.
    Seconds(u64),
    /// `Retry-After: <HTTP date>`, so many seconds from now.
    Date(u64),
    /// It does not say.
    Absent,
    /// The window's headers say it: no call is left, and all are back so many seconds from now.
    Reset(u64),
    /// A page for people, by something in between, with `Retry-After: <seconds>`.
    Page(u64),
}

/// One thing that goes wrong with one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The connection is dropped; the request is never carried out.
    RefuseBefore,
    /// Carried out; the connection closes without a byte.
    DropAfter,
    /// Not carried out; the connection, which may have been kept from the last request, is reset
    /// under it.
    ResetBefore,
    /// Carried out; the connection is reset.
    ResetAfter,
    /// Not carried out; the connection stays open, and nothing comes any more.
    HalfOpen,
    /// Not carried out; answered with bytes of TLS, as by an endpoint that refuses a handshake.
    TlsAlert,
    /// Not carried out; answered with this status, in the provider's words.
    Status(u16),
    /// Carried out; answered with this status, in the provider's words.
    StatusAfter(u16),
    /// Carried out; the answer ends in its middle (in the head, if it has no body).
    CutBody,
    /// Carried out; the announced length is larger than what comes before the end.
    LyingLength,
    /// Carried out; the announced length is smaller than what comes.
    ShortLength,
    /// Carried out; the answer is compressed, unasked, and so many bytes (about) when it is unpacked.
    GzipBomb {
        /// How many bytes it is unpacked to.
        bytes: u64,
    },
    /// Carried out; of the answer's body a byte comes each such time, and it never ends.
    Trickle(Duration),
    /// Not carried out; answered with this page, as by something in between.
    Page {
        /// Its status.
        status: u16,
        /// Its content type.
        content_type: String,
        /// Its body.
        body: String,
    },
    /// Carried out; the answer's body never seems to end: so many bytes are sent.
    EndlessBody {
        /// How many bytes are sent at most.
        bytes: u64,
    },
    /// Carried out; the answer begins so late.
    SlowHeaders(Duration),
    /// Carried out so late, then answered.
    Slow(Duration),
    /// Carried out; answered 200 with bytes that are no JSON.
    Garbage200,
    /// Carried out; answered 200 with a page for people.
    Html200,
    /// Not carried out; answered 429.
    RateLimited {
        /// How it says how long to wait.
        retry_after: RetryAfterForm,
    },
    /// Carried out twice, as by a proxy that repeats; the second answer is sent.
    Duplicate,
    /// Answered as if carried out, and nothing is there afterwards.
    Ghost,
    /// The connection is dropped now; the request is carried out so much later.
    LateLanding(Duration),
    /// Carried out; what it creates stays out of listings for so long.
    LateVisible(Duration),
    /// Carried out; the connection closes without a byte, and what it creates stays out of listings
    /// for so long.
    LostAndLateVisible(Duration),
    /// Not carried out; answered 401.
    TokenRevoked,
    /// Not carried out; answered 307 to this address.
    Redirect(String),
    /// Not carried out; answered 302 to the very address that was asked.
    RedirectLoop,
    /// Not carried out; answered with this status, and with the request's own headers and body in
    /// the message, as a careless gateway does.
    Echo(u16),
}

impl Fault {
    /// Short name for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RefuseBefore => "refuse_before",
            Self::DropAfter => "drop_after",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::HalfOpen => "half_open",
            Self::TlsAlert => "tls_alert",
            Self::Status(_) => "status",
            Self::StatusAfter(_) => "status_after",
            Self::CutBody => "cut_body",
            Self::LyingLength => "lying_length",
            Self::ShortLength => "short_length",
            Self::GzipBomb { .. } => "gzip_bomb",
            Self::Trickle(_) => "trickle",
            Self::Page { .. } => "page",
            Self::EndlessBody { .. } => "endless_body",
            Self::SlowHeaders(_) => "slow_headers",
            Self::Slow(_) => "slow",
            Self::Garbage200 => "garbage_200",
            Self::Html200 => "html_200",
            Self::RateLimited { .. } => "rate_limited",
            Self::Duplicate => "duplicate",
            Self::Ghost => "ghost",
            Self::LateLanding(_) => "late_landing",
            Self::LateVisible(_) => "late_visible",
            Self::LostAndLateVisible(_) => "lost_and_late_visible",
            Self::TokenRevoked => "token_revoked",
            Self::Redirect(_) => "redirect",
            Self::RedirectLoop => "redirect_loop",
            Self::Echo(_) => "echo",
        }
    }
}

/// Which requests a fault happens to.
#[derive(Debug, Clone)]
pub struct FaultRule {
    fault: Fault,
    method: Option<String>,
    changing: bool,
    contains: Option<String>,
    prefix: Option<String>,
    skip: u64,
    times: u64,
    chance: f64,
    matched: u64,
    fired: u64,
}

impl FaultRule {
    /// A fault that happens to every request, every time.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            changing: false,
            contains: None,
            prefix: None,
            skip: 0,
            times: u64::MAX,
            chance: 1.0,
            matched: 0,
            fired: 0,
        }
    }

    /// Only requests of this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_ascii_uppercase());
        self
    }

    /// Only requests that may change something: any method but GET and HEAD.
    #[must_use]
    pub fn changing(mut self) -> Self {
        self.changing = true;
        self
    }

    /// Only requests whose path (`/a/b`, decoded) contains this.
    #[must_use]
    pub fn path_contains(mut self, part: impl Into<String>) -> Self {
        self.contains = Some(part.into());
        self
    }

    /// Only requests whose path (`/a/b`, decoded) begins with this.
    #[must_use]
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Begins at the n-th matching request, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// Ends after it happened so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Happens once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Happens with this probability, drawn from the plan's seed.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    fn matches(&self, request: &SimRequest, path: &str) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && !(self.changing && matches!(&*request.method, "GET" | "HEAD"))
            && self.contains.as_ref().is_none_or(|part| path.contains(part))
            && self.prefix.as_ref().is_none_or(|prefix| path.starts_with(prefix))
    }

    /// Whether it happens to this matching request; counts it.
    fn takes(&mut self, random: &mut u64) -> bool {
        self.matched += 1;
        let due = self.matched > self.skip && self.fired < self.times;
        if due && (self.chance >= 1.0 || unit(random) < self.chance) {
            self.fired += 1;
            return true;
        }
        false
    }
}

/// A rule of a plan, to remove it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

/// The rules of one server, tried in their order; the first that takes a request wins. Clones are
/// the same plan.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    inner: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    rules: Vec<(RuleId, FaultRule)>,
    added: u64,
    random: u64,
    fired: Vec<&'static str>,
}

impl FaultPlan {
    /// An empty plan; `seed` decides what rules with a chance do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Plan {
                rules: Vec::new(),
                added: 0,
                random: seed,
                fired: Vec::new(),
            })),
        }
    }

    /// Adds a rule.
    pub fn add(&self, rule: FaultRule) -> RuleId {
        let mut plan = self.lock();
        plan.added += 1;
        let id = RuleId(plan.added);
        plan.rules.push((id, rule));
        id
    }

    /// Removes one rule; the others stay.
    pub fn remove(&self, id: RuleId) {
        self.lock().rules.retain(|(known, _)| *known != id);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Names of the faults that happened, in their order.
    #[must_use]
    pub fn fired(&self) -> Vec<&'static str> {
        self.lock().fired.clone()
    }

    /// What happens to this request.
    pub(super) fn take(&self, request: &SimRequest) -> Option<Fault> {
        let path = format!("/{}", request.path.join("/"));
        let mut guard = self.lock();
        let plan = &mut *guard;
        for (_, rule) in &mut plan.rules {
            if rule.matches(request, &path) && rule.takes(&mut plan.random) {
                plan.fired.push(rule.fault.name());
                return Some(rule.fault.clone());
            }
        }
        None
    }

    // A plain mutex: held for the length of a scan, never across an `.await`.
    fn lock(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Next number in [0, 1) of the `SplitMix64` sequence.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{Fault, FaultPlan, FaultRule, SimRequest};

    fn request(method: &str, path: &str) -> SimRequest {
        let path = path.split('/').map(ToOwned::to_owned).collect();
        SimRequest { method: method.to_owned(), path, ..SimRequest::default() }
    }

    #[test]
    fn a_rule_takes_the_nth_matching_request_and_no_more_than_told() {
        let plan = FaultPlan::new(1);
        let rule = FaultRule::new(Fault::DropAfter).method("post").path_contains("/generate");
        plan.add(rule.nth(2).times(2));
        let seen: Vec<bool> = ["a/generate", "a/other", "b/generate", "c/generate", "d/generate"]
            .iter()
            .map(|path| plan.take(&request("POST", path)).is_some())
            .collect();
        assert_eq!(seen, [false, false, true, true, false]);
        assert!(plan.take(&request("GET", "a/generate")).is_none());
        assert_eq!(plan.fired(), ["drop_after", "drop_after"]);
    }

    #[test]
    fn a_rule_is_removed_alone() {
        let plan = FaultPlan::new(1);
        let gone = plan.add(FaultRule::new(Fault::RefuseBefore).path_contains("a"));
        plan.add(FaultRule::new(Fault::DropAfter).path_contains("b"));
        plan.remove(gone);
        assert!(plan.take(&request("GET", "a")).is_none());
        assert!(plan.take(&request("GET", "b")).is_some());
    }

    #[test]
    fn chance_is_decided_by_the_seed() {
        let draw = |seed| -> Vec<bool> {
            let plan = FaultPlan::new(seed);
            plan.add(FaultRule::new(Fault::RefuseBefore).chance(0.5));
            (0..64).map(|_| plan.take(&request("GET", "x")).is_some()).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let hits = draw(7).iter().filter(|hit| **hit).count();
        assert!((16..48).contains(&hits), "{hits}");
    }
}
