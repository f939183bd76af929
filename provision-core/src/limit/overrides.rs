//! Limits as configuration: what a provider has changed, without a new build.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use super::{Concurrency, Profile, Rate};
use crate::{
    context::Call,
    error::{Error, ErrorKind},
};

/// Replaces what adapters and steps say that a bucket allows, by the beginning of its name.
///
/// A value of configuration: deserialize it from a file, hand it to
/// [`EngineBuilder::limit_overrides`](crate::EngineBuilder::limit_overrides), change it while workers
/// run with [`Engine::set_limit_overrides`](crate::Engine::set_limit_overrides). Of several entries
/// that fit a bucket the longest holds, for its rate and for its open calls each. Limits take effect
/// at the next call, since a limit is never stored with a run; every process has to be given the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    rates: BTreeMap<String, Rate>,
    concurrency: BTreeMap<String, Concurrency>,
}

impl Overrides {
    /// Replaces nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the rate of every bucket whose name begins so, such as `"github/acme/"`; one that had none
    /// gets one.
    #[must_use]
    pub fn with_rate(mut self, buckets: impl Into<String>, rate: Rate) -> Self {
        self.rates.insert(buckets.into(), rate);
        self
    }

    /// Sets how many calls may be open at the same time, of every bucket whose name begins so.
    #[must_use]
    pub fn with_concurrency(
        mut self,
        buckets: impl Into<String>,
        calls: impl Into<Concurrency>,
    ) -> Self {
        self.concurrency.insert(buckets.into(), calls.into());
        self
    }

    /// What a bucket allows under these overrides, where `own` is what its caller says.
    #[must_use]
    pub fn resolve(&self, own: &Profile) -> Profile {
        Profile {
            bucket: own.bucket.clone(),
            rate: longest(&self.rates, &own.bucket).or(own.rate),
            concurrency: longest(&self.concurrency, &own.bucket).or(own.concurrency),
        }
    }

    /// Refuses limits that would let no call through.
    ///
    /// # Errors
    /// Kind `Invalid`, code `limit_rate` or `limit_concurrency`: no calls, no time, or no burst.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |code, what: &str| {
            Err(Error::new(ErrorKind::Invalid, code, "check limits").with_context(what))
        };
        let is_none = |rate: &Rate| rate.calls == 0 || rate.burst == 0 || rate.per.is_zero();
        if self.rates.values().any(is_none) {
            return refuse("limit_rate", "calls, period and burst must be at least 1");
        }
        let none = [Concurrency::AtMost(0), Concurrency::Adaptive(0)];
        if self.concurrency.values().any(|calls| none.contains(calls)) {
            return refuse("limit_concurrency", "one call must be allowed");
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.concurrency.is_empty()
    }
}

/// The entry with the longest name that the bucket's begins with.
fn longest<T: Copy>(entries: &BTreeMap<String, T>, bucket: &str) -> Option<T> {
    let fitting = entries.iter().filter(|(name, _)| bucket.starts_with(name.as_str()));
    fitting.max_by_key(|(name, _)| name.len()).map(|(_, value)| *value)
}

/// The overrides of one engine, which its host may replace while workers run.
#[derive(Debug, Default)]
pub(crate) struct LiveLimits(RwLock<Arc<Overrides>>);

impl LiveLimits {
    /// Replaces them, when none of them forbids every call.
    pub(crate) fn set(&self, overrides: Overrides) -> Result<(), Error> {
        overrides.validate()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(overrides);
        Ok(())
    }

    /// The call under the limits of now.
    pub(crate) fn limited<'c>(&self, call: &'c Call) -> Cow<'c, Call> {
        let now = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        match &call.limit {
            Some(own) if !now.is_empty() => Cow::Owned(call.clone().with_limit(now.resolve(own))),
            _ => Cow::Borrowed(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Concurrency, Overrides, Profile, Rate};

    fn rate(calls: u32) -> Rate {
        Rate { calls, per: Duration::from_secs(1), burst: 1 }
    }

    // covers: R1-87
    #[test]
    fn the_longest_name_wins_for_rate_and_open_calls_each() {
        let overrides = Overrides::new()
            .with_rate("github/", rate(1))
            .with_rate("github/acme/", rate(2))
            .with_concurrency("github/", 7);
        let of = |bucket: &str| {
            let (rate, concurrency) = (Some(rate(9)), None);
            let own = Profile { bucket: bucket.to_owned(), rate, concurrency };
            let Profile { bucket: same, rate, concurrency } = overrides.resolve(&own);
            assert_eq!(same, bucket);
            (rate.unwrap().calls, concurrency)
        };
        let seven = Some(Concurrency::AtMost(7));
        assert_eq!(of("github/acme/core"), (2, seven));
        assert_eq!(of("github/other/core"), (1, seven));
        assert_eq!(of("vercel/acme"), (9, None));
    }

    #[test]
    fn overrides_are_read_from_text_and_checked() {
        let overrides = Overrides::new().with_rate("a", rate(3)).with_concurrency("a", 4);
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides);
        assert_eq!(serde_json::from_str::<Overrides>("{}").unwrap(), Overrides::new());
        assert!(overrides.validate().is_ok());
        for none in [
            Rate { calls: 0, ..rate(1) },
            Rate { burst: 0, ..rate(1) },
            Rate { per: Duration::ZERO, ..rate(1) },
        ] {
            let refused = Overrides::new().with_rate("a", none).validate().unwrap_err();
            assert_eq!(refused.code(), "limit_rate");
        }
        let refused = Overrides::new().with_concurrency("a", 0).validate().unwrap_err();
        assert_eq!(refused.code(), "limit_concurrency");
    }
}
