//! How the program ends: exit codes, and errors as one line with a code and one with a hint.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use provision_core::{Error, ErrorKind, RunStatus, StoreError};
use serde_json::json;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Succeeded, torn down, or a plan without changes: 0.
    Done,
    /// Undone, because a step failed: 1.
    RolledBack,
    /// A plan with changes: 2.
    Changes,
    /// Needs a person: 3.
    Parked,
    /// Succeeded with tolerated failures: 4.
    Partly,
    /// Cancelled, or interrupted and ready to go on: 5.
    Cancelled,
    /// Called wrongly: 64.
    Usage,
    /// A store or provider cannot be reached: 69.
    Unavailable,
    /// A bug of ours: 70.
    Bug,
}

impl Exit {
    /// What a run's status means for the exit code. A rollback without a failure was a cancel; a
    /// run that is still open was interrupted.
    #[must_use]
    pub fn of(status: RunStatus, failed: bool) -> Self {
        match status {
            RunStatus::Succeeded | RunStatus::TornDown => Self::Done,
            RunStatus::PartlySucceeded => Self::Partly,
            RunStatus::Parked => Self::Parked,
            RunStatus::RolledBack | RunStatus::RolledBackKeeping if failed => Self::RolledBack,
            _ => Self::Cancelled,
        }
    }

    /// The one of two that matters more to whoever reads it.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        const ORDER: [Exit; 4] = [Exit::Parked, Exit::RolledBack, Exit::Partly, Exit::Cancelled];
        ORDER.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RolledBack => 1,
            Self::Changes => 2,
            Self::Parked => 3,
            Self::Partly => 4,
            Self::Cancelled => 5,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Bug => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why the program ends without a run's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    exit: Exit,
    code: String,
    message: String,
    hint: String,
}

impl Trouble {
    /// The caller can mend it.
    #[must_use]
    pub fn usage(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, message, hint)
    }

    /// Something that has to be there cannot be reached.
    #[must_use]
    pub fn unavailable(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, code, message, hint)
    }

    /// It must not happen.
    #[must_use]
    pub fn bug(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Bug, code, message, "please report it with the command you typed")
    }

    fn new(exit: Exit, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (message, hint) = (one_line(message.into()), one_line(hint.into()));
        Self { exit, code: code.to_owned(), message, hint }
    }

    /// Adds one more thing to do.
    #[must_use]
    pub fn with_hint(mut self, more: &str) -> Self {
        self.hint = format!("{}; {more}", self.hint);
        self
    }

    /// The exit code it ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// Short stable word.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Prints one line with the code and one with the hint to stderr; for programs also one JSON
    /// object, the last line of stdout.
    pub fn print(&self, for_programs: bool) {
        let Self { code, message, hint, .. } = self;
        // A reader that has gone away changes nothing about how the program ends.
        let _ = writeln!(io::stderr(), "error[{code}]: {message}\nhint: {hint}");
        if for_programs {
            let error = json!({ "error": { "code": code, "message": message, "hint": hint } });
            let _ = writeln!(io::stdout(), "{error}");
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        const RESTORE: &str = "restore the store's file from a backup: nothing is done on a guess";
        let (exit, hint) = match error.kind() {
            // Nobody can go on with it, and it is not this program that has to be mended.
            _ if error.code() == "damaged_journal" => (Exit::Unavailable, RESTORE),
            ErrorKind::Store => (Exit::Unavailable, "check the store and type the command again"),
            ErrorKind::Provider => (Exit::Unavailable, "type the command again later"),
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::Limit
            | ErrorKind::Secret => (Exit::Usage, "see --help"),
            _ => (Exit::Bug, "please report it with the command you typed"),
        };
        let hint = error.hint().unwrap_or(hint).to_owned();
        Self::new(exit, error.code(), error.to_string(), hint)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        // A store that cannot be used is out of reach, whatever the reason.
        Self { exit: Exit::Unavailable, ..Self::from(Error::from(error)) }
    }
}

#[cfg(test)]
mod tests {
    use provision_core::RunStatus;

    use super::{Exit, Trouble};

    #[test]
    fn statuses_have_the_documented_codes() {
        let cases = [
            (RunStatus::Succeeded, false, 0),
            (RunStatus::TornDown, false, 0),
            (RunStatus::RolledBack, true, 1),
            (RunStatus::RolledBackKeeping, true, 1),
            (RunStatus::Parked, true, 3),
            (RunStatus::PartlySucceeded, true, 4),
            (RunStatus::RolledBack, false, 5),
            (RunStatus::Waiting, false, 5),
        ];
        for (status, failed, code) in cases {
            assert_eq!(Exit::of(status, failed).code(), code, "{status:?}");
        }
        assert_eq!(Exit::Done.or_worse(Exit::RolledBack), Exit::RolledBack);
        assert_eq!(Exit::Parked.or_worse(Exit::Done), Exit::Parked);
        assert_eq!(Exit::Done.or_worse(Exit::Done), Exit::Done);
    }

    #[test]
    fn an_error_is_one_line() {
        let trouble = Trouble::usage("x", "a\nb", "c\n  d");
        assert_eq!((trouble.message.as_str(), trouble.hint.as_str()), ("a b", "c d"));
    }
}
