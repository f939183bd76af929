//! Wire types: only the fields we use. Unknown ones are tolerated, and `temp_clone_token`, which
//! a private repository may carry, is never read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A repository, in any of its three shapes (full, listed, minimal).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RepoBody {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) full_name: String,
    pub(crate) html_url: String,
    /// Only in the full shape.
    #[serde(default)]
    pub(crate) clone_url: Option<String>,
    pub(crate) private: bool,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) default_branch: Option<String>,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    #[serde(default)]
    pub(crate) is_template: bool,
}

/// Body of `generate`.
#[derive(Debug, Serialize)]
pub(crate) struct Generate<'a> {
    pub(crate) owner: &'a str,
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) include_all_branches: bool,
    // Always sent: the default is a public repository.
    pub(crate) private: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Login {
    pub(crate) login: String,
}

/// What the token's user is in an organization; both are open sets.
#[derive(Debug, Deserialize)]
pub(crate) struct Membership {
    pub(crate) state: String,
    pub(crate) role: String,
    pub(crate) organization: Login,
}

/// An installation of an App, as the App sees it.
#[cfg(feature = "github-app")]
#[derive(Debug, Deserialize)]
pub(crate) struct Installation {
    /// Where it is installed; an enterprise has no login.
    pub(crate) account: Option<InstalledAt>,
    /// `all`, or `selected`.
    pub(crate) repository_selection: String,
    #[serde(default)]
    pub(crate) suspended_at: Option<String>,
}

#[cfg(feature = "github-app")]
#[derive(Debug, Deserialize)]
pub(crate) struct InstalledAt {
    #[serde(default)]
    pub(crate) login: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Topics {
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PublicKey {
    pub(crate) key_id: String,
    pub(crate) key: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct SealedValue<'a> {
    pub(crate) encrypted_value: &'a str,
    pub(crate) key_id: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SecretsPage {
    pub(crate) secrets: Vec<Named>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VariablesPage {
    pub(crate) variables: Vec<Variable>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Carries opened secrets, so it has no `Debug`.
#[derive(Serialize)]
pub(crate) struct DispatchBody<'a> {
    #[serde(rename = "ref")]
    pub(crate) reference: &'a str,
    pub(crate) inputs: &'a BTreeMap<String, String>,
    pub(crate) return_run_details: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunDetails {
    pub(crate) workflow_run_id: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct EventBody<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) client_payload: &'a BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunsPage {
    /// How many there are in all; a search shows the newest thousand of them.
    pub(crate) total_count: u64,
    pub(crate) workflow_runs: Vec<RunBody>,
}

/// A workflow run; status and conclusion are open sets.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunBody {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) display_title: String,
    pub(crate) html_url: String,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) conclusion: Option<String>,
    #[serde(default)]
    pub(crate) created_at: Option<String>,
}

/// Holds a secret, so it has no `Debug`.
#[cfg(feature = "github-app")]
#[derive(Deserialize)]
pub(crate) struct InstallationToken {
    pub(crate) token: String,
    pub(crate) expires_at: String,
}
