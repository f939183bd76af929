//! Hearing of new work: a subscription on a connection of its own, for each namespace.
//!
//! It is a convenience. Whatever it misses, waiting claims find by polling (L7).

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use redis::Client;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    _task: JoinSet<()>,
}

impl Listener {
    pub(crate) fn start(
        client: Client,
        channel: String,
        stirred: Arc<Notify>,
        again: Duration,
    ) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut tries = interval(again);
            tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tries.tick().await;
                if let Err(error) = listen(&client, &channel, &stirred).await {
                    tracing::debug!(code = error.code(), "work is found by polling meanwhile");
                }
            }
        });
        Self { _task: task }
    }
}

/// Wakes those who wait with each message, until the connection ends.
async fn listen(client: &Client, channel: &str, stirred: &Notify) -> redis::RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    // What was told before the subscription began was missed.
    stirred.notify_waiters();
    let mut messages = subscription.on_message();
    while messages.next().await.is_some() {
        stirred.notify_waiters();
    }
    Ok(())
}
