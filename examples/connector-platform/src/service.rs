//! The service: what a host's pages and timers call. Everything that lasts is a run.

use std::{sync::Arc, time::Duration};

use provision_core::{
    By, Engine, Secret, SecretSpec, Worker, WorkerConfig,
    clock::{Clock as _, SystemClock},
    draw::{SystemEntropy, draw, uuid_v4},
    run::RunStatus,
    store::Submission,
    vault::KeyProvider,
};
use provision_store_postgres::PostgresStore;
use sha2::{Digest as _, Sha256};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    database::Database,
    flags::{BULK_PUBLISHING, CUSTOM_SCHEDULING, Flags, Frozen},
    platform::{NewPost, PlatformName, Platforms},
    saga::{
        HEALTH_CHECKS, PUBLISH_JOBS, QUEUES, TOKEN_REFRESH,
        check::{CHECK, checking},
        connect::{CONNECT, Consent, connecting},
        figures::{COLLECT, OfPost, collecting},
        publish::{Job, PUBLISH, publishing},
        refresh::{REFRESH, refreshing},
    },
    shared::{Settings, Shared, Who},
    trouble::Trouble,
    vault::{TokenKeeper, is_code},
};

/// Letters and digits of a state: 256 bits.
const STATE_LENGTH: usize = 43;
/// Most connections that one look starts checks for.
const CHECKS_AT_ONCE: i64 = 1_000;

/// Where to send a user who connects an account.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The connection to be.
    pub connection: Uuid,
    /// What the platform has to send back; the database knows its hash alone.
    pub state: Secret,
    /// The platform's page.
    pub url: Secret,
}

/// What a tenant wants published.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The connection it goes out by.
    pub connection: Uuid,
    /// The tenant's own key: the same one is the same job, however often it is asked for.
    pub request_key: String,
    /// What it says.
    pub body: String,
    /// Where it leads, as HTTPS.
    pub link: String,
    /// Put off for so long, where the flag is on.
    pub delay: Option<Duration>,
}

/// How many runs one look has started, and how much it has swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Tokens that are refreshed before they grow old.
    pub refreshes: usize,
    /// Connections that are checked.
    pub checks: usize,
    /// Consents that came too late.
    pub swept: u64,
}

/// Database, engine, flags. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    shared: Arc<Shared>,
    store: PostgresStore,
    engine: Engine,
    flags: Flags,
}

impl Service {
    /// Opens what was deployed; nothing is driven yet.
    ///
    /// # Errors
    /// The database cannot be reached, or nothing was deployed.
    pub async fn open(
        db: Database,
        keys: Arc<dyn KeyProvider>,
        platforms: Platforms,
        settings: Settings,
    ) -> Result<Self, Trouble> {
        let store = db.store().await?;
        write_ends(&store);
        let (tokens, flags) = (TokenKeeper::new(db.pool(), keys), Flags::new(db.pool().clone()));
        let shared = Shared::new(db, tokens.acting_for("worker"), platforms, settings);
        let wrong = |error: provision_core::SagaError| {
            Trouble::new("saga", error.to_string(), "this is a bug: report it")
        };
        let mut builder = Engine::builder(store.clone())
            .app_version(env!("CARGO_PKG_VERSION"))
            .register(connecting(&shared).map_err(wrong)?)
            .register(refreshing(&shared).map_err(wrong)?)
            .register(publishing(&shared).map_err(wrong)?)
            .register(collecting(&shared).map_err(wrong)?)
            .register(checking(&shared).map_err(wrong)?);
        for (queue, runs) in QUEUES {
            builder = builder.queue_limit(queue, runs);
        }
        let engine = builder.build().await?;
        shared.begin(engine.clone());
        Ok(Self { shared, store, engine, flags })
    }

    /// The engine, for looking at runs and for orders of people.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// What the steps share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn pool(&self) -> &sqlx::PgPool {
        self.shared.pool()
    }

    /// The connector of a platform.
    ///
    /// # Errors
    /// The service is not registered there.
    pub fn platform(
        &self,
        name: PlatformName,
    ) -> Result<&Arc<dyn crate::platform::Platform>, Trouble> {
        self.shared.platforms.get(name).map_err(|error| of_step(&error))
    }

    /// Spawns a worker with a slot for every run that the queues let through, and some for
    /// connecting.
    #[must_use]
    pub fn worker(&self, lease: Duration) -> Worker {
        let slots = QUEUES.iter().map(|(_, runs)| *runs as usize).sum::<usize>() + 4;
        let queues = QUEUES.iter().map(|(queue, _)| *queue).chain(["default"]);
        let config = WorkerConfig::default().with_slots(slots).with_queues(queues);
        self.engine.spawn_worker(config.with_lease(lease))
    }

    /// Begins to connect: remembers who asked, and says where to send the user.
    ///
    /// # Errors
    /// The platform's flag is off for this tenant, or the database does not answer.
    pub async fn invite(
        &self,
        tenant: &str,
        user: &str,
        platform: PlatformName,
        redirect_uri: &str,
    ) -> Result<Invitation, Trouble> {
        self.is_on(&self.flags.freeze(tenant).await?, platform.flag())?;
        let spec =
            SecretSpec { name: "state", length: STATE_LENGTH, alphabet: SecretSpec::ALPHANUMERIC };
        let state = draw(&spec, &SystemEntropy).map_err(|error| undrawn(&error))?;
        let connection = uuid_v4(&SystemEntropy).map_err(|error| undrawn(&error))?;
        let found = self.platform(platform)?;
        let url = Secret::new(found.authorize_url(state.expose(), redirect_uri));
        let sql = "INSERT INTO connectors.oauth_states
            (state_hash, tenant_id, user_id, platform, connection_id, redirect_uri, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second')";
        let row = query(sql).bind(hash(&state)).bind(tenant).bind(user).bind(platform.as_str());
        let row = row.bind(connection).bind(redirect_uri);
        let row = row.bind(self.shared.settings.consent_within.as_secs_f64());
        row.execute(self.shared.pool()).await?;
        Ok(Invitation { connection, state, url })
    }

    /// Takes a user back from a platform, and starts the run that connects. Tenant, user and platform
    /// are those of the page that the user has come back to. The state is used up in the transaction
    /// that starts the run: a second call, or one of somebody else, starts nothing.
    ///
    /// # Errors
    /// The state is unknown, used, too old, or was given to another tenant, user or platform; or the
    /// database does not answer.
    pub async fn welcome(
        &self,
        (tenant, user): (&str, &str),
        platform: PlatformName,
        state: &Secret,
        code: &Secret,
    ) -> Result<provision_core::RunId, Trouble> {
        let state = hash(state);
        let sql = "SELECT connection_id, redirect_uri, expires_at > now()
            FROM connectors.oauth_states
            WHERE state_hash = $1 AND tenant_id = $2 AND user_id = $3 AND platform = $4";
        let row = query_as(sql).bind(&state).bind(tenant).bind(user).bind(platform.as_str());
        let row: Option<(Uuid, String, bool)> = row.fetch_optional(self.shared.pool()).await?;
        let (connection, redirect_uri, in_time) = row.ok_or_else(unknown_state)?;
        if !in_time {
            let sql = "DELETE FROM connectors.oauth_states WHERE state_hash = $1";
            query(sql).bind(&state).execute(self.shared.pool()).await?;
            let hint = "begin again at the page that connects";
            return Err(Trouble::new("oauth_state_expired", "this consent came too late", hint));
        }
        // Before the transaction: both take a connection of the pool.
        let expires = SystemClock.wall().plus(self.shared.settings.consent_within);
        let tokens = self.shared.tokens.acting_for(user);
        tokens.put_code((tenant, connection), code, expires).await?;
        let who = Who { tenant: tenant.to_owned(), connection, platform };
        let consent = Consent { who, user: user.to_owned(), redirect_uri };
        let start = self.engine.start(CONNECT, &consent).key(format!("connect/{connection}"));
        let new = start.tenant(tenant).context("connection", connection).prepare().await?;
        let run = new.head.id;
        let mut tx = self.shared.pool().begin().await?;
        let sql = "DELETE FROM connectors.oauth_states
            WHERE state_hash = $1 AND tenant_id = $2 AND user_id = $3 AND platform = $4";
        let used = query(sql).bind(&state).bind(tenant).bind(user).bind(platform.as_str());
        if used.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(unknown_state());
        }
        self.store.start_in(&mut tx, &[Submission::Run(Box::new(new))]).await?;
        tx.commit().await?;
        Ok(run)
    }

    /// Disconnects: the run that connected is torn down, the tokens are revoked and erased.
    ///
    /// # Errors
    /// There is no such connection of this tenant, or the engine refuses.
    pub async fn disconnect(&self, tenant: &str, connection: Uuid) -> Result<(), Trouble> {
        let sql = "SELECT run_id FROM connectors.connections WHERE id = $1 AND tenant_id = $2";
        let run = query_scalar(sql).bind(connection).bind(tenant);
        let run: Option<Uuid> = run.fetch_optional(self.shared.pool()).await?;
        let run = run.ok_or_else(no_connection)?;
        let run = provision_core::RunId::from_uuid(run);
        Ok(self.engine.tear_down(&run, By::new(tenant, "disconnected")).await?)
    }

    /// Starts a job: its row and its run are there together, or neither is. The same request key
    /// answers with the same job.
    ///
    /// # Errors
    /// The connection is not this tenant's, a flag is off, or the database does not answer.
    pub async fn publish(&self, tenant: &str, new: &NewJob) -> Result<Uuid, Trouble> {
        let flags = self.flags.freeze(tenant).await?;
        if new.delay.is_some() {
            self.is_on(&flags, CUSTOM_SCHEDULING)?;
        }
        self.start_job(tenant, new, flags).await
    }

    /// Starts many jobs, each as [`Self::publish`] does.
    ///
    /// # Errors
    /// The flag is off, or one of them is refused; those before it are started.
    pub async fn publish_many(&self, tenant: &str, jobs: &[NewJob]) -> Result<Vec<Uuid>, Trouble> {
        let flags = self.flags.freeze(tenant).await?;
        self.is_on(&flags, BULK_PUBLISHING)?;
        let mut started = Vec::with_capacity(jobs.len());
        for new in jobs {
            started.push(self.start_job(tenant, new, flags.clone()).await?);
        }
        Ok(started)
    }

    async fn start_job(&self, tenant: &str, new: &NewJob, flags: Frozen) -> Result<Uuid, Trouble> {
        let sql = "SELECT platform FROM connectors.connections WHERE id = $1 AND tenant_id = $2";
        let platform = query_scalar(sql).bind(new.connection).bind(tenant);
        let platform: Option<String> = platform.fetch_optional(self.shared.pool()).await?;
        let platform =
            platform.as_deref().and_then(PlatformName::parse).ok_or_else(no_connection)?;
        let id = uuid_v4(&SystemEntropy).map_err(|error| undrawn(&error))?;
        let post = NewPost {
            body: new.body.clone(),
            link: new.link.clone(),
            reference: id.simple().to_string(),
        };
        let who = Who { tenant: tenant.to_owned(), connection: new.connection, platform };
        let job = Job { id, who, post, flags };
        let start = self.engine.start(PUBLISH, &job).key(format!("publish/{id}")).tenant(tenant);
        let start = start.queue(PUBLISH_JOBS).delay(new.delay.unwrap_or_default());
        let run = start.context("job", id).prepare().await?;
        let mut tx = self.shared.pool().begin().await?;
        let sql = "INSERT INTO connectors.publish_jobs
            (id, tenant_id, connection_id, request_key, body, link, flags, run_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8)
            ON CONFLICT (tenant_id, request_key) DO NOTHING";
        let row = query(sql).bind(id).bind(tenant).bind(new.connection).bind(&new.request_key);
        let row = row.bind(&new.body).bind(&new.link);
        let row = row.bind(serde_json::to_string(&job.flags).unwrap_or_default());
        let fresh = row.bind(run.head.id.as_uuid()).execute(&mut *tx).await?.rows_affected() == 1;
        if fresh {
            self.store.start_in(&mut tx, &[Submission::Run(Box::new(run))]).await?;
            tx.commit().await?;
            return Ok(id);
        }
        let sql = "SELECT id, connection_id = $3 AND body = $4 AND link = $5
            FROM connectors.publish_jobs WHERE tenant_id = $1 AND request_key = $2";
        let known = query_as(sql).bind(tenant).bind(&new.request_key).bind(new.connection);
        let known: (Uuid, bool) = known.bind(&new.body).bind(&new.link).fetch_one(&mut *tx).await?;
        match known {
            (id, true) => Ok(id),
            (_, false) => Err(Trouble::new(
                "request_key_used",
                "this request key belongs to a job of other content",
                "take a new key for what is new",
            )),
        }
    }

    /// Deletes what a job has published, by tearing its run down.
    ///
    /// # Errors
    /// There is no such job of this tenant, or its run is not over yet.
    pub async fn unpublish(&self, tenant: &str, job: Uuid) -> Result<(), Trouble> {
        let run = self.run_of(tenant, job).await?;
        Ok(self.engine.tear_down(&run, By::new(tenant, "deleted")).await?)
    }

    /// The run of a job.
    ///
    /// # Errors
    /// There is no such job of this tenant.
    pub async fn run_of(&self, tenant: &str, job: Uuid) -> Result<provision_core::RunId, Trouble> {
        let sql = "SELECT run_id FROM connectors.publish_jobs WHERE id = $1 AND tenant_id = $2";
        let run: Option<Uuid> =
            query_scalar(sql).bind(job).bind(tenant).fetch_optional(self.shared.pool()).await?;
        let hint = "ask for a job of this tenant";
        let unknown = || Trouble::new("no_such_job", "there is no such job", hint);
        run.map(provision_core::RunId::from_uuid).ok_or_else(unknown)
    }

    /// Starts a run that reads the figures of a published post once more.
    ///
    /// # Errors
    /// There is no published job of this id and tenant, or the database does not answer.
    pub async fn collect(
        &self,
        tenant: &str,
        job: Uuid,
    ) -> Result<provision_core::RunHandle<crate::platform::Figures>, Trouble> {
        let sql = "SELECT j.post_id, j.connection_id, c.platform
            FROM connectors.publish_jobs AS j
            INNER JOIN connectors.connections AS c ON c.id = j.connection_id
            WHERE j.id = $1 AND j.tenant_id = $2 AND j.state = 'published'";
        let row = query_as(sql).bind(job).bind(tenant).fetch_optional(self.shared.pool()).await?;
        let row: Option<(String, Uuid, String)> = row;
        let found = row.and_then(|(post, connection, platform)| {
            Some((post, connection, PlatformName::parse(&platform)?))
        });
        let (post, connection, platform) = found.ok_or_else(|| {
            Trouble::new("no_such_post", "this job has published nothing", "wait until it has")
        })?;
        let who = Who { tenant: tenant.to_owned(), connection, platform };
        let start = self.engine.start(COLLECT, &OfPost { who, job, post });
        Ok(start.tenant(tenant).queue(HEALTH_CHECKS).await?)
    }

    /// Looks after everything, as a timer does: refreshes tokens that grow old, starts checks that
    /// are due, sweeps consents that came too late, and enters how the queues stand.
    ///
    /// # Errors
    /// The database does not answer; what was started goes on.
    pub async fn tend(&self) -> Result<Tended, Trouble> {
        let mut tended = Tended { refreshes: self.refresh_old().await?, ..Tended::default() };
        tended.checks = self.check_due().await?;
        let sql = "DELETE FROM connectors.oauth_states WHERE expires_at <= now()";
        tended.swept = query(sql).execute(self.shared.pool()).await?.rows_affected();
        let sql = "INSERT INTO connectors.queue_jobs_monitoring
            (queue, waiting, delayed, running, dead_letters, oldest_seconds)
            SELECT f.queue, f.waiting, f.delayed, f.running, f.dead_letters, f.oldest_seconds
            FROM connectors.queue_figures() AS f ON CONFLICT DO NOTHING";
        query(sql).execute(self.shared.pool()).await?;
        let sql = "DELETE FROM connectors.queue_jobs_monitoring
            WHERE taken_at < now() - interval '7 days'";
        query(sql).execute(self.shared.pool()).await?;
        Ok(tended)
    }

    /// Starts refreshes of tokens that grow old soon, before somebody needs them.
    async fn refresh_old(&self) -> Result<usize, Trouble> {
        // Twice the margin: who uses a token meanwhile finds a fresh one.
        let window = self.shared.settings.refresh_margin * 2;
        let mut started = 0;
        for expiring in self.shared.tokens.expiring_within(window).await? {
            let (name, now) = (&expiring.name, SystemClock.wall());
            let Ok(connection) = Uuid::parse_str(name.connection()) else { continue };
            if is_code(name) {
                if expiring.expires <= now {
                    self.shared.tokens.forget_code(name.tenant(), connection).await?;
                }
                continue;
            }
            let sql = "SELECT platform FROM connectors.connections
                WHERE id = $1 AND tenant_id = $2 AND state = 'connected'";
            let platform = query_scalar(sql).bind(connection).bind(name.tenant());
            let platform: Option<String> = platform.fetch_optional(self.shared.pool()).await?;
            let Some(platform) = platform.as_deref().and_then(PlatformName::parse) else {
                continue;
            };
            let who = Who { tenant: name.tenant().to_owned(), connection, platform };
            let start = self.engine.start(REFRESH, &who);
            let start = start.unique_while_running(format!("refresh/{connection}"));
            started += usize::from(start.tenant(&who.tenant).queue(TOKEN_REFRESH).await?.is_new());
        }
        Ok(started)
    }

    /// Starts checks of connections that nobody has looked at for a while.
    async fn check_due(&self) -> Result<usize, Trouble> {
        let sql = "SELECT id, tenant_id, platform FROM connectors.connections
            WHERE state = 'connected'
            AND (checked_at IS NULL OR checked_at < now() - $1 * interval '1 second')
            ORDER BY checked_at NULLS FIRST LIMIT $2";
        let rows = query_as(sql).bind(self.shared.settings.check_every.as_secs_f64());
        let rows: Vec<(Uuid, String, String)> =
            rows.bind(CHECKS_AT_ONCE).fetch_all(self.shared.pool()).await?;
        let mut started = 0;
        for (connection, tenant, platform) in rows {
            let Some(platform) = PlatformName::parse(&platform) else { continue };
            let who = Who { tenant, connection, platform };
            let start = self.engine.start(CHECK, &who).tenant(&who.tenant).queue(HEALTH_CHECKS);
            let start = start.unique_while_running(format!("check/{connection}"));
            started += usize::from(start.await?.is_new());
        }
        Ok(started)
    }

    pub(crate) fn is_on(&self, flags: &Frozen, name: &str) -> Result<(), Trouble> {
        if flags.has(name) {
            return Ok(());
        }
        let message = format!("`{name}` is not switched on for this tenant");
        let hint = "raise its rollout, or name the tenant in it; it is seen within a minute";
        Err(Trouble::new("flag_off", message, hint))
    }
}

/// The state of a job changes in the transaction that ends its run.
fn write_ends(store: &PostgresStore) {
    store.on_end(|tx, append| {
        Box::pin(async move {
            let state = match append.status {
                RunStatus::Succeeded | RunStatus::PartlySucceeded => "published",
                RunStatus::TornDown => "deleted",
                _ => "failed",
            };
            // A run that is no publishing has no job.
            // One whose post nobody has entered, by order of a person, is no published one.
            let end = query(
                "UPDATE connectors.publish_jobs SET ended_at = now(), state = CASE
                    WHEN $2 = 'published' AND post_id IS NULL THEN 'failed' ELSE $2 END
                WHERE run_id = $1",
            );
            end.bind(append.run.as_uuid()).bind(state).execute(tx).await.map(drop)
        })
    });
}

fn hash(state: &Secret) -> Vec<u8> {
    Sha256::digest(state.expose().as_bytes()).to_vec()
}

fn unknown_state() -> Trouble {
    let hint = "begin again at the page that connects: a link works once, for its own user";
    Trouble::new("oauth_state_unknown", "nobody was sent there with this state", hint)
}

fn undrawn(error: &provision_core::draw::DrawError) -> Trouble {
    Trouble::new("no_randomness", error.to_string(), "the system's generator does not answer")
}

fn of_step(error: &provision_core::StepError) -> Trouble {
    Trouble::new(error.code(), error.to_string(), error.hint().unwrap_or("see the documentation"))
}

fn no_connection() -> Trouble {
    let hint = "ask for a connection of this tenant";
    Trouble::new("no_such_connection", "there is no such connection", hint)
}
