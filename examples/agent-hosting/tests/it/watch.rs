//! What is looked at again and again, with several workers and by one of them each time.

use std::{collections::BTreeSet, time::Duration};

use agent_hosting::{
    cli::{Checked, Do},
    host::Host,
    reconcile::reconcile,
    table::State,
    watch::{SWEEP, Watch},
};
use provision_adapters::resend::sim::Email;
use provision_core::{
    OwnerMark, RunStatus, clock,
    store::{RunFilter, RunHead},
};

use crate::life::{options, pay, until};

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
    let by: BTreeSet<_> = told.iter().map(|mail| mail.tags["provision_run"].clone()).collect();
    assert_eq!(by.len(), told.len(), "no sweep has told it twice");
}
