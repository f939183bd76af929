//! How a paid checkout becomes an order: its row, its run and the delivery itself in one
//! transaction, and nothing of them otherwise.

use provision_adapters::webhook::{Delivery, Endpoint, Taken, Untaken, Verifier};
use provision_core::store::{Submission, Submitted};
use serde::Deserialize;
use sqlx::query;
use uuid::Uuid;

use crate::{
    saga::{MAKE, Order, VARIANTS_MAX},
    shop::Shop,
};

/// Days for which an order is kept after its occasion.
pub const RETAINED_DAYS: i32 = 90;

/// What is read of an event. Anything else is nobody's business here.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
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
    payment_status: String,
    metadata: Wishes,
}

#[derive(Debug, Deserialize)]
struct Wishes {
    recipient: String,
    occasion_date: String,
    story: String,
    styles: String,
    length_ms: String,
}

/// The endpoint that the payment provider calls.
#[must_use]
pub fn endpoint(shop: &Shop, verifier: Verifier) -> Endpoint {
    let shop = shop.clone();
    Endpoint::new(verifier, move |delivery| {
        let shop = shop.clone();
        async move { take(&shop, &delivery).await }
    })
}

async fn take(shop: &Shop, delivery: &Delivery) -> Result<Taken, Untaken> {
    let event: Event = delivery.json()?;
    if event.kind != "checkout.session.completed" {
        return Ok(Taken::Nothing);
    }
    let unreadable = |_| Untaken::Refused("checkout_unreadable");
    let checkout: Checkout = serde_json::from_value(event.data.object).map_err(unreadable)?;
    if checkout.payment_status != "paid" {
        // Slow ways to pay come back with an event of their own.
        return Ok(Taken::Nothing);
    }
    let order = order(&checkout)?;
    write(shop, (&event.id, delivery.body()), &checkout, &order).await
}

fn order(checkout: &Checkout) -> Result<Order, Untaken> {
    let Wishes { story, styles, length_ms, .. } = &checkout.metadata;
    let styles: Vec<String> = styles.split(',').map(|style| style.trim().to_owned()).collect();
    if styles.len() > VARIANTS_MAX || styles.iter().any(String::is_empty) {
        return Err(Untaken::Refused("checkout_styles"));
    }
    Ok(Order {
        // One order for each checkout, whichever of its events comes first.
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, checkout.id.as_bytes()),
        story: story.clone(),
        styles,
        length_ms: length_ms.parse().map_err(|_| Untaken::Refused("checkout_length"))?,
    })
}

// [quoted: begin]
/// Writes delivery, order and run: they are there together, or none of them is.
async fn write(
    shop: &Shop,
    (event, body): (&str, &[u8]),
    checkout: &Checkout,
    order: &Order,
) -> Result<Taken, Untaken> {
    let start = shop.engine.start(MAKE, order).key(format!("checkout/{}", checkout.id));
    let new = start.prepare().await?;
    let run = new.head.id;

    let mut tx = shop.intake.begin().await.map_err(untaken)?;
    let insert = "INSERT INTO songs.orders
        (id, checkout, run, customer, recipient, occasion_date, retained_until)
        VALUES ($1, $2, $3, $4, $5, $6::text::date, $6::text::date + $7)
        ON CONFLICT (checkout) DO NOTHING";
    let insert = query(insert).bind(order.id).bind(&checkout.id).bind(*run.as_uuid());
    let insert = insert.bind(&checkout.client_reference_id).bind(&checkout.metadata.recipient);
    let insert = insert.bind(&checkout.metadata.occasion_date).bind(RETAINED_DAYS);
    insert.execute(&mut *tx).await.map_err(untaken)?;
    // Of an order that was removed nothing is kept again.
    let insert = "INSERT INTO songs.deliveries (event, order_id, body)
        SELECT $1, $2, $3 FROM songs.orders WHERE id = $2 AND progress <> 'removed'
        ON CONFLICT (event) DO NOTHING";
    let insert = query(insert).bind(event).bind(order.id).bind(body);
    insert.execute(&mut *tx).await.map_err(untaken)?;
    let started = shop.store.start_in(&mut tx, &[Submission::Run(Box::new(new))]).await;
    let started = started.map_err(|_busy_or_gone| Untaken::Later)?;
    tx.commit().await.map_err(untaken)?;

    Ok(Taken::Run(match started.as_slice() {
        // Another event of this checkout, or the same one again: the order is there.
        [Submitted::Known(there) | Submitted::KeyTaken(there)] => there.id,
        [Submitted::Pruned(there)] => there.run,
        _ => run,
    }))
}
// [quoted: end]

/// A value that the database refuses stays refused; all other trouble passes.
fn untaken(error: sqlx::Error) -> Untaken {
    let sqlx::Error::Database(said) = error else { return Untaken::Later };
    let state = said.code().unwrap_or_default();
    match state.get(..2) {
        Some("22" | "23") => Untaken::Refused("checkout_value"),
        _ => Untaken::Later,
    }
}
