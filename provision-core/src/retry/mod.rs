//! When a failed attempt is repeated, as pure functions: the moment, the randomness and what the
//! provider asked for come in as arguments, so every schedule can be stored, shown and tested.
//!
//! A policy lives at exactly one level, the engine: clients and adapters never retry, since nested
//! retries multiply. [`Policy`] decides about one series of attempts of one step, and [`Overrides`]
//! lets an operator change it while the process runs. A provider that is down is spared by its
//! [breaker](crate::breaker) and its shared limits, not by a policy.
//!
//! A preset is a value like any other: a step takes it with
//! [`retry`](crate::saga::Node::retry), and it can be asked by itself.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use provision_core::{Policy, Timestamp, retry::{Next, Series, Why, retry_after}};
//!
//! let (seconds, start) = (Duration::from_secs, Timestamp::from_millis(1_000_000));
//! let after = |attempts| Series::new(attempts, start, start, 0);
//! let hosting = Policy::hosting_default();
//! let waits = [1, 2, 3, 4].map(|attempts| hosting.next(&after(attempts)));
//! assert_eq!(waits, [2, 4, 8, 16].map(|wait| Next::After(seconds(wait))));
//! assert_eq!(hosting.next(&after(5)), Next::Exhausted(Why::Attempts));
//!
//! // The others: before the jitter, and by how often.
//! let base = |policy: Policy| (policy.max_attempts(), [1, 2, 3].map(|n| policy.base(n).as_secs()));
//! assert_eq!(base(Policy::onboarding_default()), (5, [1, 2, 4]));
//! assert_eq!(base(Policy::orders_default()), (5, [1, 2, 4]));
//! assert_eq!(base(Policy::tenants_default()), (3, [300, 300, 300]));
//! assert_eq!(base(Policy::connector_default()), (4, [1, 3, 9]));
//!
//! // What a provider asks for, in seconds or by a date, is never shortened.
//! let now = SystemTime::UNIX_EPOCH + seconds(784_111_777);
//! let asked = retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now);
//! assert_eq!(asked, Some(seconds(60)));
//! assert_eq!(retry_after("60", now), asked);
//! assert_eq!(hosting.next(&after(1).with_asked(asked)), Next::After(seconds(60)));
//! ```

mod after;
pub(crate) mod millis;
mod overrides;
mod policy;
mod presets;

pub use after::{LONGEST_RETRY_AFTER, THROTTLED_WITHOUT_HINT, retry_after};
pub(crate) use overrides::LiveOverrides;
pub use overrides::Overrides;
pub use policy::{Backoff, Jitter, Next, Policy, Series, Why};
