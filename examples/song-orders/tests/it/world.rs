//! A database of its own for each test, simulated clouds, and a shop over both.

use std::time::{Duration, Instant};

use example_command::stage::Stage;
use provision_adapters::{
    elevenlabs::sim::ElevenLabsSim,
    sim::{SimOptions, SimServer},
    supabase_storage::sim::{SupabaseStorageSim, base},
    webhook::Verifier,
};
use provision_core::Secret;
use song_orders::{
    checkout,
    cloud::Cloud,
    commands::keys,
    saga::BUCKET,
    secret::DEMO_SECRET,
    shop::{Places, Shop, Standing},
    web,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::net::TcpListener;

const URL: &str = "PROVISION_TEST_POSTGRES_URL";
/// How long anything may take here.
pub(crate) const WITHIN: Duration = Duration::from_secs(50);

/// A database of its own on the server; `None`, said aloud, where there is none.
pub(crate) async fn database() -> Option<String> {
    let Ok(url) = std::env::var(URL) else {
        provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
        println!("SKIPPED: {URL} is not set");
        return None;
    };
    let name = format!("songs_{}", uuid::Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    conn.close().await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

/// ElevenLabs and the storage, both of this process.
#[derive(Debug)]
pub(crate) struct Clouds {
    pub(crate) elevenlabs: SimServer<ElevenLabsSim>,
    pub(crate) storage: SimServer<SupabaseStorageSim>,
}

impl Clouds {
    pub(crate) fn start() -> Self {
        let mut sim = SupabaseStorageSim::new();
        sim.add_bucket(BUCKET);
        let storage = SimServer::start(sim, SimOptions::default()).unwrap();
        let mut sim = ElevenLabsSim::new();
        sim.set_slots(64);
        let elevenlabs = SimServer::start(sim, SimOptions::default()).unwrap();
        Self { elevenlabs, storage }
    }

    pub(crate) fn storage_url(&self) -> String {
        base(&self.storage.url())
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.storage.with(|sim| sim.paths(BUCKET))
    }
}

/// A shop that is open, in this process.
pub(crate) struct World {
    pub(crate) clouds: Clouds,
    pub(crate) url: String,
    pub(crate) shop: Shop,
    /// Where it is reached.
    pub(crate) address: String,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn open() -> Option<Self> {
        Some(Self::at(database().await?).await)
    }

    /// Over a database of this address.
    pub(crate) async fn at(url: String) -> Self {
        let (clouds, folder) = (Clouds::start(), tempfile::tempdir().unwrap());
        let shop = Shop::open(&places(&url, &clouds, &folder), keys()).await.unwrap();
        let verifier = Verifier::stripe("song-orders", [Secret::new(DEMO_SECRET)]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = web::router(&shop, verifier);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { clouds, url, shop, address, _folder: folder }
    }

    pub(crate) async fn conn(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        number(&self.url, sql).await
    }

    /// Delivers as a sender does, who repeats what a busy machine cannot take now.
    pub(crate) async fn deliver(&self, event: &str) -> u16 {
        let secret = Secret::new(DEMO_SECRET);
        checkout::deliver(&self.address, &secret, event).await.unwrap().status
    }

    /// Waits until a statement counts so many.
    pub(crate) async fn counts(&self, sql: &'static str, wanted: i64) {
        let began = Instant::now();
        loop {
            let count = self.number(sql).await;
            if count == wanted {
                return;
            }
            assert!(began.elapsed() < WITHIN, "{count}: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the orders stand so.
    pub(crate) async fn until(&self, wanted: impl Fn(Standing) -> bool) {
        let began = Instant::now();
        loop {
            let standing = self.shop.standing().await.unwrap();
            if wanted(standing) {
                return;
            }
            assert!(began.elapsed() < WITHIN, "{standing}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn places(url: &str, clouds: &Clouds, folder: &TempDir) -> Places {
    let cloud = Cloud::at(&clouds.elevenlabs.url(), &clouds.storage_url()).unwrap();
    Places {
        database: url.to_owned(),
        data_dir: folder.path().to_owned(),
        elevenlabs: cloud.elevenlabs().with_music_concurrency(16),
        storage: cloud.storage(),
        live: false,
        stage: Stage::served(0.01),
    }
}

pub(crate) async fn number(url: &str, sql: &'static str) -> i64 {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}
