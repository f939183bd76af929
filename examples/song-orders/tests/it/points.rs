//! The saga at every point at which something can go wrong: each step refused, each answer lost,
//! everything twice, a crash before and after each write and each call; and what the storage and the
//! shop's database hold compared with ledger and journal each time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
};

use example_command::stage::Stage;
use provision_adapters::{
    elevenlabs::{ElevenLabs, FileSink, sim as elevenlabs},
    supabase_storage::{SupabaseStorage, sim as storage},
};
use provision_core::{EngineBuilder, Owned, RunStatus, Saga, vault::LocalKeys};
use provision_testkit::{
    harness::{Harness, Leaping, Outside, Report, Subject},
    skips::share,
};
use song_orders::{
    cloud::Cloud,
    commands::keys,
    database::{migrate, pool},
    saga::{Made, Order, Tools, making},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::world::{Clouds, database};

/// Every so manieth crash is played; all of them where there is time.
const PARTS: usize = 8;
/// Tests that share all of them.
const SIDE_BY_SIDE: usize = 2;

/// The clouds of one order, and its rows.
#[derive(Debug, Clone)]
struct Outer {
    clouds: Arc<Clouds>,
    order: Uuid,
    url: String,
    spool: Arc<TempDir>,
}

/// Does something with the database as its owner, from inside a runtime that must not be waited in.
fn as_owner<T: Send>(url: &str, work: impl AsyncFnOnce(&mut PgConnection) -> T + Send) -> T {
    let asked = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut conn = PgConnection::connect(url).await.unwrap();
            work(&mut conn).await
        })
    };
    thread::scope(|scope| scope.spawn(asked).join().unwrap())
}

impl Outside for Outer {
    fn resources(&self) -> Vec<Owned> {
        self.clouds.paths().into_iter().map(Owned::new).collect()
    }

    /// What of the order can be heard, and whether it is shared.
    fn effects(&self) -> Vec<String> {
        as_owner(&self.url, async |conn| {
            let all = "SELECT 'variant ' || variant_number FROM songs.variants
                WHERE order_id = $1 AND status = 'ready'
                UNION ALL SELECT 'share' FROM songs.shares WHERE order_id = $1";
            sqlx::query_scalar(all).bind(self.order).fetch_all(conn).await.unwrap()
        })
    }

    fn secrets(&self) -> Vec<String> {
        [elevenlabs::KEY, storage::KEY].map(str::to_owned).to_vec()
    }
}

/// Two variants of an order.
struct Making {
    url: String,
    pool: PgPool,
    /// The order that is made now: no late statement of an earlier one can meet it.
    order: Mutex<Uuid>,
}

impl Subject for Making {
    type Input = Order;
    type Output = Made;
    type World = Outer;

    fn world(&self) -> Outer {
        let order = Uuid::new_v4();
        *self.order.lock().unwrap() = order;
        as_owner(&self.url, async |conn| {
            let insert = "INSERT INTO songs.orders (id, checkout, run, customer, story,
                    occasion_date, retained_until, payment)
                VALUES ($1, $1::text, $1, 'ada', 'How we met', '2099-12-24', '2100-03-24', 'paid')";
            sqlx::query(insert).bind(order).execute(conn).await.unwrap();
        });
        let spool = Arc::new(tempfile::tempdir().unwrap());
        Outer { clouds: Arc::new(Clouds::start()), order, url: self.url.clone(), spool }
    }

    fn saga(&self, world: &Outer) -> Saga<Order, Made> {
        let cloud = Cloud::at(&world.clouds.elevenlabs.url(), &world.clouds.storage_url()).unwrap();
        let tools = Tools {
            pool: self.pool.clone(),
            elevenlabs: ElevenLabs::new(cloud.elevenlabs()).unwrap(),
            storage: SupabaseStorage::new(cloud.storage()).unwrap(),
            spool: FileSink::new(world.spool.path()),
            stage: Stage::served(0.0),
        };
        making(&tools).unwrap()
    }

    fn input(&self) -> Order {
        let styles = ["acoustic", "ballad"].map(str::to_owned).to_vec();
        Order { id: *self.order.lock().unwrap(), styles, length_ms: 10_000 }
    }

    fn equip(&self, builder: EngineBuilder, _: &Outer) -> EngineBuilder {
        builder.resolver(keys()).keys(LocalKeys::new("test", [7; 32]).unwrap())
    }
}

async fn played(first: usize) -> Option<Report> {
    let url = database().await?;
    migrate(&url, false).await.unwrap();
    let pool = pool(&url, "song_worker").await.unwrap();
    let making = Making { url, pool, order: Mutex::default() };
    let (part, of) = share(first, PARTS, SIDE_BY_SIDE);
    let places = || std::future::ready(Leaping::new());
    let report = Harness::new(making, places).calls_in_turn().part(part, of).run().await;
    println!("song-orders, part {part} of {of}: {report}");
    report.assert_flawless();
    Some(report)
}

fn judge(report: &Report) {
    let ends: HashSet<RunStatus> = report.ends.keys().copied().collect();
    let all = [RunStatus::Succeeded, RunStatus::PartlySucceeded, RunStatus::RolledBack];
    assert!(all.iter().all(|end| ends.contains(end)), "{report}");
    assert!(report.ended(RunStatus::TornDown) > 0 && report.scenarios > 60, "{report}");
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn an_order_survives_even_crashes() {
    let Some(report) = played(2).await else { return };
    judge(&report);
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn an_order_survives_odd_crashes() {
    let Some(report) = played(5).await else { return };
    judge(&report);
}
