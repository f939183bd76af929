//! From what GitHub answers to what it means (`/rest/using-the-rest-api/troubleshooting…` and
//! `/rest/using-the-rest-api/rate-limits-for-the-rest-api`, read 2026-09).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::LISTING_LAG;
use crate::http::{Opinion, Response};

/// Wait after a secondary limit that does not say how long.
const SECONDARY_WAIT: Duration = Duration::from_secs(60);

/// GitHub's own table; the general one decides the rest.
pub(super) fn opinion(response: &Response) -> Option<Opinion> {
    let words = words(&response.body);
    let says = |part: &str| words.contains(part);
    let exhausted = response.headers.get("x-ratelimit-remaining").map(str::trim) == Some("0");
    match response.status {
        403 | 429 if response.headers.get("retry-after").is_some() => {
            Some(Opinion::throttled("throttled"))
        }
        403 | 429 if exhausted => Some(Opinion::throttled("rate_limit")),
        403 | 429 if says("secondary rate limit") || says("abuse detection") => {
            Some(Opinion::throttled_for("secondary_rate_limit", SECONDARY_WAIT))
        }
        403 if says("rate limit exceeded") => Some(Opinion::throttled("rate_limit")),
        403 if response.headers.get("x-github-sso").is_some() => {
            Some(Opinion::permanent("sso_required").with_hint("authorize the token for SAML SSO"))
        }
        403 if says("cannot delete repositories") || says("must have admin rights") => {
            let hint = "the token needs delete_repo, and the organization must allow deletion";
            Some(Opinion::permanent("delete_forbidden").with_hint(hint))
        }
        402 | 403 if says("upgrade") || says("billing") => {
            Some(Opinion::permanent("plan_limit").with_hint("the account's plan does not allow it"))
        }
        422 if says("already exists on this account") => Some(Opinion::name_taken(LISTING_LAG)),
        // A fresh repository or workflow file: the same request works some seconds later.
        422 if says("empty repository") || says("repository is empty") => {
            Some(Opinion::retry("empty_repository"))
        }
        422 if says("does not have 'workflow_dispatch' trigger") => {
            Some(Opinion::retry("workflow_not_ready"))
        }
        451 => {
            Some(Opinion::permanent("blocked").with_hint("GitHub blocks this for legal reasons"))
        }
        _ => None,
    }
}

/// What GitHub's own refusals all have. A gateway may answer JSON with a message, too; where to read
/// about GitHub's API it does not say.
#[derive(Deserialize)]
#[allow(dead_code, reason = "being there is what counts")]
struct ErrorBody {
    message: String,
    documentation_url: String,
}

/// Whether a 404 is GitHub's own, and not the page of something in between. It still says no more
/// than "not there, or not for you to see".
pub(super) fn is_own_404(response: &Response) -> bool {
    response.status == 404 && serde_json::from_slice::<ErrorBody>(&response.body).is_ok()
}

/// All texts of an error body in lower case; `errors` holds objects or bare strings.
fn words(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let mut out = text(value.get("message"));
    for error in value.get("errors").and_then(Value::as_array).into_iter().flatten() {
        out.push('\n');
        out.push_str(&text(Some(error)));
        out.push_str(&text(error.get("message")));
    }
    out.to_lowercase()
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use provision_core::{Call, Effect, Timestamp, Verdict};
    use serde_json::json;

    use super::opinion;
    use crate::http::{Response, classify};

    fn judged(
        status: u16,
        headers: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> (Effect, String, u64) {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let body = serde_json::to_vec(body).unwrap();
        let response = Response::test(status, headers, &body, Timestamp::from_millis(0));
        let error = classify(&Call::mutate("t"), &response, "b", |_, _| opinion(&response));
        let wait = match error.verdict() {
            Verdict::Throttled { after, .. } => after.as_secs(),
            _ => 0,
        };
        (error.effect(), error.code().to_owned(), wait)
    }

    // covers: L4, R1-02
    #[test]
    fn the_wait_is_decided_in_the_documented_order() {
        let secondary = json!({ "message": "You have exceeded a secondary rate limit. Wait." });
        let primary = json!({ "message": "API rate limit exceeded for user ID 1." });
        let reset = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000000")];
        let none = Effect::None;
        for status in [403, 429] {
            let asked = judged(status, &[("retry-after", "5")], &secondary);
            assert_eq!(asked, (none, "throttled".to_owned(), 5));
            let exhausted = judged(status, &reset, &primary);
            assert_eq!(exhausted, (none, "rate_limit".to_owned(), 1_700_000_000));
            let silent = judged(status, &[], &secondary);
            assert_eq!(silent, (none, "secondary_rate_limit".to_owned(), 60));
        }
        let plain = judged(403, &[], &json!({ "message": "Resource not accessible" }));
        assert_eq!(plain, (none, "forbidden".to_owned(), 0));
    }

    // covers: S9
    #[test]
    fn both_shapes_of_a_taken_name_ask_for_a_look() {
        let generate = json!({ "message": "Could not clone: Name already exists on this account" });
        let create = json!({
            "message": "Repository creation failed.",
            "errors": [{ "resource": "Repository", "code": "custom", "field": "name",
                         "message": "name already exists on this account" }],
        });
        let simple = json!({ "message": "Validation Failed",
                             "errors": ["Name already exists on this account"] });
        for body in [generate, create, simple] {
            assert_eq!(judged(422, &[], &body), (Effect::Unknown, "name_taken".to_owned(), 0));
        }
        let other = json!({ "message": "Validation Failed", "errors": ["name is too long"] });
        assert_eq!(judged(422, &[], &other), (Effect::None, "refused".to_owned(), 0));
    }
}
