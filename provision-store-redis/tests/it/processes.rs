//! This test binary, started again as another process.

use std::process::{Child, Command, Stdio};

/// Runs one test with a variable set.
pub(crate) fn child(test: &str, variable: &str, value: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}
