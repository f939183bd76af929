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
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, query_as, query_scalar};
use tempfile::TempDir;
use tenant_projects::{
    host::{Host, Places},
    keys::Hashing,
    retry::{Retry, RetryArgs},
    server::{TenantServer, VARIABLES},
};

const URL: &str = "PROVISION_TEST_POSTGRES_URL";
/// How long anything may take here; a fleet takes its time on a machine that has other things to do.
pub(crate) const WITHIN: Duration = Duration::from_mins(5);

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

    /// The keys that it showed, one line each.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let lines = self.said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["key"].is_string()).collect()
    }

    /// The same without what stands beside them.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.shown().iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect()
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

    /// A command for people, in a data folder.
    pub(crate) fn command_in(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-projects"));
        command.args(["--project", &self.slug, "--speed", "0.02"]);
        if !["--retry-every-ms", "exponential"].iter().any(|said| arguments.contains(said)) {
            command.args(["--retry-every-ms", "300"]);
        }
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(folder)
            .env("DATABASE_URL", &self.url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in VARIABLES {
            command.env_remove(name);
        }
        command
    }

    /// The same for programs, in the folder of this place.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_in(self.path(), arguments);
        command.arg("--json");
        command
    }

    /// Types a command whose words nobody reads.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Types a command, and waits for its end; bounded.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments)).await
    }

    /// Does something to the host's database.
    pub(crate) async fn execute(&self, sql: &'static str) {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        conn.execute(sql).await.unwrap();
    }

    /// Rows of three texts of the host's database.
    pub(crate) async fn triples(&self, sql: &'static str) -> Vec<(String, String, String)> {
        let mut conn = PgConnection::connect(&self.url).await.unwrap();
        query_as(sql).fetch_all(&mut conn).await.unwrap()
    }

    /// Whether the tables of runs are there.
    pub(crate) async fn has_runs(&self) -> bool {
        let there = "SELECT (to_regclass('provision.runs_view') IS NOT NULL)::integer::bigint";
        self.number(there).await == 1
    }

    /// Waits until a number of the host's database is this one.
    pub(crate) async fn until(&self, sql: &'static str, number: i64) {
        let begun = Instant::now();
        while self.number(sql).await != number {
            assert!(begun.elapsed() < WITHIN, "never {number}: {sql}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn places(&self, retry: Retry) -> Places {
        Places {
            database: self.url.clone(),
            tenants: TenantServer::of(&self.url, None).unwrap(),
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
        Arc::new(Host::open(&self.places(quick(1_000))).await.unwrap())
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

/// Types a command, and waits for its end; bounded.
pub(crate) async fn ran(mut command: Command) -> Ran {
    let child = command.spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
    let (status, said, error) = ended;
    Ran { code: status.code(), said, error }
}

/// Attempts that are 200 ms apart.
pub(crate) fn quick(attempts: u32) -> Retry {
    let retry = tenant_projects::retry::Preset::Fixed;
    let args = RetryArgs { retry, attempts, retry_every_ms: Some(200), attempt_timeout_ms: 30_000 };
    Retry::typed(&args).unwrap()
}

pub(crate) fn ended(mut child: Child) -> (ExitStatus, String, String) {
    let begun = Instant::now();
    let (said, error) = (read(child.stdout.take()), read(child.stderr.take()));
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > WITHIN {
            child.kill().unwrap();
            child.wait().unwrap();
            let (said, error) = (said.join().unwrap(), error.join().unwrap());
            panic!("it does not end within {WITHIN:?}; said {said}; error {error}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    (child.wait().unwrap(), said.join().unwrap(), error.join().unwrap())
}

/// Reads while the command works: a full pipe would hold it up.
fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        // A test may have taken or closed it.
        let Some(mut pipe) = pipe else { return text };
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}
