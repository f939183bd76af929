//! The machines of the simulated cloud: each does at its first boot what its user data says, joins
//! the tailnet, and its agent answers from then on, as long as the machine runs.
//!
//! A real machine needs nothing of this: cloud-init does it.

use std::collections::{BTreeMap, BTreeSet};

use provision_adapters::{
    hetzner::sim::HetznerSim,
    sim::{InventoryItem, Provider, SimRequest, SimResponse, SimServer, SimTime},
    tailscale::sim::TailscaleSim,
};
use provision_core::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::saga::Health;

/// What machines are named with.
const PREFIX: &str = "agent-";

/// One machine that has begun its first boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Booted {
    /// Name at the provider.
    server: String,
    /// What it said of itself when it was set up; none before.
    health: Option<Health>,
    /// Whether it is on.
    on: bool,
    /// When its first boot is over, in milliseconds since 1970.
    done_at: u64,
}

/// All machines, by the host name they join under.
#[derive(Debug, Default)]
pub struct Machines {
    booted: BTreeMap<String, Booted>,
    broken: BTreeSet<String>,
    silent: BTreeSet<String>,
    boot_ms: (u64, u64),
    drawn: u64,
}

/// What a machine is told at its first boot.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    hostname: String,
    key: String,
    health: Health,
}

impl Machines {
    /// Machines whose first boot takes `least` to `most` milliseconds, drawn for each.
    #[must_use]
    pub fn new(least: u64, most: u64) -> Self {
        Self { boot_ms: (least, most.max(least)), ..Self::default() }
    }

    /// Lets the machine of this name never get through its first boot.
    pub fn break_boot(&mut self, server: &str) {
        self.broken.insert(server.to_owned());
    }

    /// Lets the agent on the machine of this name answer no more, or again.
    pub fn set_silent(&mut self, server: &str, silent: bool) {
        match silent {
            true => self.silent.insert(server.to_owned()),
            false => self.silent.remove(server),
        };
    }

    fn draw(&mut self) -> u64 {
        let (least, most) = self.boot_ms;
        self.drawn = self
            .drawn
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        least + (self.drawn >> 33) % (most - least + 1)
    }
}

/// Lets time pass for all machines: what is on goes on with its boot, what is deleted is gone.
pub fn pass(
    hetzner: &SimServer<HetznerSim>,
    tailscale: &SimServer<TailscaleSim>,
    machines: &SimServer<Machines>,
) {
    let now = SystemClock.wall().as_millis();
    let servers = hetzner.with(|sim| {
        let names = sim.inventory().into_iter().filter(|item| item.kind == "server");
        let names = names.map(|item| item.name).filter(|name| name.starts_with(PREFIX));
        let shown = |name: String| Some((sim.status(&name)?, sim.user_data(&name)?, name));
        names.filter_map(shown).collect::<Vec<_>>()
    });
    let joining = machines.with(|all| all.look_at(&servers, now));
    for (hostname, told) in joining {
        // A key that was used by this very machine before the cloud was cut off is no trouble.
        let joined = tailscale.with(|sim| {
            sim.hostnames().contains(&hostname) || sim.join(&hostname, &told.key, now).is_ok()
        });
        if joined {
            machines.with(|all| {
                if let Some(machine) = all.booted.get_mut(&hostname) {
                    machine.health = Some(told.health);
                }
            });
        }
    }
}

impl Machines {
    /// Takes note of what is there; answers the machines whose first boot is over.
    fn look_at(&mut self, servers: &[(String, String, String)], now: u64) -> Vec<(String, Told)> {
        self.booted.retain(|_, booted| servers.iter().any(|(.., name)| *name == booted.server));
        let mut joining = Vec::new();
        for (status, user_data, name) in servers {
            let Some(told) = told(user_data) else { continue };
            let on = status == "running";
            if on && !self.booted.contains_key(&told.hostname) {
                let done_at = now.saturating_add(self.draw());
                let server = name.clone();
                let booted = Booted { server, health: None, on, done_at };
                self.booted.insert(told.hostname.clone(), booted);
            }
            let Some(booted) = self.booted.get_mut(&told.hostname) else { continue };
            booted.on = on;
            let is_over = booted.done_at <= now && !self.broken.contains(name);
            if on && booted.health.is_none() && is_over {
                joining.push((told.hostname.clone(), told));
            }
        }
        joining
    }
}

/// Reads user data as far as a machine of this cloud follows it.
fn told(user_data: &str) -> Option<Told> {
    let up = user_data.lines().find(|line| line.contains("tailscale up"))?;
    let after = |flag: &str| {
        let value = up.split_whitespace().find_map(|word| word.strip_prefix(flag));
        value.map(str::to_owned)
    };
    let enabled = user_data.lines().find(|line| line.contains("systemctl enable --now"));
    let starts = |unit: &str| enabled.is_some_and(|line| line.contains(unit));
    let has_unit = user_data.contains("path: /etc/systemd/system/agent.service");
    let docker = user_data.contains("docker.io") && starts("docker.service");
    let unit = if has_unit && starts("agent.service") { "active" } else { "inactive" };
    let agent = docker && unit == "active" && user_data.contains("ExecStart=/usr/bin/docker run");
    let health = Health { docker, unit: unit.to_owned(), agent };
    Some(Told { hostname: after("--hostname=")?, key: after("--auth-key=")?, health })
}

impl Provider for Machines {
    fn name(&self) -> &'static str {
        "machines"
    }

    fn handle(&mut self, request: &SimRequest, _: SimTime) -> SimResponse {
        let ["GET", hostname, "health"] =
            [&[request.method.as_str()], &*request.segments()].concat()[..]
        else {
            return SimResponse::unhandled(request);
        };
        let answering = self.booted.get(hostname).filter(|machine| machine.on);
        let answering = answering.filter(|machine| !self.silent.contains(&machine.server));
        match answering.and_then(|machine| machine.health.as_ref()) {
            Some(health) => SimResponse::json(200, health),
            None => self.refuse(503),
        }
    }

    /// Machines are the provider's; nothing is here beside them.
    fn inventory(&self) -> Vec<InventoryItem> {
        Vec::new()
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.booted).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.booted = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::told;
    use crate::saga::cloud_init;

    // covers: R2-57
    #[test]
    fn a_machine_gets_docker_a_unit_and_the_agent_and_its_key_is_the_only_secret() {
        let text = cloud_init("agent-7-p1");
        assert_eq!(text.matches("<<").count(), 1, "one place for a secret");
        let told = told(&text.replace("<<join>>", "tskey-1")).unwrap();
        assert_eq!((told.hostname.as_str(), told.key.as_str()), ("agent-7-p1", "tskey-1"));
        assert!(told.health.docker && told.health.agent && told.health.unit == "active");
        // What is left out is missed.
        let without = |part: &str| super::told(&text.replace(part, "")).unwrap().health;
        assert!(!without("docker.io").agent && !without("agent.service").agent);
    }
}
