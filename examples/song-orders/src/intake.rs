//! How a paid checkout becomes an order: its row, its run and the delivery itself in one
//! transaction, and nothing of them otherwise. What was paid and cannot be made is kept for a refund.

use provision_adapters::webhook::{Delivery, Endpoint, Taken, Untaken, Verifier};
use provision_core::store::{Submission, Submitted};
use serde::Deserialize;
use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;

use crate::{
    saga::{MAKE, Order, VARIANTS_MAX},
    shop::Shop,
};

/// Days for which an order is kept after its occasion.
pub const RETAINED_DAYS: i32 = 90;
/// Longest story, in characters: with its style it has to fit into a prompt.
pub const STORY_MAX: usize = 4_000;
/// Longest name of a style, in characters.
pub const STYLE_MAX: usize = 60;
/// How long a song may be, in milliseconds.
pub const LENGTH_MS: std::ops::RangeInclusive<u64> = 3_000..=600_000;

/// Longest id of a checkout, in bytes: with what is before it, it is the key of a run.
pub const CHECKOUT_MAX: usize = 200;
/// What the metadata of our checkouts say under `shop`. An account sells other things, too.
pub const SHOP: &str = "songs";

/// Events that say that a checkout is paid: at once, or by a slow way to pay that came through.
const PAID: [&str; 2] = ["checkout.session.completed", "checkout.session.async_payment_succeeded"];

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

/// A delivery that was proven, of a checkout that is paid.
struct Paid<'d> {
    event: &'d str,
    body: &'d [u8],
    /// `paid`, or `free` where nothing was to be paid.
    payment: &'static str,
}

/// Why nothing is made of a delivery.
enum Unmade {
    /// The database is in trouble: the sender comes again.
    Untaken(Untaken),
    /// It will never be of use, for this reason.
    Unusable(&'static str),
}

impl From<Untaken> for Unmade {
    fn from(untaken: Untaken) -> Self {
        Self::Untaken(untaken)
    }
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
    if !PAID.contains(&event.kind.as_str()) {
        return Ok(Taken::Nothing);
    }
    let session = event.data.object;
    // What is paid for other things is nobody's business here.
    if session.pointer("/metadata/shop").and_then(|shop| shop.as_str()) != Some(SHOP) {
        return Ok(Taken::Nothing);
    }
    let payment = match session.get("payment_status").and_then(|status| status.as_str()) {
        Some("paid") => "paid",
        Some("no_payment_required") => "free",
        // Slow ways to pay come back with an event of their own.
        Some("unpaid") => return Ok(Taken::Nothing),
        _ => return Err(Untaken::Refused("checkout_unreadable")),
    };
    let checkout = session.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    let paid = Paid { event: &event.id, body: delivery.body(), payment };
    match make(shop, &paid, session).await {
        Ok(taken) => Ok(taken),
        Err(Unmade::Untaken(untaken)) => Err(untaken),
        Err(Unmade::Unusable(why)) => keep(shop, &paid, checkout.as_deref(), why).await,
    }
}

async fn make(shop: &Shop, paid: &Paid<'_>, session: serde_json::Value) -> Result<Taken, Unmade> {
    let unreadable = |_| Unmade::Unusable("checkout_unreadable");
    let checkout: Checkout = serde_json::from_value(session).map_err(unreadable)?;
    let order = order(&checkout).map_err(Unmade::Unusable)?;
    write(shop, paid, &checkout, &order).await
}

/// What is ordered; else the reason why it cannot be made.
fn order(checkout: &Checkout) -> Result<Order, &'static str> {
    if !(1..=CHECKOUT_MAX).contains(&checkout.id.len()) {
        return Err("checkout_id");
    }
    let Wishes { story, styles, length_ms, occasion_date, .. } = &checkout.metadata;
    let styles: Vec<String> = styles.split(',').map(|style| style.trim().to_owned()).collect();
    let style = |style: &String| (1..=STYLE_MAX).contains(&style.chars().count());
    if styles.len() > VARIANTS_MAX || !styles.iter().all(style) {
        return Err("checkout_styles");
    }
    if !(1..=STORY_MAX).contains(&story.chars().count()) {
        return Err("checkout_story");
    }
    if checkout.client_reference_id.is_empty() {
        return Err("checkout_customer");
    }
    // The database also takes words for a day, such as `infinity` and `tomorrow`.
    if !is_day(occasion_date) {
        return Err("checkout_date");
    }
    let length_ms = length_ms.parse().ok().filter(|ms| LENGTH_MS.contains(ms));
    Ok(Order {
        // One order for each checkout, whichever of its events comes first.
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, checkout.id.as_bytes()),
        styles,
        length_ms: length_ms.ok_or("checkout_length")?,
    })
}

/// Whether a text has the form of a day, `2026-12-24`; whether there is that day, the database says.
fn is_day(text: &str) -> bool {
    let form = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(form)
}

// [quoted: begin]
/// Writes delivery, order and run: they are there together, or none of them is.
async fn write(
    shop: &Shop,
    paid: &Paid<'_>,
    checkout: &Checkout,
    order: &Order,
) -> Result<Taken, Unmade> {
    let start = shop.engine.start(MAKE, order).key(format!("checkout/{}", checkout.id));
    let new = start.prepare().await.map_err(Untaken::from)?;
    let run = new.head.id;

    let mut tx = shop.intake.begin().await.map_err(refused)?;
    stand(&mut tx, checkout).await?;
    let insert = "INSERT INTO songs.orders
        (id, checkout, run, customer, recipient, story, occasion_date, retained_until, payment)
        VALUES ($1, $2, $3, $4, $5, $6, $7::text::date, $7::text::date + $8, $9)
        ON CONFLICT DO NOTHING";
    let insert = query(insert).bind(order.id).bind(&checkout.id).bind(*run.as_uuid());
    let insert = insert.bind(&checkout.client_reference_id).bind(&checkout.metadata.recipient);
    let insert = insert.bind(&checkout.metadata.story).bind(&checkout.metadata.occasion_date);
    let insert = insert.bind(RETAINED_DAYS).bind(paid.payment);
    insert.execute(&mut *tx).await.map_err(refused)?;
    // Of an order that was removed nothing is kept again.
    let insert = "INSERT INTO songs.deliveries (event, order_id, body)
        SELECT $1, $2, $3 FROM songs.orders WHERE id = $2 AND progress <> 'removed'
        ON CONFLICT (event) DO NOTHING";
    let insert = query(insert).bind(paid.event).bind(order.id).bind(paid.body);
    insert.execute(&mut *tx).await.map_err(refused)?;
    let started = shop.store.start_in(&mut tx, &[Submission::Run(Box::new(new))]).await;
    let started = started.map_err(|_busy_or_gone| Untaken::Later)?;
    tx.commit().await.map_err(refused)?;

    Ok(Taken::Run(match started.as_slice() {
        // Another event of this checkout, or the same one again: the order is there.
        [Submitted::Known(there) | Submitted::KeyTaken(there)] => there.id,
        [Submitted::Pruned(there)] => there.run,
        _ => run,
    }))
}
// [quoted: end]

/// Whether an order may stand: one that is there does, whatever the day is; of what could not be used
/// before the money goes back, or is over before it is made, there is none.
async fn stand(tx: &mut PgConnection, checkout: &Checkout) -> Result<(), Unmade> {
    let stands = "SELECT EXISTS (SELECT FROM songs.orders WHERE checkout = $1),
        EXISTS (SELECT FROM songs.unusable_payments WHERE checkout = $1),
        $2::text::date + $3 >= CURRENT_DATE";
    let stands = query_as(stands).bind(&checkout.id);
    let stands = stands.bind(&checkout.metadata.occasion_date).bind(RETAINED_DAYS);
    match stands.fetch_one(tx).await.map_err(refused)? {
        (true, _, _) | (false, false, true) => Ok(()),
        (false, true, _) => Err(Unmade::Unusable("checkout_unusable")),
        (false, false, false) => Err(Unmade::Unusable("checkout_date")),
    }
}

/// Keeps what was paid and will never be a song, until the money has gone back. The sender is told
/// that it is taken: it has nothing to repeat, and a person has something to do.
async fn keep(
    shop: &Shop,
    paid: &Paid<'_>,
    checkout: Option<&str>,
    why: &'static str,
) -> Result<Taken, Untaken> {
    if paid.payment == "free" {
        return Ok(Taken::Nothing);
    }
    let insert = "INSERT INTO songs.unusable_payments (event, checkout, why, body)
        SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM songs.orders WHERE checkout = $2)
        ON CONFLICT DO NOTHING";
    // No text of the database holds such a character.
    let checkout = checkout.filter(|id| !id.contains('\0'));
    let insert = query(insert).bind(paid.event).bind(checkout).bind(why).bind(paid.body);
    match insert.execute(&shop.intake).await.map_err(refused) {
        Ok(_) => Ok(Taken::Nothing),
        Err(Unmade::Untaken(untaken)) => Err(untaken),
        Err(Unmade::Unusable(why)) => Err(Untaken::Refused(why)),
    }
}

/// A value that the database refuses stays refused; all other trouble passes.
fn refused(error: sqlx::Error) -> Unmade {
    let sqlx::Error::Database(said) = error else { return Unmade::Untaken(Untaken::Later) };
    let state = said.code().unwrap_or_default();
    match state.get(..2) {
        Some("22" | "23") => Unmade::Unusable("checkout_value"),
        _ => Unmade::Untaken(Untaken::Later),
    }
}

#[cfg(test)]
mod tests {
    use super::is_day;

    #[test]
    fn a_day_has_one_form() {
        assert!(is_day("2026-12-24"));
        for text in
            ["", "infinity", "tomorrow", "2026-12-4", "24-12-2026", "2026/12/24", "-026-12-24"]
        {
            assert!(!is_day(text), "{text}");
        }
    }
}
