//! Why the service cannot do what it was asked: one line with a code, and one with a hint.

use std::fmt;

use example_command::{exit, tables};
use provision_core::{Error, StoreError};

/// What went wrong, for people and for callers that look at the code.
#[derive(Debug)]
pub struct Trouble {
    code: String,
    message: String,
    hint: String,
}

impl Trouble {
    /// Something that was asked cannot be done as it was asked.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// Stable word for what it is.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
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
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, hint } = self;
        write!(f, "error[{code}]: {message}\nhint: {hint}")
    }
}

impl std::error::Error for Trouble {}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let hint = error.hint().unwrap_or("look at the cause, and ask again").to_owned();
        Self::new(error.code(), error.to_string(), hint)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<exit::Trouble> for Trouble {
    fn from(trouble: exit::Trouble) -> Self {
        Self::new(trouble.code(), trouble.message(), trouble.hint())
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let hint = match error.as_database_error().and_then(|said| said.code()).as_deref() {
            Some("42P01" | "3F000" | "42883") => "run `connector-platform deploy` as the owner",
            Some("42501" | "28000" | "22023") => {
                "grant the login role `connector_worker`, or run `connector-platform deploy` first"
            }
            _ => "check the address and that the server runs, and ask again",
        };
        Self::new("database", tables::said(&error), hint)
    }
}
