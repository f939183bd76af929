//! A simulated Hetzner Cloud: one project with servers, SSH keys, firewalls, networks, volumes,
//! the actions that change them in their own time, and an allowance of calls that is refilled.

mod actions;
mod catalogue;
mod firewalls;
mod keys;
mod networks;
mod servers;
mod show;
mod state;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use self::state::{Base, Kind, State};
use crate::{
    hetzner::CALLS_PER_HOUR,
    sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimTime},
};

/// Token the simulator accepts.
pub const TOKEN: &str = "hetzner-sim-token";

/// A simulated Hetzner Cloud. What a test may decide is a method named for it.
#[derive(Debug)]
pub struct HetznerSim {
    state: State,
    setup: Setup,
    /// How long listings do not show what the request under way makes, in milliseconds.
    hiding: u64,
}

/// What a test decided; not part of the state.
#[derive(Debug)]
struct Setup {
    tokens: BTreeSet<String>,
    readers: BTreeSet<String>,
    speed: f64,
    seed: u64,
    calls: u64,
    times: BTreeMap<String, Duration>,
    full: BTreeSet<String>,
    servers_max: Option<usize>,
    failing: Vec<(String, String)>,
    refusals: Vec<(u16, String)>,
    deaf: BTreeSet<String>,
    outrun: bool,
}

impl Default for HetznerSim {
    fn default() -> Self {
        Self::new()
    }
}

impl HetznerSim {
    /// An empty project. A server is made in 8 s and started in 3 s, other actions take 2 s.
    #[must_use]
    pub fn new() -> Self {
        let setup = Setup {
            tokens: BTreeSet::from([TOKEN.to_owned()]),
            readers: BTreeSet::new(),
            speed: 1.0,
            seed: 0,
            calls: u64::from(CALLS_PER_HOUR),
            times: BTreeMap::from([
                ("create_server".to_owned(), Duration::from_secs(8)),
                ("start_server".to_owned(), Duration::from_secs(3)),
                ("delete_server".to_owned(), Duration::from_secs(5)),
                ("rebuild_server".to_owned(), Duration::from_secs(30)),
            ]),
            full: BTreeSet::new(),
            servers_max: None,
            failing: Vec::new(),
            refusals: Vec::new(),
            deaf: BTreeSet::new(),
            outrun: false,
        };
        Self { state: State::default(), setup, hiding: 0 }
    }

    /// Accepts this token as well.
    pub fn accept_token(&mut self, token: &str) {
        self.setup.tokens.insert(token.to_owned());
    }

    /// Accepts this token for reading only.
    pub fn accept_reader(&mut self, token: &str) {
        self.accept_token(token);
        self.setup.readers.insert(token.to_owned());
    }

    /// Accepts this token no more.
    pub fn revoke_token(&mut self, token: &str) {
        self.setup.tokens.remove(token);
    }

    /// Sets how many calls an hour the project has. Default 3,600.
    pub fn set_calls_per_hour(&mut self, calls: u64) {
        self.setup.calls = calls;
    }

    /// Sets how long actions of a command take, before the server's speed is applied.
    pub fn set_time(&mut self, command: &str, time: Duration) {
        self.setup.times.insert(command.to_owned(), time);
    }

    /// Ends the actions that are under way; what they do is seen by the next request.
    pub fn finish_actions(&mut self) {
        for action in self.state.actions.iter_mut().filter(|action| !action.applied) {
            action.ends = action.started;
        }
    }

    /// Sets the factor of all times, as the options of the server do.
    pub fn set_speed(&mut self, speed: f64) {
        self.setup.speed = speed;
    }

    /// Takes the room of a location away, or gives it back.
    pub fn set_full(&mut self, location: &str, full: bool) {
        if full {
            self.setup.full.insert(location.to_owned());
        } else {
            self.setup.full.remove(location);
        }
    }

    /// Limits how many servers the project may have.
    pub fn set_servers_max(&mut self, most: usize) {
        self.setup.servers_max = Some(most);
    }

    /// Lets the next action of a command end with this error; several decide for several.
    pub fn fail_next(&mut self, command: &str, code: &str) {
        self.setup.failing.push((command.to_owned(), code.to_owned()));
    }

    /// Refuses the next changing request with this status and code.
    pub fn refuse_next(&mut self, status: u16, code: &str) {
        self.setup.refusals.push((status, code.to_owned()));
    }

    /// Lets a server not listen when it is asked to shut down, as a machine that hangs.
    pub fn set_deaf(&mut self, name: &str) {
        self.setup.deaf.insert(name.to_owned());
    }

    /// Lets somebody else attach the next volume to the same server, a moment before.
    pub fn outrun_next_volume(&mut self) {
        self.setup.outrun = true;
    }

    /// Attaches a volume to a server, as a person may.
    pub fn put_volume(&mut self, volume: u64, server: u64) {
        for known in self.state.volumes.iter_mut().filter(|v| v.base.id == volume) {
            known.server = Some(server);
        }
    }

    /// Replaces the rules of a firewall, as a person may.
    pub fn set_rules(&mut self, name: &str, rules: &[Value]) {
        for known in self.state.firewalls.iter_mut().filter(|f| f.base.name == name) {
            known.rules = rules.to_vec();
        }
    }

    /// Protects everything of this name from deletion, or ends that.
    pub fn set_protected(&mut self, name: &str, protected: bool) {
        self.each(|base| {
            if base.name == name {
                base.protected = protected;
            }
        });
    }

    /// Replaces the labels of everything of this name, as a person may.
    pub fn set_labels(&mut self, name: &str, labels: &[(String, String)]) {
        self.each(|base| {
            if base.name == name {
                base.labels = labels.iter().cloned().collect();
            }
        });
    }

    /// Renames everything of this name, as a person may.
    pub fn rename(&mut self, name: &str, new: &str) {
        self.each(|base| {
            if base.name == name {
                new.clone_into(&mut base.name);
            }
        });
    }

    /// Adds a server of somebody else's, and says its id.
    pub fn seed_server(&mut self, name: &str, labels: &[(String, String)]) -> u64 {
        let base = self.fixture(name, labels);
        let id = base.id;
        self.state.servers.push(state::Server {
            base,
            kind: "cx23".to_owned(),
            image: "debian-13".to_owned(),
            location: "fsn1".to_owned(),
            status: "running".to_owned(),
            disk: catalogue::disk("cx23"),
            ipv4: true,
            ipv6: true,
            keyed: true,
            firewalls: Vec::new(),
            networks: Vec::new(),
            user_data: None,
        });
        id
    }

    /// Adds an SSH key of somebody else's, and says its id.
    pub fn seed_key(&mut self, name: &str, public_key: &str) -> u64 {
        let base = self.fixture(name, &[]);
        let id = base.id;
        self.state.keys.push(state::Key { base, public_key: public_key.to_owned() });
        id
    }

    /// What a server was told at its first boot.
    #[must_use]
    pub fn user_data(&self, name: &str) -> Option<String> {
        let server = self.state.servers.iter().find(|server| server.base.name == name);
        server.and_then(|server| server.user_data.clone())
    }

    /// The provider's word for where a server is in its life.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<String> {
        let server = self.state.servers.iter().find(|server| server.base.name == name);
        server.map(|server| server.status.clone())
    }

    /// What is on servers is there, too.
    fn attachments(&self, items: &mut Vec<InventoryItem>) {
        let mut add = |kind: &str, thing: u64, server: u64| {
            items.push(InventoryItem {
                provider: "hetzner".to_owned(),
                kind: "attachment".to_owned(),
                id: format!("{kind}/{thing}/{server}"),
                name: format!("{kind} {thing}"),
                labels: BTreeMap::new(),
            });
        };
        for server in &self.state.servers {
            let id = server.base.id;
            server.firewalls.iter().for_each(|firewall| add("firewall", *firewall, id));
            server.networks.iter().for_each(|(network, _)| add("network", *network, id));
        }
        for volume in &self.state.volumes {
            volume.server.iter().for_each(|server| add("volume", volume.base.id, *server));
        }
    }

    fn fixture(&mut self, name: &str, labels: &[(String, String)]) -> Base {
        Base {
            id: self.state.id(),
            name: name.to_owned(),
            labels: labels.iter().cloned().collect(),
            created: 1_600_000_000_000,
            hidden_until: 0,
            protected: false,
            fixture: true,
        }
    }

    fn each(&mut self, mut change: impl FnMut(&mut Base)) {
        let State { servers, keys, firewalls, networks, volumes, .. } = &mut self.state;
        servers.iter_mut().for_each(|thing| change(thing.base_mut()));
        keys.iter_mut().for_each(|thing| change(thing.base_mut()));
        firewalls.iter_mut().for_each(|thing| change(thing.base_mut()));
        networks.iter_mut().for_each(|thing| change(thing.base_mut()));
        volumes.iter_mut().for_each(|thing| change(thing.base_mut()));
    }

    /// When listings show what is made now.
    fn hidden_until(&self, now: u64) -> u64 {
        if self.hiding == 0 { 0 } else { now.saturating_add(self.hiding) }
    }

    /// What every new thing has: a fresh id, its name and its labels.
    fn base(&mut self, body: &Value, now: u64) -> Result<Base, SimResponse> {
        let mut labels = BTreeMap::new();
        for (key, value) in at(body, "labels").as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or("//");
            if !super::steps::is_label(value) || key.starts_with("hetzner.cloud/") {
                return Err(invalid("labels"));
            }
            labels.insert(key.clone(), value.to_owned());
        }
        Ok(Base {
            id: self.state.id(),
            name: at(body, "name").as_str().unwrap_or_default().to_owned(),
            labels,
            created: now,
            hidden_until: self.hidden_until(now),
            protected: false,
            fixture: false,
        })
    }

    /// How long an action takes.
    fn takes(&self, command: &str) -> u64 {
        let time = self.setup.times.get(command).copied().unwrap_or(Duration::from_secs(2));
        let scaled = time.as_secs_f64() * self.setup.speed.max(0.0);
        let scaled = Duration::try_from_secs_f64(scaled).unwrap_or(time);
        u64::try_from(scaled.as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a call, or refuses it: one call comes back each second.
    fn count(&mut self, now: u64) -> bool {
        let every = 3_600_000 / self.setup.calls.max(1);
        let calls = &mut self.state.calls;
        let back = now.saturating_sub(calls.since) / every;
        calls.used = calls.used.saturating_sub(back);
        calls.since = if calls.used == 0 { now } else { calls.since + back * every };
        calls.all += 1;
        let room = calls.used < self.setup.calls;
        if room {
            calls.used += 1;
        }
        room
    }

    /// The three headers, and how the provider finds an answer again.
    fn announce(&self, answer: SimResponse, now: u64) -> SimResponse {
        let every = 3_600_000 / self.setup.calls.max(1);
        let calls = self.state.calls;
        let full = (now + calls.used * every).div_ceil(1000);
        answer
            .header("ratelimit-limit", &self.setup.calls.to_string())
            .header("ratelimit-remaining", &self.setup.calls.saturating_sub(calls.used).to_string())
            .header("ratelimit-reset", &full.to_string())
            .header("x-correlation-id", &format!("sim-{:08x}", calls.all))
    }

    fn refusal(&mut self, request: &SimRequest) -> Option<SimResponse> {
        let Some(token) = request.bearer().filter(|token| self.setup.tokens.contains(*token))
        else {
            return Some(error(401, "unauthorized", "unable to authenticate"));
        };
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        if !reads && self.setup.readers.contains(token) {
            return Some(error(
                401,
                "token_readonly",
                "token is only allowed to perform GET requests",
            ));
        }
        if reads || self.setup.refusals.is_empty() {
            return None;
        }
        let (status, code) = self.setup.refusals.remove(0);
        Some(error(status, &code, "as planned"))
    }

    fn route(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let path = request.segments();
        let Some((&"v1", path)) = path.split_first() else {
            return SimResponse::unhandled(request);
        };
        match path {
            ["servers", rest @ ..] => self.server_routes(request, rest, now),
            ["ssh_keys", rest @ ..] => self.key_routes(request, rest, now),
            ["firewalls", rest @ ..] => self.firewall_routes(request, rest, now),
            ["networks", rest @ ..] => self.network_routes(request, rest, now),
            ["volumes", rest @ ..] => self.volume_routes(request, rest, now),
            ["actions", rest @ ..] => self.action_routes(request, rest, now),
            ["pricing"] if request.method == "GET" => {
                SimResponse::json(200, &json!({ "pricing": catalogue::pricing() }))
            }
            ["datacenters", ..] => {
                error(410, "deprecated_api_endpoint", "the endpoint was removed on 2026-10-01")
            }
            _ => SimResponse::unhandled(request),
        }
    }
}

impl Provider for HetznerSim {
    fn name(&self) -> &'static str {
        "hetzner"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /v1/servers",
            "DELETE /v1/servers/*",
            "POST /v1/servers/*/actions/poweron",
            "POST /v1/servers/*/actions/poweroff",
            "POST /v1/servers/*/actions/shutdown",
            "POST /v1/servers/*/actions/rebuild",
            "POST /v1/servers/*/actions/change_type",
            "POST /v1/servers/*/actions/attach_to_network",
            "POST /v1/servers/*/actions/detach_from_network",
            "POST /v1/ssh_keys",
            "DELETE /v1/ssh_keys/*",
            "POST /v1/firewalls",
            "DELETE /v1/firewalls/*",
            "POST /v1/firewalls/*/actions/set_rules",
            "POST /v1/firewalls/*/actions/apply_to_resources",
            "POST /v1/firewalls/*/actions/remove_from_resources",
            "POST /v1/networks",
            "DELETE /v1/networks/*",
            "POST /v1/volumes",
            "DELETE /v1/volumes/*",
            "POST /v1/volumes/*/actions/attach",
            "POST /v1/volumes/*/actions/detach",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.hiding = u64::try_from(request.hidden_for.as_millis()).unwrap_or(u64::MAX);
        self.state.settle(now);
        let answer = if !self.count(now) {
            error(429, "rate_limit_exceeded", "limit of requests per hour reached")
        } else if let Some(refusal) = self.refusal(request) {
            refusal
        } else {
            let answer = self.route(request, now);
            self.state.settle(now);
            answer
        };
        self.announce(answer, now)
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let mut items = Vec::new();
        things(&mut items, "server", &self.state.servers);
        things(&mut items, "ssh_key", &self.state.keys);
        things(&mut items, "firewall", &self.state.firewalls);
        things(&mut items, "network", &self.state.networks);
        things(&mut items, "volume", &self.state.volumes);
        self.attachments(&mut items);
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
        (self.setup.speed, self.setup.seed) = (options.speed, options.seed);
    }

    fn refuse(&self, status: u16) -> SimResponse {
        let code = match status {
            400 => "json_error",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            409 => "conflict",
            412 => "resource_unavailable",
            423 => "locked",
            429 => "rate_limit_exceeded",
            502 => "bad_gateway",
            503 => "unavailable",
            504 => "timeout",
            500.. => "server_error",
            _ => "invalid_input",
        };
        error(status, code, "refused")
    }
}

fn things<T: Kind>(items: &mut Vec<InventoryItem>, kind: &str, all: &[T]) {
    for base in all.iter().map(Kind::base).filter(|base| !base.fixture) {
        items.push(InventoryItem {
            provider: "hetzner".to_owned(),
            kind: kind.to_owned(),
            id: base.id.to_string(),
            name: base.name.clone(),
            labels: base.labels.clone(),
        });
    }
}

/// A field of a body; null when it is not there.
fn at<'a>(body: &'a Value, name: &str) -> &'a Value {
    body.get(name).unwrap_or(&Value::Null)
}

/// The provider's way to refuse.
fn error(status: u16, code: &str, message: &str) -> SimResponse {
    let body = json!({ "error": { "code": code, "message": message, "details": null } });
    SimResponse::json(status, &body)
}

fn with_field(status: u16, code: &str, field: &str) -> SimResponse {
    let details = json!({ "fields": [{ "name": field, "messages": ["is not usable"] }] });
    let message = format!("invalid input in field '{field}'");
    let body = json!({ "error": { "code": code, "message": message, "details": details } });
    SimResponse::json(status, &body)
}

fn invalid(field: &str) -> SimResponse {
    with_field(422, "invalid_input", field)
}

fn taken(field: &str) -> SimResponse {
    with_field(409, "uniqueness_error", field)
}

fn not_found(what: &str) -> SimResponse {
    error(404, "not_found", &format!("{what} not found"))
}

/// Reads an object body that may have these keys only.
fn strict_object(request: &SimRequest, allowed: &[&str]) -> Result<Value, SimResponse> {
    let body: Value = request.json().map_err(|_| error(400, "json_error", "invalid JSON"))?;
    let Some(object) = body.as_object() else {
        return Err(error(400, "json_error", "the body is no object"));
    };
    match object.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(invalid(key)),
        None => Ok(body),
    }
}
