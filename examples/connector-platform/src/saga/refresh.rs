//! Refreshing: one run at a time for each connection, and the new tokens are stored before anybody
//! uses them.

use std::sync::Arc;

use provision_core::{
    NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, Timestamp, Verdict,
    limit::Profile,
};
use serde::{Deserialize, Serialize};
use sqlx::{query, query_scalar};

use super::connect::audit;
use crate::{
    shared::{Shared, Who, is_old, unread},
    vault::stuck,
};

/// Name and version; runs are stored under them.
pub const REFRESH: SagaId<Who, Refreshed> = SagaId::new("refresh-tokens", 1);

/// Output: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refreshed {
    /// New tokens are stored.
    Now,
    /// They were new already.
    Before,
}

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn refreshing(shared: &Arc<Shared>) -> Result<Saga<Who, Refreshed>, SagaError> {
    Saga::define(REFRESH, |s| {
        s.step("refresh", Refresh(Arc::clone(shared)), NothingToUndo)
            .retry(shared.settings.policy.clone())
            .input((), |who, ()| who.clone())
    })
}

/// Asks for new tokens and stores them. Who dies in between asks again by the old ones: a platform
/// ends those when the new ones are first used, and nobody uses what is not stored.
struct Refresh(Arc<Shared>);

impl Step for Refresh {
    const KIND: &'static str = "connectors.refresh_tokens";
    type Input = Who;
    type Output = Refreshed;

    async fn run(&self, cx: &StepContext, who: Who) -> Result<Refreshed, StepError> {
        let shared = &self.0;
        if !self.is_connected(&who).await? {
            return Ok(Refreshed::Before);
        }
        let held = shared.held(&who).await?;
        if !is_old(&held, cx.now(), shared.settings.refresh_margin) {
            // Who stored them may have died before it could say so.
            self.told(&who, held.expires).await?;
            return Ok(Refreshed::Before);
        }
        // A bucket of its own: that of the token is paused for as long as this takes.
        let bucket = format!("{}/{}/refresh", who.platform, who.connection);
        let limit = Profile { bucket, rate: None, concurrency: Some(1.into()) };
        let platform = shared.platforms.get(who.platform)?;
        let fresh = match platform.refresh_token(cx, &limit, &held.tokens).await {
            Ok(fresh) => fresh,
            // Asking again cannot help: the user has to consent anew.
            Err(error) if *error.verdict() == Verdict::Permanent => {
                let stands = shared.tokens_refused(&who, &held, "refresh_refused").await?;
                return if stands { Err(error) } else { Ok(Refreshed::Before) };
            }
            Err(error) => return Err(error),
        };
        let place = (&*who.tenant, who.connection);
        let kept = shared.tokens.rotate(place, &held, &fresh, cx.now()).await;
        if kept.map_err(stuck("store tokens"))? {
            let expires = fresh.lifetime.map(|lifetime| cx.now().plus(lifetime));
            self.told(&who, expires).await?;
            return Ok(Refreshed::Now);
        }
        let now = shared.tokens.read(place.0, place.1).await.map_err(stuck("read tokens"))?;
        if now.is_none() {
            // The user has disconnected meanwhile: nobody keeps these, and nobody shall use them.
            platform.revoke(cx, &limit, &fresh).await?;
        }
        Ok(Refreshed::Before)
    }
}

impl Refresh {
    async fn is_connected(&self, who: &Who) -> Result<bool, StepError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM connectors.connections
            WHERE id = $1 AND tenant_id = $2 AND state = 'connected')";
        let row = query_scalar(sql).bind(who.connection).bind(&who.tenant);
        row.fetch_one(self.0.pool()).await.map_err(unread("read connection"))
    }

    /// Writes when the stored tokens grow old, and a line of the trail, where that is not said yet.
    async fn told(&self, who: &Who, expires: Option<Timestamp>) -> Result<(), StepError> {
        const OPERATION: &str = "tell of new tokens";
        let expires = expires.and_then(|at| i64::try_from(at.as_millis()).ok());
        let mut tx = self.0.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "UPDATE connectors.connections
            SET token_expires_at = to_timestamp($2::bigint / 1000.0), updated_at = now()
            WHERE id = $1
            AND token_expires_at IS DISTINCT FROM to_timestamp($2::bigint / 1000.0)";
        let row = query(sql).bind(who.connection).bind(expires).execute(&mut *tx).await;
        if row.map_err(unread(OPERATION))?.rows_affected() == 1 {
            audit(&mut tx, who, ("worker", "connection.refreshed")).await?;
        }
        tx.commit().await.map_err(unread(OPERATION))
    }
}
