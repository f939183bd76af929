//! Starting runs in one process and driving them in others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use provision_core::{RunStatus, clock, store::RunFilter};
use serde::Serialize;

use crate::{
    exit::{Exit, Trouble},
    host::Host,
    onboard::{LAST_WORDS, interrupted, stored, unwritable},
    options::Options,
    progress::Screen,
    report::print_json,
};

/// How often a worker that ends when nothing is open looks whether anything is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it says how far the runs are.
const SAY_EVERY: u32 = 10;
const OPEN: [RunStatus; 3] = [RunStatus::Running, RunStatus::Waiting, RunStatus::Unwinding];
const PAGE: usize = 500;

/// A run that was started, or was there.
#[derive(Debug, Serialize)]
struct Submitted {
    client: String,
    run: String,
    status: &'static str,
}

/// How the runs of a store stand when a worker ends.
#[derive(Debug, Serialize)]
struct Standing {
    runs: BTreeMap<&'static str, u32>,
}

impl Standing {
    async fn read(host: &Host) -> Result<Self, Trouble> {
        let mut filter = RunFilter { limit: PAGE, ..RunFilter::default() };
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
        if counts.is_empty() { "no runs".to_owned() } else { counts.join(", ") }
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

/// Drives whatever runs are in the store, until it is told to stop or nothing is open.
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
        trouble = unwritable(&host.clients) => {
            let _ = clock::within(LAST_WORDS, worker.stop()).await;
            return Err(trouble);
        }
    };
    worker.stop().await;
    drop(stopped);
    ended?;
    let standing = Standing::read(host).await?;
    screen.line(standing.line());
    if json {
        print_json(&standing)?;
    }
    Ok(Exit::Done)
}

/// Says how far the runs are whenever that has changed; ends when none is open, if that was asked.
async fn idle(host: &Host, screen: &Screen, until_idle: bool) -> Result<(), Trouble> {
    let open = RunFilter { status: OPEN.to_vec(), limit: 1, ..RunFilter::default() };
    let mut said = String::new();
    for look in 0_u32.. {
        if look.is_multiple_of(SAY_EVERY) {
            let line = Standing::read(host).await?.line();
            if line != said {
                screen.line(&line);
                said = line;
            }
        }
        if until_idle && host.engine.runs(&open).await?.runs.is_empty() {
            break;
        }
        clock::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
