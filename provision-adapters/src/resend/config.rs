//! Options of the Resend adapter. Values come in as arguments; nothing here reads the environment.

use std::time::Duration;

use provision_core::SecretRef;

use super::CALLS_PER_SECOND;
use crate::http::{BaseUrl, ConfigError};

/// Where Resend is, and with which key it is asked.
#[derive(Debug, Clone)]
pub struct ResendConfig {
    pub(crate) base: BaseUrl,
    pub(crate) key: SecretRef,
    pub(crate) account: Option<String>,
    pub(crate) calls_per_second: u32,
    pub(crate) call_timeout: Option<Duration>,
}

impl ResendConfig {
    /// Describes the real provider, with a reference to its API key; one that may only send is
    /// enough.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(key: SecretRef) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(super::API)?, key))
    }

    /// Describes a provider at another address, such as a simulator on loopback.
    #[must_use]
    pub fn at(base: BaseUrl, key: SecretRef) -> Self {
        Self { base, key, account: None, calls_per_second: CALLS_PER_SECOND, call_timeout: None }
    }

    /// Names the account in limits. Default `"default"`.
    ///
    /// Needed where one process works with several accounts: limits are per account, not per key.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Sets the calls per second that the account is allowed; at least 1. Default
    /// [`CALLS_PER_SECOND`].
    #[must_use]
    pub fn with_calls_per_second(mut self, calls: u32) -> Self {
        self.calls_per_second = calls.max(1);
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
