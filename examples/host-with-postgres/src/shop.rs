//! The shop: its tables, its pool, and how an order becomes a run.

use std::{fmt, time::Duration};

use provision_core::{
    By, Engine, RunStatus, Worker, WorkerConfig, clock,
    store::{RunFilter, Submission},
};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use sqlx::{PgPool, postgres::PgPoolOptions, query, query_as, query_scalar};

use crate::{
    saga::{FULFIL, Order, fulfilment},
    trouble::Trouble,
};

/// Connections of the pool, for the shop and for the store.
const CONNECTIONS_MAX: u32 = 8;
/// How long a connection is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// How often it is looked whether orders are open.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const TABLES: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS shop",
    "CREATE SEQUENCE IF NOT EXISTS shop.order_numbers",
    "CREATE TABLE IF NOT EXISTS shop.orders (
        number bigint PRIMARY KEY, item text NOT NULL, run text NOT NULL UNIQUE,
        state text NOT NULL DEFAULT 'placed' CHECK (state IN ('placed', 'shipped', 'refused'))
    )",
    "CREATE TABLE IF NOT EXISTS shop.taken (key text PRIMARY KEY, order_number bigint NOT NULL)",
];
/// Hosts may begin at the same time, and `IF NOT EXISTS` alone does not part them.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('host-with-postgres'))";

/// How many orders stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Taken, and not through.
    pub placed: i64,
    /// On their way.
    pub shipped: i64,
    /// Undone.
    pub refused: i64,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { placed, shipped, refused } = self;
        write!(f, "{shipped} orders shipped, {refused} refused, {placed} open")
    }
}

/// What is open while the shop trades.
#[derive(Debug)]
pub struct Shop {
    pool: PgPool,
    store: PostgresStore,
    engine: Engine,
}

impl Shop {
    /// Connects, makes tables that are missing, and puts the engine together. Nothing is driven yet.
    ///
    /// # Errors
    /// The database cannot be reached, or will not do.
    pub async fn open(url: &str) -> Result<Self, Trouble> {
        let wrong = || {
            let message = "this is no address of a PostgreSQL database".to_owned();
            Trouble::unusable("postgres_wrong_url", message)
        };
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong());
        }
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy(url)
            .map_err(|_says_the_url| wrong())?;
        // First the store: it tells what is wrong with a server in words of its own.
        let store = PostgresConfig::with_pool(pool.clone()).open().await?;
        let mut tx = pool.begin().await?;
        query(ONE_AT_A_TIME).execute(&mut *tx).await?;
        for table in TABLES {
            query(table).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        write_ends(&store);
        let saga =
            fulfilment(&pool).map_err(|error| Trouble::unusable("saga", error.to_string()))?;
        let engine = Engine::builder(store.clone()).register(saga).build().await?;
        Ok(Self { pool, store, engine })
    }

    /// Spawns the worker that drives orders, of this process and of those that died.
    #[must_use]
    pub fn worker(&self) -> Worker {
        self.engine.spawn_worker(WorkerConfig::default())
    }

    // [quoted: begin]
    /// Takes an order: its row and its run are there together, or neither is.
    ///
    /// # Errors
    /// The database does not take it; then nothing of it is there, unless the answer to the commit
    /// was lost.
    pub async fn place(&self, item: &str) -> Result<i64, Trouble> {
        let number = "SELECT nextval('shop.order_numbers')";
        let number: i64 = query_scalar(number).fetch_one(&self.pool).await?;
        let order = Order { number, item: item.to_owned() };
        let start = self.engine.start(FULFIL, &order).key(format!("order/{number}"));
        let new = start.prepare().await?;

        let mut tx = self.pool.begin().await?;
        let insert = "INSERT INTO shop.orders (number, item, run) VALUES ($1, $2, $3)";
        let insert = query(insert).bind(number).bind(item).bind(new.head.id.to_string());
        insert.execute(&mut *tx).await?;
        self.store.start_in(&mut tx, &[Submission::Run(Box::new(new))]).await?;
        tx.commit().await?;
        Ok(number)
    }
    // [quoted: end]

    /// Waits until no order is open that goes on by itself; answers how all stand.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn settled(&self) -> Result<Standing, Trouble> {
        let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
        loop {
            let standing = self.standing().await?;
            if standing.placed == 0 {
                return Ok(standing);
            }
            let parked = self.engine.runs(&parked).await?.runs.len();
            if i64::try_from(parked).is_ok_and(|parked| parked >= standing.placed) {
                return Ok(standing);
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// How the orders stand.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn standing(&self) -> Result<Standing, Trouble> {
        let counts = "SELECT count(*) FILTER (WHERE state = 'placed'),
            count(*) FILTER (WHERE state = 'shipped'),
            count(*) FILTER (WHERE state = 'refused') FROM shop.orders";
        let (placed, shipped, refused) = query_as(counts).fetch_one(&self.pool).await?;
        Ok(Standing { placed, shipped, refused })
    }

    /// Orders every run that needs a person to try again.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn retry_parked(&self) -> Result<(), Trouble> {
        let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
        for run in self.engine.runs(&parked).await?.runs {
            self.engine.retry(&run.id, By::new("shop", "--retry-parked")).await?;
        }
        Ok(())
    }
}

/// The order's state changes in the transaction that ends its run.
fn write_ends(store: &PostgresStore) {
    store.on_end(|tx, append| {
        Box::pin(async move {
            let state = match append.status {
                RunStatus::Succeeded => "shipped",
                _ => "refused",
            };
            let end = query("UPDATE shop.orders SET state = $2 WHERE run = $1");
            end.bind(append.run.to_string()).bind(state).execute(tx).await.map(drop)
        })
    });
}
