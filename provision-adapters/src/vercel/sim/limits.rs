//! Limits: one window of a minute per endpoint and scope, announced in headers.

use serde_json::json;

use super::{VercelSim, state::Window};
use crate::sim::{SimRequest, SimResponse};

/// Versions of the endpoints that exist; another version is another endpoint.
const ENDPOINTS: &[(&str, &str, &[&str])] = &[
    ("POST", "projects", &["v9", "v10", "v11"]),
    ("GET", "projects", &["v9", "v10"]),
    ("DELETE", "projects", &["v9"]),
    ("GET", "env", &["v8", "v9", "v10"]),
    ("POST", "env", &["v9", "v10"]),
    ("DELETE", "env", &["v9"]),
    ("POST", "domains", &["v9", "v10"]),
    ("GET", "domains", &["v6", "v9"]),
    ("DELETE", "domains", &["v9"]),
    ("POST", "files", &["v2"]),
    ("POST", "deployments", &["v12", "v13"]),
    ("GET", "deployments", &["v6", "v7", "v13"]),
    ("DELETE", "deployments", &["v13"]),
    ("PATCH", "deployments", &["v12"]),
];

/// What kind of thing a path is about: its last fixed word that names one.
fn kind(request: &SimRequest) -> &'static str {
    let path = request.segments();
    match path.get(1..).unwrap_or_default() {
        ["projects", _, "env", ..] => "env",
        ["projects", _, "domains", ..] | ["domains", ..] => "domains",
        ["projects", ..] => "projects",
        ["deployments", ..] => "deployments",
        ["files"] => "files",
        _ => "",
    }
}

/// Whether an endpoint of that method, kind and version exists.
pub(super) fn is_known(request: &SimRequest) -> bool {
    let (version, kind) = (request.path.first().map_or("", String::as_str), kind(request));
    ENDPOINTS
        .iter()
        .any(|(m, k, versions)| *m == request.method && *k == kind && versions.contains(&version))
}

impl VercelSim {
    /// Counts a call, or refuses it.
    pub(super) fn count(
        &mut self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> Result<Window, SimResponse> {
        let name = format!("{scope} {} {} {}", request.method, kind(request), request.path.len());
        let most = self.setup.calls_per_minute;
        let window = self.state.windows.entry(name).or_default();
        if window.ends <= now {
            *window = Window { ends: now.saturating_add(60_000), used: 0 };
        }
        window.used = window.used.saturating_add(1);
        let window = *window;
        if window.used <= most {
            return Ok(window);
        }
        let body = json!({ "error": {
            "code": "rate_limited",
            "message": "The rate limit of this endpoint is exceeded",
            "limit": {
                "remaining": 0, "reset": window.ends / 1000, "resetMs": window.ends, "total": most,
            },
        }});
        Err(self.announce(SimResponse::json(429, &body), window))
    }

    pub(super) fn announce(&self, answer: SimResponse, window: Window) -> SimResponse {
        let most = self.setup.calls_per_minute;
        answer
            .header("x-ratelimit-limit", &most.to_string())
            .header("x-ratelimit-remaining", &most.saturating_sub(window.used).to_string())
            .header("x-ratelimit-reset", &window.ends.div_ceil(1000).to_string())
    }
}
