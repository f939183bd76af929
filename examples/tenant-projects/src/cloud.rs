//! The three services as simulators over real HTTP on loopback, in this process. Each commits its
//! state to the data folder before it answers.

use std::{collections::BTreeMap, path::Path, time::Duration};

use example_command::{
    exit::Trouble,
    folder::{CloudFolder, Lock},
    stage::{LastCall, Simulators},
};
use provision_adapters::{
    http::BaseUrl,
    sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimServer, SimTime},
};
use provision_core::draw::{SystemEntropy, uuid_v4};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::services::{Auth, Realtime, Service, Shown, Storage};

/// The token that simulated services take.
pub const SIMULATED_TOKEN: &str = "simulated-services-token";
/// How long a registration takes to work, before the speed of the cloud.
const SETTLES_IN: Duration = Duration::from_secs(10);

/// A simulated service.
#[derive(Debug)]
pub struct ServiceSim {
    name: &'static str,
    settles_in: Duration,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    registrations: Vec<Kept>,
    /// How many calls that change something it was sent, by their method, whatever it said to them.
    #[serde(default)]
    sent: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: String,
    project: String,
    labels: BTreeMap<String, String>,
    ready_at: SimTime,
    hidden_until: SimTime,
}

#[derive(Deserialize)]
struct NewRegistration {
    project: String,
    database: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl ServiceSim {
    /// A service without registrations.
    #[must_use]
    pub fn of<S: Service>(_: S) -> Self {
        Self { name: S::NAME, settles_in: SETTLES_IN, state: State::default() }
    }

    fn shown(kept: &Kept, now: SimTime) -> Shown {
        Shown {
            id: kept.id.clone(),
            project: kept.project.clone(),
            ready: kept.ready_at <= now,
            labels: kept.labels.clone(),
        }
    }

    fn register(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let Ok(new) = request.json::<NewRegistration>() else { return self.refuse(422) };
        if new.database.is_empty() {
            return self.refuse(422);
        }
        if self.state.registrations.iter().any(|kept| kept.project == new.project) {
            return self.refuse(409);
        }
        // Drawn, and not counted: an empty folder begins anew, and the host's tables know no two
        // registrations of one id.
        let Ok(id) = uuid_v4(&SystemEntropy) else { return self.refuse(503) };
        let kept = Kept {
            id: format!("{}-{}", self.name, id.simple()),
            project: new.project,
            labels: new.labels,
            ready_at: now + self.settles_in,
            hidden_until: now + request.hidden_for,
        };
        let answer = SimResponse::json(201, &Self::shown(&kept, now));
        self.state.registrations.push(kept);
        answer
    }

    fn list(&self, request: &SimRequest, now: SimTime) -> SimResponse {
        let wanted = request.q("project");
        let listed = self.state.registrations.iter().filter(|kept| {
            kept.hidden_until <= now && wanted.is_none_or(|project| project == kept.project)
        });
        SimResponse::json(200, &listed.map(|kept| Self::shown(kept, now)).collect::<Vec<_>>())
    }

    fn remove(&mut self, id: &str) -> SimResponse {
        let before = self.state.registrations.len();
        self.state.registrations.retain(|kept| kept.id != id);
        if self.state.registrations.len() < before {
            SimResponse::empty(204)
        } else {
            self.refuse(404)
        }
    }
}

impl Provider for ServiceSim {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        if request.bearer() != Some(SIMULATED_TOKEN) {
            return self.refuse(401);
        }
        if *request.method != *"GET" {
            *self.state.sent.entry(request.method.to_string()).or_default() += 1;
        }
        match (&*request.method, &*request.segments()) {
            ("POST", ["v1", "registrations"]) => self.register(request, now),
            ("GET", ["v1", "registrations"]) => self.list(request, now),
            ("GET", ["v1", "registrations", id]) => {
                match self.state.registrations.iter().find(|kept| kept.id == *id) {
                    Some(kept) => SimResponse::json(200, &Self::shown(kept, now)),
                    None => self.refuse(404),
                }
            }
            ("DELETE", ["v1", "registrations", id]) => self.remove(id),
            _ => SimResponse::unhandled(request),
        }
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let item = |kept: &Kept| InventoryItem {
            provider: self.name.to_owned(),
            kind: "registration".to_owned(),
            id: kept.id.clone(),
            name: kept.project.clone(),
            labels: kept.labels.clone(),
        };
        self.state.registrations.iter().map(item).collect()
    }

    fn snapshot(&self) -> serde_json::Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn configure(&mut self, options: &SimOptions) {
        self.settles_in = SETTLES_IN.mul_f64(options.speed);
    }

    fn refuse(&self, status: u16) -> SimResponse {
        SimResponse::json(status, &json!({ "error": status }))
    }
}

/// The running services; they go down when this is dropped.
#[derive(Debug)]
pub struct Cloud {
    /// Who may sign in.
    pub auth: SimServer<ServiceSim>,
    /// Who hears of changes.
    pub realtime: SimServer<ServiceSim>,
    /// Where files are.
    pub storage: SimServer<ServiceSim>,
    _lock: Lock,
}

impl Cloud {
    /// Starts the services of a data folder, as they were when they ended.
    ///
    /// # Errors
    /// Another command runs them, or the folder cannot be used.
    pub async fn start(data_dir: &Path, speed: f64) -> Result<Self, Trouble> {
        let folder = CloudFolder::of(data_dir);
        let lock = folder.take_alone::<()>().await?;
        Ok(Self {
            auth: folder.start(ServiceSim::of(Auth), speed)?,
            realtime: folder.start(ServiceSim::of(Realtime), speed)?,
            storage: folder.start(ServiceSim::of(Storage), speed)?,
            _lock: lock,
        })
    }

    /// What is registered, read without starting anything.
    ///
    /// # Errors
    /// A file of the folder cannot be read.
    pub fn stored(data_dir: &Path) -> Result<Vec<InventoryItem>, Trouble> {
        let folder = CloudFolder::of(data_dir);
        let mut all = folder.stored(ServiceSim::of(Auth))?;
        all.extend(folder.stored(ServiceSim::of(Realtime))?);
        all.extend(folder.stored(ServiceSim::of(Storage))?);
        Ok(all)
    }

    /// Address of a service.
    pub(crate) fn base(server: &SimServer<ServiceSim>) -> Result<BaseUrl, Trouble> {
        let wrong = |error: provision_adapters::http::BaseUrlError| {
            Trouble::bug("service_address", error.to_string())
        };
        BaseUrl::parse(&server.url()).map_err(wrong)
    }
}

impl Simulators for Cloud {
    fn last_call(&self, path: &str, id: &str) -> Option<LastCall<'_>> {
        let service = match path {
            "auth" => &self.auth,
            "realtime" => &self.realtime,
            "storage" => &self.storage,
            _ => return None,
        };
        let part = format!("/registrations/{id}");
        Some(LastCall { faults: service.faults(), method: "GET", part })
    }
}
