//! Policies as configuration: what an operator may change without a new build.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::{error::Error, saga::graph::graph_path};

/// Replaces policies by saga, step and class of error; the most specific entry wins.
///
/// A value of configuration: deserialize it from a file, hand it to
/// [`EngineBuilder::retry_overrides`](crate::EngineBuilder::retry_overrides), change it while workers
/// run with [`Engine::set_retry_overrides`](crate::Engine::set_retry_overrides). Policies take effect
/// at the next failure, since a policy is never stored with a run. How undos are repeated is not
/// touched: giving up an undo early would leave things behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    sagas: BTreeMap<String, Of>,
    /// Class of error to policy, whatever the saga.
    codes: BTreeMap<String, Policy>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Of {
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Policy>,
    steps: BTreeMap<String, Policy>,
    codes: BTreeMap<String, Policy>,
}

impl Overrides {
    /// Replaces nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the policy of every step of a saga.
    #[must_use]
    pub fn with_saga(mut self, saga: impl Into<String>, policy: Policy) -> Self {
        self.sagas.entry(saga.into()).or_default().all = Some(policy);
        self
    }

    /// Replaces the policy of one step; `path` is the path in the graph, without item keys.
    #[must_use]
    pub fn with_step(mut self, saga: &str, path: impl Into<String>, policy: Policy) -> Self {
        self.sagas.entry(saga.to_owned()).or_default().steps.insert(path.into(), policy);
        self
    }

    /// Replaces the policy for one class of error, in one saga or (`None`) in all.
    #[must_use]
    pub fn with_code(mut self, saga: Option<&str>, code: &str, policy: Policy) -> Self {
        let codes = match saga {
            Some(saga) => &mut self.sagas.entry(saga.to_owned()).or_default().codes,
            None => &mut self.codes,
        };
        codes.insert(code.to_owned(), policy);
        self
    }

    /// The policy for a failure: saga's class of error, class of error, step, saga, then `own`.
    #[must_use]
    pub fn resolve<'a>(
        &'a self,
        saga: &str,
        path: &str,
        code: &str,
        own: &'a Policy,
    ) -> &'a Policy {
        let of = self.sagas.get(saga);
        of.and_then(|of| of.codes.get(code))
            .or_else(|| self.codes.get(code))
            .or_else(|| of.and_then(|of| of.steps.get(path)))
            .or_else(|| of.and_then(|of| of.all.as_ref()))
            .unwrap_or(own)
    }

    /// Refuses a configuration with a policy outside its range.
    ///
    /// # Errors
    /// Kind `Invalid`, see [`Policy::validate`].
    pub fn validate(&self) -> Result<(), Error> {
        let of = |of: &Of| {
            of.all.iter().chain(of.steps.values()).chain(of.codes.values()).cloned().collect()
        };
        let nested: Vec<Vec<Policy>> = self.sagas.values().map(of).collect();
        nested.iter().flatten().chain(self.codes.values()).try_for_each(Policy::validate)
    }
}

/// The overrides of one engine, which its host may replace while workers run.
#[derive(Debug, Default)]
pub(crate) struct LiveOverrides(RwLock<Arc<Overrides>>);

impl LiveOverrides {
    /// Replaces them, when all policies are within their ranges.
    pub(crate) fn set(&self, overrides: Overrides) -> Result<(), Error> {
        overrides.validate()?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(overrides);
        Ok(())
    }

    /// The policy for a failure of a step, by its path with item keys.
    pub(crate) fn policy(&self, saga: &str, path: &str, code: &str, own: &Policy) -> Policy {
        let now = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        if now.sagas.is_empty() && now.codes.is_empty() {
            return own.clone();
        }
        now.resolve(saga, &graph_path(path), code, own).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{LiveOverrides, Overrides, Policy};

    // covers: R3-30
    #[test]
    fn the_most_specific_override_wins() {
        let p = Policy::attempts;
        let own = p(9);
        let overrides = Overrides::new()
            .with_saga("a", p(1))
            .with_step("a", "db", p(2))
            .with_code(None, "quota", p(3))
            .with_code(Some("a"), "quota", p(4));
        let attempts = |saga, path, code| overrides.resolve(saga, path, code, &own).max_attempts();
        assert_eq!(attempts("b", "db", "http_500"), 9);
        assert_eq!(attempts("a", "vm", "http_500"), 1);
        assert_eq!(attempts("a", "db", "http_500"), 2);
        assert_eq!(attempts("b", "db", "quota"), 3);
        assert_eq!(attempts("a", "db", "quota"), 4);
    }

    #[test]
    fn items_of_a_fan_out_share_the_policy_of_their_step() {
        let (live, own) = (LiveOverrides::default(), Policy::attempts(9));
        let of = |path| live.policy("a", path, "c", &own).max_attempts();
        assert_eq!(of("each[k.1]/one"), 9);
        live.set(Overrides::new().with_step("a", "each[]/one", Policy::attempts(2))).unwrap();
        assert_eq!((of("each[k.1]/one"), of("each[k]/inner[7]/one")), (2, 9));
        live.set(Overrides::new().with_saga("a", Policy::attempts(0))).unwrap_err();
        assert_eq!(of("each[k.1]/one"), 2);
    }

    #[test]
    fn overrides_are_read_from_text_and_checked() {
        let overrides = Overrides::new().with_step("a", "db", Policy::attempts(0));
        let text = serde_json::to_string(&overrides).unwrap();
        let read: Overrides = serde_json::from_str(&text).unwrap();
        assert_eq!(read, overrides);
        assert!(read.validate().is_err());
        assert!(Overrides::new().with_saga("a", Policy::undo()).validate().is_ok());
        assert_eq!(serde_json::from_str::<Overrides>("{}").unwrap(), Overrides::new());
    }
}
