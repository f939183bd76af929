//! The host's own secrets, by tenant, connection and name.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Vault,
    audit::{AuditRecord, AuditSink, Operation, Outcome},
    envelope::Binding,
};
use crate::{
    clock::{Clock, SystemClock},
    error::{Error, ErrorKind},
    id::Timestamp,
    metric,
    secret::{Sealed, Secret, SecretKey, SecretStore},
};

/// Most pages one look for expiring values reads: 10,000, so ten million keys.
const MOST_PAGES: usize = 10_000;
/// How often a put starts anew because somebody else put at the same time.
const MOST_RACES: usize = 16;

/// Names one value of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName {
    tenant: String,
    connection: String,
    name: String,
}

impl TokenName {
    /// Names a value, such as `("acme", "instagram", "access_token")`.
    ///
    /// # Errors
    /// Kind `Invalid`: a part is empty, longer than 200 bytes, or holds `|` or a control
    /// character.
    pub fn new(tenant: &str, connection: &str, name: &str) -> Result<Self, Error> {
        for part in [tenant, connection, name] {
            let fits = !part.is_empty() && part.len() <= 200;
            if !fits || part.chars().any(|c| c == '|' || c.is_control()) {
                return Err(Error::new(ErrorKind::Invalid, "token_name_invalid", "name token")
                    .with_hint("1 to 200 bytes each, without `|` and control characters"));
            }
        }
        Ok(Self { tenant: tenant.into(), connection: connection.into(), name: name.into() })
    }

    /// The tenant it belongs to.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The connection it belongs to.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// The name within the connection.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key under which the store keeps it.
    #[must_use]
    pub fn key(&self) -> SecretKey {
        SecretKey {
            scope: format!("vault/{}", self.tenant),
            generation: 0,
            name: self.name.clone(),
            path: self.connection.clone(),
        }
    }

    /// The name of a stored key; `None` for the values of runs.
    #[must_use]
    pub fn of(key: &SecretKey) -> Option<Self> {
        let tenant = key.scope.strip_prefix("vault/")?;
        Self::new(tenant, &key.path, &key.name).ok()
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.connection, self.name)
    }
}

/// A value as it was read.
#[derive(Debug, Clone)]
pub struct Token {
    /// The value.
    pub value: Secret,
    /// When it stops working, if that is known.
    pub expires: Option<Timestamp>,
    /// When it was stored.
    pub stored: Timestamp,
    sealed: Sealed,
}

/// A value that stops working soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// Its name.
    pub name: TokenName,
    /// When it stops working.
    pub expires: Timestamp,
}

/// Keeps values sealed in a [`SecretStore`], with expiry and a trail. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenVault {
    store: Arc<dyn SecretStore>,
    vault: Vault,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    namespace: String,
    actor: String,
}

impl TokenVault {
    /// Opens a vault over a store, for one namespace.
    #[must_use]
    pub fn new(
        namespace: impl Into<String>,
        store: Arc<dyn SecretStore>,
        vault: Vault,
        audit: Arc<dyn AuditSink>,
    ) -> Self {
        let clock = Arc::new(SystemClock);
        Self { store, vault, audit, clock, namespace: namespace.into(), actor: "system".into() }
    }

    /// Replaces the clock that stamps values and records.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A handle whose records name this caller; `system` by default.
    #[must_use]
    pub fn acting_for(&self, actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// Stores a value, whether or not there is one.
    ///
    /// Safe to repeat. After a crash either the old or the new value is there, whole.
    ///
    /// # Errors
    /// The value cannot be sealed, or store or trail cannot be reached: whether it is stored is
    /// not known then.
    pub async fn put(
        &self,
        name: &TokenName,
        value: &Secret,
        expires: Option<Timestamp>,
    ) -> Result<(), Error> {
        let key = name.key();
        self.record(&key, Operation::Put, Outcome::Begun).await?;
        let done = self.put_inner(name, value, expires).await;
        let outcome = if done.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.record(&key, Operation::Put, outcome).await?;
        done
    }

    async fn put_inner(
        &self,
        name: &TokenName,
        value: &Secret,
        expires: Option<Timestamp>,
    ) -> Result<(), Error> {
        let (key, sealed) = (name.key(), self.seal(name, value, expires).await?);
        for _ in 0..MOST_RACES {
            let held = self.store.put(&key, &sealed).await?;
            if held == sealed || self.store.replace(&key, &held, &sealed).await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, "token_contended", "put token")
            .with_context(name.to_string()))
    }

    /// Reads a value; `None` if there is none.
    ///
    /// The value is handed out only after the trail has taken the record.
    ///
    /// # Errors
    /// Store, keys or trail cannot be reached, or the value cannot be opened.
    pub async fn get(&self, name: &TokenName) -> Result<Option<Token>, Error> {
        let read = self.get_inner(name).await;
        let outcome = match &read {
            Ok(Some(_)) => Outcome::Done,
            Ok(None) => Outcome::Absent,
            Err(_) => Outcome::Failed,
        };
        self.record(&name.key(), Operation::Get, outcome).await?;
        read
    }

    async fn get_inner(&self, name: &TokenName) -> Result<Option<Token>, Error> {
        let Some(sealed) = self.store.get(&name.key()).await? else {
            return Ok(None);
        };
        let value = self.vault.open(&self.binding(name), &sealed).await?;
        // Opening has proved the label, too.
        let label = Vault::label(&sealed).and_then(Label::read).unwrap_or_default();
        Ok(Some(Token { value, expires: label.expires(), stored: label.stored(), sealed }))
    }

    /// Replaces exactly the value that was read, so that of two refreshes at the same time only
    /// one is kept.
    ///
    /// # Errors
    /// Kind `Conflict`, code `token_changed`: the value is not that one any more, and nothing was
    /// done. Else as [`Self::put`].
    pub async fn rotate(
        &self,
        name: &TokenName,
        seen: &Token,
        value: &Secret,
        expires: Option<Timestamp>,
    ) -> Result<(), Error> {
        let key = name.key();
        self.record(&key, Operation::Rotate, Outcome::Begun).await?;
        let done = match self.seal(name, value, expires).await {
            Ok(sealed) => {
                self.store.replace(&key, &seen.sealed, &sealed).await.map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        let outcome = match &done {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Changed,
            Err(_) => Outcome::Failed,
        };
        self.record(&key, Operation::Rotate, outcome).await?;
        if done? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "token_changed", "rotate token")
            .with_context(name.to_string())
            .with_hint("read it again: somebody else has replaced or deleted it"))
    }

    /// Erases a value; an absent one is erased already.
    ///
    /// # Errors
    /// Store or trail cannot be reached: whether it is erased is not known then.
    pub async fn delete(&self, name: &TokenName) -> Result<(), Error> {
        let key = name.key();
        self.record(&key, Operation::Delete, Outcome::Begun).await?;
        let done = self.store.erase(&key).await;
        let outcome = if done.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.record(&key, Operation::Delete, outcome).await?;
        done.map_err(Error::from)
    }

    /// Lists the values that stop working within `window`, or have stopped, soonest first.
    ///
    /// Reads every key, in pages, and opens none: no record is left.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn expiring_within(&self, window: Duration) -> Result<Vec<Expiring>, Error> {
        let limit = self.clock.wall().plus(window);
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let keys = self.store.keys(after.as_ref()).await?;
            for key in &keys {
                found.extend(self.expiry(key).await?.filter(|e| e.expires <= limit));
            }
            match keys.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let soon = u32::try_from(found.len()).unwrap_or(u32::MAX);
        metric::gauge(metric::TOKEN_EXPIRING_SOON, soon, &[]);
        found.sort_by(|a, b| (a.expires, &a.name).cmp(&(b.expires, &b.name)));
        Ok(found)
    }

    async fn expiry(&self, key: &SecretKey) -> Result<Option<Expiring>, Error> {
        let Some(name) = TokenName::of(key) else {
            return Ok(None);
        };
        let sealed = self.store.get(key).await?;
        let label = sealed.as_ref().and_then(Vault::label).and_then(Label::read);
        let expires = label.and_then(|label| label.expires());
        Ok(expires.map(|expires| Expiring { name, expires }))
    }

    fn binding(&self, name: &TokenName) -> Binding {
        Binding::new(self.namespace.as_str(), Some(name.tenant()), &name.key())
    }

    async fn seal(
        &self,
        name: &TokenName,
        value: &Secret,
        expires: Option<Timestamp>,
    ) -> Result<Sealed, Error> {
        let label = Label::new(self.clock.wall(), expires).write();
        Ok(self.vault.seal_labelled(&self.binding(name), value, &label).await?)
    }

    async fn record(
        &self,
        key: &SecretKey,
        operation: Operation,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let (at, actor) = (self.clock.wall(), self.actor.clone());
        let record = AuditRecord { at, actor, operation, outcome, key: key.clone() };
        self.audit.record(&record).await.map_err(|e| {
            Error::new(ErrorKind::Store, "audit_unavailable", "record secret operation")
                .with_source(e)
        })
    }
}

/// What stays readable beside a sealed token: when it was stored, and when it expires.
#[derive(Debug, Clone, Copy, Default)]
struct Label {
    stored: u64,
    /// 0 means "not known".
    expires: u64,
}

impl Label {
    fn new(stored: Timestamp, expires: Option<Timestamp>) -> Self {
        let expires = expires.map_or(0, |e| e.as_millis().max(1));
        Self { stored: stored.as_millis(), expires }
    }

    fn write(self) -> Vec<u8> {
        [self.stored.to_be_bytes(), self.expires.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (stored, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let label =
            Self { stored: u64::from_be_bytes(*stored), expires: u64::from_be_bytes(*expires) };
        rest.is_empty().then_some(label)
    }

    fn stored(self) -> Timestamp {
        Timestamp::from_millis(self.stored)
    }

    fn expires(self) -> Option<Timestamp> {
        (self.expires > 0).then(|| Timestamp::from_millis(self.expires))
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
