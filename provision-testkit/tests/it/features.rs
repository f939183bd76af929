//! The small sagas on the store in memory.

use provision_testkit::{features::Trial, features_suite, harness::InMemory};

features_suite!(
    #[tokio::test(start_paused = true)]
    in_memory,
    Trial::new(|| async { InMemory::new() })
);
