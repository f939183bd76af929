//! Wire types: only the fields that are used; unknown ones are tolerated.
//!
//! Types that carry values of variables have no `Debug`, so that they cannot be printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewProject<'a> {
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) framework: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) git_repository: Option<GitRepository<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build_command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) install_command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_directory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root_directory: Option<&'a str>,
    pub(crate) environment_variables: Vec<NewVariable<'a>>,
}

#[derive(Serialize)]
pub(crate) struct GitRepository<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) repo: &'a str,
}

#[derive(Serialize)]
pub(crate) struct NewVariable<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) target: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) created_at: Option<f64>,
    #[serde(default)]
    pub(crate) link: Option<Link>,
    #[serde(default)]
    pub(crate) env: Option<Vec<Variable>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    #[serde(default)]
    pub(crate) org: Option<String>,
    #[serde(default)]
    pub(crate) repo: Option<String>,
    #[serde(default)]
    pub(crate) repo_id: Option<u64>,
    #[serde(default)]
    pub(crate) production_branch: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Variable {
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) target: Targets,
    #[serde(default)]
    pub(crate) comment: Option<String>,
    #[serde(default)]
    pub(crate) decrypted: bool,
}

/// One target or a list of them: both are answered.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Targets {
    Many(Vec<String>),
    One(String),
}

impl Default for Targets {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Targets {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let list = match self {
            Self::Many(list) => list.as_slice(),
            Self::One(one) => std::slice::from_ref(one),
        };
        list.iter().map(String::as_str)
    }
}

#[derive(Deserialize)]
pub(crate) struct Variables {
    pub(crate) envs: Vec<Variable>,
}

#[derive(Deserialize)]
pub(crate) struct VariablesCreated {
    #[serde(default)]
    pub(crate) failed: Vec<VariableFailed>,
}

#[derive(Deserialize)]
pub(crate) struct VariableFailed {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorDetail {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) limit: Option<LimitDetail>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LimitDetail {
    /// Epoch seconds.
    #[serde(default)]
    pub(crate) reset: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Projects {
    pub(crate) projects: Vec<Project>,
    pub(crate) pagination: Pagination,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Pagination {
    /// A number or text, by endpoint; null at the end.
    #[serde(default)]
    pub(crate) next: Option<serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewDeployment<'a> {
    pub(crate) name: &'a str,
    pub(crate) project: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'static str>,
    pub(crate) git_source: NewGitSource<'a>,
    pub(crate) meta: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewGitSource<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) org: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repo_id: Option<u64>,
    #[serde(rename = "ref")]
    pub(crate) reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) ready_state: String,
    /// A boolean, or the moment it happened; both are answered.
    #[serde(default)]
    pub(crate) alias_assigned: serde_json::Value,
    #[serde(default)]
    pub(crate) alias_error: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) alias: Vec<String>,
    #[serde(default)]
    pub(crate) error_code: Option<String>,
    #[serde(default)]
    pub(crate) checks_conclusion: Option<String>,
    #[serde(default)]
    pub(crate) inspector_url: Option<String>,
    /// When it became ready, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) ready: Option<f64>,
    #[serde(default)]
    pub(crate) meta: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Deployments {
    pub(crate) deployments: Vec<ListedDeployment>,
    pub(crate) pagination: Pagination,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedDeployment {
    pub(crate) uid: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) created: Option<f64>,
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) ready_state: Option<String>,
    #[serde(default)]
    pub(crate) meta: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(crate) struct NewDomain<'a> {
    pub(crate) name: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) verified: bool,
    #[serde(default)]
    pub(crate) created_at: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DomainConfig {
    pub(crate) misconfigured: bool,
}
