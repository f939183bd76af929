//! A module's infrastructure as one resource.

use std::collections::BTreeMap;

use provision_core::{
    Effect, ExternalId, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness, Resource,
    Secret, SecretRef, StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    NAME_MAX, READY_WITHIN, Terraform,
    client::{Given, Session},
    error::STATE_LOCKED,
};

/// Digits of the token at the end of a workspace's name.
const TOKEN_DIGITS: usize = 12;

/// The value of a module's variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// Not a secret: it is journaled, and given to Terraform by file.
    Plain(Value),
    /// Opened at the call and given to Terraform by its environment. The module should declare it
    /// `sensitive`, and has to declare it as a string.
    Secret(SecretRef),
}

/// Wanted infrastructure: one instance of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InfrastructureSpec {
    /// Name of the instance, such as `agent-7`: lower-case letters, digits and `-`, at most
    /// [`NAME_MAX`]. The workspace is called so, with the token of the owner mark appended.
    pub name: String,
    /// Values of the module's variables.
    pub variables: BTreeMap<String, Variable>,
}

impl InfrastructureSpec {
    /// Wants an instance, with no variable set so far.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), variables: BTreeMap::new() }
    }

    /// Sets a variable that is no secret.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.variables.insert(name.into(), Variable::Plain(value.into()));
        self
    }

    /// Sets a variable to a secret.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<String>, value: SecretRef) -> Self {
        self.variables.insert(name.into(), Variable::Secret(value));
        self
    }
}

/// Infrastructure that stands as the module says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InfrastructureMade {
    /// Its workspace.
    pub workspace: String,
    /// Outputs of the module that are not sensitive.
    pub outputs: BTreeMap<String, Value>,
    /// Where sensitive outputs are kept that
    /// [`TerraformConfig::with_secret_output`](super::TerraformConfig::with_secret_output) names.
    pub secrets: BTreeMap<String, SecretRef>,
}

/// Applies a module in a workspace of this run and step; undoing destroys what it made.
///
/// A crash leaves Terraform at its work: the next attempt waits for its end and for the lock of the
/// state, plans against what then is there, and completes it. A failed apply is looked at and
/// completed, too. After a killed one the state may lack what it made, so a person is asked.
#[derive(Debug, Clone)]
pub struct Infrastructure {
    terraform: Terraform,
}

impl Infrastructure {
    /// Works through `terraform`.
    #[must_use]
    pub fn new(terraform: &Terraform) -> Self {
        Self { terraform: terraform.clone() }
    }

    async fn open<'a>(
        &'a self,
        cx: &'a StepContext,
        spec: &InfrastructureSpec,
        workspace: &'a str,
    ) -> Result<Session<'a>, StepError> {
        let mut given = Given::default();
        for (name, value) in &spec.variables {
            match value {
                Variable::Plain(value) => {
                    given.plain.insert(name.clone(), value.clone());
                }
                Variable::Secret(value) => {
                    given.secret.push((format!("TF_VAR_{name}"), cx.reveal(value).await?));
                }
            }
        }
        self.terraform.open(cx, workspace, given).await
    }

    /// Refuses what no command is started for.
    fn check(&self, spec: &InfrastructureSpec) -> Result<(), StepError> {
        let named = is_name(&spec.name);
        if !named {
            return Err(StepError::permanent("apply a module")
                .with_code("invalid_spec")
                .with_message(format!(
                    "a name has lower-case letters, digits and `-`, at most {NAME_MAX}"
                )));
        }
        let allowed = &self.terraform.config().variables;
        match spec.variables.keys().find(|name| !allowed.contains(*name)) {
            None => Ok(()),
            Some(_) => Err(StepError::permanent("apply a module")
                .with_code("variable_not_allowed")
                .with_message("the spec sets a variable that the configuration does not allow")),
        }
    }

    /// Refuses an id that is not that of this run's and step's own workspace. `default` and every
    /// other workspace of the backend would be planned, applied and destroyed as well.
    fn own(cx: &StepContext, id: &ExternalId) -> Result<(), StepError> {
        let name = id.as_str().strip_suffix(cx.mark().token().as_str());
        match name.and_then(|name| name.strip_suffix('-')).is_some_and(is_name) {
            true => Ok(()),
            false => Err(StepError::permanent("work on a workspace")
                .with_code("invalid_id")
                .with_message("the workspace is not that of this run and step")),
        }
    }

    /// Sorts the module's outputs into what may be journaled and what is sealed.
    async fn made(
        &self,
        cx: &StepContext,
        session: &Session<'_>,
        workspace: &str,
    ) -> Result<InfrastructureMade, StepError> {
        let workspace = workspace.to_owned();
        let mut made =
            InfrastructureMade { workspace, outputs: BTreeMap::new(), secrets: BTreeMap::new() };
        let sealed = &self.terraform.config().secret_outputs;
        for (name, output) in session.outputs().await? {
            if let Some(kept) = sealed.get(name.as_str()) {
                let value = match output.value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                made.secrets.insert(name, cx.keep(kept, Secret::new(value)));
            } else if !output.sensitive {
                made.outputs.insert(name, output.value);
            }
        }
        Ok(made)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.len() <= NAME_MAX
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn workspace(spec: &InfrastructureSpec, mark: &OwnerMark) -> String {
    format!("{}-{}", spec.name, mark.token())
}

impl Resource for Infrastructure {
    const KIND: &'static str = "terraform.workspace";
    type Spec = InfrastructureSpec;
    type Output = InfrastructureMade;

    fn identity(&self, spec: &InfrastructureSpec) -> Identity {
        // Making a workspace twice is making it once, and what is in it is known by its state. An
        // apply that came to no end of its own is not repeated (S9).
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &InfrastructureSpec) -> Result<Found, StepError> {
        self.check(spec)?;
        let workspace = workspace(spec, &cx.mark());
        let session = self.open(cx, spec, &workspace).await?;
        Ok(match session.exists().await? {
            // The token is this run's and step's: nobody else makes a workspace of that name.
            true => Found::Ours(ExternalId::new(&workspace)),
            false => Found::Absent,
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &InfrastructureSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        self.check(spec)?;
        let workspace = workspace(spec, intent.mark());
        let session = self.open(cx, spec, &workspace).await?;
        session.make().await?;
        let id = ExternalId::new(&workspace);
        cx.note(&id).await?;
        // S12: from here on there is a workspace, whatever becomes of the rest.
        match session.converge().await {
            Ok(()) => Ok(id),
            // Waiting for a lock costs no attempt: that is done where readiness is waited for.
            Err(error) if error.code() == STATE_LOCKED => Ok(id),
            Err(error) => {
                let effect = error.effect().max(Effect::Applied);
                Err(error.with_effect(effect))
            }
        }
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &InfrastructureSpec,
        id: &ExternalId,
    ) -> Result<Readiness<InfrastructureMade>, StepError> {
        self.check(spec)?;
        Self::own(cx, id)?;
        let session = self.open(cx, spec, id.as_str()).await?;
        if !session.exists().await? {
            return Ok(Readiness::Broken { code: "workspace_gone".to_owned() });
        }
        // Completes what a crash or a failure has left; a plan without changes proves that nothing
        // is missing.
        match session.converge().await {
            Ok(()) => Ok(Readiness::Ready(self.made(cx, &session, id.as_str()).await?)),
            Err(error) if error.code() == STATE_LOCKED => {
                let again_in = self.terraform.config().locked_again_in;
                tracing::info!(workspace = id.as_str(), reason = error.message(), "state locked");
                Ok(Readiness::NotYet { again_in })
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &InfrastructureSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // Which variables may be set is not asked any more: the module has them.
        Self::own(cx, id)?;
        let session = self.open(cx, spec, id.as_str()).await?;
        if session.exists().await? {
            session.destroy().await?;
        }
        Ok(())
    }

    /// Lists workspaces by name. Their token says whether the mark is that of the step that asks,
    /// and nothing of others.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let mark = cx.mark();
        let folder = format!("listing-{}", mark.token());
        let session = self.terraform.open(cx, &folder, Given::default()).await?;
        let names = session.workspaces().await?;
        let owned = names.into_iter().filter(|name| token_of(name).is_some()).map(|name| {
            let own = token_of(&name) == Some(&mark.token());
            Owned::new(&*name).with_name(&*name).with_mark(own.then(|| mark.clone()))
        });
        Ok(owned.collect())
    }

    fn timing(&self) -> Timing {
        Timing { ready_within: READY_WITHIN, ..Timing::default() }
    }

    fn account(&self) -> &str {
        &self.terraform.config().account
    }
}

/// The token that a workspace of ours ends with.
fn token_of(workspace: &str) -> Option<&str> {
    let (_, token) = workspace.rsplit_once('-')?;
    let hexadecimal = token.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    (token.len() == TOKEN_DIGITS && hexadecimal).then_some(token)
}
