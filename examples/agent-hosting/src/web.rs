//! What the host answers over HTTP: webhooks of the payment provider, reports of workflows, and how a
//! subscription stands, for a page that polls.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{get, post},
};
use example_command::exit::Trouble;
use provision_adapters::webhook::{CALLBACK_BODY_MAX, Callbacks, Report, Verifier};
use provision_core::{
    Engine, Secret,
    clock::{Clock, SystemClock},
    draw::{SystemEntropy, uuid_v4},
    resolver::{EnvResolver, SecretResolver},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{intake::endpoint, table::Table, workflow::accepted};

/// The variable with the secret that signs webhooks.
pub const WEBHOOK_SECRET: &str = "STRIPE_WEBHOOK_SECRET";
/// The secret where none is set: everybody knows it, so it is good on this machine alone.
pub const DEMO_SECRET: &str = "whsec_demonstration";

/// The secret that signs webhooks.
///
/// # Errors
/// None is set, and others than this machine can reach `listen`.
pub async fn secret(listen: SocketAddr) -> Result<Secret, Trouble> {
    match EnvResolver::new().only([WEBHOOK_SECRET]).resolve(WEBHOOK_SECRET).await? {
        Some(secret) => Ok(secret),
        None if listen.ip().is_loopback() => Ok(Secret::new(DEMO_SECRET)),
        None => Err(Trouble::usage(
            "webhook_secret",
            "nobody outside of this machine is believed without a secret",
            format!("set {WEBHOOK_SECRET}, or listen on a loopback address"),
        )),
    }
}

/// The variable with the key that makes the tokens of callbacks.
pub const CALLBACK_KEY: &str = "CALLBACK_KEY";
/// The file of a data folder with the key that was drawn for it.
const KEY_FILE: &str = "callback-key";

/// What takes the reports of workflows. Where the environment names no key, one is drawn for the
/// data folder, and stays there; who calls holds the folder's cloud, so nobody else draws one.
///
/// # Errors
/// The key is too short, the folder cannot be used, or there is no randomness.
pub async fn callbacks(data_dir: &std::path::Path) -> Result<Callbacks, Trouble> {
    let named = EnvResolver::new().only([CALLBACK_KEY]).resolve(CALLBACK_KEY).await?;
    let key = match named {
        Some(key) => key,
        None => drawn_key(&data_dir.join(KEY_FILE))?,
    };
    let callbacks = Callbacks::new([key]).map_err(|error| {
        Trouble::usage("callback_key", error.to_string(), "set a key of at least 32 bytes")
    })?;
    Ok(accepted(callbacks))
}

fn drawn_key(path: &std::path::Path) -> Result<Secret, Trouble> {
    if let Ok(kept) = fs::read_to_string(path) {
        return Ok(Secret::new(kept));
    }
    let draw = || {
        let drawn = uuid_v4(&SystemEntropy).map(|drawn| drawn.simple().to_string());
        drawn.map_err(|error| Trouble::bug("no_randomness", error.to_string()))
    };
    let (key, whole) = (format!("{}{}", draw()?, draw()?), path.with_extension("new"));
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&whole).and_then(|mut file| {
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        fs::rename(&whole, path)
    });
    let unusable = |error: io::Error| {
        Trouble::unavailable("callback_key", error.to_string(), "choose another --data-dir")
    };
    written.map(|()| Secret::new(key)).map_err(unusable)
}

/// The engine that reports are for, once it is there.
pub type Receiver = Arc<OnceLock<Engine>>;

/// The host's routes.
///
/// # Errors
/// The secret cannot be used.
pub fn router(
    table: &Table,
    secret: Secret,
    (callbacks, receiver): (Callbacks, Receiver),
) -> Result<Router, Trouble> {
    let verifier = Verifier::stripe("agent-hosting", [secret])
        .map_err(|error| Trouble::usage("webhook_secret", error.to_string(), "set another one"))?;
    let shown = Router::new().route("/{id}", get(standing)).with_state(table.clone());
    Ok(Router::new()
        .nest("/hooks", endpoint(table, verifier).router("/stripe"))
        .nest("/subscriptions", shown)
        .route("/callbacks/{name}", post(reported).with_state((callbacks, receiver))))
}

/// What a workflow reports.
async fn reported(
    State((callbacks, receiver)): State<(Callbacks, Receiver)>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> impl IntoResponse {
    let answer = |status: u16, code: &str| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, "application/json")], json!({ "code": code }).to_string())
    };
    let Some(engine) = receiver.get() else { return answer(503, "unavailable") };
    let Ok(body) = axum::body::to_bytes(body, CALLBACK_BODY_MAX).await else {
        return answer(413, "too_large");
    };
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let now = SystemClock.wall();
    let report = Report { name: &name, headers: &headers, body: &body, now };
    let taken = callbacks.receive(engine, report).await;
    answer(taken.status(), taken.code())
}

/// How a subscription stands. There is nothing in it that whoever knows its id may not see: no
/// customer and no address.
async fn standing(State(table): State<Table>, Path(id): Path<String>) -> impl IntoResponse {
    let (status, body) = match table.get(&id).await {
        Ok(Some(row)) => {
            let well = row.heard.map(super::table::Heard::is_well);
            let (state, desired) = (row.state.as_str(), row.desired.as_str());
            let body = json!({
                "id": id, "state": state, "desired": desired, "phase": row.phase, "healthy": well,
            });
            (StatusCode::OK, body)
        }
        Ok(None) => (StatusCode::NOT_FOUND, json!({})),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, json!({})),
    };
    (status, [(CONTENT_TYPE, "application/json")], body.to_string())
}

/// Routes that are served. They go down when it is dropped.
#[derive(Debug)]
pub struct Served {
    address: String,
    _task: JoinSet<()>,
}

impl Served {
    /// Serves routes at an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn start(listen: SocketAddr, router: Router) -> Result<Self, Trouble> {
        let unheard = |error: io::Error| {
            Trouble::unavailable("listen", error.to_string(), "choose another address")
        };
        let listener = TcpListener::bind(listen).await.map_err(unheard)?;
        let address = format!("http://{}", listener.local_addr().map_err(unheard)?);
        let mut task = JoinSet::new();
        // It ends with the listener alone, and that with this process.
        task.spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, _task: task })
    }

    /// Where it is reached, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
