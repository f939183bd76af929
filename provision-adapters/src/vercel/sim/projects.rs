//! Projects.

use serde_json::{Value, json};

use super::{
    VercelSim, error, not_found, show,
    state::{Link, Project},
    strict_object,
};
use crate::{
    sim::{SimRequest, SimResponse},
    vercel::PROJECT_NAME_MAX,
};

const CREATE_KEYS: &[&str] = &[
    "name",
    "framework",
    "gitRepository",
    "environmentVariables",
    "buildCommand",
    "installCommand",
    "devCommand",
    "outputDirectory",
    "rootDirectory",
    "skipGitConnectDuringLink",
    "ssoProtection",
    "serverlessFunctionRegion",
    "publicSource",
    "commandForIgnoringBuildStep",
    "resourceConfig",
    "oidcTokenConfig",
    "enablePreviewFeedback",
    "enableProductionFeedback",
    "previewDeploymentsDisabled",
];

/// Settings that are shown as they were given.
const SETTINGS: &[&str] = &[
    "framework",
    "buildCommand",
    "installCommand",
    "devCommand",
    "outputDirectory",
    "rootDirectory",
];

impl VercelSim {
    pub(super) fn create_project(
        &mut self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> SimResponse {
        match self.try_create_project(request, scope, now) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn try_create_project(
        &mut self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> Result<SimResponse, SimResponse> {
        let body = strict_object(request, CREATE_KEYS)?;
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if name.is_empty() || name.len() > PROJECT_NAME_MAX || !name.chars().all(allowed) {
            let message = "Project names can be up to 100 characters long and must be lowercase.";
            return Err(error(400, "bad_request", message));
        }
        let link = match body.get("gitRepository") {
            None | Some(Value::Null) => None,
            Some(wanted) => Some(self.link(wanted)?),
        };
        if self.state.projects.iter().any(|p| p.scope == scope && p.name == name) {
            let message = "A project with the provided name already exists.";
            return Err(error(409, "conflict", message));
        }
        let mut env = Vec::new();
        for wanted in
            body.get("environmentVariables").and_then(Value::as_array).into_iter().flatten()
        {
            env.push(self.new_variable(wanted, now)?);
        }
        let chosen =
            SETTINGS.iter().filter_map(|key| Some(((*key).to_owned(), body.get(*key)?.clone())));
        let project = Project {
            id: self.state.id("prj_", 24),
            scope: scope.to_owned(),
            name: name.to_owned(),
            created: now,
            hidden_until: now.saturating_add(hidden(request)),
            settings: Value::Object(chosen.collect()),
            link,
            env,
            domains: Vec::new(),
            fixture: false,
        };
        let shown = show::project(&project, true);
        self.state.projects.push(project);
        Ok(SimResponse::json(200, &shown))
    }

    /// The app must see the repository.
    fn link(&self, wanted: &Value) -> Result<Link, SimResponse> {
        let repo = wanted.get("repo").and_then(Value::as_str).unwrap_or_default();
        let kind = wanted.get("type").and_then(Value::as_str);
        let (Some((org, name)), Some("github")) = (repo.split_once('/'), kind) else {
            let message = "Invalid request: `gitRepository` needs `type` and `repo` as owner/name.";
            return Err(error(400, "bad_request", message));
        };
        if self.setup.hidden_repos.contains(repo) {
            let message =
                "To link a GitHub repository, you need to install the GitHub integration first.";
            return Err(error(400, "bad_request", message));
        }
        let number = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, repo.as_bytes()).as_u128();
        let repo_id = u64::try_from(number % 900_000_000).unwrap_or_default() + 100_000_000;
        Ok(Link { org: org.to_owned(), repo: name.to_owned(), repo_id })
    }

    /// By id at once; by name, as in listings, only once it is no longer hidden.
    pub(super) fn position(&self, scope: &str, id_or_name: &str) -> Option<usize> {
        self.state
            .projects
            .iter()
            .position(|p| p.scope == scope && (p.id == id_or_name || p.name == id_or_name))
    }

    pub(super) fn show_project(&self, scope: &str, id: &str, now: u64) -> SimResponse {
        let found = self.position(scope, id).and_then(|at| self.state.projects.get(at));
        match found.filter(|p| p.id == id || p.hidden_until <= now) {
            Some(project) => SimResponse::json(200, &show::project(project, true)),
            None => not_found("Project"),
        }
    }

    /// Newest first; `from` is the creation time after which the next page begins.
    pub(super) fn list_projects(&self, request: &SimRequest, scope: &str, now: u64) -> SimResponse {
        let limit = request.q("limit").and_then(|l| l.parse().ok()).unwrap_or(20).clamp(1, 100);
        let from: usize = request.q("from").and_then(|f| f.parse().ok()).unwrap_or(0);
        let search = request.q("search").unwrap_or_default();
        let mut seen: Vec<&Project> = self
            .state
            .projects
            .iter()
            .filter(|p| p.scope == scope && p.hidden_until <= now && p.name.contains(search))
            .collect();
        seen.reverse();
        let page: Vec<Value> =
            seen.iter().skip(from).take(limit).map(|p| show::project(p, false)).collect();
        let next = (from + page.len() < seen.len()).then(|| from + page.len());
        let body = json!({
            "projects": page,
            "pagination": { "count": page.len(), "next": next, "prev": null },
        });
        SimResponse::json(200, &body)
    }

    pub(super) fn delete_project(&mut self, scope: &str, id: &str) -> SimResponse {
        let Some(at) = self.position(scope, id) else { return not_found("Project") };
        let in_transfer =
            self.state.projects.get(at).is_some_and(|p| self.setup.in_transfer.contains(&p.name));
        if in_transfer {
            return error(409, "conflict", "The project is currently being transferred.");
        }
        let gone = self.state.projects.remove(at);
        self.state.deployments.retain(|d| d.project != gone.id);
        SimResponse::empty(204)
    }
}

/// For how long what this request creates stays out of listings, in milliseconds.
pub(super) fn hidden(request: &SimRequest) -> u64 {
    u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX)
}
