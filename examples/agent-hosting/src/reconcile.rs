//! Brings what is so to what is wanted, one subscription at a time. Whoever runs it, and however
//! often: what is under way is not begun twice.

use example_command::exit::Trouble;
use provision_core::{By, Error, RunId, RunStatus};

use crate::{
    host::Host,
    input::guard,
    mails::MAIL,
    saga::{Machine, STOP, host_of},
    table::{Desired, Row, State},
};

/// Does for every subscription the next thing that leads to what is wanted.
///
/// # Errors
/// The store is away, or the first of those that could not be reconciled; all others were.
pub async fn reconcile(host: &Host) -> Result<(), Trouble> {
    let mut first = Ok(());
    for row in host.table.all().await? {
        // What is wrong with one holds no other one up.
        let done = one(host, &row).await;
        first = first.and(done);
    }
    first.and(mail(host).await)
}

/// Begins the runs of mails that are to go out.
async fn mail(host: &Host) -> Result<(), Trouble> {
    for (key, mail) in host.table.queued().await? {
        let run = host.engine.start(MAIL, &mail).key(format!("mail:{key}")).prepare().await?;
        host.table.send(&key, run).await?;
    }
    Ok(())
}

async fn one(host: &Host, row: &Row) -> Result<(), Trouble> {
    match (row.state, row.desired) {
        (State::Pending | State::Failed, Desired::Gone) => {
            host.table.turn(row, State::Gone).await.map(drop)
        }
        (State::Pending, _) => begin(host, row).await,
        // What was stopped goes as it is: a machine that cannot be started holds nothing up.
        (
            State::Provisioning
            | State::Running
            | State::Stopping
            | State::Stopped
            | State::Starting,
            Desired::Gone,
        ) => {
            // The order follows when this is looked at again; until then only the row says so.
            host.table.turn(row, State::Removing).await.map(drop)
        }
        (State::Provisioning, _) => phase(host, row).await,
        (State::Running, Desired::Stopped) => stop(host, row).await,
        (State::Stopped, Desired::Running) => host.table.turn(row, State::Starting).await.map(drop),
        // The machine is gone, and that it is off is to be forgotten, too.
        (State::Gone, _) if row.stop.is_some() => {
            undone(host, row, row.stop, "the subscription ended").await
        }
        // It was paid for while its removal was under way.
        (State::Gone, Desired::Running) => host.table.turn(row, State::Pending).await.map(drop),
        (State::Starting, _) => undone(host, row, row.stop, "started again").await,
        (State::Removing, _) => undone(host, row, row.run, "the subscription ended").await,
        (State::Running | State::Stopping | State::Stopped | State::Failed | State::Gone, _) => {
            Ok(())
        }
    }
}

async fn begin(host: &Host, row: &Row) -> Result<(), Trouble> {
    let order = &row.subscription;
    let start = host.engine.start(host_of(order), order).unique(guard(&order.id));
    let start = start.tenant(order.customer.as_str()).queue(order.queue());
    let run = start.prepare().await?;
    host.table.begin(row, State::Provisioning, run).await.map(drop)
}

async fn stop(host: &Host, row: &Row) -> Result<(), Trouble> {
    let (Some(agent), order) = (&row.agent, &row.subscription) else {
        return Err(Trouble::bug("no_machine", "a running subscription has no machine"));
    };
    let machine = Machine { subscription: order.id.clone(), server: agent.server };
    let start = host.engine.start(STOP, &machine).unique(format!("stop:{}", order.id));
    let start = start.tenant(order.customer.as_str()).queue(order.queue());
    let run = start.prepare().await?;
    host.table.begin(row, State::Stopping, run).await.map(drop)
}

/// Writes the phase of a subscription's run into its row.
async fn phase(host: &Host, row: &Row) -> Result<(), Trouble> {
    let Some(run) = row.run else { return Ok(()) };
    let Some(head) = host.head(&run).await? else { return Ok(()) };
    match head.summary.phase {
        Some(phase) if row.phase.as_ref() != Some(&phase) => {
            host.table.note_phase(row, &phase).await
        }
        _ => Ok(()),
    }
}

/// Orders a run to be undone, unless that was ordered: typed or crashed in between, it is ordered
/// once.
async fn undone(host: &Host, row: &Row, run: Option<RunId>, why: &str) -> Result<(), Trouble> {
    let Some(run) = run else {
        return Err(Trouble::bug("no_run", "a subscription has no run that could be undone"));
    };
    let Some(head) = host.head(&run).await? else {
        // What was removed is over, and nothing of it is left.
        return match row.stop == Some(run) {
            true => host.table.forget_stop(row).await,
            false => host.table.turn(row, State::Gone).await.map(drop),
        };
    };
    if head.consumed < head.requests {
        return Ok(());
    }
    let by = By::new("reconciler", why);
    let ordered = match head.status {
        RunStatus::Succeeded | RunStatus::PartlySucceeded => host.engine.tear_down(&run, by).await,
        RunStatus::Running | RunStatus::Waiting | RunStatus::Paused => {
            host.engine.cancel(&run, by).await
        }
        RunStatus::Parked if host.is_first_try(run, row.state) => unparked(host, &run, by).await,
        _ => Ok(()),
    };
    match ordered {
        Ok(()) => Ok(()),
        // The run has moved on meanwhile: the next look sees where it is.
        Err(_) if host.engine.run(&run).await?.seq != head.seq => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What waits for a person and is to go anyhow is tried once more by each process in each state:
/// what could not be started again can be forgotten when its machine is gone. Parked while it was
/// undone, the cancel changes nothing and the retry goes on.
async fn unparked(host: &Host, run: &RunId, by: By) -> Result<(), Error> {
    host.engine.cancel(run, by.clone()).await?;
    host.engine.retry(run, by).await
}
