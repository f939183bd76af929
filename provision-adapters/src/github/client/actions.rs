//! Secrets, variables, dispatches and runs of GitHub Actions.

use std::collections::BTreeMap;

use provision_core::{StepContext, StepError};
use serde_json::Value;

use super::{GitHub, has_next, not_visible_yet, split};
use crate::{
    github::model::{
        DispatchBody, EventBody, PublicKey, RunBody, RunDetails, RunsPage, SealedValue,
        SecretsPage, Variable, VariablesPage,
    },
    http::Request,
};

/// A page of names and whether another follows; `None` when the repository is not there.
pub(crate) type Page<T> = Option<(Vec<T>, bool)>;

impl GitHub {
    /// Reads the key that secrets are sealed for. GET `…/actions/secrets/public-key`
    /// (actions/secrets#get-a-repository-public-key).
    pub(crate) async fn public_key(
        &self,
        cx: &StepContext,
        full_name: &str,
    ) -> Result<PublicKey, StepError> {
        const OPERATION: &str = "read the public key";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "secrets", "public-key"]);
        let read = self.call(cx, self.read(OPERATION), request, &[200]).await;
        read.map_err(|error| not_visible_yet(cx, error))?.json(OPERATION)
    }

    /// One page of secret names. GET `…/actions/secrets` (actions/secrets#list-repository-secrets).
    pub(crate) async fn secrets_page(
        &self,
        cx: &StepContext,
        full_name: &str,
        page: u32,
    ) -> Result<Page<String>, StepError> {
        const OPERATION: &str = "list the secrets";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "secrets"])
            .query("per_page", "100")
            .query("page", page.to_string());
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 404 {
            return Ok(None);
        }
        let listed: SecretsPage = response.json(OPERATION)?;
        let names = listed.secrets.into_iter().map(|secret| secret.name).collect();
        Ok(Some((names, has_next(&response))))
    }

    /// Creates or replaces a secret. PUT `…/actions/secrets/{name}`
    /// (actions/secrets#create-or-update-a-repository-secret).
    ///
    /// Identity: the name within its repository; repeatable, since it replaces. Time-out 30 s,
    /// late window [`crate::github::LATE_WINDOW`]. Undo: [`GitHub::delete_secret`].
    pub(crate) async fn put_secret(
        &self,
        cx: &StepContext,
        full_name: &str,
        secret: &str,
        value: &SealedValue<'_>,
    ) -> Result<(), StepError> {
        let (owner, name) = split(full_name);
        let request =
            Request::put(&["repos", owner, name, "actions", "secrets", secret]).json(value);
        let put = self.call(cx, self.mutate("set the secret"), request, &[201, 204]).await;
        put.map(drop).map_err(|error| match error.code() {
            // The key rotates: the next attempt reads it again.
            "refused" => {
                StepError::retry("set the secret").with_code("key_rotated").with_source(error)
            }
            _ => not_visible_yet(cx, error),
        })
    }

    /// Deletes a secret; whether it was there to be seen. DELETE `…/actions/secrets/{name}`
    /// (actions/secrets#delete-a-repository-secret). Repeatable.
    pub(crate) async fn delete_secret(
        &self,
        cx: &StepContext,
        full_name: &str,
        secret: &str,
    ) -> Result<bool, StepError> {
        let (owner, name) = split(full_name);
        let request = Request::delete(&["repos", owner, name, "actions", "secrets", secret]);
        let call = self.mutate("delete the secret");
        let response = self.call(cx, call, request, &[204, 404]).await?;
        Ok(response.status == 204)
    }

    /// One page of variables. GET `…/actions/variables`
    /// (actions/variables#list-repository-variables): at most 30 a page.
    pub(crate) async fn variables_page(
        &self,
        cx: &StepContext,
        full_name: &str,
        page: u32,
    ) -> Result<Page<Variable>, StepError> {
        const OPERATION: &str = "list the variables";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "variables"])
            .query("per_page", "30")
            .query("page", page.to_string());
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 404 {
            return Ok(None);
        }
        let listed: VariablesPage = response.json(OPERATION)?;
        Ok(Some((listed.variables, has_next(&response))))
    }

    /// Creates a variable. POST `…/actions/variables`
    /// (actions/variables#create-a-repository-variable).
    ///
    /// Identity: the name within its repository; an existing one is 409. Time-out 30 s, late
    /// window [`crate::github::LATE_WINDOW`]. Undo: [`GitHub::delete_variable`].
    pub(crate) async fn create_variable(
        &self,
        cx: &StepContext,
        full_name: &str,
        variable: &Variable,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "create the variable";
        let (owner, name) = split(full_name);
        let request = Request::post(&["repos", owner, name, "actions", "variables"]).json(variable);
        let made = self.call(cx, self.mutate(OPERATION), request, &[201]).await;
        made.map(drop).map_err(|error| match error.code() {
            "conflict" => error.with_code("name_taken"),
            _ => not_visible_yet(cx, error),
        })
    }

    /// Deletes a variable; whether it was there to be seen. DELETE `…/actions/variables/{name}`
    /// (actions/variables#delete-a-repository-variable). Repeatable.
    pub(crate) async fn delete_variable(
        &self,
        cx: &StepContext,
        full_name: &str,
        variable: &str,
    ) -> Result<bool, StepError> {
        let (owner, name) = split(full_name);
        let request = Request::delete(&["repos", owner, name, "actions", "variables", variable]);
        let call = self.mutate("delete the variable");
        let response = self.call(cx, call, request, &[204, 404]).await?;
        Ok(response.status == 204)
    }

    /// Starts a workflow. POST `…/actions/workflows/{id}/dispatches`
    /// (actions/workflows#create-a-workflow-dispatch-event); answers the run's id, which older
    /// Enterprise Servers do not.
    ///
    /// Identity: the key that the workflow shows in its title; without one, none. Time-out 30 s,
    /// late window [`crate::github::LATE_WINDOW`]. Undo: [`GitHub::cancel_run`].
    pub(crate) async fn dispatch(
        &self,
        cx: &StepContext,
        (full_name, workflow): (&str, &str),
        body: &DispatchBody<'_>,
    ) -> Result<Option<u64>, StepError> {
        const OPERATION: &str = "dispatch the workflow";
        let (owner, name) = split(full_name);
        let path = ["repos", owner, name, "actions", "workflows", workflow, "dispatches"];
        let request = Request::post(&path).json(body);
        let sent = self.call(cx, self.mutate(OPERATION), request, &[200, 204]).await;
        let response = sent.map_err(|error| match error.code() {
            // A workflow file is known some seconds after the push that brought it.
            "not_found" => StepError::retry(OPERATION)
                .with_code("workflow_not_ready")
                .with_hint("the workflow must be on the default branch"),
            _ => error,
        })?;
        if response.status == 204 {
            return Ok(None);
        }
        let details: RunDetails = response.json(OPERATION)?;
        Ok(Some(details.workflow_run_id))
    }

    /// Sends an event to the workflows that listen for it. POST `/repos/{owner}/{repo}/dispatches`
    /// (repos#create-a-repository-dispatch-event); answers nothing.
    ///
    /// Identity: the key in the payload, if a workflow shows it in its title. Time-out 30 s, late
    /// window [`crate::github::LATE_WINDOW`]. Undo: [`GitHub::cancel_run`] for its runs.
    pub(crate) async fn send_event(
        &self,
        cx: &StepContext,
        full_name: &str,
        event_type: &str,
        client_payload: &BTreeMap<String, Value>,
    ) -> Result<(), StepError> {
        let (owner, name) = split(full_name);
        let body = EventBody { event_type, client_payload };
        let request = Request::post(&["repos", owner, name, "dispatches"]).json(&body);
        self.call(cx, self.mutate("send the event"), request, &[204]).await.map(drop)
    }

    /// One page of runs of an event since a moment, newest first. GET `…/actions/runs`
    /// (actions/workflow-runs#list-workflow-runs-for-a-repository).
    pub(crate) async fn runs_page(
        &self,
        cx: &StepContext,
        full_name: &str,
        (event, since): (&str, &str),
        page: u32,
    ) -> Result<Option<(RunsPage, bool)>, StepError> {
        const OPERATION: &str = "list the runs";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "runs"])
            .query("event", event)
            .query("created", format!(">={since}"))
            .query("per_page", "100")
            .query("page", page.to_string());
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 404 {
            return Ok(None);
        }
        Ok(Some((response.json(OPERATION)?, has_next(&response))))
    }

    /// Whether the runs of a repository can be listed at all. GET `…/actions/runs`
    /// (actions/workflow-runs#list-workflow-runs-for-a-repository).
    pub(crate) async fn can_list_runs(
        &self,
        cx: &StepContext,
        full_name: &str,
    ) -> Result<bool, StepError> {
        const OPERATION: &str = "list the runs";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "runs"]);
        let request = request.query("per_page", "1");
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 200 {
            response.json::<RunsPage>(OPERATION)?;
        }
        Ok(response.status == 200)
    }

    /// Looks at a run. GET `…/actions/runs/{run_id}` (actions/workflow-runs#get-a-workflow-run).
    pub(crate) async fn run(
        &self,
        cx: &StepContext,
        full_name: &str,
        id: &str,
    ) -> Result<Option<RunBody>, StepError> {
        const OPERATION: &str = "look at the run";
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "actions", "runs", id]);
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 404 {
            return Ok(None);
        }
        response.json(OPERATION).map(Some)
    }

    /// Asks for the end of a run; one that is over or gone is no error. POST
    /// `…/actions/runs/{run_id}/cancel` (actions/workflow-runs#cancel-a-workflow-run), or, for one
    /// that does not respond to that, `…/force-cancel`
    /// (actions/workflow-runs#force-cancel-a-workflow-run). Repeatable; the run ends later.
    pub(crate) async fn cancel_run(
        &self,
        cx: &StepContext,
        (full_name, id): (&str, &str),
        by_force: bool,
    ) -> Result<(), StepError> {
        let (owner, name) = split(full_name);
        let (operation, how) = match by_force {
            false => ("cancel the run", "cancel"),
            true => ("force the run to end", "force-cancel"),
        };
        let request = Request::post(&["repos", owner, name, "actions", "runs", id, how]);
        self.call(cx, self.mutate(operation), request, &[202, 404, 409]).await.map(drop)
    }
}
