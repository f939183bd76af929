//! Rounds of load leave nothing behind in the process; what leaks on purpose is found.

use std::process::Command;

use provision_core::{MemoryStore, RunHandle};
use provision_testkit::soak::{self, Subject};
use tokio::task::JoinSet;

/// Set in children; its value says what leaks.
const CHILD: &str = "PROVISION_TEST_SOAK";

/// A host that keeps something of each run.
struct Careless {
    keeps: String,
    pages: Vec<Vec<u8>>,
    tasks: JoinSet<()>,
    files: Vec<std::fs::File>,
    runs: usize,
}

impl Subject for Careless {
    type Store = MemoryStore;

    async fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }

    fn beside(&mut self, run: &RunHandle<String>) {
        self.runs += 1;
        if self.keeps.contains("memory") {
            self.pages.push(run.id().to_string().into_bytes().repeat(4_096 / 36 + 1));
        }
        if self.keeps.contains("tasks") {
            self.tasks.spawn(std::future::pending());
        }
        // Not of all of them: systems allow a thousand.
        if self.keeps.contains("files") && self.runs.is_multiple_of(8) {
            self.files.push(std::fs::File::open("/dev/null").unwrap());
        }
    }
}

// Only does something in a child, which has a process of its own: says what has grown.
#[tokio::test]
async fn child_is_soaked() {
    let Ok(keeps) = std::env::var(CHILD) else { return };
    let (pages, tasks, files) = (Vec::new(), JoinSet::new(), Vec::new());
    let mut careless = Careless { keeps, pages, tasks, files, runs: 0 };
    let grown = soak::soak(&mut careless).await;
    println!("\ngrown: {grown:?}");
}

/// What grows in a process whose host keeps this of each run.
fn grown(keeps: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["soak::child_is_soaked", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, keeps)
        // One heap: what one thread frees, the others use.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let grown = said.lines().find_map(|line| line.strip_prefix("grown: ")).unwrap().to_owned();
    println!("{keeps}: {grown}");
    grown
}

// covers: L8
#[test]
fn rounds_of_load_leave_no_memory_tasks_threads_or_files() {
    if soak::is_told() {
        assert_eq!(grown("nothing"), "[]");
    }
}

#[test]
fn memory_that_is_kept_of_each_run_is_found() {
    if soak::is_told() {
        let grown = grown("memory");
        assert!(grown.starts_with("[\"memory from ") && !grown.contains(','), "{grown}");
    }
}

#[test]
fn tasks_and_files_that_are_kept_of_runs_are_found() {
    if soak::is_told() {
        let grown = grown("tasks, files");
        for what in ["tasks", "files"] {
            let (more, left) = (format!("\"{what} from "), format!("closed: {what} from "));
            assert!(grown.contains(&more) && grown.contains(&left), "{grown}");
        }
    }
}
