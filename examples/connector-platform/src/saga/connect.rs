//! Connecting: a consent becomes tokens, tokens an account, an account a connection. Tearing the run
//! down disconnects.

use std::sync::Arc;

use provision_core::{
    Compensator, NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, Timestamp,
    Undo, Verdict, limit::Profile,
};
use serde::{Deserialize, Serialize};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    platform::{Access, Account, Grant, Tokens},
    shared::{Shared, Who, profile, unread},
    vault::stuck,
};

/// Name and version; runs are stored under them.
pub const CONNECT: SagaId<Consent, Connection> = SagaId::new("connect-account", 1);

/// Input: who has consented to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The connection to be.
    pub who: Who,
    /// The user who has consented.
    pub user: String,
    /// Where the platform sent the user back to.
    pub redirect_uri: String,
}

/// Output: what can be published by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The connection.
    pub who: Who,
    /// The account it publishes by.
    pub account: Account,
}

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn connecting(shared: &Arc<Shared>) -> Result<Saga<Consent, Connection>, SagaError> {
    let policy = &shared.settings.policy;
    Saga::define(CONNECT, |s| {
        let exchange = s
            .step("exchange", Exchange(Arc::clone(shared)), Revoke(Arc::clone(shared)))
            .retry(policy.clone())
            .input((), |consent, ()| consent.clone());
        let account = s
            .step("account", ChooseAccount(Arc::clone(shared)), NothingToUndo)
            .retry(policy.clone())
            .after(exchange)
            .input((), |consent, ()| consent.who.clone());
        s.step("record", Record(Arc::clone(shared)), Disconnect(Arc::clone(shared)))
            .retry(policy.clone())
            .input(account, |consent, account| (consent.clone(), account))
    })
}

/// What may be called before the connection has a row of its own.
async fn first_limit(shared: &Shared, who: &Who) -> Result<Profile, StepError> {
    let sql = "SELECT calls, per_seconds, burst, concurrency FROM connectors.connector_platforms
        WHERE platform = $1";
    let row = query_as(sql).bind(who.platform.as_str()).fetch_optional(shared.pool()).await;
    let rates: Option<(i32, i32, i32, i32)> = row.map_err(unread("read platform"))?;
    let rates = rates.ok_or_else(|| {
        StepError::permanent("read platform")
            .with_code("platform_not_seeded")
            .with_hint("run `connector-platform seed`")
    })?;
    Ok(profile(bucket(who), rates))
}

fn bucket(who: &Who) -> String {
    format!("{}/{}", who.platform, who.connection)
}

struct Exchange(Arc<Shared>);

impl Step for Exchange {
    const KIND: &'static str = "connectors.exchange_consent";
    type Input = Consent;
    type Output = ();

    async fn run(&self, cx: &StepContext, consent: Consent) -> Result<(), StepError> {
        let (shared, who) = (&self.0, &consent.who);
        let place = (&*who.tenant, who.connection);
        let held = shared.tokens.read(place.0, place.1).await.map_err(stuck("read tokens"))?;
        // An earlier attempt may have come so far: a consent is good for one use.
        if held.is_none() {
            let code = shared.tokens.code(place.0, place.1).await.map_err(stuck("read consent"))?;
            let code = code.ok_or_else(|| {
                StepError::permanent("read consent")
                    .with_code("consent_gone")
                    .with_hint("the consent was not used in time: the user connects again")
            })?;
            let grant = Grant { code, redirect_uri: consent.redirect_uri };
            let limit = first_limit(shared, who).await?;
            let platform = shared.platforms.get(who.platform)?;
            match platform.authenticate(cx, &limit, &grant).await {
                Ok(tokens) => {
                    let stored = shared.tokens.put(place, &tokens, cx.now()).await;
                    stored.map_err(stuck("store tokens"))?;
                }
                Err(error) => {
                    // Nobody can use it any more. What is only tried again later stays.
                    if *error.verdict() == Verdict::Permanent {
                        let gone = shared.tokens.forget_code(place.0, place.1).await;
                        gone.map_err(stuck("forget consent"))?;
                    }
                    return Err(error);
                }
            }
        }
        shared.tokens.forget_code(place.0, place.1).await.map_err(stuck("forget consent"))
    }
}

struct Revoke(Arc<Shared>);

impl Compensator<Exchange> for Revoke {
    async fn compensate(
        &self,
        cx: &StepContext,
        consent: Consent,
        _: Undo<()>,
    ) -> Result<(), StepError> {
        let (shared, who) = (&self.0, &consent.who);
        let (connection, is_shared) = match whose(cx, shared, who).await? {
            Whose::Own { connection, is_shared } => (connection, is_shared),
            // The tokens are those of whoever has taken the connection over.
            Whose::AnotherRun => return Ok(()),
        };
        let held = shared.tokens.read(&who.tenant, connection).await;
        let held = held.map_err(stuck("read tokens"))?;
        // Some platforms end the whole grant with a token, and another connection lives on it.
        if let Some(held) = held.filter(|_| !is_shared) {
            let limit = first_limit(shared, who).await?;
            shared.platforms.get(who.platform)?.revoke(cx, &limit, &held.tokens).await?;
        }
        shared.tokens.forget(&who.tenant, connection).await.map_err(stuck("forget tokens"))
    }
}

/// Under which connection the tokens of a run stand.
enum Whose {
    Own { connection: Uuid, is_shared: bool },
    AnotherRun,
}

/// A connection belongs to the run that has written its row last.
async fn whose(cx: &StepContext, shared: &Shared, who: &Who) -> Result<Whose, StepError> {
    const OPERATION: &str = "find own connection";
    let sql = "SELECT c.id, c.run_id = $1, EXISTS (
            SELECT 1 FROM connectors.connections AS other
            WHERE other.platform = c.platform AND other.account_id = c.account_id
            AND other.id <> c.id AND other.state <> 'disconnected'
        )
        FROM connectors.connections AS c WHERE c.run_id = $1 OR c.id = $2
        ORDER BY c.run_id = $1 DESC LIMIT 1";
    let row = query_as(sql).bind(cx.run_id().as_uuid()).bind(who.connection);
    let row: Option<(Uuid, bool, bool)> =
        row.fetch_optional(shared.pool()).await.map_err(unread(OPERATION))?;
    Ok(match row {
        Some((_, false, _)) => Whose::AnotherRun,
        Some((connection, true, is_shared)) => Whose::Own { connection, is_shared },
        None => Whose::Own { connection: who.connection, is_shared: false },
    })
}

struct ChooseAccount(Arc<Shared>);

impl Step for ChooseAccount {
    const KIND: &'static str = "connectors.choose_account";
    type Input = Who;
    type Output = Account;

    async fn run(&self, cx: &StepContext, who: Who) -> Result<Account, StepError> {
        let shared = &self.0;
        let (held, limit) = (shared.held(&who).await?, first_limit(shared, &who).await?);
        let access = Access { token: held.tokens.access, account: String::new(), limit };
        let accounts = shared.platforms.get(who.platform)?.fetch_accounts(cx, &access).await?;
        // Platforms list what the user has chosen while consenting first.
        accounts.into_iter().next().ok_or_else(|| {
            StepError::permanent("choose account")
                .with_code("no_account")
                .with_hint("the user may publish by no account of this platform")
        })
    }
}

struct Record(Arc<Shared>);

impl Step for Record {
    const KIND: &'static str = "connectors.record_connection";
    type Input = (Consent, Account);
    type Output = Connection;

    async fn run(
        &self,
        cx: &StepContext,
        (consent, account): (Consent, Account),
    ) -> Result<Connection, StepError> {
        let who = &consent.who;
        // A tenant has an account once: who connects it again mends the connection that is there.
        let sql = "SELECT id FROM connectors.connections WHERE tenant_id = $1 AND platform = $2
            AND account_id = $3 AND state <> 'disconnected'";
        let row = query_scalar(sql).bind(&who.tenant).bind(who.platform.as_str());
        let row = row.bind(&account.id).fetch_optional(self.0.pool()).await;
        let there: Option<Uuid> = row.map_err(unread("look for account"))?;
        let connection = match there.filter(|there| *there != who.connection) {
            Some(there) => {
                self.take_over(cx, (&consent, &account), there).await?;
                there
            }
            None => {
                self.add(cx, &consent, &account).await?;
                who.connection
            }
        };
        Ok(Connection { who: Who { connection, ..consent.who }, account })
    }
}

impl Record {
    async fn add(
        &self,
        cx: &StepContext,
        consent: &Consent,
        account: &Account,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "record connection";
        let (shared, who) = (&self.0, &consent.who);
        let held = shared.held(who).await?;
        let mut tx = shared.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "INSERT INTO connectors.connections
            (id, tenant_id, user_id, platform, state, account_id, account_name, token_expires_at,
                run_id)
            VALUES ($1, $2, $3, $4, 'connected', $5, $6, to_timestamp($7::bigint / 1000.0), $8)
            ON CONFLICT (id) DO NOTHING";
        let row = query(sql).bind(who.connection).bind(&who.tenant).bind(&consent.user);
        let row = row.bind(who.platform.as_str()).bind(&account.id).bind(&account.name);
        let row = row.bind(millis(held.expires)).bind(cx.run_id().as_uuid());
        let fresh = match row.execute(&mut *tx).await {
            Err(error) if is_taken(&error) => return Err(taken(OPERATION)),
            done => done.map_err(unread(OPERATION))?.rows_affected() == 1,
        };
        if fresh {
            let sql = "INSERT INTO connectors.rate_limit_buckets
                SELECT $1, $2, $3, p.calls, p.per_seconds, p.burst, p.concurrency
                FROM connectors.connector_platforms AS p WHERE p.platform = $4";
            let row = query(sql).bind(who.connection).bind(&who.tenant).bind(bucket(who));
            let row = row.bind(who.platform.as_str());
            row.execute(&mut *tx).await.map_err(unread(OPERATION))?;
            audit(&mut tx, who, (&consent.user, "connection.connected")).await?;
        }
        tx.commit().await.map_err(unread(OPERATION))
    }

    /// Gives a connection that is there the new tokens. Whoever dies on the way does it again: the
    /// tokens stand under their first name until the row says that they are used.
    async fn take_over(
        &self,
        cx: &StepContext,
        (consent, account): (&Consent, &Account),
        connection: Uuid,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "take connection over";
        let (shared, who) = (&self.0, Who { connection, ..consent.who.clone() });
        let (first, place) = (consent.who.connection, (&*who.tenant, connection));
        let new = shared.tokens.read(&who.tenant, first).await.map_err(stuck("read tokens"))?;
        if let Some(new) = new {
            let lifetime = new.expires.map(|at| at.since(cx.now()));
            let tokens = Tokens { lifetime, ..new.tokens };
            let stored = shared.tokens.put(place, &tokens, cx.now()).await;
            stored.map_err(stuck("store tokens"))?;
        }
        let expires = millis(shared.held(&who).await?.expires);
        let run = cx.run_id().as_uuid();
        let mut tx = shared.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "SELECT run_id FROM connectors.connections
            WHERE id = $1 AND state <> 'disconnected' FOR UPDATE";
        let row = query_scalar(sql).bind(connection).fetch_optional(&mut *tx).await;
        let of: Option<Uuid> = row.map_err(unread(OPERATION))?;
        let Some(of) = of else {
            // It was disconnected just now, and its tokens with it: the next attempt adds a row.
            drop(tx);
            let gone = shared.tokens.forget(&who.tenant, connection).await;
            gone.map_err(stuck("forget tokens"))?;
            return Err(StepError::retry(OPERATION).with_code("disconnected_meanwhile"));
        };
        let sql = "UPDATE connectors.connections
            SET state = 'connected', trouble = NULL, user_id = $2, account_name = $3,
                token_expires_at = to_timestamp($4::bigint / 1000.0), run_id = $5,
                updated_at = now()
            WHERE id = $1";
        let row = query(sql).bind(connection).bind(&consent.user).bind(&account.name);
        let row = row.bind(expires).bind(run).execute(&mut *tx).await;
        row.map_err(unread(OPERATION))?;
        if of != *run {
            audit(&mut tx, &who, (&consent.user, "connection.reconnected")).await?;
        }
        tx.commit().await.map_err(unread(OPERATION))?;
        shared.tokens.forget(&who.tenant, first).await.map_err(stuck("forget tokens"))
    }
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.and_then(|at| i64::try_from(at.as_millis()).ok())
}

/// Another connection of this tenant has the account.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// Somebody else has connected the account at the same moment: the next attempt takes it over.
fn taken(operation: &'static str) -> StepError {
    StepError::retry(operation).with_code("account_connected_meanwhile")
}

struct Disconnect(Arc<Shared>);

impl Compensator<Record> for Disconnect {
    async fn compensate(
        &self,
        cx: &StepContext,
        (consent, _): (Consent, Account),
        _: Undo<Connection>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "disconnect";
        let mut tx = self.0.pool().begin().await.map_err(unread(OPERATION))?;
        // What another run has taken over is not this one's to end.
        let sql = "UPDATE connectors.connections
            SET state = 'disconnected', trouble = NULL, updated_at = now()
            WHERE run_id = $1 AND state <> 'disconnected' RETURNING id";
        let row = query_scalar(sql).bind(cx.run_id().as_uuid()).fetch_optional(&mut *tx).await;
        let ended: Option<Uuid> = row.map_err(unread(OPERATION))?;
        if let Some(connection) = ended {
            let who = Who { connection, ..consent.who };
            audit(&mut tx, &who, ("worker", "connection.disconnected")).await?;
        }
        tx.commit().await.map_err(unread(OPERATION))
    }
}

pub(super) async fn audit(
    tx: &mut sqlx::PgConnection,
    who: &Who,
    (actor, action): (&str, &str),
) -> Result<(), StepError> {
    let sql = "INSERT INTO connectors.connection_audit
        (tenant_id, connection_id, actor, action, outcome) VALUES ($1, $2, $3, $4, 'done')";
    let entry = query(sql).bind(&who.tenant).bind(who.connection.to_string());
    let entry = entry.bind(actor).bind(action);
    entry.execute(tx).await.map_err(unread("write trail")).map(drop)
}
