//! Why the shop cannot trade: one line with a code, and one with a hint.

use std::fmt;

use provision_core::{Error, StoreError};

/// What went wrong, for people.
#[derive(Debug)]
pub struct Trouble {
    code: String,
    message: String,
    hint: String,
}

impl Trouble {
    /// Something that the shop needs is out of reach, or is not as it must be.
    #[must_use]
    pub fn unusable(code: &str, message: String) -> Self {
        let hint = "check the address and that the server runs, and type it again".to_owned();
        Self { code: code.to_owned(), message, hint }
    }

    /// 64 where the address is what has to be mended, 69 for all else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.code == "postgres_wrong_url" { 64 } else { 69 }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, hint } = self;
        write!(f, "error[{code}]: {message}\nhint: {hint}")
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let trouble = Self::unusable(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => Self { hint: hint.to_owned(), ..trouble },
            None => trouble,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        // What the server says names tables and columns, and no address and no value.
        let message = match &error {
            sqlx::Error::Database(said) => said.message().to_owned(),
            _ => "the shop's database did not answer".to_owned(),
        };
        Self::unusable("shop_database", message)
    }
}
