//! What the host answers over HTTP: webhooks of the payment provider, and how a subscription stands,
//! for a page that polls.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use example_command::exit::Trouble;
use provision_adapters::webhook::Verifier;
use provision_core::{
    Secret,
    resolver::{EnvResolver, SecretResolver},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{intake::endpoint, table::Table};

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

/// The host's routes.
///
/// # Errors
/// The secret cannot be used.
pub fn router(table: &Table, secret: Secret) -> Result<Router, Trouble> {
    let verifier = Verifier::stripe("agent-hosting", [secret])
        .map_err(|error| Trouble::usage("webhook_secret", error.to_string(), "set another one"))?;
    let shown = Router::new().route("/{id}", get(standing)).with_state(table.clone());
    Ok(Router::new()
        .nest("/hooks", endpoint(table, verifier).router("/stripe"))
        .nest("/subscriptions", shown))
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
