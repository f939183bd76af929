//! Connections: calls of many tasks over one, and scripts by their hash.
//!
//! Calls are pipelined: each goes out when it comes, and the server syncs once for all that it has
//! read together. Nothing that blocks is sent on that connection. A connection that failed is made
//! anew by the next call; no call is repeated here, since whether it landed is for the caller to
//! find out (S19).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use provision_core::error::{StoreError, StoreErrorKind};
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    args::Args,
    config::{Durability, RedisConfig},
    counters::Tally,
    error::{passing, sorted},
    open::Look,
    scripts::Script,
};

/// Connections on which writes wait for replicas; each has one write under way at a time.
const WAITING_LINES: usize = 8;

/// One connection, made when it is needed.
struct Line {
    client: Client,
    config: AsyncConnectionConfig,
    look: Arc<Look>,
    held: Mutex<Held>,
}

/// Why a command has no answer.
enum Failure {
    /// There is no connection that may be used.
    Unmade(StoreError),
    /// The server, or the connection, said so.
    Told(RedisError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Told(error)
    }
}

#[derive(Default)]
struct Held {
    connection: Option<MultiplexedConnection>,
    /// Grows with each connection, so that a late failure of an old one ends no new one.
    number: u64,
}

impl Line {
    fn new(client: Client, config: AsyncConnectionConfig, look: Arc<Look>) -> Self {
        Self { client, config, look, held: Mutex::default() }
    }

    async fn connected(
        &self,
        held: &mut MutexGuard<'_, Held>,
    ) -> Result<(MultiplexedConnection, u64), Failure> {
        if let Some(connection) = &held.connection {
            return Ok((connection.clone(), held.number));
        }
        let made = self.made().await.map_err(|error| match self.look.is_open() {
            // S18: a server that was good once is waited for, whatever it says meanwhile.
            true => Failure::Unmade(passing(error)),
            false => Failure::Unmade(error),
        })?;
        held.number = held.number.saturating_add(1);
        held.connection = Some(made.clone());
        Ok((made, held.number))
    }

    /// A new connection, to a server that is what was asked for.
    async fn made(&self) -> Result<MultiplexedConnection, StoreError> {
        let made = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        let mut made = made.map_err(|error| sorted(&error, "reach the server"))?;
        self.look.at(&mut made).await?;
        Ok(made)
    }

    /// Sends one command beside others.
    async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        let (mut connection, number) = self.connected(&mut self.held.lock().await).await?;
        let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(spoils) {
            let mut held = self.held.lock().await;
            if held.number == number {
                held.connection = None;
            }
        }
        Ok(answer?)
    }

    /// Sends one command and then another that waits for it, with nothing between them.
    async fn send_both(&self, command: &Cmd, then: &Cmd) -> Result<(Value, Value), Failure> {
        let mut held = self.held.lock().await;
        let (mut connection, _) = self.connected(&mut held).await?;
        // Taken out: what is cut between the two leaves no connection whose answers are unread,
        // and the second is never sent on a connection that knows nothing of the first.
        held.connection = None;
        let answer = connection.send_packed_command(command).await?.extract_error()?;
        let waited = connection.send_packed_command(then).await?.extract_error()?;
        held.connection = Some(connection);
        Ok((answer, waited))
    }
}

/// Whether a connection is of no use after this error.
fn spoils(error: &RedisError) -> bool {
    // Of a server that became a replica, or is gone without a word, another may have the address.
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || error.code() == Some("READONLY")
}

/// All connections of a store, but for the one that listens.
pub(crate) struct Link {
    client: Client,
    shared: Line,
    waiting: Vec<Line>,
    next: AtomicUsize,
    durability: Option<Durability>,
    wait_ms: u64,
    look: Arc<Look>,
    tally: Arc<Tally>,
}

impl Link {
    /// Takes the URL apart; connects to nothing yet.
    pub(crate) fn new(config: &RedisConfig, tally: &Arc<Tally>) -> Result<Self, StoreError> {
        let client =
            Client::open(config.url.as_str()).map_err(|error| sorted(&error, "open the store"))?;
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connection_timeout))
            .set_response_timeout(Some(config.response_timeout));
        let look = Arc::new(Look::new(config.durability, tally));
        let line = || Line::new(client.clone(), settings.clone(), Arc::clone(&look));
        let waiting = match config.durability {
            Some(Durability::Replicated(_)) => (0..WAITING_LINES).map(|_| line()).collect(),
            Some(Durability::ProcessCrash | Durability::Fsync) | None => Vec::new(),
        };
        let half: Duration = config.response_timeout / 2;
        Ok(Self {
            shared: line(),
            waiting,
            next: AtomicUsize::new(0),
            durability: config.durability,
            wait_ms: u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1),
            tally: Arc::clone(tally),
            look,
            client,
        })
    }

    pub(crate) fn durability(&self) -> Option<Durability> {
        self.durability
    }

    /// From now on the server is known to be a good one.
    pub(crate) fn opened(&self) {
        self.look.opened();
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one command that is no script.
    pub(crate) async fn command(
        &self,
        command: &Cmd,
        operation: &'static str,
    ) -> Result<Value, StoreError> {
        self.tally.sent(command.get_packed_command().len(), false);
        self.shared.send(command).await.map_err(|failure| self.told(failure, operation))
    }

    /// Runs a script that writes nothing whose loss would matter.
    pub(crate) async fn read(
        &self,
        script: &Script,
        keys: &[String],
        args: &Args,
    ) -> Result<Value, StoreError> {
        let answer = match self.shared.send(&self.by_hash(script, keys, args)).await {
            Err(error) if is_unknown(&error) => {
                self.shared.send(&self.by_text(script, keys, args)).await
            }
            answer => answer,
        };
        answer.map_err(|failure| self.told(failure, script.operation))
    }

    /// Runs a script that may write, and waits for as many replicas as was declared.
    pub(crate) async fn write(
        &self,
        script: &Script,
        keys: &[String],
        args: &Args,
    ) -> Result<Value, StoreError> {
        let Some(Durability::Replicated(wanted)) = self.durability else {
            return self.read(script, keys, args).await;
        };
        let Some(line) = self.waiting.get(self.next.fetch_add(1, Relaxed) % WAITING_LINES) else {
            return Err(StoreError::unavailable(script.operation));
        };
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted).arg(self.wait_ms);
        // `WAIT` waits for what its own connection has replicated last: see `WAITED` in
        // `lua/prelude.lua`.
        let by_hash = self.by_hash(script, keys, args).arg("waited").clone();
        let answer = match line.send_both(&by_hash, &wait).await {
            Err(error) if is_unknown(&error) => {
                let by_text = self.by_text(script, keys, args).arg("waited").clone();
                line.send_both(&by_text, &wait).await
            }
            answer => answer,
        };
        let (answer, reached) = answer.map_err(|failure| self.told(failure, script.operation))?;
        let reached = match reached {
            Value::Int(count) => u32::try_from(count).unwrap_or(0),
            _ => 0,
        };
        if reached < wanted {
            return Err(too_few(script.operation, reached, wanted));
        }
        Ok(answer)
    }

    fn told(&self, failure: Failure, operation: &'static str) -> StoreError {
        match failure {
            Failure::Unmade(error) => error,
            Failure::Told(error) => match sorted(&error, operation) {
                // A slot that moves, a user that is made anew.
                error
                    if self.look.is_open()
                        && matches!(error.code(), "redis_other_node" | "redis_password_needed") =>
                {
                    passing(error)
                }
                error => error,
            },
        }
    }

    fn by_hash(&self, script: &Script, keys: &[String], args: &Args) -> Cmd {
        self.with_args("EVALSHA", script.made().get_hash(), keys, args)
    }

    /// The text itself: who flushes scripts between any two commands stops nobody.
    fn by_text(&self, script: &Script, keys: &[String], args: &Args) -> Cmd {
        self.with_args("EVAL", &script.text(), keys, args)
    }

    fn with_args(&self, name: &str, script: &str, keys: &[String], args: &Args) -> Cmd {
        let names: usize = keys.iter().map(String::len).sum();
        let bytes = names.saturating_add(script.len()).saturating_add(args.bytes());
        // Its own name and two numbers are all there is besides.
        let count = keys.len().saturating_add(args.len()).saturating_add(4);
        let mut command = Cmd::with_capacity(count, bytes.saturating_add(32));
        command.arg(name).arg(script).arg(keys.len()).arg(keys);
        for arg in args.iter() {
            command.arg(arg);
        }
        self.tally.sent(bytes, name == "EVAL");
        command
    }
}

/// Whether the server does not know the script.
fn is_unknown(failure: &Failure) -> bool {
    matches!(failure, Failure::Told(error) if error.code() == Some("NOSCRIPT"))
}

/// The write stands on the server, and it is not known whether it would survive a failover.
fn too_few(operation: &'static str, reached: u32, wanted: u32) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "redis_not_replicated", operation)
        .with_context(format!("{reached} of {wanted} replicas answered in time"))
        .with_hint("bring the replicas back, or declare a lower durability")
}
