//! From an answer that is no success to a [`StepError`]: the general table, and what one
//! provider's own table says against it.

use std::time::Duration;

use provision_core::{Call, CallKind, Effect, StepError, Verdict};

use super::{
    limit::{RETRY_AFTER_DEFAULT, remaining, resets_in, retry_after},
    response::{Response, effect_if_sent},
};

/// What one provider's error table says about an answer; what it leaves open is decided by the
/// general table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    code: &'static str,
    verdict: Says,
    effect: Option<Effect>,
    hint: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    General,
    Permanent,
    Retry(Option<Duration>),
    Throttled(Option<Duration>),
    Operator,
}

impl Opinion {
    const fn new(code: &'static str, verdict: Says, effect: Option<Effect>) -> Self {
        Self { code, verdict, effect, hint: None }
    }

    /// Names the case and leaves effect and verdict to the general table.
    #[must_use]
    pub const fn named(code: &'static str) -> Self {
        Self::new(code, Says::General, None)
    }

    /// Repeating cannot help; nothing happened.
    #[must_use]
    pub const fn permanent(code: &'static str) -> Self {
        Self::new(code, Says::Permanent, Some(Effect::None))
    }

    /// Worth repeating; nothing happened.
    #[must_use]
    pub const fn retry(code: &'static str) -> Self {
        Self::new(code, Says::Retry(None), Some(Effect::None))
    }

    /// Worth repeating not before `after`; nothing happened.
    #[must_use]
    pub const fn retry_after(code: &'static str, after: Duration) -> Self {
        Self::new(code, Says::Retry(Some(after)), Some(Effect::None))
    }

    /// Told to wait: `Retry-After`, else the window's reset, else 60 s; nothing happened.
    #[must_use]
    pub const fn throttled(code: &'static str) -> Self {
        Self::new(code, Says::Throttled(None), Some(Effect::None))
    }

    /// Told to wait so long; nothing happened.
    #[must_use]
    pub const fn throttled_for(code: &'static str, after: Duration) -> Self {
        Self::new(code, Says::Throttled(Some(after)), Some(Effect::None))
    }

    /// Only a person can tell (a quota, a suspended account); nothing happened.
    #[must_use]
    pub const fn operator(code: &'static str) -> Self {
        Self::new(code, Says::Operator, Some(Effect::None))
    }

    /// Sent, and nobody knows: a look-up comes before anything else.
    #[must_use]
    pub const fn unknown(code: &'static str) -> Self {
        Self::new(code, Says::Retry(None), Some(Effect::Unknown))
    }

    /// "Already exists" on a create: it may be ours, from a call whose answer was lost, and a
    /// look-up may not show it before `lag`.
    #[must_use]
    pub const fn name_taken(lag: Duration) -> Self {
        Self::new("name_taken", Says::Retry(Some(lag)), Some(Effect::Unknown))
    }

    /// Replaces the effect.
    #[must_use]
    pub const fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub const fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// Turns an answer into an error: `table` (the provider's own) first, then the general table.
///
/// The message holds the status alone, never body or URL.
#[must_use]
pub fn classify(
    call: &Call,
    response: &Response,
    bucket: &str,
    table: impl Fn(u16, &[u8]) -> Option<Opinion>,
) -> StepError {
    let asked = retry_after(&response.headers, response.at());
    let general = general(call.kind, response.status, asked.is_some());
    let opinion = table(response.status, &response.body);
    let (says, code, hint) = match &opinion {
        Some(Opinion { verdict: Says::General, code, hint, .. }) => {
            (general.verdict, *code, hint.or(general.hint))
        }
        Some(own) => (own.verdict, own.code, own.hint),
        None => (general.verdict, general.code, general.hint),
    };
    let effect = opinion.and_then(|o| o.effect).or(general.effect).unwrap_or_default();
    // A call that only looks changes nothing, whatever the table says of its status.
    let effect = effect.min(effect_if_sent(call.kind));
    let verdict = match says {
        Says::General | Says::Permanent => Verdict::Permanent,
        Says::Operator => Verdict::Operator,
        Says::Retry(after) => Verdict::Retry { after: after.max(asked) },
        Says::Throttled(after) => {
            Verdict::Throttled { bucket: bucket.to_owned(), after: wait(response, after, asked) }
        }
    };
    let error = StepError::new(effect, verdict, call.operation)
        .with_code(code)
        .with_message(format!("HTTP {}", response.status));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// A 404 that is not the provider's own: the page of something in between. It says nothing of what
/// is there, nor of what became of the request.
#[cfg(any(
    feature = "elevenlabs",
    feature = "github",
    feature = "hetzner",
    feature = "supabase-storage",
    feature = "tailscale",
    feature = "vercel"
))]
pub(crate) fn not_the_provider(call: &Call) -> StepError {
    StepError::new(effect_if_sent(call.kind), Verdict::Retry { after: None }, call.operation)
        .with_code("not_the_provider")
        .with_message("HTTP 404 that is not the provider's own")
}

/// The wait asked for is never shortened.
fn wait(response: &Response, own: Option<Duration>, asked: Option<Duration>) -> Duration {
    let reset = (remaining(&response.headers) == Some(0))
        .then(|| resets_in(&response.headers, response.at()))
        .flatten();
    asked.max(own).or(reset).unwrap_or(RETRY_AFTER_DEFAULT)
}

/// What a status means where the provider's own table is silent.
fn general(kind: CallKind, status: u16, asked_to_wait: bool) -> Opinion {
    let sent = Some(effect_if_sent(kind));
    match status {
        401 => Opinion::permanent("unauthorized")
            .with_hint("check the token behind the adapter's secret reference"),
        403 if asked_to_wait => Opinion::throttled("throttled"),
        403 => Opinion::permanent("forbidden").with_hint("check what the token may do"),
        404 => Opinion::permanent("not_found"),
        408 => Opinion::new("timeout", Says::Retry(None), sent),
        409 => Opinion::new("conflict", Says::Retry(None), sent),
        423 => Opinion::new("locked", Says::Retry(None), sent),
        425 => Opinion::new("too_early", Says::Retry(None), sent),
        // RFC 6585: the request was refused, not carried out.
        429 => Opinion::throttled("throttled"),
        400..=499 => Opinion::permanent("refused"),
        // The provider does not know the method; another time it will not know it either.
        501 => Opinion::new("not_implemented", Says::Permanent, sent),
        500..=599 => Opinion::new("server_error", Says::Retry(None), sent),
        // A 307 or 308 says "not here": nothing was carried out. Others may come after the effect.
        307 | 308 => Opinion::permanent("redirected").with_hint("redirects are never followed"),
        300..=399 => Opinion::new("redirected", Says::Permanent, sent)
            .with_hint("redirects are never followed"),
        _ => Opinion::new("unexpected_status", Says::Retry(None), sent),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use provision_core::{Call, Effect, Timestamp, Verdict};

    use super::{Opinion, classify};
    use crate::http::{Headers, Response};

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response {
        let headers: Headers =
            headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Response::test(status, headers, b"{\"message\":\"canary\"}", Timestamp::ZERO)
    }

    // covers: S9, L4
    #[test]
    fn the_general_table_proves_none_only_where_nothing_can_have_happened() {
        let retry = Verdict::Retry { after: None };
        let wait = Verdict::Throttled { bucket: "b".to_owned(), after: Duration::from_secs(60) };
        let cases = [
            (400, Effect::None, Verdict::Permanent, "refused"),
            (401, Effect::None, Verdict::Permanent, "unauthorized"),
            (403, Effect::None, Verdict::Permanent, "forbidden"),
            (404, Effect::None, Verdict::Permanent, "not_found"),
            (408, Effect::Unknown, retry.clone(), "timeout"),
            (409, Effect::Unknown, retry.clone(), "conflict"),
            (422, Effect::None, Verdict::Permanent, "refused"),
            (423, Effect::Unknown, retry.clone(), "locked"),
            (425, Effect::Unknown, retry.clone(), "too_early"),
            (429, Effect::None, wait, "throttled"),
            (500, Effect::Unknown, retry.clone(), "server_error"),
            (502, Effect::Unknown, retry.clone(), "server_error"),
            (504, Effect::Unknown, retry.clone(), "server_error"),
            (303, Effect::Unknown, Verdict::Permanent, "redirected"),
            (307, Effect::None, Verdict::Permanent, "redirected"),
            (204, Effect::Unknown, retry, "unexpected_status"),
        ];
        for (status, effect, verdict, code) in cases {
            let error = classify(&Call::mutate("create"), &answer(status, &[]), "b", |_, _| None);
            assert_eq!((error.effect(), error.verdict()), (effect, &verdict), "{status}");
            assert_eq!(error.code(), code);
            let read = classify(&Call::read("find"), &answer(status, &[]), "b", |_, _| None);
            assert_eq!(read.effect(), Effect::None, "{status}");
        }
    }

    // covers: R1-29, R3-44, R3-45, R3-51, R5-36, R5-37
    #[test]
    fn every_status_has_one_class() {
        let own = [
            (408, "timeout"),
            (409, "conflict"),
            (423, "locked"),
            (425, "too_early"),
            (429, "throttled"),
        ];
        for status in (200..600).filter(|status| !(300..400).contains(status)) {
            for call in [Call::mutate("create"), Call::read("find")] {
                let error = classify(&call, &answer(status, &[]), "b", |_, _| None);
                let repeated = matches!(error.verdict(), Verdict::Retry { after: None });
                let throttled = matches!(error.verdict(), Verdict::Throttled { .. });
                let known = own.iter().find(|(own, _)| *own == status).map(|(_, code)| *code);
                let wanted = match status {
                    429 => (false, true),
                    400..=499 => (known.is_some(), false),
                    501 => (false, false),
                    _ => (true, false),
                };
                assert_eq!((repeated, throttled), wanted, "{status}: {error:?}");
                assert!(known.is_none_or(|code| code == error.code()), "{status}: {error:?}");
                assert_eq!(error.message(), Some(&*format!("HTTP {status}")));
            }
        }
    }

    #[test]
    fn the_providers_table_overrides_and_bodies_stay_out() {
        let table = |status, body: &[u8]| {
            assert!(!body.is_empty());
            (status == 422).then(|| Opinion::name_taken(Duration::ZERO))
        };
        let error = classify(&Call::mutate("create"), &answer(422, &[]), "b", table);
        assert_eq!((error.effect(), error.code()), (Effect::Unknown, "name_taken"));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    // covers: L4
    #[test]
    fn a_wait_is_never_shortened() {
        let table = |_, _: &[u8]| Some(Opinion::throttled_for("slow", Duration::from_secs(60)));
        for (header, expected) in [("5", 60), ("90", 90)] {
            let answer = answer(403, &[("retry-after", header)]);
            let error = classify(&Call::mutate("create"), &answer, "b", table);
            let after = Duration::from_secs(expected);
            assert_eq!(error.verdict(), &Verdict::Throttled { bucket: "b".to_owned(), after });
        }
        let error = classify(
            &Call::mutate("create"),
            &answer(503, &[("retry-after", "9")]),
            "b",
            |_, _| None,
        );
        assert_eq!(error.verdict(), &Verdict::Retry { after: Some(Duration::from_secs(9)) });
    }
}
