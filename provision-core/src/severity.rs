//! How much a failure matters to the people who are told of it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, StepError, StoreError, StoreErrorKind, Verdict};

/// How much a failure matters, as logs and alerts want to know it.
///
/// The order is the order of worry: `Info < Warning < Error < Critical`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Ordinary: a provider asked for patience.
    Info,
    /// The engine goes on by itself; worth a look when it happens often.
    Warning,
    /// Something did not succeed and is being, or has been, undone.
    #[default]
    Error,
    /// Nothing goes on without a person.
    Critical,
}

impl Severity {
    /// The name it is logged and stored under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// Whether it is the one that need not be written.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl StepError {
    /// How much this attempt's failure matters: it follows from the verdict.
    ///
    /// ```
    /// use provision_core::{Effect, Severity, StepError, Verdict};
    ///
    /// assert_eq!(StepError::retry("list").severity(), Severity::Warning);
    /// let quota = StepError::new(Effect::None, Verdict::Operator, "create project");
    /// assert_eq!(quota.severity(), Severity::Critical);
    /// ```
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.verdict() {
            Verdict::Throttled { .. } => Severity::Info,
            Verdict::Retry { .. } => Severity::Warning,
            Verdict::Permanent => Severity::Error,
            Verdict::Operator => Severity::Critical,
        }
    }
}

impl Error {
    /// How much this failure matters: it follows from the kind.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind() {
            ErrorKind::Limit => Severity::Info,
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::Provider => Severity::Warning,
            ErrorKind::Store | ErrorKind::Unsuccessful => Severity::Error,
            ErrorKind::Damaged | ErrorKind::Secret | ErrorKind::Internal => Severity::Critical,
        }
    }
}

impl StoreError {
    /// How much this failure matters: it follows from the kind.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind() {
            StoreErrorKind::Unavailable => Severity::Warning,
            StoreErrorKind::Invalid => Severity::Error,
            StoreErrorKind::Full | StoreErrorKind::Damaged | StoreErrorKind::Unsuitable => {
                Severity::Critical
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Severity;
    use crate::error::{
        Effect, Error, ErrorKind, Failure, StepError, StoreError, StoreErrorKind, Verdict,
    };

    // covers: R5-42
    #[test]
    fn a_failure_matters_as_much_as_what_has_to_be_done_about_it() {
        let throttled =
            Verdict::Throttled { bucket: "hub".to_owned(), after: Duration::from_secs(1) };
        let of = |verdict| StepError::new(Effect::None, verdict, "call").severity();
        let ranks = [
            of(throttled),
            of(Verdict::Retry { after: None }),
            of(Verdict::Permanent),
            of(Verdict::Operator),
        ];
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert_eq!(Error::new(ErrorKind::Limit, "c", "o").severity(), Severity::Info);
        assert_eq!(Error::new(ErrorKind::Damaged, "c", "o").severity(), Severity::Critical);
        assert_eq!(StoreError::unavailable("o").severity(), Severity::Warning);
        let full = StoreError::new(StoreErrorKind::Full, "c", "o");
        assert_eq!(full.severity(), Severity::Critical);
        assert_eq!(Error::from(full).severity(), Severity::Error);
    }

    // covers: R5-42
    #[test]
    fn a_recorded_failure_keeps_its_severity() {
        let operator = StepError::new(Effect::Unknown, Verdict::Operator, "call");
        for error in [operator, StepError::retry("call"), StepError::permanent("call")] {
            let failure = Failure::of("db", 1, &error);
            assert_eq!(failure.severity, error.severity());
            let text = serde_json::to_string(&failure).unwrap();
            assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
        }
    }
}
