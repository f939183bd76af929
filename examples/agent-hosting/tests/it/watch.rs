//! What is looked at again and again, with several workers and by one of them each time.

use std::{collections::BTreeSet, time::Duration};

use agent_hosting::{
    cli::{Checked, Do},
    host::{Host, KEPT, retention},
    mails::{FROM, MAIL},
    reconcile::reconcile,
    table::State,
    watch::{HEALTH, SWEEP, Watch},
};
use provision_adapters::{
    resend::{Mail, sim::Email},
    sim::{Fault, FaultRule},
};
use provision_core::{
    OwnerMark, RunStatus, clock,
    store::{RunFilter, RunHead},
};

use provision_store_sqlite::SqliteStore;

use crate::{
    life::{open, options, pay, until},
    place::Place,
};

const NEVER: Duration = Duration::from_secs(30 * 24 * 3_600);
const SOON: Duration = Duration::from_secs(1);

async fn watching(dir: &std::path::Path, watch: Watch) -> Host {
    let what = Do::Work { until_idle: false, watch };
    Host::open(&Checked { what, ..options(dir) }).await.unwrap()
}

/// The mails of a kind that went out.
fn mails(host: &Host, kind: &str) -> Vec<Email> {
    let mails = host.cloud().resend().with(|sim| sim.mails_to("ops@example.com"));
    mails.into_iter().filter(|mail| mail.tags["kind"] == kind).collect()
}

/// Waits until a mail of this kind went out.
async fn mailed(host: &Host, kind: &str) {
    let looked = async {
        while mails(host, kind).is_empty() {
            reconcile(host).await.unwrap();
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(60), looked).await.expect("a minute is enough");
}

/// The runs of sweeps.
async fn sweeps(host: &Host) -> Vec<RunHead> {
    let filter = RunFilter { saga: Some(SWEEP.name().to_owned()), ..RunFilter::default() };
    host.engine.runs(&filter).await.unwrap().runs
}

/// Waits until a sweep is over.
async fn swept(host: &Host) {
    let over = async {
        while !sweeps(host).await.iter().any(|run| run.status == RunStatus::Succeeded) {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(60), over).await.expect("a minute is enough");
}

// covers: R2-59
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_misses_two_beats_is_told_once_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let host = watching(dir.path(), Watch { heartbeat: SOON, sweep: NEVER }).await;
    let workers = [host.worker(), host.worker()];
    for id in ["a", "b"] {
        pay(&host, id, "fsn1").await;
    }
    let seen = |row: &agent_hosting::table::Row| row.heard.is_some_and(|heard| heard.missed == 0);
    until(&host, "a", seen).await;
    until(&host, "b", seen).await;
    host.cloud().machines().with(|machines| machines.set_silent("agent-a", true));
    let late = until(&host, "a", |row| row.heard.is_some_and(|heard| heard.missed > 0)).await;
    assert!(late.heard.unwrap().seen_at.is_some(), "{late:?}");
    until(&host, "a", |row| row.heard.is_some_and(|heard| heard.missed >= 4)).await;
    mailed(&host, "silent").await;
    let told = mails(&host, "silent");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].text.as_deref(), Some("a\n"), "the other one is well");
    host.cloud().machines().with(|machines| machines.set_silent("agent-a", false));
    let back = until(&host, "a", |row| row.heard.is_some_and(|heard| heard.missed == 0)).await;
    assert!(back.state == State::Running && back.heard.unwrap().is_well());
    for worker in workers {
        worker.stop().await;
    }
}

// covers: R2-59, R2-64
#[tokio::test(flavor = "multi_thread")]
async fn a_stray_is_found_by_a_schedule_that_fires_once_with_several_workers() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    let worker = host.worker();
    pay(&host, "a", "fsn1").await;
    until(&host, "a", |row| row.state == State::Running).await;
    worker.stop().await;
    drop(host);

    let host = watching(dir.path(), Watch { heartbeat: NEVER, sweep: SOON }).await;
    let workers = [host.worker(), host.worker(), host.worker()];
    swept(&host).await;
    assert_eq!(mails(&host, "sweep"), [], "all is as wanted");
    let nobody = "0197b000-0000-7000-8000-000000000001".parse().unwrap();
    let labels = OwnerMark::new(nobody, "server").labels();
    let stray = host.cloud().hetzner().with(|sim| sim.seed_server("agent-lost", &labels));
    mailed(&host, "sweep").await;
    for worker in workers {
        worker.stop().await;
    }
    let runs = sweeps(&host).await;
    let keys: BTreeSet<_> = runs.iter().map(|run| run.key.clone().unwrap()).collect();
    assert_eq!(keys.len(), runs.len(), "one run for each firing");
    assert!(keys.iter().all(|key| key.starts_with("schedule:agent-sweep:")), "{keys:?}");
    let told = mails(&host, "sweep");
    let text = told[0].text.as_deref().unwrap();
    assert!(text.contains(&format!("nobody wants hetzner.server {stray}")), "{text}");
    assert!(told.len() <= sweeps(&host).await.len(), "no sweep has told it twice: {told:?}");
}

/// The runs of mails.
async fn sendings(host: &Host) -> Vec<RunHead> {
    let filter = RunFilter { saga: Some(MAIL.name().to_owned()), ..RunFilter::default() };
    host.engine.runs(&filter).await.unwrap().runs
}

// covers: R2-27
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_tried_again_until_it_goes_out_and_holds_no_subscription_up() {
    let dir = tempfile::tempdir().unwrap();
    let fails = Checked { fail_at: Some("device".to_owned()), ..options(dir.path()) };
    let (host, worker) = open(&fails).await;
    let away = FaultRule::new(Fault::Status(503)).method("POST");
    let away = host.cloud().resend().faults().add(away);
    pay(&host, "a", "fsn1").await;
    until(&host, "a", |row| row.state == State::Failed).await;
    // More often than a step is tried where nobody says anything.
    let often = async {
        while host.cloud().resend().requests().len() < 7 {
            reconcile(&host).await.unwrap();
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(120), often).await.expect("it is not given up");
    assert_eq!((mails(&host, "failure"), host.is_told().await.unwrap()), (Vec::new(), false));
    host.cloud().resend().faults().remove(away);
    mailed(&host, "failure").await;
    // Written down once more, as after a crash between the two, it is the same mail.
    let sent = sendings(&host).await.remove(0);
    let key = sent.key.unwrap().strip_prefix("mail:").unwrap().to_owned();
    let order = host.table.get("a").await.unwrap().unwrap().subscription;
    let told = async {
        while !host.is_told().await.unwrap() {
            reconcile(&host).await.unwrap();
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    host.table.queue(&key, &Mail::new(FROM, "ops@example.com", order.id)).await.unwrap();
    clock::within(Duration::from_secs(60), told).await.expect("there is nothing to send");
    assert_eq!((sendings(&host).await.len(), mails(&host, "failure").len()), (1, 1));
    worker.stop().await;
}

/// Lets everything that has ended have ended so long ago.
async fn age(dir: &std::path::Path, time: Duration) {
    let store = SqliteStore::open(dir.join("provision.db")).await.unwrap();
    let ms = i64::try_from(time.as_millis()).unwrap();
    let age = move |tx: &rusqlite::Transaction<'_>| {
        tx.execute("update provision_heads set updated_at = updated_at - ?1", [ms])?;
        tx.execute("update provision_runs set ended_at = ended_at - ?1", [ms])?;
        tx.execute("update provision_ledger set watch_at = null where state = 'gone'", [])
    };
    store.execute_host(age).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_leave_nothing_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let host = watching(dir.path(), Watch { heartbeat: SOON, sweep: NEVER }).await;
    let worker = host.worker();
    let over = async || {
        let filter = RunFilter { saga: Some(HEALTH.name().to_owned()), ..RunFilter::default() };
        let runs = host.engine.runs(&filter).await.unwrap().runs;
        runs.iter().filter(|run| run.status == RunStatus::Succeeded).count()
    };
    let beaten = async {
        while over().await < 3 {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(60), beaten).await.expect("a beat is a second");
    worker.stop().await;
    age(dir.path(), KEPT).await;
    let removed = host.engine.prune(&retention()).await.unwrap();
    assert!(removed.removed >= 3 && removed.forgotten == 0, "{removed:?}");
    age(dir.path(), KEPT).await;
    let forgotten = host.engine.prune(&retention()).await.unwrap();
    assert_eq!((forgotten.removed, forgotten.forgotten), (0, removed.removed));
}

#[test]
fn a_run_that_was_removed_long_ago_holds_nobody_up() {
    let place = Place::new();
    place.done(&[]);
    place.done(&["--tear-down"]);
    let gone = |place: &Place| {
        let looking = async {
            age(place.path(), KEPT).await;
            let host = Host::open(&options(place.path())).await.unwrap();
            let removed = host.engine.prune(&retention()).await.unwrap().removed;
            let row = host.table.get("demo").await.unwrap().unwrap();
            assert!(host.head(&row.run.unwrap()).await.unwrap().is_none());
            removed
        };
        tokio::runtime::Runtime::new().unwrap().block_on(looking)
    };
    assert_eq!(gone(&place), 1);
    let told = place.done(&["--tear-down"]);
    assert_eq!(told["runs"], serde_json::json!([]), "{told}");
    let paid = async {
        let host = Host::open(&options(place.path())).await.unwrap();
        let order = host.table.get("demo").await.unwrap().unwrap().subscription;
        assert!(host.table.pay("demo/2", &order).await.unwrap());
    };
    tokio::runtime::Runtime::new().unwrap().block_on(paid);
    place.done(&["work", "--until-idle"]);
    assert_eq!(place.state(), "running");
}
