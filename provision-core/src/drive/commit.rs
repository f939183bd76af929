//! Group commit: appends of all runs that wait at the same time go out in one call of the store.
//!
//! One batch is under way at a time and the next takes whatever has come meanwhile, never on a
//! timer: alone it is one append per call, under load the batch grows by itself.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    clock,
    error::StoreError,
    store::{Append, Appended, StateStore},
};

/// Most appends of one batch.
const BATCH_MAX: usize = 256;
/// Bytes of frames after which a batch is closed.
const BATCH_BYTES_MAX: usize = 4 << 20;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<Appended, Arc<StoreError>>>;

/// The sending side; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    sender: mpsc::UnboundedSender<(Append, Answer)>,
}

impl Committer {
    /// Makes a committer and the task that serves it until all senders are gone.
    pub(crate) fn new(store: Arc<dyn StateStore>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, serve(store, receiver))
    }

    /// Writes one append.
    ///
    /// S18: trouble of the store is waited out here; an error means that this very append can
    /// never be written.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended, Arc<StoreError>> {
        let (answer, reply) = oneshot::channel();
        let gone = || Arc::new(StoreError::unavailable("append").with_context("the worker ended"));
        self.sender.send((append, answer)).map_err(|_| gone())?;
        reply.await.map_err(|_| gone())?
    }
}

async fn serve(store: Arc<dyn StateStore>, mut inbox: mpsc::UnboundedReceiver<(Append, Answer)>) {
    let mut batch = Vec::new();
    let mut answers = Vec::new();
    while let Some(first) = inbox.recv().await {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some((append, answer)) = next.take() {
            bytes += append.frame.as_ref().map_or(0, |frame| frame.len());
            batch.push(append);
            answers.push(answer);
            if batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
                next = inbox.try_recv().ok();
            }
        }
        write(&*store, &batch, &mut answers).await;
        batch.clear();
        answers.clear();
    }
}

async fn write(store: &dyn StateStore, batch: &[Append], answers: &mut Vec<Answer>) {
    match persist(store, batch).await {
        Ok(replies) => {
            for (answer, reply) in answers.drain(..).zip(replies) {
                // A receiver that is gone belongs to a run that was given up meanwhile.
                let _ = answer.send(Ok(reply));
            }
        }
        // One append that can never be written must not stop its neighbours.
        Err(_) if batch.len() > 1 => {
            for (append, answer) in batch.iter().zip(answers.drain(..)) {
                let alone = persist(store, std::slice::from_ref(append)).await;
                let reply = alone.map(|mut replies| replies.pop().unwrap_or(Appended::Stale));
                let _ = answer.send(reply.map_err(Arc::new));
            }
        }
        Err(error) => {
            if let Some(answer) = answers.pop() {
                let _ = answer.send(Err(Arc::new(error)));
            }
        }
    }
}

/// Repeats the very same batch until the store gives a definite answer (S18, S19).
async fn persist(store: &dyn StateStore, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
    let mut pause = PAUSE_FIRST;
    loop {
        match store.append(batch).await {
            Ok(replies) => return Ok(replies),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the store did not take an append; it is repeated");
                clock::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}
