//! A host that works, seen from inside.

use std::{path::Path, time::Duration};

use agent_hosting::{
    cli::{Checked, Do},
    host::Host,
    input::{Preset, Subscription},
    reconcile::reconcile,
    table::{Desired, Row, State},
};
use provision_adapters::sim::{Fault, FaultRule};
use provision_core::{By, LedgerQuery, Resolution, ResourceState, RunStatus, Worker, clock};
use tempfile::TempDir;

use crate::place::Place;

/// A host that works and keeps no watch.
pub(crate) fn options(data_dir: &Path) -> Checked {
    Checked {
        what: Do::Order,
        wanted: Vec::new(),
        fleet: true,
        fail_at: None,
        crash_at: None,
        data_dir: data_dir.to_owned(),
        file: data_dir.join("provision.db"),
        json: false,
        speed: 0.004,
        listen: "127.0.0.1:0".parse().unwrap(),
        alerts_to: "ops@example.com".to_owned(),
    }
}

/// A host that works, in a folder of its own.
pub(crate) async fn working() -> (TempDir, Host, Worker) {
    let dir = tempfile::tempdir().unwrap();
    let (host, worker) = open(&options(dir.path())).await;
    (dir, host, worker)
}

pub(crate) async fn open(options: &Checked) -> (Host, Worker) {
    let host = Host::open(options).await.unwrap();
    let worker = host.worker();
    (host, worker)
}

/// Pays for an agent and waits until it runs.
async fn running(host: &Host, id: &str) -> Row {
    pay(host, id, "fsn1").await;
    until(host, id, |row| row.state == State::Running).await
}

/// Says what is wanted of an agent and waits until it is so.
async fn brought(host: &Host, id: &str, desired: Desired) -> Row {
    host.table.want(&[id], desired).await.unwrap();
    until(host, id, Row::is_settled).await
}

/// Lets a call of the simulated Hetzner be refused for good.
fn refused(host: &Host, method: &str, path: &str) {
    let refused = FaultRule::new(Fault::Status(403)).method(method).path_contains(path);
    host.cloud().hetzner().faults().add(refused);
}

/// Reconciles until a row is as it should be.
pub(crate) async fn until(host: &Host, id: &str, what: impl Fn(&Row) -> bool + Send + Sync) -> Row {
    let looked = async {
        loop {
            reconcile(host).await.unwrap();
            let row = host.table.get(id).await.unwrap().unwrap();
            if what(&row) {
                return row;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::within(Duration::from_secs(120), looked).await.expect("two minutes are enough")
}

pub(crate) async fn pay(host: &Host, id: &str, region: &str) {
    let order = Subscription::new(id, "acme", Preset::Small, region).unwrap();
    assert!(host.table.pay(&format!("{id}/1"), &order).await.unwrap());
    let row = host.table.get(id).await.unwrap().unwrap();
    assert_eq!(row.state, State::Pending, "there to be seen as soon as it was paid for");
}

// covers: R2-19, R2-22
#[tokio::test(flavor = "multi_thread")]
async fn five_phases_are_seen_in_the_table_while_a_payment_becomes_an_agent() {
    let (_dir, host, worker) = working().await;
    pay(&host, "a", "fsn1").await;
    running_in_phases(&host, "a").await;
    worker.stop().await;
}

/// Waits until an agent runs, and looks at the phases that its row shows meanwhile.
pub(crate) async fn running_in_phases(host: &Host, id: &str) -> Row {
    let seen = std::sync::Mutex::new(Vec::<String>::new());
    let row = until(host, id, |row| {
        let mut seen = seen.lock().unwrap();
        if let Some(phase) = &row.phase
            && seen.last() != Some(phase)
        {
            seen.push(phase.clone());
        }
        row.state == State::Running
    });
    let row = row.await;
    let seen = seen.into_inner().unwrap();
    let order = ["terraform_init", "vm_created", "network_joined", "ansible_configure", "running"];
    // Who looks now and then may miss a short one, and never sees one twice or out of order.
    let at = |phase: &String| order.iter().position(|one| one == phase).unwrap();
    assert!(seen.iter().map(at).is_sorted(), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("running"));
    let snapshot = host.engine.snapshot(&row.run.unwrap()).await.unwrap();
    let mut phases: Vec<_> = snapshot.steps.into_iter().filter_map(|step| step.phase).collect();
    phases.dedup();
    assert_eq!(phases, order);
    row
}

// covers: R2-31
#[tokio::test(flavor = "multi_thread")]
async fn a_region_without_room_holds_no_other_region_up() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    host.cloud().hetzner().with(|sim| sim.set_full("fsn1", true));
    let worker = host.worker();
    for number in 0..5 {
        pay(&host, &format!("full-{number}"), "fsn1").await;
    }
    pay(&host, "free", "nbg1").await;
    let free = until(&host, "free", |row| row.state == State::Running).await;
    assert_eq!(free.agent.unwrap().location, "nbg1");
    let full = host.table.get("full-0").await.unwrap().unwrap();
    assert_eq!(full.state, State::Provisioning);
    host.cloud().hetzner().with(|sim| sim.set_full("fsn1", false));
    for number in 0..5 {
        until(&host, &format!("full-{number}"), |row| row.state == State::Running).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_first_boot_never_ends_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    host.cloud().machines().with(|machines| machines.break_boot("agent-a"));
    let worker = host.worker();
    pay(&host, "a", "fsn1").await;
    until(&host, "a", |row| row.state == State::Failed).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_key_that_ran_out_is_minted_anew() {
    let (_dir, host, worker) = working().await;
    // Over before a machine could be made with it.
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(Some(60)));
    pay(&host, "a", "fsn1").await;
    let first = until(&host, "a", |row| row.run.is_some()).await.run;
    let next = until(&host, "a", |row| row.run != first).await;
    assert!(next.state != State::Failed, "{next:?}");
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(None));
    until(&host, "a", |row| row.state == State::Running).await;
    let things = host.cloud().inventory().to_string();
    assert_eq!(things.matches("server").count(), 1, "{things}");
    worker.stop().await;
}

/// Waits until a row is as it should be, and does nothing for it.
async fn watched(host: &Host, id: &str, what: impl Fn(&Row) -> bool + Send + Sync) -> Row {
    let looked = async {
        loop {
            let row = host.table.get(id).await.unwrap().unwrap();
            if what(&row) {
                return row;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::within(Duration::from_secs(120), looked).await.expect("two minutes are enough")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redriven_before_it_begins_anew_stands_again() {
    let (_dir, host, worker) = working().await;
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(Some(60)));
    pay(&host, "a", "fsn1").await;
    reconcile(&host).await.unwrap();
    let failed = watched(&host, "a", |row| row.state == State::Pending).await;
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(None));
    host.engine.redrive(&failed.run.unwrap(), By::new("operator", "no hurry")).await.unwrap();
    let row = watched(&host, "a", |row| row.state == State::Running).await;
    assert_eq!(row.run, failed.run);
    // It is known, so it is removed when nobody pays any more.
    brought(&host, "a", Desired::Gone).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_left_behind_is_not_begun_anew_beside_it() {
    let (_dir, host, worker) = working().await;
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(Some(60)));
    refused(&host, "DELETE", "/ssh_keys");
    pay(&host, "a", "fsn1").await;
    reconcile(&host).await.unwrap();
    let run = host.table.get("a").await.unwrap().unwrap().run.unwrap();
    let stands = async |status: RunStatus| {
        let looked = async {
            while host.engine.run(&run).await.unwrap().status != status {
                clock::sleep(Duration::from_millis(10)).await;
            }
        };
        clock::within(Duration::from_secs(120), looked).await.expect("two minutes are enough");
    };
    stands(RunStatus::Parked).await;
    let (by, path) = (|| By::new("operator", "it may stay"), "ssh-key".to_owned());
    host.engine.resolve(&run, Resolution::Abandon { path }, by()).await.unwrap();
    stands(RunStatus::RolledBackKeeping).await;
    let row = host.table.get("a").await.unwrap().unwrap();
    assert_eq!((row.state, row.run), (State::Failed, Some(run)), "a person has to say what next");
    host.cloud().hetzner().faults().clear();
    host.cloud().tailscale().with(|sim| sim.set_key_seconds(None));
    host.engine.redrive(&run, by()).await.unwrap();
    until(&host, "a", |row| row.state == State::Running).await;
    brought(&host, "a", Desired::Gone).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_during_the_removal_begins_anew_when_everything_is_gone() {
    let (_dir, host, worker) = working().await;
    let first = running(&host, "a").await;
    host.table.want(&["a"], Desired::Gone).await.unwrap();
    until(&host, "a", |row| row.state == State::Removing).await;
    assert!(host.table.pay("a/2", &first.subscription).await.unwrap());
    let again = until(&host, "a", |row| row.state == State::Running && row.run != first.run).await;
    assert_eq!((again.desired, again.payments), (Desired::Running, 2));
    assert_ne!(again.agent.unwrap().server, first.agent.unwrap().server);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_off_is_removed_without_being_started() {
    let (_dir, host, worker) = working().await;
    running(&host, "a").await;
    brought(&host, "a", Desired::Stopped).await;
    // Whoever would start it first would wait for ever.
    refused(&host, "POST", "poweron");
    let row = brought(&host, "a", Desired::Gone).await;
    assert_eq!((row.state, row.stop), (State::Gone, None));
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    let asked = host.cloud().hetzner().requests();
    assert!(!asked.iter().any(|request| request.path.ends_with("/poweron")), "never started");
    let rows = host.engine.ledger(&LedgerQuery::default()).await.unwrap();
    assert!(rows.iter().all(|row| row.state == ResourceState::Gone), "{rows:?}");
    // Paid for again, it begins anew and is no longer off.
    pay_again(&host, &row).await;
    until(&host, "a", |row| row.state == State::Running).await;
    worker.stop().await;
}

async fn pay_again(host: &Host, row: &Row) {
    let event = format!("{}/{}", row.subscription.id, row.payments + 1);
    assert!(host.table.pay(&event, &row.subscription).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_parked_does_not_hold_the_removal_up() {
    let (_dir, host, worker) = working().await;
    running(&host, "a").await;
    brought(&host, "a", Desired::Stopped).await;
    refused(&host, "POST", "poweron");
    host.table.want(&["a"], Desired::Running).await.unwrap();
    let starting = until(&host, "a", |row| row.state == State::Starting).await;
    let parked = async {
        while !host.is_parked(&starting).await.unwrap() {
            reconcile(&host).await.unwrap();
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Duration::from_secs(60), parked).await.expect("it is refused for good");
    brought(&host, "a", Desired::Gone).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_refused_is_given_up_and_leaves_the_machine_running() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Checked { fail_at: Some("power".to_owned()), ..options(dir.path()) };
    let (host, worker) = open(&refused).await;
    running(&host, "a").await;
    let row = brought(&host, "a", Desired::Stopped).await;
    assert_eq!((row.desired, row.stop), (Desired::Running, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_does_to_runs_reaches_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let by = || By::new("operator", "beside the table");
    let refused = Checked { fail_at: Some("finalize".to_owned()), ..options(dir.path()) };
    let (host, worker) = open(&refused).await;
    pay(&host, "a", "fsn1").await;
    let run = until(&host, "a", |row| row.state == State::Failed).await.run.unwrap();
    worker.stop().await;
    drop(host);

    let (host, worker) = open(&options(dir.path())).await;
    host.engine.redrive(&run, by()).await.unwrap();
    let row = until(&host, "a", |row| row.state == State::Running).await;
    assert_eq!((row.run, row.agent.is_some()), (Some(run), true), "the machine has its row");
    host.table.want(&["a"], Desired::Stopped).await.unwrap();
    let first = until(&host, "a", |row| row.state == State::Stopped).await.stop.unwrap();
    host.engine.tear_down(&first, by()).await.unwrap();
    // It runs for a moment, and is stopped again as it is wanted.
    until(&host, "a", |row| row.state == State::Stopped && row.stop != Some(first)).await;
    host.engine.tear_down(&run, by()).await.unwrap();
    until(&host, "a", |row| row.state == State::Gone).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redriven_after_another_order_is_removed_and_the_order_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Checked { fail_at: Some("finalize".to_owned()), ..options(dir.path()) };
    let (host, worker) = open(&refused).await;
    pay(&host, "a", "fsn1").await;
    let run = until(&host, "a", |row| row.state == State::Failed).await.run.unwrap();
    worker.stop().await;
    drop(host);

    let (host, worker) = open(&options(dir.path())).await;
    let large = Subscription::new("a", "acme", Preset::Large, "nbg1").unwrap();
    assert!(host.table.pay("a/2", &large).await.unwrap());
    host.engine.redrive(&run, By::new("operator", "beside the table")).await.unwrap();
    // The small machine stands for a moment, under an order for a large one.
    let row = watched(&host, "a", |row| row.state != State::Pending).await;
    assert_eq!((row.state, row.run, row.subscription), (State::Removing, Some(run), large.clone()));
    let row = until(&host, "a", |row| row.state == State::Running).await;
    let agent = row.agent.unwrap();
    assert!(row.run != Some(run) && agent.subscription == large, "{agent:?}");
    assert_eq!(agent.location, "nbg1");
    let things = host.cloud().inventory().to_string();
    assert_eq!(things.matches("server").count(), 1, "{things}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_parked_ends_the_wait_and_goes_on_with_the_next_process() {
    let (dir, host, worker) = working().await;
    running(&host, "a").await;
    refused(&host, "DELETE", "/servers");
    host.table.want(&["a"], Desired::Gone).await.unwrap();
    let idle = async {
        while !host.is_idle().await.unwrap() {
            reconcile(&host).await.unwrap();
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::within(Duration::from_secs(120), idle).await.expect("nobody waits for a person");
    let row = host.table.get("a").await.unwrap().unwrap();
    assert!(host.is_parked(&row).await.unwrap() && !row.is_settled(), "{row:?}");
    worker.stop().await;
    drop(host);

    // It is not refused any more, and nobody has said a word about the run.
    let (host, worker) = open(&options(dir.path())).await;
    until(&host, "a", |row| row.state == State::Gone).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_another_process_has_the_cloud_is_kept_and_the_sooner_end_counts() {
    let place = Place::new();
    let (host, worker) = open(&options(place.path())).await;
    pay(&host, "demo", "fsn1").await;
    until(&host, "demo", |row| row.state == State::Running).await;
    let stop = place.run(&["stop"]);
    assert!(stop.code != Some(0) && stop.stderr.contains("what is wanted is written"), "{stop:?}");
    until(&host, "demo", |row| row.state == State::Stopped).await;
    // What is told is the end that holds: the sooner one.
    let told = place.done(&["cancel", "--after", "72000"]);
    assert_eq!(told["ends_in_s"]["demo"], 72_000, "{told}");
    for after in ["600", "7200"] {
        let told = place.done(&["cancel", "--after", after]);
        assert!(told["ends_in_s"]["demo"].as_u64().unwrap() <= 600, "{after}: {told}");
    }
    place.done(&["cancel", "--after", "1"]);
    let first = until(&host, "demo", |row| row.state == State::Gone).await;
    // Ordered again, it is not ended by what was said of the one before.
    assert!(host.table.pay("demo/2", &first.subscription).await.unwrap());
    until(&host, "demo", |row| row.state == State::Running).await;
    place.done(&["cancel"]);
    until(&host, "demo", |row| row.state == State::Gone).await;
    worker.stop().await;
}
