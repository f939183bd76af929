//! What is paid for, and what is not any more: each is taken once, in whatever order they come.

use example_command::exit::Trouble;
use provision_core::{
    Timestamp,
    clock::{Clock, SystemClock},
    store::{NewRun, Submission},
};
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Table, is_unwanted, json, millis, moment};
use crate::{input::Subscription, saga::Ending};

/// What the payment provider says, under the id of its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The event; said again under it, it changes nothing.
    pub event: String,
    /// When it happened, by the provider's clock: events come in any order.
    pub at: Timestamp,
    /// What happened.
    pub what: What,
}

/// What happened to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was paid for.
    Paid(Subscription),
    /// The subscription of this id is over.
    Ended(String),
}

impl Table {
    /// Takes a payment, made now. One that was taken already, under the same event, changes
    /// nothing; answers whether it is new. What has ended, or is to, begins anew; a renewal leaves a
    /// machine that its customer has stopped as it is.
    ///
    /// # Errors
    /// Code `other_options`: the subscription is there, and is another one. Or the store is away.
    pub async fn pay(&self, event: &str, order: &Subscription) -> Result<bool, Trouble> {
        self.paid(event, None, order).await
    }

    /// Takes what the payment provider says; answers whether it changes something. Of a payment
    /// and an end the later one counts, and of both at one moment the end.
    ///
    /// # Errors
    /// Code `other_options`: the subscription is there, and is another one. Or the store is away.
    pub async fn heed(&self, notice: &Notice) -> Result<bool, Trouble> {
        let id = match &notice.what {
            What::Paid(order) => return self.paid(&notice.event, Some(notice.at), order).await,
            What::Ended(id) => id.clone(),
        };
        let (event, at) = (notice.event.clone(), millis(notice.at));
        let ended = self.0.execute_host(move |tx| {
            let new = "insert or ignore into ends (event, subscription, at) values (?1, ?2, ?3)";
            if tx.execute(new, (&event, &id, at))? == 0 {
                return Ok(false);
            }
            let end =
                "update subscriptions set desired = 'gone' where id = ?1 and desired <> 'gone'
                and not exists (select 1 from payments where subscription = ?1 and at > ?2)";
            Ok(tx.execute(end, (&id, at))? == 1)
        });
        Ok(ended.await?)
    }

    async fn paid(
        &self,
        event: &str,
        at: Option<Timestamp>,
        order: &Subscription,
    ) -> Result<bool, Trouble> {
        let (event, order, text) = (event.to_owned(), order.clone(), json(order)?);
        let (id, now) = (order.id.clone(), millis(SystemClock.wall()));
        let at = at.map(millis);
        let taken = self.0.execute_host(move |tx| {
            let last = "select coalesce(max(at), -1) from ends where subscription = ?1";
            let last: i64 = tx.query_row(last, [&order.id], |row| row.get(0))?;
            // What is paid for here and now is later than every end that is known, whatever the
            // clocks say.
            let at = at.unwrap_or(now.max(last.saturating_add(1)));
            taken(tx, (&event, at), (&order, &text), last)
        });
        taken.await?.ok_or_else(|| {
            Trouble::usage(
                "other_options",
                format!("the subscription `{id}` has other options"),
                "leave them out to go on, or --tear-down it first",
            )
        })
    }

    /// Says that nobody pays for a subscription any more, unless somebody has paid since. Answers
    /// whether it ends.
    ///
    /// # Errors
    /// The store is away.
    pub async fn end(&self, ending: &Ending) -> Result<bool, Trouble> {
        let (id, payments) = (ending.subscription.clone(), ending.payments);
        let end = "update subscriptions set desired = 'gone' where id = ?1
            and (select count(*) from payments where subscription = ?1) = ?2";
        Ok(self.0.execute_host(move |tx| tx.execute(end, (id, payments))).await? == 1)
    }

    /// Begins the run that ends a subscription at a moment, unless one ends it sooner. Answers the
    /// moment that holds.
    ///
    /// # Errors
    /// The store is away.
    pub async fn end_later(
        &self,
        ending: &Ending,
        at: Timestamp,
        run: NewRun,
    ) -> Result<Timestamp, Trouble> {
        let (id, payments) = (ending.subscription.clone(), ending.payments);
        let write = move |tx: &Transaction<'_>, _: &[_]| {
            let sooner = "insert into endings (subscription, payments, at) values (?1, ?2, ?3)
                on conflict (subscription) do update set payments = ?2, at = ?3
                where payments <> ?2 or at > ?3";
            match tx.execute(sooner, (&id, payments, millis(at)))? {
                1 => Ok(()),
                // Nothing of this transaction is kept.
                _ => Err(rusqlite::Error::QueryReturnedNoRows),
            }
        };
        match self.0.submit_with_host(vec![Submission::Run(Box::new(run))], write).await {
            Ok(_) => Ok(at),
            Err(error) if is_unwanted(&error) => {
                let id = ending.subscription.clone();
                let held = self.0.query_host(move |conn| {
                    let held = "select at from endings where subscription = ?1";
                    conn.query_row(held, [id], |row| row.get::<_, i64>(0)).optional()
                });
                Ok(held.await?.map_or(at, moment))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes a payment and what it asks for; whether it asks for anything, or none of a subscription
/// that is another one.
fn taken(
    tx: &Transaction<'_>,
    (event, at): (&str, i64),
    (order, text): (&Subscription, &str),
    last_end: i64,
) -> rusqlite::Result<Option<bool>> {
    if is_another(tx, order)? {
        return Ok(None);
    }
    let new = "insert or ignore into payments (event, subscription, at) values (?1, ?2, ?3)";
    if tx.execute(new, (event, &order.id, at))? == 0 || at <= last_end {
        return Ok(Some(false));
    }
    // What was stopped and is gone begins anew when its stopping was undone, too.
    let begin = "insert into subscriptions (id, subscription, desired, state)
        values (?1, ?2, 'running', 'pending')
        on conflict (id) do update set subscription = ?2,
            desired = iif(desired = 'gone' or state in ('gone', 'failed'), 'running', desired),
            state = iif(state in ('gone', 'failed') and stop is null, 'pending', state)";
    tx.execute(begin, (&order.id, text))?;
    Ok(Some(true))
}

/// Whether a live subscription of this id is another one.
fn is_another(tx: &Transaction<'_>, order: &Subscription) -> rusqlite::Result<bool> {
    let live = "select subscription from subscriptions
        where id = ?1 and state not in ('gone', 'failed')";
    let mut query = tx.prepare_cached(live)?;
    let mut rows = query.query([&order.id])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    let text: String = row.get(0)?;
    Ok(!serde_json::from_str::<Subscription>(&text).is_ok_and(|there| there == *order))
}
