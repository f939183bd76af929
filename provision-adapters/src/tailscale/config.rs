//! Options of the Tailscale adapter. Values come in as arguments; nothing here reads the
//! environment.

use std::time::Duration;

use provision_core::SecretRef;

use crate::http::{BaseUrl, ConfigError};

/// Where Tailscale is, and which OAuth client asks it.
#[derive(Debug, Clone)]
pub struct TailscaleConfig {
    pub(crate) base: BaseUrl,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretRef,
    pub(crate) tailnet: String,
    pub(crate) call_timeout: Option<Duration>,
    account: Option<String>,
}

impl TailscaleConfig {
    /// Describes the real provider at `https://api.tailscale.com`, with an OAuth client and a
    /// reference to its secret.
    ///
    /// The client needs the scopes `auth_keys` and `devices:core`, and the tags of the keys that
    /// it is to mint, or tags that own them.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(
        client_id: impl Into<String>,
        client_secret: SecretRef,
    ) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(super::API)?, client_id, client_secret))
    }

    /// Describes a provider at another address, such as a simulator on loopback.
    #[must_use]
    pub fn at(base: BaseUrl, client_id: impl Into<String>, client_secret: SecretRef) -> Self {
        Self {
            base,
            client_id: client_id.into(),
            client_secret,
            tailnet: super::OWN_TAILNET.to_owned(),
            account: None,
            call_timeout: None,
        }
    }

    /// Names the tailnet. Default: the one that the client belongs to.
    #[must_use]
    pub fn with_tailnet(mut self, tailnet: impl Into<String>) -> Self {
        self.tailnet = tailnet.into();
        self
    }

    /// Names the account in the ledger and in limits. Default: the tailnet where one is named,
    /// else `"default"`.
    ///
    /// Needed where one process works for several tailnets.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    pub(crate) fn account(&self) -> Option<&str> {
        let named = (self.tailnet != super::OWN_TAILNET).then_some(self.tailnet.as_str());
        self.account.as_deref().or(named)
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
