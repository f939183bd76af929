//! How an order is fulfilled: input, output, steps, definition.

use provision_core::{
    Compensator, NothingToUndo, Saga, SagaError, SagaId, Step, StepContext, StepError, Undo,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, query};

/// Name and version; runs are stored under them.
pub const FULFIL: SagaId<Order, Parcel> = SagaId::new("fulfil-order", 1);

/// Input: what was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number of the order.
    pub number: i64,
    /// What is wanted.
    pub item: String,
}

/// Output: what goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Number of the order.
    pub order: i64,
    /// What stands on it.
    pub label: String,
}

/// Wires the saga over the shop's own pool.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn fulfilment(pool: &PgPool) -> Result<Saga<Order, Parcel>, SagaError> {
    Saga::define(FULFIL, |s| {
        let taken = s
            .step("shelf", TakeOffShelf(pool.clone()), PutBack(pool.clone()))
            .input((), |order, ()| order.clone());
        s.step("label", PrintLabel, NothingToUndo).input(taken, |_, order| order)
    })
}

/// Takes the item off the shelf: one row for each order, however often it is called.
struct TakeOffShelf(PgPool);

impl Step for TakeOffShelf {
    const KIND: &'static str = "shop.take_off_shelf";
    type Input = Order;
    type Output = Order;

    async fn run(&self, cx: &StepContext, order: Order) -> Result<Order, StepError> {
        if order.item == "nothing" {
            return Err(StepError::permanent("take off the shelf").with_code("no_such_item"));
        }
        // The key is the same for every call of this step in this run, also after a crash. There is
        // no unique order here, so that a run too many would show.
        let taken = "INSERT INTO shop.taken (key, order_number) VALUES ($1, $2)
            ON CONFLICT (key) DO NOTHING";
        let taken = query(taken).bind(cx.idempotency_key().to_owned()).bind(order.number);
        taken.execute(&self.0).await.map_err(|error| unheard("take off the shelf", error))?;
        Ok(order)
    }
}

struct PutBack(PgPool);

impl Compensator<TakeOffShelf> for PutBack {
    // Whether it was taken is not asked: what is not there need not be put back.
    async fn compensate(
        &self,
        _: &StepContext,
        order: Order,
        _: Undo<Order>,
    ) -> Result<(), StepError> {
        let put_back = query("DELETE FROM shop.taken WHERE order_number = $1").bind(order.number);
        put_back.execute(&self.0).await.map_err(|error| unheard("put back", error))?;
        Ok(())
    }
}

struct PrintLabel;

impl Step for PrintLabel {
    const KIND: &'static str = "shop.print_label";
    type Input = Order;
    type Output = Parcel;

    async fn run(&self, _: &StepContext, order: Order) -> Result<Parcel, StepError> {
        Ok(Parcel { order: order.number, label: format!("{} / {}", order.number, order.item) })
    }
}

/// The statement may have been carried out.
fn unheard(operation: &'static str, error: sqlx::Error) -> StepError {
    StepError::unknown(operation).with_code("shop_database").with_source(error)
}
