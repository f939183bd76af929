//! Vercel: a project linked to a repository, its variables, a deployment that answers, a domain.
//!
//! A project gets its owner mark as a development-only variable in the very call that creates it;
//! variables carry it as their comment, deployments in their `meta`. The order "variables before
//! the first deployment" is enforced by data: a [`DeploymentSpec`] can only be built from an
//! [`EnvApplied`], the output of [`VercelEnv`].
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;

pub use client::Vercel;
pub use config::VercelConfig;
pub use steps::{
    deployment::{Deployed, DeploymentSpec, DeploymentTarget, GitSource, Probe, VercelDeployment},
    domain::{DomainSpec, DomainVerified, VercelDomain},
    env::{EnvApplied, EnvKind, EnvSpec, EnvTarget, EnvValue, EnvVar, VercelEnv},
    project::{SiteProject, SiteSpec, VercelProject},
};

/// Address of the real provider.
pub const API: &str = "https://api.vercel.com";
/// Longest project name the provider takes, in characters.
pub const PROJECT_NAME_MAX: usize = 100;
/// Longest build the provider allows.
pub const BUILD_TIME_MAX: Duration = Duration::from_secs(45 * 60);
/// Longest time from a deployment's creation to its answer: one build before it in the queue of
/// a plan with one build at a time, and its own.
pub const DEPLOYMENT_READY_WITHIN: Duration = Duration::from_secs(2 * 45 * 60);
/// Time between two looks at a deployment, as the provider's own Terraform client has it.
pub const DEPLOYMENT_POLL: Duration = Duration::from_secs(5);
/// Most variables one call may carry here; the provider does not document a number.
pub const VARIABLES_MAX: usize = 100;
/// Items of one page of a listing.
pub const PAGE_ITEMS: u32 = 100;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: usize = 500;
/// Most calls open at the same time for one account. The provider documents no rate per account,
/// only limits per endpoint that its answers announce.
pub const CONCURRENCY: u32 = 8;
/// Default time a deployed app may answer wrongly after its alias was assigned.
pub const PROBE_GRACE: Duration = Duration::from_secs(30);
/// How far a look-up may lag behind a change; the provider promises nothing here.
pub const LISTING_LAG: Duration = Duration::from_secs(5);
/// Name of the variable that carries the owner mark of a project. Development only, so it never
/// reaches a deployment, and a team's policy "production values must be sensitive" lets it pass.
pub const OWNER_VARIABLE: &str = "PROVISION_OWNER";
