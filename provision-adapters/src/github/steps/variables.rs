//! Variables of a repository: settings that workflows read and everybody with access may see.

use std::collections::{BTreeMap, BTreeSet};

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::values::{
    Values, absent_without, check_names, check_value, found, id_of, is_gone, listing_not_visible,
    name_of, name_to_write, none_left,
};
use crate::{
    adopted::adopted_incomplete,
    github::{
        CONTENT_WITHIN, LATE_WINDOW, LISTING_LAG, PAGES_MAX, client::GitHub, model::Variable,
    },
};

/// Most variables of a repository.
const VARIABLES_MAX: usize = 500;

/// The variables that are wanted in a repository. Never secrets: they are stored in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VariablesSpec {
    /// The repository's id, which survives renames.
    pub repository_id: u64,
    /// The repository, as `owner/name` when the set was wanted.
    pub repository: String,
    /// Names and values; at least one, at most 500.
    pub variables: BTreeMap<String, String>,
}

impl VariablesSpec {
    /// Wants variables in the repository that has this id and, as `owner/name`, this name.
    #[must_use]
    pub fn new(repository_id: u64, repository: impl Into<String>) -> Self {
        Self { repository_id, repository: repository.into(), variables: BTreeMap::new() }
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

/// A set of Actions variables, as one resource.
///
/// Names that were there before are not overwritten: the set is then foreign.
#[derive(Debug, Clone)]
pub struct RepoVariables {
    github: GitHub,
}

impl RepoVariables {
    /// Sets variables with the token of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone() }
    }

    async fn values(
        &self,
        cx: &StepContext,
        repository: &str,
    ) -> Result<Option<Vec<Variable>>, StepError> {
        let mut values = Vec::new();
        for page in 1..=PAGES_MAX {
            let Some((listed, more)) = self.github.variables_page(cx, repository, page).await?
            else {
                return Ok(None);
            };
            values.extend(listed);
            if !more {
                return Ok(Some(values));
            }
        }
        Err(StepError::permanent("list the variables").with_code("listing_too_long"))
    }

    async fn post(
        &self,
        cx: &StepContext,
        repository: &str,
        (name, value): (&String, &String),
    ) -> Result<(), StepError> {
        check_value(value)?;
        let variable = Variable { name: name.clone(), value: value.clone() };
        self.github.create_variable(cx, repository, &variable).await
    }
}

impl Resource for RepoVariables {
    const KIND: &'static str = "github.repo_variables";
    type Spec = VariablesSpec;
    type Output = Values;

    fn identity(&self, spec: &VariablesSpec) -> Identity {
        // A name within a repository exists once; a second POST is refused.
        Identity::Named(id_of(&spec.repository, spec.variables.keys()).as_str().to_owned())
    }

    async fn find(&self, cx: &StepContext, spec: &VariablesSpec) -> Result<Found, StepError> {
        check_names(spec.variables.keys(), VARIABLES_MAX)?;
        let id = id_of(&spec.repository, spec.variables.keys());
        let Some(repository) = name_of(&self.github, cx, spec.repository_id).await? else {
            let repository = (spec.repository_id, spec.repository.as_str());
            return absent_without(&self.github, cx, repository).await;
        };
        let there = self.values(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        let wanted: BTreeSet<&String> = spec.variables.keys().collect();
        let there: Vec<String> = there.into_iter().map(|one| one.name).collect();
        Ok(found(id, &wanted, &there))
    }

    /// Sets the first one; `ready` sets the rest, so that each call's end says one thing.
    async fn create(
        &self,
        cx: &StepContext,
        spec: &VariablesSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        check_names(spec.variables.keys(), VARIABLES_MAX)?;
        if let Some(first) = spec.variables.iter().next() {
            let repository = name_to_write(&self.github, cx, spec.repository_id).await?;
            self.post(cx, &repository, first).await?;
        }
        Ok(id_of(&spec.repository, spec.variables.keys()))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &VariablesSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Values>, StepError> {
        let repository = name_to_write(&self.github, cx, spec.repository_id).await?;
        let there = self.values(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        for wanted in &spec.variables {
            match there.iter().find(|one| one.name == *wanted.0) {
                Some(one) if one.value == *wanted.1 => {}
                _ if cx.is_adopted(id) => {
                    return Err(adopted_incomplete(
                        "check the variables",
                        format!("`{}` is not there as wanted", wanted.0),
                    ));
                }
                Some(_) => return Ok(Readiness::Broken { code: "value_differs".to_owned() }),
                None => self.post(cx, &repository, wanted).await?,
            }
        }
        let names = spec.variables.keys().cloned().collect();
        Ok(Readiness::Ready(Values { repository: spec.repository.clone(), names }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &VariablesSpec,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(repository) = name_of(&self.github, cx, spec.repository_id).await? else {
            return is_gone(&self.github, cx, (spec.repository_id, &spec.repository)).await;
        };
        let mut all = true;
        for name in spec.variables.keys() {
            all &= self.github.delete_variable(cx, &repository, name).await?;
        }
        if all {
            return Ok(());
        }
        // A 404 is no proof: it also means "not for you".
        let there = self.values(cx, &repository).await?.ok_or_else(listing_not_visible)?;
        let there: Vec<String> = there.into_iter().map(|one| one.name).collect();
        none_left(spec.variables.keys(), &there)
    }

    /// Variables carry no mark, and go with their repository, which does.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        let (late_window, listing_lag) = (LATE_WINDOW, LISTING_LAG);
        Timing { late_window, listing_lag, ready_within: CONTENT_WITHIN, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.github.account().login()
    }

    fn facts(&self, spec: &VariablesSpec) -> Facts {
        let name = id_of(&spec.repository, spec.variables.keys()).as_str().to_owned();
        Facts { name: Some(name), ..Facts::default() }
    }
}
