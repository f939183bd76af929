//! What a command does, from opening to the last line.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use example_command::{
    Wording,
    drive::{Driver, Order, Subject},
    exit::{Exit, Trouble},
    folder::show_inventory,
    place::{self, StoreAt},
    plan,
    progress::Screen,
    report::{Beside, FleetReport, OwnRow, RunReport, print_json, tell},
    signals::interrupted,
    stores::Opened,
};
use provision_core::{
    RunId, Timestamp, clock,
    clock::{Clock, SystemClock},
    store::RunHead,
};
use provision_store_sqlite::SqliteStore;
use serde_json::{Value, json};

use crate::{
    cli::{Checked, Do, EventKind, Wanted},
    cloud,
    host::Host,
    payments,
    reconcile::reconcile,
    saga::{END, Ending, ending, host_of},
    table::{Desired, Row, State, Table},
    watch::{alerts, is_throttled, without_noise},
    web,
};

/// How this program words what it shares with others.
const WORDING: Wording = Wording {
    skipped: "not part of this subscription",
    succeeded: "next: `stop` and `start` switch the machine, --tear-down removes everything",
};
/// Machines that are made at the same time.
const AT_ONCE: usize = 20;
/// How often what is so is compared with what is wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long an order waits for the mail about its failure.
const MAILS_WITHIN: Duration = Duration::from_secs(10);
/// How often a sweep looks again at providers whose limit was used up.
const SWEEPS_MAX: u32 = 20;
/// How long it waits before that.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// Carries a command out.
///
/// # Errors
/// It could not be begun, or something it needs is out of reach.
pub async fn carry_out(options: Checked) -> Result<Exit, Trouble> {
    let screen = Screen::new(options.json, options.fleet || options.what != Do::Order);
    match &options.what {
        Do::Inventory => show_inventory(&cloud::stored_inventory(&options.data_dir)?, options.json),
        Do::Status => status(&options, &screen).await,
        Do::Cost => cost(&options, &screen).await,
        Do::Cancel { after } => cancel(&options, &screen, Duration::from_secs(*after)).await,
        Do::Sweep => sweep(&options, &screen).await,
        Do::Order => order(&options, &screen).await,
        Do::Plan => planned(&options, &screen).await,
        Do::Event { kind, to, .. } => event(&options, &screen, (*kind, to)).await,
        Do::Stop => change(&options, &screen, Desired::Stopped).await,
        Do::Start => change(&options, &screen, Desired::Running).await,
        Do::TearDown => change(&options, &screen, Desired::Gone).await,
        Do::Work { until_idle, .. } => work(&options, &screen, *until_idle).await,
    }
}

/// Reconciles without end; ends with the trouble that it meets, but for a store that is away.
async fn reconciled(host: &Host) -> Trouble {
    loop {
        if let Err(trouble) = reconcile(host).await
            && trouble.exit() != Exit::Unavailable
        {
            return trouble;
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// Orders, or goes on with what was ordered, and shows it until it is over.
async fn order(options: &Checked, screen: &Screen) -> Result<Exit, Trouble> {
    let began = SystemClock.wall();
    screen.line(format!("data: {}", options.data_dir.display()));
    let host = Arc::new(Host::open(options).await?);
    for wanted in &options.wanted {
        live(&host.table, wanted).await?;
    }
    let one = |wanted: &Wanted| -> Arc<dyn Subject> {
        Arc::new(One { host: Arc::clone(&host), wanted: wanted.clone() })
    };
    let subjects = options.wanted.iter().map(one).collect();
    let driver = Driver::new(&host.engine, screen).with_wording(WORDING);
    let driver = driver.with_labels(options.fleet).with_at_once(AT_ONCE);
    let driving = driver.drive(host.worker(), subjects, Order::Run, &host.table);
    let runs = tokio::select! {
        runs = driving => runs?,
        trouble = reconciled(&host) => return Err(trouble),
    };
    let elapsed = || SystemClock.wall().since(began);
    let mut reports = Vec::new();
    for run in runs {
        reports.push(report(&host, run, elapsed()).await?);
    }
    let fleet = FleetReport::new(reports, elapsed());
    let exit = tell(screen, fleet, options.wanted.len(), options.fleet, options.json)?;
    if exit != Exit::Cancelled {
        mailed(&host).await?;
    }
    Ok(exit)
}

/// Gives what is to be mailed a moment to go out; what is left goes with whoever works next.
async fn mailed(host: &Host) -> Result<(), Trouble> {
    if host.is_told().await? {
        return Ok(());
    }
    let worker = host.worker();
    let sent = async {
        while !host.is_told().await? {
            reconcile(host).await?;
            clock::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let sent = clock::within(MAILS_WITHIN, sent).await;
    worker.stop().await;
    sent.unwrap_or(Ok(()))
}

/// `--plan`: looks what the order would do, with nothing written anywhere.
async fn planned(options: &Checked, screen: &Screen) -> Result<Exit, Trouble> {
    let host = Host::open(options).await?;
    let mut exit = Exit::Done;
    for wanted in &options.wanted {
        let run = live(&host.table, wanted).await?.and_then(|row| row.run);
        let found = match run {
            Some(run) => host.engine.plan_run(&run).await?,
            None => {
                let order = wanted.fresh()?;
                host.engine.plan(host_of(&order), &order).await?
            }
        };
        if plan::show(&found, WORDING, screen, options.json)? != Exit::Done {
            exit = Exit::Changes;
        }
    }
    Ok(exit)
}

/// Delivers an event as the payment provider would.
async fn event(
    options: &Checked,
    screen: &Screen,
    (kind, to): (EventKind, &str),
) -> Result<Exit, Trouble> {
    let Do::Event { id, provider, .. } = &options.what else {
        return Err(Trouble::bug("event", "another command was taken for an event"));
    };
    let now = SystemClock.wall();
    let secret = web::secret(options.listen).await?;
    for wanted in &options.wanted {
        let fresh = format!("evt_{}_{}", wanted.id, now.as_millis());
        let event = id.clone().unwrap_or(fresh);
        let provider = match (provider, kind) {
            (Some(provider), _) => provider.clone(),
            (None, EventKind::Paid) => format!("sub_{event}"),
            (None, EventKind::Ended) => paid_for(options, &wanted.id).await?,
        };
        let body = match kind {
            EventKind::Paid => payments::paid(&event, now, &wanted.fresh()?, &provider),
            EventKind::Ended => payments::ended(&event, now, &wanted.id, &provider),
        };
        let status = payments::deliver(to, &secret, &body).await?;
        screen.line(format!("{event}: answered {status}"));
        if options.json {
            print_json(&json!({ "event": event, "status": status }))?;
        }
        if status != 200 {
            let message = format!("the event {event} was answered with {status}");
            return Err(Trouble::unavailable("event_refused", message, "see what `work` says"));
        }
    }
    Ok(Exit::Done)
}

/// What the provider knows a subscription as, as far as this data folder knows it. What was paid for
/// by hand has no such id: an end under any new one is an end of it.
async fn paid_for(options: &Checked, subscription: &str) -> Result<String, Trouble> {
    let known = match options.file.exists() {
        true => table(options).await?.1.provider_id(subscription).await?,
        false => None,
    };
    Ok(known.unwrap_or_else(|| format!("sub_{subscription}")))
}

async fn report(host: &Host, run: RunId, elapsed: Duration) -> Result<RunReport, Trouble> {
    let rows = host.table.all().await?;
    let own = rows.iter().filter(|row| row.run == Some(run)).map(shown).collect();
    RunReport::read(
        &host.engine,
        run,
        &Beside { elapsed, own, wording: WORDING, ..Beside::default() },
    )
    .await
}

/// A subscription as reports show it.
fn shown(row: &Row) -> OwnRow {
    let place = row.agent.as_ref().map(|agent| agent.tailnet_name.clone());
    OwnRow {
        kind: "subscription",
        id: row.subscription.id.clone(),
        name: format!("{} in {}", row.subscription.preset, row.subscription.region),
        place: place.unwrap_or_else(|| "-".to_owned()),
        is_alive: matches!(row.state, State::Running | State::Stopped),
    }
}

/// The row of a subscription that has a run and is to stay, checked against what was typed.
async fn live(table: &Table, wanted: &Wanted) -> Result<Option<Row>, Trouble> {
    let row = table.get(&wanted.id).await?;
    let over = |row: &Row| {
        row.desired == Desired::Gone || matches!(row.state, State::Failed | State::Gone)
    };
    let Some(row) = row.filter(|row| !over(row)) else { return Ok(None) };
    wanted.agrees_with(&row.subscription)?;
    Ok(Some(row))
}

/// One subscription of a command.
struct One {
    host: Arc<Host>,
    wanted: Wanted,
}

#[async_trait]
impl Subject for One {
    fn id(&self) -> &str {
        &self.wanted.id
    }

    async fn current(&self) -> Result<Option<RunHead>, Trouble> {
        let row = live(&self.host.table, &self.wanted).await?;
        match row.filter(|row| row.state != State::Pending).and_then(|row| row.run) {
            Some(run) => Ok(Some(self.host.engine.run(&run).await?)),
            None => Ok(None),
        }
    }

    /// The payment comes in, and a worker begins what was paid for.
    async fn begin(&self) -> Result<(RunId, String), Trouble> {
        let (table, id) = (&self.host.table, &self.wanted.id);
        self.removed().await?;
        if live(table, &self.wanted).await?.is_none() {
            let taken = table.get(id).await?.map_or(0, |row| row.payments);
            table.pay(&format!("{id}/{}", taken + 1), &self.wanted.fresh()?).await?;
        }
        loop {
            reconcile(&self.host).await?;
            let row = table.get(id).await?;
            if row.as_ref().is_none_or(|row| row.desired == Desired::Gone) {
                return Err(Trouble::unavailable(
                    "ended_meanwhile",
                    format!("somebody has ended subscription `{id}` before it began"),
                    "type the command again to begin anew",
                ));
            }
            let row = row.filter(|row| row.state != State::Pending);
            if let Some((run, row)) = row.and_then(|row| Some((row.run?, row))) {
                let Row { subscription: order, .. } = row;
                let (preset, region) = (order.preset, order.region);
                return Ok((
                    run,
                    format!("run {run} of subscription `{id}`, {preset} in {region}"),
                ));
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }

    async fn newest(&self) -> Result<RunHead, Trouble> {
        let row = self.host.table.get(&self.wanted.id).await?;
        match row.and_then(|row| row.run) {
            Some(run) => Ok(self.host.engine.run(&run).await?),
            None => Err(unknown(&self.wanted.id)),
        }
    }
}

impl One {
    /// Waits until what is just being removed is gone: its names are free then.
    async fn removed(&self) -> Result<(), Trouble> {
        let (host, id) = (&self.host, &self.wanted.id);
        while let Some(row) = host.table.get(id).await?
            && row.desired == Desired::Gone
            && !row.is_settled()
        {
            if host.is_parked(&row).await? {
                return Err(Trouble::unavailable(
                    "removal_parked",
                    format!("what subscription `{id}` had before could not be removed"),
                    "see `status`: a person has to look at its run",
                ));
            }
            clock::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn unknown(id: &str) -> Trouble {
    let message = format!("subscription `{id}` is not known here");
    Trouble::usage("no_such_subscription", message, "check --subscription and --data-dir")
}

/// Says what is wanted, and works until it is so.
async fn change(options: &Checked, screen: &Screen, desired: Desired) -> Result<Exit, Trouble> {
    let ids: Vec<_> = options.wanted.iter().map(|wanted| wanted.id.as_str()).collect();
    place::prepare(&options.data_dir)?;
    // Written before the cloud is opened: who has it brings about what is wanted.
    {
        let (_store, table) = table(options).await?;
        for wanted in &options.wanted {
            if let Some(row) = table.get(&wanted.id).await? {
                wanted.agrees_with(&row.subscription)?;
            }
        }
        table.want(&ids, desired).await?;
    }
    let kept = "what is wanted is written, and `work` brings it about";
    let host = Host::open(options).await.map_err(|trouble| trouble.with_hint(kept))?;
    let began = SystemClock.wall();
    let stopped = until(&host, screen, Goal::Settled(&ids)).await?;
    let rows = host.table.all().await?;
    let rows: Vec<_> =
        rows.into_iter().filter(|row| ids.contains(&row.subscription.id.as_str())).collect();
    match desired {
        Desired::Gone => tell_runs(options, screen, (&host, &rows), began).await?,
        _ => say_rows(screen, options.json, &rows)?,
    }
    let reached = rows.iter().all(|row| row.desired == desired && row.is_settled());
    Ok(match (stopped, reached) {
        (true, _) => Exit::Cancelled,
        (false, true) => Exit::Done,
        (false, false) => Exit::Parked,
    })
}

/// Shows what came of the runs that were removed, as an order shows its own.
async fn tell_runs(
    options: &Checked,
    screen: &Screen,
    (host, rows): (&Host, &[Row]),
    began: Timestamp,
) -> Result<(), Trouble> {
    let elapsed = SystemClock.wall().since(began);
    let mut reports = Vec::new();
    for run in rows.iter().filter_map(|row| row.run) {
        match host.head(&run).await? {
            Some(_) => reports.push(report(host, run, elapsed).await?),
            None => screen.line(format!("run {run} was over long ago, and was removed")),
        }
    }
    let (told, as_fleet) = (reports.len(), options.fleet || reports.len() != 1);
    tell(screen, FleetReport::new(reports, elapsed), told, as_fleet, options.json).map(drop)
}

/// Until when a command works.
#[derive(Debug, Clone, Copy)]
enum Goal<'a> {
    /// Until these subscriptions are as wanted, or need a person.
    Settled(&'a [&'a str]),
    /// Until nothing is left to do.
    Idle,
    /// Until it is interrupted.
    Never,
}

impl Goal<'_> {
    async fn is_reached(self, host: &Host) -> Result<bool, Trouble> {
        let ids = match self {
            Self::Settled(ids) => ids,
            Self::Idle => return host.is_idle().await,
            Self::Never => return Ok(false),
        };
        for id in ids {
            let row = host.table.get(id).await?.ok_or_else(|| unknown(id))?;
            if !row.is_settled() && !host.is_parked(&row).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Works until something is so, or it is interrupted; answers whether it was.
async fn until(host: &Host, screen: &Screen, goal: Goal<'_>) -> Result<bool, Trouble> {
    let worker = host.worker();
    let (listening, mut stop) = interrupted();
    let working = async {
        let mut said = BTreeMap::new();
        loop {
            for row in host.table.all().await? {
                let (id, state) = (row.subscription.id, row.state.as_str());
                if said.insert(id.clone(), state) != Some(state) {
                    screen.line(format!("{id:<14} {state}"));
                }
            }
            if goal.is_reached(host).await? {
                return Ok::<_, Trouble>(false);
            }
            clock::sleep(LOOK_EVERY).await;
        }
    };
    let ended = tokio::select! {
        ended = working => ended,
        trouble = reconciled(host) => Err(trouble),
        // An error means that nobody listens for interrupts any more.
        () = async { drop(stop.wait_for(|stopped| *stopped).await) } => Ok(true),
    };
    worker.stop().await;
    drop(listening);
    ended
}

async fn work(options: &Checked, screen: &Screen, until_idle: bool) -> Result<Exit, Trouble> {
    let host = Host::open(options).await?;
    screen.line("working; Ctrl-C or SIGTERM ends it, and what is open goes on later");
    screen.line(format!("webhooks are taken at {}", host.address()));
    let goal = if until_idle { Goal::Idle } else { Goal::Never };
    let stopped = until(&host, screen, goal).await?;
    let rows = host.table.all().await?;
    say_rows(screen, options.json, &rows)?;
    // What waits for a person is not as wanted.
    let is_well = stopped || rows.iter().all(Row::is_settled);
    Ok(if is_well { Exit::Done } else { Exit::Parked })
}

/// Ends subscriptions when their time has come: by a run each, so that no crash forgets one. The
/// cloud is not needed, so it goes while `work` runs. Of several times the first one counts.
async fn cancel(options: &Checked, screen: &Screen, after: Duration) -> Result<Exit, Trouble> {
    place::prepare(&options.data_dir)?;
    let (store, table) = table(options).await?;
    let ending = ending(&table).map_err(|error| Trouble::bug("saga", error.to_string()))?;
    let engine = provision_core::Engine::builder(store).register(ending).build().await?;
    let mut ends = BTreeMap::new();
    for Wanted { id, .. } in &options.wanted {
        let row = table.get(id).await?.ok_or_else(|| unknown(id))?;
        let ending = Ending { subscription: id.clone(), payments: row.payments };
        if row.desired == Desired::Gone || after.is_zero() {
            table.end(&ending).await?;
            screen.line(format!("{id:<14} ends now"));
            ends.insert(id, 0);
            continue;
        }
        let start = engine.start(END, &ending).tenant(row.subscription.customer).delay(after);
        let now = SystemClock.wall();
        let at = table.end_later(&ending, now.plus(after), start.prepare().await?).await?;
        // An end whose time has come, and that no worker has seen to yet, is now.
        let left = at.since(now).as_millis().div_ceil(1_000);
        screen.line(format!("{id:<14} ends in {left} s"));
        ends.insert(id, left);
    }
    if options.json {
        print_json(&json!({ "ends_in_s": ends }))?;
    }
    Ok(Exit::Done)
}

/// The store alone: what is only looked at needs no cloud, and no other command to be over.
async fn table(options: &Checked) -> Result<(SqliteStore, Table), Trouble> {
    let store = Opened::open(&StoreAt::Sqlite(options.file.clone())).await?;
    let Opened::Sqlite(store) = store else {
        return Err(Trouble::bug("store", "a SQLite file was opened as another store"));
    };
    let table = Table::open(&store).await?;
    Ok((store, table))
}

async fn status(options: &Checked, screen: &Screen) -> Result<Exit, Trouble> {
    let (_store, table) = table(options).await?;
    say_rows(screen, options.json, &table.all().await?)?;
    Ok(Exit::Done)
}

fn say_rows(screen: &Screen, json: bool, rows: &[Row]) -> Result<(), Trouble> {
    if json {
        let rows: Vec<_> = rows.iter().map(row_json).collect();
        return print_json(&json!({ "subscriptions": rows }));
    }
    for row in rows {
        let order = &row.subscription;
        let (id, state, desired) = (&order.id, row.state.as_str(), row.desired.as_str());
        let (preset, region) = (order.preset, &order.region);
        let phase = row.phase.as_deref().unwrap_or("-");
        let place = row.agent.as_ref().and_then(|agent| agent.tailnet_ipv4.as_deref());
        let (place, health) = (place.unwrap_or("-"), health(row).unwrap_or("-"));
        screen.line(format!(
            "{id:<14} {state:<13} wanted {desired:<8} {phase:<18} {preset:<7} {region:<5} \
             {health:<9} {place}"
        ));
    }
    Ok(())
}

/// Whether an agent that is to answer does; none where nobody has asked it yet.
fn health(row: &Row) -> Option<&'static str> {
    let heard = row.heard.filter(|_| row.state == State::Running)?;
    Some(if heard.is_well() { "healthy" } else { "unhealthy" })
}

/// A row as a status page takes it.
fn row_json(row: &Row) -> Value {
    let order = &row.subscription;
    let agent = row.agent.as_ref();
    json!({
        "id": order.id, "customer": order.customer, "preset": order.preset.as_str(),
        "desired": row.desired.as_str(), "state": row.state.as_str(), "phase": row.phase,
        "run": row.run.map(|run| run.to_string()),
        "health": health(row),
        "seen_at_ms": row.heard.and_then(|heard| heard.seen_at).map(Timestamp::as_millis),
        "region": agent.map_or(&order.region, |agent| &agent.location),
        "server": agent.map(|agent| agent.server),
        "server_type": agent.map(|agent| &agent.server_type),
        "ipv4": agent.and_then(|agent| agent.ipv4.as_ref()),
        "tailnet_ipv4": agent.and_then(|agent| agent.tailnet_ipv4.as_ref()),
        "tailnet_name": agent.map(|agent| &agent.tailnet_name),
    })
}

/// What machines cost by the month, by customer: from the ledger, so also what is being removed.
async fn cost(options: &Checked, screen: &Screen) -> Result<Exit, Trouble> {
    let (store, table) = table(options).await?;
    let engine = provision_core::Engine::builder(store).build().await?;
    let mut customers = BTreeMap::new();
    for row in table.all().await? {
        customers.entry(row.subscription.customer).or_insert(BTreeMap::new());
    }
    for (customer, sums) in &mut customers {
        *sums = engine.monthly_cost(Some(customer)).await?;
    }
    if options.json {
        print_json(&json!({ "monthly_milli": customers }))?;
    }
    for (customer, sums) in &customers {
        for (currency, milli) in sums {
            let (whole, cents) = (milli / 1_000, milli % 1_000 / 10);
            screen.line(format!("{customer:<14} {whole}.{cents:02} {currency}/month"));
        }
    }
    Ok(Exit::Done)
}

/// Once a day: what is at the providers and wanted by nobody, and what is wanted and not there.
async fn sweep(options: &Checked, screen: &Screen) -> Result<Exit, Trouble> {
    let host = Host::open(options).await?;
    let mut report = host.engine.sweep(false).await?;
    for _ in 0..SWEEPS_MAX {
        // Machines that are being made go before: it looks again when it may.
        if !is_throttled(&report) {
            break;
        }
        clock::sleep(SWEEP_AGAIN).await;
        report = host.engine.sweep(false).await?;
    }
    let report = without_noise(report);
    let alerts = alerts(&report);
    for alert in &alerts {
        screen.line(format!("ALERT {alert}"));
    }
    for row in &report.unverified {
        screen.line(format!("not proven gone yet: {}.{} of {}", row.provider, row.kind, row.path));
    }
    screen.line(format!("sweep: {} as wanted", report.wanted));
    if options.json {
        print_json(&report)?;
    }
    Ok(if alerts.is_empty() { Exit::Done } else { Exit::Parked })
}
