//! A machine is exchanged for a new one without a gap, as one saga: the new machine is made beside
//! the old one, is asked whether it is well, is switched to, and only then is the old one removed.
//!
//! A recipe for hosts to copy; nothing else of this example uses it. Each machine is one run, which
//! stands as long as its machine does. A run that takes the place of another one tears that one
//! down as its last step, so that the ledger tells at any moment whose machine is whose.
//!
//! | Step | Makes | Undo |
//! |---|---|---|
//! | `server` | the new machine | deletes it |
//! | `well` | nothing: asks the new machine | |
//! | `switch` | that the new machine serves, if the old one does | switches back, if the new one serves |
//! | `serves` | nothing: asks the new machine again, behind the switch | |
//! | `for-good` | the point of no return | |
//! | `retire` | the end of the old run, and of its machine | |
//!
//! Until `for-good` a failure switches back and removes the new machine; the old one was never
//! touched. From there on the run goes forward only: what cannot be removed waits for a person.

use std::time::Duration;

use example_command::stage::Stage;
use provision_adapters::hetzner::{Hetzner, Server, ServerMade, ServerSpec};
use provision_core::{
    By, Compensator, Effect, Engine, NothingToUndo, Policy, RunId, RunStatus, Saga, SagaError,
    SagaId, Step, StepContext, StepError, Undo, Verdict, error::ErrorKind,
};
use provision_store_sqlite::SqliteStore;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

/// Lets a machine serve, in the place of another one where there is one.
pub const SERVE: SagaId<Exchange, ServerMade> = SagaId::new("serve-by-machine", 1);

/// How often it is looked whether the old machine is gone, and for how long: its removal has four
/// hours before it waits for a person, and that person some days.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const REMOVED_WITHIN: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What it serves: one machine at a time.
    pub service: String,
    /// The new machine. Its name is none that the old one has.
    pub machine: ServerSpec,
    /// The run of the machine that serves now; none for the first one.
    pub replaces: Option<RunId>,
}

/// Wires the saga. `well` asks a machine whether it is well. `orders` is an engine over the same
/// store, with which the old run is ended; the saga that is registered with that engine has none,
/// and so is driven by nobody.
///
/// # Errors
/// Never for this graph.
pub fn serving<C>(
    hetzner: &Hetzner,
    well: &C,
    serves: &Serves,
    orders: Option<Engine>,
    stage: &Stage,
) -> Result<Saga<Exchange, ServerMade>, SagaError>
where
    C: Step<Input = ServerMade, Output = ()> + Clone,
{
    let orders = Orders(orders);
    let (switch, back) = (Switch(serves.clone()), SwitchBack(serves.clone(), orders.clone()));
    let patience = Policy::attempts(Policy::MAX_ATTEMPTS)
        .exponential(LOOK_EVERY, 2, Duration::from_secs(300))
        .with_total(REMOVED_WITHIN);
    Saga::define(SERVE, |s| {
        let server = s
            .resource("server", stage.on(Server::new(hetzner)))
            .input((), |exchange, ()| exchange.machine.clone());
        let asked = s.step("well", well.clone(), NothingToUndo).input(server, |_, server| server);
        let switched =
            s.step("switch", switch, back).after(asked).input((), |exchange, ()| exchange.clone());
        let seen = s
            .step("serves", well.clone(), NothingToUndo)
            .after(switched)
            .input(server, |_, server| server);
        let kept = s.value("for-good").pivot().after(seen).input((), |_, ()| ());
        let retired = s
            .step("retire", Retire(orders), NothingToUndo)
            .retry(patience)
            .after(kept)
            .input((), |exchange, ()| exchange.replaces);
        s.value("machine").after(retired).input(server, |_, server| server)
    })
}

/// Which run's machine serves what: a row of the host's own. A floating address or a record of DNS
/// is switched in the same way, where the provider can be told what it has to have been before.
#[derive(Debug, Clone)]
pub struct Serves(SqliteStore);

impl Serves {
    /// Makes the table in the store's file.
    ///
    /// # Errors
    /// The store is away.
    pub async fn open(store: &SqliteStore) -> Result<Self, provision_core::StoreError> {
        let table =
            "create table if not exists serves (service text primary key, run text not null)
            strict";
        store.execute_host(move |tx| tx.execute_batch(table)).await?;
        Ok(Self(store.clone()))
    }

    /// The run whose machine serves.
    ///
    /// # Errors
    /// The store is away.
    pub async fn by(&self, service: &str) -> Result<Option<RunId>, provision_core::StoreError> {
        let service = service.to_owned();
        let run = self.0.query_host(move |conn| {
            let by = "select run from serves where service = ?1";
            conn.query_row(by, [service], |row| row.get::<_, String>(0)).optional()
        });
        Ok(run.await?.and_then(|run| run.parse().ok()))
    }

    /// Switches from one run to another, if the first one serves; whether the second one serves now.
    async fn switch(
        &self,
        service: &str,
        (from, to): (Option<RunId>, Option<RunId>),
    ) -> Result<bool, StepError> {
        let service = service.to_owned();
        let (from, to) = (from.map(|run| run.to_string()), to.map(|run| run.to_string()));
        let switched = self.0.execute_host(move |tx| {
            let by = "select run from serves where service = ?1";
            let by = tx.query_row(by, [&service], |row| row.get::<_, String>(0)).optional()?;
            // Said again, it is said once.
            if by == to || by != from {
                return Ok(by == to);
            }
            match to {
                Some(to) => {
                    tx.execute("insert or replace into serves values (?1, ?2)", (service, to))
                }
                None => tx.execute("delete from serves where service = ?1", [service]),
            }?;
            Ok(true)
        });
        switched.await.map_err(|error| {
            // It may have been committed: looked at again, it is seen.
            let switch = StepError::unknown("switch").with_code(error.code().to_owned());
            switch.with_source(error)
        })
    }
}

/// Lets the machine of this run serve.
struct Switch(Serves);

impl Step for Switch {
    const KIND: &'static str = "internal.switch";
    type Input = Exchange;
    type Output = ();

    async fn run(&self, cx: &StepContext, exchange: Exchange) -> Result<(), StepError> {
        let turn = (exchange.replaces, Some(*cx.run_id()));
        match self.0.switch(&exchange.service, turn).await? {
            true => Ok(()),
            false => Err(StepError::permanent("switch")
                .with_code("another_serves")
                .with_message("another machine serves than the one that is to be replaced")
                .with_hint("replace the one that serves")),
        }
    }
}

/// Lets the old machine serve again, if it stands and this one serves: a later run may have taken
/// over since.
struct SwitchBack(Serves, Orders);

impl Compensator<Switch> for SwitchBack {
    async fn compensate(
        &self,
        cx: &StepContext,
        exchange: Exchange,
        _: Undo<()>,
    ) -> Result<(), StepError> {
        let old = match exchange.replaces {
            Some(old) if self.1.stands(&old).await? => Some(old),
            _ => None,
        };
        self.0.switch(&exchange.service, (Some(*cx.run_id()), old)).await.map(drop)
    }
}

/// Ends runs.
#[derive(Debug, Clone)]
struct Orders(Option<Engine>);

impl Orders {
    fn engine(&self) -> Result<&Engine, StepError> {
        let none = || StepError::new(Effect::None, Verdict::Operator, "end the old run");
        self.0.as_ref().ok_or_else(|| none().with_code("no_engine"))
    }

    /// Where a run stands, and whether an order of it is under way; none where it is over for so
    /// long that it was removed.
    async fn look(&self, run: &RunId) -> Result<Option<(RunStatus, bool)>, StepError> {
        match self.engine()?.run(run).await {
            Ok(head) => Ok(Some((head.status, head.consumed < head.requests))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StepError::retry("look at the old run").with_code(error.code())),
        }
    }

    async fn stands(&self, run: &RunId) -> Result<bool, StepError> {
        let head = self.look(run).await?;
        Ok(head.is_some_and(|(status, moves)| status == RunStatus::Succeeded && !moves))
    }
}

/// Ends the old run, and waits until its machine is gone.
struct Retire(Orders);

impl Step for Retire {
    const KIND: &'static str = "internal.retire";
    type Input = Option<RunId>;
    type Output = ();

    async fn run(&self, cx: &StepContext, old: Option<RunId>) -> Result<(), StepError> {
        use RunStatus::{RolledBack, RolledBackKeeping, Succeeded, TornDown};
        let Some(old) = old else { return Ok(()) };
        let wait = StepError::retry("wait until the old machine is gone").with_code("retiring");
        match self.0.look(&old).await? {
            // What a person has left behind is that person's.
            None | Some((TornDown | RolledBack | RolledBackKeeping, _)) => Ok(()),
            Some((Succeeded, false)) => {
                let by = By::new("exchange", format!("replaced by {}", cx.run_id()));
                let ordered = self.0.engine()?.tear_down(&old, by).await;
                // Refused, it has moved on meanwhile: the next look sees where it is.
                Err(ordered.err().map_or(wait, |_| StepError::retry("end the old run")))
            }
            Some(_) => Err(wait),
        }
    }
}
