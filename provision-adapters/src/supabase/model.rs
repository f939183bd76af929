//! Wire types of the Management API: only the fields that are used.

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

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn a_status_nobody_knows_is_waited_out() {
        let read = |text: &str| serde_json::from_str::<Status>(text).unwrap();
        assert_eq!(read("\"UNKNOWN\""), Status::Unknown);
        assert_eq!(read("\"WARMING\""), Status::Unknown);
        assert_eq!(read("\"INIT_FAILED\""), Status::InitFailed);
        assert_eq!(read("\"ACTIVE_HEALTHY\""), Status::ActiveHealthy);
    }
}
