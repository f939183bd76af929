//! A project, linked to a repository.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{may_lag, moment};
use crate::vercel::{
    LISTING_LAG, OWNER_VARIABLE, PROJECT_NAME_MAX, Vercel,
    model::{GitRepository, NewProject, NewVariable, Project, Variable},
};

/// A wanted project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SiteSpec {
    /// Name: unique per team, lower case, at most 100 characters of letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// GitHub repository `owner/name` to link. The Vercel app must see it, and it must have content.
    pub repository: Option<String>,
    /// Framework preset, such as `nextjs`; none means detection.
    pub framework: Option<String>,
    /// Build command; none means the framework's.
    pub build_command: Option<String>,
    /// Install command; none means the framework's.
    pub install_command: Option<String>,
    /// Directory with the built site; none means the framework's.
    pub output_directory: Option<String>,
    /// Directory of the app inside the repository; none means its root.
    pub root_directory: Option<String>,
}

impl SiteSpec {
    /// Wants a project of this name, without a repository.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            repository: None,
            framework: None,
            build_command: None,
            install_command: None,
            output_directory: None,
            root_directory: None,
        }
    }

    /// Wants a project of this name, linked to the GitHub repository `owner/name`.
    #[must_use]
    pub fn linked(name: impl Into<String>, repository: impl Into<String>) -> Self {
        Self { repository: Some(repository.into()), ..Self::new(name) }
    }

    /// Sets the framework preset.
    #[must_use]
    pub fn with_framework(mut self, framework: impl Into<String>) -> Self {
        self.framework = Some(framework.into());
        self
    }

    /// Sets the build command.
    #[must_use]
    pub fn with_build_command(mut self, command: impl Into<String>) -> Self {
        self.build_command = Some(command.into());
        self
    }

    /// Sets the install command.
    #[must_use]
    pub fn with_install_command(mut self, command: impl Into<String>) -> Self {
        self.install_command = Some(command.into());
        self
    }

    /// Sets the directory with the built site.
    #[must_use]
    pub fn with_output_directory(mut self, directory: impl Into<String>) -> Self {
        self.output_directory = Some(directory.into());
        self
    }

    /// Sets the directory of the app inside the repository.
    #[must_use]
    pub fn with_root_directory(mut self, directory: impl Into<String>) -> Self {
        self.root_directory = Some(directory.into());
        self
    }

    fn check(&self) -> Result<(), StepError> {
        let refuse = |why: &'static str| {
            Err(StepError::permanent("create project").with_code("invalid_spec").with_message(why))
        };
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > PROJECT_NAME_MAX {
            return refuse("a project name has 1 to 100 characters");
        }
        if !self.name.chars().all(allowed) || self.name.contains("---") {
            return refuse("a project name has a-z, 0-9, '.', '_', '-' and no '---'");
        }
        let repository = self.repository.as_deref().map(|r| r.split_once('/'));
        if repository.is_some_and(|pair| pair.is_none_or(|(o, r)| o.is_empty() || r.is_empty())) {
            return refuse("a repository is written owner/name");
        }
        Ok(())
    }
}

/// A project that exists and is linked as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SiteProject {
    /// The provider's id, `prj_..`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The linked repository `owner/name`.
    pub repository: Option<String>,
    /// GitHub's number of the linked repository.
    pub repository_id: Option<u64>,
    /// Branch whose pushes go to production.
    pub production_branch: Option<String>,
}

/// Makes a project; deleting it removes its variables, deployments and domains.
#[derive(Debug, Clone)]
pub struct VercelProject {
    vercel: Vercel,
}

impl VercelProject {
    /// Works through `vercel`.
    #[must_use]
    pub fn new(vercel: &Vercel) -> Self {
        Self { vercel: vercel.clone() }
    }
}

impl Resource for VercelProject {
    const KIND: &'static str = "vercel.project";
    type Spec = SiteSpec;
    type Output = SiteProject;

    fn identity(&self, spec: &SiteSpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &SiteSpec) -> Result<Found, StepError> {
        let Some(project) = self.vercel.project(cx, &spec.name).await? else {
            return Ok(Found::Absent);
        };
        let mark = self.mark_of(cx, &project).await?;
        Ok(judge(cx, project, mark))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &SiteSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check()?;
        let mark = intent.mark().to_string();
        let wanted = NewProject {
            name: &spec.name,
            framework: spec.framework.as_deref(),
            git_repository: spec
                .repository
                .as_deref()
                .map(|repo| GitRepository { kind: "github", repo }),
            build_command: spec.build_command.as_deref(),
            install_command: spec.install_command.as_deref(),
            output_directory: spec.output_directory.as_deref(),
            root_directory: spec.root_directory.as_deref(),
            // S11: in the same call, so that there is no moment in which it exists without a mark.
            environment_variables: vec![NewVariable {
                key: OWNER_VARIABLE,
                value: &mark,
                kind: "plain",
                target: vec!["development"],
                comment: None,
            }],
        };
        let id = ExternalId::new(self.vercel.create_project(cx, &wanted).await?.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &SiteSpec,
        id: &ExternalId,
    ) -> Result<Readiness<SiteProject>, StepError> {
        let Some(project) = self.vercel.project(cx, id.as_str()).await? else {
            return Ok(vanished(cx));
        };
        let linked = project
            .link
            .as_ref()
            .and_then(|link| Some(format!("{}/{}", link.org.as_deref()?, link.repo.as_deref()?)));
        if let Some(wanted) = &spec.repository
            && !linked.as_deref().is_some_and(|linked| linked.eq_ignore_ascii_case(wanted))
        {
            return Ok(Readiness::Broken { code: "not_linked".to_owned() });
        }
        Ok(Readiness::Ready(SiteProject {
            id: project.id,
            name: project.name,
            repository: linked,
            repository_id: project.link.as_ref().and_then(|link| link.repo_id),
            production_branch: project.link.and_then(|link| link.production_branch),
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &SiteSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.vercel.delete_project(cx, id.as_str()).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let mut owned = Vec::new();
        for project in self.vercel.projects(cx).await? {
            if let Some(mark) = self.mark_of(cx, &project).await? {
                owned.push(
                    Owned::new(project.id)
                        .with_name(project.name)
                        .with_mark(Some(mark))
                        .with_created_at(moment(project.created_at)),
                );
            }
        }
        Ok(owned.into())
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: Duration::from_secs(60),
            listing_lag: LISTING_LAG,
            ready_within: Duration::from_secs(120),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.vercel.account()
    }

    fn facts(&self, spec: &SiteSpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}

impl VercelProject {
    /// Reads the owner mark; asks for the variables when the project came without them.
    async fn mark_of(
        &self,
        cx: &StepContext,
        project: &Project,
    ) -> Result<Option<OwnerMark>, StepError> {
        match &project.env {
            Some(env) => Ok(mark_in(env)),
            None => {
                let env = self.vercel.variables(cx, &project.id).await?;
                Ok(env.as_deref().and_then(mark_in))
            }
        }
    }
}

fn mark_in(env: &[Variable]) -> Option<OwnerMark> {
    let marker = env.iter().find(|v| v.key == OWNER_VARIABLE && v.kind == "plain")?;
    OwnerMark::find_in(&marker.value)
}

fn judge(cx: &StepContext, project: Project, mark: Option<OwnerMark>) -> Found {
    if mark.as_ref() == Some(&cx.mark()) {
        return Found::Ours(project.id.into());
    }
    let mut foreign = Foreign::unmarked(project.id);
    if let Some(owner) = mark {
        foreign = foreign.with_owner(owner);
    }
    if let Some(at) = moment(project.created_at) {
        foreign = foreign.with_created_at(at);
    }
    Found::Foreign(foreign)
}

/// A look right after the create may be behind it; later, what is not there will not come.
fn vanished<T>(cx: &StepContext) -> Readiness<T> {
    if may_lag(cx, LISTING_LAG) {
        Readiness::NotYet { again_in: Duration::from_secs(1) }
    } else {
        Readiness::Broken { code: "vanished".to_owned() }
    }
}
