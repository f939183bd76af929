//! Listings: newest first, filtered, in pages.
//!
//! The server looks at a bounded stretch in each call, so that a filter that selects little out of
//! a million runs holds nobody up.

use provision_core::{
    error::{StoreError, StoreErrorKind},
    run::RunStatus,
    store::{RunFilter, RunHead, RunPage},
};

use redis::Value;

use crate::{
    args::Args,
    keys::Reach,
    reply::{Reply, array, text},
    rows::{head, json, run_key, tenant_key},
    scripts,
    store::RedisStore,
};

/// Rows of a page when the filter names no limit, and the most a page ever holds.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
/// Rows looked at in one call.
const STRETCH: usize = 500;

impl RedisStore {
    pub(crate) async fn page(&self, filter: &RunFilter) -> Result<RunPage, StoreError> {
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_MAX) };
        // One more tells whether there is another page.
        let wanted = limit.saturating_add(1);
        let mut from = filter.after.as_ref().map(run_key).unwrap_or_default();
        let mut runs = Vec::new();
        loop {
            let (next, found) =
                self.stretch(filter, &from, wanted.saturating_sub(runs.len())).await?;
            runs.extend(found);
            if next.is_empty() || runs.len() >= wanted {
                break;
            }
            from = next;
        }
        // A key names one run at most, wherever a page begins.
        runs.retain(|head| filter.after.is_none_or(|after| head.id < after));
        let more = runs.len() > limit;
        runs.truncate(limit);
        let next = runs.last().filter(|_| more).map(|head| head.id);
        Ok(RunPage { runs, next })
    }

    /// What a stretch holds, and where the next one begins; empty at the end.
    async fn stretch(
        &self,
        filter: &RunFilter,
        from: &str,
        limit: usize,
    ) -> Result<(String, Vec<RunHead>), StoreError> {
        let args = args_of(filter, from, limit)?;
        let answer = self.link().read(&scripts::LIST, self.keys().of(Reach::All), &args).await?;
        let mut answer = Reply::of(answer)?;
        let next = answer.text()?;
        let mut heads = Vec::new();
        for stored in answer.array()? {
            let parts = array(stored)?;
            let run = parts.first().cloned().map(text).transpose()?.unwrap_or_default();
            match head(Value::Array(parts)) {
                Ok(head) => heads.push(head),
                // Who loads that very run is told.
                Err(error) if error.kind() == StoreErrorKind::Damaged => {
                    tracing::error!(run, %error, "a run that cannot be read is missing from a listing");
                }
                Err(error) => return Err(error),
            }
        }
        Ok((next, heads))
    }
}

/// The arguments in the order in which `lua/list.lua` takes them.
fn args_of(filter: &RunFilter, from: &str, limit: usize) -> Result<Args, StoreError> {
    let parent = filter.parent.as_ref().map(run_key).unwrap_or_default();
    let (by, of) = match filter {
        RunFilter { key: Some(key), .. } => ("key", key.as_str()),
        RunFilter { guard: Some(guard), .. } => ("guard", guard.as_str()),
        RunFilter { parent: Some(_), .. } => ("parent", parent.as_str()),
        RunFilter { dead_letters: true, .. } => ("letters", ""),
        _ => ("all", ""),
    };
    let mut args = Args::default();
    args.push(by);
    args.push(of);
    args.push(from);
    args.count(STRETCH);
    args.count(limit);
    args.count(filter.status.len());
    filter.status.iter().copied().map(RunStatus::as_str).for_each(|status| args.push(status));
    args.push(filter.saga.as_ref().map(json).transpose()?.unwrap_or_default());
    args.push(filter.version.map(|version| version.to_string()).unwrap_or_default());
    args.push(filter.tenant.as_deref().map(|t| tenant_key(Some(t))).unwrap_or_default());
    args.push(filter.key_prefix.as_deref().map(json_prefix).transpose()?.unwrap_or_default());
    args.push(filter.due_by.map(|by| by.as_millis().to_string()).unwrap_or_default());
    args.push(&parent);
    args.push(filter.guard.as_ref().map(json).transpose()?.unwrap_or_default());
    args.flag(filter.dead_letters);
    Ok(args)
}

/// How the JSON of every text begins that begins with `prefix`.
fn json_prefix(prefix: &str) -> Result<String, StoreError> {
    let mut text = json(prefix)?;
    text.pop();
    Ok(text)
}
