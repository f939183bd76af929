//! A custom domain of a project, waited for until its DNS is right.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{may_lag, moment, project::SiteProject};
use crate::{
    adopted::adopted_incomplete,
    vercel::{LISTING_LAG, Vercel},
};

/// A wanted domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainSpec {
    /// The project that answers for it. Its last production deployment must not have failed.
    pub project: SiteProject,
    /// The domain, such as `app.example.com`.
    pub domain: String,
}

impl DomainSpec {
    /// Wants this domain to show this project.
    #[must_use]
    pub fn new(project: SiteProject, domain: impl Into<String>) -> Self {
        Self { project, domain: domain.into() }
    }
}

/// A domain that is verified and whose DNS points at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainVerified {
    /// The domain.
    pub domain: String,
    /// The project that answers for it.
    pub project_id: String,
}

/// Puts a domain on a project. Somebody else must set its DNS records; this waits for them.
#[derive(Debug, Clone)]
pub struct VercelDomain {
    vercel: Vercel,
}

impl VercelDomain {
    /// Works through `vercel`.
    #[must_use]
    pub fn new(vercel: &Vercel) -> Self {
        Self { vercel: vercel.clone() }
    }
}

impl Resource for VercelDomain {
    const KIND: &'static str = "vercel.domain";
    type Spec = DomainSpec;
    type Output = DomainVerified;

    fn identity(&self, spec: &DomainSpec) -> Identity {
        Identity::Named(spec.domain.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &DomainSpec) -> Result<Found, StepError> {
        let Some(found) = self.vercel.domain(cx, &spec.project.id, &spec.domain).await? else {
            return Ok(Found::Absent);
        };
        let mut foreign = Foreign::unmarkable(id_of(&spec.project.id, &found.name));
        if let Some(at) = moment(found.created_at) {
            foreign = foreign.with_created_at(at);
        }
        Ok(Found::Foreign(foreign))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &DomainSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let made = self.vercel.add_domain(cx, &spec.project.id, &spec.domain).await?;
        let id = id_of(&spec.project.id, &made.name);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DomainSpec,
        id: &ExternalId,
    ) -> Result<Readiness<DomainVerified>, StepError> {
        let later = Readiness::NotYet { again_in: Duration::from_secs(30) };
        let project = &spec.project.id;
        let Some(domain) = self.vercel.domain(cx, project, &spec.domain).await? else {
            return Ok(if may_lag(cx, LISTING_LAG) {
                Readiness::NotYet { again_in: Duration::from_secs(1) }
            } else {
                Readiness::Broken { code: "vanished".to_owned() }
            });
        };
        if !domain.verified && cx.is_adopted(id) {
            return Err(adopted_incomplete("verify the domain", "it is not verified"));
        }
        if !domain.verified && !self.vercel.verify_domain(cx, project, &spec.domain).await? {
            return Ok(later);
        }
        if self.vercel.domain_misconfigured(cx, &spec.domain).await? {
            return Ok(later);
        }
        Ok(Readiness::Ready(DomainVerified { domain: domain.name, project_id: project.clone() }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &DomainSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let (project, domain) =
            id.as_str().split_once('/').unwrap_or((&spec.project.id, &spec.domain));
        self.vercel.remove_domain(cx, project, domain).await
    }

    /// The provider has no place for a mark on a domain. A domain goes with its project, which has
    /// one.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        Timing {
            listing_lag: LISTING_LAG,
            ready_within: Duration::from_secs(72 * 3600),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.vercel.account()
    }

    fn facts(&self, spec: &DomainSpec) -> Facts {
        Facts { name: Some(spec.domain.clone()), ..Facts::default() }
    }
}

fn id_of(project: &str, domain: &str) -> ExternalId {
    ExternalId::new(format!("{project}/{domain}"))
}
