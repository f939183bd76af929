//! A simulated Supabase: one organization, projects that come up in stages, a database in each of
//! them, and the data API that clients read it through.
//!
//! Paths below `/v1` are the Management API. A project's own API is below `/p/<ref>`, where the
//! real provider has `https://<ref>.supabase.co`.

mod create;
mod data_api;
mod database;
mod limits;
#[cfg(feature = "sim-postgres")]
mod postgres;
mod projects;
mod server;
mod show;
pub mod sql;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use provision_core::OwnerMark;
use serde_json::{Value, json};

#[cfg(feature = "sim-postgres")]
pub use self::postgres::PostgresServer;
pub use self::state::Fate;
use self::{
    database::{Database, Way},
    server::SqlServer,
    state::{Project, State},
};
use crate::sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimTime};

/// Token the simulator accepts.
pub const TOKEN: &str = "sbp_sim_0123456789abcdef0123456789abcdef01234567";
/// Slug of the organization that exists.
pub const ORGANIZATION: &str = "sim-organization";

/// A simulated Supabase. What a test may set are methods named for what they change.
#[derive(Debug)]
pub struct SupabaseSim {
    state: State,
    setup: Setup,
}

/// What a test decided; not part of the state.
#[derive(Debug)]
struct Setup {
    tokens: BTreeSet<String>,
    forbidden: bool,
    speed: f64,
    seed: u64,
    stages: Stages,
    calls_per_minute: u64,
    projects_max: Option<usize>,
    fates: VecDeque<Fate>,
    full_regions: BTreeSet<String>,
    data_api: bool,
    /// Where the databases of new projects are; without it they are models.
    server: Option<Box<dyn SqlServer>>,
    /// Whether the state outlives this cloud.
    lasting: bool,
}

impl Setup {
    fn server(&self) -> Option<&dyn SqlServer> {
        self.server.as_deref()
    }
}

/// How long each stage of a project takes, before the speed.
#[derive(Debug, Clone, Copy)]
struct Stages {
    unknown: Duration,
    coming_up: Duration,
    services: Duration,
    keys: Duration,
    going_down: Duration,
}

impl Default for SupabaseSim {
    fn default() -> Self {
        Self::new()
    }
}

impl SupabaseSim {
    /// An empty organization. A project is UNKNOWN for 2 s, up after 40 s, its services 20 s
    /// later, its keys another 5 s later; a deleted one goes down for 10 s.
    #[must_use]
    pub fn new() -> Self {
        let seconds = Duration::from_secs;
        let setup = Setup {
            tokens: BTreeSet::from([TOKEN.to_owned()]),
            forbidden: false,
            speed: 1.0,
            seed: 0,
            stages: Stages {
                unknown: seconds(2),
                coming_up: seconds(40),
                services: seconds(20),
                keys: seconds(5),
                going_down: seconds(10),
            },
            calls_per_minute: 120,
            projects_max: None,
            fates: VecDeque::new(),
            full_regions: BTreeSet::new(),
            data_api: true,
            server: None,
            lasting: false,
        };
        Self { state: State::default(), setup }
    }

    /// Gives the projects that are created from now on real databases, on a PostgreSQL server. A
    /// project's database goes with the project, and with a cloud that keeps nothing on the disk.
    #[cfg(feature = "sim-postgres")]
    pub fn set_postgres(&mut self, server: PostgresServer) {
        self.setup.server = Some(Box::new(server));
    }

    /// Whether databases of this cloud are on a server, and it was not told which: they cannot be
    /// used then, nor removed.
    #[must_use]
    pub fn lacks_server(&self) -> bool {
        let mut projects = self.state.projects.values();
        self.setup.server.is_none() && projects.any(|project| project.database.is_on_server())
    }

    /// Accepts this token and no other.
    pub fn set_token(&mut self, token: &str) {
        self.setup.tokens = BTreeSet::from([token.to_owned()]);
    }

    /// Answers 403 to everything, as for a token without the permission.
    pub fn set_forbidden(&mut self, forbidden: bool) {
        self.setup.forbidden = forbidden;
    }

    /// Sets the calls per minute for each endpoint of each project or organization.
    pub fn set_calls_per_minute(&mut self, calls: u64) {
        self.setup.calls_per_minute = calls;
    }

    /// Refuses to create more than so many projects, as a free plan does.
    pub fn set_projects_max(&mut self, most: usize) {
        self.setup.projects_max = Some(most);
    }

    /// Sets whether new projects have the Data API; without it, its service never comes up.
    pub fn set_data_api(&mut self, on: bool) {
        self.setup.data_api = on;
    }

    /// Says that a region has no room.
    pub fn set_region_full(&mut self, region: &str) {
        self.setup.full_regions.insert(region.to_owned());
    }

    /// Decides what becomes of the next project that is created; several are taken in their order.
    pub fn set_next_fate(&mut self, fate: Fate) {
        self.setup.fates.push_back(fate);
    }

    /// Puts a project there that nobody's run made. It is up, and never in the inventory.
    pub fn add_project(&mut self, name: &str) -> String {
        let id = self.state.next_id(self.setup.seed);
        let database = Database::new(self.setup.server(), &id);
        let mut project = Project::new(&id, self.state.serial, name, database);
        project.fixture = true;
        self.state.projects.insert(id.clone(), project);
        id
    }

    /// Ids of the projects that exist, by name.
    #[must_use]
    pub fn projects(&self) -> BTreeMap<String, String> {
        let there = self.state.projects.values().filter(|p| p.deleted_ms.is_none());
        there.map(|p| (p.id.clone(), p.name.clone())).collect()
    }

    /// The password a project was created with.
    #[must_use]
    pub fn password(&self, id: &str) -> Option<&str> {
        self.state.projects.get(id).map(|project| project.password.as_str())
    }

    /// Every key of a project, in clear.
    #[must_use]
    pub fn keys(&self, id: &str) -> Vec<String> {
        let project = self.state.projects.get(id);
        project.map(|p| p.keys.all().map(str::to_owned).to_vec()).unwrap_or_default()
    }

    /// Runs SQL in a project's database as its owner.
    ///
    /// # Errors
    /// There is no such project, or what the database says.
    pub fn execute(&mut self, id: &str, sql: &str) -> Result<Vec<Value>, String> {
        let project = self.state.projects.get_mut(id).ok_or("no such project")?;
        let way = Way { server: self.setup.server(), password: &project.password };
        project.database.run(way, sql).map_err(|error| error.to_string())
    }

    fn refusal(status: u16, message: &str) -> SimResponse {
        SimResponse::json(status, &json!({ "message": message }))
    }

    /// The Management API.
    fn manage(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let token = request.bearer().unwrap_or_default();
        if !self.setup.tokens.contains(token) {
            return self.refuse(401);
        }
        if self.setup.forbidden {
            return self.refuse(403);
        }
        let path = request.segments();
        match (request.method.as_str(), path.get(1..).unwrap_or_default()) {
            ("GET", ["organizations"]) => show::organizations(),
            ("GET", ["organizations", slug]) => show::organization(slug),
            ("GET", ["organizations", slug, "projects"]) => self.list(slug, request, now),
            ("GET", ["projects"]) => self.list_all(now),
            ("POST", ["projects"]) => self.create(request, now),
            ("GET", ["projects", "available-regions"]) => {
                show::regions(request, &self.setup.full_regions)
            }
            (_, ["projects", id, rest @ ..]) => self.project(id, rest, request, now),
            _ => SimResponse::unhandled(request),
        }
    }
}

/// Nobody else knows the databases of a cloud that is forgotten with its process.
impl Drop for SupabaseSim {
    fn drop(&mut self) {
        if let Some(server) = self.setup.server.as_deref().filter(|_| !self.setup.lasting) {
            let databases = self.state.projects.values_mut().map(|p| &mut p.database);
            databases.for_each(|database| database.remove(server));
        }
    }
}

impl Provider for SupabaseSim {
    fn name(&self) -> &'static str {
        "supabase"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /v1/projects",
            "DELETE /v1/projects/*",
            "POST /v1/projects/*/database/query",
            "POST /p/*/rest/v1/rpc/*",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        match request.path.first().map(String::as_str) {
            Some("p") => self.data_api(request, now),
            Some("v1") => {
                let key = limits::key(request);
                match self.admit(&key, now) {
                    Ok(window) => window.onto(self.manage(request, now)),
                    Err(window) => window.onto(self.refuse(429)),
                }
            }
            _ => SimResponse::unhandled(request),
        }
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let made = self.state.projects.values().filter(|p| !p.fixture && p.deleted_ms.is_none());
        made.map(|project| InventoryItem {
            provider: "supabase".to_owned(),
            kind: "project".to_owned(),
            id: project.id.clone(),
            name: project.name.clone(),
            labels: OwnerMark::find_in(&project.name)
                .map(|mark| mark.labels().into_iter().collect())
                .unwrap_or_default(),
        })
        .collect()
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or(Value::Null)
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn configure(&mut self, options: &SimOptions) {
        self.setup.speed = options.speed;
        self.setup.seed = options.seed;
        self.setup.lasting = options.persist.is_some();
    }

    fn committed(&mut self) {
        let gone = self.state.projects.values_mut().filter(|p| p.deleted_ms.is_some());
        if let Some(server) = self.setup.server.as_deref() {
            gone.for_each(|project| project.database.remove(server));
        }
    }

    fn refuse(&self, status: u16) -> SimResponse {
        let message = match status {
            401 => "Unauthorized",
            403 => "Forbidden resource",
            429 => "ThrottlerException: Too Many Requests",
            500 => "Internal server error",
            502 => "Bad gateway",
            503 => "Service unavailable",
            504 => "Gateway timeout",
            _ => "Request failed",
        };
        Self::refusal(status, message)
    }
}
