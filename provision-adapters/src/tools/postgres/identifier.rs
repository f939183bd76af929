//! Names of databases, schemas and roles: validated where they come in, quoted where they go out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tools::row_security::quote_identifier;

/// Longest name, in bytes. PostgreSQL cuts longer ones, and two tenants could share one object.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// A name of a database, schema or role.
///
/// Lower-case letters, digits and underscores, at most [`IDENTIFIER_BYTES_MAX`], not beginning with
/// a digit or with `pg_`, which the server keeps for itself. Words of SQL are names like others:
/// every name is quoted. Data that holds another name cannot be read back.
///
/// ```
/// use provision_adapters::tools::postgres::Identifier;
///
/// assert_eq!(Identifier::new("tenant_7").unwrap().as_str(), "tenant_7");
/// assert!(Identifier::new("table").is_ok());
/// for refused in ["", "Tenant", "7up", "pg_x", "a-b", "a\"; drop database b; --", "a\0"] {
///     assert!(Identifier::new(refused).is_err());
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identifier(String);

/// Why something is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// It is empty.
    #[error("a name must not be empty")]
    Empty,
    /// It has more than [`IDENTIFIER_BYTES_MAX`] bytes.
    #[error("a name has at most {IDENTIFIER_BYTES_MAX} bytes")]
    TooLong,
    /// It has another character than lower-case letters, digits and underscores, or begins with
    /// a digit.
    #[error(
        "a name has lower-case letters, digits and underscores, and does not begin with a digit"
    )]
    Character,
    /// It begins with `pg_`.
    #[error("names that begin with `pg_` are the server's own")]
    Reserved,
}

impl Identifier {
    /// Takes a name that follows the rules.
    ///
    /// # Errors
    /// What is wrong with it; the name itself is not repeated.
    pub fn new(name: impl Into<String>) -> Result<Self, IdentifierError> {
        let name = name.into();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        match name.as_bytes() {
            [] => Err(IdentifierError::Empty),
            bytes if bytes.len() > IDENTIFIER_BYTES_MAX => Err(IdentifierError::TooLong),
            [first, ..] if first.is_ascii_digit() => Err(IdentifierError::Character),
            bytes if !bytes.iter().copied().all(plain) => Err(IdentifierError::Character),
            _ if name.starts_with("pg_") => Err(IdentifierError::Reserved),
            _ => Ok(Self(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written into a statement (X5).
    pub(super) fn quoted(&self) -> String {
        quote_identifier(&self.0)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Identifier {
    type Error = IdentifierError;

    fn try_from(name: String) -> Result<Self, IdentifierError> {
        Self::new(name)
    }
}

impl From<Identifier> for String {
    fn from(name: Identifier) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{IDENTIFIER_BYTES_MAX, Identifier, IdentifierError};

    // covers: X5, R4-17
    #[test]
    fn names_are_short_plain_and_not_the_servers() {
        let longest = "x".repeat(IDENTIFIER_BYTES_MAX);
        for good in ["a", "_", "tenant_7", "table", "select", "user", longest.as_str()] {
            let name = Identifier::new(good).unwrap();
            assert_eq!(name.quoted(), format!("\"{good}\""));
        }
        let code = |name: &str| Identifier::new(name).unwrap_err();
        assert_eq!(code(""), IdentifierError::Empty);
        assert_eq!(code(&"x".repeat(64)), IdentifierError::TooLong);
        // 32 letters of two bytes each pass a limit of characters, not of bytes.
        assert_eq!(code(&"ä".repeat(32)), IdentifierError::TooLong);
        for bad in ["A", "1a", "a b", "a.b", "a\"", "a'", "a;b", "a\0", "ä", "a\n", "a-b", "$a"] {
            assert_eq!(code(bad), IdentifierError::Character, "{bad:?}");
        }
        assert_eq!(code("pg_catalog"), IdentifierError::Reserved);
        assert!(serde_json::from_str::<Identifier>("\"a; drop\"").is_err());
        assert_eq!(serde_json::to_string(&Identifier::new("a").unwrap()).unwrap(), "\"a\"");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

        // covers: X5, R4-17
        #[test]
        fn hostile_names_are_refused_or_inert(
            name in r#"([a-z_]{0,3}["';\\\-\$\.\x00 a-zA-Z0-9_é/*]{0,12}|[a-z_][a-z0-9_]{0,70})"#,
        ) {
            if let Ok(taken) = Identifier::new(name.as_str()) {
                prop_assert!(taken.as_str().len() <= IDENTIFIER_BYTES_MAX);
                let quoted = taken.quoted();
                let inner = &quoted[1..quoted.len() - 1];
                prop_assert_eq!(inner, name.as_str());
                prop_assert!(
                    inner.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
                );
            }
        }
    }
}
