//! Refreshing: one run at a time for each connection, and the new tokens are stored before anybody
//! uses them.

use std::sync::Arc;

use provision_core::{
    NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, limit::Profile,
};
use serde::{Deserialize, Serialize};
use sqlx::query;

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
        let held = shared.held(&who).await?;
        if !is_old(&held, cx.now(), shared.settings.refresh_margin) {
            return Ok(Refreshed::Before);
        }
        // A bucket of its own: that of the token is paused for as long as this takes.
        let bucket = format!("{}/{}/refresh", who.platform, who.connection);
        let limit = Profile { bucket, rate: None, concurrency: Some(1.into()) };
        let platform = shared.platforms.get(who.platform)?;
        let fresh = match platform.refresh_token(cx, &limit, &held.tokens).await {
            Ok(fresh) => fresh,
            Err(error) if is_final(&error) => {
                shared.needs_attention(&who, "refresh_refused").await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let place = (&*who.tenant, who.connection);
        let kept = shared.tokens.rotate(place, &held, &fresh, cx.now()).await;
        if !kept.map_err(stuck("store tokens"))? {
            return Ok(Refreshed::Before);
        }
        self.told(cx, &who, fresh.lifetime).await?;
        Ok(Refreshed::Now)
    }
}

impl Refresh {
    async fn told(
        &self,
        cx: &StepContext,
        who: &Who,
        lifetime: Option<std::time::Duration>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "tell of new tokens";
        let expires = lifetime.map(|lifetime| cx.now().plus(lifetime).as_millis());
        let expires = expires.and_then(|at| i64::try_from(at).ok());
        let mut tx = self.0.pool().begin().await.map_err(unread(OPERATION))?;
        let sql = "UPDATE connectors.connections
            SET token_expires_at = to_timestamp($2::bigint / 1000.0), updated_at = now() WHERE id = $1";
        let row = query(sql).bind(who.connection).bind(expires).execute(&mut *tx).await;
        row.map_err(unread(OPERATION))?;
        audit(&mut tx, who, "connection.refreshed").await?;
        tx.commit().await.map_err(unread(OPERATION))
    }
}

/// Whether asking again cannot help: the user has to consent anew.
fn is_final(error: &StepError) -> bool {
    ["invalid_grant", "no_refresh_token", "unsupported", "unauthorized"].contains(&error.code())
}
