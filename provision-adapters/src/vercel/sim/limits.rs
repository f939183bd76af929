//! Limits: one window of a minute per endpoint and scope, announced in headers.

use serde_json::json;

use super::{VercelSim, state::Window};
use crate::sim::{SimRequest, SimResponse};

/// Versions of the endpoints that exist, by their paths; another version is another endpoint. `*`
/// stands for a name or id.
const ENDPOINTS: &[(&str, &[&str], &[&str])] = &[
    ("POST", &["projects"], &["v9", "v10", "v11"]),
    ("GET", &["projects"], &["v9", "v10"]),
    ("GET", &["projects", "*"], &["v9"]),
    ("DELETE", &["projects", "*"], &["v9"]),
    ("GET", &["projects", "*", "env"], &["v8", "v9", "v10"]),
    ("POST", &["projects", "*", "env"], &["v9", "v10"]),
    ("DELETE", &["projects", "*", "env", "*"], &["v9"]),
    ("POST", &["projects", "*", "domains"], &["v9", "v10"]),
    ("GET", &["projects", "*", "domains", "*"], &["v9"]),
    ("DELETE", &["projects", "*", "domains", "*"], &["v9"]),
    ("POST", &["projects", "*", "domains", "*", "verify"], &["v9"]),
    ("GET", &["domains", "*", "config"], &["v6"]),
    ("POST", &["files"], &["v2"]),
    ("POST", &["deployments"], &["v12", "v13"]),
    ("GET", &["deployments"], &["v6", "v7"]),
    ("GET", &["deployments", "*"], &["v13"]),
    ("DELETE", &["deployments", "*"], &["v13"]),
    ("PATCH", &["deployments", "*", "cancel"], &["v12"]),
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

/// Whether an endpoint of that method, path and version exists.
pub(super) fn is_known(request: &SimRequest) -> bool {
    let path = request.segments();
    let Some((version, path)) = path.split_first() else { return false };
    let fits = |shape: &[&str]| {
        shape.len() == path.len()
            && shape.iter().zip(path).all(|(part, given)| *part == "*" || part == given)
    };
    ENDPOINTS.iter().any(|(method, shape, versions)| {
        *method == request.method && fits(shape) && versions.contains(version)
    })
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
