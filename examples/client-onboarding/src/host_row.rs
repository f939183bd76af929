//! The host's own table of clients: written in the very transaction that ends a run, so that after
//! a crash there are both or neither.
//!
//! With SQLite it lies in the store's own file, with PostgreSQL in the store's own database. Memory
//! and Redis have no transaction to share: there the row is what the run's journal says.

mod postgres;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use example_command::{
    drive::Pulse,
    exit::Trouble,
    report::OwnRow,
    stores::{self, Opened},
};
use provision_core::{
    RunId, RunStatus,
    run::journal::Record,
    store::{Append, StateStore},
};
use provision_store_postgres::PostgresStore;
use provision_store_sqlite::SqliteStore;
use serde::{Deserialize, Serialize};

use crate::saga::Site;

/// One client of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Id of the client.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// What it has booked.
    pub tier: String,
    /// Where its database lives.
    pub region: String,
    /// How its run ended last.
    pub status: String,
    /// Its run.
    pub run: String,
    /// Where its site is.
    pub url: String,
}

impl ClientRow {
    fn new(run: RunId, status: RunStatus, site: Site) -> Self {
        Self {
            id: site.client.id,
            name: site.client.name,
            tier: site.client.tier.to_string(),
            region: site.client.region,
            status: status.as_str().to_owned(),
            run: run.to_string(),
            url: site.url,
        }
    }

    /// Whether the client is one at present.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let status = RunStatus::parse(&self.status);
        matches!(status, Some(RunStatus::Succeeded | RunStatus::PartlySucceeded))
    }

    /// The row as reports show it.
    #[must_use]
    pub fn shown(&self) -> OwnRow {
        OwnRow {
            kind: "client",
            id: self.id.clone(),
            name: self.name.clone(),
            place: self.url.clone(),
            is_alive: self.is_alive(),
        }
    }
}

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum Clients {
    /// In the journals of their runs.
    Journal(Arc<dyn StateStore>),
    /// In the store's file.
    Sqlite(SqliteStore),
    /// In the store's database.
    Postgres(PostgresStore),
}

impl Clients {
    /// Makes the table where the store has a place for it.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn of(store: &Opened) -> Result<Self, Trouble> {
        match store {
            Opened::Sqlite(store) => Self::in_sqlite(store).await,
            Opened::Postgres(store) => Self::in_postgres(store).await,
            Opened::Memory(_) | Opened::Redis(_) => Ok(Self::Journal(store.state())),
        }
    }

    /// Makes the table in the store's file, and has it written with the end of every run.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn in_sqlite(store: &SqliteStore) -> Result<Self, Trouble> {
        sqlite::prepare(store).await?;
        Ok(Self::Sqlite(store.clone()))
    }

    /// Makes the table in the store's database, and has it written with the end of every run.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn in_postgres(store: &PostgresStore) -> Result<Self, Trouble> {
        postgres::prepare(store).await?;
        Ok(Self::Postgres(store.clone()))
    }

    /// The row that a run has written.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn of_run(&self, run: RunId) -> Result<Option<ClientRow>, Trouble> {
        match self {
            Self::Journal(store) => {
                let Some(record) = store.load(&[run]).await?.pop().flatten() else {
                    return Ok(None);
                };
                let made = record.frames.iter().rev().find_map(|frame| made(&frame.body));
                Ok(made.map(|site| ClientRow::new(run, record.head.status, site)))
            }
            Self::Sqlite(store) => sqlite::of_run(store, run).await,
            Self::Postgres(store) => postgres::of_run(store, run).await,
        }
    }
}

#[async_trait]
impl Pulse for Clients {
    async fn beat(&self) -> Result<(), Trouble> {
        match self {
            Self::Journal(store) => stores::beat(&**store).await,
            Self::Sqlite(store) => sqlite::beat(store).await,
            Self::Postgres(store) => postgres::beat(store).await,
        }
    }
}

/// The row that the end of a run writes, if the run made something.
fn row_of(append: &Append) -> Option<ClientRow> {
    let made_it = matches!(append.status, RunStatus::Succeeded | RunStatus::PartlySucceeded);
    let site = made(append.frame.as_deref().filter(|_| made_it)?)?;
    Some(ClientRow::new(append.run, append.status, site))
}

/// What a run has made, if this frame is its end.
fn made(frame: &str) -> Option<Site> {
    let records = Record::decode(frame).ok()?;
    let output = records.into_iter().find_map(|record| match record {
        Record::Ended { output, .. } => output,
        _ => None,
    })?;
    output.decode().ok()
}
