//! GitHub as it behaves, over real HTTP: what `providers/github` documents of repositories, their
//! contents, Actions secrets, variables and runs, with its error texts, its limits and its lag.
//!
//! Tokens, limits and the speed of things are the account's settings and belong to the process;
//! repositories are the world and survive it.

mod actions;
#[cfg(feature = "github-app")]
mod app;
mod contents;
mod render;
mod repos;
mod runs;
mod state;

use std::collections::BTreeMap;

use serde_json::json;

#[cfg(feature = "github-app")]
pub use app::AppKey;
pub use state::{Limits, Token, Workflow};

use crate::sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimTime};
use state::{Repo, Secret, Window, World};

/// Milliseconds until the first commit of a generated repository is there, at speed 1.
const COMMIT_MS: f64 = 2_000.0;
/// Milliseconds until all of its files are there.
const FILES_MS: f64 = 3_000.0;
/// Milliseconds until its workflows can be dispatched.
const WORKFLOWS_MS: f64 = 4_000.0;
/// Milliseconds a run waits before it begins, and works before it ends.
const RUN_MS: (f64, f64) = (1_000.0, 3_000.0);

/// Runs that a search of runs shows at most.
const SEARCH_MAX: usize = 1_000;

/// One simulated GitHub.
#[derive(Debug)]
pub struct GitHubSim {
    world: World,
    tokens: BTreeMap<String, Token>,
    orgs: BTreeMap<String, u64>,
    users: BTreeMap<String, u64>,
    limits: Limits,
    windows: BTreeMap<String, Window>,
    members_delete: bool,
    run_details: bool,
    search_max: usize,
    #[cfg(feature = "github-app")]
    apps: app::Apps,
    speed: f64,
}

/// Who asks, where and when: what every route is given.
struct Ask<'a> {
    request: &'a SimRequest,
    token: Token,
    now: SimTime,
}

impl Ask<'_> {
    fn api(&self) -> String {
        format!("http://{}", self.request.host)
    }
}

/// A route's answer, or the refusal that ended it early.
type Answer = Result<SimResponse, SimResponse>;

impl Default for GitHubSim {
    fn default() -> Self {
        Self::new()
    }
}

impl GitHubSim {
    /// An empty GitHub: no accounts, no tokens.
    #[must_use]
    pub fn new() -> Self {
        Self {
            world: World { next_id: 1_000, ..World::default() },
            tokens: BTreeMap::new(),
            orgs: BTreeMap::new(),
            users: BTreeMap::new(),
            limits: Limits::default(),
            windows: BTreeMap::new(),
            members_delete: true,
            run_details: true,
            search_max: SEARCH_MAX,
            #[cfg(feature = "github-app")]
            apps: app::Apps::default(),
            speed: 1.0,
        }
    }

    /// A GitHub with the organization `acme`, its owner `octo` and their token, and the template
    /// `acme/template` with a `README.md` and the workflow `deploy.yml`, which prints its input
    /// `provision_key` and listens for the event `provisioned`.
    #[must_use]
    pub fn acme(token: &str) -> Self {
        let workflow = Workflow::new("deploy.yml")
            .dispatched_with(&["provision_key", "environment"])
            .listening_for("provisioned")
            .named("Deploy ${{ inputs.provision_key }}${{ client_payload.provision.key }}");
        Self::new()
            .with_org("acme")
            .with_user("octo")
            .with_token(token, Token::classic("octo", &["repo", "delete_repo", "workflow"]))
            .with_template("acme/template", &[("README.md", "# Template\n")], &[workflow])
    }

    /// Adds an organization.
    #[must_use]
    pub fn with_org(mut self, login: &str) -> Self {
        let id = self.world.fresh_id();
        self.orgs.insert(login.to_owned(), id);
        self
    }

    /// Adds a user, who owns every organization.
    #[must_use]
    pub fn with_user(mut self, login: &str) -> Self {
        let id = self.world.fresh_id();
        self.users.insert(login.to_owned(), id);
        self
    }

    /// Adds a token.
    #[must_use]
    pub fn with_token(mut self, value: &str, token: Token) -> Self {
        self.tokens.insert(value.to_owned(), token);
        self
    }

    /// Adds a template repository that is there already.
    #[must_use]
    pub fn with_template(
        mut self,
        full_name: &str,
        files: &[(&str, &str)],
        workflows: &[Workflow],
    ) -> Self {
        let mut repo = Repo::fixture(self.world.fresh_id(), full_name);
        repo.is_template = true;
        repo.files = files.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        repo.workflows = workflows.to_vec();
        self.world.repos.insert(repo.id, repo);
        self
    }

    /// Sets the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Lets members of organizations delete repositories, or forbids it.
    pub fn set_members_delete(&mut self, allowed: bool) {
        self.members_delete = allowed;
    }

    /// Lets dispatches answer with the run they have started, or, as older servers, with nothing.
    pub fn set_run_details(&mut self, told: bool) {
        self.run_details = told;
    }

    /// Lets searches of runs show so many at most. Default 1,000.
    pub fn set_search_max(&mut self, most: usize) {
        self.search_max = most;
    }

    /// Dates the runs of a repository back, as if they had been started so much earlier.
    pub fn set_back_runs(&mut self, full_name: &str, by: SimTime) {
        for run in self.world.by_name_mut(full_name).into_iter().flat_map(|repo| &mut repo.runs) {
            run.created = run.created.saturating_sub(by);
        }
    }

    /// Title of one run of a repository.
    #[must_use]
    pub fn run_title(&self, full_name: &str, id: &str) -> Option<String> {
        let runs = &self.world.by_name(full_name)?.runs;
        runs.iter().find(|run| run.id.to_string() == id).map(|run| run.title.clone())
    }

    /// Inputs of a repository's dispatched runs, oldest first: what their workflows would read.
    #[must_use]
    pub fn run_inputs(&self, full_name: &str) -> Vec<BTreeMap<String, String>> {
        let runs = self.world.by_name(full_name).map(|repo| repo.runs.as_slice());
        runs.unwrap_or_default().iter().map(|run| run.inputs.clone()).collect()
    }

    /// The id of a repository.
    #[must_use]
    pub fn repository_id(&self, full_name: &str) -> Option<u64> {
        self.world.by_name(full_name).map(|repo| repo.id)
    }

    /// Runs of a repository that have begun and are not over, oldest first, with their inputs: for
    /// whoever does what their workflows say.
    #[must_use]
    pub fn open_runs(&self, full_name: &str, now: SimTime) -> Vec<(u64, BTreeMap<String, String>)> {
        let runs = self.world.by_name(full_name).map(|repo| repo.runs.as_slice());
        let open = |run: &&state::Run| run.begins <= now && run.ended(now).is_none();
        let runs = runs.unwrap_or_default().iter().filter(open);
        runs.map(|run| (run.id, run.inputs.clone())).collect()
    }

    /// Ends a run that is not over, in this way.
    pub fn end_run(&mut self, full_name: &str, id: u64, conclusion: &str, now: SimTime) {
        let repo = self.world.by_name_mut(full_name);
        let run = repo.and_then(|repo| repo.runs.iter_mut().find(|run| run.id == id));
        if let Some(run) = run.filter(|run| run.ended(now).is_none()) {
            run.ends = now;
            conclusion.clone_into(&mut run.conclusion);
        }
    }

    /// Adds a repository that somebody else made, with a description of their own.
    pub fn add_foreign(&mut self, full_name: &str, description: &str) -> u64 {
        let mut repo = Repo::fixture(self.world.fresh_id(), full_name);
        description.clone_into(&mut repo.description);
        repo.private = true;
        repo.fixture = false;
        repo.files.insert("README.md".to_owned(), "theirs".to_owned());
        let id = repo.id;
        self.world.repos.insert(id, repo);
        id
    }

    /// Renames a repository, as a person would.
    pub fn rename(&mut self, full_name: &str, new_name: &str) {
        self.world.rename(full_name, new_name);
    }

    /// Replaces the key pair that a repository's secrets are sealed for.
    pub fn rotate_key(&mut self, full_name: &str) {
        if let Some(repo) = self.world.by_name_mut(full_name) {
            repo.key_number += 1;
        }
    }

    /// Opens a secret of a repository with the repository's own key.
    #[must_use]
    pub fn secret_value(&self, full_name: &str, name: &str) -> Option<String> {
        self.world.by_name(full_name)?.secrets.get(name).and_then(Secret::open)
    }

    /// Value of a variable of a repository.
    #[must_use]
    pub fn variable_value(&self, full_name: &str, name: &str) -> Option<String> {
        Some(self.world.by_name(full_name)?.variables.get(name)?.value.clone())
    }

    /// Topics of a repository.
    #[must_use]
    pub fn topics(&self, full_name: &str) -> Vec<String> {
        self.world.by_name(full_name).map(|repo| repo.topics.clone()).unwrap_or_default()
    }

    /// Titles of a repository's runs, with the reason of their end.
    #[must_use]
    pub fn runs(&self, full_name: &str) -> Vec<(String, Option<String>)> {
        let runs = self.world.by_name(full_name).map(|repo| repo.runs.as_slice());
        let runs = runs.unwrap_or_default().iter();
        runs.map(|run| (run.title.clone(), run.cancelled_at.map(|_| "cancelled".to_owned())))
            .collect()
    }

    fn route(&mut self, ask: &Ask<'_>) -> Answer {
        let segments = ask.request.segments();
        match (ask.request.method.as_str(), segments.as_slice()) {
            ("GET", ["rate_limit"]) => Ok(self.rate_limit(ask)),
            ("GET", ["user"]) => self.user(ask),
            ("GET", ["orgs", org]) => self.org(ask, org),
            ("GET", ["orgs", org, "repos"]) => self.list_repos(ask, Some(org)),
            ("GET", ["user", "memberships", "orgs", org]) => self.membership(ask, org),
            ("GET", ["user", "repos"]) => self.list_repos(ask, None),
            ("POST", ["orgs", org, "repos"]) => self.create_repo(ask, org),
            ("POST", ["user", "repos"]) => self.create_repo(ask, &ask.token.login.clone()),
            ("GET", ["repositories", id]) => self.repo_by_id(ask, id),
            ("POST", ["repos", owner, name, "generate"]) => self.generate(ask, owner, name),
            (_, ["repos", owner, name, rest @ ..]) => {
                let id = self.open(ask, owner, name)?;
                self.in_repo(ask, id, rest)
            }
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }

    fn in_repo(&mut self, ask: &Ask<'_>, id: u64, rest: &[&str]) -> Answer {
        match rest {
            [] => self.on_repo(ask, id),
            ["topics"] => self.on_topics(ask, id),
            ["commits" | "branches" | "contents" | "git", ..] => self.on_contents(ask, id, rest),
            ["dispatches"] => self.on_event(ask, id),
            ["actions", "secrets", rest @ ..] => self.on_secrets(ask, id, rest),
            ["actions", "variables", rest @ ..] => self.on_variables(ask, id, rest),
            ["actions", "workflows", workflow, "dispatches"] => self.on_dispatch(ask, id, workflow),
            ["actions", "runs", rest @ ..] => self.on_runs(ask, id, rest),
            _ => Err(SimResponse::unhandled(ask.request)),
        }
    }

    /// The checks before any route: user agent, version, token, limits.
    fn admit(&mut self, request: &SimRequest, now: SimTime) -> Result<Token, SimResponse> {
        if request.header("user-agent").is_none_or(str::is_empty) {
            let text = "Request forbidden by administrative rules. Please make sure your request \
                        has a User-Agent header";
            return Err(SimResponse::text(403, "text/plain", text));
        }
        let version = request.header("x-github-api-version");
        if version.is_some_and(|version| version != super::API_VERSION) {
            return Err(trouble(400, "The requested API version is not supported."));
        }
        let Some(value) = request.bearer() else {
            return Err(trouble(401, "Requires authentication"));
        };
        // A JWT is no token: what it opens is answered here, one way or the other.
        #[cfg(feature = "github-app")]
        match (request.method.as_str(), request.segments().as_slice()) {
            ("POST", ["app", "installations", id, "access_tokens"]) => {
                return Err(self.give_token(request, id, now).unwrap_or_else(|refusal| refusal));
            }
            ("GET", ["app", "installations", id]) => {
                return Err(self.installation(request, id, now).unwrap_or_else(|refusal| refusal));
            }
            _ => {}
        }
        let token = self.tokens.get(value).cloned();
        #[cfg(feature = "github-app")]
        let token = token.or_else(|| self.apps.token(value, now));
        let token = token.ok_or_else(|| trouble(401, "Bad credentials"))?;
        self.count(value, request, now)?;
        Ok(token)
    }

    /// Counts a request against the primary and the content-creation limit.
    fn count(
        &mut self,
        token: &str,
        request: &SimRequest,
        now: SimTime,
    ) -> Result<(), SimResponse> {
        let limits = self.limits;
        let window = self.windows.entry(token.to_owned()).or_default();
        window.roll(now);
        if request.path.first().is_some_and(|first| first == "rate_limit") {
            return Ok(());
        }
        if window.used >= limits.per_hour {
            let text = "API rate limit exceeded for user ID 1.";
            return Err(window.headers(limits, trouble(limits.status, text)));
        }
        window.used += 1;
        let creates = request.method == "POST"
            && matches!(request.path.last().map(String::as_str), Some("generate" | "repos"));
        if creates && window.creates.len() >= limits.creates_per_minute {
            let text = "You have exceeded a secondary rate limit. Please wait a few minutes.";
            let refusal = window.headers(limits, trouble(limits.status, text));
            return Err(match limits.retry_after {
                Some(seconds) => refusal.header("retry-after", &seconds.to_string()),
                None => refusal,
            });
        }
        if creates {
            window.creates.push(now);
        }
        Ok(())
    }

    fn delay(&self, ms: f64) -> SimTime {
        SimTime::try_from_secs_f64(ms / 1_000.0 * self.speed).unwrap_or_default()
    }
}

impl Provider for GitHubSim {
    fn name(&self) -> &'static str {
        "github"
    }

    fn configure(&mut self, options: &SimOptions) {
        self.speed = options.speed;
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /orgs/*/repos",
            "POST /user/repos",
            "POST /repos/*/*/generate",
            "PATCH /repos/*/*",
            "DELETE /repos/*/*",
            "PUT /repos/*/*/topics",
            "PUT /repos/*/*/contents/**",
            "POST /repos/*/*/dispatches",
            "PUT /repos/*/*/actions/secrets/*",
            "DELETE /repos/*/*/actions/secrets/*",
            "POST /repos/*/*/actions/variables",
            "PATCH /repos/*/*/actions/variables/*",
            "DELETE /repos/*/*/actions/variables/*",
            "POST /repos/*/*/actions/workflows/*/dispatches",
            "POST /repos/*/*/actions/runs/*/cancel",
            "POST /repos/*/*/actions/runs/*/force-cancel",
            "POST /app/installations/*/access_tokens",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let token = match self.admit(request, now) {
            Ok(token) => token,
            Err(refusal) => return refusal,
        };
        let scopes = token.scopes.as_ref().map(|scopes| scopes.join(", "));
        let response = match self.route(&Ask { request, token, now }) {
            Ok(response) | Err(response) => response,
        };
        let response = match scopes {
            Some(scopes) => response.header("x-oauth-scopes", &scopes),
            None => response,
        };
        let window = request.bearer().and_then(|token| self.windows.get(token));
        match window {
            Some(window) => window.headers(self.limits, response),
            None => response,
        }
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        self.world.repos.values().filter(|repo| !repo.fixture).flat_map(Repo::inventory).collect()
    }

    fn snapshot(&self) -> serde_json::Value {
        serde_json::to_value(&self.world).unwrap_or_default()
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), String> {
        self.world = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        let text = match status {
            401 => "Bad credentials",
            403 => "Resource not accessible by personal access token",
            404 => "Not Found",
            429 => "You have exceeded a secondary rate limit. Please wait a few minutes.",
            500..=599 => "Server Error",
            _ => "Refused",
        };
        trouble(status, text)
    }
}

/// An error in GitHub's words.
fn trouble(status: u16, message: &str) -> SimResponse {
    let body = json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.to_string(),
    });
    SimResponse::json(status, &body)
}

/// A 422 that lists what is wrong, as objects.
fn invalid(message: &str, resource: &str, field: &str, why: &str) -> SimResponse {
    let error = json!({ "resource": resource, "field": field, "code": "custom", "message": why });
    let body = json!({
        "message": message,
        "errors": [error],
        "documentation_url": "https://docs.github.com/rest",
        "status": "422",
    });
    SimResponse::json(422, &body)
}

fn not_found() -> SimResponse {
    trouble(404, "Not Found")
}

/// A page of a list, and the `Link` header that says whether another follows.
fn page<T: Clone>(ask: &Ask<'_>, all: &[T], per_page: usize, most: usize) -> (Vec<T>, String) {
    let number =
        |name, default| ask.request.q(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let size = number("per_page", per_page).clamp(1, most);
    let at = number("page", 1).max(1);
    let start = (at - 1).saturating_mul(size);
    let items: Vec<T> = all.iter().skip(start).take(size).cloned().collect();
    let more = start.saturating_add(size) < all.len();
    let path = ask.request.path.join("/");
    let link = match more {
        true => format!("<{}/{path}?page={}>; rel=\"next\"", ask.api(), at + 1),
        false => String::new(),
    };
    (items, link)
}

fn with_link(response: SimResponse, link: &str) -> SimResponse {
    if link.is_empty() { response } else { response.header("link", link) }
}
