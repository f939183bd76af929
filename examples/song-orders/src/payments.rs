//! Money that is to go back: what was paid for songs that cannot be made, and what was paid and
//! never became an order.

use std::fmt;

use example_command::exit::Trouble;
use provision_core::RunId;
use serde::Serialize;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::{
    database::unread,
    shop::{Shop, by},
};

/// Something that was paid in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    /// The checkout at the payment provider; where none could be read, the event.
    pub checkout: String,
    /// Why: `order_failed`, or the code of what could not be used.
    pub why: String,
    /// When it came in, as the database writes it.
    pub since: String,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checkout, why, since } = self;
        write!(f, "{checkout} {why} since {since}")
    }
}

impl Shop {
    /// What is to be paid back, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn refunds_due(&self) -> Result<Vec<Due>, Trouble> {
        let due = "SELECT checkout, 'order_failed', created_at::text, created_at
            FROM songs.orders WHERE payment = 'refund_due' AND progress IN ('failed', 'removed')
            UNION ALL
            SELECT coalesce(checkout, event), why, received_at::text, received_at
            FROM songs.unusable_payments WHERE refunded_at IS NULL
            ORDER BY 4, 1";
        let due = format!("SELECT a, b, c FROM ({due}) AS due (a, b, c, d) ORDER BY d, a");
        let due: Vec<(String, String, String)> =
            query_as(sqlx::AssertSqlSafe(due)).fetch_all(&self.admin).await.map_err(unread)?;
        let due = due.into_iter().map(|(checkout, why, since)| Due { checkout, why, since });
        Ok(due.collect())
    }

    /// Notes that the money of a checkout has gone back, or that of an event without one. An order
    /// that was paid back is never made any more, its run needs nobody, and what was kept of an
    /// unusable payment is forgotten. May be repeated.
    ///
    /// # Errors
    /// Nothing of this name is to be paid back (`no_refund_due`), the order is being made or waits
    /// for a person (`order_open`), or the database cannot be written.
    pub async fn refunded(&self, checkout: &str) -> Result<(), Trouble> {
        let order = "UPDATE songs.orders SET payment = 'refunded'
            WHERE checkout = $1 AND payment IN ('refund_due', 'refunded')
                AND progress IN ('failed', 'removed') RETURNING run";
        let order: Option<Uuid> =
            query_scalar(order).bind(checkout).fetch_optional(&self.admin).await.map_err(unread)?;
        let kept = "UPDATE songs.unusable_payments
            SET refunded_at = coalesce(refunded_at, now()), body = NULL
            WHERE coalesce(checkout, event) = $1";
        let kept = query(kept).bind(checkout).execute(&self.admin).await.map_err(unread)?;
        if let Some(run) = order {
            self.acknowledge(&RunId::from_uuid(run), "--refunded").await?;
        } else if kept.rows_affected() == 0 {
            if self.open_run(checkout).await?.is_some() {
                return Err(Trouble::usage(
                    "order_open",
                    format!("the order of `{checkout}` is being made, or waits for a person"),
                    "say --cancel first: what was made is removed, and its money is due",
                ));
            }
            return Err(Trouble::usage(
                "no_refund_due",
                format!("nothing of `{checkout}` is to be paid back"),
                "see --refunds",
            ));
        }
        Ok(())
    }

    /// Gives an open order up: what was made of it is removed, and its money is to be paid back.
    ///
    /// # Errors
    /// No order of this checkout is open (`no_open_order`), or the database cannot be reached.
    pub async fn cancel(&self, checkout: &str) -> Result<(), Trouble> {
        let Some(run) = self.open_run(checkout).await? else {
            return Err(Trouble::usage(
                "no_open_order",
                format!("no order of `{checkout}` is open"),
                "one that was made is removed by --tear-down, with all others",
            ));
        };
        Ok(self.engine.cancel(&run, by("--cancel")).await?)
    }

    async fn open_run(&self, checkout: &str) -> Result<Option<RunId>, Trouble> {
        let open = "SELECT run FROM songs.orders
            WHERE checkout = $1 AND progress IN ('ordered', 'generating')";
        let open: Option<Uuid> = query_scalar(open)
            .bind(checkout)
            .fetch_optional(self.store.pool())
            .await
            .map_err(unread)?;
        Ok(open.map(RunId::from_uuid))
    }
}
