//! Clocks, counters and the table.

use std::time::{Duration, Instant};

use stats_alloc::Region;

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

    pub(crate) fn print(mut self) -> f64 {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        let rate = self.per_second();
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} |",
            self.name,
            self.in_flight,
            rate,
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3,
            self.cpu.as_secs_f64() * 1e6 / self.steps as f64,
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
