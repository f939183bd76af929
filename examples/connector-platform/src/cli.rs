//! The command line: deploy, seed, check, drive, and a demonstration of it all.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use example_command::{
    exit::{self, Exit},
    signals::interrupted,
};
use provision_adapters::http::BaseUrl;
use provision_core::{
    Secret, clock,
    resolver::{EnvResolver, SecretResolver as _},
    vault::{DevKeys, KeyProvider, LocalKeys},
};

use throwaway_services::kept::Server;

use crate::{
    check,
    database::Database,
    platform::{App, PlatformName, Platforms},
    rotation, schema,
    service::Service,
    shared::Settings,
    sim::SocialSim,
    trouble::Trouble,
};

mod demo;
mod outlook;

/// Publishes for tenants on five social platforms.
#[derive(Debug, Parser)]
#[command(name = "connector-platform", version, max_term_width = 100)]
pub struct Cli {
    /// Address of the database; default: the variable `DATABASE_URL`, and without that a private
    /// server whose data stay in the data folder.
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    /// Folder of the private server.
    #[arg(long, global = true, value_name = "DIR", default_value = "./.provision/connectors")]
    data_dir: PathBuf,
    /// Where the service runs; `dev` takes keys that everybody can read in the source.
    #[arg(long, global = true, value_name = "WORD", default_value = "production")]
    environment: String,
    /// File of the keys that seal tokens; made where there is none.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A platform the service is registered at, such as `meta=http://127.0.0.1:4010`: one address for
    /// consents, tokens and API, as simulators have it; may be given five times. Id and secret of the app are read from `CONNECTOR_META_CLIENT_ID` and
    /// `CONNECTOR_META_CLIENT_SECRET`; a simulator on loopback needs none.
    #[arg(long, global = true, value_name = "NAME=URL")]
    platform: Vec<String>,
    /// Answer as one JSON object on the last line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring schema, roles, rights and seeds up to date; run it as the owner of the database.
    Deploy,
    /// Seed flags and platforms that are missing; what was switched stays.
    Seed,
    /// Examine everything, and say what to do about what is wrong.
    Check {
        /// Also write the report to this file, as JSON.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Draw a new key into the file of --key-file, and seal everything anew that is under an older
    /// one; older keys stay in the file and go on opening.
    RotateKeys {
        /// Only draw, and seal nothing anew: before the file is copied to other machines.
        #[arg(long, conflicts_with = "only_reseal")]
        only_draw: bool,
        /// Draw none: only seal anew, after a kill or once all workers have met the new key.
        #[arg(long)]
        only_reseal: bool,
    },
    /// Drive all queues until Ctrl-C or SIGTERM, and look after tokens and connections.
    Workers {
        /// Lease of a run, in milliseconds: a dead worker's runs are taken over after it.
        #[arg(long, value_name = "MS", default_value_t = 15_000)]
        lease_ms: u64,
        /// How often tokens, checks and figures of queues are looked after, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 30_000)]
        tend_ms: u64,
        #[command(flatten)]
        outlook: outlook::Options,
    },
    /// Deploy, connect a tenant to five simulated platforms, publish to all, and show what is there.
    Demo,
}

impl From<Trouble> for exit::Trouble {
    fn from(trouble: Trouble) -> Self {
        let message = trouble.message().to_owned();
        match trouble.code() {
            "wrong_database" | "usage" | "dev_keys_refused" | "flag_off" => {
                Self::usage(trouble.code(), message, trouble.hint())
            }
            code => Self::unavailable(code, message, trouble.hint()),
        }
    }
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// It cannot be done; says why and what to do.
    pub async fn work(self) -> Result<Exit, exit::Trouble> {
        if matches!(self.command, Command::Demo) {
            self.dev_keys()?;
        }
        // It stands until the command is through.
        let (_server, url) = self.at().await?;
        match &self.command {
            Command::Deploy => {
                let applied = schema::deploy(&url).await?;
                let line = match applied.len() {
                    0 => "everything is up to date".to_owned(),
                    _ => format!("applied {}", applied.join(", ")),
                };
                self.told(&line, &serde_json::json!({ "applied": applied }));
                Ok(Exit::Done)
            }
            Command::Seed => {
                let flags = schema::seed(&url).await?;
                self.told(&format!("{flags} flags"), &serde_json::json!({ "flags": flags }));
                Ok(Exit::Done)
            }
            Command::Check { report } => Ok(self.check(&url, report.as_deref()).await?),
            Command::RotateKeys { only_draw, only_reseal } => {
                Ok(self.rotate(&url, (!only_reseal, !only_draw)).await?)
            }
            Command::Workers { lease_ms, tend_ms, outlook } => {
                let times = (Duration::from_millis(*lease_ms), Duration::from_millis(*tend_ms));
                Ok(self.drive(&url, times, outlook).await?)
            }
            Command::Demo => Ok(demo::show(&url, self.dev_keys()?).await?),
        }
    }

    /// The database's address, and the private server behind it where there is no other.
    async fn at(&self) -> Result<(Option<Server>, String), Trouble> {
        if let Some(url) = &self.database {
            return Ok((None, url.clone()));
        }
        if let Some(url) = variable("DATABASE_URL").await? {
            return Ok((None, url.expose().to_owned()));
        }
        let hint = "give --database, set DATABASE_URL, or install PostgreSQL";
        let none = || Trouble::new("no_database", "no PostgreSQL is installed here", hint);
        let binaries = throwaway_services::find::postgres().ok_or_else(none)?;
        let folder = self.data_dir.clone();
        // Starting it blocks.
        let started = tokio::task::spawn_blocking(move || Server::open(&binaries, &folder)).await;
        let started = started.unwrap_or_else(|_panicked| Err("it could not be started".to_owned()));
        let server = started.map_err(|why| Trouble::new("no_database", why, hint))?;
        let url = server.url().to_owned();
        Ok((Some(server), url))
    }

    fn keys(&self) -> Result<Arc<dyn KeyProvider>, Trouble> {
        if let Some(file) = &self.key_file {
            return Ok(Arc::new(LocalKeys::file(file)?));
        }
        Ok(Arc::new(self.dev_keys()?))
    }

    fn dev_keys(&self) -> Result<DevKeys, Trouble> {
        DevKeys::for_environment(&self.environment).map_err(|error| {
            let hint = "give --key-file, or --environment dev on a machine of your own";
            Trouble::new(error.code(), error.to_string(), hint)
        })
    }

    /// The keys for somebody who only looks: nothing is made where there is no file.
    fn known_keys(&self) -> Result<Arc<dyn KeyProvider>, Trouble> {
        match &self.key_file {
            Some(file) if !file.is_file() => Err(Trouble::new(
                "no_key_file",
                format!("there is no file {}", file.display()),
                "name the file that the workers use: what it sealed opens by no other",
            )),
            _ => self.keys(),
        }
    }

    /// The platforms that were named, and whether all of them are simulators.
    async fn platforms(&self) -> Result<(Platforms, bool), Trouble> {
        let (mut apps, mut simulated) = (BTreeMap::new(), true);
        for word in &self.platform {
            let wrong = |why: String| {
                let hint = "write it as meta=http://127.0.0.1:4010";
                Trouble::new("usage", format!("--platform {word}: {why}"), hint)
            };
            let (name, url) = word.split_once('=').ok_or_else(|| wrong("no address".into()))?;
            let name = PlatformName::parse(name).ok_or_else(|| wrong("unknown name".into()))?;
            let base = BaseUrl::parse(url).map_err(|error| wrong(error.to_string()))?;
            simulated &= !base.needs_tls();
            let app =
                if base.needs_tls() { registered(name, base).await? } else { SocialSim::app(base) };
            apps.insert(name, app);
        }
        let platforms = Platforms::new(apps).map_err(|error| {
            Trouble::new("usage", error.to_string(), "build it with `--features live`")
        })?;
        Ok((platforms, simulated))
    }

    async fn service(&self, url: &str) -> Result<Service, Trouble> {
        let (platforms, simulated) = self.platforms().await?;
        let settings = if simulated { Settings::simulated() } else { Settings::default() };
        Service::open(Database::new(url)?, self.keys()?, platforms, settings).await
    }

    async fn check(&self, url: &str, report: Option<&Path>) -> Result<Exit, Trouble> {
        let (platforms, _) = self.platforms().await?;
        let findings = check::examine(&Database::new(url)?, self.known_keys(), &platforms).await;
        let well = findings.iter().all(|finding| finding.ok);
        let all = serde_json::json!({
            "ok": well, "version": env!("CARGO_PKG_VERSION"), "findings": findings,
        });
        if let Some(file) = report {
            fs::write(file, format!("{all:#}\n")).map_err(|error| {
                let hint = "name a file in a folder that can be written";
                Trouble::new("report_unwritten", error.to_string(), hint)
            })?;
        }
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        self.told(&lines.join("\n"), &all);
        Ok(if well { Exit::Done } else { Exit::Unavailable })
    }

    /// Draws a key, and seals anew, where each of them is wanted.
    async fn rotate(&self, url: &str, (draw, reseal): (bool, bool)) -> Result<Exit, Trouble> {
        let Some(file) = self.key_file.as_ref().filter(|file| file.is_file()) else {
            let hint = "name the file that the workers use: what it sealed opens by no other";
            return Err(Trouble::new("no_key_file", "there is no file of keys", hint));
        };
        let keys = LocalKeys::file(file)?;
        let rotated = match reseal {
            true => rotation::rotate(&Database::new(url)?, &keys, draw).await?,
            false => rotation::draw(&keys)?,
        };
        let key = rotated.drawn.as_ref().map_or_else(String::new, |key| format!("drew {key}; "));
        let line = format!("{key}sealed {} values anew", rotated.resealed);
        self.told(&line, &serde_json::json!(rotated));
        if rotated.is_complete() {
            return Ok(Exit::Done);
        }
        let message = format!("{} values do not open by any key", rotated.unopenable);
        let hint =
            "they were left as they are: keep all keys, and look for the one that is missing";
        Err(Trouble::new("secret_unopenable", message, hint))
    }

    async fn drive(
        &self,
        url: &str,
        (lease, tend): (Duration, Duration),
        options: &outlook::Options,
    ) -> Result<Exit, Trouble> {
        let service = self.service(url).await?;
        let outlook = options.open(&service).await?;
        let worker = service.worker(lease);
        let (_signals, mut stop) = interrupted();
        say("driving");
        while !*stop.borrow() {
            // Trouble of the database is told, and looked after again at the next turn.
            if let Err(trouble) = service.tend().await {
                say(&trouble.to_string());
            }
            outlook.write();
            tokio::select! {
                _ = stop.changed() => break,
                () = clock::sleep(tend) => {}
            }
        }
        worker.stop().await;
        outlook.close().await;
        Ok(Exit::Done)
    }

    fn told(&self, line: &str, json: &serde_json::Value) {
        say(if self.json { "" } else { line });
        if self.json {
            say(&json.to_string());
        }
    }
}

/// Id and secret of the service's app, out of the environment.
async fn registered(name: PlatformName, base: BaseUrl) -> Result<App, Trouble> {
    let prefix = format!("CONNECTOR_{}", name.as_str().to_ascii_uppercase());
    let of = |what: &str| format!("{prefix}_{what}");
    let missing = |name: String| {
        Trouble::new("usage", format!("{name} is not set"), "set it to what the platform gave out")
    };
    let (id, secret) = (of("CLIENT_ID"), of("CLIENT_SECRET"));
    let client_id = variable(&id).await?.ok_or_else(|| missing(id))?.expose().to_owned();
    let client_secret = variable(&secret).await?.ok_or_else(|| missing(secret))?;
    let verify_token = variable(&of("VERIFY_TOKEN")).await?;
    Ok(App { base, client_id, client_secret, verify_token })
}

async fn variable(name: &str) -> Result<Option<Secret>, Trouble> {
    Ok(EnvResolver::default().resolve(name).await?)
}

pub(crate) fn say(line: &str) {
    // A reader that has gone away is no reason to stop.
    if !line.is_empty() {
        let _ = writeln!(io::stdout(), "{line}");
    }
}
