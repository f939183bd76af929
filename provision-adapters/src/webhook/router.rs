//! A router that takes deliveries: raw body, signature, and the host's own function, within a time.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE, header::RETRY_AFTER},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use provision_core::{
    Error, RunId,
    clock::{self, Clock, SystemClock},
    error::ErrorKind,
};
use serde::de::DeserializeOwned;

use super::{Refused, Verified, Verifier};

/// How long a delivery may take from its first byte to its answer, unless told otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What a sender is told to wait where it asks for it, in seconds.
const AGAIN_IN: HeaderValue = HeaderValue::from_static("5");

/// A delivery that was proven.
#[derive(Debug, Clone)]
pub struct Delivery {
    event: Verified,
    body: Bytes,
}

impl Delivery {
    /// What is known of the event.
    #[must_use]
    pub fn event(&self) -> &Verified {
        &self.event
    }

    /// The raw body, as it was signed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The start key of the event's run.
    ///
    /// # Errors
    /// The sender gives its events no id; take the key from the body.
    pub fn key(&self) -> Result<String, Untaken> {
        self.event.key().ok_or(Untaken::Refused("event_without_id"))
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// It has another shape: code `event_unreadable`, and the sender need not repeat it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Untaken> {
        serde_json::from_slice(&self.body).map_err(|_| Untaken::Refused("event_unreadable"))
    }
}

/// What became of a delivery that was taken. A repetition is to be answered with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// This run is there now, or was before.
    Run(RunId),
    /// The event asks for nothing.
    Nothing,
}

/// Why a delivery that was proven is not taken. Nothing of it may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untaken {
    /// The store or the host's database does not answer: 503, and the sender repeats.
    #[error("it cannot be taken now")]
    Later,
    /// Repeating cannot help: 422 with this code, a constant that holds nothing of the event.
    #[error("it cannot be taken: {0}")]
    Refused(&'static str),
}

/// Trouble of the store passes; everything else is answered with its code.
impl From<Error> for Untaken {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Store | ErrorKind::Internal | ErrorKind::Secret => Self::Later,
            _ => Self::Refused(error.code()),
        }
    }
}

type Taking = Pin<Box<dyn Future<Output = Result<Taken, Untaken>> + Send>>;
type Take = Arc<dyn Fn(Delivery) -> Taking + Send + Sync>;

/// An endpoint for the deliveries of one source.
///
/// | What comes | Answer |
/// |---|---|
/// | a delivery that is taken, and each repetition of it | 200 `{"run": ".."}`, or `{"run": null}` |
/// | one that is not proven | 400 `{"error": ".."}` with the code of [`Refused`] |
/// | a body above the verifier's limit | 413 |
/// | a proven one that cannot be used | 422 with the host's code |
/// | a body that does not come in time | 408 |
/// | trouble, or no answer in time | 503 with `retry-after` |
///
/// Senders repeat what is not answered with 2xx. So the function either makes what it makes under
/// the event's key, or in one transaction with it, and may be cut at any `.await`: it was given its
/// time, and the sender comes again. No answer holds a part of the body, a secret or an error's
/// text.
///
/// ```
/// use provision_adapters::webhook::{Endpoint, Taken, Verifier};
/// use provision_core::{Engine, MemoryStore, Saga, SagaId, Secret};
///
/// const FULFIL: SagaId<String, ()> = SagaId::new("fulfil", 1);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let saga = Saga::define(FULFIL, |s| { s.value("done").input((), |_, ()| ()) })?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// let verifier = Verifier::stripe("shop", [Secret::new("whsec_..")])?;
/// let endpoint = Endpoint::new(verifier, move |delivery| {
///     let engine = engine.clone();
///     async move {
///         let order: serde_json::Value = delivery.json()?;
///         let run = engine.start(FULFIL, &order["id"].to_string()).key(delivery.key()?).await?;
///         Ok(Taken::Run(*run.id()))
///     }
/// });
/// let app: axum::Router = axum::Router::new().nest("/hooks", endpoint.router("/stripe"));
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
///
/// A host with a PostgreSQL database writes its own row, the raw body and the run in one
/// transaction there: `PostgresStore::start_in`.
#[derive(Clone)]
pub struct Endpoint {
    verifier: Arc<Verifier>,
    take: Take,
    answer_within: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("verifier", &self.verifier)
            .field("answer_within", &self.answer_within)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Takes what `verifier` believes, with the host's function.
    pub fn new<F>(verifier: Verifier, take: impl Fn(Delivery) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Taken, Untaken>> + Send + 'static,
    {
        Self {
            verifier: Arc::new(verifier),
            take: Arc::new(move |delivery| Box::pin(take(delivery))),
            answer_within: ANSWER_WITHIN,
            clock: Arc::new(SystemClock),
        }
    }

    /// Sets how long a delivery may take from its first byte to its answer. Default
    /// [`ANSWER_WITHIN`]; senders give up after 10 to 30 s.
    #[must_use]
    pub fn with_answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// Judges the time of signatures by this clock. Default the machine's wall clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The router: POST at `path`, and nothing else.
    pub fn router(self, path: &str) -> Router {
        Router::new().route(path, post(deliver)).with_state(self)
    }

    async fn answer(&self, headers: &HeaderMap, body: Body) -> Response {
        let mut read = false;
        let end = clock::within(self.answer_within, self.handle(headers, body, &mut read)).await;
        match end {
            Some(answer) => answer,
            None if read => later(),
            None => refusal(StatusCode::REQUEST_TIMEOUT, "webhook_slow"),
        }
    }

    async fn handle(&self, headers: &HeaderMap, body: Body, read: &mut bool) -> Response {
        let Ok(body) = to_bytes(body, self.verifier.body_max()).await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE);
        };
        *read = true;
        let told = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let event = match self.verifier.verify(told, &body, self.clock.wall()) {
            Ok(event) => event,
            Err(refused) => return refusal(StatusCode::BAD_REQUEST, refused.code()),
        };
        match (self.take)(Delivery { event, body }).await {
            Ok(taken) => {
                let run = match taken {
                    Taken::Run(run) => Some(run.to_string()),
                    Taken::Nothing => None,
                };
                json(StatusCode::OK, &serde_json::json!({ "run": run }))
            }
            Err(Untaken::Refused(code)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, code),
            Err(Untaken::Later) => later(),
        }
    }
}

const TOO_LARGE: &str = Refused::TooLarge.code();

async fn deliver(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Body) -> Response {
    endpoint.answer(&headers, body).await
}

fn later() -> Response {
    let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, "webhook_later");
    answer.headers_mut().insert(RETRY_AFTER, AGAIN_IN);
    answer
}

fn refusal(status: StatusCode, code: &str) -> Response {
    json(status, &serde_json::json!({ "error": code }))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut answer = Response::new(Body::from(value.to_string()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
