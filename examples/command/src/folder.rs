//! The folder of a simulated cloud: one process serves it, for itself or for others.
//!
//! Each simulator commits its state to a file of this folder before it answers, so a killed process
//! takes the cloud down with it and the next one finds it as it was.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use provision_adapters::{
    http::ConfigError,
    sim::{Inventory, InventoryItem, Provider, SimOptions, SimServer},
};
use provision_core::clock;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    exit::{Exit, Trouble},
    progress::Screen,
    report::print_json,
};

/// File whose lock the running cloud holds.
const IN_USE: &str = "in-use";
/// How long a command waits for another one to leave the cloud.
const WAIT_FOR_CLOUD: Duration = Duration::from_secs(10);
const REMOVE: &str = "remove the data folder to begin with an empty cloud";

/// A cloud's folder below a data folder.
#[derive(Debug, Clone)]
pub struct CloudFolder(PathBuf);

/// The right to run a folder's cloud; the kernel takes it back when its holder dies, so a killed
/// command leaves nothing behind.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who runs the cloud of a folder.
#[derive(Debug)]
pub enum Taken<A> {
    /// This process may, as long as it holds the lock.
    Own(Lock),
    /// Another process serves it at these addresses.
    Served(A),
}

impl CloudFolder {
    /// The cloud of a data folder.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join("cloud"))
    }

    /// Takes the cloud for this process, or finds the one that another process serves: also one
    /// that is just being started. `A` is what [`CloudFolder::announce`] was given there.
    ///
    /// # Errors
    /// Code `cloud_in_use`: another process runs it for itself alone. Or the folder cannot be used.
    pub async fn take<A: DeserializeOwned + Send>(&self) -> Result<Taken<A>, Trouble> {
        match clock::within(WAIT_FOR_CLOUD, self.taken()).await {
            Some(taken) => {
                let taken = taken?;
                if let Taken::Own(_) = taken {
                    // Of a cloud that was killed.
                    drop(fs::remove_file(self.announced()));
                }
                Ok(taken)
            }
            None => Err(in_use()),
        }
    }

    /// Takes the cloud for this process, or does not.
    ///
    /// # Errors
    /// Code `cloud_in_use`: another process runs it. Or the folder cannot be used.
    pub async fn take_alone<A: DeserializeOwned + Send>(&self) -> Result<Lock, Trouble> {
        match self.take::<A>().await? {
            Taken::Own(lock) => Ok(lock),
            Taken::Served(_) => Err(in_use()),
        }
    }

    /// Waits for the lock of the cloud, or for who has it to serve that cloud.
    async fn taken<A: DeserializeOwned + Send>(&self) -> Result<Taken<A>, Trouble> {
        loop {
            if let Some(served) = self.served()? {
                return Ok(Taken::Served(served));
            }
            if let Some(lock) = self.lock()? {
                return Ok(Taken::Own(lock));
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
    }

    fn lock(&self) -> Result<Option<Lock>, Trouble> {
        let failed = |error: io::Error| self.unusable(&error);
        fs::create_dir_all(&self.0).map_err(failed)?;
        let path = self.0.join(IN_USE);
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Addresses of the cloud that another process serves; `None` where none does.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn served<A: DeserializeOwned>(&self) -> Result<Option<A>, Trouble> {
        let failed = |error: io::Error| self.unusable(&error);
        let Ok(file) = File::open(self.0.join(IN_USE)) else { return Ok(None) };
        match file.try_lock_shared() {
            // Whoever served it is gone, whatever it has left here.
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::read(self.announced()) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Lets other commands of this data folder use the cloud of this process, as long as it runs.
    ///
    /// # Errors
    /// The addresses cannot be written.
    pub fn announce<A: Serialize>(&self, addresses: &A) -> Result<(), Trouble> {
        let whole = self.0.join("addresses.new");
        let text = serde_json::to_vec(addresses);
        let text = text.map_err(|error| Trouble::bug("json", error.to_string()))?;
        let written = fs::write(&whole, text).and_then(|()| fs::rename(whole, self.announced()));
        written.map_err(|error| self.unusable(&error))
    }

    /// Starts a simulator that keeps its state here. `speed` multiplies its times.
    ///
    /// # Errors
    /// The folder cannot be used, or no port is free.
    pub fn start<P: Provider>(&self, provider: P, speed: f64) -> Result<SimServer<P>, Trouble> {
        let file = self.file(provider.name());
        let options = SimOptions::default().with_persist(file).with_speed(speed);
        SimServer::start(provider, options).map_err(|error| self.unusable(&error))
    }

    /// What a simulator keeps here, read without starting it. `provider` is one as it begins.
    ///
    /// # Errors
    /// Code `cloud_damaged`: its file cannot be read.
    pub fn stored(&self, mut provider: impl Provider) -> Result<Vec<InventoryItem>, Trouble> {
        let path = self.file(provider.name());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.unusable(&error)),
        };
        let damaged = |why: String| Trouble::unavailable("cloud_damaged", why, REMOVE);
        let saved: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let state = saved.get("state").cloned().unwrap_or_default();
        provider.restore(state).map_err(damaged)?;
        Ok(provider.inventory())
    }

    fn announced(&self) -> PathBuf {
        self.0.join("addresses.json")
    }

    fn file(&self, provider: &str) -> PathBuf {
        self.0.join(format!("{provider}.json"))
    }

    fn unusable(&self, error: &io::Error) -> Trouble {
        let place = self.0.display();
        let message = format!("the simulated cloud in {place} cannot be used: {error}");
        Trouble::unavailable("cloud_unusable", message, REMOVE)
    }
}

/// `inventory`: shows what a simulated cloud holds.
///
/// # Errors
/// It cannot be written as JSON.
pub fn show_inventory(inventory: &Inventory, json: bool) -> Result<Exit, Trouble> {
    if json {
        print_json(inventory)?;
    } else {
        Screen::new(false, true).line(inventory.to_string().trim_end());
    }
    Ok(Exit::Done)
}

fn in_use() -> Trouble {
    Trouble::unavailable(
        "cloud_in_use",
        "another command runs the simulated cloud of this data folder",
        "wait for it to end, take another --data-dir, or let the command `cloud` serve them all",
    )
}

impl From<ConfigError> for Trouble {
    fn from(error: ConfigError) -> Self {
        let hint = match error {
            ConfigError::TlsMissing => "build it with `--features live` to use real providers",
            _ => "check the variables that --live reads",
        };
        Self::usage("provider_config", error.to_string(), hint)
    }
}
