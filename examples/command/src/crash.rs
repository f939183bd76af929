//! Kills this process at a chosen step: after its last effect, before its outcome is recorded.

use async_trait::async_trait;
use provision_core::{
    RunId, clock,
    probe::Probe,
    run::journal::{Direction, Record},
};

/// Waits for one step and then ends the process, as a power cut would.
#[derive(Debug)]
pub struct CrashAt {
    path: String,
    pure: &'static [&'static str],
}

impl CrashAt {
    /// Watches for the step at `path`. `pure` are the steps that change nothing outside of the run:
    /// at one of these it dies as soon as the step has begun.
    #[must_use]
    pub fn new(path: impl Into<String>, pure: &'static [&'static str]) -> Self {
        Self { path: path.into(), pure }
    }

    fn is_pure(&self) -> bool {
        self.pure.contains(&self.path.as_str())
    }
}

#[async_trait]
impl Probe for CrashAt {
    async fn appending(&self, _: &RunId, records: &[Record]) {
        let done = |record: &Record| {
            matches!(record, Record::Succeeded { path, dir: Direction::Forward, .. }
                if **path == *self.path)
        };
        if !self.is_pure() && records.iter().any(done) {
            die().await;
        }
    }

    async fn appended(&self, _: &RunId, records: &[Record]) {
        let begun = |record: &Record| {
            matches!(record, Record::Started { path, dir: Direction::Forward, .. }
                if **path == *self.path)
        };
        // Without an effect there is nothing between "started" and "succeeded" but this.
        if self.is_pure() && records.iter().any(begun) {
            die().await;
        }
    }
}

/// Ends this process without a last word to anybody. Never returns.
async fn die() -> ! {
    #[cfg(unix)]
    {
        let order = format!("kill -9 {}", std::process::id());
        // Nothing of ours may run once this is decided, so the thread waits for its end here.
        let _ = std::process::Command::new("/bin/sh").arg("-c").arg(order).status();
        clock::sleep(std::time::Duration::from_secs(5)).await;
    }
    std::process::abort()
}
