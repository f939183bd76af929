//! What the shop answers over HTTP: webhooks, and the songs of an order to who holds its token.

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use provision_adapters::webhook::Verifier;
use sqlx::query_as;

use crate::{
    intake::endpoint,
    saga::{BUCKET, token_hash},
    shop::Shop,
};

/// How long an address of a song can be used. It is signed for each request and stored nowhere.
pub const SIGNED_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The shop's routes.
pub fn router(shop: &Shop, verifier: Verifier) -> Router {
    let songs = Router::new().route("/{token}", get(shared)).with_state(shop.clone());
    Router::new().nest("/hooks", endpoint(shop, verifier).router("/stripe")).nest("/songs", songs)
}

/// The songs that a token shares; a token that shares nothing is answered like any other.
async fn shared(State(shop): State<Shop>, Path(token): Path<String>) -> impl IntoResponse {
    let (status, body) = match look(&shop, &token).await {
        Some(songs) if songs.is_empty() => (StatusCode::NOT_FOUND, serde_json::json!({})),
        Some(songs) => (StatusCode::OK, serde_json::json!({ "songs": songs })),
        None => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({})),
    };
    (status, [(CONTENT_TYPE, "application/json")], body.to_string())
}

/// `None` where the database or the storage does not answer.
async fn look(shop: &Shop, token: &str) -> Option<Vec<serde_json::Value>> {
    let shared = "SELECT recipient, variant_number, object, duration_ms FROM songs.shared($1)";
    let shared: Vec<(Option<String>, i16, String, i64)> =
        query_as(shared).bind(token_hash(token)).fetch_all(&shop.anyone).await.ok()?;
    let cx = shop.engine.outside(None).await.ok()?;
    let mut songs = Vec::with_capacity(shared.len());
    for (recipient, number, object, duration_ms) in shared {
        let signed = shop.storage.sign(&cx, (BUCKET, &object), SIGNED_FOR).await.ok()?;
        songs.push(serde_json::json!({
            "for": recipient, "number": number, "duration_ms": duration_ms, "url": signed.expose(),
        }));
    }
    Some(songs)
}
