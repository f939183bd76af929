//! Options of the n8n adapter.

use std::time::Duration;

use provision_core::SecretRef;

use crate::http::BaseUrl;

/// Where an n8n instance is, and with which key it is asked.
#[derive(Debug, Clone)]
pub struct N8nConfig {
    pub(crate) base: BaseUrl,
    pub(crate) webhooks: BaseUrl,
    pub(crate) key: SecretRef,
    pub(crate) account: Option<String>,
    pub(crate) call_timeout: Option<Duration>,
}

impl N8nConfig {
    /// Describes an instance by its root, such as `https://n8n.example.com`, without `/api/v1`.
    #[must_use]
    pub fn new(base: BaseUrl, key: SecretRef) -> Self {
        Self { webhooks: base.clone(), base, key, account: None, call_timeout: None }
    }

    /// Sets the root that webhooks are reached at, without `/webhook`, where the instance runs
    /// with another `WEBHOOK_URL`. Default: the root of the instance.
    #[must_use]
    pub fn with_webhook_base(mut self, base: BaseUrl) -> Self {
        self.webhooks = base;
        self
    }

    /// Names the instance in the ledger and in limits. Default `"default"`.
    ///
    /// Needed where one process works with several instances.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
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
