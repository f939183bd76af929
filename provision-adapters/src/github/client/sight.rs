//! What makes "not found" mean "not there".
//!
//! GitHub answers 404 for what a token may not see just as for what is not there
//! (rest/using-the-rest-api/troubleshooting-the-rest-api, "404 Not Found for an existing resource").
//! So an absence is believed only from a token that is proven to see everything of the owner: a
//! classic one with the scope `repo`, of the user themselves or of an owner of the organization, or
//! that of an App that is installed there on all repositories. What a fine-grained token was given
//! is shown by nothing it may ask.

use provision_core::{Effect, StepContext, StepError, Verdict};

use super::{GitHub, Look, split};
use crate::{
    github::{
        config::{Access, Account},
        model::Membership,
    },
    http::Request,
};

const PROVE: &str = "prove that a repository is not there";

impl GitHub {
    /// Succeeds only if this token sees every repository of `owner`.
    ///
    /// GET `/user/memberships/orgs/{org}` (orgs/members#get-an-organization-membership-for-the-\
    /// authenticated-user), or GET `/app/installations/{id}` (apps#get-an-installation-for-the-\
    /// authenticated-app); neither is part of the OpenAPI document that is at hand.
    ///
    /// # Errors
    /// `absence_unproven`, for a person to look at, where it does not or where nothing shows it; and
    /// whatever the calls report.
    pub(crate) async fn sees_all_of(&self, cx: &StepContext, owner: &str) -> Result<(), StepError> {
        if !owner.eq_ignore_ascii_case(self.login()) {
            return Err(unproven("it belongs to another account than the one configured"));
        }
        match &self.access {
            Access::Token(_) => self.token_sees_all(cx).await,
            #[cfg(feature = "github-app")]
            Access::App(app) => {
                let installed = app.installation(self.asked(), cx).await?;
                let at = installed.account.and_then(|account| account.login);
                let here = at.is_some_and(|login| login.eq_ignore_ascii_case(owner));
                let whole = installed.repository_selection == "all";
                match here && whole && installed.suspended_at.is_none() {
                    true => Ok(()),
                    false => Err(unproven("install the App on all repositories of the account")),
                }
            }
        }
    }

    async fn token_sees_all(&self, cx: &StepContext) -> Result<(), StepError> {
        const LOOK: &str = "look at the membership";
        let Some(scopes) = self.owner(cx).await?.filter(|scopes| !scopes.trim().is_empty()) else {
            return Err(unproven(
                "a fine-grained token does not say what it sees: look yourself, or use a classic \
                 token of an owner, or an App on all repositories",
            ));
        };
        if !scopes.split(',').any(|one| one.trim() == "repo") {
            return Err(unproven("give the token the scope repo"));
        }
        let Account::Organization(org) = &self.account else { return Ok(()) };
        let request = Request::get(&["user", "memberships", "orgs", org]);
        let hint = "the token has to be of an owner of the organization, with the scope read:org";
        let response = self.call(cx, self.read(LOOK), request, &[200]).await;
        let response = response.map_err(|error| match error.code() {
            "forbidden" | "not_found" => unproven(hint).with_source(error),
            _ => error,
        })?;
        let is: Membership = response.json(LOOK)?;
        let here = is.organization.login.eq_ignore_ascii_case(org);
        match here && is.state == "active" && is.role == "admin" {
            true => Ok(()),
            false => Err(unproven(hint)),
        }
    }

    /// Succeeds only if the repository of this id is proven not to be there.
    ///
    /// It is looked for once more before the proof, since a 404 just after a creation is normal, and
    /// once more after it: the token may have been replaced between.
    pub(crate) async fn repo_is_gone(
        &self,
        cx: &StepContext,
        owner: &str,
        id: &str,
    ) -> Result<(), StepError> {
        if self.repo_by_id(cx, id).await?.is_some() {
            return Err(still_there(PROVE));
        }
        self.sees_all_of(cx, owner).await?;
        match self.repo_by_id(cx, id).await? {
            None => Ok(()),
            Some(_) => Err(still_there(PROVE)),
        }
    }

    /// As [`Self::repo_is_gone`], by its name.
    pub(crate) async fn name_is_free(
        &self,
        cx: &StepContext,
        full_name: &str,
    ) -> Result<(), StepError> {
        let (owner, name) = split(full_name);
        if !matches!(self.repo(cx, owner, name).await?, Look::Absent) {
            return Err(still_there(PROVE));
        }
        self.sees_all_of(cx, owner).await?;
        match self.repo(cx, owner, name).await? {
            Look::Absent => Ok(()),
            Look::Here(_) | Look::Moved(_) => Err(still_there(PROVE)),
        }
    }

    /// Succeeds only if a run is proven not to be there: its repository's runs can be listed, by the
    /// very right that a look at one of them takes, or the repository itself is gone.
    pub(crate) async fn run_is_gone(
        &self,
        cx: &StepContext,
        full_name: &str,
        id: &str,
    ) -> Result<(), StepError> {
        if !self.can_list_runs(cx, full_name).await? {
            return self.name_is_free(cx, full_name).await;
        }
        match self.run(cx, full_name, id).await? {
            None => Ok(()),
            Some(_) => Err(still_there("prove that a run is not there")),
        }
    }
}

/// Answered with 404 before, and there after all.
pub(crate) fn still_there(operation: &'static str) -> StepError {
    StepError::new(Effect::Unknown, Verdict::Retry { after: None }, operation)
        .with_code("still_there")
        .with_message("it was answered with 404, and it is there")
}

/// Nothing shows that a 404 means "not there": only a person can tell.
fn unproven(hint: &'static str) -> StepError {
    StepError::new(Effect::Unknown, Verdict::Operator, PROVE)
        .with_code("absence_unproven")
        .with_message("GitHub answers 404 also for what a token may not see")
        .with_hint(hint)
}
