//! The store: its connections, one namespace of them, and the traits over it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
    ledger::{LedgerOp, LedgerReply},
    store::{
        Append, Appended, LeaseGrant, LeaseRequest, RunFilter, RunPage, RunRecord, StateStore,
        Submission, Submitted,
    },
};
use redis::Value;
use tokio::sync::Notify;

use crate::{
    args::Args,
    config::RedisConfig,
    counters::{Counters, Tally},
    desk::{Call, Desk},
    keys::{Keys, Reach},
    limiter::Turns,
    link::Link,
    open,
    reply::{self, Reply, array},
    rows::record,
    scripts,
    wake::Listener,
};

/// How the namespaces of stores are marked: the format in `lua/prelude.lua`.
const FORMAT: &str = "1";

/// Keeps runs, leases, queue, limits, secrets and the ledger in one Redis server.
///
/// What a call that was answered survives is said by the declared
/// [`Durability`](crate::Durability). Any number of processes may use a namespace. Cheap to clone;
/// clones share their connections. Calls may be cancelled at any await: whether the call landed is
/// then not known.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
    space: Arc<Space>,
}

struct Shared {
    config: RedisConfig,
    link: Arc<Link>,
    tally: Arc<Tally>,
}

/// One namespace.
struct Space {
    namespace: String,
    keys: Arc<Keys>,
    desk: Desk,
    turns: Turns,
    stirred: Arc<Notify>,
    _listener: Option<Listener>,
}

impl RedisStore {
    /// Opens the server at `url` with default options.
    ///
    /// # Errors
    /// Kind `Unsuitable`: `redis_wrong_url`, `redis_wrong_password`, `redis_password_needed`,
    /// `redis_not_permitted`, `redis_too_old`, `redis_is_replica`, `redis_evicts`,
    /// `redis_keeps_nothing`, `redis_not_synced`, `redis_too_few_replicas`,
    /// `redis_settings_hidden`, `redis_other_node`. Kind `Invalid`: `redis_wrong_namespace`. Kind
    /// `Damaged`: `schema_newer`, `redis_wrong_type`. Kind `Unavailable`: `redis_unreachable`,
    /// `redis_timeout`, `redis_loading`, `redis_too_many_clients`. Nothing was written then, unless
    /// a connection broke or replicas were late (`redis_not_replicated`): the new, empty namespace
    /// may be there.
    ///
    /// Once it is open, a store waits for its server: what a new connection meets is of kind
    /// `Unavailable` then, whatever its code.
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::open_with(RedisConfig::new(url)).await
    }

    pub(crate) async fn open_with(config: RedisConfig) -> Result<Self, StoreError> {
        Self::open_as(config, FORMAT).await
    }

    /// Opens a namespace that is marked so.
    pub(crate) async fn open_as(config: RedisConfig, format: &str) -> Result<Self, StoreError> {
        let tally = Arc::new(Tally::default());
        let link = Arc::new(Link::new(&config, &tally)?);
        let namespace = config.namespace.clone();
        let shared = Arc::new(Shared { config, link, tally });
        let store = Self::of(shared, namespace, format).await?;
        store.link().opened();
        Ok(store)
    }

    async fn of(shared: Arc<Shared>, namespace: String, format: &str) -> Result<Self, StoreError> {
        let keys = Arc::new(Keys::new(&namespace));
        open::namespace(&shared.link, &namespace, &keys, format).await?;
        let stirred = Arc::new(Notify::new());
        let listener = shared.config.listen.then(|| {
            let client = shared.link.client().clone();
            let channel = keys.channel().to_owned();
            Listener::start(client, channel, Arc::clone(&stirred), shared.config.poll)
        });
        let turns = Turns::default();
        let space = Arc::new(Space {
            namespace,
            keys,
            desk: Desk::default(),
            turns,
            stirred,
            _listener: listener,
        });
        Ok(Self { shared, space })
    }

    /// A handle to another namespace of the same server; nothing of this one can be reached by it.
    ///
    /// # Errors
    /// The server cannot be reached, or the namespace is of another format.
    pub async fn in_namespace(&self, namespace: impl Into<String>) -> Result<Self, StoreError> {
        self.namespace_as(namespace.into(), FORMAT).await
    }

    pub(crate) async fn namespace_as(
        &self,
        namespace: String,
        format: &str,
    ) -> Result<Self, StoreError> {
        Self::of(Arc::clone(&self.shared), namespace, format).await
    }

    /// What the store has done in this process since it was opened, over all namespaces.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.tally.read()
    }

    /// Writes together with other tasks.
    pub(crate) async fn write_together(&self, call: Call) -> Result<Vec<Value>, StoreError> {
        self.space.desk.call(&self.shared.link, &self.space.keys, call).await
    }

    pub(crate) fn link(&self) -> &Link {
        &self.shared.link
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.space.keys
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.space.turns
    }

    pub(crate) fn stirred(&self) -> &Notify {
        &self.space.stirred
    }

    /// How often a waiting claim looks by itself.
    pub(crate) fn poll(&self) -> Duration {
        self.shared.config.poll
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("namespace", &self.space.namespace)
            .field("durability", &self.shared.config.durability)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for RedisStore {
    async fn submit(&self, batch: &[Submission]) -> Result<Vec<Submitted>, StoreError> {
        self.submit_all(batch).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        self.append_all(batch).await
    }

    async fn load(&self, runs: &[RunId]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        let mut args = Args::default();
        args.count(runs.len());
        runs.iter().for_each(|run| args.run(run));
        let keys = self.keys().of(Reach::All);
        let answers = array(self.link().read(&scripts::LOAD, keys, &args).await?)?;
        answers.into_iter().map(loaded).collect()
    }

    async fn list(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        self.page(filter).await
    }

    async fn ledger(&self, ops: &[LedgerOp]) -> Result<Vec<LedgerReply>, StoreError> {
        let mut replies = Vec::with_capacity(ops.len());
        for op in ops {
            replies.push(self.ledger_op(op).await?);
        }
        Ok(replies)
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        self.grant(request).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        let keys = self.keys().of(Reach::Step);
        let now = self.link().read(&scripts::NOW, keys, &Args::default()).await?;
        reply::number(&reply::text(now)?).map(Timestamp::from_millis)
    }
}

/// An empty answer is an unknown run.
fn loaded(answer: Value) -> Result<Option<RunRecord>, StoreError> {
    let mut answer = Reply::of(answer)?;
    if answer.is_empty() { Ok(None) } else { Ok(Some(record(&mut answer)?.0)) }
}
