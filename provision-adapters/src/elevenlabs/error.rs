//! The provider's error table. Its words are read before its statuses: the same refusal comes as
//! 400 or 422, and a quota that is used up as 401 (elevenlabs.io/docs/eleven-api/resources/errors
//! and the help centre on 400, 401 and 429, read 2026-11-21).

use serde_json::Value;

use super::{SLOT_PAUSE, model::ErrorBody};
use crate::http::{Opinion, Response};

/// What this provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    // Only a refusal proves that nothing was made and paid, whatever a 5xx says of itself.
    if !(400..500).contains(&status) {
        return None;
    }
    let detail = detail(body)?;
    if detail.is_array() {
        return Some(Opinion::permanent("invalid_parameters"));
    }
    // `status` is the older field for the same.
    let word = ["code", "status"].iter().find_map(|name| detail.get(name)?.as_str())?;
    Some(match word {
        "quota_exceeded" => Opinion::operator("quota_exceeded")
            .with_hint("the account's credits are used up: buy some or wait, then redrive"),
        // A semaphore and no clock: it is free when one of the open calls ends.
        "concurrent_limit_exceeded" | "too_many_concurrent_requests" => {
            Opinion::throttled_for("concurrent_limit", SLOT_PAUSE)
        }
        "rate_limit_exceeded" => Opinion::retry("rate_limit"),
        "system_busy" => Opinion::retry("system_busy"),
        "bad_prompt" => Opinion::permanent("bad_prompt").with_hint(
            "the provider makes nothing of named artists, protected works or harmful texts: \
             change what was ordered",
        ),
        "bad_composition_plan" => Opinion::permanent("bad_composition_plan")
            .with_hint("the provider does not make this plan: change what was ordered"),
        "missing_permissions" => Opinion::permanent("missing_permissions")
            .with_hint("let the key use this part of the API"),
        "voice_not_found" => Opinion::permanent("voice_not_found"),
        "model_not_found" => Opinion::permanent("model_not_found"),
        "max_character_limit_exceeded" | "text_too_long" => Opinion::permanent("text_too_long"),
        "invalid_parameters" => Opinion::permanent("invalid_parameters"),
        word if word.starts_with("only_for") || word.contains("subscription") => {
            Opinion::permanent("plan_too_small").with_hint("the account's plan has no such feature")
        }
        _ => return None,
    })
}

/// Whether a 404 is the provider's own, and not the page of something in between.
pub(crate) fn is_definite_404(response: &Response) -> bool {
    response.status == 404 && detail(&response.body).is_some()
}

fn detail(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.detail)
}

#[cfg(test)]
mod tests {
    use provision_core::{Call, Effect, Timestamp, Verdict};

    use super::opinion;
    use crate::http::{Headers, Response, classify};

    fn class(status: u16, body: &str) -> (String, Effect, Verdict) {
        let answer = Response::test(status, Headers::default(), body.as_bytes(), Timestamp::ZERO);
        let error = classify(&Call::mutate("compose music"), &answer, "b", opinion);
        (error.code().to_owned(), error.effect(), error.verdict().clone())
    }

    // covers: S9, L4, R1-02
    #[test]
    fn words_count_before_statuses_and_only_a_refusal_is_free() {
        let new = |word: &str| format!(r#"{{"detail":{{"code":"{word}","message":"canary"}}}}"#);
        let old = |word: &str| format!(r#"{{"detail":{{"status":"{word}","message":"canary"}}}}"#);
        let permanent = [
            (400, "bad_prompt", "bad_prompt"),
            (422, "bad_prompt", "bad_prompt"),
            (422, "bad_composition_plan", "bad_composition_plan"),
            (401, "missing_permissions", "missing_permissions"),
            (403, "only_for_creator+", "plan_too_small"),
            (400, "voice_not_found", "voice_not_found"),
            (400, "max_character_limit_exceeded", "text_too_long"),
            (401, "invalid_api_key", "unauthorized"),
        ];
        for (status, word, code) in permanent {
            for body in [new(word), old(word)] {
                let expected = (code.to_owned(), Effect::None, Verdict::Permanent);
                assert_eq!(class(status, &body), expected, "{word}");
            }
        }
        for status in [400, 401, 402] {
            let (code, effect, verdict) = class(status, &new("quota_exceeded"));
            assert_eq!((code.as_str(), effect), ("quota_exceeded", Effect::None));
            assert_eq!(verdict, Verdict::Operator, "a person buys credits");
        }
        for word in ["concurrent_limit_exceeded", "too_many_concurrent_requests"] {
            let (code, effect, verdict) = class(429, &new(word));
            assert_eq!((code.as_str(), effect), ("concurrent_limit", Effect::None));
            let after = super::SLOT_PAUSE;
            assert_eq!(verdict, Verdict::Throttled { bucket: "b".to_owned(), after });
        }
        for word in ["system_busy", "rate_limit_exceeded"] {
            let (_, effect, verdict) = class(429, &old(word));
            assert_eq!((effect, verdict), (Effect::None, Verdict::Retry { after: None }));
        }
        let invalid = r#"{"detail":[{"loc":["body","text"],"msg":"x","type":"missing"}]}"#;
        assert_eq!(class(422, invalid).0, "invalid_parameters");
        assert_eq!(class(400, r#"{"detail":"Not allowed"}"#).0, "refused");
        // Said with a 5xx, nothing is proven: it may have been made and paid.
        let (code, effect, _) = class(503, &new("system_busy"));
        assert_eq!((code.as_str(), effect), ("server_error", Effect::Unknown));
    }
}
