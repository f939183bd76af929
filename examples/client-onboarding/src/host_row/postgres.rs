//! The table in the store's own database, in the schema where the host's tables are.

use provision_core::RunId;
use provision_store_postgres::PostgresStore;
use sqlx::{Row as _, query, query_scalar};

use super::{ClientRow, row_of};
use example_command::exit::Trouble;

const TABLES: [&str; 2] = [
    "create table if not exists clients (
        id text primary key,
        name text not null,
        tier text not null,
        region text not null,
        status text not null,
        run text not null,
        url text not null
    )",
    "create table if not exists pulse (
        one integer primary key check (one = 1), beat bigint not null
    )",
];
const ARE_THERE: &str =
    "select to_regclass('clients') is not null and to_regclass('pulse') is not null";
/// Several commands may begin at the same time, and `if not exists` alone does not part them.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock(hashtext('client-onboarding'))";
const BEAT: &str = "insert into pulse (one, beat) values (1, 1)
    on conflict (one) do update set beat = pulse.beat + 1";
const PUT: &str = "insert into clients (id, name, tier, region, status, run, url)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (id) do update set name = $2, tier = $3, region = $4, status = $5, run = $6,
        url = $7";
const MARK: &str = "update clients set status = $2 where run = $1";
const GET: &str = "select id, name, tier, region, status, run, url from clients where run = $1";

pub(super) async fn prepare(store: &PostgresStore) -> Result<(), Trouble> {
    let made = async {
        // A role that may not make tables can work with those that are there.
        if query_scalar(ARE_THERE).fetch_one(store.pool()).await? {
            return Ok(());
        }
        let mut tx = store.pool().begin().await?;
        query(ONE_AT_A_TIME).execute(&mut *tx).await?;
        for table in TABLES {
            query(table).execute(&mut *tx).await?;
        }
        tx.commit().await
    };
    made.await.map_err(|error| trouble(&error))?;
    store.on_end(|tx, append| {
        Box::pin(async move {
            let write = match row_of(append) {
                Some(ClientRow { id, name, tier, region, status, run, url }) => {
                    let row = query(PUT).bind(id).bind(name).bind(tier).bind(region);
                    row.bind(status).bind(run).bind(url)
                }
                None => query(MARK).bind(append.run.to_string()).bind(append.status.as_str()),
            };
            write.execute(tx).await.map(drop)
        })
    });
    Ok(())
}

pub(super) async fn beat(store: &PostgresStore) -> Result<(), Trouble> {
    query(BEAT).execute(store.pool()).await.map(drop).map_err(|error| trouble(&error))
}

pub(super) async fn of_run(
    store: &PostgresStore,
    run: RunId,
) -> Result<Option<ClientRow>, Trouble> {
    let row = query(GET).bind(run.to_string()).fetch_optional(store.pool());
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(ClientRow {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            tier: row.try_get(2)?,
            region: row.try_get(3)?,
            status: row.try_get(4)?,
            run: row.try_get(5)?,
            url: row.try_get(6)?,
        })
    };
    let found = row.await.and_then(|row| row.as_ref().map(read).transpose());
    found.map_err(|error: sqlx::Error| trouble(&error))
}

fn trouble(error: &sqlx::Error) -> Trouble {
    let hint = "look at the server; the role needs the right to create tables in its schema";
    Trouble::unavailable("host_table", format!("the table of clients: {error}"), hint)
}
