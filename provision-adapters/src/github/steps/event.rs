//! A repository event, for workflows that listen for one. It differs from a dispatch in that no
//! run id comes back, and in that several workflows may start.

use std::collections::BTreeMap;

use provision_core::{Compensator, Step, StepContext, StepError, Timestamp, Undo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dispatch::{CLOCK_SLACK, LOOK_AGAIN, earlier, runs_with_key, stop};
use crate::github::{PAYLOAD_KEYS_MAX, client::GitHub};

/// Key of the payload that holds this step's key; show it in `run-name` as
/// `${{ github.event.client_payload.provision.key }}`.
const PAYLOAD_KEY: &str = "provision";

/// The event to send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The repository, as `owner/name`.
    pub repository: String,
    /// What the workflows listen for; 1 to 100 characters.
    pub event_type: String,
    /// At most 9 top-level keys, besides ours. Never secrets: the journal keeps them.
    pub payload: BTreeMap<String, Value>,
}

impl Event {
    /// An event without a payload of its own.
    #[must_use]
    pub fn new(repository: impl Into<String>, event_type: impl Into<String>) -> Self {
        let (repository, event_type) = (repository.into(), event_type.into());
        Self { repository, event_type, payload: BTreeMap::new() }
    }

    /// Adds a key to the payload.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: Value) -> Self {
        self.payload.insert(key.into(), value);
        self
    }
}

/// What is known of an event that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSent {
    /// The key its runs show, if their workflows print it.
    pub key: String,
}

/// Sends an event once; after an unknown end, not again if one of its runs is there.
///
/// Without a workflow that prints the key in its `run-name`, a lost answer means that the event
/// may be sent twice: prefer [`super::Dispatch`].
#[derive(Debug, Clone)]
pub struct SendEvent {
    github: GitHub,
}

impl SendEvent {
    /// Sends events with the token of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone() }
    }
}

impl Step for SendEvent {
    const KIND: &'static str = "github.repository_dispatch";
    type Input = Event;
    type Output = EventSent;

    async fn run(&self, cx: &StepContext, event: Event) -> Result<EventSent, StepError> {
        let key = cx.idempotency_key().to_owned();
        let mut payload = event.payload;
        payload.insert(PAYLOAD_KEY.to_owned(), json!({ "key": key, "run": cx.run_id() }));
        if payload.len() > PAYLOAD_KEYS_MAX || !(1..=100).contains(&event.event_type.len()) {
            return Err(StepError::permanent("check the event").with_code("bad_event"));
        }
        // S9: a repeated event would start every workflow again.
        if cx.attempt() > 1 && !runs(&self.github, cx, &event.repository).await?.is_empty() {
            return Ok(EventSent { key });
        }
        self.github.send_event(cx, &event.repository, &event.event_type, &payload).await?;
        Ok(EventSent { key })
    }
}

/// Ends the runs that an event started, as far as they show its key: done once all of them are over.
#[derive(Debug, Clone)]
pub struct StopRuns {
    github: GitHub,
}

impl StopRuns {
    /// Cancels runs with the token of `github`.
    #[must_use]
    pub fn new(github: &GitHub) -> Self {
        Self { github: github.clone() }
    }
}

impl Compensator<SendEvent> for StopRuns {
    async fn compensate(
        &self,
        cx: &StepContext,
        event: Event,
        _: Undo<EventSent>,
    ) -> Result<(), StepError> {
        let mut ended = Ok(());
        for id in runs(&self.github, cx, &event.repository).await? {
            // All of them are asked to end before one is waited for.
            let run = (event.repository.as_str(), &*id.to_string());
            ended = ended.and(stop(&self.github, cx, run, LOOK_AGAIN).await);
        }
        ended
    }
}

async fn runs(github: &GitHub, cx: &StepContext, repository: &str) -> Result<Vec<u64>, StepError> {
    // No event under this key is older than the step's first attempt, however long ago that was.
    let begun = cx.memory().begun_at;
    let since = begun.map_or(Timestamp::ZERO, |begun| earlier(begun, CLOCK_SLACK));
    let key = cx.idempotency_key();
    let listed =
        runs_with_key(github, cx, (repository, "repository_dispatch"), (key, since)).await?;
    Ok(listed.into_iter().map(|run| run.id).collect())
}
