//! A router that takes deliveries: raw body, signature, and the host's own function, within a time.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE, header::RETRY_AFTER},
    response::Response,
    routing::post,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use provision_core::{
    Error, RunId,
    clock::{self, Clock, SystemClock},
    error::ErrorKind,
};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Refused, Verified, Verifier};

/// How long a delivery may take from its first byte to its answer, unless told otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of all bodies of an endpoint that are held before they are proven, at most, unless told
/// otherwise.
pub const UNPROVEN_MAX: usize = 64 << 20;
/// What a sender is told to wait where nothing says how long.
const AGAIN_IN: Duration = Duration::from_secs(5);

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
    /// A limit of the host is used up, and will not be after this time: 429 with this code, and the
    /// sender repeats.
    #[error("it cannot be taken yet: {0}")]
    Limited(&'static str, Duration),
    /// Repeating cannot help: 422 with this code, a constant that holds nothing of the event.
    #[error("it cannot be taken: {0}")]
    Refused(&'static str),
}

/// Trouble of the store or of a key service passes, and so does a limit that says when, or that only
/// a worker has to catch up with; everything else is answered with its code.
impl From<Error> for Untaken {
    fn from(error: Error) -> Self {
        match (error.kind(), error.retry_after()) {
            (ErrorKind::Store | ErrorKind::Internal | ErrorKind::Secret, _) => Self::Later,
            (ErrorKind::Provider, _) => Self::Later,
            (ErrorKind::Limit, Some(after)) => Self::Limited(error.code(), after),
            (ErrorKind::Limit, None) if BACKLOGS.contains(&error.code()) => {
                Self::Limited(error.code(), AGAIN_IN)
            }
            _ => Self::Refused(error.code()),
        }
    }
}

/// Codes of what is full until a worker has taken some of it.
const BACKLOGS: [&str; 2] = ["too_many_requests", "too_many_signals"];

type Taking = Pin<Box<dyn Future<Output = Result<Taken, Untaken>> + Send>>;
type Take = Arc<dyn Fn(Delivery) -> Taking + Send + Sync>;

/// An endpoint for the deliveries of one source.
///
/// | What comes | Answer |
/// |---|---|
/// | a delivery that is taken, and each repetition of it | 200 `{"run": ".."}`, or `{"run": null}` |
/// | one that is not proven | 400 `{"error": ".."}` with the code of [`Refused`] |
/// | a body above the verifier's limit | 413 |
/// | a body that is cut, or wrongly sent | 400 `webhook_cut` |
/// | a proven one that cannot be used | 422 with the host's code |
/// | a proven one that is over a limit of the host, such as that of starts | 429 with `retry-after` |
/// | a body that does not come in time | 408 |
/// | trouble, no answer in time, or too much that is not proven yet | 503 with `retry-after` |
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
    /// Room for bytes that nobody has proven.
    unproven: Arc<Semaphore>,
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
        let unproven = UNPROVEN_MAX.max(verifier.body_max());
        Self {
            verifier: Arc::new(verifier),
            take: Arc::new(move |delivery| Box::pin(take(delivery))),
            answer_within: ANSWER_WITHIN,
            unproven: Arc::new(Semaphore::new(unproven)),
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

    /// Sets how many bytes of bodies are held before they are proven, of all deliveries together.
    /// Default [`UNPROVEN_MAX`], and never less than one body of the longest that the verifier takes;
    /// more is answered with 503 and read no further. What one connection holds besides, such as its
    /// headers, is bounded by the host's server.
    #[must_use]
    pub fn with_unproven_max(mut self, bytes: usize) -> Self {
        let bytes = bytes.max(self.verifier.body_max()).min(Semaphore::MAX_PERMITS);
        self.unproven = Arc::new(Semaphore::new(bytes));
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
            None if read => later(AGAIN_IN),
            None => refusal(StatusCode::REQUEST_TIMEOUT, "webhook_slow"),
        }
    }

    async fn handle(&self, headers: &HeaderMap, body: Body, read: &mut bool) -> Response {
        let (body, room) = match self.read(body).await {
            Ok(held) => held,
            Err(Unread::TooLarge) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE),
            Err(Unread::Cut) => return refusal(StatusCode::BAD_REQUEST, "webhook_cut"),
            Err(Unread::NoRoom) => return later(AGAIN_IN),
        };
        *read = true;
        let told = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let event = match self.verifier.verify(told, &body, self.clock.wall()) {
            Ok(event) => event,
            Err(refused) => return refusal(StatusCode::BAD_REQUEST, refused.code()),
        };
        drop(room);
        match (self.take)(Delivery { event, body }).await {
            Ok(taken) => {
                let run = match taken {
                    Taken::Run(run) => Some(run.to_string()),
                    Taken::Nothing => None,
                };
                json(StatusCode::OK, &serde_json::json!({ "run": run }))
            }
            Err(Untaken::Refused(code)) => refusal(StatusCode::UNPROCESSABLE_ENTITY, code),
            Err(Untaken::Later) => later(AGAIN_IN),
            Err(Untaken::Limited(code, after)) => {
                come_again(refusal(StatusCode::TOO_MANY_REQUESTS, code), after)
            }
        }
    }

    /// Reads a body, and takes as much room for it as has come of it: who sends slowly holds what it
    /// has sent and no more.
    async fn read(&self, body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Unread> {
        let most = self.verifier.body_max();
        // Who says before that it is too long is not read at all.
        if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
            return Err(Unread::TooLarge);
        }
        let (mut whole, mut held) = (BytesMut::new(), None::<SemaphorePermit<'_>>);
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_cut| Unread::Cut)?;
            if part.len() > most.saturating_sub(whole.len()) {
                return Err(Unread::TooLarge);
            }
            let bytes = u32::try_from(part.len()).map_err(|_| Unread::NoRoom)?;
            let more = self.unproven.try_acquire_many(bytes).map_err(|_full| Unread::NoRoom)?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            whole.extend_from_slice(&part);
        }
        Ok((whole.freeze(), held))
    }
}

/// Why a body was not read.
enum Unread {
    /// It is longer than is taken.
    TooLarge,
    /// It ended before its end, or was sent wrongly.
    Cut,
    /// What is held unproven is as much as may be.
    NoRoom,
}

const TOO_LARGE: &str = Refused::TooLarge.code();

async fn deliver(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Body) -> Response {
    endpoint.answer(&headers, body).await
}

fn later(after: Duration) -> Response {
    come_again(refusal(StatusCode::SERVICE_UNAVAILABLE, "webhook_later"), after)
}

/// Says when to repeat: in whole seconds, and never sooner than was told.
fn come_again(mut answer: Response, after: Duration) -> Response {
    let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
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
