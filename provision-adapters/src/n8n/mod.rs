//! n8n: workflows made from versioned templates, their credentials, and their activation.
//!
//! Names are not unique at n8n and nothing there takes labels, so a workflow carries the token of
//! its owner mark in its name and the whole mark in the notes of a node. Creating and activating
//! are two resources: a crash between them cannot make a second workflow.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;

pub use client::N8n;
pub use config::N8nConfig;
pub use steps::{
    activation::{Activated, ActivationSpec, WorkflowActivation},
    credential::{Credential, CredentialMade, CredentialSpec, CredentialValue},
    template::{Node, Template, TemplateError},
    upgrade::{UpgradeSpec, WorkflowUpgrade},
    workflow::{Webhook, Workflow, WorkflowMade, WorkflowSpec},
};

/// Longest name of a workflow or credential, in characters.
pub const NAME_MAX: usize = 128;
/// Items of one page of a listing; the provider refuses more than 250.
pub const PAGE_ITEMS: u32 = 250;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: usize = 400;
/// Most calls open at the same time for one instance; n8n has no limits of its own.
pub const CONCURRENCY: u32 = 8;
/// How far look-ups may lag: none at n8n itself, a little behind a caching proxy.
pub const LISTING_LAG: Duration = Duration::from_secs(2);
/// Most nodes of a template.
pub const NODES_MAX: usize = 200;
