//! What secrets and variables share: names, and what is there of a wanted set.
//!
//! A set is one resource. It has no place for a mark, so the run's own intent stands in for it:
//! "absent" means that none of the names was there before.

use std::collections::BTreeSet;

use provision_core::{ExternalId, Foreign, Found, StepContext, StepError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::github::{
    VALUE_BYTES_MAX,
    client::{GitHub, not_visible_yet, split, still_there},
};

/// The names that are set in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// The repository, as `owner/name`.
    pub repository: String,
    /// Names, sorted.
    pub names: Vec<String>,
}

impl Values {
    /// Names the set as the ledger does; `names` have to be sorted.
    #[must_use]
    pub fn id(&self) -> ExternalId {
        id_of(&self.repository, self.names.iter())
    }
}

/// Id of a set: its repository, and a token of its names, since one repository may have several.
pub(super) fn id_of<'a>(repository: &str, names: impl Iterator<Item = &'a String>) -> ExternalId {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let token = Uuid::new_v5(&Uuid::NAMESPACE_OID, names.join("\n").as_bytes());
    let token: String = token.simple().to_string().chars().take(12).collect();
    ExternalId::new(format!("{}#{token}", repository.to_lowercase()))
}

/// What `find` answers for a set, given which of the repository's names are known.
///
/// The creation times GitHub gives are left out: they are cut to seconds of another clock, and
/// would make our own values look older than the intent they were set with.
pub(super) fn found(id: ExternalId, wanted: &BTreeSet<&String>, there: &[String]) -> Found {
    match there.iter().any(|name| wanted.contains(name)) {
        true => Found::Foreign(Foreign::unmarkable(id)),
        false => Found::Absent,
    }
}

/// The name that the repository of an id has today.
///
/// S11: a repository can be renamed, and another one made under its old name. So values are
/// looked for, set and deleted under this name alone.
pub(super) async fn name_of(
    github: &GitHub,
    cx: &StepContext,
    repository: u64,
) -> Result<Option<String>, StepError> {
    let repo = github.repo_by_id(cx, &repository.to_string()).await?;
    Ok(repo.map(|repo| repo.full_name))
}

/// As [`name_of`], for a repository that has to be there.
pub(super) async fn name_to_write(
    github: &GitHub,
    cx: &StepContext,
    repository: u64,
) -> Result<String, StepError> {
    const OPERATION: &str = "look for the repository of the values";
    let gone = || StepError::permanent(OPERATION).with_code("not_found");
    let name = name_of(github, cx, repository).await?;
    name.ok_or_else(gone).map_err(|error| not_visible_yet(cx, error))
}

/// What `delete` does without the repository: it has to be proven gone.
pub(super) async fn is_gone(
    github: &GitHub,
    cx: &StepContext,
    (id, full_name): (u64, &str),
) -> Result<(), StepError> {
    let (owner, _) = split(full_name);
    github.repo_is_gone(cx, owner, &id.to_string()).await
}

/// What `find` does without the repository: nothing of ours is in it before a call that may have
/// had an effect; after one it has to be proven gone.
pub(super) async fn absent_without(
    github: &GitHub,
    cx: &StepContext,
    (id, full_name): (u64, &str),
) -> Result<Found, StepError> {
    let (owner, _) = split(full_name);
    if cx.memory().may_exist {
        is_gone(github, cx, (id, full_name)).await?;
    } else if owner.eq_ignore_ascii_case(github.account().login()) {
        github.owner(cx).await?;
    }
    Ok(Found::Absent)
}

/// What was answered with 404 when it was deleted is gone if the list, which has to show what is
/// there, does not show it.
pub(super) fn none_left<'a>(
    mut names: impl Iterator<Item = &'a String>,
    there: &[String],
) -> Result<(), StepError> {
    match names.any(|name| there.contains(name)) {
        true => Err(still_there("delete the values")),
        false => Ok(()),
    }
}

/// The listing of a repository that is there was answered with 404.
pub(super) fn listing_not_visible() -> StepError {
    StepError::retry("list the values").with_code("not_visible_yet")
}

/// Refuses names that GitHub would refuse, or store under another spelling.
pub(super) fn check_names<'a>(
    names: impl Iterator<Item = &'a String>,
    most: usize,
) -> Result<(), StepError> {
    let (mut count, mut fits) = (0, true);
    for name in names {
        count += 1;
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
        fits &= starts && name.chars().all(allowed) && !name.starts_with("GITHUB_");
    }
    if fits && (1..=most).contains(&count) {
        return Ok(());
    }
    Err(StepError::permanent("check the names").with_code("bad_name").with_hint(
        "upper-case letters, digits and `_`, not beginning with a digit or GITHUB_; at least one",
    ))
}

/// Refuses values that are too large.
pub(super) fn check_value(value: &str) -> Result<(), StepError> {
    match value.len() <= VALUE_BYTES_MAX {
        true => Ok(()),
        false => Err(StepError::permanent("check the value").with_code("value_too_large")),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_names, id_of};

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_that_github_would_respell_are_refused() {
        let good = [&["DB_URL"][..], &["A", "_B", "C9"]];
        let bad = [&[][..], &["db_url"], &["9A"], &["GITHUB_TOKEN"], &["A-B"], &[""], &["A B"]];
        for (names, fits) in good.map(|g| (g, true)).into_iter().chain(bad.map(|b| (b, false))) {
            assert_eq!(check_names(owned(names).iter(), 3).is_ok(), fits, "{names:?}");
        }
        assert!(check_names(owned(&["A", "B", "C", "D"]).iter(), 3).is_err());
    }

    #[test]
    fn two_sets_in_one_repository_have_two_ids() {
        let (a, b) = (owned(&["A", "B"]), owned(&["C"]));
        assert_ne!(id_of("o/r", a.iter()), id_of("o/r", b.iter()));
        assert_eq!(id_of("O/R", a.iter()), id_of("o/r", a.iter()));
    }
}
