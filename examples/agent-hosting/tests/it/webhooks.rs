//! What the payment provider delivers, over HTTP and signed, until a page that polls shows it.

use std::time::Duration;

use agent_hosting::{
    host::Host,
    input::{Preset, Subscription},
    payments::{deliver, ended, paid},
    table::{Desired, State},
    web::DEMO_SECRET,
};
use provision_core::{Secret, Timestamp, clock};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    life::{options, until},
    place::Place,
};

fn order(id: &str) -> Subscription {
    Subscription::new(id, "acme", Preset::Small, "nbg1").unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + second * 1_000)
}

async fn told(host: &Host, body: &str) -> u16 {
    deliver(host.address(), &Secret::new(DEMO_SECRET), body).await.unwrap()
}

/// What the page of a subscription shows; none of one that nobody has paid for.
async fn page(host: &Host, id: &str) -> Option<Value> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{}/subscriptions/{id}", host.address()));
    let answer = answer.send().await.unwrap();
    let is_there = answer.status().as_u16() == 200;
    let text = answer.text().await.unwrap();
    is_there.then(|| serde_json::from_str(&text).unwrap())
}

// covers: R2-03, R2-05, R2-22, R2-26
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_payment_becomes_an_agent_on_the_page_and_a_signed_end_removes_it() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    let worker = host.worker();
    let payment = paid("evt_1", at(1), &order("a"), "sub_1");
    let forged = Secret::new("whsec_guess");
    assert_eq!(deliver(host.address(), &forged, &payment).await.unwrap(), 400);
    assert_eq!(page(&host, "a").await, None, "a forgery leaves nothing");

    // Delivered twenty times at once, as it happens.
    let mut deliveries = JoinSet::new();
    for _ in 0..20 {
        let (address, payment) = (host.address().to_owned(), payment.clone());
        let secret = Secret::new(DEMO_SECRET);
        deliveries.spawn(async move { deliver(&address, &secret, &payment).await.unwrap() });
    }
    assert!(deliveries.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!(page(&host, "a").await.unwrap()["state"], "pending", "shown at once");
    let row = until(&host, "a", |row| row.state == State::Running).await;
    let shown = page(&host, "a").await.unwrap();
    assert_eq!((&shown["state"], &shown["phase"]), (&"running".into(), &"running".into()));
    assert_eq!((row.payments, shown.get("customer"), shown.get("ipv4")), (1, None, None));
    let runs = host.engine.runs(&Default::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "{runs:?}");

    let end = ended("evt_2", at(60), "a", "sub_1");
    assert_eq!((told(&host, &end).await, told(&host, &end).await), (200, 200));
    until(&host, "a", |row| row.state == State::Gone).await;
    assert!(host.cloud().inventory().is_empty(), "{}", host.cloud().inventory());
    // What comes late changes nothing: a repetition, and another event of what is over.
    let late = paid("evt_3", at(59), &order("a"), "sub_1");
    assert_eq!((told(&host, &payment).await, told(&host, &late).await), (200, 200));
    assert_eq!(page(&host, "a").await.unwrap()["desired"], "gone");
    // Another one begins anew, and no end of the old one ends that, however late it comes.
    assert_eq!(told(&host, &paid("evt_4", at(61), &order("a"), "sub_2")).await, 200);
    let again = ended("evt_5", at(9_000), "a", "sub_1");
    assert_eq!((told(&host, &end).await, told(&host, &again).await), (200, 200));
    until(&host, "a", |row| row.state == State::Running).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    let good = paid("evt_1", at(1), &order("a"), "sub_1");
    let cases = [
        good.replace("nbg1", "mars-1"),
        good.replace("\"small\"", "\"free\""),
        good.replace("\"metadata\"", "\"other\""),
        good.replace("\"paid\"", "\"promised\""),
        r#"{"id":"evt_1"}"#.to_owned(),
    ];
    for body in cases {
        assert_eq!(told(&host, &body).await, 422, "{body}");
    }
    for body in [good.replace("\"paid\"", "\"unpaid\""), good.replace("checkout.", "invoice.")] {
        assert_eq!(told(&host, &body).await, 200, "{body}");
    }
    assert!(host.table.all().await.unwrap().is_empty());
    // An end that comes before its payment ends it all the same.
    assert_eq!(told(&host, &ended("evt_2", at(2), "a", "sub_1")).await, 200);
    assert_eq!(told(&host, &good).await, 200);
    assert!(host.table.all().await.unwrap().is_empty());
    // Another kind of machine under a live subscription is not taken for the one that is there.
    assert_eq!(told(&host, &paid("evt_3", at(3), &order("a"), "sub_2")).await, 200);
    let large = Subscription::new("a", "acme", Preset::Large, "nbg1").unwrap();
    assert_eq!(told(&host, &paid("evt_4", at(4), &large, "sub_3")).await, 422);
    let row = host.table.get("a").await.unwrap().unwrap();
    assert_eq!((row.desired, row.payments, row.subscription), (Desired::Running, 1, order("a")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paid_later_or_is_free_is_taken_and_an_end_needs_no_word_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    let desired = async |id: &str| host.table.get(id).await.unwrap().map(|row| row.desired);
    // A slow way to pay: nothing is begun before its money has come, and then once.
    let slow = paid("evt_1", at(1), &order("slow"), "sub_1");
    assert_eq!(told(&host, &slow.replace("\"paid\"", "\"unpaid\"")).await, 200);
    assert_eq!(desired("slow").await, None);
    let failed = slow.replace("evt_1", "evt_2").replace("completed", "async_payment_failed");
    assert_eq!(told(&host, &failed).await, 200);
    assert_eq!(desired("slow").await, None);
    let came = slow.replace("evt_1", "evt_3").replace("completed", "async_payment_succeeded");
    assert_eq!((told(&host, &came).await, told(&host, &came).await), (200, 200));
    assert_eq!(desired("slow").await, Some(Desired::Running));
    let free = paid("evt_4", at(4), &order("free"), "sub_4");
    assert_eq!(told(&host, &free.replace("\"paid\"", "\"no_payment_required\"")).await, 200);
    assert_eq!(desired("free").await, Some(Desired::Running));
    // Somebody has cleared what was noted at the provider: its own id is enough.
    let end = ended("evt_5", at(5), "free", "sub_4");
    let bare = end.replace(r#"{"subscription":"free"}"#, "{}");
    assert_ne!(end, bare);
    assert_eq!(told(&host, &bare).await, 200);
    assert_eq!(
        (desired("free").await, desired("slow").await),
        (Some(Desired::Gone), Some(Desired::Running))
    );
    // The money of what is over already begins nothing.
    assert_eq!(told(&host, &ended("evt_6", at(6), "late", "sub_6")).await, 200);
    let late = paid("evt_7", at(7), &order("late"), "sub_6");
    let late = late.replace("completed", "async_payment_succeeded");
    assert_eq!(told(&host, &late).await, 200);
    assert_eq!(desired("late").await, None);
}

// covers: R2-27
#[test]
fn a_failure_is_mailed_once_although_the_process_dies_before_it_is_recorded() {
    let place = Place::new();
    let died = place.run(&["--fail-at", "device", "--crash-at", "tell"]);
    assert_eq!(died.code, None, "{died:?}");
    assert_eq!(place.mails().len(), 1, "it was sent, and nobody has written that down");
    place.done(&["work", "--until-idle"]);
    assert_eq!(place.state(), "failed");
    let mails = place.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0]["to"][0], "ops@example.com");
    assert_eq!(mails[0]["subject"], "No agent for subscription demo");
    let text = mails[0]["text"].as_str().unwrap();
    assert!(text.contains("device: ") && text.contains("Nothing of it is left"), "{text}");
    assert!(mails[0]["key"].is_string(), "{mails:?}");
    // What succeeds, and what is removed by an order, is no failure.
    place.done(&["--subscription", "b"]);
    place.done(&["--tear-down", "--subscription", "b"]);
    assert_eq!(place.mails().len(), 1);
}

#[test]
fn events_can_be_delivered_by_hand_and_an_open_port_needs_a_secret() {
    let place = Place::new();
    let address = format!("http://127.0.0.1:{}", free_port());
    let listen = address.trim_start_matches("http://").to_owned();
    let mut worker = place.spawn(&["work", "--listen", &listen]);
    let tell = |kind: &str, id: &str| {
        place.run(&["event", kind, "--to", &address, "--id", id, "--preset", "medium"])
    };
    // It may take a moment until it listens.
    let told = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        tell("paid", "evt_1").code == Some(0)
    });
    assert!(told, "nobody listens");
    let reached = |state: &str| {
        (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            place.state() == state
        })
    };
    assert!(reached("running"), "{:?}", place.rows());
    assert_eq!(place.rows()[0]["preset"], "medium");
    assert_eq!(tell("ended", "evt_2").code, Some(0));
    assert!(reached("gone"), "{:?}", place.rows());
    worker.kill().unwrap();
    worker.wait().unwrap();
    let ran = place.run(&["work", "--listen", "0.0.0.0:0"]);
    assert!(ran.code == Some(64) && ran.stderr.contains("error[webhook_secret]"), "{ran:?}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_ended_before_it_begins_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(&options(dir.path())).await.unwrap();
    assert_eq!(told(&host, &paid("evt_1", at(1), &order("a"), "sub_1")).await, 200);
    assert_eq!(told(&host, &ended("evt_2", at(2), "a", "sub_1")).await, 200);
    until(&host, "a", |row| row.state == State::Gone).await;
    clock::sleep(Duration::from_millis(100)).await;
    assert!(host.engine.runs(&Default::default()).await.unwrap().runs.is_empty());
}
