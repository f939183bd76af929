//! The variables of a project: set in one call, read back before anything may be deployed.

use std::{collections::BTreeSet, time::Duration};

use provision_core::{
    ExternalId, Foreign, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness, Resource,
    Secret, SecretRef, StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{may_lag, moment, project::SiteProject};
use crate::{
    adopted::adopted_incomplete,
    vercel::{
        LISTING_LAG, OWNER_VARIABLE, VARIABLES_MAX, Vercel,
        model::{NewVariable, Variable},
    },
};

/// How the provider keeps a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvKind {
    /// Readable by everybody in the team.
    Plain,
    /// Encrypted at rest, readable by those who may decrypt.
    Encrypted,
    /// Write-only; not allowed for development.
    Sensitive,
}

impl EnvKind {
    fn wire(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encrypted => "encrypted",
            Self::Sensitive => "sensitive",
        }
    }
}

/// Which deployments see a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvTarget {
    /// The production deployment.
    Production,
    /// Deployments of other branches.
    Preview,
    /// Machines of developers.
    Development,
}

impl EnvTarget {
    fn wire(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Preview => "preview",
            Self::Development => "development",
        }
    }
}

/// A value, or the name of a secret that is opened at the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// Not a secret: it is journaled.
    Plain(String),
    /// Opened at the call, never journaled.
    Secret(SecretRef),
}

/// One wanted variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EnvVar {
    /// Name.
    pub key: String,
    /// Value.
    pub value: EnvValue,
    /// How it is kept.
    pub kind: EnvKind,
    /// Which deployments see it.
    pub targets: Vec<EnvTarget>,
}

impl EnvVar {
    /// Wants a readable variable for production and preview.
    #[must_use]
    pub fn plain(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(key, EnvValue::Plain(value.into()), EnvKind::Plain)
    }

    /// Wants an encrypted variable for production and preview.
    #[must_use]
    pub fn encrypted(key: impl Into<String>, value: SecretRef) -> Self {
        Self::new(key, EnvValue::Secret(value), EnvKind::Encrypted)
    }

    /// Wants a write-only variable for production and preview.
    #[must_use]
    pub fn sensitive(key: impl Into<String>, value: SecretRef) -> Self {
        Self::new(key, EnvValue::Secret(value), EnvKind::Sensitive)
    }

    /// Wants a variable for production and preview.
    #[must_use]
    pub fn new(key: impl Into<String>, value: EnvValue, kind: EnvKind) -> Self {
        let targets = vec![EnvTarget::Production, EnvTarget::Preview];
        Self { key: key.into(), value, kind, targets }
    }

    /// Sets which deployments see it.
    #[must_use]
    pub fn with_targets(mut self, targets: impl IntoIterator<Item = EnvTarget>) -> Self {
        self.targets = targets.into_iter().collect();
        self
    }

    /// Whether an existing variable stands where this one goes.
    fn meets(&self, other: &Variable) -> bool {
        other.key == self.key
            && other.target.iter().any(|t| self.targets.iter().any(|w| w.wire() == t))
    }

    fn targets_match(&self, other: &Variable) -> bool {
        let wanted: BTreeSet<&str> = self.targets.iter().map(|t| t.wire()).collect();
        other.target.iter().collect::<BTreeSet<_>>() == wanted
    }
}

/// The wanted variables of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EnvSpec {
    /// The project they belong to.
    pub project: SiteProject,
    /// The variables: 1 to 100, no key twice for one target.
    pub variables: Vec<EnvVar>,
}

impl EnvSpec {
    /// Wants these variables in this project.
    #[must_use]
    pub fn new(project: SiteProject, variables: impl IntoIterator<Item = EnvVar>) -> Self {
        Self { project, variables: variables.into_iter().collect() }
    }

    fn check(&self) -> Result<(), StepError> {
        let refuse = |why: String| {
            Err(StepError::permanent("set variables").with_code("invalid_spec").with_message(why))
        };
        if self.variables.is_empty() || self.variables.len() > VARIABLES_MAX {
            return refuse(format!("one call sets 1 to {VARIABLES_MAX} variables"));
        }
        let mut seen = BTreeSet::new();
        for variable in &self.variables {
            let key = &variable.key;
            let mut chars = key.chars();
            let head = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !head || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return refuse(format!("{key:?} is no name of a variable"));
            }
            if key == OWNER_VARIABLE || variable.targets.is_empty() {
                return refuse(format!("{key} is reserved, or has no target"));
            }
            let development = variable.targets.contains(&EnvTarget::Development);
            if variable.kind == EnvKind::Sensitive && development {
                return refuse(format!("{key}: a sensitive variable cannot be for development"));
            }
            if !variable.targets.iter().all(|target| seen.insert((key.as_str(), *target))) {
                return refuse(format!("{key} is wanted twice for one target"));
            }
        }
        Ok(())
    }
}

/// Proof that a project's variables were set and read back; what a deployment is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvApplied {
    project: SiteProject,
    keys: Vec<String>,
}

impl EnvApplied {
    /// Says that a project is to be deployed without any variable.
    #[must_use]
    pub fn nothing(project: SiteProject) -> Self {
        Self { project, keys: Vec::new() }
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &SiteProject {
        &self.project
    }

    /// Names of the variables that are set, in the wanted order.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}

/// Sets variables of a project, all in one call, and reads them back.
///
/// Each carries the owner mark as its comment; a variable of the same name and target without it
/// is foreign and is not overwritten. Deleting removes those that carry the mark.
#[derive(Debug, Clone)]
pub struct VercelEnv {
    vercel: Vercel,
}

impl VercelEnv {
    /// Works through `vercel`.
    #[must_use]
    pub fn new(vercel: &Vercel) -> Self {
        Self { vercel: vercel.clone() }
    }

    /// Sets `wanted` in one call: single calls would not be repeatable as one.
    async fn upsert(
        &self,
        cx: &StepContext,
        project: &str,
        wanted: &[(&EnvVar, Secret)],
    ) -> Result<(), StepError> {
        let comment = cx.mark().to_string();
        let body: Vec<NewVariable<'_>> = wanted
            .iter()
            .map(|(variable, value)| NewVariable {
                key: &variable.key,
                value: value.expose(),
                kind: variable.kind.wire(),
                target: variable.targets.iter().map(|t| t.wire()).collect(),
                comment: Some(&comment),
            })
            .collect();
        self.vercel.upsert_variables(cx, project, &body).await
    }
}

impl Resource for VercelEnv {
    const KIND: &'static str = "vercel.env";
    type Spec = EnvSpec;
    type Output = EnvApplied;

    fn identity(&self, spec: &EnvSpec) -> Identity {
        // The provider keeps one value per key and target, and the call is an upsert.
        let keys: Vec<&str> = spec.variables.iter().map(|v| v.key.as_str()).collect();
        Identity::Named(format!("{}/{}", spec.project.id, keys.join(",")))
    }

    async fn find(&self, cx: &StepContext, spec: &EnvSpec) -> Result<Found, StepError> {
        let Some(env) = self.vercel.variables(cx, &spec.project.id).await? else {
            return Ok(Found::Absent);
        };
        let mark = cx.mark();
        if env.iter().any(|v| mark_of(v).as_ref() == Some(&mark)) {
            return Ok(Found::Ours(set_id(&spec.project.id, &mark)));
        }
        let met = env.iter().find(|v| spec.variables.iter().any(|wanted| wanted.meets(v)));
        let Some(met) = met else { return Ok(Found::Absent) };
        let own = met.id.as_deref().unwrap_or(&met.key);
        let mut foreign = Foreign::unmarked(format!("{}/env/{own}", spec.project.id));
        if let Some(owner) = mark_of(met) {
            foreign = foreign.with_owner(owner);
        }
        Ok(Found::Foreign(foreign))
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &EnvSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check()?;
        let id = set_id(&spec.project.id, intent.mark());
        // The id follows from the mark alone, so it is known before the call; a call that sets
        // only some of the variables is undone by it.
        let wanted = opened(cx, spec.variables.iter()).await?;
        self.upsert(cx, &spec.project.id, &wanted).await?;
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &EnvSpec,
        id: &ExternalId,
    ) -> Result<Readiness<EnvApplied>, StepError> {
        let wanted = opened(cx, spec.variables.iter()).await?;
        let Some(env) = self.vercel.variables(cx, &spec.project.id).await? else {
            return Ok(Readiness::Broken { code: "project_vanished".to_owned() });
        };
        let differing = differing(&env, &wanted);
        let Some((first, _)) = differing.first() else {
            let keys = spec.variables.iter().map(|v| v.key.clone()).collect();
            return Ok(Readiness::Ready(EnvApplied { project: spec.project.clone(), keys }));
        };
        if cx.is_adopted(id) {
            let what = format!("`{}` is not there as wanted", first.key);
            return Err(adopted_incomplete("check the variables", what));
        }
        let mark = cx.mark();
        let ours = |v: &&Variable| mark_of(v).as_ref() == Some(&mark);
        if env.iter().any(|v| differing.iter().any(|(w, _)| w.meets(v)) && !ours(&v)) {
            return Ok(Readiness::Broken { code: "env_conflict".to_owned() });
        }
        // What an earlier call set only in part is finished here: the upsert is repeatable.
        self.upsert(cx, &spec.project.id, &differing).await?;
        let again = self.vercel.variables(cx, &spec.project.id).await?.unwrap_or_default();
        let keys: Vec<String> = spec.variables.iter().map(|v| v.key.clone()).collect();
        let left = missing_keys(&again, &wanted);
        if left.is_empty() {
            return Ok(Readiness::Ready(EnvApplied { project: spec.project.clone(), keys }));
        }
        if may_lag(cx, LISTING_LAG) {
            return Ok(Readiness::NotYet { again_in: Duration::from_secs(1) });
        }
        Err(StepError::permanent("read variables back")
            .with_code("env_mismatch")
            .with_message(format!("set, and not there as set: {}", left.join(", ")))
            .broken())
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &EnvSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // The id alone says what to delete, so that a sweep needs no spec of the run's.
        let (project, token) =
            id.as_str().split_once("/env/").unwrap_or((&spec.project.id, id.as_str()));
        let Some(env) = self.vercel.variables(cx, project).await? else { return Ok(()) };
        for variable in env {
            let ours = mark_of(&variable).is_some_and(|mark| mark.token() == token);
            if let (true, Some(variable)) = (ours, variable.id) {
                self.vercel.delete_variable(cx, project, &variable).await?;
            }
        }
        Ok(())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let mut owned: Vec<Owned> = Vec::new();
        for project in self.vercel.projects(cx).await? {
            // A project that went away between the two looks has no variables any more.
            let env = self.vercel.variables(cx, &project.id).await?.unwrap_or_default();
            for mark in env.iter().filter_map(mark_of).collect::<Vec<_>>() {
                let id = set_id(&project.id, &mark);
                if owned.iter().all(|o| o.id != id) {
                    owned.push(
                        Owned::new(id)
                            .with_name(project.name.clone())
                            .with_mark(Some(mark))
                            .with_created_at(moment(project.created_at)),
                    );
                }
            }
        }
        Ok(owned.into())
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: Duration::from_secs(60),
            listing_lag: LISTING_LAG,
            ready_within: Duration::from_secs(60),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.vercel.account()
    }
}

/// Opens the values, right before they are sent or compared.
async fn opened<'a>(
    cx: &StepContext,
    variables: impl Iterator<Item = &'a EnvVar> + Send,
) -> Result<Vec<(&'a EnvVar, Secret)>, StepError> {
    let mut opened = Vec::new();
    for variable in variables {
        let value = match &variable.value {
            EnvValue::Plain(value) => Secret::new(value.as_str()),
            EnvValue::Secret(reference) => cx.reveal(reference).await?,
        };
        opened.push((variable, value));
    }
    Ok(opened)
}

/// One id for all variables of a step: the project and the token of the mark they carry.
fn set_id(project: &str, mark: &OwnerMark) -> ExternalId {
    ExternalId::new(format!("{project}/env/{}", mark.token()))
}

fn mark_of(variable: &Variable) -> Option<OwnerMark> {
    variable.comment.as_deref().and_then(OwnerMark::find_in)
}

/// The wanted variables that are not there as wanted. Values are compared where they can be read.
fn differing<'a>(env: &[Variable], wanted: &[(&'a EnvVar, Secret)]) -> Vec<(&'a EnvVar, Secret)> {
    let there = |variable: &EnvVar, value: &Secret| {
        env.iter().any(|v| {
            let readable = v.kind == "plain" || v.decrypted;
            v.key == variable.key
                && v.kind == variable.kind.wire()
                && variable.targets_match(v)
                && (!readable || v.value == value.expose())
        })
    };
    let missing = wanted.iter().filter(|(variable, value)| !there(variable, value));
    missing.map(|(variable, value)| (*variable, value.clone())).collect()
}

fn missing_keys(env: &[Variable], wanted: &[(&EnvVar, Secret)]) -> Vec<String> {
    differing(env, wanted).into_iter().map(|(variable, _)| variable.key.clone()).collect()
}
