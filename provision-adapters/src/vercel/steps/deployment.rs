//! A deployment: built, live under its alias, and answering.

use std::time::Duration;

use provision_core::{
    Candidate, Effect, ExternalId, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, StepContext, StepError, Timing, Verdict,
};
use serde::{Deserialize, Serialize};

use super::{env::EnvApplied, may_lag, moment};
use crate::vercel::{
    BUILD_TIME_MAX, DEPLOYMENT_POLL, DEPLOYMENT_READY_WITHIN, Vercel,
    model::{Deployment, ListedDeployment, NewDeployment, NewGitSource},
};

const LAG: Duration = Duration::from_secs(10);

/// What is built: a ref of a GitHub repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitSource {
    /// Repository as `owner/name`; used when its number is not known.
    pub repository: Option<String>,
    /// GitHub's number of the repository.
    pub repository_id: Option<u64>,
    /// Branch or tag.
    pub reference: String,
    /// Exact commit; none means the ref's latest.
    pub sha: Option<String>,
}

impl GitSource {
    /// Builds a branch or tag of the repository `owner/name`.
    #[must_use]
    pub fn repository(repository: impl Into<String>, reference: impl Into<String>) -> Self {
        Self {
            repository: Some(repository.into()),
            repository_id: None,
            reference: reference.into(),
            sha: None,
        }
    }

    /// Builds a branch or tag of the repository with this GitHub number.
    #[must_use]
    pub fn repository_id(id: u64, reference: impl Into<String>) -> Self {
        Self { repository: None, repository_id: Some(id), reference: reference.into(), sha: None }
    }

    /// Builds exactly this commit.
    #[must_use]
    pub fn at(mut self, sha: impl Into<String>) -> Self {
        self.sha = Some(sha.into());
        self
    }

    fn wire(&self) -> Result<NewGitSource<'_>, StepError> {
        // "owner/name" in `repo` alone is refused by the provider: it wants both, or the number.
        let pair = self.repository.as_deref().and_then(|r| r.split_once('/'));
        if self.repository_id.is_none() && pair.is_none() {
            return Err(StepError::permanent("create deployment")
                .with_code("invalid_spec")
                .with_message("a git source names owner/name or a repository number"));
        }
        let pair = if self.repository_id.is_some() { None } else { pair };
        Ok(NewGitSource {
            kind: "github",
            org: pair.map(|(org, _)| org),
            repo: pair.map(|(_, repo)| repo),
            repo_id: self.repository_id,
            reference: &self.reference,
            sha: self.sha.as_deref(),
        })
    }
}

/// Whether a deployment goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentTarget {
    /// It becomes what the project's production aliases show.
    Production,
    /// It gets an address of its own.
    Preview,
}

/// How the deployed app is asked whether it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Probe {
    /// Path, starting with `/`.
    pub path: String,
    /// The status that proves it.
    pub status: u16,
}

impl Probe {
    /// Expects 200 at this path.
    #[must_use]
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), status: 200 }
    }

    /// Expects another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// A wanted deployment. It needs an [`EnvApplied`], so no deployment can precede its variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeploymentSpec {
    /// The project, with its variables set and read back.
    pub env: EnvApplied,
    /// What is built.
    pub source: GitSource,
    /// Whether it goes live.
    pub target: DeploymentTarget,
    /// How the app is asked; none means that nobody asks it.
    pub probe: Option<Probe>,
}

impl DeploymentSpec {
    /// Wants a production deployment whose `/` answers 200.
    #[must_use]
    pub fn production(env: EnvApplied, source: GitSource) -> Self {
        let target = DeploymentTarget::Production;
        Self { env, source, target, probe: Some(Probe::at("/")) }
    }

    /// Wants a preview deployment. It is not probed: previews are usually behind a log-in.
    #[must_use]
    pub fn preview(env: EnvApplied, source: GitSource) -> Self {
        Self { env, source, target: DeploymentTarget::Preview, probe: None }
    }

    /// Sets how the app is asked.
    #[must_use]
    pub fn with_probe(mut self, probe: Option<Probe>) -> Self {
        self.probe = probe;
        self
    }
}

/// A deployment that is live and answered its probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Deployed {
    /// The provider's id, `dpl_..`.
    pub id: String,
    /// Address of the live app, with scheme.
    pub url: String,
    /// Address of exactly this deployment, with scheme.
    pub deployment_url: String,
}

/// Makes a deployment and waits until its alias is live and its app answers.
#[derive(Debug, Clone)]
pub struct VercelDeployment {
    vercel: Vercel,
}

impl VercelDeployment {
    /// Works through `vercel`.
    #[must_use]
    pub fn new(vercel: &Vercel) -> Self {
        Self { vercel: vercel.clone() }
    }

    /// Asks the app; a wrong answer counts once the edges had time to learn of the alias.
    async fn probed(
        &self,
        cx: &StepContext,
        spec: &DeploymentSpec,
        deployment: &Deployment,
        host: &str,
    ) -> Result<Readiness<()>, StepError> {
        let Some(probe) = &spec.probe else { return Ok(Readiness::Ready(())) };
        let status = self.vercel.probe(cx, host, &probe.path).await?;
        if status == probe.status {
            return Ok(Readiness::Ready(()));
        }
        let live = moment(deployment.ready).unwrap_or_else(|| cx.now());
        if cx.now().since(live) < self.vercel.probe_grace() {
            return Ok(Readiness::NotYet { again_in: Duration::from_secs(3) });
        }
        Err(StepError::permanent("probe deployment")
            .with_code("probe_failed")
            .with_message(format!("answered {status}, wanted {}", probe.status))
            .broken())
    }
}

impl Resource for VercelDeployment {
    const KIND: &'static str = "vercel.deployment";
    type Spec = DeploymentSpec;
    type Output = Deployed;

    fn identity(&self, _: &DeploymentSpec) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &DeploymentSpec) -> Result<Found, StepError> {
        let listed = self.vercel.deployments(cx, Some(&spec.env.project().id)).await?;
        let mark = cx.mark();
        let mut ours: Vec<Candidate> = listed
            .into_iter()
            .filter(|deployment| exists(deployment) && mark_of(deployment).as_ref() == Some(&mark))
            .map(|deployment| Candidate {
                id: deployment.uid.into(),
                marked: true,
                created_at: moment(deployment.created),
            })
            .collect();
        // Deployments without our mark, such as those of a push, are not in the way of ours.
        Ok(match ours.pop() {
            None => Found::Absent,
            Some(one) if ours.is_empty() => Found::Ours(one.id),
            Some(one) => {
                ours.push(one);
                Found::Many(ours)
            }
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &DeploymentSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let project = spec.env.project();
        let target = match spec.target {
            DeploymentTarget::Production => Some("production"),
            DeploymentTarget::Preview => None,
        };
        let wanted = NewDeployment {
            name: &project.name,
            project: &project.id,
            target,
            git_source: spec.source.wire()?,
            meta: intent.labels().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        };
        let made = self.vercel.create_deployment(cx, &wanted).await?;
        let mark = OwnerMark::from_labels(pairs(&made.meta));
        if mark.as_ref() != Some(intent.mark()) {
            // Asked for a new one and got one without our mark: an existing one, whose variables may
            // be older than ours, or ours with its mark lost. A look tells, if it does.
            return Err(StepError::permanent("create deployment")
                .with_effect(Effect::Unknown)
                .with_code("foreign_deployment")
                .with_message("the provider answered with a deployment that is not ours"));
        }
        let id = ExternalId::new(made.id);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DeploymentSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Deployed>, StepError> {
        let Some(deployment) = self.vercel.deployment(cx, id.as_str()).await? else {
            return Ok(if may_lag(cx, LAG) {
                Readiness::NotYet { again_in: Duration::from_secs(2) }
            } else {
                Readiness::Broken { code: "vanished".to_owned() }
            });
        };
        if !is_live(&deployment)? {
            return Ok(Readiness::NotYet { again_in: DEPLOYMENT_POLL });
        }
        let host = deployment.alias.first().unwrap_or(&deployment.url).clone();
        match self.probed(cx, spec, &deployment, &host).await? {
            Readiness::Ready(()) => Ok(Readiness::Ready(Deployed {
                id: deployment.id,
                url: format!("https://{host}"),
                deployment_url: format!("https://{}", deployment.url),
            })),
            Readiness::NotYet { again_in } => Ok(Readiness::NotYet { again_in }),
            Readiness::Broken { code } => Ok(Readiness::Broken { code }),
        }
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &DeploymentSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.vercel.delete_deployment(cx, id.as_str()).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let listed = self.vercel.deployments(cx, None).await?;
        let owned = listed.into_iter().filter(exists).filter_map(|deployment| {
            let mark = mark_of(&deployment)?;
            let created = moment(deployment.created);
            Some(
                Owned::new(deployment.uid)
                    .with_name(deployment.name)
                    .with_mark(Some(mark))
                    .with_created_at(created),
            )
        });
        Ok(owned.collect())
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: Duration::from_secs(60),
            listing_lag: LAG,
            ready_within: DEPLOYMENT_READY_WITHIN.max(BUILD_TIME_MAX),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.vercel.account()
    }
}

/// READY alone is not live: the alias must be assigned, and without an error.
fn is_live(deployment: &Deployment) -> Result<bool, StepError> {
    match deployment.ready_state.as_str() {
        "ERROR" | "CANCELED" => return Err(failed_build(deployment)),
        "BLOCKED" => {
            return Err(StepError::new(Effect::Applied, Verdict::Operator, "await deployment")
                .with_code("deployment_blocked")
                .with_hint("the commit's author must be a member of the team; then redrive"));
        }
        _ => {}
    }
    if deployment.checks_conclusion.as_deref() == Some("failed") {
        return Err(broken("checks_failed", deployment));
    }
    if deployment.alias_error.as_ref().is_some_and(|error| !error.is_null()) {
        return Err(broken("alias_error", deployment));
    }
    let assigned = match &deployment.alias_assigned {
        serde_json::Value::Bool(assigned) => *assigned,
        serde_json::Value::Number(_) => true,
        _ => false,
    };
    Ok(deployment.ready_state == "READY" && assigned)
}

/// Permanent for the same commit and settings, unless the platform says that it was its own fault.
fn failed_build(deployment: &Deployment) -> StepError {
    let code = deployment.error_code.as_deref().unwrap_or_default().to_ascii_lowercase();
    let platform = code.starts_with("internal") || code.starts_with("platform");
    if platform {
        return StepError::new(Effect::Applied, Verdict::Retry { after: None }, "await deployment")
            .with_code("platform_failed")
            .broken();
    }
    if deployment.ready_state == "CANCELED" {
        return broken("deployment_canceled", deployment);
    }
    broken("deployment_failed", deployment)
}

fn broken(code: &'static str, deployment: &Deployment) -> StepError {
    let mut error = StepError::permanent("await deployment").with_code(code).broken();
    let word = deployment.error_code.as_deref().filter(|c| is_word(c));
    if let Some(word) = word {
        error = error.with_message(format!("the provider's code is {word}"));
    }
    let log = deployment.inspector_url.as_deref().filter(|url| is_dashboard_link(url));
    match log {
        Some(log) => error.with_hint(format!("the build log is at {log}")),
        None => error.with_hint(format!("read the log of {}", deployment.id)),
    }
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// X1: a page of the dashboard; nothing that could carry a token in its query.
fn is_dashboard_link(url: &str) -> bool {
    url.strip_prefix("https://vercel.com/").is_some_and(|path| {
        path.len() <= 200 && path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    })
}

fn exists(deployment: &ListedDeployment) -> bool {
    let state = deployment.state.as_deref().or(deployment.ready_state.as_deref());
    state != Some("DELETED")
}

fn pairs(meta: &std::collections::BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    meta.iter().map(|(k, v)| (k.as_str(), v.as_str()))
}

fn mark_of(deployment: &ListedDeployment) -> Option<OwnerMark> {
    OwnerMark::from_labels(pairs(&deployment.meta))
}
