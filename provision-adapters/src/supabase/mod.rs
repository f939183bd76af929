//! Supabase: a project whose keys leave the step only after its schema was applied, locked down
//! and verified as the anonymous role.
//!
//! Projects have no labels and their names are not unique, so a project carries its owner mark at
//! the end of its name: that is how one is found again after a lost answer, and how a project of
//! the same name that somebody else made stays untouched.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;

pub use crate::tools::{
    migrations::{MIGRATIONS_MAX, Migration, MigrationError, SQL_BYTES_MAX},
    row_security::{self as verify, Openings},
};
pub use client::Supabase;
pub use config::SupabaseConfig;
pub use steps::{
    project::SupabaseProject,
    spec::{Project, ProjectSpec, SchemaSpec, SpecError},
};

/// Address of the real provider's Management API.
pub const API: &str = "https://api.supabase.com";
/// Region codes the provider's document lists (2026-06-01). It warns that they may change:
/// [`SupabaseConfig::with_regions`] replaces them.
pub const REGIONS: [&str; 18] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-east-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "eu-central-1",
    "eu-central-2",
    "ca-central-1",
    "ap-south-1",
    "sa-east-1",
];
/// Groups of regions, from which the provider picks one with room.
pub const REGION_GROUPS: [&str; 3] = ["americas", "emea", "apac"];
/// Services whose health is waited for after the project says it is up.
pub const SERVICES: [&str; 8] =
    ["auth", "db", "db_postgres_user", "pooler", "realtime", "rest", "storage", "pg_bouncer"];
/// The one of them that serves the Data API: where that is off, it never comes up.
pub const DATA_API_SERVICE: &str = "rest";
/// Sizes of machines (OpenAPI document of 2026-06-01, `desired_instance_size`).
pub const INSTANCE_SIZES: [&str; 19] = [
    "nano",
    "micro",
    "small",
    "medium",
    "large",
    "xlarge",
    "2xlarge",
    "4xlarge",
    "8xlarge",
    "12xlarge",
    "16xlarge",
    "24xlarge",
    "24xlarge_optimized_memory",
    "24xlarge_optimized_cpu",
    "24xlarge_high_memory",
    "48xlarge",
    "48xlarge_optimized_memory",
    "48xlarge_optimized_cpu",
    "48xlarge_high_memory",
];
/// Longest project name the provider takes, in characters, the owner mark included.
pub const PROJECT_NAME_MAX: usize = 256;
/// Longest name of a spec, in characters; the rest is kept for the owner mark.
pub const SPEC_NAME_MAX: usize = 120;
/// Calls per minute for each endpoint of each project or organization.
pub const CALLS_PER_MINUTE: u32 = 120;
/// Calls of that which may come at once.
pub const CALLS_BURST: u32 = 100;
/// Most calls open at a time for one endpoint of one project or organization.
pub const CONCURRENCY: u32 = 8;
/// Time between two looks at a project that is coming up.
pub const POLL: Duration = Duration::from_secs(10);
/// Time between two looks at services or keys that follow the project by seconds.
pub const POLL_SERVICES: Duration = Duration::from_secs(5);
/// Default longest time from creation to readiness. The provider's own Terraform client began
/// with five minutes, which was too short for some.
pub const READY_WITHIN: Duration = Duration::from_secs(600);
/// Longest time a cut create may still need to land.
pub const LATE_WINDOW: Duration = Duration::from_secs(120);
/// How far the listing may lag behind a create; the provider promises nothing here.
pub const LISTING_LAG: Duration = Duration::from_secs(15);
/// Time-out of the call that creates a project.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time-out of one batch of SQL.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// Wait before a project that is not ready for deletion is asked to go again.
pub const DELETE_AGAIN: Duration = Duration::from_secs(15);
/// Items of one page of a listing; the provider refuses more.
pub const PAGE_ITEMS: usize = 100;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: usize = 100;
