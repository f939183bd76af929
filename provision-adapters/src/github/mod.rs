//! GitHub: repositories from templates, their secrets and variables, and workflow runs.
//!
//! The name of a repository is unique per owner, so a repeated create cannot make a second one;
//! whose it is stands in its description, which the create sets, and in its topics. What lives
//! inside a repository (secrets, variables, runs) has no place for a mark: there the run's own
//! intent, or a key that the workflow shows in its title, stands in for it.
#![doc = include_str!("docs.md")]

#[cfg(feature = "github-app")]
mod app;
mod client;
mod config;
mod error;
mod model;
mod steps;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(feature = "github-app")]
pub use app::AppInstallation;
pub use client::GitHub;
pub use config::{Access, Account, GitHubConfig};
pub use steps::{
    Dispatch, DispatchSpec, DispatchedRun, Event, EventSent, Repo, RepoFromTemplate, RepoSecrets,
    RepoSpec, RepoVariables, SecretsSpec, SendEvent, StopRuns, Values, VariablesSpec, Wait,
};

use std::time::Duration;

/// REST API version that is sent and parsed.
pub const API_VERSION: &str = "2022-11-28";
/// Longest time of one call. GitHub ends its own work on a request after 10 s.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time a request that was cut may still need to take effect.
pub const LATE_WINDOW: Duration = Duration::from_secs(30);
/// How long a new repository may be answered with 404 (the Terraform provider waits as long).
pub const LISTING_LAG: Duration = Duration::from_secs(60);
/// Longest time from the create to the template's content being there.
pub const CONTENT_WITHIN: Duration = Duration::from_secs(180);
/// Longest name of a repository, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Longest description of a repository, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 350;
/// Most topics of a repository.
pub const TOPICS_MAX: usize = 20;
/// Largest value of a secret or variable, in bytes.
pub const VALUE_BYTES_MAX: usize = 48 << 10;
/// Most secrets of a repository.
pub const SECRETS_MAX: usize = 100;
/// Most inputs of a workflow dispatch.
pub const INPUTS_MAX: usize = 25;
/// Most top-level keys in the payload of a repository dispatch.
pub const PAYLOAD_KEYS_MAX: usize = 10;
/// Most pages of a listing; one that does not end before is an error, never a short answer.
pub const PAGES_MAX: u32 = 200;
/// Content-creating calls per hour (repositories, invitations, hooks), the secondary limit that
/// mass provisioning meets first.
pub const CREATES_PER_HOUR: u32 = 500;
/// Calls per hour of a user's token.
pub const CALLS_PER_HOUR: u32 = 5_000;
