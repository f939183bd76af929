//! What an answer says about the provider's limits: `Retry-After`, and the remaining-calls headers.

use std::time::Duration;

use provision_core::{Timestamp, limit::Observed};

use super::response::{Headers, Response};

/// Pause after a 429 that does not say how long.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// Calls that are to be back before an allowance that was used up is touched again.
const REFILL_CALLS: u32 = 5;

/// Reset values from this number on are moments (seconds since 1970), smaller ones are durations.
const EPOCH_SECONDS_MIN: u64 = 1_000_000_000;
/// Reset values from this number on are moments in milliseconds since 1970.
const EPOCH_MILLIS_MIN: u64 = 100_000_000_000;

/// Reads `Retry-After` in both of its forms; `now` stands in where the answer has no `Date`.
///
/// A date is compared with the provider's own clock (the `Date` header), so that a skewed clock
/// on either side does not shorten the wait. Never shortened; a date in the past is zero.
#[must_use]
pub fn retry_after(headers: &Headers, now: Timestamp) -> Option<Duration> {
    let value = headers.get("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = Timestamp::from_system(httpdate::parse_http_date(value).ok()?);
    Some(until.since(server_time(headers, now)))
}

/// When an answer was given, by the provider's clock if it says so.
pub(crate) fn server_time(headers: &Headers, now: Timestamp) -> Timestamp {
    headers
        .get("date")
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .map_or(now, Timestamp::from_system)
}

/// How long until the provider's window resets, from `x-ratelimit-reset` or `ratelimit-reset`.
pub(crate) fn resets_in(headers: &Headers, now: Timestamp) -> Option<Duration> {
    let value = headers.get("x-ratelimit-reset").or_else(|| headers.get("ratelimit-reset"))?;
    let number = value.trim().parse::<u64>().ok()?;
    let now = server_time(headers, now);
    Some(if number >= EPOCH_MILLIS_MIN {
        Timestamp::from_millis(number).since(now)
    } else if number >= EPOCH_SECONDS_MIN {
        Timestamp::from_millis(number.saturating_mul(1000)).since(now)
    } else {
        Duration::from_secs(number)
    })
}

/// Calls left in the provider's window.
pub(crate) fn remaining(headers: &Headers) -> Option<u32> {
    let value =
        headers.get("x-ratelimit-remaining").or_else(|| headers.get("ratelimit-remaining"))?;
    value.trim().parse::<u32>().ok()
}

/// How long an allowance that is refilled call by call is left alone once it is used up: a pause
/// for a single call would be used up by the first of those who waited.
pub(crate) const fn refill_pause(every: Duration) -> Duration {
    every.saturating_mul(REFILL_CALLS)
}

/// What the limiter is told about an answer; `refill` says that the provider gives back one call
/// per this time, whatever its headers say of a reset, and `unasked` is the pause after a 429 that
/// says nothing.
pub(crate) fn observed(
    response: &Response,
    refill: Option<Duration>,
    unasked: Duration,
) -> Observed {
    let (headers, now) = (&response.headers, response.at());
    let asked = retry_after(headers, now);
    // The reset of such a provider is when all calls are back; the next one is back much sooner.
    let reset = match refill {
        Some(every) => Some(every),
        None => resets_in(headers, now),
    };
    let left = remaining(headers);
    // Some providers refuse with 403 where others say 429; Retry-After tells the two apart.
    let told_to_wait = response.status == 429 || (response.status == 403 && asked.is_some());
    let exhausted = (left == Some(0)).then_some(reset).flatten();
    let pause = if told_to_wait {
        let refilled = refill.map(refill_pause);
        Some(asked.or(refilled).or(exhausted).unwrap_or(unasked))
    } else {
        exhausted
    };
    Observed {
        pause: pause.filter(|wait| !wait.is_zero()),
        remaining: left.zip(reset),
        healthy: Some(response.status < 500),
        slot_freed: false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use provision_core::Timestamp;

    use super::{RETRY_AFTER_DEFAULT, observed, resets_in, retry_after};
    use crate::http::{Headers, Response};

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01 00:00:00

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    // covers: L4
    #[test]
    fn retry_after_is_read_in_both_forms_against_the_providers_clock() {
        let cases = [
            (vec![("retry-after", "7")], Some(7)),
            (vec![("Retry-After", " 120 ")], Some(120)),
            (vec![("retry-after", "Thu, 01 Jan 2026 00:01:30 GMT")], Some(90)),
            (
                vec![
                    ("retry-after", "Thu, 01 Jan 2026 00:01:30 GMT"),
                    ("date", "Thu, 01 Jan 2026 00:01:00 GMT"),
                ],
                Some(30),
            ),
            (vec![("retry-after", "Wed, 31 Dec 2025 23:59:00 GMT")], Some(0)),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ];
        for (pairs, expected) in cases {
            let got = retry_after(&headers(&pairs), NOW);
            assert_eq!(got, expected.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn a_reset_is_read_as_seconds_epoch_seconds_or_epoch_millis() {
        for value in ["30", "1767225630", "1767225630000"] {
            let got = resets_in(&headers(&[("x-ratelimit-reset", value)]), NOW);
            assert_eq!(got, Some(Duration::from_secs(30)), "{value}");
        }
    }

    // covers: R1-60
    #[test]
    fn an_exhausted_window_pauses_the_bucket_although_the_call_went_through() {
        let pairs = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767225660")];
        let seen =
            observed(&Response::test(200, headers(&pairs), b"", NOW), None, RETRY_AFTER_DEFAULT);
        assert_eq!(seen.pause, Some(Duration::from_secs(60)));
        assert_eq!(seen.healthy, Some(true));
        let unasked =
            |pause| observed(&Response::test(429, Headers::default(), b"", NOW), None, pause);
        assert_eq!(unasked(RETRY_AFTER_DEFAULT).pause, Some(Duration::from_secs(60)));
        assert_eq!(unasked(Duration::from_secs(2)).pause, Some(Duration::from_secs(2)));
    }

    // covers: L4, R2-48
    #[test]
    fn an_allowance_that_is_refilled_is_not_waited_for_until_it_is_full() {
        let every = Duration::from_secs(1);
        let pairs = |left: &'static str| {
            headers(&[("ratelimit-remaining", left), ("ratelimit-reset", "1767229200")])
        };
        let seen = |status, left| {
            let answer = Response::test(status, pairs(left), b"", NOW);
            observed(&answer, Some(every), RETRY_AFTER_DEFAULT)
        };
        // An hour until it is full, and a second until the next call.
        assert_eq!(seen(200, "7").remaining, Some((7, every)));
        assert_eq!((seen(200, "7").pause, seen(200, "0").pause), (None, Some(every)));
        assert_eq!(seen(429, "0").pause, Some(Duration::from_secs(5)));
    }
}
