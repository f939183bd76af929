//! A database of a test's own, five platforms, and the service over them.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use connector_platform::{
    database::Database,
    platform::{PlatformName, Platforms},
    saga::connect::Connection,
    schema,
    service::{NewJob, Service},
    shared::Settings,
    sim::{Pace, SocialSim},
};
use provision_adapters::{http::BaseUrl, sim::SimServer};
use provision_core::{
    Outcome, Secret, Worker,
    vault::{DevKeys, KeyProvider},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

pub(crate) const URL: &str = "PROVISION_TEST_POSTGRES_URL";
pub(crate) const REDIRECT: &str = "https://app.example/welcome";
/// How long anything may take that ends by itself.
const WITHIN: Duration = Duration::from_secs(180);
/// Places at the same time, at most: the server has a hundred connections.
static ROOM: Semaphore = Semaphore::const_new(5);

/// A database of its own on the server; `None`, said aloud, where there is none.
pub(crate) async fn database() -> Option<String> {
    let Ok(url) = std::env::var(URL) else {
        provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
        println!("SKIPPED: {URL} is not set");
        return None;
    };
    let name = format!("connectors_{}", Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    conn.close().await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) sims: BTreeMap<PlatformName, SimServer<SocialSim>>,
    pub(crate) service: Service,
    _room: SemaphorePermit<'static>,
}

/// A process that is killed when nobody wants it any more, also where a test fails.
pub(crate) struct Killed {
    pub(crate) child: Child,
    /// What it has said before it was at work.
    pub(crate) said: Vec<String>,
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Nothing comes of it where it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A service is not dropped with its last handle, since its steps hold the engine: its connections
/// are closed, or those of all tests together would be too many for the server.
impl Drop for Place {
    fn drop(&mut self) {
        let pool = self.service.shared().db.pool().clone();
        let closing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async {
                // Those that are still waited on end with the test's own runtime.
                let _ = tokio::time::timeout(Duration::from_secs(1), pool.close()).await;
            });
        });
        let _ = closing.join();
    }
}

pub(crate) fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !look().await {
        assert!(begun.elapsed() < WITHIN, "not within three minutes: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Place {
    pub(crate) async fn new() -> Option<Self> {
        Self::with(Settings::simulated(), Pace::default()).await
    }

    pub(crate) async fn with(settings: Settings, pace: Pace) -> Option<Self> {
        Self::sealed(settings, pace, dev_keys()).await
    }

    /// The same, with keys of its own.
    pub(crate) async fn sealed(
        settings: Settings,
        pace: Pace,
        keys: Arc<dyn KeyProvider>,
    ) -> Option<Self> {
        let room = ROOM.acquire().await.unwrap();
        let url = database().await?;
        schema::deploy(&url).await.unwrap();
        let sims: BTreeMap<_, _> = PlatformName::ALL
            .into_iter()
            .map(|name| (name, SocialSim::start(name, pace).unwrap()))
            .collect();
        let service = open_with(&url, &sims, settings, keys).await;
        Some(Self { url, sims, service, _room: room })
    }

    /// A worker in a process of its own, at work.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Killed {
        self.spawn_with(arguments, &[])
    }

    /// The same, with variables of its environment.
    pub(crate) fn spawn_with(&self, arguments: &[&str], variables: &[(&str, &Path)]) -> Killed {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connector-platform"));
        command.args(["--environment", "dev", "--database", &self.url]);
        for (name, sim) in &self.sims {
            command.args(["--platform", &format!("{name}={}", sim.url())]);
        }
        command.args(arguments).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut killed = Killed { child, said: Vec::new() };
        for line in lines.map_while(Result::ok) {
            if line == "driving" {
                return killed;
            }
            killed.said.push(line);
        }
        panic!("it does not work: {:?}", killed.said);
    }

    pub(crate) fn worker(&self) -> Worker {
        self.service.worker(Duration::from_secs(5))
    }

    pub(crate) fn sim(&self, name: PlatformName) -> &SimServer<SocialSim> {
        &self.sims[&name]
    }

    pub(crate) fn posts(&self, name: PlatformName) -> usize {
        self.sim(name).with(|sim| sim.world().posts())
    }

    /// Connects; a worker has to be at work.
    pub(crate) async fn connect(&self, tenant: &str, name: PlatformName) -> Uuid {
        let (invited, connected) = self.consent(tenant, name).await;
        assert_eq!(connected, invited);
        invited
    }

    /// Connects; answers the connection that was to be, and the one that is.
    pub(crate) async fn consent(&self, tenant: &str, name: PlatformName) -> (Uuid, Uuid) {
        let invitation = self.service.invite(tenant, "ada", name, REDIRECT).await.unwrap();
        let code = self.sim(name).with(|sim| sim.world().consent(REDIRECT, now()));
        let code = Secret::new(code);
        let run =
            self.service.welcome((tenant, "ada"), name, &invitation.state, &code).await.unwrap();
        let connected = self.service.engine().handle::<Connection>(run).output().await.unwrap();
        (invitation.connection, connected.who.connection)
    }

    /// Starts a job and waits until its run is over or parked.
    pub(crate) async fn publish(
        &self,
        tenant: &str,
        connection: Uuid,
    ) -> (Uuid, Outcome<serde_json::Value>) {
        let job = self.service.publish(tenant, &job(connection)).await.unwrap();
        (job, self.outcome(tenant, job).await)
    }

    pub(crate) async fn outcome(&self, tenant: &str, job: Uuid) -> Outcome<serde_json::Value> {
        let run = self.service.run_of(tenant, job).await.unwrap();
        let handle = self.service.engine().handle(run);
        tokio::time::timeout(WITHIN, handle.outcome()).await.expect("too slow").unwrap()
    }

    /// Lets the tokens of every connection to a platform grow old as the service sees them; the
    /// platform still takes them, as one does within the margin.
    pub(crate) async fn age(&self, name: PlatformName) {
        let tokens = &self.service.shared().tokens;
        let sql = "SELECT id, tenant_id FROM connectors.connections WHERE platform = $1";
        let rows = sqlx::query_as(sql).bind(name.as_str()).fetch_all(&mut self.owner().await).await;
        let rows: Vec<(Uuid, String)> = rows.unwrap();
        for (connection, tenant) in rows {
            let held = tokens.read(&tenant, connection).await.unwrap().unwrap();
            let at =
                provision_core::Timestamp::from_millis(u64::try_from(now().as_millis()).unwrap());
            tokens.expire((&tenant, connection), &held, at).await.unwrap();
        }
    }

    /// Reads as the owner.
    pub(crate) async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.owner().await).await.unwrap()
    }

    pub(crate) async fn text(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(&mut self.owner().await).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        self.owner().await.execute(sqlx::raw_sql(sql)).await.unwrap();
    }
}

pub(crate) fn platforms(sims: &BTreeMap<PlatformName, SimServer<SocialSim>>) -> Platforms {
    let app = |sim: &SimServer<SocialSim>| SocialSim::app(BaseUrl::parse(&sim.url()).unwrap());
    Platforms::new(sims.iter().map(|(name, sim)| (*name, app(sim))).collect()).unwrap()
}

pub(crate) async fn open(
    url: &str,
    sims: &BTreeMap<PlatformName, SimServer<SocialSim>>,
    settings: Settings,
) -> Service {
    open_with(url, sims, settings, dev_keys()).await
}

fn dev_keys() -> Arc<dyn KeyProvider> {
    Arc::new(DevKeys::for_environment("dev").unwrap())
}

pub(crate) async fn open_with(
    url: &str,
    sims: &BTreeMap<PlatformName, SimServer<SocialSim>>,
    settings: Settings,
    keys: Arc<dyn KeyProvider>,
) -> Service {
    let db = Database::new(url).unwrap();
    Service::open(db, keys, platforms(sims), settings).await.unwrap()
}

pub(crate) fn job(connection: Uuid) -> NewJob {
    NewJob {
        connection,
        request_key: Uuid::new_v4().to_string(),
        body: "News of the day".to_owned(),
        link: "https://acme.example/news?id=7".to_owned(),
        delay: None,
    }
}
