//! The payment provider's side: its events, signed as it signs them.

use example_command::{exit::Trouble, payments::signature};
use provision_core::{Secret, Timestamp};
use serde_json::json;

use crate::{
    input::Subscription,
    intake::{ENDED, PAID},
};

/// The event that says that a subscription was paid for, under the provider's own id of it.
#[must_use]
pub fn paid(event: &str, at: Timestamp, order: &Subscription, provider: &str) -> String {
    let wishes = json!({
        "subscription": order.id, "preset": order.preset.as_str(), "region": order.region,
        "path": order.made_by.as_str(),
    });
    let checkout = json!({
        "id": format!("cs_{event}"), "object": "checkout.session", "mode": "subscription",
        "payment_status": "paid", "client_reference_id": order.customer,
        "subscription": provider, "metadata": wishes,
    });
    told(event, at, (PAID, checkout))
}

/// The event that says that what the provider knows under an id is over.
#[must_use]
pub fn ended(event: &str, at: Timestamp, subscription: &str, provider: &str) -> String {
    let over = json!({
        "id": provider, "object": "subscription", "status": "canceled",
        "metadata": { "subscription": subscription },
    });
    told(event, at, (ENDED, over))
}

fn told(event: &str, at: Timestamp, (kind, object): (&str, serde_json::Value)) -> String {
    let created = at.as_millis() / 1_000;
    let data = json!({ "object": object });
    json!({ "id": event, "object": "event", "type": kind, "created": created, "data": data })
        .to_string()
}

/// Delivers an event to the host at this address; answers the status.
///
/// # Errors
/// The host does not answer: the sender comes again.
pub async fn deliver(host: &str, secret: &Secret, body: &str) -> Result<u16, Trouble> {
    let unheard = |error: reqwest::Error| {
        let message = error.without_url().to_string();
        Trouble::unavailable("host_unheard", message, "see whether `work` listens there")
    };
    let client = reqwest::Client::builder().no_proxy().build().map_err(unheard)?;
    let request = client
        .post(format!("{host}/hooks/stripe"))
        .header("stripe-signature", signature(secret, body))
        .body(body.to_owned());
    Ok(request.send().await.map_err(unheard)?.status().as_u16())
}
