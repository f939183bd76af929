//! The store's clock between two readings.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::{Moment, moment},
    error::StoreError,
    id::Timestamp,
    store::StateStore,
};

/// How long a reading is carried on by the local monotonic clock.
const KEPT: Duration = Duration::from_secs(1);

/// A reading of the store's clock, carried on for a second, so that a start costs no question of
/// its own.
///
/// S20: wall clocks of hosts never decide. What is told is never ahead of the store's clock while
/// that runs evenly, since a reading is older than the moment at which its answer came.
#[derive(Debug, Default)]
pub(super) struct Timepiece(Mutex<Option<(Timestamp, Moment)>>);

impl Timepiece {
    /// The store's time.
    ///
    /// # Errors
    /// The store was asked and did not answer.
    pub(super) async fn now(&self, store: &dyn StateStore) -> Result<Timestamp, StoreError> {
        let read = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, since)) = read {
            let passed = moment().saturating_duration_since(since);
            if passed < KEPT {
                return Ok(at.plus(passed));
            }
        }
        let at = store.now().await?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that was long on its way replaces no newer one.
        if kept.is_none_or(|(newest, _)| newest <= at) {
            *kept = Some((at, moment()));
        }
        Ok(at)
    }
}
