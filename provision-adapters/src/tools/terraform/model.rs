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
    /// Of what was planned, or of what was done.
    pub(crate) changes: Option<Changes>,
}

/// A sum of changes.
#[derive(Deserialize)]
pub(crate) struct Changes {
    #[serde(default)]
    pub(crate) operation: String,
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

/// What `init` writes down.
#[derive(Deserialize)]
pub(crate) struct Chosen {
    pub(crate) backend: Option<Backend>,
}

/// A backend with its settings.
#[derive(Deserialize)]
pub(crate) struct Backend {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: BTreeMap<String, Value>,
}

impl Backend {
    /// Whether its states are not in the folder that Terraform runs in.
    pub(crate) fn outlives_the_folder(&self) -> bool {
        let folder = self.config.get("workspace_dir").and_then(Value::as_str);
        self.kind != "local" || folder.is_some_and(|folder| folder.starts_with('/'))
    }
}
