//! The shop: its database with a role for each kind of work, and how the end of a run becomes the
//! end of its order.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use example_command::{exit::Trouble, stage::Stage};
use provision_adapters::{
    elevenlabs::{ElevenLabs, ElevenLabsConfig, FileSink},
    http::BaseUrl,
    supabase_storage::{SupabaseStorage, SupabaseStorageConfig},
};
use provision_core::{
    By, Engine, RunStatus, SecretRef, Worker, WorkerConfig, clock,
    resolver::SecretResolver,
    store::{RunFilter, RunHead},
    vault::LocalKeys,
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    query, query_as,
};

use crate::saga::{Tools, making};

/// Name of ElevenLabs' key.
pub const ELEVENLABS_KEY: &str = "ELEVENLABS_API_KEY";
/// Name of the storage's key.
pub const STORAGE_KEY: &str = "SUPABASE_SECRET_KEY";

const SCHEMA: &str = include_str!("../sql/schema.sql");
/// Commands may begin at the same time.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_lock(hashtext('song-orders'))";
/// What administrators read of the library's own tables.
const FOR_ADMINS: &str = "GRANT USAGE ON SCHEMA provision TO song_admin;
    GRANT SELECT ON provision.dead_letters TO song_admin";
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const CONNECTIONS_MAX: u32 = 6;
/// A busy server takes seconds for a new connection. What waits for it is bounded by its own time:
/// a delivery by that of the router.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether orders are open.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The database.
    pub database: String,
    /// Folder of keys and of songs on their way.
    pub data_dir: PathBuf,
    /// Address of ElevenLabs.
    pub elevenlabs: BaseUrl,
    /// Address of the storage.
    pub storage: BaseUrl,
    /// Calls for music that may be open at a time.
    pub concurrency: u32,
    /// Times of a simulated cloud.
    pub stage: Stage,
}

/// How many orders stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Taken, and not through.
    pub open: i64,
    /// Made, at least in part.
    pub completed: i64,
    /// Not made; the money goes back.
    pub failed: i64,
    /// Made once, and removed.
    pub removed: i64,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, completed, failed, removed } = self;
        write!(f, "{completed} orders completed, {failed} failed, {removed} removed, {open} open")
    }
}

/// What is open while the shop works. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The database as the role that takes orders.
    pub(crate) intake: PgPool,
    /// The database as the role of those who were given a token, or nothing.
    pub(crate) anyone: PgPool,
    admin: PgPool,
    pub(crate) store: PostgresStore,
    /// Starts and orders runs.
    pub engine: Engine,
    /// Where songs are kept.
    pub(crate) storage: SupabaseStorage,
}

impl Shop {
    /// Connects, makes what is missing in the database, and puts the engine together.
    ///
    /// # Errors
    /// The database cannot be reached, or will not do.
    pub async fn open(places: &Places, resolver: impl SecretResolver) -> Result<Self, Trouble> {
        migrate(&places.database).await?;
        let worker = pool(&places.database, "song_worker")?;
        let store = PostgresConfig::with_pool(worker.clone()).with_migrate(false).open().await?;
        write_ends(&store);
        let config =
            SupabaseStorageConfig::at(places.storage.clone(), SecretRef::named(STORAGE_KEY));
        let storage = SupabaseStorage::new(config).map_err(wrong)?;
        let config =
            ElevenLabsConfig::at(places.elevenlabs.clone(), SecretRef::named(ELEVENLABS_KEY))
                .with_music_concurrency(places.concurrency);
        let tools = Tools {
            pool: worker,
            elevenlabs: ElevenLabs::new(config).map_err(wrong)?,
            storage: storage.clone(),
            spool: FileSink::new(places.data_dir.join("spool")),
            stage: places.stage.clone(),
        };
        let saga = making(&tools).map_err(|error| Trouble::bug("saga", error.to_string()))?;
        let keys = LocalKeys::file(places.data_dir.join("keys"))?;
        let builder = Engine::builder(store.clone()).keys(keys).resolver(resolver);
        let engine = builder.register(saga).build().await?;
        let intake = pool(&places.database, "song_intake")?;
        let anyone = pool(&places.database, "song_anyone")?;
        let admin = pool(&places.database, "song_admin")?;
        Ok(Self { intake, anyone, admin, store, engine, storage })
    }

    /// Spawns the worker that makes songs, of this process and of those that died.
    #[must_use]
    pub fn worker(&self) -> Worker {
        self.engine.spawn_worker(WorkerConfig::default())
    }

    /// Waits until no order is open that goes on by itself; answers how all stand.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn settled(&self) -> Result<Standing, Trouble> {
        let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
        loop {
            let standing = self.standing().await?;
            let parked = self.engine.runs(&parked).await?.runs.len();
            let parked = i64::try_from(parked).unwrap_or(i64::MAX);
            if standing.open <= parked {
                return Ok(standing);
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// How the orders stand.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn standing(&self) -> Result<Standing, Trouble> {
        let counts = "SELECT count(*) FILTER (WHERE progress IN ('ordered', 'generating')),
            count(*) FILTER (WHERE progress = 'completed'),
            count(*) FILTER (WHERE progress = 'failed'),
            count(*) FILTER (WHERE progress = 'removed') FROM songs.orders";
        let read = query_as(counts).fetch_one(self.store.pool()).await;
        let (open, completed, failed, removed) = read.map_err(unread)?;
        Ok(Standing { open, completed, failed, removed })
    }

    /// The runs that need a person: what stopped, and what was undone for a failure.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<RunHead>, Trouble> {
        Ok(self.engine.dead_letters().await?.runs)
    }

    /// What people have noted on a run, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notes(&self, run: &str) -> Result<Vec<String>, Trouble> {
        let notes = "SELECT note FROM songs.dead_letter_notes WHERE run = $1::text::uuid
            ORDER BY noted_at";
        let notes: Vec<(String,)> =
            query_as(notes).bind(run).fetch_all(&self.admin).await.map_err(unread)?;
        Ok(notes.into_iter().map(|(note,)| note).collect())
    }

    /// Notes something on a run that needs a person.
    ///
    /// # Errors
    /// The database does not take it: the note is empty or longer than 2,000 characters, or the
    /// run is none.
    pub async fn note(&self, run: &str, note: &str) -> Result<(), Trouble> {
        let insert = "INSERT INTO songs.dead_letter_notes (run, note) VALUES ($1::text::uuid, $2)";
        let noted = query(insert).bind(run).bind(note).execute(&self.admin).await;
        noted.map(drop).map_err(unread)
    }

    /// Orders every run that needs a person to go on: what stopped tries again, and what was undone
    /// begins anew.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn try_again(&self) -> Result<(), Trouble> {
        for run in self.dead_letters().await? {
            let by = By::new("song-orders", "--try-again");
            match run.status {
                RunStatus::Parked => self.engine.retry(&run.id, by).await?,
                _ => self.engine.redrive(&run.id, by).await?,
            }
        }
        Ok(())
    }

    /// Orders the songs of every order removed, and waits until they are.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn tear_down(&self) -> Result<Standing, Trouble> {
        let made = vec![RunStatus::Succeeded, RunStatus::PartlySucceeded];
        let made = RunFilter { status: made, ..RunFilter::default() };
        for run in self.engine.runs(&made).await?.runs {
            self.engine.tear_down(&run.id, By::new("song-orders", "--tear-down")).await?;
        }
        loop {
            let standing = self.standing().await?;
            if standing.completed == 0 {
                return Ok(standing);
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }
}

/// Makes schemas, tables and roles, as the owner of the database.
async fn migrate(url: &str) -> Result<(), Trouble> {
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(wrong_url());
    }
    let owner = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(CONNECT_WITHIN)
        .connect_lazy(url)
        .map_err(|_says_the_url| wrong_url())?;
    // First the store: it tells what is wrong with a server in words of its own.
    PostgresConfig::with_pool(owner.clone()).open().await?;
    let rights = ["song_intake", "song_worker"]
        .map(|role| PostgresStore::rights_script("provision", role, false));
    let rights = rights.into_iter().collect::<Result<Vec<_>, _>>()?;
    let script = async {
        let mut conn = owner.acquire().await?;
        conn.execute(ONE_AT_A_TIME).await?;
        let mut tx = conn.begin().await?;
        tx.execute(SCHEMA).await?;
        tx.commit().await?;
        for rights in rights {
            conn.execute(AssertSqlSafe(rights)).await?;
        }
        conn.execute(FOR_ADMINS).await?;
        // The lock ends with the connection.
        conn.close().await
    };
    script.await.map_err(unread)?;
    owner.close().await;
    Ok(())
}

/// A pool whose connections have taken on a role.
fn pool(url: &str, role: &'static str) -> Result<PgPool, Trouble> {
    let options = PgConnectOptions::from_str(url).map_err(|_says_the_url| wrong_url())?;
    // The server sets it before the first statement, and again wherever a connection is reset.
    let options = options.options([("role", role)]);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX);
    Ok(pool.acquire_timeout(CONNECT_WITHIN).connect_lazy_with(options))
}

/// The order ends in the transaction that ends its run.
fn write_ends(store: &PostgresStore) {
    store.on_end(|tx, append| {
        Box::pin(async move {
            let progress = match append.status {
                RunStatus::Succeeded | RunStatus::PartlySucceeded => "completed",
                RunStatus::TornDown => "removed",
                _ => "failed",
            };
            let run = *append.run.as_uuid();
            let end = "UPDATE songs.orders SET progress = $2,
                payment = CASE $2 WHEN 'failed' THEN 'refund_due' WHEN 'completed' THEN 'paid'
                    ELSE payment END,
                completed_at = CASE WHEN $2 = 'completed' THEN now() END,
                recipient = CASE WHEN $2 = 'removed' THEN NULL ELSE recipient END
                WHERE run = $1";
            query(end).bind(run).bind(progress).execute(&mut *tx).await?;
            if progress != "removed" {
                return Ok(());
            }
            // What is left of the order says that it was there, and nothing about anybody.
            let of = "order_id = (SELECT id FROM songs.orders WHERE run = $1)";
            for table in ["variants", "deliveries"] {
                let forget = format!("DELETE FROM songs.{table} WHERE {of}");
                query(AssertSqlSafe(forget)).bind(run).execute(&mut *tx).await?;
            }
            Ok(())
        })
    });
}

fn wrong_url() -> Trouble {
    let hint = "give postgres://user:password@host/database";
    Trouble::usage("wrong_database", "this is no address of a PostgreSQL database", hint)
}

fn wrong(error: impl fmt::Display) -> Trouble {
    Trouble::usage("wrong_cloud", error.to_string(), "see --help")
}

/// What the server says names tables and columns, and no address.
pub(crate) fn unread(error: sqlx::Error) -> Trouble {
    let message = match error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        _ => "the database did not answer".to_owned(),
    };
    Trouble::unavailable("song_database", message, "check the database and type it again")
}
