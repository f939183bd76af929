//! What a process answers over HTTP: how it is, what stands in its queues, what it has counted, and
//! what platforms tell it.
//!
//! | Route | Answer |
//! |---|---|
//! | `GET /health` | 200: the process is there |
//! | `GET /ready` | 200, or 503 where the store or its queue is in trouble |
//! | `GET /queues` | every queue; 503 where one has dead letters or work that nobody takes |
//! | `GET /metrics` | the text form of Prometheus |
//! | `GET /webhooks/meta` | the question that Meta puts when the address is registered |
//! | `POST /webhooks/meta` | as `provision_adapters::webhook::Endpoint` has it |
//!
//! None of the answers names a tenant, an address or a key, and nobody is asked who he is: but for
//! the webhooks this is for the machine's own network.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use provision_adapters::webhook::{Delivery, Endpoint, Taken, Untaken};
use provision_core::{Secret, clock, draw::same};
use serde::Serialize;
use sqlx::query_as;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    forms,
    metrics::Exporter,
    platform::{Platform, PlatformName, Unbelieved},
    saga::QUEUES,
    service::Service,
    trouble::Trouble,
    webhook::BODY_MAX,
};

/// Due work that is older is taken by nobody.
const OLDEST: Duration = Duration::from_secs(300);
/// Longest challenge that is given back; it is a number.
const CHALLENGE_MAX: usize = 200;
/// How long answers that are under way may take once the process is to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How one queue stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// Its name.
    pub queue: String,
    /// Runs that all processes together drive at a time; none where it has no limit.
    pub at_a_time: Option<u32>,
    /// Due, and under nobody's lease.
    pub waiting: i64,
    /// Due later.
    pub delayed: i64,
    /// Under a lease.
    pub running: i64,
    /// Left to a person.
    pub dead_letters: i64,
    /// Seconds since the oldest of those that wait was due.
    pub oldest_seconds: f64,
}

impl Standing {
    fn is_well(&self) -> bool {
        self.dead_letters == 0 && self.oldest_seconds <= OLDEST.as_secs_f64()
    }
}

impl Service {
    /// How every queue stands, by name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn standing(&self) -> Result<Vec<Standing>, Trouble> {
        let sql =
            "SELECT f.queue, f.waiting, f.delayed, f.running, f.dead_letters, f.oldest_seconds
            FROM connectors.queue_figures() AS f ORDER BY f.queue";
        let rows: Vec<(String, i64, i64, i64, i64, f64)> =
            query_as(sql).fetch_all(self.pool()).await?;
        let standing = |(queue, waiting, delayed, running, dead_letters, oldest_seconds)| {
            let limit = QUEUES.iter().find(|(known, _)| *known == queue);
            let at_a_time = limit.map(|(_, runs)| *runs);
            Standing { queue, at_a_time, waiting, delayed, running, dead_letters, oldest_seconds }
        };
        Ok(rows.into_iter().map(standing).collect())
    }
}

/// Everything that is answered.
pub fn router(service: &Service, exporter: &Exporter) -> Router {
    let (about, exporter) = (service.clone(), exporter.clone());
    let asked = Router::new()
        .route("/health", get(alive))
        .route("/ready", get(ready))
        .route("/queues", get(queues))
        .with_state(about)
        .route("/metrics", get(async move || told_as_text(exporter.text())));
    let mut hooks = Router::new();
    for platform in PlatformName::ALL {
        let path = format!("/{platform}");
        hooks = match endpoint(service, platform) {
            Ok((endpoint, token)) => {
                let hooks = hooks.merge(endpoint.router(&path));
                match token {
                    Some(token) => {
                        hooks.route(&path, get(async move |uri| registered(&token, &uri)))
                    }
                    None => hooks,
                }
            }
            Err(why) => {
                let body = serde_json::json!({ "error": why.code(), "hint": why.hint() });
                hooks.route(&path, any(async move || told(StatusCode::NOT_FOUND, &body)))
            }
        };
    }
    asked.nest("/webhooks", hooks)
}

/// The endpoint of a platform's deliveries, and what the platform shows before it sends any.
fn endpoint(
    service: &Service,
    platform: PlatformName,
) -> Result<(Endpoint, Option<Secret>), Trouble> {
    let of = Arc::clone(service.platform(platform)?);
    let verifier = of.webhook_verifier()?.with_body_max(BODY_MAX);
    let (service, token) = (service.clone(), of.verify_token().cloned());
    let take = move |delivery| take(service.clone(), Arc::clone(&of), delivery);
    Ok((Endpoint::new(verifier, take), token))
}

/// Answers who registers this address, and shows the word that was agreed on, with the challenge.
fn registered(token: &Secret, asked: &Uri) -> Response {
    let fields = forms::fields(asked.query().unwrap_or_default());
    let field = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value)
    };
    let challenge = field("hub.challenge");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_plain = (1..=CHALLENGE_MAX).contains(&challenge.len()) && challenge.chars().all(plain);
    // X10: the word is compared in constant time.
    let agreed = field("hub.mode") == "subscribe" && same(token, field("hub.verify_token"));
    if agreed && is_plain {
        return ([(CONTENT_TYPE, "text/plain")], challenge.to_owned()).into_response();
    }
    told(StatusCode::FORBIDDEN, &serde_json::json!({ "error": "not_agreed" }))
}

async fn take(
    service: Service,
    of: Arc<dyn Platform>,
    delivery: Delivery,
) -> Result<Taken, Untaken> {
    let refused = |why: Unbelieved| Untaken::Refused(why.code);
    let tells = of.parse_webhook_event(delivery.body()).map_err(refused)?;
    // Repeating helps where the database or the keys did not answer, and nowhere else.
    match service.keep(of.name(), (delivery.event(), delivery.body()), tells).await {
        Ok(_) => Ok(Taken::Nothing),
        Err(why) if why.code() == "flag_off" => Err(Untaken::Refused("flag_off")),
        Err(_) => Err(Untaken::Later),
    }
}

async fn alive() -> Response {
    let body = serde_json::json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") });
    told(StatusCode::OK, &body)
}

async fn ready(State(service): State<Service>) -> Response {
    let health = service.engine().health().await;
    let ok = health.is_ready();
    told(status(ok), &serde_json::json!({ "ok": ok, "health": health }))
}

async fn queues(State(service): State<Service>) -> Response {
    match service.standing().await {
        Ok(all) => {
            let ok = all.iter().all(Standing::is_well);
            told(status(ok), &serde_json::json!({ "ok": ok, "queues": all }))
        }
        Err(why) => told(status(false), &serde_json::json!({ "ok": false, "error": why.code() })),
    }
}

fn status(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn told(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn told_as_text(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Answers at an address, until it is told to stop.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

impl Front {
    /// Begins to answer.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn open(at: SocketAddr, router: Router) -> Result<Self, Trouble> {
        let failed = |error: std::io::Error| {
            let hint = "name an address of this machine that nobody else listens at";
            Trouble::new("cannot_listen", format!("{at}: {error}"), hint)
        };
        let listener = TcpListener::bind(at).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, mut stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let stopped = async move {
                // An error means that nobody is there any more to tell it.
                let _ = stopped.changed().await;
            };
            let served = axum::serve(listener, router).with_graceful_shutdown(stopped);
            // It ends when it is told to, and by nothing else.
            let _ = served.await;
        });
        Ok(Self { address, stop, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and waits for a few seconds for the answers that are under way.
    pub async fn close(mut self) {
        // Nobody hears it where it has ended by itself.
        let _ = self.stop.send(true);
        let _ = clock::within(LAST_ANSWERS, self.serving.join_next()).await;
    }
}
