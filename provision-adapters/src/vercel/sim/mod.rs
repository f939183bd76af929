//! A simulated Vercel: projects, variables, deployments that are queued, built and aliased,
//! domains, and the edge that serves what was deployed.
//!
//! Requests whose `Host` is an app's name go to the edge; all others are the API's.

mod deployments;
mod domains;
mod edge;
mod env;
mod limits;
mod projects;
mod show;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};

pub use self::state::Fate;
use self::state::State;
use crate::{
    sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimTime},
    vercel::OWNER_VARIABLE,
};

/// Token the simulator accepts.
pub const TOKEN: &str = "vercel-sim-token";
/// Scope of calls without a team.
pub const PERSONAL: &str = "user_sim";

/// A simulated Vercel. Its fields that a test may set are methods named for what they change.
#[derive(Debug)]
pub struct VercelSim {
    state: State,
    pub(self) setup: Setup,
}

/// What a test decided; not part of the state.
#[derive(Debug)]
struct Setup {
    tokens: BTreeSet<String>,
    teams: BTreeSet<String>,
    speed: f64,
    queue: Duration,
    build: Duration,
    alias: Duration,
    calls_per_minute: u64,
    deployments_per_day: Option<usize>,
    hidden_repos: BTreeSet<String>,
    fates: VecDeque<Fate>,
    needs: Option<BTreeSet<String>>,
    app_status: Option<u16>,
    dropped: BTreeSet<String>,
    refused: BTreeMap<String, u32>,
    env_busy: u32,
    sensitive_only: bool,
    in_transfer: BTreeSet<String>,
    dns: BTreeSet<String>,
    unasked: BTreeSet<String>,
}

impl Setup {
    /// Whether the DNS records of a domain are as the provider wants them.
    fn has_dns(&self, name: &str) -> bool {
        let zone = || name.split_once('.').map(|(_, zone)| format!("*.{zone}"));
        self.dns.contains(name) || zone().is_some_and(|zone| self.dns.contains(&zone))
    }
}

impl Default for VercelSim {
    fn default() -> Self {
        Self::new()
    }
}

impl VercelSim {
    /// An empty account: 3 s of queue, 20 s of build, 3 s until an alias leads to it.
    #[must_use]
    pub fn new() -> Self {
        let setup = Setup {
            tokens: BTreeSet::from([TOKEN.to_owned()]),
            teams: BTreeSet::new(),
            speed: 1.0,
            queue: Duration::from_secs(3),
            build: Duration::from_secs(20),
            alias: Duration::from_secs(3),
            calls_per_minute: 500,
            deployments_per_day: None,
            hidden_repos: BTreeSet::new(),
            fates: VecDeque::new(),
            needs: None,
            app_status: None,
            dropped: BTreeSet::new(),
            refused: BTreeMap::new(),
            env_busy: 0,
            sensitive_only: false,
            in_transfer: BTreeSet::new(),
            dns: BTreeSet::new(),
            unasked: BTreeSet::new(),
        };
        Self { state: State::default(), setup }
    }

    /// Accepts this token as well.
    pub fn accept_token(&mut self, token: &str) {
        self.setup.tokens.insert(token.to_owned());
    }

    /// Accepts this token no more.
    pub fn revoke_token(&mut self, token: &str) {
        self.setup.tokens.remove(token);
    }

    /// Lets the token work in a team.
    pub fn add_team(&mut self, team: &str) {
        self.setup.teams.insert(team.to_owned());
    }

    /// Sets the times of queue, build and alias, before the server's speed is applied.
    pub fn set_times(&mut self, queue: Duration, build: Duration, alias: Duration) {
        (self.setup.queue, self.setup.build, self.setup.alias) = (queue, build, alias);
    }

    /// Sets how many calls a minute each endpoint takes. Default 500.
    pub fn set_calls_per_minute(&mut self, calls: u64) {
        self.setup.calls_per_minute = calls;
    }

    /// Sets how many deployments a day the plan includes. Default no limit.
    pub fn set_deployments_per_day(&mut self, most: usize) {
        self.setup.deployments_per_day = Some(most);
    }

    /// Hides a repository `owner/name` from the provider's app, or shows it again.
    pub fn set_repo_hidden(&mut self, repo: &str, hidden: bool) {
        if hidden {
            self.setup.hidden_repos.insert(repo.to_owned());
        } else {
            self.setup.hidden_repos.remove(repo);
        }
    }

    /// Decides how the next deployment ends; several decide for several.
    pub fn decide_next(&mut self, fate: Fate) {
        self.setup.fates.push_back(fate);
    }

    /// Sets the variables the app cannot run without. Default: any one variable.
    pub fn set_app_needs<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        self.setup.needs = Some(keys.into_iter().map(ToOwned::to_owned).collect());
    }

    /// Makes every deployed app answer with this status.
    pub fn set_app_status(&mut self, status: Option<u16>) {
        self.setup.app_status = status;
    }

    /// Loses this variable whenever it is set, although the call answers that it was.
    pub fn drop_variable(&mut self, key: &str) {
        self.setup.dropped.insert(key.to_owned());
    }

    /// Lists this variable as failed in the next `times` calls that set it.
    pub fn refuse_variable(&mut self, key: &str, times: u32) {
        self.setup.refused.insert(key.to_owned(), times);
    }

    /// Answers the next `times` writes of variables with "ongoing update".
    pub fn set_env_busy(&mut self, times: u32) {
        self.setup.env_busy = times;
    }

    /// Turns the team's policy on: production and preview values must be sensitive.
    pub fn set_sensitive_only(&mut self, on: bool) {
        self.setup.sensitive_only = on;
    }

    /// Begins or ends the transfer of a project.
    pub fn set_in_transfer(&mut self, name: &str, on: bool) {
        if on {
            self.setup.in_transfer.insert(name.to_owned());
        } else {
            self.setup.in_transfer.remove(name);
        }
    }

    /// Sets the DNS records of a domain as the provider wants them; `*.example.com` is those of all
    /// domains right below it.
    pub fn set_dns(&mut self, domain: &str) {
        self.setup.dns.insert(domain.to_owned());
    }

    /// As [`Self::set_dns`], for a domain whose records are looked at only when that is asked for,
    /// as of one that was another account's before.
    pub fn set_dns_unasked(&mut self, domain: &str) {
        self.set_dns(domain);
        self.setup.unasked.insert(domain.to_owned());
    }

    /// Puts a project of somebody else's in a scope.
    pub fn seed_project(&mut self, scope: &str, name: &str) -> String {
        let id = self.state.id("prj_", 24);
        self.state.projects.push(state::Project {
            id: id.clone(),
            scope: scope.to_owned(),
            name: name.to_owned(),
            created: 1_600_000_000_000,
            hidden_until: 0,
            settings: json!({}),
            link: None,
            env: Vec::new(),
            domains: Vec::new(),
            fixture: true,
        });
        id
    }

    /// Names and targets of a project's variables, without the one that carries the mark.
    #[must_use]
    pub fn variables(&self, project: &str) -> Vec<(String, Vec<String>)> {
        let found = self.state.projects.iter().find(|p| p.id == project || p.name == project);
        let shown = |v: &state::Variable| (v.key.clone(), v.targets.iter().cloned().collect());
        found
            .map(|p| p.env.iter().filter(|v| v.key != OWNER_VARIABLE).map(shown).collect())
            .unwrap_or_default()
    }

    /// Names of the variables a deployment was built with.
    #[must_use]
    pub fn built_with(&self, deployment: &str) -> Vec<String> {
        let found = self.state.deployments.iter().find(|d| d.id == deployment);
        found.map(|d| d.env.iter().cloned().collect()).unwrap_or_default()
    }

    fn scaled(&self, time: Duration) -> u64 {
        let scaled = time.as_secs_f64() * self.setup.speed.max(0.0);
        let scaled = Duration::try_from_secs_f64(scaled).unwrap_or(time);
        u64::try_from(scaled.as_millis()).unwrap_or(u64::MAX)
    }

    /// The scope a request works in, or the refusal.
    fn scope(&self, request: &SimRequest) -> Result<String, SimResponse> {
        let Some(token) = request.bearer() else {
            return Err(error(401, "unauthorized", "No token was provided"));
        };
        if !self.setup.tokens.contains(token) {
            return Err(error(403, "forbidden", "Not authorized: the token is not valid"));
        }
        match request.q("teamId").or_else(|| request.q("slug")) {
            None => Ok(PERSONAL.to_owned()),
            Some(team) if self.setup.teams.contains(team) => Ok(team.to_owned()),
            Some(_) => Err(error(403, "forbidden", "Not authorized: not a member of the team")),
        }
    }

    fn route(&mut self, request: &SimRequest, scope: &str, now: u64) -> SimResponse {
        let path = request.segments();
        let rest = path.get(1..).unwrap_or_default();
        match (request.method.as_str(), rest) {
            ("POST", ["projects"]) => self.create_project(request, scope, now),
            ("GET", ["projects"]) => self.list_projects(request, scope, now),
            ("GET", ["projects", id]) => self.show_project(scope, id, now),
            ("DELETE", ["projects", id]) => self.delete_project(scope, id),
            ("GET", ["projects", id, "env"]) => self.list_env(request, scope, id),
            ("POST", ["projects", id, "env"]) => self.set_env(request, scope, id, now),
            ("DELETE", ["projects", id, "env", env]) => self.delete_env(scope, id, env),
            ("POST", ["projects", id, "domains"]) => self.add_domain(request, scope, id, now),
            ("GET", ["projects", id, "domains", name]) => self.show_domain(scope, id, name),
            ("DELETE", ["projects", id, "domains", name]) => self.remove_domain(scope, id, name),
            ("POST", ["projects", id, "domains", name, "verify"]) => {
                self.verify_domain(scope, id, name)
            }
            ("GET", ["domains", name, "config"]) => self.domain_config(name),
            ("POST", ["files"]) => self.upload_file(request),
            ("POST", ["deployments"]) => self.create_deployment(request, scope, now),
            ("GET", ["deployments"]) => self.list_deployments(request, scope, now),
            ("GET", ["deployments", id]) => self.show_deployment(scope, id, now),
            ("DELETE", ["deployments", id]) => self.delete_deployment(scope, id),
            ("PATCH", ["deployments", id, "cancel"]) => self.cancel_deployment(scope, id, now),
            _ => SimResponse::unhandled(request),
        }
    }
}

impl Provider for VercelSim {
    fn name(&self) -> &'static str {
        "vercel"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /*/projects",
            "DELETE /*/projects/*",
            "POST /*/projects/*/env",
            "DELETE /*/projects/*/env/*",
            "POST /*/projects/*/domains",
            "DELETE /*/projects/*/domains/*",
            "POST /*/projects/*/domains/*/verify",
            "POST /*/files",
            "POST /*/deployments",
            "DELETE /*/deployments/*",
            "PATCH /*/deployments/*/cancel",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if let Some(answer) = self.serve_app(request, now) {
            return answer;
        }
        if !limits::is_known(request) {
            return SimResponse::unhandled(request);
        }
        let scope = match self.scope(request) {
            Ok(scope) => scope,
            Err(refusal) => return refusal,
        };
        let window = match self.count(request, &scope, now) {
            Ok(window) => window,
            Err(refusal) => return refusal,
        };
        let answer = self.route(request, &scope, now);
        self.announce(answer, window)
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let mut items = Vec::new();
        let item = |kind: &str, id: &str, name: &str, labels| InventoryItem {
            provider: "vercel".to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            labels,
        };
        for project in &self.state.projects {
            if !project.fixture {
                let marker = project.env.iter().find(|v| v.key == OWNER_VARIABLE);
                let labels =
                    marker.map(|v| (OWNER_VARIABLE.to_owned(), v.value.clone())).into_iter();
                items.push(item("project", &project.id, &project.name, labels.collect()));
            }
            for variable in project.env.iter().filter(|v| v.key != OWNER_VARIABLE) {
                let comment = variable.comment.as_ref().map(|c| ("comment".to_owned(), c.clone()));
                let id = format!("{}/{}", project.id, variable.id);
                items.push(item("env", &id, &variable.key, comment.into_iter().collect()));
            }
            for domain in &project.domains {
                let id = format!("{}/{}", project.id, domain.name);
                items.push(item("domain", &id, &domain.name, BTreeMap::new()));
            }
        }
        for deployment in &self.state.deployments {
            let meta = deployment.meta.clone();
            items.push(item("deployment", &deployment.id, &deployment.name, meta));
        }
        items
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn configure(&mut self, options: &SimOptions) {
        self.setup.speed = options.speed;
    }

    fn refuse(&self, status: u16) -> SimResponse {
        match status {
            401 => error(401, "unauthorized", "The token is not valid"),
            403 => error(403, "forbidden", "Not authorized"),
            404 => error(404, "not_found", "The requested resource was not found"),
            409 => error(409, "conflict", "The request conflicts with another one"),
            429 => error(429, "rate_limited", "Too many requests"),
            500.. => error(status, "internal_server_error", "An unexpected error occurred"),
            _ => error(status, "bad_request", "Invalid request"),
        }
    }
}

/// The provider's way to refuse.
fn error(status: u16, code: &str, message: &str) -> SimResponse {
    SimResponse::json(status, &json!({ "error": { "code": code, "message": message } }))
}

fn not_found(what: &str) -> SimResponse {
    error(404, "not_found", &format!("{what} not found"))
}

/// Reads an object body that may have these keys only, as the provider's strict schemas do.
fn strict_object(request: &SimRequest, allowed: &[&str]) -> Result<Value, SimResponse> {
    let body: Value = request.json().map_err(|_| error(400, "bad_request", "Invalid JSON"))?;
    let Some(object) = body.as_object() else {
        return Err(error(400, "bad_request", "Invalid request: should be object"));
    };
    match object.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(error(
            400,
            "bad_request",
            &format!("Invalid request: should NOT have additional property `{key}`."),
        )),
        None => Ok(body),
    }
}
