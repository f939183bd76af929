//! The `Retry-After` header: seconds or a date.
//!
//! Source: RFC 9110, section 10.2.3.

use std::time::{Duration, SystemTime};

/// How long to wait after a 429 that does not say: 60 s.
pub const THROTTLED_WITHOUT_HINT: Duration = Duration::from_mins(1);

/// Longest wait that is read out of a header: 24 h. Whoever asks for more has made a mistake, and
/// a day is beyond every default budget, so the series ends all the same.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Reads a `Retry-After` header; `None` for what is neither seconds nor a date.
///
/// A date in the past means "now". Parts of a second are rounded up, so that the wait is never
/// shorter than what was asked. Values above [`LONGEST_RETRY_AFTER`] become that.
#[must_use]
pub fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let text = header.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that overflow are a huge number, not nonsense.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else if let Some((whole, parts)) = text.split_once('.') {
        fraction(whole, parts)?
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// `1.5`, which the RFC does not know and some providers send: rounded up to whole seconds.
fn fraction(whole: &str, parts: &str) -> Option<Duration> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(parts) {
        return None;
    }
    let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
    let more = u64::from(parts.bytes().any(|b| b != b'0'));
    Some(Duration::from_secs(seconds.saturating_add(more)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use super::{LONGEST_RETRY_AFTER, retry_after};

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn check(header: &str, expected: Option<u64>) {
        assert_eq!(retry_after(header, now()), expected.map(Duration::from_secs), "{header:?}");
    }

    // covers: R3-43, L4
    #[test]
    fn both_forms_past_dates_nonsense_and_huge_values_are_read() {
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("0", Some(0));
        check("1.5", Some(2));
        check("2.000", Some(2));
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sunday, 06-Nov-94 08:50:37 GMT", Some(60));
        check("Sun Nov  6 08:50:37 1994", Some(60));
        check("Sun, 06 Nov 1994 08:48:37 GMT", Some(0));
        for nonsense in ["", "soon", "-5", "+5", "1e3", "0x10", "1.", ".5", "1.2.3", "١٢"] {
            check(nonsense, None);
        }
        check("86401", Some(86_400));
        check("99999999999999999999999999", Some(86_400));
        check("99999999999999999999999999.5", Some(86_400));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400));
    }

    #[test]
    fn a_date_is_never_read_shorter_than_it_is() {
        let half = now() + Duration::from_millis(500);
        let wait = retry_after("Sun, 06 Nov 1994 08:49:39 GMT", half);
        assert_eq!(wait, Some(Duration::from_millis(1_500)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text_is_read_without_passing_the_limit(header in any::<String>()) {
            let wait = retry_after(&header, now());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
        }
    }
}
