//! Tokens of connections: sealed rows of the service's own table, with every use in its trail.

use std::sync::Arc;

use async_trait::async_trait;
use provision_core::{
    Effect, Error, ErrorKind, Secret, StepError, StoreError, Timestamp, Verdict,
    error::StoreErrorKind,
    secret::{Sealed, SecretKey, SecretStore},
    vault::{
        AuditError, AuditRecord, AuditSink, Expiring, KeyProvider, Reseal, Resealed, Token,
        TokenName, TokenVault, Vault,
    },
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::platform::Tokens;

/// What values are bound to, beside their row.
const NAMESPACE: &str = "connectors";
const TOKENS: &str = "tokens";
/// A consent that was not turned into tokens yet.
const CODE: &str = "code";
/// How often a row may be written anew while its tokens are replaced.
const ROTATIONS_MAX: u32 = 8;

/// Sealed values in `connectors.encrypted_secrets`.
#[derive(Debug)]
struct Rows(PgPool);

/// Sealed value, in its columns.
type Columns = (i16, String, Vec<u8>);

fn sealed((format, key_id, bytes): Columns) -> Sealed {
    Sealed { format: u8::try_from(format).unwrap_or(u8::MAX), key_id, bytes }
}

/// Tenant, connection and name of a key; the values of runs are not kept here.
fn place(key: &SecretKey) -> Result<(&str, &str, &str), StoreError> {
    let tenant = key.scope.strip_prefix("vault/").ok_or_else(|| {
        StoreError::new(StoreErrorKind::Invalid, "secret_of_no_tenant", "keep token")
    })?;
    Ok((tenant, &key.path, &key.name))
}

fn unheard(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError::unavailable(operation).with_source(error)
}

#[async_trait]
impl SecretStore for Rows {
    async fn put(&self, key: &SecretKey, value: &Sealed) -> Result<Sealed, StoreError> {
        let (tenant, connection, name) = place(key)?;
        let sql = "INSERT INTO connectors.encrypted_secrets
            (tenant_id, connection_id, name, format, key_id, sealed) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (tenant_id, connection_id, name) DO NOTHING";
        let put = query(sql).bind(tenant).bind(connection).bind(name);
        let put = put.bind(i16::from(value.format)).bind(&value.key_id).bind(&value.bytes);
        put.execute(&self.0).await.map_err(unheard("put token"))?;
        // One that is erased in between is put again by who asked.
        Ok(self.get(key).await?.unwrap_or_else(|| value.clone()))
    }

    async fn replace(
        &self,
        key: &SecretKey,
        old: &Sealed,
        new: &Sealed,
    ) -> Result<bool, StoreError> {
        let (tenant, connection, name) = place(key)?;
        let sql = "UPDATE connectors.encrypted_secrets
            SET format = $4, key_id = $5, sealed = $6, updated_at = now()
            WHERE tenant_id = $1 AND connection_id = $2 AND name = $3
            AND format = $7 AND key_id = $8 AND sealed = $9";
        let swap = query(sql).bind(tenant).bind(connection).bind(name);
        let swap = swap.bind(i16::from(new.format)).bind(&new.key_id).bind(&new.bytes);
        let swap = swap.bind(i16::from(old.format)).bind(&old.key_id).bind(&old.bytes);
        let done = swap.execute(&self.0).await.map_err(unheard("replace token"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn get(&self, key: &SecretKey) -> Result<Option<Sealed>, StoreError> {
        let (tenant, connection, name) = place(key)?;
        let sql = "SELECT format, key_id, sealed FROM connectors.encrypted_secrets
            WHERE tenant_id = $1 AND connection_id = $2 AND name = $3";
        let row = query_as(sql).bind(tenant).bind(connection).bind(name);
        let row: Option<Columns> =
            row.fetch_optional(&self.0).await.map_err(unheard("read token"))?;
        Ok(row.map(sealed))
    }

    async fn keys(&self, after: Option<&SecretKey>) -> Result<Vec<SecretKey>, StoreError> {
        let (tenant, connection, name) = match after {
            Some(key) => place(key)?,
            None => ("", "", ""),
        };
        let sql = "SELECT tenant_id, connection_id, name FROM connectors.encrypted_secrets
            WHERE (tenant_id, name, connection_id) > ($1, $2, $3)
            ORDER BY tenant_id, name, connection_id LIMIT 1000";
        let rows = query_as(sql).bind(tenant).bind(name).bind(connection);
        let rows: Vec<(String, String, String)> =
            rows.fetch_all(&self.0).await.map_err(unheard("list tokens"))?;
        let key = |(tenant, path, name)| SecretKey {
            scope: format!("vault/{tenant}"),
            generation: 0,
            name,
            path,
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn erase(&self, key: &SecretKey) -> Result<(), StoreError> {
        let (tenant, connection, name) = place(key)?;
        let sql = "DELETE FROM connectors.encrypted_secrets
            WHERE tenant_id = $1 AND connection_id = $2 AND name = $3";
        let erase = query(sql).bind(tenant).bind(connection).bind(name);
        erase.execute(&self.0).await.map_err(unheard("erase token")).map(drop)
    }
}

/// The trail in `connectors.connection_audit`.
#[derive(Debug)]
struct Trail(PgPool);

#[async_trait]
impl AuditSink for Trail {
    async fn record(&self, record: &AuditRecord) -> Result<(), AuditError> {
        let (tenant, connection, name) = place(&record.key).map_err(|_| AuditError)?;
        let sql = "INSERT INTO connectors.connection_audit
            (tenant_id, connection_id, actor, action, outcome, secret)
            VALUES ($1, $2, $3, 'secret.' || $4, $5, $6)";
        let entry = query(sql).bind(tenant).bind(connection).bind(&record.actor);
        let entry = entry.bind(record.operation.as_str());
        let entry = entry.bind(format!("{:?}", record.outcome).to_lowercase()).bind(name);
        entry.execute(&self.0).await.map_err(|_| AuditError).map(drop)
    }
}

/// Tokens of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenKeeper {
    tokens: TokenVault,
    vault: Vault,
    reseal: Reseal,
}

/// Both tokens are one value, so that they are always replaced together.
#[derive(Serialize, Deserialize)]
struct Pair {
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
}

/// Tokens as they were read.
#[derive(Debug, Clone)]
pub struct Held {
    /// The tokens.
    pub tokens: Tokens,
    /// When the access token grows old.
    pub expires: Option<Timestamp>,
    /// When they were stored.
    pub stored: Timestamp,
    seen: Token,
}

impl Held {
    /// Whether these are the same tokens, whenever they grow old and were stored.
    #[must_use]
    pub fn is_same_pair(&self, other: &Self) -> bool {
        let refresh = |held: &Self| held.tokens.refresh.as_ref().map(|t| t.expose().to_owned());
        self.tokens.access.expose() == other.tokens.access.expose()
            && refresh(self) == refresh(other)
    }
}

impl TokenKeeper {
    /// Keeps tokens in the service's database, sealed under these keys.
    #[must_use]
    pub fn new(pool: &PgPool, keys: Arc<dyn KeyProvider>) -> Self {
        let vault = Vault::new(keys);
        let (rows, trail) = (Arc::new(Rows(pool.clone())), Arc::new(Trail(pool.clone())));
        let reseal =
            Reseal::new(NAMESPACE, Arc::clone(&rows) as _, vault.clone(), Arc::clone(&trail) as _);
        Self { tokens: TokenVault::new(NAMESPACE, rows, vault.clone(), trail), vault, reseal }
    }

    /// A keeper whose trail names this actor.
    #[must_use]
    pub fn acting_for(&self, actor: &str) -> Self {
        Self { tokens: self.tokens.acting_for(actor), ..self.clone() }
    }

    /// What seals, for values that are no tokens.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// What keeps the rows, for a look from outside.
    #[must_use]
    pub fn token_vault(&self) -> &TokenVault {
        &self.tokens
    }

    /// Seals every token and consent anew that is not under the current key, with an entry in its
    /// trail. It may be stopped at any moment and begun again.
    ///
    /// # Errors
    /// Database or keys do not answer; what was sealed anew stays so.
    pub async fn reseal(&self) -> Result<Resealed, Error> {
        self.reseal.run(None).await
    }

    /// Keeps a consent until it is turned into tokens.
    ///
    /// # Errors
    /// It cannot be sealed or stored.
    pub async fn put_code(
        &self,
        (tenant, connection): (&str, Uuid),
        code: &Secret,
        expires: Timestamp,
    ) -> Result<(), Error> {
        self.tokens.put(&name(tenant, connection, CODE)?, code, Some(expires)).await
    }

    /// Reads a consent.
    ///
    /// # Errors
    /// It cannot be read or opened.
    pub async fn code(&self, tenant: &str, connection: Uuid) -> Result<Option<Secret>, Error> {
        let code = self.tokens.get(&name(tenant, connection, CODE)?).await?;
        Ok(code.map(|code| code.value))
    }

    /// Erases a consent.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_code(&self, tenant: &str, connection: Uuid) -> Result<(), Error> {
        self.tokens.delete(&name(tenant, connection, CODE)?).await
    }

    /// Stores the tokens of a connection, whether or not there are some.
    ///
    /// # Errors
    /// They cannot be sealed or stored.
    pub async fn put(
        &self,
        (tenant, connection): (&str, Uuid),
        tokens: &Tokens,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (value, expires) = (pair(tokens)?, expires(tokens, now));
        self.tokens.put(&name(tenant, connection, TOKENS)?, &value, expires).await
    }

    /// Reads the tokens of a connection.
    ///
    /// # Errors
    /// They cannot be read or opened.
    pub async fn read(&self, tenant: &str, connection: Uuid) -> Result<Option<Held>, Error> {
        let Some(seen) = self.tokens.get(&name(tenant, connection, TOKENS)?).await? else {
            return Ok(None);
        };
        let pair: Pair = serde_json::from_str(seen.value.expose()).map_err(|_holds_tokens| {
            Error::new(ErrorKind::Secret, "token_shape", "read tokens")
                .with_hint("the row was written by another program: connect again")
        })?;
        let refresh = pair.refresh.map(Secret::new);
        let tokens = Tokens { access: Secret::new(pair.access), refresh, lifetime: None };
        Ok(Some(Held { tokens, expires: seen.expires, stored: seen.stored, seen }))
    }

    /// Replaces exactly the tokens that were read, also where their row was written anew with the
    /// same ones. `false`: somebody else has replaced them.
    ///
    /// # Errors
    /// They cannot be sealed or stored: whether they are is not known then.
    pub async fn rotate(
        &self,
        (tenant, connection): (&str, Uuid),
        held: &Held,
        fresh: &Tokens,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (name, value) = (name(tenant, connection, TOKENS)?, pair(fresh)?);
        let mut seen = held.seen.clone();
        for _ in 0..ROTATIONS_MAX {
            match self.tokens.rotate(&name, &seen, &value, expires(fresh, now)).await {
                Ok(()) => return Ok(true),
                Err(error) if error.code() == "token_changed" => {}
                Err(error) => return Err(error),
            }
            // Whoever found them refused meanwhile has marked them as old: they are the same.
            match self.read(tenant, connection).await? {
                Some(now) if now.is_same_pair(held) => seen = now.seen,
                _ => return Ok(false),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "token_changed", "rotate token")
            .with_hint("its row is written anew all the time: look at who does"))
    }

    /// Marks tokens that a platform has refused as old, so that the next use refreshes them.
    ///
    /// # Errors
    /// As [`Self::rotate`].
    pub async fn expire(
        &self,
        (tenant, connection): (&str, Uuid),
        held: &Held,
        now: Timestamp,
    ) -> Result<(), Error> {
        let old = Tokens { lifetime: Some(std::time::Duration::ZERO), ..held.tokens.clone() };
        self.rotate((tenant, connection), held, &old, now).await.map(drop)
    }

    /// Erases everything of a connection.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget(&self, tenant: &str, connection: Uuid) -> Result<(), Error> {
        self.forget_code(tenant, connection).await?;
        self.tokens.delete(&name(tenant, connection, TOKENS)?).await
    }

    /// Tokens that stop working within this time, and consents that do.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn expiring_within(
        &self,
        window: std::time::Duration,
    ) -> Result<Vec<Expiring>, Error> {
        self.tokens.expiring_within(window).await
    }
}

/// Whether a value is a consent, which is never refreshed.
#[must_use]
pub fn is_code(name: &TokenName) -> bool {
    name.name() == CODE
}

fn name(tenant: &str, connection: Uuid, name: &str) -> Result<TokenName, Error> {
    TokenName::new(tenant, &connection.to_string(), name)
}

fn pair(tokens: &Tokens) -> Result<Secret, Error> {
    let pair = Pair {
        access: tokens.access.expose().to_owned(),
        refresh: tokens.refresh.as_ref().map(|token| token.expose().to_owned()),
    };
    let text = serde_json::to_string(&pair)
        .map_err(|_| Error::new(ErrorKind::Secret, "token_shape", "write tokens"))?;
    Ok(Secret::new(text))
}

fn expires(tokens: &Tokens, now: Timestamp) -> Option<Timestamp> {
    tokens.lifetime.map(|lifetime| now.plus(lifetime))
}

/// What trouble of vault or engine means for a step: what may pass is repeated, the rest is for a
/// person.
pub fn stuck(operation: &'static str) -> impl Fn(Error) -> StepError {
    move |error| {
        let passes = matches!(error.kind(), ErrorKind::Store | ErrorKind::Provider);
        let verdict = if passes { Verdict::Retry { after: None } } else { Verdict::Operator };
        let told = StepError::new(Effect::None, verdict, operation).with_code(error.code());
        let told = match error.hint() {
            Some(hint) => told.with_hint(hint.to_owned()),
            None => told,
        };
        told.with_source(error)
    }
}
