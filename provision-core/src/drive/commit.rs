//! Group commit: appends of all runs that wait at the same time go out in one call of the store.
//!
//! One batch is under way at a time, written by one of those who wait for it; the next takes
//! whatever has come meanwhile, never on a timer. Alone it is one append per call without a detour
//! through another task; under load the batch grows by itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    clock,
    error::StoreError,
    metric,
    store::{Append, Appended, StateStore},
};

/// Most appends of one batch.
const BATCH_MAX: usize = 256;
/// Bytes of frames after which a batch is closed.
const BATCH_BYTES_MAX: usize = 4 << 20;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Written = Result<Appended, Arc<StoreError>>;
type Waiting = (Append, oneshot::Sender<Written>);

/// Writes appends in groups; one per worker incarnation.
#[derive(Debug)]
pub(crate) struct Committer {
    store: Arc<dyn StateStore>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever writes. A tokio mutex, because it is held across the write.
    writer: tokio::sync::Mutex<()>,
}

impl Committer {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store, waiting: Mutex::default(), writer: tokio::sync::Mutex::new(()) }
    }

    /// Writes one append, together with those of others that wait now.
    ///
    /// S18: trouble of the store is waited out here; an error means that this very append can
    /// never be written. Whoever writes for others must not be dropped while they wait: drives
    /// end only together, with their worker.
    pub(crate) async fn append(&self, append: Append) -> Written {
        let (answer, mut reply) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((append, answer));
        loop {
            tokio::select! {
                biased;
                written = &mut reply => return written.unwrap_or_else(|_| Err(gone())),
                _turn = self.writer.lock() => self.write_next().await,
            }
        }
    }

    async fn write_next(&self) {
        let group = self.take();
        if group.is_empty() {
            return;
        }
        let (batch, answers): (Vec<Append>, Vec<_>) = group.into_iter().unzip();
        let began = clock::moment();
        let written = persist(&*self.store, &batch).await;
        metric::took(metric::STORE_LATENCY, began.elapsed(), &[]);
        metric::observe(
            metric::STORE_BATCH,
            f64::from(u16::try_from(batch.len()).unwrap_or(u16::MAX)),
            &[],
        );
        match written {
            Ok(replies) => {
                for (answer, reply) in answers.into_iter().zip(replies) {
                    // A receiver that is gone belongs to a run that was given up meanwhile.
                    let _ = answer.send(Ok(reply));
                }
            }
            // One append that can never be written must not stop its neighbours.
            Err(_) if batch.len() > 1 => {
                for (append, answer) in batch.iter().zip(answers) {
                    let alone = persist(&*self.store, std::slice::from_ref(append)).await;
                    let reply = alone.map(|mut replies| replies.pop().unwrap_or(Appended::Stale));
                    let _ = answer.send(reply.map_err(Arc::new));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// What waits now, up to the limits of a batch.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fits = waiting
            .iter()
            .take(BATCH_MAX)
            .take_while(|(append, _)| {
                let fits = bytes < BATCH_BYTES_MAX;
                bytes += append.frame.as_ref().map_or(0, |frame| frame.len());
                fits
            })
            .count();
        let rest = waiting.split_off(fits);
        std::mem::replace(&mut waiting, rest)
    }
}

fn gone() -> Arc<StoreError> {
    Arc::new(StoreError::unavailable("append").with_context("the worker ended"))
}

/// Repeats the very same batch until the store gives a definite answer (S18, S19).
async fn persist(store: &dyn StateStore, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
    patiently(|| store.append(batch)).await
}

/// S18: trouble of the store is waited out, never taken for a failure of a step. What is repeated
/// must bear it; an error means that no repetition can help.
pub(crate) async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = PAUSE_FIRST;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the store did not answer; the call is repeated");
                clock::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}
