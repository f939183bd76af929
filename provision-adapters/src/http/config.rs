//! Options of the plumbing, per provider.

use std::time::Duration;

use provision_core::limit::Profile;

use super::base::{BaseUrl, BaseUrlError};

/// How a provider is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Root of the provider's API.
    pub base: BaseUrl,
    /// Short name of the provider, such as `"github"`.
    pub provider: &'static str,
    /// Bucket all calls count against, unless a call names another.
    pub bucket: Profile,
    /// Longest time to open a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time between two pieces of an answer. Default 30 s.
    pub idle_timeout: Duration,
    /// Longest time of one call, whatever the call itself says. Default none: what the call says.
    pub call_timeout: Option<Duration>,
    /// Largest body of an answer that is read, in bytes. Default 8 MiB.
    pub body_bytes_max: usize,
    /// Time in which the provider gives back one call of an allowance that is refilled call by
    /// call. Default none: its headers announce a window, and when that ends.
    pub refill: Option<Duration>,
    /// Pause after a 429 that does not say how long. Default 60 s.
    pub unasked_pause: Duration,
    /// Value of the `User-Agent` header. Default `provision/<version>`.
    pub user_agent: String,
}

impl HttpConfig {
    /// Describes a provider at `base`, with the defaults of every other option.
    #[must_use]
    pub fn new(provider: &'static str, base: BaseUrl, bucket: Profile) -> Self {
        Self {
            base,
            provider,
            bucket,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            call_timeout: None,
            body_bytes_max: 8 << 20,
            refill: None,
            unasked_pause: super::RETRY_AFTER_DEFAULT,
            user_agent: concat!("provision/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Sets the longest time to open a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest time between two pieces of an answer.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets the longest time of one call, in place of what each call says; `None` leaves it to them.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the largest body that is read, in bytes.
    #[must_use]
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Says that one call is given back per this time, and that the announced reset is when all
    /// of them are back.
    #[must_use]
    pub fn with_refill(mut self, every: Duration) -> Self {
        self.refill = Some(every);
        self
    }

    /// Sets the pause after a 429 that does not say how long.
    #[must_use]
    pub fn with_unasked_pause(mut self, pause: Duration) -> Self {
        self.unasked_pause = pause;
        self
    }

    /// Sets the `User-Agent`.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }
}

/// Why an adapter could not be built from its options.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The base URL cannot be used.
    #[error("base url: {0}")]
    Base(#[from] BaseUrlError),
    /// The base is HTTPS, and the crate was built without its feature `live`.
    #[error("https needs the crate's feature `live`")]
    TlsMissing,
    /// The HTTP client could not be set up.
    #[error("the http client could not be set up")]
    Client,
    /// Another option has a value that cannot be used.
    #[error("option `{option}`: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}
