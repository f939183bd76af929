//! Moves sealed values to the current key while everybody goes on reading.
//!
//! Old keys stay in the key provider until this job has reported that nothing is sealed under
//! them. A value that changes meanwhile is left alone: whoever changed it used the current key.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;

use super::{
    Vault, VaultError,
    audit::{AuditRecord, AuditSink, Operation, Outcome},
    envelope::Binding,
    tokens::TokenName,
};
use crate::{
    clock::{Clock, SystemClock},
    error::{Error, ErrorKind},
    secret::{SecretKey, SecretStore},
};

/// Knows the place that a stored key was sealed for.
///
/// The engine knows the tenants of runs, a host those of its own keys; values of a
/// [`TokenVault`](super::TokenVault) need nobody's knowledge.
#[async_trait]
pub trait Bindings: Debug + Send + Sync + 'static {
    /// The binding of a key that no token vault has made; `None` leaves the value as it is.
    ///
    /// # Errors
    /// It cannot be looked up now; the job ends and can be started again.
    async fn binding(&self, key: &SecretKey) -> Result<Option<Binding>, Error>;
}

/// What a re-seal job did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Keys looked at.
    pub seen: u64,
    /// Values sealed anew.
    pub resealed: u64,
    /// Values that are under the current key already, or under a key that was not asked for.
    pub current: u64,
    /// Values that somebody else changed or erased meanwhile.
    pub changed: u64,
    /// Keys whose place nobody knows.
    pub unknown: Vec<SecretKey>,
    /// Keys whose value cannot be opened; nothing was changed.
    pub unopenable: Vec<SecretKey>,
}

impl Resealed {
    /// Whether no value is left that this job should have moved: the old key may be retired.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unknown.is_empty() && self.unopenable.is_empty()
    }
}

/// The job. Safe to stop at any moment and to start again, also by several at the same time.
///
/// ```
/// use std::sync::Arc;
///
/// use provision_core::{
///     MemoryStore, Secret,
///     vault::{LocalKeys, MemoryAudit, Reseal, TokenName, TokenVault, Vault},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = LocalKeys::new("2025", [1; 32])?;
/// let (store, audit) = (Arc::new(MemoryStore::new()), Arc::new(MemoryAudit::new()));
/// let vault = Vault::new(Arc::new(keys.clone()));
/// let tokens = TokenVault::new("main", store.clone(), vault.clone(), audit.clone());
/// let name = TokenName::new("acme", "crm", "access_token")?;
/// tokens.put(&name, &Secret::new("t0p"), None).await?;
///
/// keys.add("2026", [2; 32])?;
/// keys.promote("2026")?;
/// let report = Reseal::new("main", store, vault, audit).run(Some("2025")).await?;
/// assert_eq!(report.resealed, 1);
/// if report.is_complete() {
///     keys.retire("2025")?;
/// }
/// assert_eq!(tokens.get(&name).await?.unwrap().value.expose(), "t0p");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Reseal {
    namespace: String,
    store: Arc<dyn SecretStore>,
    vault: Vault,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    bindings: Option<Arc<dyn Bindings>>,
}

enum Moved {
    Resealed,
    Current,
    Changed,
    Unknown,
    Unopenable,
}

impl Reseal {
    /// Describes a job over all values of a namespace; values of token vaults are moved.
    #[must_use]
    pub fn new(
        namespace: impl Into<String>,
        store: Arc<dyn SecretStore>,
        vault: Vault,
        audit: Arc<dyn AuditSink>,
    ) -> Self {
        let clock = Arc::new(SystemClock);
        Self { namespace: namespace.into(), store, vault, audit, clock, bindings: None }
    }

    /// Moves the values of runs, too, whose places `bindings` knows.
    #[must_use]
    pub fn with_bindings(mut self, bindings: Arc<dyn Bindings>) -> Self {
        self.bindings = Some(bindings);
        self
    }

    /// Replaces the clock that stamps records.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Seals every value anew that is not under the current key, or, with `from`, that is under
    /// this one.
    ///
    /// # Errors
    /// Store, keys, trail or bindings cannot be reached. What was moved stays moved.
    pub async fn run(&self, from: Option<&str>) -> Result<Resealed, Error> {
        let (mut report, mut after) = (Resealed::default(), None);
        loop {
            let keys = self.store.keys(after.as_ref()).await?;
            for key in &keys {
                report.seen += 1;
                match self.one(key, from).await? {
                    Moved::Resealed => report.resealed += 1,
                    Moved::Current => report.current += 1,
                    Moved::Changed => report.changed += 1,
                    Moved::Unknown => report.unknown.push(key.clone()),
                    Moved::Unopenable => report.unopenable.push(key.clone()),
                }
            }
            match keys.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => return Ok(report),
            }
        }
    }

    async fn one(&self, key: &SecretKey, from: Option<&str>) -> Result<Moved, Error> {
        let Some(old) = self.store.get(key).await? else {
            return Ok(Moved::Changed);
        };
        let current = self.vault.current_key().await?;
        if old.key_id == current || from.is_some_and(|from| from != old.key_id) {
            return Ok(Moved::Current);
        }
        let Some(binding) = self.binding(key).await? else {
            return Ok(Moved::Unknown);
        };
        let value = match self.vault.open(&binding, &old).await {
            Ok(value) => value,
            Err(VaultError::Unopenable) => {
                self.record(key, Outcome::Failed).await?;
                return Ok(Moved::Unopenable);
            }
            Err(error) => return Err(error.into()),
        };
        let label = Vault::label(&old).unwrap_or_default();
        let new = self.vault.seal_labelled(&binding, &value, label).await?;
        self.record(key, Outcome::Begun).await?;
        let replaced = self.store.replace(key, &old, &new).await?;
        let outcome = if replaced { Outcome::Done } else { Outcome::Changed };
        self.record(key, outcome).await?;
        Ok(if replaced { Moved::Resealed } else { Moved::Changed })
    }

    async fn binding(&self, key: &SecretKey) -> Result<Option<Binding>, Error> {
        if let Some(name) = TokenName::of(key) {
            return Ok(Some(Binding::new(self.namespace.as_str(), Some(name.tenant()), key)));
        }
        match &self.bindings {
            Some(bindings) => bindings.binding(key).await,
            None => Ok(None),
        }
    }

    async fn record(&self, key: &SecretKey, outcome: Outcome) -> Result<(), Error> {
        let record = AuditRecord {
            at: self.clock.wall(),
            actor: "reseal".to_owned(),
            operation: Operation::Reseal,
            outcome,
            key: key.clone(),
        };
        self.audit.record(&record).await.map_err(|e| {
            Error::new(ErrorKind::Store, "audit_unavailable", "record secret operation")
                .with_source(e)
        })
    }
}

#[cfg(test)]
#[path = "rotate_tests.rs"]
mod tests;
