//! When a failed attempt is repeated, as pure functions: the moment, the randomness and what the
//! provider asked for come in as arguments, so every schedule can be stored, shown and tested.
//!
//! A policy lives at exactly one level, the engine: clients and adapters never retry, since nested
//! retries multiply. [`Policy`] decides about one series of attempts of one step, and [`Overrides`]
//! lets an operator change it while the process runs. A provider that is down is spared by its
//! [breaker](crate::breaker) and its shared limits, not by a policy.

mod after;
pub(crate) mod millis;
mod overrides;
mod policy;
mod presets;

pub use after::{LONGEST_RETRY_AFTER, THROTTLED_WITHOUT_HINT, retry_after};
pub(crate) use overrides::LiveOverrides;
pub use overrides::Overrides;
pub use policy::{Backoff, Jitter, Next, Policy, Series, Why};
