//! RFC 3339 moments as providers print them, without a calendar library.

use provision_core::Timestamp;

const DAY_MS: u64 = 86_400_000;

/// Reads `2026-01-31T08:15:30Z`, with or without a fraction; only UTC (`Z` or `+00:00`).
///
/// `None` for anything else, and for years outside 1970 to 9999.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.strip_suffix(['Z', 'z']).or_else(|| time.strip_suffix("+00:00"))?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut whole = whole.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (whole.next()??, whole.next()??, whole.next()??);
    let sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sane || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let ms = digits.parse::<u64>().ok()?;
    let seconds = hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_millis(days_since_1970(year, month, day) * DAY_MS + seconds * 1_000 + ms))
}

/// Prints a moment as `2026-01-31T08:15:30Z`, cut to whole seconds.
#[must_use]
pub fn format_rfc3339(at: Timestamp) -> String {
    let (days, rest) = (at.as_millis() / DAY_MS, at.as_millis() % DAY_MS / 1_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days from 1970-01-01, counted in years that begin in March (H. Hinnant, "chrono-compatible
/// low-level date algorithms").
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + of_era).saturating_sub(719_468)
}

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use provision_core::Timestamp;

    use super::{format_rfc3339, parse_rfc3339};

    #[test]
    fn moments_are_read_and_printed_alike() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:01Z", 951_825_601_000),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2100-03-01T23:59:59Z", 4_107_628_799_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_rfc3339(text), Some(Timestamp::from_millis(ms)), "{text}");
            assert_eq!(format_rfc3339(Timestamp::from_millis(ms)), text);
        }
        for day in 0..60_000_u64 {
            let at = Timestamp::from_millis(day * 86_400_000);
            assert_eq!(parse_rfc3339(&format_rfc3339(at)), Some(at));
        }
    }

    #[test]
    fn fractions_are_kept_to_the_millisecond_and_nonsense_is_refused() {
        let base = 1_767_225_600_000;
        let read = |text| parse_rfc3339(text).map(Timestamp::as_millis);
        assert_eq!(read("2026-01-01T00:00:00.25Z"), Some(base + 250));
        assert_eq!(read("2026-01-01T00:00:00.123456+00:00"), Some(base + 123));
        for text in ["", "now", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+02:00"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
