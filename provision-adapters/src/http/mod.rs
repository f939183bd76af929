//! The one way by which adapters reach their providers.
//!
//! It differs from an HTTP client of its own in what it refuses: no redirects, no retries, no
//! proxies from the environment, no path that was not built from segments, no answer without a
//! size limit. Waiting, retrying and looking again are the engine's; an adapter calls
//! [`Http::send`] once per provider call and reads what came back.

mod base;
mod classify;
mod config;
mod credential;
#[cfg(feature = "supabase-storage")]
mod file;
mod limit;
#[cfg(any(feature = "tailscale", feature = "github-app"))]
mod minted;
mod moment;
mod request;
mod response;
mod send;
mod stream;

pub use base::{BaseUrl, BaseUrlError};
#[cfg(any(
    feature = "elevenlabs",
    feature = "github",
    feature = "hetzner",
    feature = "supabase-storage",
    feature = "tailscale",
    feature = "vercel"
))]
pub(crate) use classify::not_the_provider;
pub use classify::{Opinion, classify};
pub use config::{ConfigError, HttpConfig};
pub use credential::Credential;
#[cfg(feature = "hetzner")]
pub(crate) use limit::refill_pause;
#[cfg(feature = "github-app")]
pub(crate) use limit::server_time;
pub use limit::{RETRY_AFTER_DEFAULT, retry_after};
#[cfg(any(feature = "tailscale", feature = "github-app"))]
pub(crate) use minted::{Minted, MintedTokens};
pub use moment::{format_rfc3339, parse_rfc3339};
pub use request::{Method, Request};
pub use response::{Headers, Response};
pub use send::Http;
pub use stream::AnswerSink;
