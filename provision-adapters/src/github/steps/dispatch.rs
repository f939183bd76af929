//! A workflow run, started by a dispatch that answers its id.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use provision_core::{
    Candidate, Effect, ExternalId, Found, Identity, Intent, Listing, Readiness, Resource, Secret,
    StepContext, StepError, Timestamp, Timing, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::{
    github::{
        INPUTS_MAX, LATE_WINDOW, LISTING_LAG, PAGES_MAX,
        client::GitHub,
        model::{DispatchBody, RunBody},
    },
    http::{format_rfc3339, parse_rfc3339},
};

/// How soon to look again at a run that is not over.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How far back of an intent or of a first attempt runs are listed: clocks differ.
pub(super) const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// From this attempt of the undo on, a run that was asked to end and goes on is forced to: with the
/// default policy of undoing and time between looks after some five minutes, by when a runner that
/// responds has ended it. A policy of fewer attempts never forces.
const FORCED_FROM: u32 = 10;

/// What a dispatched run is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// That it is there.
    #[default]
    Started,
    /// That it is over, with success.
    Succeeded,
}

/// The run that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DispatchSpec {
    /// The repository, as `owner/name`.
    pub repository: String,
    /// The workflow, by file name (`deploy.yml`) or id.
    pub workflow: String,
    /// Branch or tag to run on.
    pub reference: String,
    /// Inputs of the workflow; at most 25 with the key. Never secrets: the journal keeps them.
    pub inputs: BTreeMap<String, String>,
    /// Name of an input that the workflow prints in its `run-name`; it gets this step's key, by
    /// which a run is found whose answer was lost. Default none: such a run parks.
    pub key_input: Option<String>,
    /// What is waited for. Default [`Wait::Started`].
    pub wait: Wait,
}

impl DispatchSpec {
    /// Wants a run of `workflow` in `repository` on the branch `reference`.
    #[must_use]
    pub fn new(
        repository: impl Into<String>,
        workflow: impl Into<String>,
        reference: impl Into<String>,
    ) -> Self {
        Self {
            repository: repository.into(),
            workflow: workflow.into(),
            reference: reference.into(),
            inputs: BTreeMap::new(),
            key_input: None,
            wait: Wait::Started,
        }
    }

    /// Adds an input.
    #[must_use]
    pub fn with_input(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// Names the input that gets this step's key.
    #[must_use]
    pub fn with_key_input(mut self, name: impl Into<String>) -> Self {
        self.key_input = Some(name.into());
        self
    }

    /// Waits for the run's success.
    #[must_use]
    pub fn until_succeeded(mut self) -> Self {
        self.wait = Wait::Succeeded;
        self
    }
}

/// The run that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchedRun {
    /// The provider's id.
    pub id: u64,
    /// Page for people.
    pub html_url: String,
    /// How it ended, if it had ended.
    pub conclusion: Option<String>,
}

/// A run of a workflow. Undo cancels it, by force if need be, and is done once it is over; what it
/// did is not undone.
#[derive(Clone)]
pub struct Dispatch {
    github: GitHub,
    look_again: Duration,
    at_sending: BTreeMap<String, MakeInput>,
}

/// Makes an input right before it is sent.
type MakeInput = Arc<dyn Fn(&StepContext) -> Secret + Send + Sync>;

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("github", &self.github)
            .field("look_again", &self.look_again)
            .field("at_sending", &self.at_sending.keys())
            .finish()
    }
}

impl Dispatch {
    /// Dispatches workflows with the token of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone(), look_again: LOOK_AGAIN, at_sending: BTreeMap::new() }
    }

    /// Sets how soon a run that is not over is looked at again, also while it is being undone.
    /// Default 10 s.
    #[must_use]
    pub fn with_look_again(mut self, after: Duration) -> Self {
        self.look_again = after;
        self
    }

    /// Adds an input that is made right before it is sent and is journaled nowhere, such as the
    /// token of a callback. It counts among the 25, and wins over an input of the spec; one of the
    /// name of the input of the key is refused (`key_input_taken`) before anything is sent.
    ///
    /// GitHub shows inputs to everybody who can read the repository's runs: send nothing there that
    /// is worth more than what its holder can report with it.
    #[must_use]
    pub fn with_input_at_sending(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&StepContext) -> Secret + Send + Sync + 'static,
    ) -> Self {
        self.at_sending.insert(name.into(), Arc::new(make));
        self
    }
}

impl Resource for Dispatch {
    const KIND: &'static str = "github.workflow_run";
    type Spec = DispatchSpec;
    type Output = DispatchedRun;

    fn identity(&self, spec: &DispatchSpec) -> Identity {
        match spec.key_input {
            Some(_) => Identity::Label,
            None => Identity::None,
        }
    }

    async fn find(&self, cx: &StepContext, spec: &DispatchSpec) -> Result<Found, StepError> {
        if let Some(id) = cx.noted().last() {
            if let Some(run) = self.github.run(cx, &spec.repository, id.as_str()).await? {
                return Ok(Found::Ours(run.id.to_string().into()));
            }
            let gone = self.github.run_is_gone(cx, &spec.repository, id.as_str()).await;
            return gone.map(|()| Found::Absent);
        }
        // Before an intent nothing of this generation can be there.
        let Some(intent) = &cx.memory().intent else { return Ok(Found::Absent) };
        if spec.key_input.is_none() {
            return Ok(Found::Absent);
        }
        let key = cx.idempotency_key();
        let since = earlier(intent.at, CLOCK_SLACK);
        let runs =
            runs_with_key(&self.github, cx, (&spec.repository, "workflow_dispatch"), (key, since))
                .await?;
        Ok(match runs.as_slice() {
            [] => Found::Absent,
            [one] => Found::Ours(one.id.to_string().into()),
            many => Found::Many(many.iter().map(candidate).collect()),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let mut inputs = spec.inputs.clone();
        if let Some(name) = &spec.key_input {
            // S7: without its key the run would not be found again.
            if self.at_sending.contains_key(name) {
                return Err(StepError::permanent("check the inputs")
                    .with_code("key_input_taken")
                    .with_message("an input at sending has the name of the input of the key"));
            }
            inputs.insert(name.clone(), cx.idempotency_key().to_owned());
        }
        for (name, make) in &self.at_sending {
            inputs.insert(name.clone(), make(cx).expose().to_owned());
        }
        if inputs.len() > INPUTS_MAX {
            return Err(StepError::permanent("check the inputs").with_code("too_many_inputs"));
        }
        let body =
            DispatchBody { reference: &spec.reference, inputs: &inputs, return_run_details: true };
        let sent = self.github.dispatch(cx, (&spec.repository, &spec.workflow), &body).await?;
        // Older servers answer nothing: the run is there, and is looked up by its key.
        let id = sent.ok_or_else(|| {
            StepError::unknown("dispatch the workflow").with_code("no_run_details")
        })?;
        Ok(ExternalId::new(id.to_string()))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        id: &ExternalId,
    ) -> Result<Readiness<DispatchedRun>, StepError> {
        let not_yet = Readiness::NotYet { again_in: self.look_again };
        let Some(run) = self.github.run(cx, &spec.repository, id.as_str()).await? else {
            return Ok(not_yet);
        };
        // Both fields are open sets: what is not known is not finished, and not a success.
        let over = is_over(&run);
        let succeeded = over && run.conclusion.as_deref() == Some("success");
        if spec.wait == Wait::Succeeded && !succeeded {
            return if over { Err(failed(&run)) } else { Ok(not_yet) };
        }
        let RunBody { id, html_url, conclusion, .. } = run;
        Ok(Readiness::Ready(DispatchedRun { id, html_url, conclusion }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &DispatchSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        stop(&self.github, cx, (&spec.repository, id.as_str()), self.look_again).await
    }

    /// Runs are listed for a repository, which a sweep does not know. The key that a run was sent
    /// with is its mark; one that was sent without is found by nobody, and ends by itself.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: LATE_WINDOW,
            listing_lag: LISTING_LAG,
            // A job may run for six hours.
            ready_within: Duration::from_secs(6 * 3_600),
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.github.account().login()
    }
}

// The status is an open set: what is not known is not over.
fn is_over(run: &RunBody) -> bool {
    run.status.as_deref() == Some("completed")
}

/// Ends a run; `Ok` only once it is over, or proven gone.
///
/// That a cancel was taken (202) means only that it was asked for: the run works on until its
/// runner has stopped, and may make things meanwhile. Until then the undo is not done, which its
/// next attempt looks at again, from any worker.
pub(super) async fn stop(
    github: &GitHub,
    cx: &StepContext,
    (repository, id): (&str, &str),
    look_again: Duration,
) -> Result<(), StepError> {
    let ways: &[bool] = if cx.attempt() < FORCED_FROM { &[false] } else { &[false, true] };
    for by_force in ways.iter().copied() {
        // One that is over refuses this (409), which changes nothing.
        github.cancel_run(cx, (repository, id), by_force).await?;
        match github.run(cx, repository, id).await? {
            None => return github.run_is_gone(cx, repository, id).await,
            Some(run) if is_over(&run) => return Ok(()),
            Some(_) => {}
        }
    }
    let again = Verdict::Retry { after: Some(look_again) };
    Err(StepError::new(Effect::Unknown, again, "end the run")
        .with_code("run_goes_on")
        .with_message("the run was asked to end, and is not over yet"))
}

/// A run that did not succeed, and where its log is: only a person can read what went wrong.
fn failed(run: &RunBody) -> StepError {
    let page: String = run.html_url.chars().filter(|c| c.is_ascii_graphic()).take(300).collect();
    let retry = Verdict::Retry { after: None };
    StepError::new(Effect::Applied, retry, "wait for the run")
        .with_code(ended(run.conclusion.as_deref()))
        .with_message(format!("the workflow run did not succeed: {page}"))
        .with_hint("read the run's log there; a retry starts another run")
        .broken()
}

/// The conclusion as a short word: it comes from the provider, and is stored.
fn ended(conclusion: Option<&str>) -> String {
    let word: String = conclusion
        .unwrap_or("unknown")
        .chars()
        .filter(|c| c.is_ascii_lowercase() || *c == '_')
        .take(40)
        .collect();
    format!("run_{word}")
}

fn candidate(run: &RunBody) -> Candidate {
    Candidate {
        id: run.id.to_string().into(),
        marked: true,
        created_at: run.created_at.as_deref().and_then(parse_rfc3339),
    }
}

pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(by))
}

/// Every run of an event since a moment that shows `key` in its title.
pub(super) async fn runs_with_key(
    github: &GitHub,
    cx: &StepContext,
    (repository, event): (&str, &str),
    (key, since): (&str, Timestamp),
) -> Result<Vec<RunBody>, StepError> {
    let since = format_rfc3339(since);
    let (mut runs, mut shown) = (Vec::new(), 0);
    for page in 1..=PAGES_MAX {
        let listed = github.runs_page(cx, repository, (event, &since), page).await?;
        let Some((listed, more)) = listed else {
            // Without its repository a run is gone; out of sight it is not.
            return github.name_is_free(cx, repository).await.map(|()| runs);
        };
        shown += u64::try_from(listed.workflow_runs.len()).unwrap_or(u64::MAX);
        let with_key = |run: &RunBody| run.display_title.contains(key);
        runs.extend(listed.workflow_runs.into_iter().filter(with_key));
        if !more && shown >= listed.total_count {
            return Ok(runs);
        }
        if !more {
            // A search ends after a thousand runs, whatever is left.
            return Err(StepError::retry("list the runs").with_code("listing_cut"));
        }
    }
    Err(StepError::permanent("list the runs").with_code("listing_too_long"))
}
