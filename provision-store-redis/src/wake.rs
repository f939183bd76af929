//! Hearing of new work: a subscription on a connection of its own, for each namespace.
//!
//! It is a convenience. Whatever it misses, waiting claims find by polling (L7).

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use provision_core::clock;
use redis::{Client, Value};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// How long nothing may be heard before the server is asked whether it is there.
const QUIET_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Who may not subscribe asks again so seldom.
const FORBIDDEN_FOR: Duration = Duration::from_secs(60);

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
                    if error.code() == Some("NOPERM") {
                        clock::sleep(FORBIDDEN_FOR).await;
                    }
                }
            }
        });
        Self { _task: task }
    }
}

/// Wakes those who wait with each message, until the connection ends.
async fn listen(client: &Client, channel: &str, stirred: &Notify) -> redis::RedisResult<()> {
    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    sink.subscribe(channel).await?;
    // What was told before the subscription began was missed.
    stirred.notify_waiters();
    loop {
        match timeout(QUIET_MAX, messages.next()).await {
            Ok(Some(_)) => stirred.notify_waiters(),
            Ok(None) => return Ok(()),
            // A server that is gone without a word is as quiet as one that has nothing to tell.
            Err(_quiet) => match timeout(ANSWER_MAX, sink.ping::<Value>()).await {
                Ok(Err(error)) if error.code().is_none() => return Err(error),
                // A refusal is an answer, too.
                Ok(_) => {}
                Err(_silence) => return Ok(()),
            },
        }
    }
}
