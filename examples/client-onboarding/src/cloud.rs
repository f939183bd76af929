//! The simulated cloud: four providers over real HTTP on loopback, in this process.
//!
//! Each commits its state to the data folder before it answers, so a killed process takes the
//! cloud down with it and the next one finds it as it was.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use provision_adapters::{
    github::{Account, GitHub, GitHubConfig, sim::GitHubSim},
    http::{BaseUrl, ConfigError},
    n8n::{
        N8n, N8nConfig,
        sim::{KEY, N8nSim},
    },
    sim::{
        self, Fault, FaultPlan, FaultRule, Inventory, InventoryItem, RetryAfterForm, SimOptions,
        SimServer,
    },
    supabase::{
        Supabase, SupabaseConfig,
        sim::{ORGANIZATION, SupabaseSim, TOKEN as SUPABASE_TOKEN},
    },
    vercel::{
        Vercel, VercelConfig,
        sim::{TOKEN as VERCEL_TOKEN, VercelSim},
    },
};
use provision_core::{Cost, CostPer, SecretRef, clock, resolver::MapResolver};
use serde::{Deserialize, Serialize};

use crate::{
    exit::Trouble,
    inventory::as_runs_count,
    providers::{Providers, token},
};

const GITHUB_TOKEN: &str = "ghp_simulated";
/// A busy machine may take so long to serve what is there.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// File whose lock the running cloud holds.
const IN_USE: &str = "in-use";
/// Domain below which simulated clients get their own; its DNS is always right.
const ZONE: &str = "clients.example";
/// From this speed on somebody may be watching; below it a test is waiting.
const SPEED_TO_WATCH: f64 = 0.01;
/// How long a command waits for another one to leave the cloud.
const WAIT_FOR_CLOUD: Duration = Duration::from_secs(10);

/// One of the providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Databases.
    Supabase,
    /// Repositories.
    GitHub,
    /// Sites.
    Vercel,
    /// Workflows.
    N8n,
}

/// The running cloud. It goes down when dropped; what is in it stays in the data folder.
#[derive(Debug)]
pub struct Cloud {
    supabase: SimServer<SupabaseSim>,
    github: SimServer<GitHubSim>,
    vercel: SimServer<VercelSim>,
    n8n: SimServer<N8nSim>,
    speed: f64,
    // Held while the cloud runs: two of them would overwrite each other's state.
    _lock: File,
}

impl Cloud {
    /// Starts the cloud of a data folder.
    ///
    /// # Errors
    /// Another process runs it, or the folder cannot be used.
    pub async fn start(data_dir: &Path, speed: f64) -> Result<Self, Trouble> {
        match Self::reach(data_dir, speed).await? {
            Reached::Own(cloud) => Ok(*cloud),
            Reached::Served(_) => Err(in_use()),
        }
    }

    /// Starts the cloud of a data folder, or finds the one that another process serves: also one
    /// that is just being started.
    ///
    /// # Errors
    /// Another process runs it for itself alone, or the folder cannot be used.
    pub async fn reach(data_dir: &Path, speed: f64) -> Result<Reached, Trouble> {
        let folder = folder(data_dir);
        let lock = match clock::within(WAIT_FOR_CLOUD, locked(data_dir)).await {
            Some(Ok(Ok(lock))) => lock,
            Some(Ok(Err(served))) => return Ok(Reached::Served(served)),
            Some(Err(trouble)) => return Err(trouble),
            None => return Err(in_use()),
        };
        // Of a cloud that was killed.
        drop(fs::remove_file(announced(&folder)));
        let options =
            |name: &str| SimOptions::default().with_persist(file(&folder, name)).with_speed(speed);
        let failed = |error: io::Error| unusable(&folder, &error);
        let cloud = Self {
            supabase: SimServer::start(SupabaseSim::new(), options("supabase")).map_err(failed)?,
            github: SimServer::start(GitHubSim::acme(GITHUB_TOKEN), options("github"))
                .map_err(failed)?,
            vercel: SimServer::start(VercelSim::new(), options("vercel")).map_err(failed)?,
            n8n: SimServer::start(N8nSim::new(), options("n8n")).map_err(failed)?,
            speed,
            _lock: lock,
        };
        // Every client's domain is below the zone, and its DNS is right.
        cloud.vercel.with(|vercel| vercel.set_dns(&format!("*.{ZONE}")));
        if speed >= SPEED_TO_WATCH {
            // One refusal to look at: the first repository of a process is asked for twice.
            let retry_after = RetryAfterForm::Seconds(1);
            let busy = FaultRule::new(Fault::RateLimited { retry_after });
            cloud.github.faults().add(busy.method("POST").path_contains("/generate").once());
        }
        Ok(Reached::Own(Box::new(cloud)))
    }

    /// What goes wrong at a provider.
    #[must_use]
    pub fn faults(&self, provider: Provider) -> &FaultPlan {
        match provider {
            Provider::Supabase => self.supabase.faults(),
            Provider::GitHub => self.github.faults(),
            Provider::Vercel => self.vercel.faults(),
            Provider::N8n => self.n8n.faults(),
        }
    }

    /// What runs have made and is there now, sorted.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let (supabase, github) = (self.supabase.inventory(), self.github.inventory());
        let all = [supabase, github, self.vercel.inventory(), self.n8n.inventory()];
        as_runs_count(all.into_iter().flatten())
    }

    /// Where its providers are.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            supabase: self.supabase.url(),
            github: self.github.url(),
            vercel: self.vercel.url(),
            n8n: self.n8n.url(),
            speed: self.speed,
        }
    }

    /// Lets other commands of this data folder use this cloud, for as long as it runs.
    ///
    /// # Errors
    /// The addresses cannot be written.
    pub fn announce(&self, data_dir: &Path) -> Result<Addresses, Trouble> {
        let folder = folder(data_dir);
        let (addresses, whole) = (self.addresses(), folder.join("addresses.new"));
        let text =
            serde_json::to_vec(&addresses).map_err(|e| Trouble::bug("json", e.to_string()))?;
        let written = fs::write(&whole, text).and_then(|()| fs::rename(whole, announced(&folder)));
        written.map_err(|error| unusable(&folder, &error))?;
        Ok(addresses)
    }

    /// The tokens this cloud accepts.
    #[must_use]
    pub fn tokens() -> MapResolver {
        MapResolver::new()
            .with(token::SUPABASE, SUPABASE_TOKEN)
            .with(token::GITHUB, GITHUB_TOKEN)
            .with(token::VERCEL, VERCEL_TOKEN)
            .with(token::N8N, KEY)
    }
}

/// A cloud that can be used.
#[derive(Debug)]
pub enum Reached {
    /// It runs in this process.
    Own(Box<Cloud>),
    /// Another process serves it.
    Served(Addresses),
}

/// Where the providers of a running cloud are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Addresses {
    /// URL of the simulated Supabase.
    pub supabase: String,
    /// URL of the simulated GitHub.
    pub github: String,
    /// URL of the simulated Vercel.
    pub vercel: String,
    /// URL of the simulated n8n.
    pub n8n: String,
    /// Factor of the cloud's times.
    pub speed: f64,
}

impl Addresses {
    /// Where no provider is: for who defines the saga and calls none of its steps.
    #[must_use]
    pub fn nowhere(speed: f64) -> Self {
        let nowhere = || "http://127.0.0.1:9".to_owned();
        Self { supabase: nowhere(), github: nowhere(), vercel: nowhere(), n8n: nowhere(), speed }
    }

    /// Those of the cloud that another process serves for a data folder; `None` where none does.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn served(data_dir: &Path) -> Result<Option<Self>, Trouble> {
        let folder = folder(data_dir);
        let failed = |error: io::Error| unusable(&folder, &error);
        let Ok(file) = File::open(folder.join(IN_USE)) else { return Ok(None) };
        match file.try_lock_shared() {
            // Whoever served it is gone, whatever it has left here.
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::read(announced(&folder)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Clients of these providers.
    ///
    /// # Errors
    /// One of the URLs cannot be used.
    pub fn providers(&self) -> Result<Providers, Trouble> {
        let at = |url: &str| BaseUrl::parse(url).map_err(ConfigError::from);
        let cost = Cost { milli: 10_000, currency: "USD".to_owned(), per: CostPer::Month };
        let supabase = SupabaseConfig::at(
            at(&self.supabase)?,
            SecretRef::named(token::SUPABASE),
            ORGANIZATION,
        )
        .with_cost(cost);
        let github = GitHubConfig::new(
            Account::Organization("acme".to_owned()),
            SecretRef::named(token::GITHUB),
        )
        .with_base(at(&self.github)?);
        let edge = at(&self.vercel)?;
        let vercel = VercelConfig::at(edge.clone(), SecretRef::named(token::VERCEL))
            .with_edge(edge)
            .with_probe_grace(Duration::from_secs(10).mul_f64(self.speed).max(GRACE_MIN));
        let n8n = N8nConfig::new(at(&self.n8n)?, SecretRef::named(token::N8N));
        Ok(Providers {
            supabase: Supabase::new(supabase)?,
            github: GitHub::new(github)?,
            vercel: Vercel::new(vercel)?,
            n8n: N8n::new(n8n)?,
            template: "acme/template".to_owned(),
            zone: ZONE.to_owned(),
        })
    }
}

/// Reads what runs have made in the cloud of a data folder, without starting it.
///
/// # Errors
/// A file of it cannot be read.
pub fn stored_inventory(data_dir: &Path) -> Result<Inventory, Trouble> {
    let folder = folder(data_dir);
    let all = [
        stored(&folder, SupabaseSim::new())?,
        stored(&folder, GitHubSim::acme(GITHUB_TOKEN))?,
        stored(&folder, VercelSim::new())?,
        stored(&folder, N8nSim::new())?,
    ];
    Ok(as_runs_count(all.into_iter().flatten()))
}

fn stored(folder: &Path, mut provider: impl sim::Provider) -> Result<Vec<InventoryItem>, Trouble> {
    let path = file(folder, provider.name());
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(folder, &error)),
    };
    let damaged = |why: String| Trouble::unavailable("cloud_damaged", why, REMOVE);
    let saved: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let state = saved.get("state").cloned().unwrap_or_default();
    provider.restore(state).map_err(damaged)?;
    Ok(provider.inventory())
}

const REMOVE: &str = "remove the data folder to begin with an empty cloud";

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("cloud")
}

fn announced(folder: &Path) -> PathBuf {
    folder.join("addresses.json")
}

fn file(folder: &Path, provider: &str) -> PathBuf {
    folder.join(format!("{provider}.json"))
}

/// Waits for the lock of the data folder's cloud, or for who has it to serve that cloud.
async fn locked(data_dir: &Path) -> Result<Result<File, Addresses>, Trouble> {
    loop {
        if let Some(served) = Addresses::served(data_dir)? {
            return Ok(Err(served));
        }
        if let Some(lock) = lock(&folder(data_dir))? {
            return Ok(Ok(lock));
        }
        clock::sleep(Duration::from_millis(50)).await;
    }
}

/// Takes the lock of the folder, if it is free. The kernel frees it when its holder dies, so a killed
/// command leaves nothing behind.
fn lock(folder: &Path) -> Result<Option<File>, Trouble> {
    let failed = |error: io::Error| unusable(folder, &error);
    fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.join(IN_USE);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn in_use() -> Trouble {
    Trouble::unavailable(
        "cloud_in_use",
        "another command runs the simulated cloud of this data folder",
        "wait for it to end, take another --data-dir, or let `client-onboarding cloud` serve them all",
    )
}

fn unusable(folder: &Path, error: &io::Error) -> Trouble {
    let message = format!("the simulated cloud in {} cannot be used: {error}", folder.display());
    Trouble::unavailable("cloud_unusable", message, REMOVE)
}
