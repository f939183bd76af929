//! Checking a connection: whether its token works, and still may publish by its account.

use std::sync::Arc;

use provision_core::{
    NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, Verdict,
};
use sqlx::query;

use crate::shared::{Shared, Who, unread};

/// Name and version; runs are stored under them. The output says whether it is healthy.
pub const CHECK: SagaId<Who, bool> = SagaId::new("check-connection", 1);

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn checking(shared: &Arc<Shared>) -> Result<Saga<Who, bool>, SagaError> {
    Saga::define(CHECK, |s| {
        s.step("check", Check(Arc::clone(shared)), NothingToUndo)
            .retry(shared.settings.policy.clone())
            .input((), |who, ()| who.clone())
    })
}

/// Looks, and writes down what it found: one line for each run, however often it is called.
struct Check(Arc<Shared>);

impl Step for Check {
    const KIND: &'static str = "connectors.check_connection";
    type Input = Who;
    type Output = bool;

    async fn run(&self, cx: &StepContext, who: Who) -> Result<bool, StepError> {
        let look = self.0.by_token(cx, &who, |platform, access| async move {
            platform.health_check(cx, &access).await
        });
        let code = match look.await {
            Ok(()) => None,
            // What may pass says nothing about the connection.
            Err(error) if !is_finding(&error) => {
                self.tried(&who, &error).await?;
                return Err(error);
            }
            Err(error) => Some(error.code().to_owned()),
        };
        if code.as_deref() == Some("account_gone") {
            self.0.needs_attention(&who, "account_gone").await?;
        }
        let sql = "WITH logged AS (
                INSERT INTO connectors.connection_health_log
                (tenant_id, connection_id, run_id, healthy, code)
                VALUES ($1, $2, $3, $4::text IS NULL, $4) ON CONFLICT (run_id) DO NOTHING
            )
            UPDATE connectors.connections SET checked_at = now() WHERE id = $2";
        let row = query(sql).bind(&who.tenant).bind(who.connection);
        let row = row.bind(cx.run_id().as_uuid()).bind(&code).execute(self.0.pool()).await;
        row.map_err(unread("log health"))?;
        Ok(code.is_none())
    }
}

impl Check {
    /// A platform that does not answer is asked again when the connection is due again, not before.
    async fn tried(&self, who: &Who, error: &StepError) -> Result<(), StepError> {
        if matches!(error.verdict(), Verdict::Throttled { .. }) {
            return Ok(());
        }
        let sql = "UPDATE connectors.connections SET checked_at = now()
            WHERE id = $1 AND tenant_id = $2";
        let row = query(sql).bind(who.connection).bind(&who.tenant).execute(self.0.pool()).await;
        row.map_err(unread("log try")).map(drop)
    }
}

/// Whether a failed look is an answer: what it found stands until a person changes it.
fn is_finding(error: &StepError) -> bool {
    matches!(error.verdict(), Verdict::Permanent | Verdict::Operator)
}
