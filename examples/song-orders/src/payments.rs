//! Money that is to go back: what was paid for songs that cannot be made, and what was paid and
//! never became an order.

use std::fmt;

use example_command::exit::Trouble;
use provision_core::RunId;
use serde::Serialize;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::{database::unread, shop::Shop};

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
            FROM songs.orders WHERE payment = 'refund_due'
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
    /// Nothing of this name is to be paid back (`no_refund_due`), or the database cannot be written.
    pub async fn refunded(&self, checkout: &str) -> Result<(), Trouble> {
        let order = "UPDATE songs.orders SET payment = 'refunded'
            WHERE checkout = $1 AND payment IN ('refund_due', 'refunded') RETURNING run";
        let order: Option<Uuid> =
            query_scalar(order).bind(checkout).fetch_optional(&self.admin).await.map_err(unread)?;
        let kept = "UPDATE songs.unusable_payments
            SET refunded_at = coalesce(refunded_at, now()), body = NULL
            WHERE coalesce(checkout, event) = $1";
        let kept = query(kept).bind(checkout).execute(&self.admin).await.map_err(unread)?;
        if let Some(run) = order {
            self.acknowledge(&RunId::from_uuid(run), "--refunded").await?;
        } else if kept.rows_affected() == 0 {
            return Err(Trouble::usage(
                "no_refund_due",
                format!("nothing of `{checkout}` is to be paid back"),
                "see --refunds",
            ));
        }
        Ok(())
    }
}
