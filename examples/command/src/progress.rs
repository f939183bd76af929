//! Live progress: one line per event, and a bar where there is a terminal.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use provision_core::{
    Timestamp,
    clock::{Clock, SystemClock},
    engine::{Progress, Snapshot, What},
    run::journal::Direction,
};

use crate::{Wording, exit::Trouble};

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

    /// Prints one line on stdout, also where that is for a program: something that is shown once, so
    /// it counts whether the line has gone out.
    ///
    /// # Errors
    /// Code `not_shown`: nobody reads stdout, or it is full. A part of the line may have gone out.
    pub fn deliver(&self, text: impl AsRef<str>) -> Result<(), Trouble> {
        let print = || {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush())
        };
        let printed = match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
        printed.map_err(|error| {
            let message = format!("something that is shown once could not be printed: {error}");
            let hint = "type the command again where its output can be read";
            Trouble::unavailable("not_shown", message, hint)
        })
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
    stages: Option<Stages>,
}

/// The phases of a saga as stages, one after the other.
#[derive(Debug)]
struct Stages {
    /// Each phase, and its steps that are not done.
    open: Vec<(String, BTreeSet<String>)>,
    /// How many are complete.
    complete: usize,
}

impl Stages {
    fn of(snapshot: &Snapshot) -> Self {
        let mut open: Vec<(String, BTreeSet<String>)> = Vec::new();
        for step in &snapshot.steps {
            let Some(phase) = &step.phase else { continue };
            match open.iter_mut().find(|(name, _)| name == phase) {
                Some((_, steps)) => {
                    steps.insert(step.path.clone());
                }
                None => open.push((phase.clone(), [step.path.clone()].into())),
            }
        }
        Self { open, complete: 0 }
    }

    /// The stages that are complete with this event and were not before, as they are told.
    fn pass(&mut self, event: &Progress) -> Vec<String> {
        let done = matches!(event.what, What::Done { dir: Direction::Forward } | What::Skipped);
        for (_, steps) in self.open.iter_mut().filter(|_| done) {
            steps.remove(&event.path);
        }
        let total = self.open.len();
        let mut told = Vec::new();
        while let Some((name, _)) = self.open.get(self.complete).filter(|(_, s)| s.is_empty()) {
            self.complete += 1;
            told.push(format!("stage {} of {total} is complete: {name}", self.complete));
        }
        told
    }
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
            stages: None,
        }
    }

    /// Says when a stage is complete: a phase of the saga, counted from the first. By default not.
    #[must_use]
    pub fn with_stages(mut self, snapshot: &Snapshot) -> Self {
        self.stages = Some(Stages::of(snapshot));
        self
    }

    /// Takes note of an event that was shown before, by an earlier command.
    pub fn pass(&mut self, event: &Progress) {
        if let Some(stages) = &mut self.stages {
            stages.pass(event);
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
        self.show_event(event);
        for told in self.stages.iter_mut().flat_map(|stages| stages.pass(event)) {
            self.screen.line(format!("{}{told}", self.label));
        }
    }

    fn show_event(&mut self, event: &Progress) {
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
