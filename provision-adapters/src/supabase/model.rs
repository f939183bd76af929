//! Wire types of the Management API: only the fields that are used.

use provision_core::Timestamp;
use serde::Deserialize;

/// Where a project is in its life. An unknown word is waited out like [`Self::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Status {
    Inactive,
    ActiveHealthy,
    ActiveUnhealthy,
    ComingUp,
    GoingDown,
    InitFailed,
    Removed,
    Restoring,
    Upgrading,
    Pausing,
    RestoreFailed,
    Restarting,
    PauseFailed,
    Resizing,
    // What a create answers: the provider does not know yet.
    #[serde(other)]
    Unknown,
}

/// A project as create, get and the listing of one organization show it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProjectShown {
    #[serde(rename = "ref")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) is_branch: bool,
    #[serde(default, alias = "inserted_at")]
    pub(crate) created_at: Option<String>,
    #[serde(default)]
    pub(crate) database: Option<DatabaseShown>,
}

/// The database of a project.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DatabaseShown {
    pub(crate) host: String,
}

/// One page of an organization's projects.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProjectsPage {
    pub(crate) projects: Vec<ProjectShown>,
    pub(crate) pagination: Pagination,
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Pagination {
    pub(crate) count: usize,
}

/// Health of one service.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServiceHealth {
    pub(crate) name: String,
    pub(crate) status: ServiceStatus,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// What a service says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ServiceStatus {
    ActiveHealthy,
    Unhealthy,
    #[serde(other)]
    ComingUp,
}

/// One API key. Holds a secret: it has no `Debug`.
#[derive(Clone, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) api_key: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) secret_jwt_template: Option<JwtTemplate>,
}

/// What a secret key's tokens say.
#[derive(Clone, Deserialize)]
pub(crate) struct JwtTemplate {
    #[serde(default)]
    pub(crate) role: Option<String>,
}

/// Regions with room for an organization.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RegionsShown {
    pub(crate) all: AllRegions,
}

/// All of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AllRegions {
    pub(crate) specific: Vec<RegionShown>,
}

/// One region.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RegionShown {
    pub(crate) code: String,
    /// `capacity` marks a full one.
    #[serde(default)]
    pub(crate) status: Option<String>,
}

/// An error's body.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) message: Message,
}

/// One line, or one per field.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Message {
    One(String),
    Many(Vec<String>),
}

/// Reads a moment such as `2026-05-01T10:00:00.123Z` or `2026-05-01T10:00:00+00:00`.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970, counting years from March so that a leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).checked_sub(719_469)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let rest = text.get(19..)?;
    let (millis, zone) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            let digits: String =
                fraction.get(..end)?.chars().chain("000".chars()).take(3).collect();
            (digits.parse::<u64>().ok()?, fraction.get(end..)?)
        }
        None => (0, rest),
    };
    matches!(zone, "" | "Z" | "+00" | "+00:00")
        .then(|| Timestamp::from_millis(seconds * 1000 + millis))
}

#[cfg(test)]
mod tests {
    use super::{Status, moment};

    #[test]
    fn moments_are_read_in_the_providers_forms() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-01T00:00:00.000Z", Some(1_767_225_600_000)),
            ("2024-02-29T12:00:00.5+00:00", Some(1_709_208_000_500)),
            ("2024-03-01T00:00:00.123456Z", Some(1_709_251_200_123)),
            ("2024-13-01T00:00:00Z", None),
            ("2024-03-01T00:00:00+02:00", None),
            ("soon", None),
        ] {
            assert_eq!(moment(text).map(|at| at.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn a_status_nobody_knows_is_waited_out() {
        let read = |text: &str| serde_json::from_str::<Status>(text).unwrap();
        assert_eq!(read("\"UNKNOWN\""), Status::Unknown);
        assert_eq!(read("\"WARMING\""), Status::Unknown);
        assert_eq!(read("\"INIT_FAILED\""), Status::InitFailed);
        assert_eq!(read("\"ACTIVE_HEALTHY\""), Status::ActiveHealthy);
    }
}
