//! What this process has counted, in the text form of Prometheus.
//!
//! The engine counts by the `metrics` facade; this is the recorder behind it. It keeps numbers in
//! memory and sends nothing: whoever wants them asks for the text, or reads the file that it is
//! written to. Names of the engine's catalog get underscores and a suffix for what they are:
//! `run.ended` is `run_ended_total`, `operation.latency` is `operation_latency_seconds`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs, io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::trouble::Trouble;

/// Seconds up to which values are counted together: every histogram of the engine is of seconds.
const BOUNDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Name and labels, as the text has them.
type Series = (String, String);

/// Everything that was counted since this process began. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    // A plain mutex: held to find or to print a number, never across an `.await`.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    counters: BTreeMap<Series, Arc<AtomicU64>>,
    gauges: BTreeMap<Series, Arc<AtomicU64>>,
    histograms: BTreeMap<Series, Arc<Buckets>>,
}

/// Values of one histogram.
#[derive(Debug, Default)]
struct Buckets {
    /// How many are at most as long as each bound.
    within: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    /// A floating number, as its bits.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        // First of all: no bucket ever holds more than there are.
        self.count.fetch_add(1, Ordering::Relaxed);
        GaugeFn::increment(&self.sum, value);
        for (bound, within) in BOUNDS.iter().zip(&self.within) {
            if value <= *bound {
                within.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Exporter {
    /// Counts for the whole process from now on.
    ///
    /// # Errors
    /// Somebody else does already.
    pub fn install() -> Result<Self, Trouble> {
        let exporter = Self::default();
        metrics::set_global_recorder(exporter.clone()).map_err(|_| {
            let hint = "a process has one recorder: leave out the other one";
            Trouble::new("metrics_taken", "this process counts elsewhere already", hint)
        })?;
        Ok(exporter)
    }

    /// Everything, in the text form of Prometheus 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let kept = self.kept();
        let mut text = String::new();
        family(&mut text, "counter", &kept.counters, |text, (name, labels), value| {
            let value = value.load(Ordering::Relaxed);
            put(text, format_args!("{name}{} {value}\n", braced(labels)));
        });
        family(&mut text, "gauge", &kept.gauges, |text, (name, labels), value| {
            let value = f64::from_bits(value.load(Ordering::Relaxed));
            put(text, format_args!("{name}{} {value}\n", braced(labels)));
        });
        family(&mut text, "histogram", &kept.histograms, |text, (name, labels), buckets| {
            let beside = if labels.is_empty() { String::new() } else { format!("{labels},") };
            for (bound, within) in BOUNDS.iter().zip(&buckets.within) {
                let within = within.load(Ordering::Relaxed);
                put(text, format_args!("{name}_bucket{{{beside}le=\"{bound}\"}} {within}\n"));
            }
            let count = buckets.count.load(Ordering::Relaxed);
            let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
            put(text, format_args!("{name}_bucket{{{beside}le=\"+Inf\"}} {count}\n"));
            put(text, format_args!("{name}_sum{} {sum}\n", braced(labels)));
            put(text, format_args!("{name}_count{} {count}\n", braced(labels)));
        });
        text
    }

    /// Writes [`Self::text`] to a file, whole or not at all: a collector of text files may read it at
    /// any moment. Blocks while it is written.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_to(&self, file: &Path) -> Result<(), Trouble> {
        let mut draft = file.as_os_str().to_owned();
        draft.push(".draft");
        let written = fs::write(&draft, self.text()).and_then(|()| fs::rename(&draft, file));
        written.map_err(|error: io::Error| {
            let hint = "name a file in a folder that can be written";
            Trouble::new("metrics_unwritten", error.to_string(), hint)
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Exporter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut kept = self.kept();
        Counter::from_arc(Arc::clone(kept.counters.entry(series(key, "_total")).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut kept = self.kept();
        Gauge::from_arc(Arc::clone(kept.gauges.entry(series(key, "")).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut kept = self.kept();
        let of = kept.histograms.entry(series(key, "_seconds"));
        Histogram::from_arc(Arc::clone(of.or_default()))
    }
}

/// One name after the other, each with a line that says what it is.
fn family<T>(
    text: &mut String,
    kind: &str,
    all: &BTreeMap<Series, T>,
    show: impl Fn(&mut String, &Series, &T),
) {
    let mut before = None;
    for (series, value) in all {
        if before != Some(&series.0) {
            put(text, format_args!("# TYPE {} {kind}\n", series.0));
            before = Some(&series.0);
        }
        show(text, series, value);
    }
}

fn put(text: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(line);
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn series(key: &Key, suffix: &str) -> Series {
    let labels = key.labels().map(|label| {
        let value = label.value().replace('\\', "\\\\").replace('"', "\\\"");
        format!("{}=\"{}\"", name(label.key()), value.replace('\n', "\\n"))
    });
    (format!("{}{suffix}", name(key.name())), labels.collect::<Vec<_>>().join(","))
}

/// Letters, digits and underscores, as names have to be.
fn name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use provision_core::metric::{self, Label};

    use super::Exporter;

    // covers: R5-40
    #[test]
    fn what_is_counted_is_told_as_prometheus_reads_it() {
        let exporter = Exporter::default();
        metrics::with_local_recorder(&exporter, || {
            let of = [(Label::Saga, "publish-post"), (Label::Outcome, "a \"word\"\n\\")];
            metric::count(metric::RUNS_ENDED, 2, &of);
            metric::count(metric::RUNS_ENDED, 1, &of);
            metric::count(metric::RUNS_ENDED, 1, &[(Label::Saga, "check")]);
            metric::gauge(metric::QUEUE_JOBS_WAITING, 7, &[]);
            metric::observe(metric::STORE_LATENCY, 0.02, &[]);
            metric::observe(metric::STORE_LATENCY, 61.5, &[]);
            metric::observe(metric::QUEUE_LATENCY, 0.5, &[(Label::Queue, "default")]);
        });
        let text = exporter.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# TYPE run_ended_total counter");
        assert_eq!(lines[1], "run_ended_total{saga=\"check\"} 1");
        let escaped = r#"run_ended_total{saga="publish-post",outcome="a \"word\"\n\\"} 3"#;
        assert_eq!(lines[2], escaped);
        assert_eq!(lines[3..5], ["# TYPE queue_jobs_waiting gauge", "queue_jobs_waiting 7"]);
        for line in [
            "# TYPE store_latency_seconds histogram",
            "store_latency_seconds_bucket{le=\"0.01\"} 0",
            "store_latency_seconds_bucket{le=\"0.025\"} 1",
            "store_latency_seconds_bucket{le=\"60\"} 1",
            "store_latency_seconds_bucket{le=\"+Inf\"} 2",
            "store_latency_seconds_sum 61.52",
            "store_latency_seconds_count 2",
            "queue_latency_seconds_bucket{queue=\"default\",le=\"0.25\"} 0",
            "queue_latency_seconds_bucket{queue=\"default\",le=\"0.5\"} 1",
            "queue_latency_seconds_count{queue=\"default\"} 1",
        ] {
            assert!(lines.contains(&line), "{line}: {text}");
        }
        let kinds = lines.iter().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(kinds, 4, "each name is introduced once: {text}");
    }

    // covers: R5-72
    #[test]
    fn a_file_of_them_is_whole_and_replaced() {
        let exporter = Exporter::default();
        let file = std::env::temp_dir().join(format!("counted-{}.prom", std::process::id()));
        for runs in 1..=2 {
            metrics::with_local_recorder(&exporter, || metric::count(metric::RUNS_PRUNED, 1, &[]));
            exporter.write_to(&file).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text, format!("# TYPE run_pruned_total counter\nrun_pruned_total {runs}\n"));
        }
        std::fs::remove_file(&file).unwrap();
        let told = exporter.write_to(&file.join("no/folder")).unwrap_err();
        assert_eq!(told.code(), "metrics_unwritten");
    }
}
