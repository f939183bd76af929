//! Options of the storage adapter. Values come in as arguments; nothing here reads the environment.

use std::time::Duration;

use provision_core::SecretRef;

use super::{CALL_TIMEOUT, OBJECT_BYTES_MAX, UPLOAD_WITHIN};
use crate::http::{BaseUrl, BaseUrlError};

/// Where a project's storage is, and with which key it is asked.
#[derive(Debug, Clone)]
pub struct SupabaseStorageConfig {
    pub(crate) base: BaseUrl,
    pub(crate) key: SecretRef,
    pub(crate) account: Option<String>,
    pub(crate) upload_within: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) object_bytes_max: u64,
}

impl SupabaseStorageConfig {
    /// Describes the storage of the project with this id at the real provider, with a reference to
    /// the project's secret (or `service_role`) key.
    ///
    /// # Errors
    /// The id cannot be a part of an address.
    pub fn new(project: &str, key: SecretRef) -> Result<Self, BaseUrlError> {
        if project.is_empty() || !project.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(BaseUrlError::Malformed);
        }
        let address = format!("https://{project}.supabase.co/storage/v1");
        Ok(Self::at(BaseUrl::parse(&address)?, key).with_account(project))
    }

    /// Describes storage at another address, path included, such as a simulator on loopback.
    #[must_use]
    pub fn at(base: BaseUrl, key: SecretRef) -> Self {
        Self {
            base,
            key,
            account: None,
            upload_within: UPLOAD_WITHIN,
            call_timeout: CALL_TIMEOUT,
            object_bytes_max: OBJECT_BYTES_MAX,
        }
    }

    /// Names the project in the ledger and in limits. Default the project's id, or `"default"`.
    ///
    /// Needed where one process works in several projects.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Sets the longest time for one upload. Default 5 min; one that is cut may have been stored,
    /// and is looked up.
    #[must_use]
    pub fn with_upload_within(mut self, time: Duration) -> Self {
        self.upload_within = time;
        self
    }

    /// Sets the size of the largest object that is sent, in bytes. Default 50 MiB. The project and
    /// the bucket have limits of their own.
    #[must_use]
    pub fn with_object_bytes_max(mut self, bytes: u64) -> Self {
        self.object_bytes_max = bytes;
        self
    }

    /// Sets the longest time of one call that carries no object. Default [`super::CALL_TIMEOUT`];
    /// one that carries an object has [`Self::with_upload_within`].
    ///
    /// A call that is cut there may have landed, and is looked up.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }
}
