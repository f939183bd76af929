//! Machines at Hetzner: one that is made with all its parts, and one to which things are done.

use std::time::Duration;

use provision_adapters::{
    hetzner::{
        Attached, Attachment, AttachmentSpec, ChangeTypeSpec, Firewall, FirewallSpec, Hetzner,
        HetznerConfig, Inbound, Network, NetworkSpec, PowerSpec, Prices, ReadPrices, Rebuild,
        RebuildSpec, Server, ServerPower, ServerSpec, ServerType, SshKey, SshKeySpec, UserData,
        Volume, VolumeSpec, sim::HetznerSim,
    },
    http::BaseUrl,
};
use provision_core::{Saga, SecretRef, resolver::MapResolver};
use serde_json::Value;

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, call_within},
    scenes::{TOKEN, VALUE, other},
};

fn hetzner(url: &str) -> Hetzner {
    let base = BaseUrl::parse(url).unwrap();
    let config = HetznerConfig::at(base, SecretRef::named("TOKEN"));
    Hetzner::new(config.with_call_timeout(call_within())).unwrap()
}

fn resolver() -> MapResolver {
    MapResolver::new().with("TOKEN", TOKEN).with("VALUE", VALUE)
}

/// A project in which others have things of similar names.
fn project() -> HetznerSim {
    let mut sim = HetznerSim::new();
    sim.accept_token(TOKEN);
    sim.seed_server("client-b", &[]);
    sim.seed_server("client-c", &other("machine").labels());
    sim.seed_key("laptop", "ssh-ed25519 AAAAother me@home");
    sim
}

/// What a provider shows of a state: not its counters, and not what was done when.
fn lasting(mut state: Value) -> Value {
    if let Some(object) = state.as_object_mut() {
        object.retain(|name, _| !matches!(name.as_str(), "made" | "calls" | "actions"));
    }
    state
}

/// The network of both scenes.
fn inner_net(name: &str) -> NetworkSpec {
    NetworkSpec::new(name, "10.0.0.0/16").with_subnet("eu-central", "10.0.0.0/24")
}

fn deaf_wall(name: &str) -> FirewallSpec {
    FirewallSpec::new(name).allowing(Inbound::icmp())
}

fn priced_machine(name: &str, prices: &Prices) -> ServerSpec {
    ServerSpec::new(name, "cx23", "debian-12", "fsn1").with_price(prices.server("cx23", "fsn1"))
}

fn priced_disk(name: &str, prices: &Prices) -> VolumeSpec {
    VolumeSpec::new(name, 50, "fsn1").with_price(Some(prices.volume(50)))
}

/// A machine with its key, behind a firewall and in a network from its first moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnHetzner {
    /// Whether it gets a key; the provider draws a password where there is none.
    pub(crate) keyed: bool,
}

impl Scene for OnHetzner {
    type Sim = HetznerSim;

    fn sim(&self) -> HetznerSim {
        project()
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let (hetzner, keyed) = (hetzner(url), self.keyed);
        Saga::define(SAGA, |s| {
            let key = s
                .resource("key", SshKey::new(&hetzner))
                .retry(build.policy())
                .input((), |name: &String, ()| {
                    SshKeySpec::new(name.as_str(), "ssh-ed25519 AAAAacme ops")
                });
            // One after the other: which request a fault happens to is counted.
            let wall = s
                .resource("wall", Firewall::new(&hetzner))
                .retry(build.policy())
                .after(key)
                .input((), |name: &String, ()| {
                    FirewallSpec::new(name.as_str())
                        .allowing(Inbound::tcp("22"))
                        .allowing(Inbound::udp("41641"))
                });
            let net = s
                .resource("net", Network::new(&hetzner))
                .retry(build.policy())
                .after(wall)
                .input((), |name: &String, ()| inner_net(name));
            let machine = s.resource("machine", Server::new(&hetzner)).retry(build.policy()).input(
                (key, wall, net),
                move |name, (key, wall, net)| {
                    let told = UserData::new("#cloud-config\n# <<join>>\n");
                    let told = told.with_secret("join", SecretRef::named("VALUE"));
                    let spec = ServerSpec::new(name.as_str(), "cx23", "debian-13", "fsn1")
                        .with_user_data(told)
                        .with_firewall(wall.id)
                        .with_network(net.id);
                    if keyed { spec.with_ssh_key(key.id) } else { spec }
                },
            );
            s.step("end", End(build), NOTHING)
                .input(machine, |_, machine| machine.ipv4.unwrap_or_default())
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        lasting(state)
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        ["server", "ssh_key", "firewall", "network"].into_iter().find(|same| *same == kind)
    }

    fn lag(&self) -> Duration {
        provision_adapters::hetzner::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::hetzner::LATE_WINDOW
    }
}

/// A machine that gets a disk, a firewall and a network, is made anew, switched off and on, stopped
/// and enlarged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnMachine;

impl Scene for OnMachine {
    type Sim = HetznerSim;

    fn sim(&self) -> HetznerSim {
        let mut sim = project();
        // Longer than the quiet time: what goes on is not taken for absent.
        sim.set_time("change_server_type", Duration::from_secs(180));
        // The firewall comes without its rules, which are then set.
        sim.fail_next("set_firewall_rules", "server_error");
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let hetzner = hetzner(url);
        Saga::define(SAGA, |s| {
            let prices = s
                .step("prices", ReadPrices::new(&hetzner), NOTHING)
                .retry(build.policy())
                .input((), |_: &String, ()| ());
            let machine = s
                .resource("machine", Server::new(&hetzner))
                .retry(build.policy())
                .input(prices, |name, prices| priced_machine(name, &prices));
            let disk = s
                .resource("disk", Volume::new(&hetzner))
                .retry(build.policy())
                .after(machine)
                .input(prices, |name, prices| priced_disk(name, &prices));
            let wall = s
                .resource("wall", Firewall::new(&hetzner))
                .retry(build.policy())
                .after(disk)
                .input((), |name: &String, ()| deaf_wall(name));
            let on = s
                .resource("disk_on", Attachment::new(&hetzner))
                .retry(build.policy())
                .after(wall)
                .input((machine, disk), |_, on| {
                    AttachmentSpec::new(Attached::Volume(on.1.id), on.0.id)
                });
            let behind = s
                .resource("wall_on", Attachment::new(&hetzner))
                .retry(build.policy())
                .after(on)
                .input((machine, wall), |_, on| {
                    AttachmentSpec::new(Attached::Firewall(on.1.id), on.0.id)
                });
            let net = s
                .resource("net", Network::new(&hetzner))
                .retry(build.policy())
                .after(behind)
                .input((), |name: &String, ()| inner_net(name));
            let inside = s
                .resource("net_on", Attachment::new(&hetzner))
                .retry(build.policy())
                .input((machine, net), |_, on| {
                    AttachmentSpec::new(Attached::Network(on.1.id), on.0.id)
                });
            let anew = s
                .resource("anew", Rebuild::new(&hetzner))
                .retry(build.policy())
                .after(inside)
                .input(machine, |_, machine| RebuildSpec::new(machine.id, "debian-13"));
            let cut = s
                .resource("cut", ServerPower::new(&hetzner))
                .retry(build.policy())
                .after(anew)
                .input(machine, |_, machine| PowerSpec::off(machine.id).with_grace(Duration::ZERO));
            let on = s.resource("on", ServerPower::new(&hetzner)).retry(build.policy());
            let on = on.input(cut, |_, cut| PowerSpec::on(cut.server));
            let off = s.resource("off", ServerPower::new(&hetzner)).retry(build.policy());
            let off = off.input(on, |_, on| PowerSpec::off(on.server));
            let larger = s.resource("larger", ServerType::new(&hetzner)).retry(build.policy());
            let larger =
                larger.input(off, |_, off| ChangeTypeSpec::new(off.server, "cx23", "cx33"));
            s.step("end", End(build), NOTHING).input(larger, |_, larger| larger.server_type)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        lasting(state)
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        ["server", "volume", "firewall", "network", "attachment"]
            .into_iter()
            .find(|same| *same == kind)
    }

    fn lag(&self) -> Duration {
        provision_adapters::hetzner::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::hetzner::LATE_WINDOW
    }
}
