//! Rate limits: so many calls a minute for each endpoint of each project or organization, said in
//! three headers on every answer. The reset is in seconds from now, and there is no Retry-After.

use serde_json::{Map, Value};

use super::{SupabaseSim, state::Window};
use crate::sim::{SimRequest, SimResponse, SimTime};

const MINUTE_MS: u64 = 60_000;

/// Where a call stands in its minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    limit: u64,
    remaining: u64,
    reset_s: u64,
}

impl Standing {
    pub(super) fn onto(self, response: SimResponse) -> SimResponse {
        response
            .header("x-ratelimit-limit", &self.limit.to_string())
            .header("x-ratelimit-remaining", &self.remaining.to_string())
            .header("x-ratelimit-reset", &self.reset_s.to_string())
    }
}

/// What a call counts against: the endpoint with its method, and the project or organization in
/// the path. A create counts against the organization its body names.
pub(super) fn key(request: &SimRequest) -> String {
    let create = request.method == "POST" && request.path.len() == 2;
    let body = create.then(|| request.json::<Map<String, Value>>().unwrap_or_default());
    let scope = body.as_ref().and_then(|body| body.get("organization_slug")?.as_str());
    let scope = scope.unwrap_or_default();
    format!("{} /{} {scope}", request.method, request.path.join("/"))
}

impl SupabaseSim {
    /// Counts a call; an error when its minute is used up.
    pub(super) fn admit(&mut self, key: &str, now: SimTime) -> Result<Standing, Standing> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let limit = self.setup.calls_per_minute;
        let window = self.state.windows.entry(key.to_owned()).or_default();
        if now_ms.saturating_sub(window.from_ms) >= MINUTE_MS {
            *window = Window { from_ms: now_ms, used: 0 };
        }
        let left_ms = (window.from_ms + MINUTE_MS).saturating_sub(now_ms);
        let reset_s = left_ms.div_ceil(1000);
        if window.used >= limit {
            return Err(Standing { limit, remaining: 0, reset_s });
        }
        window.used += 1;
        Ok(Standing { limit, remaining: limit - window.used, reset_s })
    }
}
