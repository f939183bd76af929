//! A project: created with a sealed password, waited for, given its schema, verified as the
//! anonymous role, and only then asked for its keys.

use provision_core::{
    Call, Candidate, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, OwnerMark,
    Readiness, Resource, SecretSpec, StepContext, StepError, Timing,
};

use super::{
    keys::pick,
    migrate,
    settle::{self, Phase, Services},
    spec::{Project, ProjectSpec},
};
use crate::http::parse_rfc3339;
use crate::supabase::{
    LATE_WINDOW, LISTING_LAG, POLL, POLL_SERVICES, REGION_GROUPS,
    client::{NewProject, Supabase},
    model::{ProjectShown, Status},
    verify::{self, Answer, Executor},
};

/// Name of the sealed database password.
const PASSWORD: &str = "db_password";
/// What every name of ours contains.
const MARK: &str = "[provision:";

/// A project whose keys are released only after its row-level security was verified.
///
/// The password is drawn and sealed with the intent, so a resumed run still knows it. A project
/// whose create got no answer is found again by the owner mark in its name.
#[derive(Debug, Clone)]
pub struct SupabaseProject {
    client: Supabase,
}

impl SupabaseProject {
    /// Makes projects through this client.
    #[must_use]
    pub fn new(client: &Supabase) -> Self {
        Self { client: client.clone() }
    }

    /// Looks whether the token sees the organization and the region has room, and changes
    /// nothing.
    ///
    /// # Errors
    /// The spec is refused (permanent, before any call, an unknown region with the valid list),
    /// the provider refuses the token, or the region is full.
    pub async fn preflight(&self, cx: &StepContext, spec: &ProjectSpec) -> Result<(), StepError> {
        self.check(spec)?;
        self.client.organization(cx).await?;
        if REGION_GROUPS.contains(&&*spec.region) {
            return Ok(());
        }
        let roomy = self.client.regions(cx).await?;
        if roomy.contains(&spec.region) {
            return Ok(());
        }
        let message = format!("no room in {}; there is in {}", spec.region, roomy.join(", "));
        Err(StepError::permanent("list regions").with_code("region_full").with_message(message))
    }

    fn check(&self, spec: &ProjectSpec) -> Result<(), StepError> {
        spec.check(&self.client.config().regions).map_err(|error| {
            StepError::permanent("check project")
                .with_code(error.code())
                .with_message(error.to_string())
        })
    }

    /// Every project that carries exactly this mark and is not gone.
    async fn marked(
        &self,
        cx: &StepContext,
        mark: &OwnerMark,
    ) -> Result<Vec<ProjectShown>, StepError> {
        let mut all = self.client.projects(cx, &mark.run().to_string()).await?;
        // A listing may lag behind a create; what is known by its id is asked for by its id.
        for id in cx.noted() {
            if !all.iter().any(|project| project.id == id.as_str()) {
                all.extend(self.client.project(cx, id.as_str()).await?);
            }
        }
        let ours = |p: &ProjectShown| OwnerMark::find_in(&p.name).as_ref() == Some(mark);
        all.retain(|project| project.status != Status::Removed && ours(project));
        Ok(all)
    }

    async fn verify(
        &self,
        cx: &StepContext,
        spec: &ProjectSpec,
        id: &str,
    ) -> Result<(), StepError> {
        let sql = Sql { client: &self.client, cx, id };
        verify::prove(VERIFY, &sql, &verify::Scope::supabase(), &spec.schema.openings).await
    }
}

/// Sends a batch of the verification to a project.
struct Sql<'a> {
    client: &'a Supabase,
    cx: &'a StepContext,
    id: &'a str,
}

impl Executor for Sql<'_> {
    type Error = StepError;

    async fn run(&self, batch: String) -> Result<Answer, StepError> {
        self.client.query(self.cx, self.id, Call::read(VERIFY), &batch).await
    }
}

const VERIFY: &str = "verify row-level security";

impl Resource for SupabaseProject {
    const KIND: &'static str = "supabase.project";
    type Spec = ProjectSpec;
    type Output = Project;

    fn identity(&self, _: &ProjectSpec) -> Identity {
        // Names are not unique: a repeated create would make, and bill, a second project.
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &ProjectSpec) -> Result<Found, StepError> {
        self.check(spec)?;
        let mark = cx.mark();
        let (going, there): (Vec<_>, Vec<_>) = self
            .marked(cx, &mark)
            .await?
            .into_iter()
            .partition(|project| project.status == Status::GoingDown);
        Ok(match there.as_slice() {
            [] if going.is_empty() => Found::Absent,
            [] => Found::Going { again_in: POLL },
            [one] => Found::Ours(ExternalId::new(&one.id)),
            several => Found::Many(several.iter().map(candidate).collect()),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &ProjectSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let password = intent.secret(PASSWORD).ok_or_else(|| {
            StepError::permanent("create project")
                .with_code("no_password")
                .with_message("the intent holds no sealed password")
        })?;
        let name = format!("{} {}", spec.name, intent.mark());
        let project = NewProject {
            name: &name,
            region: &spec.region,
            instance_size: spec.instance_size.as_deref(),
            password,
        };
        let made = self.client.create_project(cx, &project).await?;
        // Every later path is built from it.
        if made.id.len() != 20 || !made.id.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(StepError::unknown("create project").with_code("garbage"));
        }
        Ok(ExternalId::new(made.id))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ProjectSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Project>, StepError> {
        let id = id.as_str();
        let Some(project) = self.client.project(cx, id).await? else { return missing(cx) };
        match settle::project(project.status) {
            Phase::Up => {}
            Phase::Coming => return Ok(Readiness::NotYet { again_in: POLL }),
            Phase::Failed(code) => return Ok(Readiness::Broken { code: code.to_owned() }),
        }
        let wanted = spec.services();
        match settle::services(&self.client.health(cx, id, &wanted).await?, &wanted) {
            Services::Up => {}
            Services::Coming => return Ok(Readiness::NotYet { again_in: POLL_SERVICES }),
            Services::Ill(name) => {
                return Err(StepError::retry("read health")
                    .with_code("unhealthy")
                    .with_message(format!("service {name} is unhealthy")));
            }
        }
        migrate::apply(&self.client, cx, id, &spec.schema.migrations).await?;
        self.verify(cx, spec, id).await?;
        // X11: from here on, and not before, keys may leave the provider.
        let keys = match self.client.api_keys(cx, id).await {
            Ok(keys) => keys,
            Err(error) if error.code() == "keys_not_ready" => {
                return Ok(Readiness::NotYet { again_in: POLL_SERVICES });
            }
            Err(error) => return Err(error),
        };
        let Some(keys) = pick(&keys) else {
            return Ok(Readiness::NotYet { again_in: POLL_SERVICES });
        };
        let db_host = project.database.map_or_else(|| format!("db.{id}.supabase.co"), |db| db.host);
        Ok(Readiness::Ready(Project {
            project_ref: id.to_owned(),
            url: self.client.project_url(id),
            region: project.region,
            db_host,
            anon_key: cx.keep("anon_key", keys.client),
            service_key: cx.keep("service_key", keys.server),
            db_password: cx.sealed(PASSWORD),
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &ProjectSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.client.delete_project(cx, id.as_str()).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let all = self.client.projects(cx, MARK).await?;
        let gone = |status| matches!(status, Status::GoingDown | Status::Removed);
        Ok(all
            .iter()
            .filter(|project| !gone(project.status))
            .filter_map(|project| Some((project, OwnerMark::find_in(&project.name)?)))
            .map(|(project, mark)| {
                Owned::new(project.id.as_str())
                    .with_name(project.name.as_str())
                    .with_mark(Some(mark))
                    .with_created_at(project.created_at.as_deref().and_then(parse_rfc3339))
            })
            .collect())
    }

    fn secrets(&self, _: &ProjectSpec) -> Vec<SecretSpec> {
        vec![SecretSpec::password(PASSWORD)]
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: LATE_WINDOW,
            listing_lag: LISTING_LAG,
            ready_within: self.client.config().ready_within,
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        &self.client.config().organization
    }

    fn facts(&self, spec: &ProjectSpec) -> Facts {
        let config = self.client.config();
        Facts {
            name: Some(spec.name.clone()),
            region: Some(spec.region.clone()),
            template: None,
            cost: config.cost.clone(),
        }
    }
}

fn candidate(project: &ProjectShown) -> Candidate {
    Candidate {
        id: ExternalId::new(&project.id),
        marked: true,
        created_at: project.created_at.as_deref().and_then(parse_rfc3339),
    }
}

/// A project that was created and is not shown: look-ups may lag at first; later it is gone.
fn missing(cx: &StepContext) -> Result<Readiness<Project>, StepError> {
    let since = cx.memory().polling_since;
    if since.is_none_or(|since| cx.now().since(since) < LISTING_LAG) {
        return Ok(Readiness::NotYet { again_in: POLL_SERVICES });
    }
    Ok(Readiness::Broken { code: "gone".to_owned() })
}
