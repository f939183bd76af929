//! A data folder and the program that works in it.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use client_onboarding::host_row::Clients;
use provision_core::{
    RunStatus,
    run::journal::Record,
    store::{RunFilter, StateStore},
};
use provision_store_sqlite::SqliteStore;
use serde_json::Value;
use tempfile::TempDir;

/// Fast, and still with times that can be interrupted.
const SPEED: &str = "0.004";

/// A data folder of its own.
pub(crate) struct Place {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON object on the last line of stdout.
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status of every step, in the order of the saga.
    pub(crate) fn steps(&self) -> Vec<(String, String)> {
        let steps = self.json()["steps"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        steps.iter().map(|step| (text(&step["path"]), text(&step["status"]))).collect()
    }

    /// Asserts a refusal: its exit code, one line with this code, one line with a hint.
    pub(crate) fn refused(&self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let mut lines = self.stderr.lines().rev();
        let (hint, error) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(hint.starts_with("hint: ") && hint.len() > 8, "{self:?}");
        assert!(error.starts_with(&format!("error[{word}]: ")), "{self:?}");
    }
}

/// A store's files as they once were.
pub(crate) struct Aside(TempDir);

impl Aside {
    /// The store becomes what it was.
    pub(crate) fn put_back(&self, place: &Place) {
        for file in STORE_FILES {
            drop(std::fs::remove_file(place.path().join(file)));
        }
        copy_store(self.0.path(), place.path());
    }
}

/// The file and what SQLite keeps beside it.
const STORE_FILES: [&str; 3] = ["provision.db", "provision.db-wal", "provision.db-shm"];

fn copy_store(from: &Path, to: &Path) {
    for file in STORE_FILES.iter().filter(|file| from.join(file).exists()) {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client-onboarding"));
        command.args(arguments).arg("--data-dir").arg(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.spawn(arguments).wait_with_output().unwrap().into()
    }

    /// Types a command as it is, without asking for JSON.
    pub(crate) fn typed(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    /// Begins a command.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let fixed = ["--json", "--speed", SPEED];
        self.command(&[&fixed, arguments].concat()).spawn().unwrap()
    }

    /// Runs a command whose every word is lost, as when a pipe is closed; answers its exit code.
    pub(crate) fn run_unheard(&self, arguments: &[&str]) -> Option<i32> {
        let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = self.command(arguments);
        command.args(["--speed", SPEED]).stdout(full()).stderr(full());
        command.status().unwrap().code()
    }

    /// Runs a command that may write at most so many KiB to any file, as on a full disk.
    pub(crate) fn run_within(&self, kib: u32, arguments: &[&str]) -> Ran {
        let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2);
        let fixed = ["--json", "--speed", SPEED, "--data-dir"];
        let mut command = Command::new("sh");
        command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_client-onboarding")]);
        command.args(fixed).arg(self.dir.path()).args(arguments);
        command.stdin(Stdio::null()).output().unwrap().into()
    }

    /// Journal frames of all runs.
    pub(crate) async fn frames(&self) -> i64 {
        let store = SqliteStore::open(self.dir.path().join("provision.db")).await.unwrap();
        let count = "select count(*) from provision_frames";
        store.query_host(|conn| conn.query_row(count, (), |row| row.get(0))).await.unwrap()
    }

    /// The journal of the only run.
    pub(crate) async fn journal(&self) -> Vec<Record> {
        let store = SqliteStore::open(self.dir.path().join("provision.db")).await.unwrap();
        let runs = store.list(&RunFilter::default()).await.unwrap().runs;
        assert_eq!(runs.len(), 1);
        let stored = store.load(&[runs[0].id]).await.unwrap().pop().flatten().unwrap();
        let records = stored.frames.iter().map(|frame| Record::decode(&frame.body).unwrap());
        records.flatten().collect()
    }

    /// Changes the store's file behind everybody's back.
    pub(crate) async fn tamper(&self, statement: &'static str) {
        let store = SqliteStore::open(self.dir.path().join("provision.db")).await.unwrap();
        store.execute_host(|tx| tx.execute_batch(statement)).await.unwrap();
    }

    /// A copy of the store's files.
    pub(crate) fn store_set_aside(&self) -> Aside {
        let aside = tempfile::tempdir().unwrap();
        copy_store(self.dir.path(), aside.path());
        Aside(aside)
    }

    /// Asserts that what reports call alive is what there is, each of it once.
    pub(crate) fn is_as_told(&self, runs: &[Value]) {
        let of = |items: &[Value]| {
            let key = |item: &Value| ["provider", "kind", "id"].map(|key| item[key].to_string());
            let mut keys: Vec<_> = items.iter().map(key).collect();
            keys.sort();
            keys
        };
        let resources = runs.iter().flat_map(|run| run["resources"].as_array().unwrap().clone());
        let outside = resources.filter(|row| row["provider"] != "internal");
        let told: Vec<_> = outside.filter(|row| row["state"] != "gone").collect();
        assert_eq!(of(&self.inventory()), of(&told));
    }

    /// What the simulated cloud holds.
    pub(crate) fn inventory(&self) -> Vec<Value> {
        let output = self.command(&["inventory", "--json"]).output().unwrap();
        let ran = Ran::from(output);
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
        ran.json().as_array().unwrap().clone()
    }

    /// Whether the run of the client `demo` has succeeded, and whether the host has its row.
    pub(crate) async fn ended_and_written(&self) -> (bool, bool) {
        let store = SqliteStore::open(self.dir.path().join("provision.db")).await.unwrap();
        let clients = Clients::in_sqlite(&store).await.unwrap();
        let runs = store.list(&RunFilter::default()).await.unwrap().runs;
        let Some(head) = runs.first() else { return (false, false) };
        let row = clients.of_run(head.id).await.unwrap();
        (head.status == RunStatus::Succeeded, row.is_some_and(|row| row.is_alive()))
    }

    /// The same without what differs from run to run: ids, marks and labels. Doubles show.
    pub(crate) fn things(&self) -> Vec<String> {
        let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
        let thing = |item: &Value| {
            let name = text(item, "name");
            let name = name.split(" [prov").next().unwrap();
            format!("{} {} {name}", text(item, "provider"), text(item, "kind"))
        };
        let mut things: Vec<_> = self.inventory().iter().map(thing).collect();
        things.sort();
        things
    }
}
