//! What a command does, from opening to the last line.

use std::{path::Path, sync::Arc, time::Duration};

use provision_core::{
    By, RunId, RunStatus, clock,
    clock::{Clock, SystemClock},
    store::RunHead,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    cloud::{self, Cloud},
    exit::{Exit, Trouble},
    host::{Host, client_of},
    host_row::Clients,
    input::Client,
    options::{Command, Mode, Options, Wanted},
    plan,
    progress::{RunView, Screen},
    report::{FleetReport, RunReport, print_json},
    workers,
};

/// Runs of a fleet that are under way at the same time.
const FLEET_OPEN_MAX: usize = 4;
/// How often a command looks whether its store can be written; the engine itself never gives up.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Beats that have to fail one after the other before the command gives up waiting.
const BEATS_MISSED: u32 = 4;
/// How long open calls may take to come back when their answers can be written nowhere.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long an order may take to be taken up by the worker.
const ORDER_WITHIN: Duration = Duration::from_secs(30);

/// Carries a command out.
///
/// # Errors
/// It could not be begun, or something it needs is out of reach.
pub async fn carry_out(command: Command) -> Result<Exit, Trouble> {
    match command {
        Command::Inventory { data_dir, json } => {
            let inventory = cloud::stored_inventory(&data_dir)?;
            if json {
                print_json(&inventory)?;
            } else {
                Screen::new(false, true).line(inventory.to_string().trim_end());
            }
            Ok(Exit::Done)
        }
        Command::Cloud { data_dir, speed, json } => serve(&data_dir, speed, json).await,
        Command::Run(options) => runs(&options).await,
    }
}

/// Serves the simulated cloud until it is told to stop.
async fn serve(data_dir: &Path, speed: f64, json: bool) -> Result<Exit, Trouble> {
    let cloud = Cloud::start(data_dir, speed).await?;
    let (_stopped, mut stop) = interrupted();
    let addresses = cloud.announce(data_dir)?;
    let screen = Screen::new(json, true);
    screen.line(format!("data: {}", data_dir.display()));
    if json {
        print_json(&addresses)?;
    } else {
        screen.line(format!("supabase  {}", addresses.supabase));
        screen.line(format!("github    {}", addresses.github));
        screen.line(format!("vercel    {}", addresses.vercel));
        screen.line(format!("n8n       {}", addresses.n8n));
        screen.line("Ctrl-C or SIGTERM ends it; what is in it stays");
    }
    // An error means that nobody listens for interrupts any more.
    let _ = stop.wait_for(|stopped| *stopped).await;
    Ok(Exit::Done)
}

async fn runs(options: &Options) -> Result<Exit, Trouble> {
    let began = SystemClock.wall();
    let screen = Screen::new(options.json, options.fleet || options.mode == Mode::Plan);
    screen.line(format!("data: {}", options.data_dir.display()));
    let host = Arc::new(Host::open(options).await?);
    host.check_cloud(options.live).await?;
    if options.mode == Mode::Plan {
        let Some(wanted) = options.clients.first() else { return Ok(Exit::Done) };
        return plan::show(&host, wanted, &screen, options.json).await;
    }
    if let Mode::Work { until_idle } = options.mode {
        return workers::work(&host, &screen, until_idle, options.json).await;
    }
    // Nothing is started for any client before the options of all are known to agree.
    for wanted in &options.clients {
        stored(&host, wanted).await?;
    }
    if options.mode == Mode::Submit {
        return workers::submit(&host, options, &screen).await;
    }
    let worker = host.worker();
    let (stopped, mut stop) = interrupted();
    let ended = tokio::select! {
        ended = fleet(&host, options, &screen, &stop) => ended,
        trouble = unwritable(&host.clients) => {
            screen.clear();
            let _ = clock::within(LAST_WORDS, worker.stop()).await;
            return Err(trouble);
        }
    };
    screen.clear();
    if *stop.borrow_and_update() {
        screen.line("interrupted: open calls are awaited, and what is done stays recorded");
    }
    worker.stop().await;
    drop(stopped);
    let mut reports = Vec::new();
    for run in ended? {
        let elapsed = SystemClock.wall().since(began);
        reports.push(RunReport::read(&host.engine, &host.clients, run, elapsed).await?);
    }
    told(options, &screen, reports, SystemClock.wall().since(began))
}

/// Shows what came of the runs; the exit code of the worst.
fn told(
    options: &Options,
    screen: &Screen,
    mut reports: Vec<RunReport>,
    elapsed: Duration,
) -> Result<Exit, Trouble> {
    reports.iter().for_each(|report| report.show(screen));
    let begun = if reports.len() < options.clients.len() { Exit::Cancelled } else { Exit::Done };
    let exit = reports.iter().map(RunReport::exit).fold(begun, Exit::or_worse);
    if options.json {
        match (options.fleet, reports.pop()) {
            (false, Some(report)) => print_json(&report)?,
            (_, last) => {
                reports.extend(last);
                print_json(&FleetReport::new(reports, elapsed))?;
            }
        }
    }
    Ok(exit)
}

/// Waits until the store could not be written for some time; answers why.
///
/// The engine repeats what it could not write for as long as it takes. A person who sits before a
/// terminal wants to hear that the disk is full.
async fn unwritable(clients: &Clients) -> Trouble {
    let mut missed = 0;
    loop {
        clock::sleep(BEAT_EVERY).await;
        match clients.beat().await {
            Ok(()) => missed = 0,
            Err(trouble) if missed + 1 >= BEATS_MISSED => return trouble,
            Err(_) => missed += 1,
        }
    }
}

/// Drives every client's run to its end, a few at a time; answers their ids in order.
async fn fleet(
    host: &Arc<Host>,
    options: &Options,
    screen: &Screen,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<RunId>, Trouble> {
    let open = Arc::new(Semaphore::new(FLEET_OPEN_MAX));
    let mut tasks = JoinSet::new();
    for (place, wanted) in options.clients.iter().cloned().enumerate() {
        let one = One {
            host: Arc::clone(host),
            screen: screen.clone(),
            label: if options.fleet { format!("{:<14} ", wanted.id) } else { String::new() },
            stop: stop.clone(),
        };
        let (open, mode) = (Arc::clone(&open), options.mode);
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = open.acquire_owned().await;
            (place, one.drive(&wanted, mode).await)
        });
    }
    let mut ended = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let (place, run) = task.map_err(|error| Trouble::bug("task", error.to_string()))?;
        ended.extend(run?.map(|run| (place, run)));
    }
    ended.sort_unstable();
    Ok(ended.into_iter().map(|(_, run)| run).collect())
}

/// The client of the run that is there, checked against what was typed.
pub(crate) async fn stored(
    host: &Host,
    wanted: &Wanted,
) -> Result<Option<(RunHead, Client)>, Trouble> {
    let Some(head) = host.current(&wanted.id).await? else { return Ok(None) };
    let client = wanted.agreeing_with(client_of(&head)?)?;
    Ok(Some((head, client)))
}

/// One run and whoever watches it.
struct One {
    host: Arc<Host>,
    screen: Screen,
    label: String,
    stop: watch::Receiver<bool>,
}

impl One {
    /// Drives one client's run; `None` when the command was interrupted before it began.
    async fn drive(self, wanted: &Wanted, mode: Mode) -> Result<Option<RunId>, Trouble> {
        if *self.stop.borrow() {
            return Ok(None);
        }
        let there = stored(&self.host, wanted).await?;
        // What earlier commands have shown is not shown again.
        let seen = there.as_ref().map_or(0, |(head, _)| head.seq);
        let run = match (mode, there) {
            (Mode::TearDown, Some((head, _))) => self.tear_down(&head).await?,
            (Mode::TearDown, None) => return self.nothing_left(wanted).await.map(Some),
            (_, Some((head, _))) => self.go_on(&head).await?,
            (_, None) => self.begin(&wanted.fresh()?).await?,
        };
        self.follow(run, seen).await?;
        Ok(Some(run))
    }

    fn say(&self, text: impl AsRef<str>) {
        self.screen.line(format!("{}{}", self.label, text.as_ref()));
    }

    async fn begin(&self, client: &Client) -> Result<RunId, Trouble> {
        let run = *self.host.start(client).await?.id();
        self.say(format!("run {run} of client `{}`, tier {}", client.id, client.tier));
        Ok(run)
    }

    /// What is open goes on by itself; what needs a person gets the order that typing it again is.
    async fn go_on(&self, head: &RunHead) -> Result<RunId, Trouble> {
        let run = head.id;
        match head.status {
            RunStatus::Parked => {
                self.say(format!("run {run} is parked: trying again what gave up"));
                self.host.engine.retry(&run, by("typed again")).await?;
                self.taken_up(&run).await?;
            }
            RunStatus::Paused => {
                self.host.engine.resume(&run, by("typed again")).await?;
                self.taken_up(&run).await?;
            }
            status if status.is_end() => self.say(format!("run {run} has ended already")),
            _ => {
                self.say(format!("run {run} goes on where it was"));
                self.go_on_now(&run).await?;
            }
        }
        Ok(run)
    }

    /// Makes an open run due at once, and its journal say that the command was typed again.
    async fn go_on_now(&self, run: &RunId) -> Result<(), Trouble> {
        let Err(refused) = self.host.engine.resume(run, by("typed again")).await else {
            return Ok(());
        };
        // The worker is faster now and then: a run that has ended needs no order.
        match self.host.engine.run(run).await?.status.is_end() {
            true => Ok(()),
            false => Err(refused.into()),
        }
    }

    /// A run that succeeded is torn down; an open one is cancelled, which undoes it as well.
    async fn tear_down(&self, head: &RunHead) -> Result<RunId, Trouble> {
        let (run, engine) = (head.id, &self.host.engine);
        let order = by("--tear-down");
        match head.status {
            RunStatus::Succeeded | RunStatus::PartlySucceeded => {
                engine.tear_down(&run, order).await?;
            }
            // Some of it is left behind and named; there is nothing more to undo.
            status if status.is_end() => return Ok(run),
            RunStatus::Parked => {
                engine.cancel(&run, order.clone()).await?;
                // Parked while it was being undone: the cancel changed nothing, this goes on.
                engine.retry(&run, order).await?;
            }
            _ => engine.cancel(&run, order).await?,
        }
        self.taken_up(&run).await?;
        Ok(run)
    }

    /// Tearing down twice is tearing down once.
    async fn nothing_left(&self, wanted: &Wanted) -> Result<RunId, Trouble> {
        let newest = self.host.newest(&wanted.id).await?.ok_or_else(|| {
            let message = format!("client `{}` has no run here", wanted.id);
            Trouble::usage("no_such_client", message, "check --client, --store and --data-dir")
        })?;
        self.say("nothing is left to tear down");
        Ok(newest.id)
    }

    /// An order is stored at once and followed by whoever drives the run next.
    async fn taken_up(&self, run: &RunId) -> Result<(), Trouble> {
        let taken = async {
            loop {
                let head = self.host.engine.run(run).await?;
                if head.consumed >= head.requests {
                    return Ok::<_, Trouble>(());
                }
                // What cannot be read is parked, and its orders wait until it was restored.
                if head.status == RunStatus::Parked {
                    self.host.engine.snapshot(run).await?;
                }
                clock::sleep(Duration::from_millis(20)).await;
            }
        };
        clock::within(ORDER_WITHIN, taken).await.unwrap_or_else(|| {
            Err(Trouble::unavailable(
                "order_waits",
                format!("the order to run {run} is stored and was not followed yet"),
                "another process may hold the run: type the command again",
            ))
        })
    }

    /// Shows a run until it is over, parked, or the command is interrupted.
    async fn follow(mut self, run: RunId, seen: u64) -> Result<(), Trouble> {
        let engine = &self.host.engine;
        let mut view = RunView::new(&self.screen, &self.label, &engine.snapshot(&run).await?);
        let mut events = engine.watch(&run, seen);
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => view.show(&event),
                    None => break,
                },
                stopped = self.stop.wait_for(|stopped| *stopped) => {
                    // An error means that nobody listens for interrupts any more.
                    if stopped.is_ok() { return Ok(()); }
                }
            }
        }
        Ok(())
    }
}

fn by(why: &str) -> By {
    By::new("command line", why)
}

/// Becomes true at the first Ctrl-C or SIGTERM; a second one ends the process the usual way.
pub(crate) fn interrupted() -> (JoinSet<()>, watch::Receiver<bool>) {
    let (sender, receiver) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        signal().await;
        let _ = sender.send(true);
        signal().await;
        end_now();
    });
    (tasks, receiver)
}

#[allow(clippy::exit, reason = "asked twice; what is done is recorded, what is open is looked up")]
fn end_now() {
    std::process::exit(5);
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
