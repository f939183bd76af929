//! Listings: newest first, filtered, in pages.

use crate::store::{RunFilter, RunHead, RunPage};

use super::tables::Tables;

/// Rows of a page when the filter names no limit, and the most a page ever holds.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

impl Tables {
    pub(super) fn list(&self, filter: &RunFilter) -> RunPage {
        let limit = if filter.limit == 0 { PAGE_DEFAULT } else { filter.limit.min(PAGE_MAX) };
        let mut found: Vec<RunHead> = match (&filter.key, &filter.guard) {
            (Some(key), _) => self.one(self.keys.get(key), filter),
            (None, Some(guard)) => self.one(self.guards.get(guard), filter),
            (None, None) => {
                let rows = self.runs.values().rev().map(|row| &row.head);
                rows.filter(|head| matches(filter, head)).take(limit + 1).cloned().collect()
            }
        };
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|head| head.id);
        RunPage { runs: found, next }
    }

    fn one(&self, id: Option<&crate::id::RunId>, filter: &RunFilter) -> Vec<RunHead> {
        let head = id.and_then(|id| self.runs.get(id)).map(|row| &row.head);
        head.filter(|head| matches(filter, head)).cloned().into_iter().collect()
    }
}

fn matches(filter: &RunFilter, head: &RunHead) -> bool {
    let guard = head.guard.as_ref().map(|guard| &guard.key);
    filter.after.is_none_or(|after| head.id < after)
        && (filter.status.is_empty() || filter.status.contains(&head.status))
        && filter.saga.as_ref().is_none_or(|saga| *saga == head.saga.name)
        && filter.version.is_none_or(|version| version == head.saga.version)
        && (filter.tenant.is_none() || filter.tenant == head.tenant)
        && (filter.key.is_none() || filter.key == head.key)
        && filter.key_prefix.as_ref().is_none_or(|prefix| {
            head.key.as_ref().is_some_and(|key| key.starts_with(prefix.as_str()))
        })
        && (filter.guard.is_none() || filter.guard.as_ref() == guard)
        && filter.parent.is_none_or(|parent| head.parent.as_ref().is_some_and(|p| p.run == parent))
        && filter.due_by.is_none_or(|by| head.due <= by)
        && (!filter.dead_letters || head.summary.is_dead_letter(head.status))
}
