//! What the payment provider delivers: a paid checkout begins a subscription, and the end of a
//! subscription ends it. Everything else asks for nothing here.

use example_command::exit::{Exit, Trouble};
use provision_adapters::webhook::{Delivery, Endpoint, Taken, Untaken, Verifier};
use provision_core::Timestamp;
use serde::Deserialize;

use crate::{
    input::Subscription,
    table::{Notice, Table, What},
};

/// A checkout was completed; by a slow way to pay the money may still be to come.
pub const PAID: &str = "checkout.session.completed";
/// The money of a slow way to pay has come.
pub const PAID_LATER: &str = "checkout.session.async_payment_succeeded";
/// A subscription is over, whoever has ended it: at once, or at the end of what was paid for.
pub const ENDED: &str = "customer.subscription.deleted";

/// What is read of an event.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Seconds since 1970.
    created: u64,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    object: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Checkout {
    id: String,
    client_reference_id: String,
    /// The provider's id of what is paid for from now on; none of what is paid for once.
    subscription: Option<String>,
    metadata: Wishes,
}

#[derive(Debug, Deserialize)]
struct Wishes {
    subscription: String,
    preset: String,
    region: String,
    /// Who makes the machine; where it is left out, the saga itself.
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Over {
    id: String,
    #[serde(default)]
    metadata: Named,
}

/// What the host has put there when it made the checkout; people can remove it.
#[derive(Debug, Default, Deserialize)]
struct Named {
    subscription: Option<String>,
}

/// The endpoint that the payment provider calls.
#[must_use]
pub fn endpoint(table: &Table, verifier: Verifier) -> Endpoint {
    let table = table.clone();
    Endpoint::new(verifier, move |delivery| {
        let table = table.clone();
        async move { take(&table, &delivery).await }
    })
}

/// Written in one transaction: a delivery that was answered is kept, and one that was not changes
/// nothing when it comes again.
async fn take(table: &Table, delivery: &Delivery) -> Result<Taken, Untaken> {
    let event: Event = delivery.json()?;
    let unreadable = |_| Untaken::Refused("event_unreadable");
    let session = event.data.object;
    let what = match event.kind.as_str() {
        PAID | PAID_LATER => match session.get("payment_status").and_then(|it| it.as_str()) {
            // Nothing was to be paid where a coupon covers it, or while it is tried.
            Some("paid" | "no_payment_required") => {
                let checkout: Checkout = serde_json::from_value(session).map_err(unreadable)?;
                let order = order(&checkout).map_err(|trouble| untaken(&trouble))?;
                // What is paid for once is over when people say so.
                What::Paid { order, provider: checkout.subscription.unwrap_or(checkout.id) }
            }
            // Slow ways to pay come back with an event of their own.
            Some("unpaid") => {
                let begun = session.get("subscription").and_then(|id| id.as_str());
                if let Some(provider) = begun {
                    table.set_aside(provider).await.map_err(|trouble| untaken(&trouble))?;
                }
                return Ok(Taken::Nothing);
            }
            _ => return Err(Untaken::Refused("event_unreadable")),
        },
        ENDED => {
            let Over { id, metadata } = serde_json::from_value(session).map_err(unreadable)?;
            What::Ended { provider: id, subscription: metadata.subscription }
        }
        _ => return Ok(Taken::Nothing),
    };
    let at = Timestamp::from_millis(event.created.saturating_mul(1_000));
    let notice = Notice { event: format!("stripe:{}", event.id), at, what };
    table.heed(&notice).await.map_err(|trouble| untaken(&trouble))?;
    // Its run begins when a worker looks at the row.
    Ok(Taken::Nothing)
}

fn order(checkout: &Checkout) -> Result<Subscription, Trouble> {
    let Wishes { subscription, preset, region, path } = &checkout.metadata;
    let made_by = path.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    let order =
        Subscription::new(subscription, &checkout.client_reference_id, preset.parse()?, region)?;
    Ok(order.made_by(made_by))
}

fn untaken(trouble: &Trouble) -> Untaken {
    match (trouble.exit(), trouble.code()) {
        (Exit::Usage, "other_options") => Untaken::Refused("other_options"),
        (Exit::Usage, _) => Untaken::Refused("order_unusable"),
        _ => Untaken::Later,
    }
}
