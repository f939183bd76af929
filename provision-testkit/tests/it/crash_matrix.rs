//! The crash matrix on the store in memory.

use provision_testkit::harness::{Harness, InMemory, TenSteps};

// covers: S1, S4, S7, S8, S9, S12, S13, S14, S15, L1, X1
#[tokio::test(start_paused = true)]
async fn ten_steps_survive_every_crash() {
    let report = Harness::new(TenSteps::default(), || async { InMemory::new() }).run().await;
    println!("crash matrix in memory: {report}");
    report.assert_flawless();
    assert!(report.scenarios >= 700, "only {} scenarios", report.scenarios);
}
