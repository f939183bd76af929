//! The host's own table of subscriptions: what is wanted, and what is so. Workers reconcile the two.
//!
//! It lies in the store's file. A run and the row that names it are written in one transaction, and
//! so are a run's end and the state that it leads to: after a crash there are both or neither.

mod health;
mod mails;
mod payments;
mod schema;

use async_trait::async_trait;
use example_command::{drive::Pulse, exit::Trouble};
use provision_core::{
    RunId, RunStatus, StoreError, Timestamp,
    run::journal::Record,
    store::{Append, NewRun, Submission, Submitted},
};
use provision_store_sqlite::SqliteStore;
use rusqlite::{OptionalExtension as _, Row as SqlRow, Transaction};

pub use self::{
    health::{Asked, Heard, MISSED_MAX},
    payments::{Notice, What},
};
use crate::{input::Subscription, saga::Agent};

/// What the customer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// An agent that runs.
    Running,
    /// A machine that is off, and billed all the same.
    Stopped,
    /// Nothing any more.
    Gone,
}

impl Desired {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Running, Self::Stopped, Self::Gone];

    /// The word it is stored as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }
}

/// What is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Paid for; nothing has begun.
    Pending,
    /// Its run makes things.
    Provisioning,
    /// Its agent answers.
    Running,
    /// Its machine is being stopped.
    Stopping,
    /// Its machine is off.
    Stopped,
    /// Its machine is being started again.
    Starting,
    /// It could not be made, and nothing of it is left.
    Failed,
    /// Everything of it is being removed.
    Removing,
    /// Nothing of it is left.
    Gone,
}

/// The changes of state that there are; all others are refused here and by the database. Some are an
/// operator's alone, who moves a run beside the table: it may be redriven or torn down in any state.
pub const LEGAL: [(State, State); 28] = [
    (State::Pending, State::Provisioning),
    (State::Pending, State::Running),
    (State::Pending, State::Removing),
    (State::Pending, State::Gone),
    (State::Provisioning, State::Running),
    (State::Provisioning, State::Failed),
    (State::Provisioning, State::Removing),
    (State::Running, State::Stopping),
    (State::Running, State::Removing),
    (State::Running, State::Gone),
    (State::Stopping, State::Stopped),
    (State::Stopping, State::Running),
    (State::Stopping, State::Removing),
    (State::Stopping, State::Gone),
    (State::Stopped, State::Starting),
    (State::Stopped, State::Running),
    (State::Stopped, State::Removing),
    (State::Stopped, State::Gone),
    (State::Starting, State::Running),
    (State::Starting, State::Removing),
    (State::Starting, State::Gone),
    (State::Failed, State::Pending),
    (State::Failed, State::Running),
    (State::Failed, State::Gone),
    (State::Removing, State::Gone),
    (State::Gone, State::Pending),
    (State::Gone, State::Running),
    (State::Gone, State::Removing),
];

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Provisioning,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Starting,
        Self::Failed,
        Self::Removing,
        Self::Gone,
    ];

    /// The word it is stored as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Failed => "failed",
            Self::Removing => "removing",
            Self::Gone => "gone",
        }
    }

    /// Whether it may become another one.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        LEGAL.contains(&(self, next))
    }
}

/// One subscription as it stands.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was paid for.
    pub subscription: Subscription,
    /// What the customer wants.
    pub desired: Desired,
    /// What is so.
    pub state: State,
    /// The run that made it, or is making it.
    pub run: Option<RunId>,
    /// The run that has stopped it, or is stopping it.
    pub stop: Option<RunId>,
    /// The phase its run is in.
    pub phase: Option<String>,
    /// Where the agent is, once it was made.
    pub agent: Option<Agent>,
    /// How many payments were taken for it, but for those that came after their own end. One whose end
    /// comes later goes on to count: an end that was ordered before it is void all the same.
    pub payments: u32,
    /// What was heard of its agent; none before it was asked for the first time.
    pub heard: Option<Heard>,
}

impl Row {
    /// Whether what is so is what is wanted, or will not become so by itself.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self.desired {
            // Paid for while its removal was under way: it begins anew.
            Desired::Running => matches!(self.state, State::Running | State::Failed),
            Desired::Stopped => matches!(self.state, State::Stopped | State::Failed | State::Gone),
            // Of a machine that was off, its stopping is to be undone, too.
            Desired::Gone => self.state == State::Gone && self.stop.is_none(),
        }
    }
}

const BEAT: &str = "insert into pulse (one, beat) values (1, 1)
    on conflict (one) do update set beat = beat + 1";
const ALL: &str = "select s.subscription, s.desired, s.state, s.run, s.stop, s.phase, s.agent,
    (select count(*) from payments p where p.subscription = s.id and p.over < 2),
    h.seen_at, h.missed
    from subscriptions s left join health h on h.subscription = s.id and h.run = s.run
    order by s.id";

/// The table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Table(SqliteStore);

impl Table {
    /// Makes the table in the store's file, and has it written with the end of every run.
    ///
    /// # Errors
    /// The table cannot be made.
    pub async fn open(store: &SqliteStore) -> Result<Self, Trouble> {
        store.execute_host(schema::make).await?;
        store.on_end(ended);
        Ok(Self(store.clone()))
    }

    /// Says what the customer wants of subscriptions that were paid for: of all, or of none.
    ///
    /// # Errors
    /// Code `no_such_subscription`: one is not there, or over; nothing is changed. Or the store is
    /// away.
    pub async fn want(&self, ids: &[&str], desired: Desired) -> Result<(), Trouble> {
        let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
        let word = desired.as_str();
        let wanted = self.0.execute_host(move |tx| {
            let live = "select exists (select 1 from subscriptions where id = ?1 and (?2 = 'gone'
                or (desired <> 'gone' and state not in ('gone', 'failed'))))";
            for id in &ids {
                if !tx.query_row(live, (id, word), |row| row.get::<_, bool>(0))? {
                    return Ok(Some(id.clone()));
                }
            }
            let want = "update subscriptions set desired = ?2 where id = ?1";
            ids.iter().try_for_each(|id| tx.execute(want, (id, word)).map(drop))?;
            if desired == Desired::Gone {
                ids.iter().try_for_each(|id| payments::close(tx, id))?;
            }
            Ok(None)
        });
        let Some(id) = wanted.await? else { return Ok(()) };
        let message = format!("there is no live subscription `{id}`");
        let hint = "see `status`, or check --subscription and --data-dir";
        Err(Trouble::usage("no_such_subscription", message, hint))
    }

    /// Begins the run that leads from one state to another: the run and the row are written
    /// together. `false` when another worker was faster.
    ///
    /// # Errors
    /// The guard of the table refuses it, or the store is away.
    pub async fn begin(&self, row: &Row, next: State, run: NewRun) -> Result<bool, Trouble> {
        let (id, was) = (row.subscription.id.clone(), row.state.as_str());
        let named = run.head.id.to_string();
        let change = match next {
            State::Stopping => {
                "update subscriptions set state = ?3, stop = ?4 where id = ?1 and state = ?2"
            }
            _ => {
                "update subscriptions set state = ?3, run = ?4, stop = null, agent = null,
                    phase = null where id = ?1 and state = ?2"
            }
        };
        let write = move |tx: &Transaction<'_>, answers: &[Submitted]| {
            let created = matches!(answers, [Submitted::Created(_)]);
            match created && tx.execute(change, (id, was, next.as_str(), named))? == 1 {
                true => Ok(()),
                // Nothing of this transaction is kept.
                false => Err(rusqlite::Error::QueryReturnedNoRows),
            }
        };
        match self.0.submit_with_host(vec![Submission::Run(Box::new(run))], write).await {
            Ok(_) => Ok(true),
            Err(error) if is_unwanted(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves a subscription on, if it still is as it was. `false` when another worker was faster.
    ///
    /// # Errors
    /// The change is not legal, or the store is away.
    pub async fn turn(&self, row: &Row, next: State) -> Result<bool, Trouble> {
        if !row.state.may_become(next) {
            let (was, next) = (row.state.as_str(), next.as_str());
            return Err(Trouble::bug("illegal_change", format!("from {was} to {next}")));
        }
        let (id, was) = (row.subscription.id.clone(), row.state.as_str());
        let turn = "update subscriptions set state = ?3 where id = ?1 and state = ?2";
        let turned = self.0.execute_host(move |tx| tx.execute(turn, (id, was, next.as_str())));
        Ok(turned.await? == 1)
    }

    /// Forgets the run that has stopped a machine: it is over and was removed.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget_stop(&self, row: &Row) -> Result<(), Trouble> {
        let (id, stop) = (row.subscription.id.clone(), row.stop.map(|run| run.to_string()));
        let forget = "update subscriptions set stop = null,
            state = iif(state = 'starting', 'running', state) where id = ?1 and stop = ?2";
        self.0.execute_host(move |tx| tx.execute(forget, (id, stop))).await?;
        Ok(())
    }

    /// Notes the phase that a subscription's run is in, for whoever looks at the table alone.
    ///
    /// # Errors
    /// The store is away.
    pub async fn note_phase(&self, row: &Row, phase: &str) -> Result<(), Trouble> {
        let (id, run, phase) =
            (row.subscription.id.clone(), row.run.map(|run| run.to_string()), phase.to_owned());
        let note = "update subscriptions set phase = ?3 where id = ?1 and run = ?2
            and state = 'provisioning'";
        self.0.execute_host(move |tx| tx.execute(note, (id, run, phase))).await?;
        Ok(())
    }

    /// All subscriptions, by id.
    ///
    /// # Errors
    /// The store is away.
    pub async fn all(&self) -> Result<Vec<Row>, Trouble> {
        let rows = self.0.query_host(|conn| {
            let mut query = conn.prepare(ALL)?;
            let rows = query.query_map([], read)?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        Ok(rows.await?)
    }

    /// One subscription.
    ///
    /// # Errors
    /// The store is away.
    pub async fn get(&self, id: &str) -> Result<Option<Row>, Trouble> {
        Ok(self.all().await?.into_iter().find(|row| row.subscription.id == id))
    }
}

#[async_trait]
impl Pulse for Table {
    async fn beat(&self) -> Result<(), Trouble> {
        self.0.execute_host(|tx| tx.execute(BEAT, ())).await?;
        Ok(())
    }
}

/// How often in a row a subscription begins anew because its join key ran out: each time the key has
/// lived its hour, unless clocks are wrong.
const ANEW_MAX: u32 = 24;

/// Whether a run has failed because its join key came to its end before the machine had joined, and
/// has left nothing: another run mints another key.
pub(crate) fn begins_anew(end: RunStatus, failure: Option<&str>) -> bool {
    let ran_out = matches!(failure, Some("secret_expired" | "enrolment_key_expired"));
    ran_out && end == RunStatus::RolledBack
}

/// What the end of the run that makes a subscription's machine means for it.
fn own(tx: &Transaction<'_>, run: &str, append: &Append) -> rusqlite::Result<()> {
    let agent = made(append);
    let text = agent.as_ref().and_then(|agent| serde_json::to_string(agent).ok());
    if !matches!(append.status, RunStatus::Succeeded | RunStatus::PartlySucceeded) {
        let over = "update subscriptions set state = iif(state = 'provisioning', 'failed', 'gone'),
            agent = ?2, phase = null
            where run = ?1 and state not in ('pending', 'failed', 'gone')";
        return tx.execute(over, (run, text)).map(drop);
    }
    // What was ordered since with other options is not what stands now: that is removed, and what
    // is wanted begins anew.
    let is_another = match &agent {
        Some(agent) => is_made_for_another(tx, run, agent)?,
        None => false,
    };
    // One that is to be removed and still came to its end is torn down next; one that an operator
    // has redriven stands again, whatever its row had come to.
    let stands = "update subscriptions set
        state = iif(state = 'removing' or ?3, 'removing', 'running'),
        agent = ?2, phase = 'running', anew = 0
        where run = ?1 and state in ('pending', 'provisioning', 'removing', 'failed', 'gone')";
    tx.execute(stands, (run, text, is_another)).map(drop)
}

/// What the end of a run means for its subscription; a run of none changes no row.
fn ended(tx: &Transaction<'_>, append: &Append) -> rusqlite::Result<()> {
    let run = append.run.to_string();
    own(tx, &run, append)?;
    // What a person has left behind is in the way of another run until that one is redriven.
    let failure = append.summary.failure.as_ref();
    if begins_anew(append.status, failure.map(|failure| failure.code.as_str())) {
        let anew = "update subscriptions set state = 'pending', anew = anew + 1
            where run = ?1 and state = 'failed' and desired <> 'gone' and anew < ?2";
        tx.execute(anew, (&run, ANEW_MAX))?;
    }
    let stop = match append.status {
        RunStatus::Succeeded => {
            "update subscriptions set state = 'stopped' where stop = ?1 and state = 'stopping'"
        }
        // What could not be stopped runs, and so does what was started again. The wish to stop it
        // ends with its run: it would be tried for ever.
        _ => {
            "update subscriptions set state = 'running', stop = null,
                desired = iif(state = 'stopping' and desired = 'stopped', 'running', desired)
                where stop = ?1 and state in ('stopping', 'stopped', 'starting')"
        }
    };
    tx.execute(stop, [&run])?;
    // Nothing is left that it could have stopped.
    let over = "update subscriptions set stop = null
        where stop = ?1 and state in ('removing', 'gone', 'failed')";
    match append.status {
        RunStatus::Succeeded => Ok(()),
        _ => tx.execute(over, [&run]).map(drop),
    }
}

/// Whether a write was given up by its own code, because the row is not as it was: a refusal of the
/// database is something else.
fn is_unwanted(error: &StoreError) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<rusqlite::Error>());
    matches!(source, Some(rusqlite::Error::QueryReturnedNoRows))
}

/// A moment as it is stored.
fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A stored moment.
fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// Whether the row of a run names another order than the one that its agent was made for.
fn is_made_for_another(tx: &Transaction<'_>, run: &str, agent: &Agent) -> rusqlite::Result<bool> {
    let ordered = "select subscription from subscriptions where run = ?1";
    let ordered = tx.query_row(ordered, [run], |row| row.get::<_, String>(0)).optional()?;
    let ordered = ordered.and_then(|text| serde_json::from_str::<Subscription>(&text).ok());
    Ok(ordered.is_some_and(|ordered| ordered != agent.subscription))
}

/// What the run has made, if this write is the end of one that did.
fn made(append: &Append) -> Option<Agent> {
    let records = Record::decode(append.frame.as_deref()?).ok()?;
    let output = records.into_iter().find_map(|record| match record {
        Record::Ended { output, .. } => output,
        _ => None,
    })?;
    output.decode().ok()
}

fn json(order: &Subscription) -> Result<String, Trouble> {
    serde_json::to_string(order).map_err(|error| Trouble::bug("json", error.to_string()))
}

/// A value of the table that is no such value: another program has written it.
#[derive(Debug)]
struct Foreign(usize);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "column {} of a subscription holds what nobody here has written", self.0)
    }
}

impl std::error::Error for Foreign {}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let foreign = |at: usize| {
        let text = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(at, text, Box::new(Foreign(at)))
    };
    let text = |at: usize| row.get::<_, Option<String>>(at);
    let word = |at: usize| text(at)?.ok_or_else(|| foreign(at));
    let run = |at: usize| {
        let run = text(at)?.map(|run| run.parse());
        run.transpose().map_err(|_error| foreign(at))
    };
    let (desired, state) = (word(1)?, word(2)?);
    let subscription = serde_json::from_str(&word(0)?).map_err(|_error| foreign(0))?;
    let desired = Desired::ALL.into_iter().find(|one| one.as_str() == desired);
    let state = State::ALL.into_iter().find(|one| one.as_str() == state);
    let agent = text(6)?.map(|agent| serde_json::from_str(&agent));
    let heard = row.get::<_, Option<u32>>(9)?.map(|missed| {
        let seen_at = row.get::<_, Option<i64>>(8)?.map(moment);
        Ok::<_, rusqlite::Error>(Heard { seen_at, missed })
    });
    Ok(Row {
        subscription,
        desired: desired.ok_or_else(|| foreign(1))?,
        state: state.ok_or_else(|| foreign(2))?,
        run: run(3)?,
        stop: run(4)?,
        phase: text(5)?,
        agent: agent.transpose().map_err(|_error| foreign(6))?,
        payments: row.get(7)?,
        heard: heard.transpose()?,
    })
}
