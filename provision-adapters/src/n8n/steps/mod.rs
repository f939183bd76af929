//! What can be provisioned at an n8n instance, one file each.

use std::time::Duration;

use provision_core::{Candidate, ExternalId, Found, OwnerMark, StepContext, Timestamp};

use super::LISTING_LAG;

pub(crate) mod activation;
pub(crate) mod credential;
pub(crate) mod workflow;

const NAME_PREFIX: &str = "[prov:";

/// What a name of ours ends with. Names are not unique there, so they carry this run's token.
pub(crate) fn name_token(mark: &OwnerMark) -> String {
    format!("{NAME_PREFIX}{}]", mark.token())
}

/// What every name of ours contains.
pub(crate) fn any_name_token() -> &'static str {
    NAME_PREFIX
}

/// Answers for a listing that was filtered by our token.
pub(crate) fn found(mut ours: Vec<(String, Option<Timestamp>)>) -> Found {
    match (ours.pop(), ours.is_empty()) {
        (None, _) => Found::Absent,
        (Some((id, _)), true) => Found::Ours(id.into()),
        (Some(last), false) => {
            ours.push(last);
            let candidate = |(id, created_at): (String, _)| Candidate {
                id: ExternalId::new(id),
                marked: true,
                created_at,
            };
            Found::Many(ours.into_iter().map(candidate).collect())
        }
    }
}

/// Whether polling began so recently that a look may still be behind the create.
pub(crate) fn may_lag(cx: &StepContext) -> bool {
    cx.memory().polling_since.is_none_or(|since| cx.now().since(since) < LISTING_LAG)
}

/// Reads `2026-11-21T09:00:00.000Z`.
pub(crate) fn moment(text: Option<&str>) -> Option<Timestamp> {
    let (date, time) = text?.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let ms = digits.parse::<u64>().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from the civil date, with the year beginning in March so that leap days come last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let since = Duration::from_secs(seconds) + Duration::from_millis(ms);
    Some(Timestamp::ZERO.plus(since))
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_read_as_the_provider_writes_them() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600_000)),
            ("2024-02-29T12:34:56.789Z", Some(1_709_210_096_789)),
            ("2024-02-29 12:34:56Z", None),
            ("soon", None),
            ("0000-00-00T00:00:00Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(moment(Some(text)).map(|t| t.as_millis()), expected, "{text}");
        }
    }
}
