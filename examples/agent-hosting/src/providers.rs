//! What a saga works through: the providers, and the machines themselves.

use std::time::Duration;

use provision_adapters::{
    hetzner::Hetzner,
    http::{BaseUrl, ConfigError, Http, HttpConfig},
    resend::Resend,
    tailscale::Tailscale,
};
use provision_core::limit::Profile;

use crate::workflow::Workflows;

/// Clients of the providers. Tokens are not in here: each call asks the engine's resolver.
#[derive(Debug, Clone)]
pub struct Providers {
    /// Machines, keys and firewalls.
    pub hetzner: Hetzner,
    /// The network that machines join.
    pub tailscale: Tailscale,
    /// Mails.
    pub resend: Resend,
    /// Who is told of failures, of agents that do not answer, and of what a sweep finds.
    pub alerts_to: String,
    /// How long after its first attempt a mail is tried again, and how long after a late one.
    pub mail_again: (Duration, Duration),
    /// The workflow that makes machines, where it is to.
    pub workflows: Workflows,
    /// The agents on the machines.
    pub agents: Http,
    /// How long a machine may take from its first boot until it has joined.
    pub join_within: Duration,
    /// How often an agent that does not answer yet is asked again.
    pub ask_every: Duration,
}

/// Names under which tokens are resolved.
pub mod token {
    /// Hetzner Cloud: of one project, for reading and writing.
    pub const HETZNER: &str = "HCLOUD_TOKEN";
    /// Tailscale: the secret of an OAuth client.
    pub const TAILSCALE: &str = "TAILSCALE_CLIENT_SECRET";
    /// GitHub: for the secrets and the runs of the repository with the workflow.
    pub const GITHUB: &str = "GITHUB_TOKEN";
    /// Resend: for sending.
    pub const RESEND: &str = "RESEND_API_KEY";
}

/// A client that asks agents over the tailnet. They answer to everybody in it, without a token.
///
/// # Errors
/// The base cannot be used.
pub fn agents(base: BaseUrl) -> Result<Http, ConfigError> {
    let bucket = Profile { bucket: "agents".to_owned(), rate: None, concurrency: None };
    let config = HttpConfig::new("agents", base, bucket);
    Http::new(config.with_connect_timeout(Duration::from_secs(2)))
}
