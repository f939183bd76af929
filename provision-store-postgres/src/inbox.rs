//! Calls on their way to the one task that writes them together.

use std::{collections::VecDeque, time::Duration};

use provision_core::clock;
use tokio::{sync::mpsc, task::yield_now, time::timeout};

use crate::held::Held;

/// A connection is kept for so long after the last call.
const KEPT: Duration = Duration::from_secs(1);

/// What came in and is to be written; a message brings one or more.
pub(crate) struct Inbox<M, T> {
    calls: mpsc::Receiver<M>,
    pub(crate) waiting: VecDeque<T>,
}

impl<M: IntoIterator<Item = T>, T> Inbox<M, T> {
    pub(crate) fn new(calls: mpsc::Receiver<M>) -> Self {
        Self { calls, waiting: VecDeque::new() }
    }

    /// Waits for work, and takes in what is there, up to so many; false after the last. What waits
    /// already is held by others when there is a pause: it rests so long, or until more comes.
    pub(crate) async fn gather(
        &mut self,
        held: &mut Held,
        pause: Option<Duration>,
        most: usize,
    ) -> bool {
        if self.waiting.is_empty() {
            match self.next(held).await {
                Some(more) => self.waiting.extend(more),
                None => return false,
            }
        } else if let Some(pause) = pause {
            match timeout(pause, self.calls.recv()).await {
                Ok(Some(more)) => self.waiting.extend(more),
                // Nobody can send any more; what is held by others is not asked for faster.
                Ok(None) => clock::sleep(pause).await,
                Err(_over) => {}
            }
        }
        // Whoever was answered a moment ago comes back before the next batch is closed.
        yield_now().await;
        while self.waiting.len() < most
            && let Ok(more) = self.calls.try_recv()
        {
            self.waiting.extend(more);
        }
        true
    }

    async fn next(&mut self, held: &mut Held) -> Option<M> {
        if let Ok(more) = self.calls.try_recv() {
            return Some(more);
        }
        match timeout(KEPT, self.calls.recv()).await {
            Ok(more) => more,
            Err(_rested) => {
                held.give_back();
                self.calls.recv().await
            }
        }
    }
}
