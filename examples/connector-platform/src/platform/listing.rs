//! Listings in pages: turned back as far as a post that was sent can be.

use std::{future::Future, time::Duration};

use provision_core::{Effect, ExternalId, StepContext, StepError, Timestamp, Verdict};

/// How far the clock of a platform may be behind ours.
const SKEW: Duration = Duration::from_secs(120);
/// Most pages that one look turns.
const PAGES_MAX: u32 = 100;

/// One page of a listing, newest posts first.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The post that is looked for, where it stands here.
    pub(super) found: Option<ExternalId>,
    /// When the oldest post of the page was made; `None` where the platform keeps no order by it.
    pub(super) oldest: Option<Timestamp>,
    /// What the next page is asked for by.
    pub(super) next: Option<String>,
}

/// Turns pages until the post is found, or all are read that may hold it. "Not there" is said of a
/// listing that was read back to the time of the first call.
pub(super) async fn turn<F>(
    cx: &StepContext,
    mut read: impl FnMut(Option<String>) -> F + Send,
) -> Result<Option<ExternalId>, StepError>
where
    F: Future<Output = Result<Page, StepError>> + Send,
{
    let memory = cx.memory();
    // Before an intent stands nothing was sent: one page is a look all the same.
    let first_call = memory.intent.as_ref().map(|intent| memory.begun_at.unwrap_or(intent.at));
    let floor = first_call.map(|at| at.as_millis().saturating_sub(millis(SKEW)));
    let mut next = None;
    for _ in 0..PAGES_MAX {
        let page = read(next).await?;
        if page.found.is_some() {
            return Ok(page.found);
        }
        let Some(floor) = floor else { return Ok(None) };
        if page.next.is_none() || page.oldest.is_some_and(|oldest| oldest.as_millis() < floor) {
            return Ok(None);
        }
        next = page.next;
    }
    Err(StepError::new(Effect::None, Verdict::Operator, "list posts")
        .with_code("listing_too_long")
        .with_hint("too many posts are newer than this one: look for it by its link"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
