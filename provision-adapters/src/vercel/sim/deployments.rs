//! Deployments and uploaded files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    VercelSim, error, not_found,
    projects::hidden,
    show,
    state::{Deployment, Fate, Project},
    strict_object,
};
use crate::{
    sim::{SimRequest, SimResponse},
    vercel::OWNER_VARIABLE,
};

const CREATE_KEYS: &[&str] = &[
    "name",
    "project",
    "target",
    "gitSource",
    "files",
    "deploymentId",
    "meta",
    "projectSettings",
    "gitMetadata",
    "monorepoManager",
    "withLatestCommit",
    "customEnvironmentSlugOrId",
];
const DAY: u64 = 86_400_000;

/// What is built: a stable name of the source, and its commit.
struct Source {
    name: String,
    sha: String,
}

impl VercelSim {
    pub(super) fn create_deployment(
        &mut self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> SimResponse {
        match self.try_create_deployment(request, scope, now) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn try_create_deployment(
        &mut self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> Result<SimResponse, SimResponse> {
        let body = strict_object(request, CREATE_KEYS)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let bad = |message: &str| error(400, "bad_request", message);
        let name = text("name").ok_or_else(|| bad("Invalid request: missing `name`."))?;
        let production = match text("target") {
            None => false,
            Some("production") => true,
            Some("staging") => false,
            Some(_) => return Err(bad("Invalid request: `target` has no allowed value.")),
        };
        let at = self.position(scope, text("project").unwrap_or(name));
        let project = at.and_then(|at| self.state.projects.get(at)).cloned();
        let project = project.ok_or_else(|| not_found("Project"))?;
        let source = self.source(&body, &project)?;
        let forced = request.q("forceNew") == Some("1");
        let similar = self.state.deployments.iter().find(|d| {
            d.project == project.id
                && d.production == production
                && (&d.source, &d.sha) == (&source.name, &source.sha)
                && !d.failed(now)
        });
        // The same commit again gives what is there, unless a new one is asked for.
        if let (false, Some(similar)) = (forced, similar) {
            let shown = show::deployment(similar, &self.aliases(similar), now);
            return Ok(SimResponse::json(200, &shown));
        }
        let today = |d: &&Deployment| d.scope == scope && d.created + DAY > now;
        let used = self.state.deployments.iter().filter(today).count();
        if self.setup.deployments_per_day.is_some_and(|most| used >= most) {
            let message = "Resource is limited - try again in 24 hours (more than 100, code: \
                           \"api-deployments-free-per-day\").";
            return Err(error(402, "api-deployments-free-per-day", message));
        }
        let made = self.queue_deployment(request, &project, source, (production, name, now));
        let made = Deployment { meta: meta_of(&body), ..made };
        let shown = show::deployment(&made, &self.aliases(&made), now);
        self.state.deployments.push(made);
        Ok(SimResponse::json(200, &shown))
    }

    /// Decides when it is built, with which variables, and how it ends.
    fn queue_deployment(
        &mut self,
        request: &SimRequest,
        project: &Project,
        source: Source,
        (production, name, now): (bool, &str, u64),
    ) -> Deployment {
        let target = if production { "production" } else { "preview" };
        let env: BTreeSet<String> = project
            .env
            .iter()
            .filter(|v| v.key != OWNER_VARIABLE && v.targets.contains(target))
            .map(|v| v.key.clone())
            .collect();
        // One build at a time: it waits for those before it.
        let free = self.state.deployments.iter().filter(|d| d.scope == project.scope);
        let free = free.map(|d| d.built).filter(|built| *built > now).max().unwrap_or(now);
        let building = free.saturating_add(self.scaled(self.setup.queue));
        let built = building.saturating_add(self.scaled(self.setup.build));
        let id = self.state.id("dpl_", 28);
        let short: String = id.chars().skip(4).take(9).collect();
        Deployment {
            url: format!("{}-{short}.vercel.app", slug(&project.name)),
            id,
            scope: project.scope.clone(),
            project: project.id.clone(),
            name: name.to_owned(),
            production,
            created: now,
            hidden_until: now.saturating_add(hidden(request)),
            building,
            built,
            aliased: built.saturating_add(self.scaled(self.setup.alias)),
            fate: self.setup.fates.pop_front().unwrap_or(Fate::Ready),
            source: source.name,
            sha: source.sha,
            meta: BTreeMap::new(),
            env,
        }
    }

    fn source(&self, body: &Value, project: &Project) -> Result<Source, SimResponse> {
        if let Some(git) = body.get("gitSource") {
            return self.git_source(git, project);
        }
        let Some(files) = body.get("files").and_then(Value::as_array) else {
            return Err(error(400, "bad_request", "Invalid request: no source is given."));
        };
        let shas: Vec<&str> =
            files.iter().filter_map(|f| f.get("sha").and_then(Value::as_str)).collect();
        let missing: Vec<&&str> =
            shas.iter().filter(|sha| !self.state.files.contains(**sha)).collect();
        if !missing.is_empty() {
            let body = json!({ "error": {
                "code": "missing_files", "message": "Missing files", "missing": missing,
            }});
            return Err(SimResponse::json(400, &body));
        }
        Ok(Source { name: "files".to_owned(), sha: shas.join(",") })
    }

    fn git_source(&self, git: &Value, project: &Project) -> Result<Source, SimResponse> {
        let text = |name: &str| git.get(name).and_then(Value::as_str);
        let number = git
            .get("repoId")
            .and_then(|id| id.as_u64().or_else(|| id.as_str().and_then(|text| text.parse().ok())));
        let name = match (number, text("org"), text("repo")) {
            (Some(number), ..) => {
                let linked = project.link.as_ref().filter(|link| link.repo_id == number);
                linked.map(|link| format!("{}/{}", link.org, link.repo))
            }
            (None, Some(org), Some(repo)) => Some(format!("{org}/{repo}")),
            // `repo` alone as owner/name is not a source.
            _ => return Err(error(400, "bad_request", "Invalid request: `gitSource` is invalid.")),
        };
        let (Some(reference), Some("github")) = (text("ref"), text("type")) else {
            return Err(error(400, "bad_request", "Invalid request: `gitSource` is invalid."));
        };
        match name.filter(|name| !self.setup.hidden_repos.contains(name)) {
            Some(name) => Ok(Source { name, sha: text("sha").unwrap_or(reference).to_owned() }),
            None => Err(error(
                400,
                "incorrect_git_source_info",
                "The provided GitHub repository can't be found.",
            )),
        }
    }

    /// Where a deployment is reached besides its own address.
    pub(super) fn aliases(&self, deployment: &Deployment) -> Vec<String> {
        let project = self.state.projects.iter().find(|p| p.id == deployment.project);
        match project {
            Some(project) if deployment.production => {
                let domains = project.domains.iter().filter(|d| d.verified);
                std::iter::once(format!("{}.vercel.app", slug(&project.name)))
                    .chain(domains.map(|d| d.name.clone()))
                    .collect()
            }
            _ => vec![deployment.url.clone()],
        }
    }

    fn find_deployment(&self, scope: &str, id: &str) -> Option<usize> {
        let same = |d: &Deployment| d.scope == scope && (d.id == id || d.url == id);
        self.state.deployments.iter().position(same)
    }

    pub(super) fn show_deployment(&self, scope: &str, id: &str, now: u64) -> SimResponse {
        let at = self.find_deployment(scope, id);
        match at.and_then(|at| self.state.deployments.get(at)) {
            Some(found) => {
                SimResponse::json(200, &show::deployment(found, &self.aliases(found), now))
            }
            None => not_found("Deployment"),
        }
    }

    /// Newest first; `until` is how many were shown so far, as an opaque number.
    pub(super) fn list_deployments(
        &self,
        request: &SimRequest,
        scope: &str,
        now: u64,
    ) -> SimResponse {
        let limit = request.q("limit").and_then(|l| l.parse().ok()).unwrap_or(20).clamp(1, 100);
        let from: usize = request.q("until").and_then(|f| f.parse().ok()).unwrap_or(0);
        let is = |given: Option<&str>, own: &str| given.is_none_or(|given| given == own);
        let mut seen: Vec<&Deployment> = self
            .state
            .deployments
            .iter()
            .filter(|d| d.scope == scope && d.hidden_until <= now)
            .filter(|d| is(request.q("projectId"), &d.project) && is(request.q("sha"), &d.sha))
            .filter(|d| is(request.q("state"), d.state(now)))
            .collect();
        seen.reverse();
        let page: Vec<Value> =
            seen.iter().skip(from).take(limit).map(|d| show::listed(d, now)).collect();
        let next = (from + page.len() < seen.len()).then(|| from + page.len());
        let body = json!({
            "deployments": page,
            "pagination": { "count": page.len(), "next": next, "prev": null },
        });
        SimResponse::json(200, &body)
    }

    pub(super) fn delete_deployment(&mut self, scope: &str, id: &str) -> SimResponse {
        match self.find_deployment(scope, id) {
            Some(at) => {
                let gone = self.state.deployments.remove(at);
                SimResponse::json(200, &json!({ "uid": gone.id, "state": "DELETED" }))
            }
            None => not_found("Deployment"),
        }
    }

    pub(super) fn cancel_deployment(&mut self, scope: &str, id: &str, now: u64) -> SimResponse {
        let Some(at) = self.find_deployment(scope, id) else { return not_found("Deployment") };
        if let Some(found) = self.state.deployments.get_mut(at) {
            if now >= found.built {
                return error(400, "bad_request", "The deployment is finished.");
            }
            (found.fate, found.built) = (Fate::Canceled, now);
            found.building = found.building.min(now);
        }
        self.show_deployment(scope, id, now)
    }

    /// Content-addressed: the same bytes twice are one file.
    pub(super) fn upload_file(&mut self, request: &SimRequest) -> SimResponse {
        match request.header("x-vercel-digest") {
            Some(sha) if sha.len() == 40 => {
                self.state.files.insert(sha.to_owned());
                SimResponse::json(200, &json!({ "urls": [] }))
            }
            _ => error(400, "bad_request", "The header `x-vercel-digest` is missing."),
        }
    }
}

fn meta_of(body: &Value) -> BTreeMap<String, String> {
    let meta = body.get("meta").and_then(Value::as_object).into_iter().flatten();
    meta.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A project's name as part of a host name.
fn slug(name: &str) -> String {
    name.replace(['.', '_'], "-")
}
