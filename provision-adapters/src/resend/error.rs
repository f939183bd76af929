//! The provider's error table: `{"statusCode", "name", "message"}`, told apart by `name`
//! (resend.com/docs/api-reference/errors, read 2026-11-22).

use std::time::Duration;

use provision_core::Effect;

use super::model::ErrorBody;
use crate::http::Opinion;

/// Pause of the account's bucket when the day's mails are used up; the provider names no hour.
const DAY_PAUSE: Duration = Duration::from_secs(3_600);

/// What the provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    // Only a refusal proves that nothing was sent, whatever a 5xx says of itself.
    if !(400..500).contains(&status) {
        return None;
    }
    let name = serde_json::from_slice::<ErrorBody>(body).ok()?.name;
    Some(match (status, name.as_str()) {
        // An earlier request under this key is under way; what comes of it is asked for again.
        (409, "concurrent_idempotent_requests") => Opinion::retry("key_in_use"),
        // Something else went out under our key, so nobody can say whether this mail did.
        (409, "invalid_idempotent_request") => Opinion::operator("key_reused")
            .with_effect(Effect::Unknown)
            .with_hint("another mail went out under this key: look at the account's log"),
        (429, "daily_quota_exceeded") => Opinion::throttled_for("daily_quota", DAY_PAUSE),
        (429, "monthly_quota_exceeded") => Opinion::operator("monthly_quota")
            .with_hint("the plan's mails of this month are used up: raise the plan, then retry"),
        (429, _) => Opinion::throttled("rate_limit"),
        (_, "missing_api_key" | "invalid_api_key") => Opinion::permanent("unauthorized")
            .with_hint("check the key behind the adapter's secret reference"),
        (_, "restricted_api_key") => {
            Opinion::permanent("restricted_key").with_hint("let the key send from this domain")
        }
        (403, "validation_error") => Opinion::permanent("domain_not_verified")
            .with_hint("verify the sender's domain at the provider"),
        (451, _) | (_, "security_error") => Opinion::permanent("blocked"),
        (400, "invalid_idempotency_key") => Opinion::permanent("invalid_key"),
        (400 | 422, _) => Opinion::permanent("invalid_mail"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use provision_core::{Call, Effect, Timestamp, Verdict};

    use super::{DAY_PAUSE, opinion};
    use crate::http::{Headers, Response, classify};

    fn class(status: u16, name: &str) -> (String, Effect, Verdict) {
        let body = format!(r#"{{"statusCode":{status},"name":"{name}","message":"canary"}}"#);
        let answer = Response::test(status, Headers::default(), body.as_bytes(), Timestamp::ZERO);
        let error = classify(&Call::mutate("send mail"), &answer, "b", opinion);
        (error.code().to_owned(), error.effect(), error.verdict().clone())
    }

    // covers: S9, L4, R1-02
    #[test]
    fn names_are_told_apart_and_only_a_refusal_proves_that_nothing_was_sent() {
        let permanent = [
            (400, "invalid_idempotency_key", "invalid_key"),
            (400, "validation_error", "invalid_mail"),
            (401, "missing_api_key", "unauthorized"),
            (401, "restricted_api_key", "restricted_key"),
            (403, "invalid_api_key", "unauthorized"),
            (403, "validation_error", "domain_not_verified"),
            (422, "missing_required_field", "invalid_mail"),
            (422, "invalid_from_address", "invalid_mail"),
            (451, "security_error", "blocked"),
            (404, "not_found", "not_found"),
        ];
        for (status, name, code) in permanent {
            let expected = (code.to_owned(), Effect::None, Verdict::Permanent);
            assert_eq!(class(status, name), expected, "{status} {name}");
        }
        let retry = Verdict::Retry { after: None };
        let busy = class(409, "concurrent_idempotent_requests");
        assert_eq!(busy, ("key_in_use".to_owned(), Effect::None, retry.clone()));
        let reused = class(409, "invalid_idempotent_request");
        assert_eq!(reused, ("key_reused".to_owned(), Effect::Unknown, Verdict::Operator));
        let wait = |after| Verdict::Throttled { bucket: "b".to_owned(), after };
        assert_eq!(class(429, "daily_quota_exceeded").2, wait(DAY_PAUSE));
        assert_eq!(class(429, "rate_limit_exceeded").1, Effect::None);
        assert_eq!(class(429, "monthly_quota_exceeded").2, Verdict::Operator);
        let broken = class(500, "daily_quota_exceeded");
        assert_eq!(broken, ("server_error".to_owned(), Effect::Unknown, retry));
    }
}
