//! Live progress: one line per event, and a bar where there is a terminal.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use provision_core::{
    Timestamp,
    clock::{Clock, SystemClock},
    engine::{Progress, Snapshot, What},
};

use crate::Wording;

/// Where people read what happens: stdout, or stderr when stdout is for a program.
#[derive(Debug, Clone)]
pub struct Screen {
    bar: Option<ProgressBar>,
    to_stderr: bool,
}

impl Screen {
    /// A screen; with `json` it leaves stdout alone. The bar is for one run at a time.
    #[must_use]
    pub fn new(json: bool, fleet: bool) -> Self {
        let (terminal, target) = match json {
            true => (io::stderr().is_terminal(), ProgressDrawTarget::stderr()),
            false => (io::stdout().is_terminal(), ProgressDrawTarget::stdout()),
        };
        let bar = (terminal && !fleet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), target);
            let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, to_stderr: json }
    }

    /// Prints one line.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        // A reader that has gone away is no reason to stop provisioning.
        let print = || match self.to_stderr {
            true => drop(writeln!(io::stderr(), "{text}")),
            false => drop(writeln!(io::stdout(), "{text}")),
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows one run.
#[derive(Debug)]
pub struct RunView {
    screen: Screen,
    label: String,
    phases: BTreeMap<String, String>,
    ends: Option<Timestamp>,
    /// What was last said of an attempt or an id of each step: a look that found nothing new, and
    /// an id noted twice, are not news.
    said: BTreeMap<String, String>,
    wording: Wording,
}

impl RunView {
    /// Begins to show a run; `label` tells the runs of a fleet apart.
    #[must_use]
    pub fn new(screen: &Screen, label: &str, snapshot: &Snapshot) -> Self {
        let phase = |step: &provision_core::engine::StepView| {
            Some((step.path.clone(), step.phase.clone()?))
        };
        let phases = snapshot.steps.iter().filter_map(phase).collect();
        let ends = snapshot.eta.map(|eta| SystemClock.wall().plus(eta));
        if let Some(eta) = snapshot.eta {
            screen.line(format!("{label}about {} to go, as earlier runs took", seconds(eta)));
        }
        if let Some(bar) = &screen.bar {
            bar.set_length(u64::try_from(snapshot.steps.len()).unwrap_or_default());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self {
            screen: screen.clone(),
            label: label.to_owned(),
            phases,
            ends,
            said: BTreeMap::new(),
            wording: Wording::default(),
        }
    }

    /// Words of the program. By default those of [`Wording::default`].
    #[must_use]
    pub fn with_wording(mut self, wording: Wording) -> Self {
        self.wording = wording;
        self
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Progress) {
        let now = SystemClock.wall();
        if let Some(bar) = &self.screen.bar {
            bar.set_position(u64::from(event.summary.done));
            let waiting = event.summary.waiting.as_deref().unwrap_or("working");
            let left = self.ends.map(|ends| format!(", about {} to go", seconds(ends.since(now))));
            bar.set_message(format!("{waiting}{}", left.unwrap_or_default()));
        }
        let phase = self.phases.get(&event.path).map_or("", String::as_str);
        let path = if event.path.is_empty() { "run" } else { &event.path };
        let what = match &event.what {
            What::Skipped => self.wording.skipped.to_owned(),
            what => what.text(event.at),
        };
        let topic = match &event.what {
            What::Started { .. } => Some("attempt"),
            What::Noted { .. } => Some("id"),
            _ => None,
        };
        if let Some(topic) = topic {
            let before = self.said.insert(format!("{path} {topic}"), what.clone());
            if before.as_ref() == Some(&what) {
                return;
            }
        }
        self.screen.line(format!("{}{phase:<11} {path:<15} {what}", self.label));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
