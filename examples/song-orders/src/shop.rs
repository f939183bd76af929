//! The shop while it is open: its pools, its engine, how its orders stand, and what people do about
//! runs that stopped.

use std::{collections::HashSet, fmt, path::PathBuf, time::Duration};

use example_command::{exit::Trouble, stage::Stage};
use provision_adapters::{
    elevenlabs::{ElevenLabs, ElevenLabsConfig, FileSink},
    supabase_storage::{SupabaseStorage, SupabaseStorageConfig},
};
use provision_core::{
    By, Engine, Error, ErrorKind, Resolution, RunId, RunStatus, Worker, WorkerConfig, clock,
    engine::{StepStatus, StepView},
    resolver::SecretResolver,
    store::{RunFilter, RunHead},
    vault::LocalKeys,
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use serde::Serialize;
use sqlx::{PgPool, query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    database::{migrate, pool, unread, write_ends},
    saga::{MUSIC, Tools, making},
};

/// Name of ElevenLabs' key.
pub const ELEVENLABS_KEY: &str = "ELEVENLABS_API_KEY";
/// Name of the storage's key.
pub const STORAGE_KEY: &str = "SUPABASE_SECRET_KEY";

/// Code of an end that no look can find out.
const UNRESOLVABLE: &str = "unresolvable";
/// How often it is looked whether orders are open.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rows that are read at a time.
const PAGE: usize = 500;

/// Where everything is.
#[derive(Clone)]
pub struct Places {
    /// The database.
    pub database: String,
    /// Folder of keys and of songs on their way.
    pub data_dir: PathBuf,
    /// Who makes music.
    pub elevenlabs: ElevenLabsConfig,
    /// Where it is kept.
    pub storage: SupabaseStorageConfig,
    /// Whether these are the real providers.
    pub live: bool,
    /// Times of a simulated cloud.
    pub stage: Stage,
}

/// The address of the database may hold a password.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data_dir, live, .. } = self;
        f.debug_struct("Places")
            .field("data_dir", data_dir)
            .field("live", live)
            .finish_non_exhaustive()
    }
}

/// How many orders stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Taken, and not through.
    pub open: i64,
    /// Made, at least in part.
    pub completed: i64,
    /// Not made; the money goes back.
    pub failed: i64,
    /// Made once, or failed, and removed.
    pub removed: i64,
}

impl Standing {
    /// All of them.
    #[must_use]
    pub fn orders(&self) -> i64 {
        self.open + self.completed + self.failed + self.removed
    }
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
    /// The database as the role of administrators.
    pub(crate) admin: PgPool,
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
    /// The database cannot be reached, will not do, or is about other clouds.
    pub async fn open(places: &Places, resolver: impl SecretResolver) -> Result<Self, Trouble> {
        migrate(&places.database, places.live).await?;
        let worker = pool(&places.database, "song_worker").await?;
        let store = PostgresConfig::with_pool(worker.clone()).with_migrate(false).open().await?;
        write_ends(&store);
        let storage = SupabaseStorage::new(places.storage.clone())?;
        let tools = Tools {
            pool: worker,
            elevenlabs: ElevenLabs::new(places.elevenlabs.clone())?,
            storage: storage.clone(),
            spool: FileSink::new(places.data_dir.join("spool")),
            stage: places.stage.clone(),
        };
        let saga = making(&tools).map_err(|error| Trouble::bug("saga", error.to_string()))?;
        let keys = LocalKeys::file(places.data_dir.join("keys"))?;
        let builder = Engine::builder(store.clone()).keys(keys).resolver(resolver);
        let engine = builder.register(saga).build().await?;
        let intake = pool(&places.database, "song_intake").await?;
        let anyone = pool(&places.database, "song_anyone").await?;
        let admin = pool(&places.database, "song_admin").await?;
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
        self.through("SELECT run FROM songs.orders WHERE progress IN ('ordered', 'generating')")
            .await
    }

    /// Waits until every run that a query names is parked, or named no more.
    async fn through(&self, runs: &'static str) -> Result<Standing, Trouble> {
        loop {
            let open = self.runs_of(runs).await?;
            if open.is_empty() || self.all_parked(open).await? {
                return self.standing().await;
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }

    async fn all_parked(&self, open: HashSet<RunId>) -> Result<bool, Trouble> {
        let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
        let parked: HashSet<RunId> =
            self.every(parked).await?.into_iter().map(|run| run.id).collect();
        Ok(open.is_subset(&parked))
    }

    async fn runs_of(&self, query: &'static str) -> Result<HashSet<RunId>, Trouble> {
        let runs: Vec<Uuid> =
            query_scalar(query).fetch_all(self.store.pool()).await.map_err(unread)?;
        Ok(runs.into_iter().map(RunId::from_uuid).collect())
    }

    /// Takes a run off the list of those that need a person.
    pub(crate) async fn acknowledge(&self, run: &RunId, why: &str) -> Result<(), Trouble> {
        match self.engine.resolve(run, Resolution::Acknowledge, by(why)).await {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            given => passed(given),
        }
    }

    /// Reads a listing to its end.
    async fn every(&self, mut filter: RunFilter) -> Result<Vec<RunHead>, Trouble> {
        filter.limit = PAGE;
        let mut all = Vec::new();
        loop {
            let page = self.engine.runs(&filter).await?;
            all.extend(page.runs);
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(all),
            }
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
        self.every(RunFilter { dead_letters: true, ..RunFilter::default() }).await
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

    /// Orders every run that needs a person to go on: what stopped tries again, what was undone begins
    /// anew, and calls for music that ended without an answer count as lost. Orders that were paid
    /// back stay as they are.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn try_again(&self) -> Result<(), Trouble> {
        let over = "SELECT run FROM songs.orders
            WHERE payment = 'refunded' OR progress = 'removed'";
        let over = self.runs_of(over).await?;
        for run in self.dead_letters().await?.into_iter().filter(|run| !over.contains(&run.id)) {
            match run.status {
                RunStatus::Parked => self.release(&run.id).await?,
                _ => passed(self.engine.redrive(&run.id, by("--try-again")).await)?,
            }
        }
        Ok(())
    }

    /// Lets a run go on that stopped.
    ///
    /// Where a call for music had no answer and the next was refused, nobody can say whether the
    /// first was paid, and no look finds out: repeating that alone would stop again for ever. The
    /// storage has nothing of it, so it counts as absent: paid in vain, if it was. That variant then
    /// fails, and no other. Whatever else stopped is tried again as it is.
    async fn release(&self, run: &RunId) -> Result<(), Trouble> {
        let steps = self.engine.snapshot(run).await?.steps;
        let (lost, others): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .filter(|step| step.status == StepStatus::Parked)
            .partition(is_lost_music);
        for StepView { path, .. } in &lost {
            let absent = Resolution::Absent { path: path.clone() };
            let why = by("the storage has nothing of it: the lost call counts as paid in vain");
            passed(self.engine.resolve(run, absent, why).await)?;
        }
        match lost.is_empty() || !others.is_empty() {
            true => passed(self.engine.retry(run, by("--try-again")).await),
            false => Ok(()),
        }
    }

    /// Waits for what is being made, and removes everything that does not wait for a person: the songs
    /// of every order, and of orders that failed what they say about anybody.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn tear_down(&self) -> Result<Standing, Trouble> {
        const MADE: &str = "SELECT run FROM songs.orders WHERE progress = 'completed'";
        loop {
            self.settled().await?;
            self.remove_all().await?;
            let standing = self.through(MADE).await?;
            // Another one may have been taken and made meanwhile.
            if standing.completed == 0 || self.all_parked(self.runs_of(MADE).await?).await? {
                return Ok(standing);
            }
        }
    }

    async fn remove_all(&self) -> Result<(), Trouble> {
        let made = vec![RunStatus::Succeeded, RunStatus::PartlySucceeded];
        for run in self.every(RunFilter { status: made, ..RunFilter::default() }).await? {
            passed(self.engine.tear_down(&run.id, by("--tear-down")).await)?;
        }
        let failed = "SELECT songs.forget(id) FROM songs.orders WHERE progress = 'failed'";
        query(failed).execute(self.store.pool()).await.map_err(unread)?;
        // Nobody can do anything about those any more.
        let gone = self.runs_of("SELECT run FROM songs.orders WHERE progress = 'removed'").await?;
        for run in self.dead_letters().await?.into_iter().filter(|run| gone.contains(&run.id)) {
            self.acknowledge(&run.id, "--tear-down").await?;
        }
        Ok(())
    }
}

/// A variant's music of which nobody can find out whether a call made it. What stopped for another
/// reason, such as a storage that deletes nothing for us, is there for all anybody knows.
fn is_lost_music(step: &StepView) -> bool {
    let is_music = step.path.rsplit('/').next() == Some(MUSIC);
    is_music && step.failure.as_ref().is_some_and(|failure| failure.code == UNRESOLVABLE)
}

pub(crate) fn by(why: &str) -> By {
    By::new("song-orders", why)
}

/// An order that came too late, because somebody else gave it at the same time, is no trouble.
fn passed(given: Result<(), Error>) -> Result<(), Trouble> {
    match given {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        given => Ok(given?),
    }
}
