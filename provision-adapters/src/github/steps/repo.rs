//! A repository made from a template.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, StepContext, StepError, Timing,
    mark::{RUN_LABEL, STEP_LABEL},
};
use serde::{Deserialize, Serialize};

use crate::{
    github::{
        CONTENT_WITHIN, DESCRIPTION_CHARS_MAX, LATE_WINDOW, LISTING_LAG, NAME_CHARS_MAX, PAGES_MAX,
        TOPICS_MAX,
        client::{GitHub, Look},
        model::{Generate, RepoBody},
    },
    http::parse_rfc3339,
};

/// How soon to look again for content that is being copied.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Topic of everything we make.
const TOPIC: &str = "provision";
/// Topic that names the run: with the id it is as long as a topic may be (50 characters).
const RUN_TOPIC: &str = "provision-run-";
/// Topic that names the step, by the token of its mark.
const STEP_TOPIC: &str = "provision-step-";

/// The repository that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RepoSpec {
    /// Template, as `owner/name`.
    pub template: String,
    /// Name of the new repository: letters, digits, `.`, `-` and `_`, at most 100.
    pub name: String,
    /// What stands in its description before our mark; shortened if need be. Default empty.
    pub description: String,
    /// Whether only members see it. Default true.
    pub private: bool,
    /// Whether all branches of the template are copied. Default false: only its default one.
    pub include_all_branches: bool,
    /// A file of the template whose arrival says that the copy is complete. Default none: the
    /// first commit says so.
    pub sentinel: Option<String>,
}

impl RepoSpec {
    /// Wants a private copy of the template `owner/name` under `name`.
    #[must_use]
    pub fn from_template(template: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            template: template.into(),
            name: name.into(),
            description: String::new(),
            private: true,
            include_all_branches: false,
            sentinel: None,
        }
    }

    /// Sets what stands in the description before our mark.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Makes it visible to everybody.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.private = false;
        self
    }

    /// Waits for this file of the template.
    #[must_use]
    pub fn with_sentinel(mut self, path: impl Into<String>) -> Self {
        self.sentinel = Some(path.into());
        self
    }
}

/// The repository that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repo {
    /// The provider's id; survives renames.
    pub id: u64,
    /// `owner/name`.
    pub full_name: String,
    /// Page for people.
    pub html_url: String,
    /// Where it is cloned from, over HTTPS and without a token.
    pub clone_url: String,
    /// Branch that has the template's content.
    pub default_branch: String,
}

/// A repository from a template, found by its name and recognised by its mark.
#[derive(Debug, Clone)]
pub struct RepoFromTemplate {
    github: GitHub,
}

impl RepoFromTemplate {
    /// Makes repositories in the account of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone() }
    }

    /// The repository behind an id: under its name first, else wherever it was renamed to.
    async fn locate(
        &self,
        cx: &StepContext,
        name: &str,
        id: &ExternalId,
    ) -> Result<Option<RepoBody>, StepError> {
        match self.github.repo(cx, self.github.login(), name).await? {
            Look::Here(repo) if repo.id.to_string() == id.as_str() => Ok(Some(repo)),
            // Renamed, moved, or the name is another repository's by now: the id decides.
            Look::Here(_) | Look::Moved(_) | Look::Absent => {
                self.github.repo_by_id(cx, id.as_str()).await
            }
        }
    }

    /// What must hold before a repository is made, each by a call that only looks.
    async fn may_create(&self, cx: &StepContext, spec: &RepoSpec) -> Result<(), StepError> {
        const OPERATION: &str = "check before creating";
        let scopes = self.github.owner(cx).await?;
        // What cannot be deleted must not be made: its undo would fail after the fact.
        let scopes = scopes.filter(|scopes| !scopes.trim().is_empty());
        let deletes = |scopes: String| scopes.split(',').any(|one| one.trim() == "delete_repo");
        if scopes.is_some_and(|scopes| !deletes(scopes)) {
            return Err(StepError::permanent(OPERATION)
                .with_code("cannot_delete")
                .with_hint("give the token the scope delete_repo"));
        }
        let refuse = |code| StepError::permanent(OPERATION).with_code(code);
        let (owner, name) = crate::github::client::split(&spec.template);
        match self.github.repo(cx, owner, name).await? {
            Look::Here(template) if template.is_template => {}
            Look::Here(_) => return Err(refuse("not_a_template")),
            Look::Moved(_) | Look::Absent => return Err(refuse("no_such_template")),
        }
        match self.github.has_commit(cx, &spec.template).await? {
            true => Ok(()),
            false => Err(refuse("template_empty")),
        }
    }

    /// Sets our topics beside those that are there, if one is missing.
    async fn mark(&self, cx: &StepContext, repo: &RepoBody) -> Result<(), StepError> {
        let mut topics = repo.topics.clone();
        for topic in topics_of(&cx.mark()) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        if topics.len() == repo.topics.len() || topics.len() > TOPICS_MAX {
            return Ok(());
        }
        self.github.set_topics(cx, &repo.full_name, topics).await
    }
}

impl Resource for RepoFromTemplate {
    const KIND: &'static str = "github.repo";
    type Spec = RepoSpec;
    type Output = Repo;

    fn identity(&self, spec: &RepoSpec) -> Identity {
        // Names are unique per owner, whatever their case.
        Identity::Named(format!("{}/{}", self.github.login(), spec.name).to_lowercase())
    }

    async fn find(&self, cx: &StepContext, spec: &RepoSpec) -> Result<Found, StepError> {
        check_name(&spec.name)?;
        match self.github.repo(cx, self.github.login(), &spec.name).await? {
            Look::Here(repo) => Ok(judge(&repo, &cx.mark())),
            Look::Moved(Some(id)) => {
                let moved = self.github.repo_by_id(cx, &id.to_string()).await?;
                Ok(moved.map_or_else(|| renamed(id), |repo| judge(&repo, &cx.mark())))
            }
            Look::Moved(None) => Err(StepError::permanent("look at the repository")
                .with_code("name_redirects")
                .with_hint("the name leads to a repository that was renamed")),
            // Nothing of ours can be there yet, and a name that is taken out of our sight is refused
            // to the create.
            Look::Absent if !cx.memory().may_exist => {
                self.github.owner(cx).await.map(|_| Found::Absent)
            }
            Look::Absent => {
                let name = format!("{}/{}", self.github.login(), spec.name);
                self.github.name_is_free(cx, &name).await.map(|()| Found::Absent)
            }
        }
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &RepoSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        check_name(&spec.name)?;
        self.may_create(cx, spec).await?;
        let body = Generate {
            owner: self.github.login(),
            name: &spec.name,
            description: &describe(&spec.description, intent.mark()),
            include_all_branches: spec.include_all_branches,
            private: spec.private,
        };
        let made = self.github.generate(cx, &spec.template, &body).await?;
        if !made.name.eq_ignore_ascii_case(&spec.name) {
            // Made, and not under the name it can be found by.
            return Err(StepError::unknown("generate the repository").with_code("name_differs"));
        }
        Ok(ExternalId::new(made.id.to_string()))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &RepoSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Repo>, StepError> {
        let not_yet = Readiness::NotYet { again_in: LOOK_AGAIN };
        // A 404 right after the 201 is normal.
        let Some(repo) = self.locate(cx, &spec.name, id).await? else { return Ok(not_yet) };
        let ours = matches!(judge(&repo, &cx.mark()), Found::Ours(_));
        if spec.private && !repo.private {
            return match ours {
                true => Ok(Readiness::Broken { code: "public".to_owned() }),
                false => Err(StepError::permanent("check the repository").with_code("public")),
            };
        }
        // The contents may answer before the copy is finished: commit first, then the file.
        if !self.github.has_commit(cx, &repo.full_name).await? {
            return Ok(not_yet);
        }
        if let Some(file) = &spec.sentinel
            && !self.github.has_file(cx, &repo.full_name, file).await?
        {
            return Ok(not_yet);
        }
        // S11: what is used without being ours is left as it is.
        if ours {
            self.mark(cx, &repo).await?;
        }
        let default_branch = repo.default_branch.unwrap_or_else(|| "main".to_owned());
        let clone_url = repo.clone_url.unwrap_or_else(|| format!("{}.git", repo.html_url));
        Ok(Readiness::Ready(Repo {
            id: repo.id,
            full_name: repo.full_name,
            html_url: repo.html_url,
            clone_url,
            default_branch,
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &RepoSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // By id: under the name there may be another repository by now.
        if let Some(repo) = self.locate(cx, &spec.name, id).await?
            && self.github.delete_repo(cx, &repo.full_name).await?
        {
            return Ok(());
        }
        self.github.repo_is_gone(cx, self.github.login(), id.as_str()).await
    }

    /// Complete only from a token that is proven to see everything of the account. From another one
    /// nothing is listed: each step then looks for its own, and nothing is taken for gone that is
    /// merely out of sight.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        match self.github.sees_all_of(cx, self.github.login()).await {
            Err(error) if error.code() == "absence_unproven" => return Ok(Listing::Unlisted),
            proven => proven?,
        }
        let mut owned = Vec::new();
        for page in 1..=PAGES_MAX {
            let (repos, more) = self.github.repos_page(cx, page).await?;
            owned.extend(repos.iter().filter_map(as_owned));
            if !more {
                return Ok(owned.into());
            }
        }
        Err(StepError::permanent("list the repositories").with_code("listing_too_long"))
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: LATE_WINDOW,
            listing_lag: LISTING_LAG,
            ready_within: CONTENT_WITHIN,
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.github.login()
    }

    fn facts(&self, spec: &RepoSpec) -> Facts {
        Facts {
            name: Some(format!("{}/{}", self.github.login(), spec.name).to_lowercase()),
            template: Some(spec.template.clone()),
            ..Facts::default()
        }
    }
}

/// Refuses names that GitHub would change without a word: we would never find them again.
fn check_name(name: &str) -> Result<(), StepError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed);
    let lower = name.to_lowercase();
    let reserved =
        matches!(name, "." | "..") || lower.ends_with(".git") || lower.ends_with(".wiki");
    if fits && !reserved {
        return Ok(());
    }
    Err(StepError::permanent("check the name")
        .with_code("bad_name")
        .with_hint("letters, digits, `.`, `-` and `_`, at most 100, not ending in .git or .wiki"))
}

/// The description: the caller's words, then the mark, within the provider's limit.
fn describe(words: &str, mark: &OwnerMark) -> String {
    let mark = mark.to_string();
    let room = DESCRIPTION_CHARS_MAX.saturating_sub(mark.chars().count() + 1);
    let words: String = words.chars().filter(|c| !c.is_control()).take(room).collect();
    match words.trim() {
        "" => mark,
        words => format!("{words} {mark}"),
    }
}

fn topics_of(mark: &OwnerMark) -> [String; 3] {
    [
        TOPIC.to_owned(),
        format!("{RUN_TOPIC}{}", mark.run()),
        format!("{STEP_TOPIC}{}", mark.token()),
    ]
}

/// The mark a repository carries: in its description, else in its topics.
///
/// Topics name the step by a token alone: of our own mark it is compared, of another it is kept.
fn mark_of(repo: &RepoBody, ours: Option<&OwnerMark>) -> Option<OwnerMark> {
    if let Some(mark) = repo.description.as_deref().and_then(OwnerMark::find_in) {
        return Some(mark);
    }
    if let Some(ours) = ours
        && topics_of(ours).iter().all(|topic| repo.topics.contains(topic))
    {
        return Some(ours.clone());
    }
    let after = |prefix: &str| repo.topics.iter().find_map(|topic| topic.strip_prefix(prefix));
    let (run, step) = (after(RUN_TOPIC)?, after(STEP_TOPIC)?);
    OwnerMark::from_labels([(RUN_LABEL, run), (STEP_LABEL, step)])
}

/// Ours only with the mark of this very run and step.
fn judge(repo: &RepoBody, ours: &OwnerMark) -> Found {
    let id = repo.id.to_string();
    match mark_of(repo, Some(ours)) {
        Some(mark) if mark == *ours => Found::Ours(id.into()),
        owner => {
            let created_at = repo.created_at.as_deref().and_then(parse_rfc3339);
            Found::Foreign(Foreign { owner, created_at, ..Foreign::unmarked(id) })
        }
    }
}

/// The name is kept by a redirect to something we cannot see.
fn renamed(id: u64) -> Found {
    Found::Foreign(Foreign::unmarked(id.to_string()))
}

fn as_owned(repo: &RepoBody) -> Option<Owned> {
    let mark = mark_of(repo, None)?;
    let owned = Owned::new(repo.id.to_string())
        .with_name(repo.full_name.clone())
        .with_mark(Some(mark))
        .with_created_at(repo.created_at.as_deref().and_then(parse_rfc3339));
    Some(owned)
}

#[cfg(test)]
mod tests {
    use provision_core::{OwnerMark, RunId};

    use super::{DESCRIPTION_CHARS_MAX, check_name, describe, topics_of};

    fn mark() -> OwnerMark {
        OwnerMark::new(RunId::from_uuid(uuid::Uuid::from_u128(9)), "clients[3]/repo")
    }

    #[test]
    fn a_name_that_would_be_changed_is_refused() {
        for name in ["site", "a.b-c_d", "A1", &"x".repeat(100)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ü", "x.git", "x.WIKI", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_mark_survives_any_description() {
        for words in ["", "  ", "Site of a client", &"ü".repeat(400), "tabs\tand\nlines"] {
            let text = describe(words, &mark());
            assert!(text.chars().count() <= DESCRIPTION_CHARS_MAX);
            assert!(!text.chars().any(char::is_control));
            assert_eq!(OwnerMark::find_in(&text), Some(mark()));
        }
    }

    #[test]
    fn topics_fit_the_providers_rules() {
        for topic in topics_of(&mark()) {
            assert!(topic.len() <= 50, "{topic}");
            assert!(
                topic.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            );
        }
    }
}
