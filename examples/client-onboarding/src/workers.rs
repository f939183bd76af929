//! Starting runs in one process and driving them in others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{RunStatus, clock, store::RunFilter};
use serde::Serialize;

use crate::{
    exit::{Exit, Trouble},
    host::Host,
    onboard::{interrupted, stored},
    options::Options,
    progress::Screen,
    report::print_json,
};

/// How often a worker looks what is open.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const OPEN: [RunStatus; 3] = [RunStatus::Running, RunStatus::Waiting, RunStatus::Unwinding];
const PAGE: usize = 500;

/// A run that was started, or was there.
#[derive(Debug, Serialize)]
struct Submitted {
    client: String,
    run: String,
    status: &'static str,
}

/// How the runs of a store stand.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Standing {
    runs: BTreeMap<&'static str, u32>,
}

impl Standing {
    /// Counts the runs of these statuses; of all, without one.
    async fn read(host: &Host, status: &[RunStatus]) -> Result<Self, Trouble> {
        let mut filter = RunFilter { status: status.to_vec(), limit: PAGE, ..RunFilter::default() };
        let mut runs = BTreeMap::new();
        loop {
            let page = host.engine.runs(&filter).await?;
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

/// Starts the runs of all clients and leaves them to workers. A client whose run is there keeps it.
pub(crate) async fn submit(
    host: &Host,
    options: &Options,
    screen: &Screen,
) -> Result<Exit, Trouble> {
    let mut runs = Vec::new();
    for wanted in &options.clients {
        let (run, status) = match stored(host, wanted).await? {
            Some((head, _)) => (head.id, head.status),
            None => (*host.start(&wanted.fresh()?).await?.id(), RunStatus::Running),
        };
        screen.line(format!("{:<14} run {run}", wanted.id));
        let status = status.as_str();
        runs.push(Submitted { client: wanted.id.clone(), run: run.to_string(), status });
    }
    if options.json {
        print_json(&serde_json::json!({ "runs": runs }))?;
    }
    Ok(Exit::Done)
}

/// Drives whatever runs are in the store, until it is told to stop or nothing is open. A store that
/// is away is waited for, however long it takes.
pub(crate) async fn work(
    host: &Arc<Host>,
    screen: &Screen,
    until_idle: bool,
    json: bool,
) -> Result<Exit, Trouble> {
    let worker = host.worker();
    let (stopped, mut stop) = interrupted();
    screen.line("working; Ctrl-C or SIGTERM hands the runs over to others");
    let ended = tokio::select! {
        ended = idle(host, screen, until_idle) => ended,
        // An error means that nobody listens for interrupts any more.
        () = async { drop(stop.wait_for(|stopped| *stopped).await) } => Ok(()),
    };
    worker.stop().await;
    drop(stopped);
    ended?;
    let standing = Standing::read(host, &[]).await?;
    screen.line(standing.line());
    if json {
        print_json(&standing)?;
    }
    Ok(Exit::Done)
}

/// Says what is open whenever that has changed; ends when nothing is, if that was asked.
async fn idle(host: &Host, screen: &Screen, until_idle: bool) -> Result<(), Trouble> {
    let mut said = String::new();
    loop {
        let (line, is_idle) = match Standing::read(host, &OPEN).await {
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
