//! Rounds of load leave nothing behind in the process, and no connection in use.

use std::{fs, io::Read as _, path::Path};

use provision_store_postgres::PostgresStore;
use provision_testkit::soak::{self, Subject};

use crate::{given::Schema, kill::child};

/// Set in children; its value is the folder in which the schema is named.
const CHILD: &str = "PROVISION_POSTGRES_TEST_SOAK";

struct OnServer(Schema);

impl Subject for OnServer {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        self.0.open().await
    }

    fn connections(&self, store: &PostgresStore) -> u64 {
        let idle = u64::try_from(store.pool().num_idle()).unwrap();
        u64::from(store.pool().size()).saturating_sub(idle)
    }
}

// Only does something in a child, which has a process of its own: says what has grown.
#[tokio::test]
async fn child_is_soaked() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let name = fs::read_to_string(Path::new(&folder).join("schema")).unwrap();
    let grown = soak::soak(&mut OnServer(Schema::of_parent(name).unwrap())).await;
    println!("\ngrown: {grown:?}");
}

// covers: L8
#[test]
fn rounds_of_load_leave_no_memory_tasks_threads_files_or_connections() {
    let Some(schema) = Schema::new() else { return };
    if !soak::is_told() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("schema"), &schema.name).unwrap();
    let mut process = child("soak::child_is_soaked", CHILD, folder.path());
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(process.wait().unwrap().success(), "{said}");
    assert!(said.lines().any(|line| line == "grown: []"), "{said}");
}
