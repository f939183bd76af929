//! Where named secrets come from at the moment they are used.
//!
//! Specs and outputs hold a [`SecretRef`](crate::SecretRef); a resolver turns its name into the
//! value right before the call. Nothing it gives is ever stored. This is the only module that reads
//! the environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Debug, Write},
};

use async_trait::async_trait;

use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

/// Turns a name into a secret.
#[async_trait]
pub trait SecretResolver: Debug + Send + Sync + 'static {
    /// The value of a name; `None` if there is none, and an empty value is none.
    ///
    /// # Errors
    /// The source cannot be asked now, or what it holds is not text.
    async fn resolve(&self, name: &str) -> Result<Option<Secret>, Error>;
}

/// Reads environment variables.
///
/// Names come out of stored runs. Where others than the operator write those, name the variables
/// that may be read with [`EnvResolver::only`].
#[derive(Debug, Clone, Default)]
pub struct EnvResolver {
    prefix: String,
    only: Option<BTreeSet<String>>,
}

impl EnvResolver {
    /// Reads every variable under its own name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `prefix` before every name: `TOKEN` is read from `ACME_TOKEN`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Reads these names (without prefix) and no other.
    #[must_use]
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

#[async_trait]
impl SecretResolver for EnvResolver {
    #[allow(clippy::disallowed_methods, reason = "this file is where the environment is read")]
    async fn resolve(&self, name: &str) -> Result<Option<Secret>, Error> {
        let variable = format!("{}{name}", self.prefix);
        let refused = self.only.as_ref().is_some_and(|only| !only.contains(name));
        // Asking the system for such a name is an error on some platforms and a panic on none.
        if refused || variable.is_empty() || variable.contains(['=', '\0']) {
            return Ok(None);
        }
        match std::env::var(variable) {
            Ok(value) => Ok(present(Secret::new(value))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            // The error of the standard library would carry the value: it is dropped here.
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::new(ErrorKind::Secret, "secret_not_text", "resolve secret")
                    .with_context(name))
            }
        }
    }
}

/// Holds values in memory: tests, and hosts that have read their secrets themselves.
#[derive(Debug, Clone, Default)]
pub struct MapResolver {
    values: BTreeMap<String, Secret>,
}

impl MapResolver {
    /// Holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.insert(name.into(), Secret::new(value));
        self
    }
}

#[async_trait]
impl SecretResolver for MapResolver {
    async fn resolve(&self, name: &str) -> Result<Option<Secret>, Error> {
        Ok(self.values.get(name).cloned().and_then(present))
    }
}

/// An empty value is a mistake in a configuration, and `Bearer ` is not a credential.
fn present(value: Secret) -> Option<Secret> {
    (!value.expose().trim().is_empty()).then_some(value)
}

/// A name that must be there, and where its value is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    name: String,
    hint: Option<String>,
}

impl Required {
    /// Requires a name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), hint: None }
    }

    /// Says where the value is to be had, such as a page of the provider's console.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the value is to be had.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<&str> for Required {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// All names that have no value, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    names: Vec<Required>,
}

impl Missing {
    /// The names, in the order they were asked for.
    #[must_use]
    pub fn names(&self) -> &[Required] {
        &self.names
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resolve secrets: missing ")?;
        for (i, required) in self.names.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(&required.name)?;
            if let Some(hint) = &required.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        let names: Vec<&str> = missing.names.iter().map(Required::name).collect();
        let mut hint = String::new();
        for required in &missing.names {
            if let Some(from) = &required.hint {
                let gap = if hint.is_empty() { "" } else { "; " };
                // Writing into a string does not fail.
                let _ = write!(hint, "{gap}{}: {from}", required.name);
            }
        }
        let error = Self::new(ErrorKind::Secret, "secrets_missing", "resolve secrets")
            .with_context(names.join(", "));
        if hint.is_empty() { error } else { error.with_hint(hint) }
    }
}

/// Checks that every name has a value, at start and before the first effect.
///
/// # Errors
/// Kind `Secret`, code `secrets_missing`, naming **all** missing ones with their hints; or the
/// first error of the resolver.
pub async fn require_all(resolver: &dyn SecretResolver, names: &[Required]) -> Result<(), Error> {
    let missing = missing(resolver, names).await?;
    if missing.names.is_empty() { Ok(()) } else { Err(missing.into()) }
}

/// Lists the names that have no value, for pages and command lines that show them.
///
/// # Errors
/// The first error of the resolver.
pub async fn missing(resolver: &dyn SecretResolver, names: &[Required]) -> Result<Missing, Error> {
    let mut missing = Vec::new();
    for required in names {
        if resolver.resolve(&required.name).await?.is_none() {
            missing.push(required.clone());
        }
    }
    Ok(Missing { names: missing })
}

/// Resolves one name that must be there, before a request is built.
///
/// # Errors
/// As [`require_all`].
pub async fn require(resolver: &dyn SecretResolver, name: &Required) -> Result<Secret, Error> {
    match resolver.resolve(&name.name).await? {
        Some(value) => Ok(value),
        None => Err(Missing { names: vec![name.clone()] }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        EnvResolver, MapResolver, Required, SecretResolver, missing, require, require_all,
    };
    use crate::error::ErrorKind;

    fn names() -> [Required; 4] {
        [
            Required::new("VERCEL_TOKEN").with_hint("vercel.com/account/tokens"),
            Required::new("GITHUB_TOKEN"),
            Required::new("EMPTY"),
            Required::new("BLANK").with_hint("ask the operator"),
        ]
    }

    // covers: R1-16, R1-89, R5-66
    #[tokio::test]
    async fn everything_that_is_missing_is_named_at_once() {
        let map = MapResolver::new()
            .with("GITHUB_TOKEN", "CANARY-1")
            .with("EMPTY", "")
            .with("BLANK", " \n");
        let error = require_all(&map, &names()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Secret, "secrets_missing"));
        assert_eq!(error.context(), Some("VERCEL_TOKEN, EMPTY, BLANK"));
        let hint = "VERCEL_TOKEN: vercel.com/account/tokens; BLANK: ask the operator";
        assert_eq!(error.hint(), Some(hint));
        let listed = missing(&map, &names()).await.unwrap();
        let text = "resolve secrets: missing VERCEL_TOKEN (vercel.com/account/tokens), EMPTY, \
                    BLANK (ask the operator)";
        assert_eq!(listed.to_string(), text);
        assert!(!format!("{error:?} {map:?}").contains("CANARY"));
        let full = map.with("VERCEL_TOKEN", "a").with("EMPTY", "b").with("BLANK", "c");
        require_all(&full, &names()).await.unwrap();
    }

    // covers: R1-89
    #[tokio::test]
    async fn a_missing_token_is_an_error_before_the_request() {
        let map = MapResolver::new().with("EMPTY", "");
        for name in ["EMPTY", "NOWHERE"] {
            let error = require(&map, &name.into()).await.unwrap_err();
            assert_eq!(error.context(), Some(name));
        }
        let map = map.with("T", "v");
        assert_eq!(require(&map, &"T".into()).await.unwrap().expose(), "v");
    }

    // covers: R1-08
    #[tokio::test]
    async fn the_environment_is_read_at_the_time_of_use() {
        // Set by cargo for every test it runs.
        let env: Arc<dyn SecretResolver> = Arc::new(EnvResolver::new());
        let here = env.resolve("CARGO_PKG_NAME").await.unwrap().unwrap();
        assert_eq!(here.expose(), "provision-core");
        for name in ["PROVISION_SURELY_NOT_SET", "", "A=B", "A\0B"] {
            assert!(env.resolve(name).await.unwrap().is_none(), "{name:?}");
        }
        let prefixed = EnvResolver::new().with_prefix("CARGO_").only(["PKG_NAME"]);
        assert!(prefixed.resolve("PKG_NAME").await.unwrap().is_some());
        assert!(prefixed.resolve("MANIFEST_DIR").await.unwrap().is_none(), "not allowed");
    }
}
