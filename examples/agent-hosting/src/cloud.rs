//! The simulated cloud: Hetzner, Tailscale, GitHub and Resend over real HTTP on loopback, in this process, and
//! the machines between them.

use std::{path::Path, sync::Arc, time::Duration};

use example_command::{
    exit::Trouble,
    folder::{CloudFolder, Lock},
    stage::{LastCall, Simulators},
};
use provision_adapters::{
    github::{Account, GitHub, GitHubConfig, sim::GitHubSim},
    hetzner::{
        Hetzner, HetznerConfig,
        sim::{HetznerSim, TOKEN},
    },
    http::{BaseUrl, ConfigError},
    resend::{
        Resend, ResendConfig,
        sim::{KEY, ResendSim},
    },
    sim::{FaultPlan, Inventory, SimServer},
    tailscale::{
        Tailscale, TailscaleConfig,
        sim::{CLIENT_ID, CLIENT_SECRET, TailscaleSim},
    },
    webhook::Callbacks,
};
use provision_core::{SecretRef, clock, resolver::MapResolver};
use tokio::task::JoinSet;

use crate::{
    machines::{self, Machines},
    mails::AGAIN,
    providers::{Providers, agents, token},
    runner::{self, Runner},
    workflow::{REPORTS_WITHIN, STOPS_WITHIN, Workflows},
};

/// How often machines are looked after.
const TICK: Duration = Duration::from_millis(10);
/// How long a first boot takes, in milliseconds, before the cloud's speed is applied.
const BOOT_MS: (f64, f64) = (40_000.0, 120_000.0);
/// How long a machine may take until it has joined, before the cloud's speed is applied.
const JOIN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// A busy machine may take so long for what is due at once.
const JOIN_WITHIN_MIN: Duration = Duration::from_secs(4);
/// A busy machine may take so long for a workflow that is due at once.
const WORKS_WITHIN_MIN: Duration = Duration::from_secs(60);
/// How often a workflow and its machine are looked at; the stage applies the cloud's speed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often an agent is asked, before the cloud's speed is applied.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The running cloud. It goes down when dropped; what is in it stays in the data folder.
#[derive(Debug)]
pub struct Cloud {
    parts: Arc<Parts>,
    runner: Arc<Runner>,
    // Ends when dropped.
    _time: JoinSet<()>,
    speed: f64,
    // Held while the cloud runs: two of them would overwrite each other's state.
    _lock: Lock,
}

#[derive(Debug)]
struct Parts {
    hetzner: SimServer<HetznerSim>,
    tailscale: SimServer<TailscaleSim>,
    resend: SimServer<ResendSim>,
    github: SimServer<GitHubSim>,
    machines: SimServer<Machines>,
}

impl Cloud {
    /// Starts the cloud of a data folder. `speed` multiplies its times: 1 is as long as real ones.
    ///
    /// # Errors
    /// Another process runs it, or the folder cannot be used.
    pub async fn start(data_dir: &Path, speed: f64) -> Result<Self, Trouble> {
        let folder = CloudFolder::of(data_dir);
        let alone = "wait for it to end, or take another --data-dir";
        let lock = folder.take_alone::<()>().await.map_err(|trouble| match trouble.code() {
            "cloud_in_use" => trouble.with_hint(alone),
            _ => trouble,
        })?;
        let boot =
            |ms: f64| u64::try_from(Duration::from_secs_f64(ms * speed / 1_000.0).as_millis());
        let (least, most) = (boot(BOOT_MS.0), boot(BOOT_MS.1));
        let machines = Machines::new(least.unwrap_or_default(), most.unwrap_or_default());
        let parts = Arc::new(Parts {
            hetzner: folder.start(HetznerSim::new(), speed)?,
            tailscale: folder.start(TailscaleSim::new(), speed)?,
            resend: folder.start(ResendSim::new(), speed)?,
            github: folder.start(runner::github(), speed)?,
            machines: folder.start(machines, speed)?,
        });
        let mut time = JoinSet::new();
        let world = Arc::clone(&parts);
        time.spawn(async move {
            loop {
                machines::pass(&world.hetzner, &world.tailscale, &world.machines);
                clock::sleep(TICK).await;
            }
        });
        let runner = Arc::new(Runner::new(parts.hetzner.url()));
        let (runs, world) = (Arc::clone(&runner), Arc::clone(&parts));
        time.spawn(async move {
            loop {
                runs.pass(&world.github).await;
                clock::sleep(TICK).await;
            }
        });
        Ok(Self { parts, runner, _time: time, speed, _lock: lock })
    }

    /// The simulated Hetzner.
    #[must_use]
    pub fn hetzner(&self) -> &SimServer<HetznerSim> {
        &self.parts.hetzner
    }

    /// The simulated Tailscale.
    #[must_use]
    pub fn tailscale(&self) -> &SimServer<TailscaleSim> {
        &self.parts.tailscale
    }

    /// The simulated Resend.
    #[must_use]
    pub fn resend(&self) -> &SimServer<ResendSim> {
        &self.parts.resend
    }

    /// The simulated GitHub.
    #[must_use]
    pub fn github(&self) -> &SimServer<GitHubSim> {
        &self.parts.github
    }

    /// Who runs its workflows.
    #[must_use]
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The simulated machines.
    #[must_use]
    pub fn machines(&self) -> &SimServer<Machines> {
        &self.parts.machines
    }

    /// What runs have made and is there now, sorted. What is on a machine is a part of it.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let Parts { hetzner, tailscale, github, .. } = &*self.parts;
        things([hetzner.inventory(), tailscale.inventory(), github.inventory()])
    }

    /// Clients of it; alerts go to this address, and workflows report with tokens of `callbacks`.
    ///
    /// # Errors
    /// One of the URLs cannot be used.
    pub fn providers(&self, alerts_to: &str, callbacks: &Callbacks) -> Result<Providers, Trouble> {
        let at = |url: String| BaseUrl::parse(&url).map_err(ConfigError::from);
        let shorter = |time: Duration| time.mul_f64(self.speed).max(TICK);
        let Parts { hetzner, tailscale, resend, github, machines } = &*self.parts;
        let id = github.with(|sim| sim.repository_id(runner::REPOSITORY)).unwrap_or_default();
        let account = Account::Organization(runner::OWNER.to_owned());
        let config = GitHubConfig::new(account, SecretRef::named(token::GITHUB));
        let workflows = Workflows {
            github: GitHub::new(config.with_base(at(github.url())?))?,
            repository: (runner::REPOSITORY.to_owned(), id),
            file: runner::FILE.to_owned(),
            callbacks: callbacks.clone(),
            within: REPORTS_WITHIN.mul_f64(self.speed).max(WORKS_WITHIN_MIN),
            look_again: LOOK_AGAIN,
            stops_within: shorter(STOPS_WITHIN),
        };
        let hetzner = HetznerConfig::at(at(hetzner.url())?, SecretRef::named(token::HETZNER));
        let secret = SecretRef::named(token::TAILSCALE);
        let tailscale = TailscaleConfig::at(at(tailscale.url())?, CLIENT_ID, secret);
        Ok(Providers {
            hetzner: Hetzner::new(hetzner)?,
            tailscale: Tailscale::new(tailscale)?,
            resend: Resend::new(ResendConfig::at(
                at(resend.url())?,
                SecretRef::named(token::RESEND),
            ))?,
            alerts_to: alerts_to.to_owned(),
            mail_again: (shorter(AGAIN.0), shorter(AGAIN.1)),
            workflows,
            agents: agents(at(machines.url())?)?,
            join_within: JOIN_WITHIN.mul_f64(self.speed).max(JOIN_WITHIN_MIN),
            ask_every: shorter(ASK_EVERY),
        })
    }

    /// The tokens this cloud accepts.
    #[must_use]
    pub fn tokens() -> MapResolver {
        MapResolver::new()
            .with(token::HETZNER, TOKEN)
            .with(token::TAILSCALE, CLIENT_SECRET)
            .with(token::RESEND, KEY)
            .with(token::GITHUB, runner::TOKEN)
    }
}

impl Simulators for Cloud {
    fn last_call(&self, path: &str, id: &str) -> Option<LastCall<'_>> {
        let Parts { hetzner, tailscale, github, .. } = &*self.parts;
        let (faults, part): (&FaultPlan, String) = match path {
            "join-secret" => (github.faults(), "/actions/secrets".to_owned()),
            "dispatch" => (github.faults(), format!("/actions/runs/{id}")),
            "ssh-key" => (hetzner.faults(), format!("/ssh_keys/{id}")),
            "firewall" => (hetzner.faults(), format!("/firewalls/{id}")),
            "server" => (hetzner.faults(), format!("/servers/{id}")),
            "join-key" => (tailscale.faults(), "/keys".to_owned()),
            _ => (tailscale.faults(), "/devices".to_owned()),
        };
        Some(LastCall { faults, method: "GET", part })
    }
}

/// Reads what runs have made in the cloud of a data folder, without starting it.
///
/// # Errors
/// A file of it cannot be read.
pub fn stored_inventory(data_dir: &Path) -> Result<Inventory, Trouble> {
    let folder = CloudFolder::of(data_dir);
    let (hetzner, tailscale) = (HetznerSim::new(), TailscaleSim::new());
    let parts =
        [folder.stored(hetzner)?, folder.stored(tailscale)?, folder.stored(runner::github())?];
    Ok(things(parts))
}

fn things(parts: [Vec<provision_adapters::sim::InventoryItem>; 3]) -> Inventory {
    let own = |item: &provision_adapters::sim::InventoryItem| item.kind != "attachment";
    Inventory::merge(parts.map(|part| part.into_iter().filter(own).collect()))
}
