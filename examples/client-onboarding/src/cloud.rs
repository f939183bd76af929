//! The simulated cloud: four providers over real HTTP on loopback, in this process.
//!
//! Each commits its state to the data folder before it answers, so a killed process takes the
//! cloud down with it and the next one finds it as it was.

use std::{path::Path, time::Duration};

use example_command::{
    exit::Trouble,
    folder::{CloudFolder, Lock, Taken},
    place::Server,
    stage::{LastCall, Simulators},
};
use provision_adapters::{
    github::{Account, GitHub, GitHubConfig, sim::GitHubSim},
    http::{BaseUrl, ConfigError},
    n8n::{
        N8n, N8nConfig,
        sim::{KEY, N8nSim},
    },
    sim::{Fault, FaultPlan, FaultRule, Inventory, RetryAfterForm, SimServer},
    supabase::{
        Supabase, SupabaseConfig,
        sim::{ORGANIZATION, PostgresServer, SupabaseSim, TOKEN as SUPABASE_TOKEN},
    },
    vercel::{
        Vercel, VercelConfig,
        sim::{TOKEN as VERCEL_TOKEN, VercelSim},
    },
};
use provision_core::{Cost, CostPer, SecretRef, resolver::MapResolver};
use serde::{Deserialize, Serialize};

use crate::{
    inventory::as_runs_count,
    providers::{Providers, token},
    saga::HEALTH,
};

const GITHUB_TOKEN: &str = "ghp_simulated";
/// A busy machine may take so long to serve what is there.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// Domain below which simulated clients get their own; its DNS is always right.
const ZONE: &str = "clients.example";
/// From this speed on somebody may be watching; below it a test is waiting.
const SPEED_TO_WATCH: f64 = 0.01;

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

/// How a simulated cloud behaves.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Factor of its times: 1 is as slow as the real providers.
    pub speed: f64,
    /// PostgreSQL server for the databases of new Supabase projects; without it they are models.
    pub sql: Option<Server>,
}

impl CloudOptions {
    /// A cloud without a server.
    #[must_use]
    pub fn at(speed: f64) -> Self {
        Self { speed, sql: None }
    }
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
    _lock: Lock,
}

impl Cloud {
    /// Starts the cloud of a data folder.
    ///
    /// # Errors
    /// Another process runs it, or the folder cannot be used.
    pub async fn start(data_dir: &Path, options: &CloudOptions) -> Result<Self, Trouble> {
        let folder = CloudFolder::of(data_dir);
        Self::begun(&folder, folder.take_alone::<Addresses>().await?, options)
    }

    /// Starts the cloud of a data folder, or finds the one that another process serves: also one
    /// that is just being started.
    ///
    /// # Errors
    /// Another process runs it for itself alone, or the folder cannot be used.
    pub async fn reach(data_dir: &Path, options: &CloudOptions) -> Result<Reached, Trouble> {
        let folder = CloudFolder::of(data_dir);
        Ok(match folder.take().await? {
            Taken::Own(lock) => Reached::Own(Box::new(Self::begun(&folder, lock, options)?)),
            Taken::Served(addresses) => Reached::Served(addresses),
        })
    }

    fn begun(folder: &CloudFolder, lock: Lock, options: &CloudOptions) -> Result<Self, Trouble> {
        let speed = options.speed;
        let cloud = Self {
            supabase: folder.start(supabase(options.sql.as_ref())?, speed)?,
            github: folder.start(GitHubSim::acme(GITHUB_TOKEN), speed)?,
            vercel: folder.start(VercelSim::new(), speed)?,
            n8n: folder.start(N8nSim::new(), speed)?,
            speed,
            _lock: lock,
        };
        if cloud.supabase.with(|supabase| supabase.lacks_server()) {
            return Err(Trouble::usage(
                "simulated_sql",
                "projects of this cloud have databases on a PostgreSQL server",
                "say --simulated-sql with its URL, as when they were made",
            ));
        }
        // Every client's domain is below the zone, and its DNS is right.
        cloud.vercel.with(|vercel| vercel.set_dns(&format!("*.{ZONE}")));
        if speed >= SPEED_TO_WATCH {
            // One refusal to look at: the first repository of a process is asked for twice.
            let retry_after = RetryAfterForm::Seconds(1);
            let busy = FaultRule::new(Fault::RateLimited { retry_after });
            cloud.github.faults().add(busy.method("POST").path_contains("/generate").once());
        }
        Ok(cloud)
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
        let addresses = self.addresses();
        CloudFolder::of(data_dir).announce(&addresses)?;
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

/// The simulator of Supabase, with its server where there is one.
fn supabase(sql: Option<&Server>) -> Result<SupabaseSim, Trouble> {
    let mut supabase = SupabaseSim::new();
    if let Some(Server(url)) = sql {
        let server = PostgresServer::connect(url).map_err(|why| {
            let hint = "start PostgreSQL there, or leave --simulated-sql out";
            Trouble::unavailable("simulated_sql", why, hint)
        })?;
        supabase.set_postgres(server);
    }
    Ok(supabase)
}

impl Simulators for Cloud {
    fn last_call(&self, path: &str, id: &str) -> Option<LastCall<'_>> {
        let (provider, method, part) = match path {
            "supabase" => (Provider::Supabase, "GET", format!("/projects/{id}/api-keys")),
            "repo" => (Provider::GitHub, "PUT", "/topics".to_owned()),
            "repo-secrets" => (Provider::GitHub, "PUT", "/secrets/SUPABASE_SERVICE_KEY".to_owned()),
            "repo-variables" => (Provider::GitHub, "POST", "/actions/variables".to_owned()),
            "site" => (Provider::Vercel, "GET", format!("/projects/{id}")),
            "env" => (Provider::Vercel, "GET", "/env".to_owned()),
            "deployment" => (Provider::Vercel, "GET", HEALTH.to_owned()),
            "domain" => (Provider::Vercel, "GET", "/config".to_owned()),
            "webhook-key" => (Provider::N8n, "GET", "/credentials".to_owned()),
            "workflow" => (Provider::N8n, "GET", format!("/workflows/{id}")),
            _ => (Provider::N8n, "GET", "/webhook/".to_owned()),
        };
        Some(LastCall { faults: self.faults(provider), method, part })
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
    let folder = CloudFolder::of(data_dir);
    let all = [
        folder.stored(SupabaseSim::new())?,
        folder.stored(GitHubSim::acme(GITHUB_TOKEN))?,
        folder.stored(VercelSim::new())?,
        folder.stored(N8nSim::new())?,
    ];
    Ok(as_runs_count(all.into_iter().flatten()))
}
