//! Options of the Hetzner adapter. Values come in as arguments; nothing here reads the environment.

use std::time::Duration;

use provision_core::SecretRef;

use crate::http::{BaseUrl, ConfigError};

/// Where Hetzner Cloud is, and with which token it is asked.
#[derive(Debug, Clone)]
pub struct HetznerConfig {
    pub(crate) base: BaseUrl,
    pub(crate) token: SecretRef,
    pub(crate) project: Option<String>,
    pub(crate) call_timeout: Option<Duration>,
}

impl HetznerConfig {
    /// Describes the real provider at `https://api.hetzner.cloud`, with a reference to its token.
    ///
    /// A token belongs to one project and must be allowed to read and write.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(token: SecretRef) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(super::API)?, token))
    }

    /// Describes a provider at another address, such as a simulator on loopback, without `/v1`.
    #[must_use]
    pub fn at(base: BaseUrl, token: SecretRef) -> Self {
        Self { base, token, project: None, call_timeout: None }
    }

    /// Names the project in the ledger and in limits. Default `"default"`.
    ///
    /// Needed where one process works with several projects: names are unique and calls are
    /// counted per project, whatever token they come with.
    #[must_use]
    pub fn with_project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Sets the longest time of one call, for every call. Default: 30 s.
    ///
    /// A call that is cut there may have landed, and is looked up.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }
}
