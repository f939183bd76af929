//! Rounds of load leave nothing behind in the process.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use provision_store_sqlite::SqliteStore;
use provision_testkit::soak::{self, Subject};

use crate::{crash_matrix::directory, processes::child};

/// Set in children; its value is the path of the file.
const CHILD: &str = "PROVISION_SQLITE_TEST_SOAK";

struct InFile(PathBuf);

impl Subject for InFile {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.0).await.unwrap()
    }
}

// Only does something in a child, which has a process of its own: says what has grown.
#[tokio::test]
async fn child_is_soaked() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let grown = soak::soak(&mut InFile(Path::new(&path).to_owned())).await;
    println!("\ngrown: {grown:?}");
}

// covers: L8
#[test]
fn rounds_of_load_leave_no_memory_tasks_threads_or_files() {
    if !soak::is_told() {
        return;
    }
    let directory = directory();
    let mut process = child("soak::child_is_soaked", CHILD, &directory.path().join("runs.db"));
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(process.wait().unwrap().success(), "{said}");
    assert!(said.lines().any(|line| line == "grown: []"), "{said}");
}
