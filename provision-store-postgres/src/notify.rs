//! Wake-ups: claims of this process by a channel in memory, those of others by notifications.
//!
//! A notification is a statement of its own, after the commit that made runs ready and never in
//! it: a commit that notifies waits for every other one that does. A few milliseconds' worth go
//! out as one. Where none can be heard, polling finds everything (L7).

use std::{ops::BitOrAssign, sync::Arc, time::Duration};

use provision_core::clock;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::sync::{Notify, futures::Notified};

use crate::db::{Db, Statement};

/// What becomes ready within this goes out as one notification.
const TOGETHER: Duration = Duration::from_millis(5);
/// How soon a lost connection is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// What a piece of work has to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stirs {
    /// Runs have become ready.
    pub(crate) ready: bool,
    /// Runs will be due later: claims of this process must not sleep past that. Those of others
    /// look often enough.
    pub(crate) later: bool,
}

impl Stirs {
    /// Runs have become ready, or not.
    pub(crate) fn ready(ready: bool) -> Self {
        Self { ready, later: false }
    }

    /// Adds a run that was put in that place: 2 is ready, 1 is due later.
    pub(crate) fn add(&mut self, place: i16) {
        self.ready |= place == 2;
        self.later |= place == 1;
    }
}

impl BitOrAssign for Stirs {
    fn bitor_assign(&mut self, other: Self) {
        self.ready |= other.ready;
        self.later |= other.later;
    }
}

/// Tells that runs have become ready.
#[derive(Debug)]
pub(crate) struct Stirred {
    here: Notify,
    /// Somebody else should be told, too.
    elsewhere: Notify,
    /// The channel; `None` where notifications are off.
    channel: Option<String>,
}

impl Stirred {
    pub(crate) fn new(channel: Option<String>) -> Self {
        Self { here: Notify::new(), elsewhere: Notify::new(), channel }
    }

    /// Tells what a commit of this process has to tell.
    pub(crate) fn stir(&self, stirs: Stirs) {
        if stirs.ready || stirs.later {
            self.here.notify_waiters();
        }
        if stirs.ready {
            self.elsewhere.notify_one();
        }
    }

    /// Ends when runs have become ready.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.here.notified()
    }

    /// The statement that tells other processes.
    pub(crate) fn notification(&self, db: &Db) -> Option<Statement> {
        let channel = self.channel.as_ref()?;
        Some(db.query(&db.sql.notify).bind(channel.clone()))
    }

    /// Tells other processes, whenever there is something to tell.
    pub(crate) async fn tell(self: Arc<Self>, db: Arc<Db>) {
        loop {
            self.elsewhere.notified().await;
            let Some(statement) = self.notification(&db) else { return };
            match db.once("notify", statement).await {
                Ok(_) => db.tally.notified(),
                Err(error) => tracing::debug!(%error, "other processes could not be told"),
            }
            clock::sleep(TOGETHER).await;
        }
    }

    /// Hears what other processes tell, on a connection of its own.
    pub(crate) async fn hear(self: Arc<Self>, pool: PgPool) {
        let Some(channel) = self.channel.clone() else { return };
        loop {
            if let Err(error) = self.listen(&pool, &channel).await {
                tracing::debug!(%error, "notifications cannot be heard; polling goes on");
            }
            clock::sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen(&self, pool: &PgPool, channel: &str) -> sqlx::Result<()> {
        let options = pool.connect_options();
        // A pool of its own: who hears must not take the host's connection away.
        let own = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let own = own.connect_lazy_with(options.as_ref().clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(channel).await?;
        // What was told while nobody heard.
        self.here.notify_waiters();
        loop {
            // `None`: the connection was lost and made anew; something may have been missed.
            listener.try_recv().await?;
            while listener.next_buffered().is_some() {}
            self.here.notify_waiters();
        }
    }
}
