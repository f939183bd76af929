//! Publishing: a post goes out once, its job knows it, and tearing the run down deletes it.

use std::{sync::Arc, time::Duration};

use provision_core::{
    Effect, ExternalId, Facts, Found, Identity, Intent, Listing, NothingToUndo, Readiness,
    Resource, Saga, SagaError, SagaId, Step, StepContext, StepError, Timing, Verdict,
};
use serde::{Deserialize, Serialize};
use sqlx::query;
use uuid::Uuid;

use super::figures::{OfPost, TakeFigures};
use crate::{
    flags::{ADVANCED_ANALYTICS, Frozen},
    platform::NewPost,
    shared::{Shared, Who, unread},
};

/// Name and version; runs are stored under them.
pub const PUBLISH: SagaId<Job, Published> = SagaId::new("publish-post", 1);
/// Errors that are kept for each job: the newest.
const ERRORS_MAX: i64 = 100;
/// How long a platform may take until a post that it has taken is out.
const READY_WITHIN: Duration = Duration::from_secs(3_600);

/// Input: what is to be published, by whom, and the flags as they stood when it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// The connection it goes out by.
    pub who: Who,
    /// What it says.
    pub post: NewPost,
    /// The flags; whoever switches them meanwhile changes nothing for this run.
    pub flags: Frozen,
}

/// Output: what is out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The platform's id of the post.
    pub post: String,
}

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn publishing(shared: &Arc<Shared>) -> Result<Saga<Job, Published>, SagaError> {
    let policy = &shared.settings.policy;
    Saga::define(PUBLISH, |s| {
        let post = s
            .resource("post", Post(Arc::clone(shared)))
            .retry(policy.clone())
            .retry_undo(policy.clone())
            .input((), |job, ()| job.clone());
        let told = s
            .step("record", Record(Arc::clone(shared)), NothingToUndo)
            .retry(policy.clone())
            .input(post, |job, published| (job.id, published));
        // Figures that cannot be read spoil no post.
        s.step("figures", TakeFigures(Arc::clone(shared)), NothingToUndo)
            .retry(policy.clone())
            .when(|job| job.flags.has(ADVANCED_ANALYTICS))
            .optional()
            .input(told, |job, published: Published| OfPost {
                who: job.who.clone(),
                job: job.id,
                post: published.post,
            });
        told
    })
}

/// A post. None of the platforms takes an idempotency key: a lost one is found again by the
/// reference in its link, which is the id of its job.
struct Post(Arc<Shared>);

impl Post {
    /// Enters what went wrong for the tenant to see; waiting is no error.
    async fn noting<T>(
        &self,
        cx: &StepContext,
        job: &Job,
        end: Result<T, StepError>,
    ) -> Result<T, StepError> {
        let Err(error) = &end else { return end };
        if matches!(error.verdict(), Verdict::Throttled { .. }) {
            return end;
        }
        let sql = "WITH kept AS (
                INSERT INTO connectors.publish_job_errors
                (tenant_id, job_id, step, attempt, code, message, hint)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
            )
            DELETE FROM connectors.publish_job_errors WHERE job_id = $2 AND id <= (
                SELECT x.id FROM connectors.publish_job_errors AS x WHERE x.job_id = $2
                ORDER BY x.id DESC OFFSET $8 LIMIT 1
            )";
        let row = query(sql).bind(&job.who.tenant).bind(job.id).bind(cx.path());
        let row = row.bind(i32::try_from(cx.attempt()).unwrap_or(i32::MAX)).bind(error.code());
        let row = row.bind(error.message()).bind(error.hint()).bind(ERRORS_MAX - 1);
        // The journal has it all the same: what the tenant sees is a copy, and may lack a line.
        let _ = row.execute(self.0.pool()).await;
        end
    }
}

impl Post {
    /// What it means that a post is not listed. Where a platform lists only what it has finished, a
    /// post whose answer was lost may be there all the same: it is waited for, and then a person
    /// looks, because sending it again would publish it twice.
    fn unseen(&self, cx: &StepContext, job: &Job) -> Result<Found, StepError> {
        let platform = self.0.platforms.get(job.who.platform)?;
        let memory = cx.memory();
        let sent = memory.called_at.filter(|_| memory.unknown && platform.hides_unfinished());
        let Some(sent) = sent else { return Ok(Found::Absent) };
        let settings = &self.0.settings;
        if cx.now() < sent.plus(settings.unfinished_within) {
            return Ok(Found::Going { again_in: settings.ask_again });
        }
        Err(StepError::new(Effect::None, Verdict::Operator, "find post")
            .with_code("post_unseen")
            .with_hint(
                "its answer was lost, and it is not listed: look in the app, then resolve the \
                 step as absent, or as existing with the post's id",
            ))
    }
}

impl Resource for Post {
    const KIND: &'static str = "connectors.post";
    type Spec = Job;
    type Output = Published;

    fn identity(&self, _: &Job) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, job: &Job) -> Result<Found, StepError> {
        let look = self.0.by_token(cx, &job.who, |platform, access| async move {
            platform.find_post(cx, &access, &job.post).await
        });
        let end = match look.await {
            Ok(Some(id)) => Ok(Found::Ours(id)),
            Ok(None) => self.unseen(cx, job),
            Err(error) => Err(error),
        };
        self.noting(cx, job, end).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        job: &Job,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let publish = self.0.by_token(cx, &job.who, |platform, access| async move {
            platform.publish(cx, &access, &job.post).await
        });
        let end = publish.await;
        self.noting(cx, job, end).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        job: &Job,
        id: &ExternalId,
    ) -> Result<Readiness<Published>, StepError> {
        let look = self.0.by_token(cx, &job.who, |platform, access| async move {
            platform.settled(cx, &access, &job.post, id).await
        });
        let end = look.await.map(|post| match post {
            Some(post) => Readiness::Ready(Published { post }),
            None => Readiness::NotYet { again_in: self.0.settings.ask_again },
        });
        self.noting(cx, job, end).await
    }

    async fn delete(&self, cx: &StepContext, job: &Job, id: &ExternalId) -> Result<(), StepError> {
        let delete = self.0.by_token(cx, &job.who, |platform, access| async move {
            platform.delete_post(cx, &access, id).await
        });
        let end = delete.await;
        self.noting(cx, job, end).await
    }

    // Listing needs the token of a connection, and a sweep has none: posts are looked for by the
    // reference that each carries in its link.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
    }

    fn timing(&self) -> Timing {
        let settings = &self.0.settings;
        Timing {
            late_window: settings.late_window,
            listing_lag: settings.listing_lag,
            // What is waited for before it is seen counts, too.
            ready_within: settings.unfinished_within.saturating_add(READY_WITHIN),
            ..Timing::default()
        }
    }

    fn facts(&self, job: &Job) -> Facts {
        Facts { name: Some(job.post.reference.clone()), ..Facts::default() }
    }
}

/// Writes the id of the post to its job, which keeps it when the post is deleted; how the job ends is written with the end of the run.
struct Record(Arc<Shared>);

impl Step for Record {
    const KIND: &'static str = "connectors.record_post";
    type Input = (Uuid, Published);
    type Output = Published;

    async fn run(
        &self,
        _: &StepContext,
        (job, published): (Uuid, Published),
    ) -> Result<Published, StepError> {
        let sql = "UPDATE connectors.publish_jobs SET post_id = $2 WHERE id = $1";
        let row = query(sql).bind(job).bind(&published.post).execute(self.0.pool()).await;
        row.map_err(unread("record post"))?;
        Ok(published)
    }
}
