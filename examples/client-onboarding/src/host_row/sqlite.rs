//! The table in the store's own file.

use provision_core::RunId;
use provision_store_sqlite::SqliteStore;

use super::{ClientRow, row_of};
use example_command::exit::Trouble;

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

pub(super) async fn prepare(store: &SqliteStore) -> Result<(), Trouble> {
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
    Ok(())
}

pub(super) async fn beat(store: &SqliteStore) -> Result<(), Trouble> {
    store.execute_host(|tx| tx.execute(BEAT, ())).await?;
    Ok(())
}

pub(super) async fn of_run(store: &SqliteStore, run: RunId) -> Result<Option<ClientRow>, Trouble> {
    let run = run.to_string();
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
