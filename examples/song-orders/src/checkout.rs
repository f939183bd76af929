//! The payment provider's side of a paid checkout: its event, signed as it signs.

use std::time::Duration;

use example_command::{exit::Trouble, payments::signature};
use provision_core::{RunId, Secret, clock};
use reqwest::{Client, header::RETRY_AFTER};

use crate::intake::SHOP;

/// How often a delivery comes again that the shop cannot take now.
const AGAIN_MAX: usize = 8;

/// What is bought.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Id of the checkout.
    pub id: String,
    /// Who buys.
    pub customer: String,
    /// One variant for each of these, joined by commas.
    pub styles: String,
    /// The day it is for, such as `2026-12-24`.
    pub occasion_date: String,
    /// How long each song is.
    pub length_ms: u64,
    /// What it is about.
    pub story: String,
    /// What the payment provider says of the payment, such as `paid`.
    pub payment_status: String,
}

impl Checkout {
    /// A checkout of three short songs.
    #[must_use]
    pub fn new(id: impl Into<String>, customer: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            customer: customer.into(),
            styles: "acoustic,pop,ballad".to_owned(),
            occasion_date: "2099-12-24".to_owned(),
            length_ms: 3_000,
            story: "how we met in the rain".to_owned(),
            payment_status: "paid".to_owned(),
        }
    }

    /// The event that says it is over.
    #[must_use]
    pub fn event(&self, event: &str) -> String {
        self.event_of(event, "checkout.session.completed")
    }

    /// An event of this type.
    #[must_use]
    pub fn event_of(&self, event: &str, kind: &str) -> String {
        let metadata = serde_json::json!({
            "shop": SHOP, "recipient": "Ada", "occasion_date": self.occasion_date,
            "story": self.story, "styles": self.styles,
            "length_ms": self.length_ms.to_string(),
        });
        let object = serde_json::json!({
            "id": self.id, "object": "checkout.session", "payment_status": self.payment_status,
            "client_reference_id": self.customer, "metadata": metadata,
        });
        let data = serde_json::json!({ "object": object });
        serde_json::json!({ "id": event, "object": "event", "type": kind, "data": data })
            .to_string()
    }
}

/// What a shop has answered to one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// When the delivery is to come again, where the shop asks for it.
    pub again: Option<Duration>,
}

impl Answer {
    /// The run that it speaks of.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        let told: serde_json::Value = serde_json::from_str(&self.text).ok()?;
        serde_json::from_value(told.get("run")?.clone()).ok()
    }
}

/// Delivers an event to a shop, once.
///
/// # Errors
/// The shop does not answer: the sender comes again.
pub async fn deliver_once(shop: &str, secret: &Secret, body: &str) -> Result<Answer, Trouble> {
    let client = Client::builder().no_proxy().build().map_err(unheard)?;
    let request = client
        .post(format!("{shop}/hooks/stripe"))
        .header("stripe-signature", signature(secret, body))
        .body(body.to_owned());
    let answer = request.send().await.map_err(unheard)?;
    let status = answer.status().as_u16();
    let seconds =
        answer.headers().get(RETRY_AFTER).and_then(|told| told.to_str().ok()?.parse().ok());
    let text = answer.text().await.map_err(unheard)?;
    Ok(Answer { status, text, again: seconds.map(Duration::from_secs) })
}

/// Delivers an event as its sender does: what cannot be taken now comes again when the shop says,
/// 8 times at most.
///
/// # Errors
/// The shop does not answer: the sender comes again.
pub async fn deliver(shop: &str, secret: &Secret, body: &str) -> Result<Answer, Trouble> {
    let mut answer = deliver_once(shop, secret, body).await?;
    for _ in 0..AGAIN_MAX {
        let Some(again) = answer.again else { break };
        clock::sleep(again).await;
        answer = deliver_once(shop, secret, body).await?;
    }
    Ok(answer)
}

fn unheard(error: reqwest::Error) -> Trouble {
    let message = error.without_url().to_string();
    Trouble::unavailable("shop_unheard", message, "the sender repeats it")
}
