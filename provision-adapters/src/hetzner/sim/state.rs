//! What a simulated Hetzner remembers. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    pub(super) calls: Calls,
    pub(super) servers: Vec<Server>,
    pub(super) keys: Vec<Key>,
    pub(super) firewalls: Vec<Firewall>,
    pub(super) networks: Vec<Network>,
    pub(super) volumes: Vec<Volume>,
    pub(super) actions: Vec<Action>,
}

/// The project's calls: used ones come back one by one.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Calls {
    pub(super) used: u64,
    pub(super) since: u64,
    pub(super) all: u64,
}

/// What all kinds have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: u64,
    pub(super) hidden_until: u64,
    pub(super) protected: bool,
    /// Made by a test before any run: not in the inventory.
    pub(super) fixture: bool,
}

/// A kind of things, as routes treat all kinds alike.
pub(super) trait Kind {
    fn base(&self) -> &Base;
    fn base_mut(&mut self) -> &mut Base;
}

macro_rules! kinds {
    ($($kind:ident),*) => {$(
        impl Kind for $kind {
            fn base(&self) -> &Base {
                &self.base
            }

            fn base_mut(&mut self) -> &mut Base {
                &mut self.base
            }
        }
    )*};
}

kinds!(Server, Key, Firewall, Network, Volume);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) base: Base,
    pub(super) kind: String,
    pub(super) image: String,
    pub(super) location: String,
    pub(super) status: String,
    /// In GB; it grows with the type only where that is asked for, and never shrinks.
    pub(super) disk: u64,
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
    pub(super) keyed: bool,
    pub(super) firewalls: Vec<u64>,
    pub(super) networks: Vec<(u64, String)>,
    /// Kept by the provider and never shown.
    pub(super) user_data: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) base: Base,
    pub(super) public_key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Firewall {
    pub(super) base: Base,
    pub(super) rules: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) base: Base,
    pub(super) ip_range: String,
    pub(super) subnets: Vec<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Volume {
    pub(super) base: Base,
    pub(super) size: u64,
    pub(super) location: String,
    pub(super) format: Option<String>,
    pub(super) server: Option<u64>,
    pub(super) creating: bool,
}

/// What is under way, or was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    pub(super) command: String,
    pub(super) on: Vec<(String, u64)>,
    pub(super) started: u64,
    pub(super) ends: u64,
    pub(super) failure: Option<String>,
    pub(super) applied: bool,
    pub(super) hidden_until: u64,
    pub(super) change: Change,
}

impl Action {
    pub(super) fn is_about(&self, kind: &str, id: u64) -> bool {
        self.on.iter().any(|(on, of)| on == kind && *of == id)
    }
}

/// What is different when an action has succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Nothing,
    Status(u64, String),
    Gone(u64),
    Type {
        server: u64,
        kind: String,
        disk: u64,
    },
    /// The image, and whether the server runs again.
    Image {
        server: u64,
        image: String,
        status: String,
    },
    Rules(u64, Vec<serde_json::Value>),
    FirewallOn {
        firewall: u64,
        server: u64,
    },
    FirewallOff {
        firewall: u64,
        server: u64,
    },
    NetworkOn {
        network: u64,
        server: u64,
    },
    NetworkOff {
        network: u64,
        server: u64,
    },
    VolumeMade(u64),
    VolumeOn {
        volume: u64,
        server: u64,
    },
    VolumeOff(u64),
}

impl State {
    pub(super) fn id(&mut self) -> u64 {
        self.made += 1;
        1_000_000 + self.made
    }

    pub(super) fn server(&self, id: u64) -> Option<&Server> {
        self.servers.iter().find(|server| server.base.id == id)
    }

    pub(super) fn server_mut(&mut self, id: u64) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.base.id == id)
    }

    /// Carries out what has come to its end.
    pub(super) fn settle(&mut self, now: u64) {
        let mut due: Vec<usize> = (0..self.actions.len())
            .filter(|at| self.actions.get(*at).is_some_and(|a| !a.applied && a.ends <= now))
            .collect();
        due.sort_by_key(|at| self.actions.get(*at).map(|action| (action.ends, action.id)));
        for at in due {
            let Some(action) = self.actions.get_mut(at) else { continue };
            action.applied = true;
            if action.failure.is_none() {
                let change = action.change.clone();
                self.apply(change);
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Status(id, status) => {
                if let Some(server) = self.server_mut(id) {
                    server.status = status;
                }
            }
            Change::Gone(id) => {
                self.servers.retain(|server| server.base.id != id);
                for volume in self.volumes.iter_mut().filter(|v| v.server == Some(id)) {
                    volume.server = None;
                }
            }
            Change::Type { server, kind, disk } => {
                if let Some(server) = self.server_mut(server) {
                    (server.kind, server.disk) = (kind, disk);
                }
            }
            Change::Image { server, image, status } => {
                if let Some(server) = self.server_mut(server) {
                    (server.image, server.status) = (image, status);
                }
            }
            Change::Rules(id, rules) => {
                if let Some(firewall) = self.firewalls.iter_mut().find(|f| f.base.id == id) {
                    firewall.rules = rules;
                }
            }
            other => self.connect(&other),
        }
    }

    /// Changes between two things; ids are copied out of the change.
    fn connect(&mut self, change: &Change) {
        match *change {
            Change::FirewallOn { firewall, server } => {
                if let Some(server) = self.server_mut(server)
                    && !server.firewalls.contains(&firewall)
                {
                    server.firewalls.push(firewall);
                }
            }
            Change::FirewallOff { firewall, server } => {
                if let Some(server) = self.server_mut(server) {
                    server.firewalls.retain(|id| *id != firewall);
                }
            }
            Change::NetworkOn { network, server } => {
                let taken = self.servers.iter().flat_map(|s| &s.networks);
                let next = 2 + taken.filter(|(id, _)| *id == network).count();
                if let Some(server) = self.server_mut(server) {
                    server.networks.push((network, format!("10.0.0.{next}")));
                }
            }
            Change::NetworkOff { network, server } => {
                if let Some(server) = self.server_mut(server) {
                    server.networks.retain(|(id, _)| *id != network);
                }
            }
            Change::VolumeMade(id) => {
                if let Some(volume) = self.volumes.iter_mut().find(|v| v.base.id == id) {
                    volume.creating = false;
                }
            }
            Change::VolumeOn { volume, server } => {
                if let Some(volume) = self.volumes.iter_mut().find(|v| v.base.id == volume) {
                    volume.server = Some(server);
                }
            }
            Change::VolumeOff(id) => {
                if let Some(volume) = self.volumes.iter_mut().find(|v| v.base.id == id) {
                    volume.server = None;
                }
            }
            _ => {}
        }
    }
}
