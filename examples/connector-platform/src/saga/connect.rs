//! Connecting: a consent becomes tokens, tokens an account, an account a connection. Tearing the run
//! down disconnects.

use std::sync::Arc;

use provision_core::{
    Compensator, NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, Undo,
    Verdict, limit::Profile,
};
use serde::{Deserialize, Serialize};
use sqlx::{query, query_as};

use crate::{
    platform::{Access, Account, Grant},
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
        let held = shared.tokens.read(&who.tenant, who.connection).await;
        if let Some(held) = held.map_err(stuck("read tokens"))? {
            let limit = first_limit(shared, who).await?;
            shared.platforms.get(who.platform)?.revoke(cx, &limit, &held.tokens).await?;
        }
        shared.tokens.forget(&who.tenant, who.connection).await.map_err(stuck("forget tokens"))
    }
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
        const OPERATION: &str = "record connection";
        let (shared, who) = (&self.0, consent.who);
        let limit = first_limit(shared, &who).await?;
        let held = shared.held(&who).await?;
        let expires = held.expires.and_then(|at| i64::try_from(at.as_millis()).ok());
        let mut tx = shared.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "INSERT INTO connectors.connections
            (id, tenant_id, user_id, platform, state, account_id, account_name, token_expires_at,
                run_id)
            VALUES ($1, $2, $3, $4, 'connected', $5, $6, to_timestamp($7::bigint / 1000.0), $8)
            ON CONFLICT (id) DO NOTHING";
        let row = query(sql).bind(who.connection).bind(&who.tenant).bind(&consent.user);
        let row = row.bind(who.platform.as_str()).bind(&account.id).bind(&account.name);
        let row = row.bind(expires).bind(cx.run_id().as_uuid());
        let fresh = match row.execute(&mut *tx).await {
            Err(error) if is_taken(&error) => return Err(taken(OPERATION)),
            done => done.map_err(unread(OPERATION))?.rows_affected() == 1,
        };
        if fresh {
            let rate = limit.rate.as_ref();
            let number =
                |number: Option<u32>| number.and_then(|n| i32::try_from(n).ok()).unwrap_or(1);
            let sql = "INSERT INTO connectors.rate_limit_buckets
                SELECT $1, $2, $3, p.calls, p.per_seconds, p.burst, p.concurrency
                FROM connectors.connector_platforms AS p WHERE p.platform = $4 AND p.calls = $5";
            let row = query(sql).bind(who.connection).bind(&who.tenant).bind(&limit.bucket);
            let row = row.bind(who.platform.as_str()).bind(number(rate.map(|rate| rate.calls)));
            row.execute(&mut *tx).await.map_err(unread(OPERATION))?;
            audit(&mut tx, &who, "connection.connected").await?;
        }
        tx.commit().await.map_err(unread(OPERATION))?;
        Ok(Connection { who, account })
    }
}

/// Another connection of this tenant has the account.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

fn taken(operation: &'static str) -> StepError {
    StepError::permanent(operation)
        .with_code("account_connected_already")
        .with_hint("this tenant publishes by this account already: disconnect the other one first")
}

struct Disconnect(Arc<Shared>);

impl Compensator<Record> for Disconnect {
    async fn compensate(
        &self,
        _: &StepContext,
        (consent, _): (Consent, Account),
        _: Undo<Connection>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "disconnect";
        let mut tx = self.0.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "UPDATE connectors.connections
            SET state = 'disconnected', trouble = NULL, updated_at = now()
            WHERE id = $1 AND state <> 'disconnected'";
        let row = query(sql).bind(consent.who.connection).execute(&mut *tx).await;
        if row.map_err(unread(OPERATION))?.rows_affected() == 1 {
            audit(&mut tx, &consent.who, "connection.disconnected").await?;
        }
        tx.commit().await.map_err(unread(OPERATION))
    }
}

pub(super) async fn audit(
    tx: &mut sqlx::PgConnection,
    who: &Who,
    action: &str,
) -> Result<(), StepError> {
    let sql = "INSERT INTO connectors.connection_audit
        (tenant_id, connection_id, actor, action, outcome) VALUES ($1, $2, 'worker', $3, 'done')";
    let entry = query(sql).bind(&who.tenant).bind(who.connection.to_string()).bind(action);
    entry.execute(tx).await.map_err(unread("write trail")).map(drop)
}
