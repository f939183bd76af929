//! Figures of a post: read from its platform, kept in a row for each reading.

use std::sync::Arc;

use provision_core::{NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};
use sqlx::query;
use uuid::Uuid;

use crate::{
    platform::Figures,
    shared::{Shared, Who, unread},
};

/// Name and version; runs are stored under them.
pub const COLLECT: SagaId<OfPost, Figures> = SagaId::new("collect-figures", 1);

/// Input: which post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfPost {
    /// The connection it was published by.
    pub who: Who,
    /// The job that published it.
    pub job: Uuid,
    /// The platform's id of it.
    pub post: String,
}

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn collecting(shared: &Arc<Shared>) -> Result<Saga<OfPost, Figures>, SagaError> {
    Saga::define(COLLECT, |s| {
        s.step("figures", TakeFigures(Arc::clone(shared)), NothingToUndo)
            .retry(shared.settings.policy.clone())
            .input((), |of, ()| of.clone())
    })
}

/// Reads and keeps figures: one row for each run, however often it is called.
pub(super) struct TakeFigures(pub(super) Arc<Shared>);

impl Step for TakeFigures {
    const KIND: &'static str = "connectors.take_figures";
    type Input = OfPost;
    type Output = Figures;

    async fn run(&self, cx: &StepContext, of: OfPost) -> Result<Figures, StepError> {
        let post = &*of.post;
        let read = self.0.by_token(cx, &of.who, |platform, access| async move {
            platform.post_analytics(cx, &access, post).await
        });
        let figures = read.await?;
        let number = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
        let sql = "INSERT INTO connectors.publish_job_analytics
            (job_id, tenant_id, run_id, impressions, reactions, clicks)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (run_id) DO NOTHING";
        let row = query(sql).bind(of.job).bind(&of.who.tenant).bind(cx.run_id().as_uuid());
        let row = row.bind(number(figures.impressions)).bind(number(figures.reactions));
        let row = row.bind(number(figures.clicks)).execute(self.0.pool()).await;
        row.map_err(unread("keep figures"))?;
        Ok(figures)
    }
}
