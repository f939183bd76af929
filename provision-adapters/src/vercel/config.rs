//! Options of the Vercel adapter. Values come in as arguments; nothing here reads the environment.

use std::time::Duration;

use provision_core::SecretRef;

use crate::http::{BaseUrl, ConfigError};

/// Where Vercel is, and on whose behalf it is asked.
#[derive(Debug, Clone)]
pub struct VercelConfig {
    pub(crate) base: BaseUrl,
    pub(crate) token: SecretRef,
    pub(crate) team: Option<String>,
    account: Option<String>,
    pub(crate) edge: Option<BaseUrl>,
    pub(crate) probe_grace: Duration,
    pub(crate) call_timeout: Option<Duration>,
}

impl VercelConfig {
    /// Describes the real provider at `https://api.vercel.com`, with a reference to its token.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(token: SecretRef) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(super::API)?, token))
    }

    /// Describes a provider at another address, such as a simulator on loopback.
    #[must_use]
    pub fn at(base: BaseUrl, token: SecretRef) -> Self {
        Self {
            base,
            token,
            team: None,
            account: None,
            edge: None,
            probe_grace: super::PROBE_GRACE,
            call_timeout: None,
        }
    }

    /// Works in a team (`team_..`). Default: the token's own scope.
    ///
    /// Without it a resource of the team is "not found", or made in the wrong place.
    #[must_use]
    pub fn with_team(mut self, team: impl Into<String>) -> Self {
        self.team = Some(team.into());
        self
    }

    /// Names the account in the ledger and in limits. Default: the team, else `"default"`.
    ///
    /// Needed where one process works for several accounts without a team.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    pub(crate) fn account(&self) -> Option<&str> {
        self.account.as_deref().or(self.team.as_deref())
    }

    /// Sends the probes of deployed apps to this address, with the app's name as `Host` header.
    /// Default: the app's own address, over HTTPS.
    #[must_use]
    pub fn with_edge(mut self, edge: BaseUrl) -> Self {
        self.edge = Some(edge);
        self
    }

    /// How long a deployed app may answer wrongly after its alias was assigned. Default 30 s.
    ///
    /// Edges learn of an alias a little later; after this time a wrong answer fails the step.
    #[must_use]
    pub fn with_probe_grace(mut self, grace: Duration) -> Self {
        self.probe_grace = grace;
        self
    }

    /// Sets the longest time of one call, for every call. Default: 30 s for one that looks,
    /// 60 s for one that changes something.
    ///
    /// A call that is cut there may have landed, and is looked up.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }
}
