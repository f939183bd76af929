//! Listings in pages: of posts, turned back as far as one that was sent can be, and of accounts, whole.

use std::{future::Future, time::Duration};

use provision_core::{Effect, ExternalId, StepContext, StepError, Timestamp, Verdict};

/// How far the clock of a platform may be behind ours.
const SKEW: Duration = Duration::from_secs(120);
/// Most pages that one look turns.
const PAGES_MAX: u32 = 100;

/// How often a listing is read for two readings that agree.
const WALKS_MAX: u32 = 5;

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

/// What is listed on one page, and what the next page is asked for by.
pub(super) type Part<T> = (Vec<T>, Option<String>);

/// Turns all pages: what is missing at the end of a listing that was not read whole is not gone.
pub(super) async fn all<T, F>(
    read: impl FnMut(Option<String>) -> F + Send,
) -> Result<Vec<T>, StepError>
where
    T: Send,
    F: Future<Output = Result<Part<T>, StepError>> + Send,
{
    walk(read).await.map(|(found, _)| found)
}

/// Turns all pages of a listing that is asked for by offsets, until two walks agree: what is removed
/// between two pages moves another one onto a page that was read already. One page is one answer.
pub(super) async fn all_by_offset<T, F>(
    mut read: impl FnMut(Option<String>) -> F + Send,
) -> Result<Vec<T>, StepError>
where
    T: PartialEq + Send,
    F: Future<Output = Result<Part<T>, StepError>> + Send,
{
    let mut before = None;
    for _ in 0..WALKS_MAX {
        let (found, pages) = walk(&mut read).await?;
        if pages == 1 || before.as_ref() == Some(&found) {
            return Ok(found);
        }
        before = Some(found);
    }
    Err(StepError::retry("list accounts")
        .with_code("listing_changes")
        .with_message("no two readings of it agree"))
}

/// What all pages list, and how many there were.
async fn walk<T, F>(
    mut read: impl FnMut(Option<String>) -> F + Send,
) -> Result<(Vec<T>, u32), StepError>
where
    T: Send,
    F: Future<Output = Result<Part<T>, StepError>> + Send,
{
    let (mut found, mut next) = (Vec::new(), None);
    for pages in 1..=PAGES_MAX {
        let (page, more) = read(next).await?;
        found.extend(page);
        next = more;
        if next.is_none() {
            return Ok((found, pages));
        }
    }
    Err(StepError::new(Effect::None, Verdict::Operator, "list accounts")
        .with_code("listing_too_long")
        .with_hint("the user may publish by more accounts than are read"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{PAGES_MAX, WALKS_MAX, all, all_by_offset};

    #[tokio::test]
    async fn all_pages_are_read_and_an_endless_listing_is_no_answer() {
        let three = |next: Option<String>| async move {
            let page: u32 = next.map_or(0, |next| next.parse().unwrap());
            Ok((vec![page; 2], (page < 2).then(|| (page + 1).to_string())))
        };
        assert_eq!(all(three).await.unwrap(), [0, 0, 1, 1, 2, 2]);
        let mut asked = 0;
        let endless = |_| {
            asked += 1;
            async { Ok((vec![()], Some("again".to_owned()))) }
        };
        let error = all(endless).await.unwrap_err();
        assert_eq!((error.code(), asked), ("listing_too_long", PAGES_MAX));
    }

    /// Reads two accounts from an offset on.
    fn listed(accounts: &[u32], next: Option<String>) -> (Vec<u32>, Option<String>) {
        let from: usize = next.map_or(0, |next| next.parse().unwrap());
        let page = accounts.iter().skip(from).take(2).copied().collect();
        (page, (from + 2 < accounts.len()).then(|| (from + 2).to_string()))
    }

    #[tokio::test]
    async fn an_account_that_a_removal_moves_between_two_pages_is_found() {
        let (mut accounts, mut asked) = (vec![1, 2, 3, 4, 5], 0);
        let read = |next| {
            asked += 1;
            let page = listed(&accounts, next);
            // The first page was read: what would open the next one moves onto it.
            accounts.retain(|account| asked > 1 || *account != 1);
            async move { Ok(page) }
        };
        assert_eq!(all_by_offset(read).await.unwrap(), [2, 3, 4, 5]);
        // One page is asked for once.
        let mut asked = 0;
        let read = |next| {
            asked += 1;
            let page = listed(&[1, 2], next);
            async move { Ok(page) }
        };
        let found = all_by_offset(read).await.unwrap();
        assert_eq!((found, asked), (vec![1, 2], 1));
        // One that never stands still is no answer, and may be one later.
        let mut asked = 0;
        let read = |next| {
            asked += 1;
            let page = listed(&[asked, asked + 1, asked + 2], next);
            async move { Ok(page) }
        };
        let error = all_by_offset(read).await.unwrap_err();
        assert_eq!((error.code(), asked), ("listing_changes", 2 * WALKS_MAX));
    }
}
