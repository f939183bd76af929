//! Clocks, counters, the table, and the goals.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use provision_core::{
    engine::Backend,
    run::journal::Record,
    store::{RunFilter, StateStore},
};
use stats_alloc::Region;

/// Lines about goals, printed at the end.
static GOALS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What a figure has to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// Judges what came out; all goals are printed below the table.
    pub(crate) fn judge(self, what: &str, here: f64) {
        let (met, wanted) = match self {
            Self::AtLeast(floor) => (here >= floor, format!("at least {floor}")),
            Self::AtMost(most) => (here <= most, format!("at most {most}")),
        };
        let met = if met { "met" } else { "**not met**" };
        let places = if here < 1.0 { 3 } else { 2 };
        let line = format!("| {what} | {wanted} | {here:.places$} | {met} |");
        GOALS.lock().expect("nobody panics with it").push(line);
    }
}

/// All goals of the workloads that were measured.
pub(crate) fn goals() {
    let lines = GOALS.lock().expect("nobody panics with it");
    if !lines.is_empty() {
        println!("\n| goal | wanted | here | |\n|---|---|---|---|\n{}", lines.join("\n"));
    }
}

/// Compares the journals of all runs with the actions that were done: a store that is fast because
/// it leaves something out is no store.
pub(crate) async fn check_journals(store: &impl Backend, actions: usize) {
    let mut filter = RunFilter { limit: 500, ..RunFilter::default() };
    let mut succeeded = 0;
    loop {
        let page = StateStore::list(store, &filter).await.expect("a listing");
        let runs: Vec<_> = page.runs.iter().map(|head| head.id).collect();
        for run in store.load(&runs).await.expect("journals") {
            for frame in run.expect("a run that was listed").frames {
                let records = Record::decode(&frame.body).expect("a frame");
                let done = records.iter().filter(|r| matches!(r, Record::Succeeded { .. }));
                succeeded += done.count();
            }
        }
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(succeeded, actions, "actions in the journals");
}

/// One measured workload.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) in_flight: usize,
    pub(crate) steps: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) allocations: u64,
    pub(crate) latencies: Vec<Duration>,
}

/// A measurement under way.
pub(crate) struct Watch {
    began: Instant,
    cpu: Duration,
    region: Region<'static, std::alloc::System>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu(), region: Region::new(crate::ALLOCATOR) }
    }

    pub(crate) fn stop(
        self,
        name: &str,
        in_flight: usize,
        steps: u64,
        latencies: Vec<Duration>,
    ) -> Measured {
        Measured {
            name: name.to_owned(),
            in_flight,
            steps,
            elapsed: self.began.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
            allocations: self.region.change().allocations as u64,
            latencies,
        }
    }
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.steps as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&mut self, p: f64) -> Duration {
        self.latencies.sort_unstable();
        let at = (self.latencies.len() as f64 * p) as usize;
        self.latencies
            .get(at.min(self.latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Processor time for each step, in microseconds.
    pub(crate) fn cpu_per_step(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.steps as f64
    }

    /// The time of one run, half of all are quicker, in milliseconds.
    pub(crate) fn median(&mut self) -> f64 {
        self.percentile(0.5).as_secs_f64() * 1e3
    }

    pub(crate) fn print(&mut self) -> f64 {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        let rate = self.per_second();
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} |",
            self.name,
            self.in_flight,
            rate,
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            self.cpu_per_step(),
            self.allocations as f64 / self.steps as f64,
        );
        rate
    }
}

pub(crate) fn heading() {
    println!(
        "| workload | in flight | steps/s | p50 ms/run | p99 ms/run | CPU us/step | allocations/step |"
    );
    println!("|---|---|---|---|---|---|---|");
}

/// User and system time of this process, in clock ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// What the numbers were taken on.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|l| l.split(':').nth(1)))
        .unwrap_or("unknown CPU")
        .trim()
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores")
}
