//! Releases of programs, read from what they say of themselves.

use std::fmt;

use provision_core::{Call, Effect, StepError, Verdict};

/// A release, such as `1.11.4`; what follows a `-` or `+` is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The release of these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `1.11.4`, `v1.11` or `1.12.0-beta1`.
    ///
    /// A release before its final one counts as that one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let plain = text.split(['-', '+']).next()?;
        let mut parts = plain.split('.').map(str::parse::<u32>);
        let major = parts.next()?.ok()?;
        let minor = parts.next().unwrap_or(Ok(0)).ok()?;
        let patch = parts.next().unwrap_or(Ok(0)).ok()?;
        parts.next().is_none().then_some(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Refuses a program or plug-in that is too old to be trusted with the work.
pub(crate) fn refuse_older(
    call: &Call,
    what: &str,
    found: Option<Version>,
    oldest: Version,
) -> Result<(), StepError> {
    if found.is_some_and(|found| found >= oldest) {
        return Ok(());
    }
    let found = found.map_or_else(|| "of an unknown release".to_owned(), |v| v.to_string());
    Err(StepError::new(Effect::None, Verdict::Operator, call.operation)
        .with_code("too_old")
        .with_message(format!("{what} is {found}, at least {oldest} is needed"))
        .with_hint(
            "upgrade it where the worker runs, or its entry in the lock file, and try again",
        ))
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_read_and_compared_by_their_numbers() {
        let read = |text| Version::parse(text);
        assert_eq!(read("1.11.4"), Some(Version::new(1, 11, 4)));
        assert_eq!(read("v1.67"), Some(Version::new(1, 67, 0)));
        assert_eq!(read("1.12.0-beta1\n"), Some(Version::new(1, 12, 0)));
        for text in ["", "one", "1.x", "1.2.3.4", "-1"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(Version::new(1, 9, 8) < Version::new(1, 10, 0));
    }
}
