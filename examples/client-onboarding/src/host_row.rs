//! The host's own table of clients: written in the very transaction that ends a run, so that after
//! a crash there are both or neither.
//!
//! With SQLite it lies in the store's own file; with the store in memory it is a map.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use provision_core::{RunId, RunStatus, run::journal::Record, store::Append};
use provision_store_sqlite::SqliteStore;
use serde::{Deserialize, Serialize};

use crate::{exit::Trouble, saga::Site};

const TABLE: &str = "create table if not exists clients (
    id text primary key,
    name text not null,
    tier text not null,
    region text not null,
    status text not null,
    run text not null,
    url text not null
) strict;
create table if not exists pulse (one integer primary key check (one = 1), beat integer not null)
    strict";
const BEAT: &str = "insert into pulse (one, beat) values (1, 1)
    on conflict (one) do update set beat = beat + 1";
const PUT: &str = "insert into clients (id, name, tier, region, status, run, url)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    on conflict (id) do update set name = ?2, tier = ?3, region = ?4, status = ?5, run = ?6,
        url = ?7";
const MARK: &str = "update clients set status = ?2 where run = ?1";
const GET: &str = "select id, name, tier, region, status, run, url from clients where run = ?1";

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
}

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum Clients {
    /// In this process.
    Memory(Arc<Mutex<BTreeMap<String, ClientRow>>>),
    /// In the store's file.
    Sqlite(SqliteStore),
}

impl Clients {
    /// Rows beside a store in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// Makes the table in the store's file, and has it written with the end of every run.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn in_sqlite(store: &SqliteStore) -> Result<Self, Trouble> {
        store.execute_host(|tx| tx.execute_batch(TABLE)).await?;
        store.on_end(|tx, append| {
            match row_of(append) {
                Some(ClientRow { id, name, tier, region, status, run, url }) => {
                    tx.execute(PUT, (id, name, tier, region, status, run, url))?;
                }
                None => {
                    tx.execute(MARK, (append.run.to_string(), append.status.as_str()))?;
                }
            }
            Ok(())
        });
        Ok(Self::Sqlite(store.clone()))
    }

    /// Takes note of a run's end where the store does not do it by itself.
    pub fn ended(&self, run: RunId, status: RunStatus, site: Option<Site>) {
        let Self::Memory(rows) = self else { return };
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        match site {
            Some(site) => {
                let row = ClientRow::new(run, status, site);
                rows.insert(row.id.clone(), row);
            }
            None => {
                let run = run.to_string();
                for row in rows.values_mut().filter(|row| row.run == run) {
                    status.as_str().clone_into(&mut row.status);
                }
            }
        }
    }

    /// Writes something of no meaning, to see whether the store can be written at all.
    ///
    /// # Errors
    /// It cannot: the disk is full, another program holds the file.
    pub async fn beat(&self) -> Result<(), Trouble> {
        if let Self::Sqlite(store) = self {
            store.execute_host(|tx| tx.execute(BEAT, ())).await?;
        }
        Ok(())
    }

    /// The row that a run has written.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn of_run(&self, run: RunId) -> Result<Option<ClientRow>, Trouble> {
        let run = run.to_string();
        let store = match self {
            Self::Memory(rows) => {
                let rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(rows.values().find(|row| row.run == run).cloned());
            }
            Self::Sqlite(store) => store,
        };
        let found = store.query_host(move |conn| {
            let mut query = conn.prepare(GET)?;
            let rows = query.query_map([run], |row| {
                Ok(ClientRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    tier: row.get(2)?,
                    region: row.get(3)?,
                    status: row.get(4)?,
                    run: row.get(5)?,
                    url: row.get(6)?,
                })
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        Ok(found.await?.pop())
    }
}

/// The row that the end of a run writes, if the run made something.
fn row_of(append: &Append) -> Option<ClientRow> {
    let made = matches!(append.status, RunStatus::Succeeded | RunStatus::PartlySucceeded);
    let records = Record::decode(append.frame.as_deref().filter(|_| made)?).ok()?;
    let output = records.into_iter().find_map(|record| match record {
        Record::Ended { output, .. } => output,
        _ => None,
    })?;
    Some(ClientRow::new(append.run, append.status, output.decode().ok()?))
}
