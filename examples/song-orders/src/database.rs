//! The shop's database: what is made there before anything else, a pool for each role, and how the
//! end of a run becomes the end of its order.

use example_command::{
    exit::Trouble,
    tables::{self, alone, options},
};
use provision_core::RunStatus;
use provision_store_postgres::{PostgresConfig, PostgresStore};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Executor as _, PgPool, query, query_scalar};

const SCHEMA: &str = include_str!("../sql/schema.sql");
/// What administrators read of the library's own tables.
const FOR_ADMINS: &str = "GRANT USAGE ON SCHEMA provision TO song_admin;
    GRANT SELECT ON provision.dead_letters TO song_admin";
const CONNECTIONS_MAX: u32 = 6;

/// Makes schemas, tables and roles, as the owner of the database; where that was done by the same
/// scripts before, it only looks. `live` says whose clouds its songs are in.
///
/// # Errors
/// The database cannot be reached, will not do, or is about the other clouds (`other_clouds`).
pub async fn migrate(url: &str, live: bool) -> Result<(), Trouble> {
    let owner = tables::pool(options(url)?, 2);
    // First the store: it tells what is wrong with a server in words of its own.
    PostgresConfig::with_pool(owner.clone()).open().await?;
    let rights = [
        PostgresStore::rights_script("provision", "song_worker", false)?,
        PostgresStore::start_rights_script("provision", "song_intake")?,
    ];
    let scripts = [SCHEMA, FOR_ADMINS].into_iter().chain(rights.iter().map(String::as_str));
    let digest = scripts.fold(Sha256::new(), |digest, script| digest.chain_update(script));
    let made_by = digest.finalize().to_vec();
    let script = async {
        // What changes tables waits for all who read them, and all others wait behind it.
        if let Some(known) = made(&owner, &made_by).await? {
            return Ok(known);
        }
        let mut tx = owner.begin().await?;
        tx.execute("SET LOCAL lock_timeout = '10s'").await?;
        alone(&mut tx, "song-orders").await?;
        tx.execute(SCHEMA).await?;
        for rights in rights {
            tx.execute(AssertSqlSafe(tables::within(&rights))).await?;
        }
        tx.execute(FOR_ADMINS).await?;
        let first = "INSERT INTO songs.clouds (live, made_by) VALUES ($1, $2)
            ON CONFLICT (one) DO UPDATE SET made_by = excluded.made_by";
        query(first).bind(live).bind(made_by).execute(&mut *tx).await?;
        let known: bool = query_scalar("SELECT live FROM songs.clouds").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(known)
    };
    let known = script.await.map_err(unread)?;
    owner.close().await;
    match known == live {
        true => Ok(()),
        false => Err(other_clouds(known)),
    }
}

/// Whose clouds its songs are in, where the schema was made by these very scripts.
async fn made(owner: &PgPool, by: &[u8]) -> Result<Option<bool>, sqlx::Error> {
    let there = "SELECT EXISTS (SELECT FROM information_schema.columns
        WHERE (table_schema, table_name, column_name) = ('songs', 'clouds', 'made_by'))";
    if !query_scalar::<_, bool>(there).fetch_one(owner).await? {
        return Ok(None);
    }
    let known = "SELECT live FROM songs.clouds WHERE made_by = $1";
    query_scalar(known).bind(by).fetch_optional(owner).await
}

fn other_clouds(live: bool) -> Trouble {
    let (whose, hint) = match live {
        true => ("the real providers", "say --live, or choose another database"),
        false => ("the simulated clouds", "leave out --live, or choose another database"),
    };
    Trouble::usage("other_clouds", format!("the songs of this database are at {whose}"), hint)
}

/// A pool whose connections have taken on a role. The first is opened now: row security rests on the
/// role, so it is seen and not believed.
///
/// # Errors
/// The database cannot be reached, or what is between does not pass the role on (`song_role`).
pub async fn pool(url: &str, role: &'static str) -> Result<PgPool, Trouble> {
    // The server sets it before the first statement, and again wherever a connection is reset.
    let pool = tables::pool(options(url)?.options([("role", role)]), CONNECTIONS_MAX);
    let taken = "SELECT rolname = $1 AND NOT rolsuper AND NOT rolbypassrls
        FROM pg_roles WHERE rolname = current_user";
    let taken: bool = query_scalar(taken).bind(role).fetch_one(&pool).await.map_err(unread)?;
    match taken {
        true => Ok(pool),
        false => Err(Trouble::unavailable(
            "song_role",
            format!("connections do not become the role `{role}`, or it passes by row security"),
            "give an address of the server itself: a transaction pooler leaves out how \
             connections begin",
        )),
    }
}

/// The order ends in the transaction that ends its run.
pub fn write_ends(store: &PostgresStore) {
    store.on_end(|tx, append| {
        Box::pin(async move {
            let run = *append.run.as_uuid();
            let progress = match append.status {
                RunStatus::Succeeded | RunStatus::PartlySucceeded => "completed",
                RunStatus::TornDown => {
                    let forget = "SELECT songs.forget(id) FROM songs.orders WHERE run = $1";
                    return query(forget).bind(run).execute(&mut *tx).await.map(drop);
                }
                _ => "failed",
            };
            // What cost nothing is not paid back, and what was paid back once is not due again.
            let end = "UPDATE songs.orders SET progress = $2,
                payment = CASE
                    WHEN $2 = 'failed' AND payment = 'paid' THEN 'refund_due'
                    WHEN $2 = 'completed' AND payment = 'refund_due' THEN 'paid'
                    ELSE payment END,
                completed_at = CASE WHEN $2 = 'completed' THEN now() END
                WHERE run = $1 AND progress <> 'removed'";
            query(end).bind(run).bind(progress).execute(&mut *tx).await.map(drop)
        })
    });
}

/// Tells that the shop's database cannot be read or written.
pub(crate) fn unread(error: sqlx::Error) -> Trouble {
    tables::unread("song_database")(error)
}
