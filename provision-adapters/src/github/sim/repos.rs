//! Accounts and repositories.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ask, COMMIT_MS, FILES_MS, GitHubSim, WORKFLOWS_MS, invalid, not_found, page,
    render::{full_repo, membership, organization, user},
    state::{Repo, printed},
    trouble, with_link,
};
use crate::sim::SimResponse;

/// Wanted of a new repository.
#[derive(Debug, Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    include_all_branches: bool,
}

/// Wanted of a repository that is there.
#[derive(Debug, Default, Deserialize)]
struct Patch {
    name: Option<String>,
    description: Option<String>,
    private: Option<bool>,
    default_branch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Topics {
    names: Option<Vec<String>>,
}

impl GitHubSim {
    pub(super) fn rate_limit(&self, ask: &Ask<'_>) -> SimResponse {
        let window = ask.request.bearer().and_then(|token| self.windows.get(token));
        let used = window.map_or(0, |window| window.used);
        let left = self.limits.per_hour.saturating_sub(used);
        let reset = ask.now.as_secs() + 3_600;
        let core = json!({
            "limit": self.limits.per_hour, "used": used, "remaining": left, "reset": reset,
        });
        SimResponse::json(
            200,
            &json!({ "resources": { "core": core, "search": core }, "rate": core }),
        )
    }

    pub(super) fn user(&self, ask: &Ask<'_>) -> Answer {
        if ask.token.login.ends_with("[bot]") {
            return Err(trouble(403, "Resource not accessible by integration"));
        }
        let id = self.users.get(&ask.token.login).copied().unwrap_or(1);
        Ok(SimResponse::json(200, &user(&ask.api(), &ask.token.login, id)))
    }

    pub(super) fn org(&self, ask: &Ask<'_>, login: &str) -> Answer {
        let found = self.orgs.iter().find(|(org, _)| org.eq_ignore_ascii_case(login));
        let (login, id) = found.ok_or_else(not_found)?;
        Ok(SimResponse::json(200, &organization(&ask.api(), login, *id)))
    }

    /// What the token's user is in an organization.
    pub(super) fn membership(&self, ask: &Ask<'_>, login: &str) -> Answer {
        let token = &ask.token;
        let Some(id) = self.users.get(&token.login).copied() else {
            return Err(trouble(403, "Resource not accessible by integration"));
        };
        let may = ["repo", "read:org", "write:org", "admin:org", "user"];
        if !may.iter().any(|scope| token.has(scope)) {
            return Err(trouble(403, "You need at least read:org scope"));
        }
        let found = self.orgs.iter().find(|(org, _)| org.eq_ignore_ascii_case(login));
        let (org, org_id) = found.filter(|_| token.member).ok_or_else(not_found)?;
        let role = if token.owner { "admin" } else { "member" };
        let body = membership(&ask.api(), (org, *org_id), (&token.login, id), role);
        Ok(SimResponse::json(200, &body))
    }

    pub(super) fn list_repos(&self, ask: &Ask<'_>, org: Option<&str>) -> Answer {
        if let Some(org) = org {
            self.org(ask, org)?;
        }
        let owner = org.unwrap_or(&ask.token.login);
        let listed: Vec<Value> = self
            .world
            .repos
            .values()
            .filter(|repo| repo.owner.eq_ignore_ascii_case(owner))
            .filter(|repo| self.sees(ask, repo))
            .map(|repo| full_repo(ask, repo))
            .collect();
        let (items, link) = page(ask, &listed, 30, 100);
        Ok(with_link(SimResponse::json(200, &items), &link))
    }

    /// The repository of a name, if the token may see it.
    pub(super) fn open(&self, ask: &Ask<'_>, owner: &str, name: &str) -> Result<u64, SimResponse> {
        let full_name = format!("{owner}/{name}");
        if let Some(repo) = self.world.by_name(&full_name) {
            return if self.sees(ask, repo) { Ok(repo.id) } else { Err(not_found()) };
        }
        let moved = self.world.renamed.get(&full_name.to_lowercase());
        let moved = moved.and_then(|id| self.world.repos.get(id));
        let Some(repo) = moved.filter(|repo| self.sees(ask, repo)) else { return Err(not_found()) };
        let url = format!("{}/repositories/{}", ask.api(), repo.id);
        let status = if ask.request.method == "GET" { 301 } else { 307 };
        let message = if status == 301 { "Moved Permanently" } else { "Temporary Redirect" };
        let body = json!({ "message": message, "url": url, "documentation_url": "https://docs.github.com/rest" });
        Err(SimResponse::json(status, &body).header("location", &url))
    }

    // What is private answers 404 to those who may not see it, as if it were not there.
    fn sees(&self, ask: &Ask<'_>, repo: &Repo) -> bool {
        ask.now >= repo.visible && (!repo.private || ask.token.sees(&repo.full_name()))
    }

    pub(super) fn repo_by_id(&self, ask: &Ask<'_>, id: &str) -> Answer {
        let repo = id.parse().ok().and_then(|id: u64| self.world.repos.get(&id));
        let repo = repo.filter(|repo| self.sees(ask, repo)).ok_or_else(not_found)?;
        Ok(SimResponse::json(200, &full_repo(ask, repo)))
    }

    pub(super) fn on_repo(&mut self, ask: &Ask<'_>, id: u64) -> Answer {
        match ask.request.method.as_str() {
            "GET" => self.repo_by_id(ask, &id.to_string()),
            "PATCH" => self.patch_repo(ask, id),
            "DELETE" => self.delete_repo(ask, id),
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }

    fn delete_repo(&mut self, ask: &Ask<'_>, id: u64) -> Answer {
        if !ask.token.member || !ask.token.has("delete_repo") {
            return Err(trouble(403, "Must have admin rights to Repository."));
        }
        let owner = self.world.repos.get(&id).map(|repo| repo.owner.clone()).unwrap_or_default();
        if !self.members_delete && self.orgs.contains_key(&owner) {
            return Err(trouble(403, "Organization members cannot delete repositories."));
        }
        self.world.repos.remove(&id);
        self.world.renamed.retain(|_, to| *to != id);
        Ok(SimResponse::empty(204))
    }

    fn patch_repo(&mut self, ask: &Ask<'_>, id: u64) -> Answer {
        let patch: Patch = ask.request.json().map_err(|_| trouble(400, "Problems parsing JSON"))?;
        let repo = self.world.repos.get_mut(&id).ok_or_else(not_found)?;
        if let Some(branch) = patch.default_branch {
            if !repo.has_commit(ask.now) {
                let why = "Cannot update default branch for an empty repository. Please init the \
                           repository and push first";
                return Err(invalid("Validation Failed", "Repository", "default_branch", why));
            }
            repo.default_branch = branch;
        }
        if let Some(text) = patch.description {
            repo.description = text;
        }
        if let Some(private) = patch.private {
            repo.private = private;
        }
        let full_name = repo.full_name();
        if let Some(name) = patch.name {
            self.world.rename(&full_name, &name);
        }
        self.repo_by_id(ask, &id.to_string())
    }

    pub(super) fn on_topics(&mut self, ask: &Ask<'_>, id: u64) -> Answer {
        let repo = self.world.repos.get_mut(&id).ok_or_else(not_found)?;
        if ask.request.method == "PUT" {
            let wanted: Topics = ask.request.json().unwrap_or_default();
            let names = wanted.names.unwrap_or_else(|| vec![String::new()]);
            let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
            if names.len() > 20 || !names.iter().all(|name| is_topic(name)) {
                // The simple shape: errors are bare strings.
                let why = "A topic must start with a lowercase letter or number, consist of 50 \
                           characters or less, and can include hyphens.";
                let body = json!({
                    "message": "Validation Failed", "errors": [why],
                    "documentation_url": "https://docs.github.com/rest",
                });
                return Err(SimResponse::json(422, &body));
            }
            repo.topics = names;
        }
        Ok(SimResponse::json(200, &json!({ "names": repo.topics })))
    }

    pub(super) fn create_repo(&mut self, ask: &Ask<'_>, owner: &str) -> Answer {
        let wanted = wanted(ask)?;
        let name = normal(&wanted.name);
        if self.world.by_name(&format!("{owner}/{name}")).is_some() {
            let why = "name already exists on this account";
            return Err(invalid("Repository creation failed.", "Repository", "name", why));
        }
        let mut repo = Repo::fixture(self.world.fresh_id(), &format!("{owner}/{name}"));
        repo.fixture = false;
        repo.created = ask.now;
        repo.private = wanted.private;
        repo.description = wanted.description.unwrap_or_default();
        Ok(self.made(ask, repo))
    }

    pub(super) fn generate(&mut self, ask: &Ask<'_>, owner: &str, name: &str) -> Answer {
        let id = self.open(ask, owner, name)?;
        let wanted = wanted(ask)?;
        let template = self.world.repos.get(&id).cloned().ok_or_else(not_found)?;
        if !template.is_template || !template.has_commit(ask.now) {
            return Err(trouble(422, "Could not clone: the repository is not a usable template"));
        }
        let owner = wanted.owner.clone().unwrap_or_else(|| ask.token.login.clone());
        let known = |login: &&String| login.eq_ignore_ascii_case(&owner);
        let account = self.orgs.keys().chain(self.users.keys()).find(known).cloned();
        let account = account.filter(|_| ask.token.member).ok_or_else(not_found)?;
        // Characters that names cannot have are replaced without a word.
        let full_name = format!("{account}/{}", normal(&wanted.name));
        if self.world.by_name(&full_name).is_some() {
            return Err(trouble(422, "Could not clone: Name already exists on this account"));
        }
        let at = |ms| ask.now.saturating_add(self.delay(ms));
        let (commit_at, files_at, workflows_at) = (at(COMMIT_MS), at(FILES_MS), at(WORKFLOWS_MS));
        let _ = wanted.include_all_branches;
        let repo = Repo {
            description: wanted.description.unwrap_or_default(),
            private: wanted.private,
            template: Some(template.full_name()),
            created: ask.now,
            visible: ask.now.saturating_add(ask.request.hidden_for),
            files: template.files,
            workflows: template.workflows,
            fixture: false,
            commit_at,
            files_at,
            workflows_at,
            ..Repo::fixture(self.world.fresh_id(), &full_name)
        };
        Ok(self.made(ask, repo))
    }

    fn made(&mut self, ask: &Ask<'_>, repo: Repo) -> SimResponse {
        self.world.renamed.remove(&repo.full_name().to_lowercase());
        let location = format!("{}/repos/{}", ask.api(), repo.full_name());
        let body = full_repo(ask, &repo);
        self.world.repos.insert(repo.id, repo);
        SimResponse::json(201, &body).header("location", &location)
    }
}

fn wanted(ask: &Ask<'_>) -> Result<Wanted, SimResponse> {
    let wanted: Wanted = ask.request.json().map_err(|_| {
        invalid("Validation Failed", "Repository", "name", "name is missing or no text")
    })?;
    if wanted.name.is_empty() || wanted.name.chars().count() > 100 {
        let why = "name is too short or too long (maximum is 100 characters)";
        return Err(invalid("Validation Failed", "Repository", "name", why));
    }
    if wanted
        .description
        .as_ref()
        .is_some_and(|text| text.chars().count() > 350 || text.chars().any(char::is_control))
    {
        let why = "description control characters are not allowed, or it is too long (maximum is 350 characters)";
        return Err(invalid("Validation Failed", "Repository", "description", why));
    }
    Ok(wanted)
}

fn normal(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars().map(|c| if allowed(c) { c } else { '-' }).collect()
}

fn is_topic(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=50).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-')
}

/// When it was made, as printed.
pub(super) fn created(repo: &Repo) -> String {
    printed(repo.created)
}
