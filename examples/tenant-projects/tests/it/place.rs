//! A database of its own for each test, a data folder, and a slug that no other test has.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, query_scalar};
use tempfile::TempDir;
use tenant_projects::{
    host::{Host, Places},
    keys::Hashing,
    retry::{Retry, RetryArgs},
    server::TenantServer,
};

const URL: &str = "PROVISION_TEST_POSTGRES_URL";
/// How long anything may take here.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) slug: String,
    pub(crate) folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) error: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        let last = self.said.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Place {
    /// `None`, said aloud, where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let Ok(url) = std::env::var(URL) else {
            provision_testkit::skips::refused_in_ci(&format!("{URL} is not set"));
            println!("SKIPPED: {URL} is not set");
            return None;
        };
        let token = uuid::Uuid::new_v4().simple().to_string();
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let create = format!("CREATE DATABASE host_{token}");
        conn.execute(AssertSqlSafe(create)).await.unwrap();
        conn.close().await.unwrap();
        let (server, _) = url.rsplit_once('/').unwrap();
        let slug = format!("t{}", &token[..10]);
        let folder = tempfile::tempdir().unwrap();
        Some(Self { url: format!("{server}/host_{token}"), slug, folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-projects"));
        command
            .args(["--project", &self.slug, "--json", "--speed", "0.02"])
            .args(["--retry-every-ms", "300"])
            .args(arguments)
            .arg("--data-dir")
            .arg(self.path())
            .env("DATABASE_URL", &self.url)
            .stdin(Stdio::null());
        command
    }

    /// Types a command whose words nobody reads.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Types a command, and waits for its end; bounded.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
        let (status, said, error) = ended;
        Ran { code: status.code(), said, error }
    }

    pub(crate) fn places(&self, retry: Retry) -> Places {
        Places {
            database: self.url.clone(),
            tenants: TenantServer::of(&self.url).unwrap(),
            data_dir: self.path().to_owned(),
            speed: 0.02,
            retry,
            hashing: Hashing::Argon2id,
            fail_at: None,
            crash_at: None,
        }
    }

    /// A host in this process.
    pub(crate) async fn host(&self) -> Arc<Host> {
        Arc::new(Host::open(&self.places(quick(20))).await.unwrap())
    }

    /// One number from the host's database.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        query_scalar(sql).fetch_one(&mut conn).await.unwrap()
    }

    /// Databases and roles of this test's projects, as the catalog has them.
    pub(crate) async fn catalog(&self) -> Vec<String> {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        let sql = "SELECT 'database ' || datname FROM pg_database WHERE datname LIKE $1
            UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE $1 ORDER BY 1";
        let like = format!("project\\_{}%", self.slug);
        query_scalar(sql).bind(like).fetch_all(&mut conn).await.unwrap()
    }
}

/// Attempts that are 200 ms apart.
pub(crate) fn quick(attempts: u32) -> Retry {
    let retry = tenant_projects::retry::Preset::Fixed;
    let args = RetryArgs { retry, attempts, retry_every_ms: 200, attempt_timeout_ms: 30_000 };
    Retry::typed(&args).unwrap()
}

fn ended(mut child: Child) -> (ExitStatus, String, String) {
    let begun = Instant::now();
    let (said, error) = (read(child.stdout.take()), read(child.stderr.take()));
    while child.try_wait().unwrap().is_none() && begun.elapsed() < WITHIN {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Nothing comes of it where it has ended.
    let _ = child.kill();
    (child.wait().unwrap(), said.join().unwrap(), error.join().unwrap())
}

/// Reads while the command works: a full pipe would hold it up.
fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.unwrap().read_to_string(&mut text).unwrap();
        text
    })
}

/// The keys that a command showed for one run, as JSON has them.
pub(crate) fn keys_of(run: &Value) -> Vec<String> {
    let keys = run["keys"].as_array().unwrap_or_else(|| panic!("{run}"));
    keys.iter().map(|key| key["key"].as_str().unwrap().to_owned()).collect()
}
