//! Opens what `--store` names.

use std::{path::Path, sync::Arc};

use provision_core::{
    Engine, EngineBuilder, MemoryStore, Payload,
    store::{StateStore, Submission},
};
use provision_store_postgres::PostgresStore;
use provision_store_redis::RedisStore;
use provision_store_sqlite::SqliteStore;

use crate::{
    exit::Trouble,
    place::{Server, StoreAt, create},
};

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Opened {
    /// In this process only.
    Memory(MemoryStore),
    /// In a file.
    Sqlite(SqliteStore),
    /// In a schema of a PostgreSQL database.
    Postgres(PostgresStore),
    /// In a namespace of a Redis server.
    Redis(RedisStore),
}

impl Opened {
    /// Opens a store; the folder of a file is made.
    ///
    /// # Errors
    /// It cannot be reached, or will not do.
    pub async fn open(at: &StoreAt) -> Result<Self, Trouble> {
        Ok(match at {
            StoreAt::Memory => Self::Memory(MemoryStore::new()),
            StoreAt::Postgres(Server(url)) => Self::Postgres(PostgresStore::open(url).await?),
            StoreAt::Redis(Server(url)) => Self::Redis(RedisStore::open(url).await?),
            StoreAt::Sqlite(path) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                create(folder.unwrap_or_else(|| Path::new(".")))?;
                Self::Sqlite(SqliteStore::open(path).await?)
            }
        })
    }

    /// Begins an engine over it.
    pub fn engine(&self) -> EngineBuilder {
        match self.clone() {
            Self::Memory(store) => Engine::builder(store),
            Self::Sqlite(store) => Engine::builder(store),
            Self::Postgres(store) => Engine::builder(store),
            Self::Redis(store) => Engine::builder(store),
        }
    }

    /// The store itself.
    #[must_use]
    pub fn state(&self) -> Arc<dyn StateStore> {
        match self.clone() {
            Self::Memory(store) => Arc::new(store),
            Self::Sqlite(store) => Arc::new(store),
            Self::Postgres(store) => Arc::new(store),
            Self::Redis(store) => Arc::new(store),
        }
    }
}

/// Writes something of no meaning into a store without tables of a host.
///
/// # Errors
/// It cannot be written: the server is full or gone.
pub async fn beat(store: &dyn StateStore) -> Result<(), Trouble> {
    // Nothing comes of a request to a run that is not there, but a server that is full refuses it
    // like every other write.
    let nobody = "00000000-0000-0000-0000-000000000000".parse();
    let nobody = nobody.map_err(|_error| Trouble::bug("id", "no id of a run"))?;
    let beat = Submission::Request { run: nobody, body: Payload::null() };
    Ok(store.submit(&[beat]).await.map(drop)?)
}
