//! Drives whatever runs are in a store, started by this process or by others.

use std::{collections::BTreeMap, time::Duration};

use provision_core::{Engine, RunStatus, Worker, clock, store::RunFilter};
use serde::Serialize;

use crate::{
    exit::{Exit, Trouble},
    progress::Screen,
    report::print_json,
    signals::interrupted,
};

/// How often a worker looks what is open.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const OPEN: [RunStatus; 3] = [RunStatus::Running, RunStatus::Waiting, RunStatus::Unwinding];
const PAGE: usize = 500;

/// How the runs of a store stand.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Standing {
    runs: BTreeMap<&'static str, u32>,
}

impl Standing {
    /// Counts the runs of these statuses; of all, without one.
    async fn read(engine: &Engine, status: &[RunStatus]) -> Result<Self, Trouble> {
        let mut filter = RunFilter { status: status.to_vec(), limit: PAGE, ..RunFilter::default() };
        let mut runs = BTreeMap::new();
        loop {
            let page = engine.runs(&filter).await?;
            for head in &page.runs {
                *runs.entry(head.status.as_str()).or_default() += 1;
            }
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(Self { runs }),
            }
        }
    }

    fn line(&self) -> String {
        let counts = self.runs.iter().map(|(status, count)| format!("{count} {status}"));
        let counts: Vec<_> = counts.collect();
        if counts.is_empty() { "nothing is open".to_owned() } else { counts.join(", ") }
    }
}

/// Drives whatever runs are in the store, until it is told to stop or nothing is open. A store that
/// is away is waited for, however long it takes. Then stops the worker.
///
/// # Errors
/// The store cannot be read for another reason than that it is away.
pub async fn work(
    engine: &Engine,
    worker: Worker,
    screen: &Screen,
    until_idle: bool,
    json: bool,
) -> Result<Exit, Trouble> {
    let (stopped, mut stop) = interrupted();
    screen.line("working; Ctrl-C or SIGTERM hands the runs over to others");
    let ended = tokio::select! {
        ended = idle(engine, screen, until_idle) => ended,
        // An error means that nobody listens for interrupts any more.
        () = async { drop(stop.wait_for(|stopped| *stopped).await) } => Ok(()),
    };
    worker.stop().await;
    drop(stopped);
    ended?;
    let standing = Standing::read(engine, &[]).await?;
    screen.line(standing.line());
    if json {
        print_json(&standing)?;
    }
    Ok(Exit::Done)
}

/// Says what is open whenever that has changed; ends when nothing is, if that was asked.
async fn idle(engine: &Engine, screen: &Screen, until_idle: bool) -> Result<(), Trouble> {
    let mut said = String::new();
    loop {
        let (line, is_idle) = match Standing::read(engine, &OPEN).await {
            Ok(open) => (open.line(), open == Standing::default()),
            Err(trouble) if trouble.exit() == Exit::Unavailable => {
                (trouble.message().to_owned(), false)
            }
            Err(trouble) => return Err(trouble),
        };
        if line != said {
            screen.line(&line);
            said = line;
        }
        if until_idle && is_idle {
            return Ok(());
        }
        clock::sleep(LOOK_EVERY).await;
    }
}
