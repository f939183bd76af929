//! What steps of all sagas need: the database, the tokens, the platforms, and the one rule by which
//! a token is used.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use provision_core::{
    Effect, Engine, Policy, RunStatus, StepContext, StepError, Timestamp, Verdict,
    limit::{Profile, Rate},
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    database::Database,
    platform::{Access, Platform, PlatformName, Platforms},
    saga,
    vault::{Held, TokenKeeper, stuck},
};

/// Times and limits of the service. The defaults suit real platforms; simulated ones are faster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long before its end a token is refreshed. Default 5 min.
    pub refresh_margin: Duration,
    /// How long a user may take to consent. Default 10 min.
    pub consent_within: Duration,
    /// How long a lost request may still need to land. Default 60 s.
    pub late_window: Duration,
    /// How far listings of platforms lag behind. Default 30 s.
    pub listing_lag: Duration,
    /// How long a post whose answer was lost is waited for where a platform lists only what it has
    /// finished; after that a person looks. Default 1 h.
    pub unfinished_within: Duration,
    /// How often it is asked whether a post is out, and whether a token is refreshed. Default 2 s.
    pub ask_again: Duration,
    /// How failed attempts are repeated. Default: 4 attempts, after 1, 3 and 9 s.
    pub policy: Policy,
    /// How often connections are checked. Default 1 h.
    pub check_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let policy = Policy::attempts(4);
        Self {
            refresh_margin: Duration::from_secs(300),
            consent_within: Duration::from_secs(600),
            late_window: Duration::from_secs(60),
            listing_lag: Duration::from_secs(30),
            unfinished_within: Duration::from_secs(3_600),
            ask_again: Duration::from_secs(2),
            policy: policy.exponential(Duration::from_secs(1), 3, Duration::from_secs(60)),
            check_every: Duration::from_secs(3_600),
        }
    }
}

impl Settings {
    /// Times that suit simulated platforms: everything is over within seconds.
    #[must_use]
    pub fn simulated() -> Self {
        let policy = Policy::attempts(4);
        Self {
            late_window: Duration::from_millis(500),
            listing_lag: Duration::from_millis(500),
            unfinished_within: Duration::from_secs(5),
            ask_again: Duration::from_millis(100),
            policy: policy.exponential(Duration::from_millis(50), 3, Duration::from_secs(2)),
            refresh_margin: Duration::from_secs(30),
            ..Self::default()
        }
    }
}

/// Which connection of which tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The tenant.
    pub tenant: String,
    /// The connection.
    pub connection: Uuid,
    /// Its platform.
    pub platform: PlatformName,
}

/// A token that was refreshed so lately is no old one: who refuses it refuses the connection.
const LATELY: Duration = Duration::from_secs(60);

/// What steps share. One for each process.
#[derive(Debug)]
pub struct Shared {
    /// The database, as the worker.
    pub db: Database,
    /// The tokens.
    pub tokens: TokenKeeper,
    /// The platforms.
    pub platforms: Platforms,
    /// Times and limits.
    pub settings: Settings,
    // Steps start refreshes: the engine is there once all sagas are.
    engine: OnceLock<Engine>,
}

/// A connection as its row stands.
type Row = (String, String, Option<String>, String, i32, i32, i32, i32);

/// A connection that may be used.
struct Usable {
    account: String,
    limit: Profile,
}

impl Shared {
    /// Nothing is sent.
    #[must_use]
    pub fn new(
        db: Database,
        tokens: TokenKeeper,
        platforms: Platforms,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self { db, tokens, platforms, settings, engine: OnceLock::new() })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    /// Hands the engine to the steps, once.
    pub(crate) fn begin(&self, engine: Engine) {
        // A second one would be the same.
        let _ = self.engine.set(engine);
    }

    /// Makes a call by the token of a connection.
    ///
    /// A token that is old, or about to be, is refreshed first: by one run, however many ask, and
    /// who asks waits without losing an attempt. One that the platform refuses is refreshed once;
    /// after that the connection needs a person.
    pub(crate) async fn by_token<T, F>(
        &self,
        cx: &StepContext,
        who: &Who,
        call: impl FnOnce(Arc<dyn Platform>, Access) -> F + Send,
    ) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, StepError>> + Send,
    {
        let platform = Arc::clone(self.platforms.get(who.platform)?);
        let Usable { account, limit } = self.usable(who).await?;
        let held = self.held(who).await?;
        if is_old(&held, cx.now(), self.settings.refresh_margin) {
            self.ask_for_refresh(who).await?;
            return Err(being_refreshed(&limit, self.settings.ask_again));
        }
        let access = Access { token: held.tokens.access.clone(), account, limit: limit.clone() };
        match call(platform, access).await {
            Err(error) if error.code() == "unauthorized" => {
                Err(self.refused(cx, who, (&held, limit), error).await)
            }
            end => end,
        }
    }

    /// The connection's account and limits, if it may be used.
    async fn usable(&self, who: &Who) -> Result<Usable, StepError> {
        const OPERATION: &str = "use connection";
        let sql = "SELECT c.state, c.account_id, c.trouble, b.bucket, b.calls, b.per_seconds,
                b.burst, b.concurrency
            FROM connectors.connections AS c
            INNER JOIN connectors.rate_limit_buckets AS b ON b.connection_id = c.id
            WHERE c.id = $1 AND c.tenant_id = $2";
        let row = query_as(sql).bind(who.connection).bind(&who.tenant);
        let row: Option<Row> = row.fetch_optional(self.pool()).await.map_err(unread(OPERATION))?;
        let Some((state, account, trouble, bucket, calls, per, burst, open)) = row else {
            return Err(StepError::permanent(OPERATION).with_code("no_such_connection"));
        };
        match &*state {
            "connected" => {
                let limit = profile(bucket, (calls, per, burst, open));
                Ok(Usable { account, limit })
            }
            "attention" => Err(StepError::new(Effect::None, Verdict::Operator, OPERATION)
                .with_code("connection_needs_attention")
                .with_message(trouble.unwrap_or_default())
                .with_hint("the user connects again; then order the run to try again")),
            _ => Err(StepError::permanent(OPERATION)
                .with_code("disconnected")
                .with_hint("the user has disconnected this account")),
        }
    }

    pub(crate) async fn held(&self, who: &Who) -> Result<Held, StepError> {
        let held = self.tokens.read(&who.tenant, who.connection).await;
        held.map_err(stuck("read tokens"))?.ok_or_else(|| {
            StepError::permanent("read tokens")
                .with_code("no_tokens")
                .with_hint("the connection holds no tokens: the user connects again")
        })
    }

    /// One run refreshes a connection, however many ask for it.
    pub(crate) async fn ask_for_refresh(&self, who: &Who) -> Result<(), StepError> {
        const OPERATION: &str = "ask for a refresh";
        let engine = self
            .engine
            .get()
            .ok_or_else(|| StepError::retry(OPERATION).with_code("engine_not_ready"))?;
        let start = engine
            .start(saga::refresh::REFRESH, who)
            .unique_while_running(format!("refresh/{}", who.connection))
            .tenant(&who.tenant)
            .queue(saga::TOKEN_REFRESH);
        let refresh = start.await.map_err(stuck(OPERATION))?;
        if refresh.is_new() {
            return Ok(());
        }
        // One that needs a person is told by those who wait for it, too: they would wait for ever.
        let head = engine.run(refresh.id()).await.map_err(stuck(OPERATION))?;
        if head.status != RunStatus::Parked {
            return Ok(());
        }
        Err(StepError::new(Effect::None, Verdict::Operator, OPERATION)
            .with_code("refresh_parked")
            .with_hint("the run that refreshes this connection needs a person: retry it first"))
    }

    /// What a refused token means: it has grown old unseen, or the user has taken it back.
    async fn refused(
        &self,
        cx: &StepContext,
        who: &Who,
        (held, limit): (&Held, Profile),
        error: StepError,
    ) -> StepError {
        if held.tokens.refresh.is_none() || cx.now().since(held.stored) < LATELY {
            return match self.tokens_refused(who, held, "token_refused").await {
                Ok(true) => error,
                // The next attempt uses what has replaced them.
                Ok(false) => being_refreshed(&limit, self.settings.ask_again),
                Err(unwritten) => unwritten,
            };
        }
        match self.tokens.expire((&who.tenant, who.connection), held, cx.now()).await {
            Ok(()) => being_refreshed(&limit, self.settings.ask_again),
            Err(unwritten) => stuck("expire tokens")(unwritten),
        }
    }

    /// Marks a connection whose tokens are worth nothing, and says whether they still are its
    /// tokens: one that got others meanwhile is well, and stays as it is.
    pub(crate) async fn tokens_refused(
        &self,
        who: &Who,
        held: &Held,
        code: &str,
    ) -> Result<bool, StepError> {
        // Who reconnects writes the tokens first and the row after them: a row that has not changed
        // since before the tokens were read has not got others in between.
        let sql = "SELECT xmin::text FROM connectors.connections WHERE id = $1 AND tenant_id = $2";
        let row = query_scalar(sql).bind(who.connection).bind(&who.tenant);
        let version: Option<String> =
            row.fetch_optional(self.pool()).await.map_err(unread("read connection"))?;
        let now = self.tokens.read(&who.tenant, who.connection).await;
        let now = now.map_err(stuck("read tokens"))?;
        if !now.is_some_and(|now| now.is_same_pair(held)) {
            return Ok(false);
        }
        self.mark(who, code, version.as_deref()).await.map(|()| true)
    }

    /// Says that a person has to mend a connection. Safe to repeat.
    pub(crate) async fn needs_attention(&self, who: &Who, code: &str) -> Result<(), StepError> {
        self.mark(who, code, None).await
    }

    async fn mark(&self, who: &Who, code: &str, version: Option<&str>) -> Result<(), StepError> {
        let sql = "WITH changed AS (
                UPDATE connectors.connections SET state = 'attention', trouble = $3, updated_at = now()
                WHERE id = $1 AND tenant_id = $2 AND state = 'connected'
                AND ($4::text IS NULL OR xmin::text = $4) RETURNING id
            )
            INSERT INTO connectors.connection_audit (tenant_id, connection_id, actor, action, outcome)
            SELECT $2, changed.id::text, 'worker', 'connection.attention', $3 FROM changed";
        let change = query(sql).bind(who.connection).bind(&who.tenant).bind(code).bind(version);
        change.execute(self.pool()).await.map_err(unread("mark connection")).map(drop)
    }
}

/// Whether a token stops working within the margin.
pub(crate) fn is_old(held: &Held, now: Timestamp, margin: Duration) -> bool {
    held.expires.is_some_and(|expires| expires <= now.plus(margin))
}

/// The bucket pauses for everybody who would use the same token, and no attempt is lost.
fn being_refreshed(limit: &Profile, after: Duration) -> StepError {
    let verdict = Verdict::Throttled { bucket: limit.bucket.clone(), after };
    StepError::new(Effect::None, verdict, "use token").with_code("token_being_refreshed")
}

/// What a token may do, from the columns of its row.
pub(crate) fn profile(
    bucket: String,
    (calls, per_seconds, burst, concurrency): (i32, i32, i32, i32),
) -> Profile {
    let number = |number: i32| u32::try_from(number).unwrap_or(1);
    let per = Duration::from_secs(number(per_seconds).into());
    let rate = Rate { calls: number(calls), per, burst: number(burst) };
    Profile { bucket, rate: Some(rate), concurrency: Some(number(concurrency).into()) }
}

/// A statement of the service's own that was not answered: nothing is known, and all of them may be
/// repeated.
pub(crate) fn unread(operation: &'static str) -> impl Fn(sqlx::Error) -> StepError {
    move |error| StepError::unknown(operation).with_code("database").with_source(error)
}
