//! Drives the runs of a command: begins them, goes on with them or tears them down, and shows them
//! until they are over, parked, or the command is interrupted.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use provision_core::{By, Engine, RunId, RunStatus, Worker, clock, store::RunHead};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Wording,
    exit::Trouble,
    progress::{RunView, Screen},
    signals::interrupted,
};

/// Runs of a fleet that are under way at the same time, where a program says nothing else.
const AT_ONCE: usize = 4;
/// How often a command looks whether its store can be written; the engine itself never gives up.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Beats that have to fail one after the other before the command gives up waiting.
const BEATS_MISSED: u32 = 4;
/// How long open calls may take to come back when their answers can be written nowhere.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long an order may take to be taken up by the worker.
const ORDER_WITHIN: Duration = Duration::from_secs(30);

/// What a command is about, such as one client: it has one run at a time.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// What tells it from the others of a fleet.
    fn id(&self) -> &str;

    /// The run that is open, parked, or has left something.
    ///
    /// # Errors
    /// The store cannot be read, or what was typed disagrees with the run.
    async fn current(&self) -> Result<Option<RunHead>, Trouble>;

    /// Starts its run; answers one line about it too.
    ///
    /// # Errors
    /// It cannot be started.
    async fn begin(&self) -> Result<(RunId, String), Trouble>;

    /// Its newest run, whatever its end.
    ///
    /// # Errors
    /// The store cannot be read, or it never had a run.
    async fn newest(&self) -> Result<RunHead, Trouble>;
}

/// Something of no meaning that can be written to see whether the store can be written at all.
#[async_trait]
pub trait Pulse: Send + Sync {
    /// Writes it.
    ///
    /// # Errors
    /// It cannot: the disk is full, another program holds the file, the server is gone.
    async fn beat(&self) -> Result<(), Trouble>;
}

/// What is to be done with the runs of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start, or go on.
    Run,
    /// Remove everything they made.
    TearDown,
}

/// Drives runs and shows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    engine: Engine,
    screen: Screen,
    wording: Wording,
    labelled: bool,
    stages: bool,
    at_once: usize,
}

impl Driver {
    /// Drives the runs of an engine.
    #[must_use]
    pub fn new(engine: &Engine, screen: &Screen) -> Self {
        let (engine, screen) = (engine.clone(), screen.clone());
        let (labelled, stages) = (false, false);
        Self { engine, screen, wording: Wording::default(), labelled, stages, at_once: AT_ONCE }
    }

    /// Words of the program. By default those of [`Wording::default`].
    #[must_use]
    pub fn with_wording(mut self, wording: Wording) -> Self {
        self.wording = wording;
        self
    }

    /// Whether each line begins with the id of its subject, as those of a fleet do. By default not.
    #[must_use]
    pub fn with_labels(mut self, labelled: bool) -> Self {
        self.labelled = labelled;
        self
    }

    /// Whether it is said when a phase of a saga is complete, such as "stage 3 of 8". What earlier
    /// commands have shown is not said again. By default not.
    #[must_use]
    pub fn with_stages(mut self, stages: bool) -> Self {
        self.stages = stages;
        self
    }

    /// How many runs are under way at the same time; at least one. By default 4.
    #[must_use]
    pub fn with_at_once(mut self, at_once: usize) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// Drives the run of every subject with this worker, a few at a time, until all are over or
    /// the command is interrupted; then stops the worker. Answers the runs in the order of their
    /// subjects; those that had not begun at an interrupt are left out.
    ///
    /// # Errors
    /// A run cannot be begun or followed, or the store could not be written for some time.
    pub async fn drive(
        &self,
        worker: Worker,
        subjects: Vec<Arc<dyn Subject>>,
        order: Order,
        pulse: &dyn Pulse,
    ) -> Result<Vec<RunId>, Trouble> {
        let (stopped, mut stop) = interrupted();
        let ended = tokio::select! {
            ended = self.all(subjects, order, &stop) => ended,
            trouble = unwritable(pulse) => {
                self.screen.clear();
                let _ = clock::within(LAST_WORDS, worker.stop()).await;
                return Err(trouble);
            }
        };
        self.screen.clear();
        if *stop.borrow_and_update() {
            self.screen
                .line("interrupted: open calls are awaited, and what is done stays recorded");
        }
        worker.stop().await;
        drop(stopped);
        ended
    }

    async fn all(
        &self,
        subjects: Vec<Arc<dyn Subject>>,
        order: Order,
        stop: &watch::Receiver<bool>,
    ) -> Result<Vec<RunId>, Trouble> {
        let open = Arc::new(Semaphore::new(self.at_once));
        let mut tasks = JoinSet::new();
        for (place, subject) in subjects.into_iter().enumerate() {
            let one = self.one(subject, stop.clone());
            let open = Arc::clone(&open);
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _turn = open.acquire_owned().await;
                (place, one.drive(order).await)
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

    fn one(&self, subject: Arc<dyn Subject>, stop: watch::Receiver<bool>) -> One {
        let label = if self.labelled { format!("{:<14} ", subject.id()) } else { String::new() };
        One { driver: self.clone(), subject, label, stop }
    }
}

/// Waits until the store could not be written for some time; answers why.
///
/// The engine repeats what it could not write for as long as it takes. A person who sits before a
/// terminal wants to hear that the disk is full.
async fn unwritable(pulse: &dyn Pulse) -> Trouble {
    let mut missed = 0;
    loop {
        clock::sleep(BEAT_EVERY).await;
        match pulse.beat().await {
            Ok(()) => missed = 0,
            Err(trouble) if missed + 1 >= BEATS_MISSED => return trouble,
            Err(_) => missed += 1,
        }
    }
}

/// One run and whoever watches it.
struct One {
    driver: Driver,
    subject: Arc<dyn Subject>,
    label: String,
    stop: watch::Receiver<bool>,
}

impl One {
    /// Drives one run; `None` when the command was interrupted before it began.
    async fn drive(self, order: Order) -> Result<Option<RunId>, Trouble> {
        if *self.stop.borrow() {
            return Ok(None);
        }
        let there = self.subject.current().await?;
        // What earlier commands have shown is not shown again.
        let seen = there.as_ref().map_or(0, |head| head.seq);
        let run = match (order, there) {
            (Order::TearDown, Some(head)) => self.tear_down(&head).await?,
            (Order::TearDown, None) => return self.nothing_left().await.map(Some),
            (Order::Run, Some(head)) => self.go_on(&head).await?,
            (Order::Run, None) => self.begin().await?,
        };
        self.follow(run, seen).await?;
        Ok(Some(run))
    }

    fn say(&self, text: impl AsRef<str>) {
        self.driver.screen.line(format!("{}{}", self.label, text.as_ref()));
    }

    async fn begin(&self) -> Result<RunId, Trouble> {
        let (run, said) = self.subject.begin().await?;
        self.say(said);
        Ok(run)
    }

    /// What is open goes on by itself; what needs a person gets the order that typing it again is.
    async fn go_on(&self, head: &RunHead) -> Result<RunId, Trouble> {
        let (run, engine) = (head.id, &self.driver.engine);
        match head.status {
            RunStatus::Parked => {
                self.say(format!("run {run} is parked: trying again what gave up"));
                engine.retry(&run, by("typed again")).await?;
                taken_up(engine, &run).await?;
            }
            RunStatus::Paused => {
                engine.resume(&run, by("typed again")).await?;
                taken_up(engine, &run).await?;
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
        let engine = &self.driver.engine;
        let Err(refused) = engine.resume(run, by("typed again")).await else {
            return Ok(());
        };
        // The worker is faster now and then: a run that has ended needs no order.
        match engine.run(run).await?.status.is_end() {
            true => Ok(()),
            false => Err(refused.into()),
        }
    }

    /// A run that succeeded is torn down; an open one is cancelled, which undoes it as well.
    async fn tear_down(&self, head: &RunHead) -> Result<RunId, Trouble> {
        let (run, engine) = (head.id, &self.driver.engine);
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
        taken_up(engine, &run).await?;
        Ok(run)
    }

    /// Tearing down twice is tearing down once.
    async fn nothing_left(&self) -> Result<RunId, Trouble> {
        let newest = self.subject.newest().await?;
        self.say("nothing is left to tear down");
        Ok(newest.id)
    }

    /// Shows a run until it is over, parked, or the command is interrupted.
    async fn follow(mut self, run: RunId, seen: u64) -> Result<(), Trouble> {
        let Driver { engine, screen, wording, stages, .. } = &self.driver;
        let snapshot = engine.snapshot(&run).await?;
        let mut view = RunView::new(screen, &self.label, &snapshot).with_wording(*wording);
        // What is complete is told by all that has happened, also before this command.
        let from = if *stages { 0 } else { seen };
        if *stages {
            view = view.with_stages(&snapshot);
        }
        let mut events = engine.watch(&run, from);
        loop {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) if event.seq <= seen => view.pass(&event),
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

/// Waits until the orders to a run were taken up: an order is stored at once, and followed by
/// whoever drives the run next.
///
/// # Errors
/// Code `order_waits` after 30 s; the order stays stored. Or the store cannot be read.
pub async fn taken_up(engine: &Engine, run: &RunId) -> Result<(), Trouble> {
    let taken = async {
        loop {
            let head = engine.run(run).await?;
            if head.consumed >= head.requests {
                return Ok::<_, Trouble>(());
            }
            // What cannot be read is parked, and its orders wait until it was restored.
            if head.status == RunStatus::Parked {
                engine.snapshot(run).await?;
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

fn by(why: &str) -> By {
    By::new("command line", why)
}
