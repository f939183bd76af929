//! What Terraform writes with `-json`: only what is used.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Answer of `version -json`.
#[derive(Deserialize)]
pub(crate) struct Versions {
    pub(crate) terraform_version: String,
    /// Source address and release of every plug-in that the module's lock file names.
    #[serde(default)]
    pub(crate) provider_selections: BTreeMap<String, String>,
}

/// One line of a command's output.
#[derive(Deserialize)]
pub(crate) struct Line {
    pub(crate) diagnostic: Option<Diagnostic>,
}

/// What went wrong, as Terraform or a plug-in says it. May hold anything.
#[derive(Deserialize)]
pub(crate) struct Diagnostic {
    #[serde(default)]
    pub(crate) severity: String,
    #[serde(default)]
    pub(crate) summary: String,
    #[serde(default)]
    pub(crate) detail: String,
    pub(crate) address: Option<String>,
}

/// One output of a module.
#[derive(Deserialize)]
pub(crate) struct Output {
    #[serde(default)]
    pub(crate) sensitive: bool,
    #[serde(default)]
    pub(crate) value: Value,
}
