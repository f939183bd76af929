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

/// What happened to a subscription. The provider gives each of its subscriptions an id of its own,
/// and one that is over never comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was paid for.
    Paid {
        /// What was ordered.
        order: Subscription,
        /// The provider's id of what is paid for from now on.
        provider: String,
    },
    /// What the provider knows under an id is over.
    Ended {
        /// The provider's id.
        provider: String,
        /// The subscription that it was for, where the provider says so.
        subscription: Option<String>,
    },
}

/// A payment as it is written.
struct Payment<'p> {
    event: &'p str,
    at: i64,
    provider: Option<&'p str>,
    order: &'p Subscription,
    text: &'p str,
}

impl Table {
    /// Takes a payment by hand, made now. One that was taken already, under the same event, changes
    /// nothing; answers whether it is new. What has ended, or is to, begins anew; a renewal leaves a
    /// machine that its customer has stopped as it is.
    ///
    /// It has no id of the provider, so an end counts for it that comes at its second or later and
    /// is of nothing else that was paid for.
    ///
    /// # Errors
    /// Code `other_options`: the subscription is there, and is another one. Or the store is away.
    pub async fn pay(&self, event: &str, order: &Subscription) -> Result<bool, Trouble> {
        self.paid(event, None, order).await
    }

    /// Takes what the payment provider says; answers whether it changes something. An end is that
    /// of the payment with its id, before which or after which it may come; a subscription is over
    /// when nothing that was paid for it is left.
    ///
    /// # Errors
    /// Code `other_options`: the subscription is there, and is another one. Or the store is away.
    pub async fn heed(&self, notice: &Notice) -> Result<bool, Trouble> {
        let (event, at) = (notice.event.clone(), millis(notice.at));
        let (provider, named) = match &notice.what {
            What::Paid { order, provider } => {
                return self.paid(&event, Some((notice.at, provider.clone())), order).await;
            }
            What::Ended { provider, subscription } => (provider.clone(), subscription.clone()),
        };
        let ended = move |tx: &Transaction<'_>| {
            // No subscription has an empty id.
            let named = named.unwrap_or_default();
            let new = "insert or ignore into ends (event, subscription, at, provider)
                values (?1, ?2, ?3, ?4)";
            if tx.execute(new, (&event, &named, at, &provider))? == 0 {
                return Ok(false);
            }
            // Of what has no id it is told by time, unless the end is that of something else.
            let over = "update payments set over = 1 where over = 0 and (provider = ?1
                or (provider is null and subscription = ?2 and at <= ?3
                    and not exists (select 1 from payments other where other.provider = ?1)
                    and not exists (select 1 from aside where aside.provider = ?1)))";
            tx.execute(over, (&provider, &named, at))?;
            let end = "update subscriptions set desired = 'gone' where desired <> 'gone'
                and (id = ?2 or id in (select subscription from payments where provider = ?1))
                and not exists (select 1 from payments where subscription = id and over = 0)";
            Ok(tx.execute(end, (&provider, &named))? == 1)
        };
        Ok(self.0.execute_host(ended).await?)
    }

    /// Remembers a purchase that nothing is made of, or not yet: its end is the end of nothing else.
    ///
    /// # Errors
    /// The store is away.
    pub async fn set_aside(&self, provider: &str) -> Result<(), Trouble> {
        let provider = provider.to_owned();
        Ok(self.0.execute_host(move |tx| set_aside(tx, &provider)).await?)
    }

    /// The provider's id of the payment that was taken last and is not over; none where there is
    /// none, or where it was taken by hand.
    ///
    /// # Errors
    /// The store is away.
    pub async fn provider_id(&self, subscription: &str) -> Result<Option<String>, Trouble> {
        let id = subscription.to_owned();
        let held = self.0.query_host(move |conn| {
            let last = "select provider from payments where subscription = ?1 and over = 0
                order by at desc, event desc limit 1";
            conn.query_row(last, [id], |row| row.get::<_, Option<String>>(0)).optional()
        });
        Ok(held.await?.flatten())
    }

    async fn paid(
        &self,
        event: &str,
        told: Option<(Timestamp, String)>,
        order: &Subscription,
    ) -> Result<bool, Trouble> {
        let (event, order, text) = (event.to_owned(), order.clone(), json(order)?);
        let (id, now) = (order.id.clone(), millis(SystemClock.wall()));
        let taken = self.0.execute_host(move |tx| {
            let last = "select coalesce(max(at), -1) from ends where subscription = ?1";
            let last: i64 = tx.query_row(last, [&order.id], |row| row.get(0))?;
            let (at, provider) = match &told {
                Some((at, provider)) => (millis(*at), Some(provider.as_str())),
                // What is paid for here and now is later than every end that is known, whatever the
                // clocks say; an end that is not known yet tells its second alone.
                None => ((now - now % 1_000).max(last.saturating_add(1)), None),
            };
            taken(tx, &Payment { event: &event, at, provider, order: &order, text: &text })
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
            and (select count(*) from payments where subscription = ?1 and over < 2) = ?2";
        let ended = self.0.execute_host(move |tx| {
            let ends = tx.execute(end, (&id, payments))? == 1;
            if ends {
                close(tx, &id)?;
            }
            Ok(ends)
        });
        Ok(ended.await?)
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
fn taken(tx: &Transaction<'_>, payment: &Payment<'_>) -> rusqlite::Result<Option<bool>> {
    let Payment { event, at, provider, order, text } = payment;
    let known = "select exists (select 1 from payments where event = ?1 or provider = ?2)";
    if tx.query_row(known, (event, provider), |row| row.get(0))? {
        return Ok(Some(false));
    }
    // An end without an id was noted by an earlier program: time tells what it was the end of.
    let over = "select exists (select 1 from ends where provider = ?1)
        or exists (select 1 from ends where subscription = ?2 and at >= ?3 and provider is null)";
    let over: bool = tx.query_row(over, (provider, &order.id, at), |row| row.get(0))?;
    if !over && is_another(tx, order)? {
        if let Some(provider) = provider {
            set_aside(tx, provider)?;
        }
        return Ok(None);
    }
    // What comes after its own end is known from now on, and counts as no payment.
    let new = "insert into payments (event, subscription, at, provider, over)
        values (?1, ?2, ?3, ?4, iif(?5, 2, 0))";
    tx.execute(new, (event, &order.id, at, provider, over))?;
    if over {
        return Ok(Some(false));
    }
    // What was stopped and is gone begins anew when its stopping was undone, too.
    let begin = "insert into subscriptions (id, subscription, desired, state)
        values (?1, ?2, 'running', 'pending')
        on conflict (id) do update set subscription = ?2, anew = 0,
            desired = iif(desired = 'gone' or state in ('gone', 'failed'), 'running', desired),
            state = iif(state in ('gone', 'failed') and stop is null, 'pending', state)";
    tx.execute(begin, (&order.id, text))?;
    Ok(Some(true))
}

fn set_aside(tx: &Transaction<'_>, provider: &str) -> rusqlite::Result<()> {
    tx.execute("insert or ignore into aside (provider) values (?1)", [provider]).map(drop)
}

/// Closes what was paid for a subscription: whoever is to have it again pays again, also where the
/// provider goes on with what it has.
pub(super) fn close(tx: &Transaction<'_>, subscription: &str) -> rusqlite::Result<()> {
    let over = "update payments set over = 1 where subscription = ?1 and over = 0";
    tx.execute(over, [subscription]).map(drop)
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
