//! What every store, queue, limiter and secret store must do, as plain async functions.
//!
//! Each public function of a group is one case: it takes a fresh [`Fixture`] and panics when the
//! property in its name does not hold. [`store_suite!`](crate::store_suite) and its sisters name
//! them all, so an implementation runs the suite unchanged with one line, and a case that is added
//! here is added for everyone. The cases know nothing of any implementation: time passes only
//! through [`Fixture::advance`], and lengths of time are multiples of [`Fixture::ttl`].

#![allow(clippy::cognitive_complexity, reason = "a case is a straight line of assertions")]

mod fixture;
mod given;

pub mod admission;
pub mod capping;
pub mod concurrency;
pub mod deaths;
pub mod expiry;
pub mod fairness;
pub mod fencing;
pub mod figures;
pub mod guards;
pub mod histories;
pub mod journal;
pub mod leasing;
pub mod ledger_rows;
pub mod listing;
pub mod lives;
pub mod namespaces;
pub mod proposing;
pub mod release;
pub mod requests;
pub mod retention;
pub mod sealed_values;
pub mod sealing;
pub mod shared_limits;
pub mod starting;
pub mod values;
pub mod waiting;
pub mod waking;
pub mod watch;

pub use fixture::{Advance, Fixture, Given, Handle};
pub use given::{acquire_any, append_of, held_for, ledger_row, new_worker, run_head, suite_saga};
