//! Many seeds, on as many threads as are given.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Plant, Report, Simulation};

/// What a search over seeds found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Search {
    /// Seeds that were run.
    pub tried: u64,
    /// The lowest seed that failed among those run, with all it found.
    pub failed: Option<Report>,
    /// Runs by the way in which they ended.
    pub ends: BTreeMap<String, u64>,
    /// Mutating calls that reached a provider.
    pub calls: u64,
    /// Time that its threads were on a processor, all together: what it would have taken one thread
    /// on a machine without other work. Zero where the system does not say it.
    pub busy: Duration,
}

/// Time that this thread was on a processor.
fn busy() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Runs seeds from `first` on until one fails, `count` are done, or the time is over.
///
/// Uses `threads` threads of this process; time is real.
#[must_use]
pub fn search(
    seeds: std::ops::Range<u64>,
    plant: Option<Plant>,
    threads: usize,
    limit: Duration,
) -> Search {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let found = Mutex::new(Search::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && began.elapsed() < limit {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let simulation = Simulation::new(seed);
                    let report = match plant {
                        Some(plant) => simulation.with_plant(plant).run(),
                        None => simulation.run(),
                    };
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.take(report);
                    stop.fetch_or(found.failed.is_some(), Ordering::Relaxed);
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.busy += busy();
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Search {
    fn take(&mut self, report: Report) {
        self.tried += 1;
        self.calls += report.calls;
        for end in &report.ends {
            *self.ends.entry(end.clone()).or_default() += 1;
        }
        let lower = self.failed.as_ref().is_none_or(|failed| report.seed < failed.seed);
        if !report.violations.is_empty() && lower {
            self.failed = Some(report);
        }
    }
}
