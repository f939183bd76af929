//! Options of the adapter.

use std::time::Duration;

use provision_core::{
    SecretRef,
    limit::{Profile, Rate},
};

use super::{CALLS_PER_HOUR, CREATES_PER_HOUR};
use crate::http::{BaseUrl, ConfigError, HttpConfig};

/// Whose repositories are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// An organization, by its login.
    Organization(String),
    /// The user the token belongs to, by their login.
    User(String),
}

impl Account {
    /// The login.
    #[must_use]
    pub fn login(&self) -> &str {
        match self {
            Self::Organization(login) | Self::User(login) => login,
        }
    }
}

/// As whom GitHub is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Access {
    /// With a personal access token, resolved at each call and never stored. Needs `repo` and
    /// `delete_repo`, and `workflow` where templates hold workflows (classic), or Administration,
    /// Contents, Secrets, Variables and Actions read and write (fine-grained).
    Token(SecretRef),
    /// As an installation of a GitHub App, with the same permissions as a fine-grained token.
    /// Cannot make repositories of a user.
    #[cfg(feature = "github-app")]
    App(super::AppInstallation),
}

/// How GitHub is reached, and as whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GitHubConfig {
    /// Whose repositories are made.
    pub account: Account,
    /// As whom GitHub is asked.
    pub access: Access,
    /// Root of the API. Default `https://api.github.com`; Enterprise Server: `https://HOST/api/v3`.
    pub base: Option<BaseUrl>,
    /// Largest answer that is read, in bytes. Default 8 MiB.
    pub body_bytes_max: usize,
    /// Longest time to open a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time of one call. Default [`super::CALL_TIMEOUT`].
    pub call_timeout: Duration,
}

impl GitHubConfig {
    /// Describes an account at github.com and the token it is used with.
    #[must_use]
    pub fn new(account: Account, token: SecretRef) -> Self {
        Self::of(account, Access::Token(token))
    }

    /// Describes an account at github.com and the installation of a GitHub App it is used as.
    #[cfg(feature = "github-app")]
    #[must_use]
    pub fn of_app(account: Account, installation: super::AppInstallation) -> Self {
        Self::of(account, Access::App(installation))
    }

    fn of(account: Account, access: Access) -> Self {
        Self {
            account,
            access,
            base: None,
            body_bytes_max: 8 << 20,
            connect_timeout: Duration::from_secs(10),
            call_timeout: super::CALL_TIMEOUT,
        }
    }

    /// Reaches another installation, or a simulator.
    #[must_use]
    pub fn with_base(mut self, base: BaseUrl) -> Self {
        self.base = Some(base);
        self
    }

    /// Sets the largest answer that is read, in bytes.
    #[must_use]
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Sets the longest time to open a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest time of one call.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    pub(super) fn http(&self) -> Result<HttpConfig, ConfigError> {
        if self.account.login().is_empty() {
            return Err(ConfigError::Option { option: "account", reason: "the login is empty" });
        }
        let base = match &self.base {
            Some(base) => base.clone(),
            None => BaseUrl::parse("https://api.github.com")?,
        };
        let bucket = profile(format!("github/{}", self.account.login()), CALLS_PER_HOUR, 1_000, 80);
        Ok(HttpConfig::new("github", base, bucket)
            .with_body_bytes_max(self.body_bytes_max)
            .with_connect_timeout(self.connect_timeout))
    }

    /// The bucket of calls that create content, which GitHub limits much further.
    pub(super) fn creates(&self) -> Profile {
        profile(format!("github/{}/creates", self.account.login()), CREATES_PER_HOUR, 60, 10)
    }
}

/// What comes at once and what an hour earns are together what an hour allows. Open calls of both
/// buckets stay together below the documented 100.
fn profile(bucket: String, per_hour: u32, burst: u32, open: u32) -> Profile {
    let calls = per_hour.saturating_sub(burst);
    let rate = Rate { calls, per: Duration::from_secs(3_600), burst };
    Profile { bucket, rate: Some(rate), concurrency: Some(open.into()) }
}
