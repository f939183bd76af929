//! Options of the Supabase adapter. Values come in as arguments; nothing here reads the
//! environment.

use std::time::Duration;

use provision_core::{Cost, SecretRef};

use super::{API, READY_WITHIN, REGIONS};
use crate::http::{BaseUrl, ConfigError};

/// Where Supabase is, and for which organization it is asked.
#[derive(Debug, Clone)]
pub struct SupabaseConfig {
    pub(crate) base: BaseUrl,
    pub(crate) token: SecretRef,
    pub(crate) organization: String,
    pub(crate) project_url: String,
    pub(crate) regions: Vec<String>,
    pub(crate) ready_within: Duration,
    pub(crate) cost: Option<Cost>,
    pub(crate) call_timeout: Option<Duration>,
}

impl SupabaseConfig {
    /// Describes the real provider at `https://api.supabase.com`, with a reference to a token and
    /// the slug of the organization that owns the projects.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(token: SecretRef, organization: impl Into<String>) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(API)?, token, organization))
    }

    /// Describes a provider at another address, such as a simulator on loopback.
    ///
    /// Projects are then reached below that address, at `/p/<ref>`, unless
    /// [`Self::with_project_url`] says otherwise.
    #[must_use]
    pub fn at(base: BaseUrl, token: SecretRef, organization: impl Into<String>) -> Self {
        let project_url = match base.as_str() == API {
            true => "https://{ref}.supabase.co".to_owned(),
            false => format!("{}/p/{{ref}}", base.as_str()),
        };
        Self {
            base,
            token,
            organization: organization.into(),
            project_url,
            regions: REGIONS.iter().map(|&region| region.to_owned()).collect(),
            ready_within: READY_WITHIN,
            cost: None,
            call_timeout: None,
        }
    }

    /// Sets the address of a project, with `{ref}` where its id goes. Default
    /// `https://{ref}.supabase.co`.
    #[must_use]
    pub fn with_project_url(mut self, template: impl Into<String>) -> Self {
        self.project_url = template.into();
        self
    }

    /// Replaces the list of regions that are accepted. Default [`REGIONS`]; the groups
    /// [`super::REGION_GROUPS`] are always accepted.
    #[must_use]
    pub fn with_regions(mut self, regions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.regions = regions.into_iter().map(Into::into).collect();
        self
    }

    /// Longest time from creation to readiness. Default 10 min.
    #[must_use]
    pub fn with_ready_within(mut self, time: Duration) -> Self {
        self.ready_within = time;
        self
    }

    /// What one project costs, for ledger and plan. Default: not said.
    #[must_use]
    pub fn with_cost(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Sets the longest time of one call, for every call. Default: 30 s, but
    /// [`super::CREATE_TIMEOUT`] to make a project and [`super::QUERY_TIMEOUT`] for SQL.
    ///
    /// A call that is cut there may have landed, and is looked up.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }
}
