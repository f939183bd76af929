//! The clouds: simulated ones of this process that keep their state in the data folder, or those
//! that are named.

use std::path::Path;

use example_command::{
    exit::Trouble,
    folder::{CloudFolder, Lock},
};
use provision_adapters::{
    elevenlabs::{ElevenLabsConfig, sim::ElevenLabsSim},
    http::BaseUrl,
    sim::{Inventory, SimServer},
    supabase_storage::{
        SupabaseStorageConfig,
        sim::{SupabaseStorageSim, base},
    },
};
use provision_core::SecretRef;

use crate::{
    saga::BUCKET,
    shop::{ELEVENLABS_KEY, STORAGE_KEY},
};

/// Where the clouds are.
#[derive(Debug)]
pub struct Cloud {
    elevenlabs: BaseUrl,
    storage: BaseUrl,
    _own: Option<Own>,
}

/// Clouds of this process, and its right to run them.
#[derive(Debug)]
struct Own {
    _elevenlabs: SimServer<ElevenLabsSim>,
    _storage: SimServer<SupabaseStorageSim>,
    _lock: Lock,
}

impl Cloud {
    /// Uses clouds at these addresses.
    ///
    /// # Errors
    /// They are none that may be used.
    pub fn at(elevenlabs: &str, storage: &str) -> Result<Self, Trouble> {
        Ok(Self { elevenlabs: parse(elevenlabs)?, storage: parse(storage)?, _own: None })
    }

    /// Starts simulated clouds, as they were when they ended.
    ///
    /// # Errors
    /// Another command runs them, or the folder cannot be used.
    pub async fn own(data_dir: &Path, speed: f64) -> Result<Self, Trouble> {
        let folder = CloudFolder::of(data_dir);
        let lock = folder.take_alone::<()>().await?;
        let mut storage = SupabaseStorageSim::new();
        storage.add_bucket(BUCKET);
        let elevenlabs = folder.start(ElevenLabsSim::new(), speed)?;
        let storage = folder.start(storage, speed)?;
        Ok(Self {
            elevenlabs: parse(&elevenlabs.url())?,
            storage: parse(&base(&storage.url()))?,
            _own: Some(Own { _elevenlabs: elevenlabs, _storage: storage, _lock: lock }),
        })
    }
}

impl Cloud {
    /// How ElevenLabs is reached.
    #[must_use]
    pub fn elevenlabs(&self) -> ElevenLabsConfig {
        ElevenLabsConfig::at(self.elevenlabs.clone(), SecretRef::named(ELEVENLABS_KEY))
    }

    /// How the storage is reached.
    #[must_use]
    pub fn storage(&self) -> SupabaseStorageConfig {
        SupabaseStorageConfig::at(self.storage.clone(), SecretRef::named(STORAGE_KEY))
    }
}

/// Reads what the simulated clouds of a data folder hold, without starting them.
///
/// # Errors
/// A file of them cannot be read.
pub fn stored_inventory(data_dir: &Path) -> Result<Inventory, Trouble> {
    let folder = CloudFolder::of(data_dir);
    let mut storage = SupabaseStorageSim::new();
    storage.add_bucket(BUCKET);
    Ok(Inventory::merge([folder.stored(ElevenLabsSim::new())?, folder.stored(storage)?]))
}

fn parse(address: &str) -> Result<BaseUrl, Trouble> {
    let hint = "give https://.., or http:// with a literal loopback address";
    BaseUrl::parse(address).map_err(|error| Trouble::usage("wrong_cloud", error.to_string(), hint))
}
