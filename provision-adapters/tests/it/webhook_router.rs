//! The router that takes webhooks, over real HTTP: what is answered, how soon, and what it starts.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use provision_adapters::webhook::{Delivery, Endpoint, Taken, Untaken, Verifier};
use provision_core::{
    Engine, MemoryStore, Saga, SagaId, Secret, Timestamp,
    clock::{Clock, SystemClock},
    limit::Rate,
    store::{RunFilter, StateStore as _},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::webhook::sign;

const SECRET: &str = "whsec_router_test";
const ORDER: &str = r#"{"id":"evt_1","type":"checkout.session.completed"}"#;
const FULFIL: SagaId<String, String> = SagaId::new("fulfil", 1);

fn verifier() -> Verifier {
    let secrets = [Secret::new("whsec_next"), Secret::new(SECRET)];
    Verifier::stripe("shop", secrets).unwrap().with_body_max(4_096)
}

fn now() -> u64 {
    SystemClock.wall().as_millis() / 1_000
}

/// A host with one endpoint; it ends with the test's runtime.
async fn host(endpoint: Endpoint) -> SocketAddr {
    let app = axum::Router::new().nest("/hooks", endpoint.router("/stripe"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn fulfilment() -> Saga<String, String> {
    Saga::define(FULFIL, |s| s.value("id").input((), |order, ()| order.clone())).unwrap()
}

async fn engine(store: &MemoryStore) -> Engine {
    Engine::builder(store.clone()).register(fulfilment()).build().await.unwrap()
}

#[derive(serde::Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Starts the run of an order, as a host would.
async fn take(engine: Engine, delivery: Delivery) -> Result<Taken, Untaken> {
    let event: Event = delivery.json()?;
    if event.kind != "checkout.session.completed" {
        return Ok(Taken::Nothing);
    }
    let run = engine.start(FULFIL, &event.id).key(delivery.key()?).await?;
    Ok(Taken::Run(*run.id()))
}

fn endpoint(engine: &Engine) -> Endpoint {
    let engine = engine.clone();
    Endpoint::new(verifier(), move |delivery| take(engine.clone(), delivery))
}

/// Status, body and `retry-after`.
type Told = (u16, String, bool);

async fn deliver(at: SocketAddr, signature: &str, body: &str) -> Told {
    deliver_by(&client(), at, signature, body).await
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn deliver_by(client: &reqwest::Client, at: SocketAddr, signature: &str, body: &str) -> Told {
    let request = client.post(format!("http://{at}/hooks/stripe"));
    let answer = request.header("stripe-signature", signature).body(body.to_owned()).send();
    let answer = answer.await.unwrap();
    let again = answer.headers().contains_key("retry-after");
    (answer.status().as_u16(), answer.text().await.unwrap(), again)
}

async fn runs(store: &MemoryStore) -> usize {
    store.list(&RunFilter::default()).await.unwrap().runs.len()
}

// covers: X7, X1, X6
#[tokio::test]
async fn what_is_not_proven_is_refused_and_starts_nothing() {
    let store = MemoryStore::new();
    let at = host(endpoint(&engine(&store).await)).await;
    let good = sign(SECRET, now(), ORDER.as_bytes());
    let large = format!("{{\"id\":\"evt_2\",\"x\":\"{}\"}}", "x".repeat(5_000));
    let untyped = r#"{"id":"evt_3"}"#;
    let cases = [
        (sign("whsec_guess", now(), ORDER.as_bytes()), ORDER, 400, "webhook_forged"),
        (good.clone(), untyped, 400, "webhook_forged"),
        (sign(SECRET, now() - 301, ORDER.as_bytes()), ORDER, 400, "webhook_stale"),
        (sign(SECRET, now() + 400, ORDER.as_bytes()), ORDER, 400, "webhook_stale"),
        (String::new(), ORDER, 400, "webhook_malformed"),
        (sign(SECRET, now(), large.as_bytes()), &large, 413, "webhook_too_large"),
        (sign(SECRET, now(), untyped.as_bytes()), untyped, 422, "event_unreadable"),
    ];
    for (signature, body, status, code) in cases {
        let (told, text, _) = deliver(at, &signature, body).await;
        assert_eq!((told, text), (status, format!("{{\"error\":\"{code}\"}}")), "{code}");
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = client.get(format!("http://{at}/hooks/stripe")).send().await.unwrap();
    assert_eq!(get.status(), 405);
    let unsigned = client.post(format!("http://{at}/hooks/stripe")).body(ORDER).send();
    assert_eq!(unsigned.await.unwrap().text().await.unwrap(), r#"{"error":"webhook_unsigned"}"#);
    assert_eq!(runs(&store).await, 0);
    let other = r#"{"id":"evt_4","type":"invoice.paid"}"#;
    let signature = sign(SECRET, now(), other.as_bytes());
    assert_eq!(deliver(at, &signature, other).await, (200, r#"{"run":null}"#.to_owned(), false));
    assert_eq!(runs(&store).await, 0);
    let shown = format!("{:?}", endpoint(&engine(&store).await));
    assert!(!shown.contains("whsec"), "{shown}");
}

/// How soon an answer is promised. A hundred senders and other tests share the machine with the
/// host here: three times as long is allowed to it.
const PROMISED: Duration = Duration::from_secs(2);

// covers: X7, S2, R2-18, R3-13
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_deliveries_at_once_are_one_run_and_one_answer_within_seconds() {
    let store = MemoryStore::new();
    let at = host(endpoint(&engine(&store).await)).await;
    let client = client();
    let deliveries = (0..100_u64).map(|delivery| {
        let client = client.clone();
        async move {
            // The sender signs each delivery anew, and with its next secret too.
            let secret = if delivery % 2 == 0 { SECRET } else { "whsec_next" };
            let signature = sign(secret, now(), ORDER.as_bytes());
            let began = Instant::now();
            let told = deliver_by(&client, at, &signature, ORDER).await;
            (told, began.elapsed())
        }
    });
    let all = join_all(deliveries).await;
    let (first, _) = all[0].clone();
    assert!(first.0 == 200 && first.1.starts_with(r#"{"run":""#), "{first:?}");
    for (told, took) in all {
        assert_eq!(told, first);
        assert!(took < PROMISED * 3, "{took:?}");
    }
    assert_eq!(runs(&store).await, 1);
}

// covers: X7, S2, R3-13
#[tokio::test]
async fn a_store_that_hangs_is_answered_in_time_and_the_repetition_succeeds() {
    let store = MemoryStore::new();
    let engine = engine(&store).await;
    let tried = Arc::new(AtomicUsize::new(0));
    let (driven, counted) = (engine.clone(), Arc::clone(&tried));
    let endpoint = Endpoint::new(verifier(), move |delivery| {
        let (engine, turn) = (driven.clone(), counted.fetch_add(1, Ordering::Relaxed));
        async move {
            if turn == 0 {
                tokio::time::sleep(Duration::from_secs(600)).await;
            }
            if turn == 1 {
                return Err(Untaken::Later);
            }
            take(engine, delivery).await
        }
    });
    let at = host(endpoint.with_answer_within(PROMISED)).await;
    for _ in 0..2 {
        let began = Instant::now();
        let told = deliver(at, &sign(SECRET, now(), ORDER.as_bytes()), ORDER).await;
        assert_eq!(told, (503, r#"{"error":"webhook_later"}"#.to_owned(), true));
        assert!(began.elapsed() < PROMISED * 3, "{:?}", began.elapsed());
        assert_eq!(runs(&store).await, 0);
    }
    let told = deliver(at, &sign(SECRET, now(), ORDER.as_bytes()), ORDER).await;
    assert_eq!((told.0, runs(&store).await), (200, 1));
    // Another input under the event's key is no trouble that passes.
    let key = "stripe:shop:evt_5";
    engine.start(FULFIL, &"another".to_owned()).key(key).await.unwrap();
    let body = r#"{"id":"evt_5","type":"checkout.session.completed"}"#;
    let told = deliver(at, &sign(SECRET, now(), body.as_bytes()), body).await;
    assert_eq!(told.0, 422, "{told:?}");
    assert!(!told.1.contains("another"), "{told:?}");
}

// covers: X6
#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let store = MemoryStore::new();
    let endpoint = endpoint(&engine(&store).await).with_answer_within(Duration::from_millis(200));
    let at = host(endpoint).await;
    let text = answer(&mut begun(at, "content-length: 50\r\n\r\nhalf").await).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(runs(&store).await, 0);
}

/// A request that was sent so far.
async fn begun(at: SocketAddr, rest: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = format!("POST /hooks/stripe HTTP/1.1\r\nhost: shop\r\n{rest}");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 1_024];
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut answer)).await;
    String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).into_owned()
}

// covers: X6
#[tokio::test]
async fn a_body_that_is_cut_is_told_from_one_that_is_too_long() {
    let store = MemoryStore::new();
    let at = host(endpoint(&engine(&store).await)).await;
    let long = "x".repeat(5_000);
    for (rest, status, code) in [
        (
            "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nno number\r\n".to_owned(),
            400,
            "webhook_cut",
        ),
        // Nobody waits for what is too long by its own word.
        ("content-length: 5000\r\n\r\nhalf".to_owned(), 413, "webhook_too_large"),
        (format!("transfer-encoding: chunked\r\n\r\n1388\r\n{long}\r\n"), 413, "webhook_too_large"),
    ] {
        let text = answer(&mut begun(at, &rest).await).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {text}");
        assert!(text.ends_with(&format!("{{\"error\":\"{code}\"}}")), "{code}: {text}");
    }
    assert_eq!(runs(&store).await, 0);
}

// covers: X6, S25
#[tokio::test]
async fn what_is_held_unproven_is_bounded_in_all_and_given_back() {
    let store = MemoryStore::new();
    let most = ORDER.len() + 10;
    let engine = engine(&store).await;
    let endpoint = Endpoint::new(verifier().with_body_max(most), move |delivery| {
        take(engine.clone(), delivery)
    });
    // Never less than the longest body.
    let at = host(endpoint.with_unproven_max(1)).await;
    let good = async || deliver(at, &sign(SECRET, now(), ORDER.as_bytes()), ORDER).await;
    assert_eq!(good().await.0, 200);
    // Half of a body, and no end of it.
    let mut slow = begun(at, &format!("content-length: 50\r\n\r\n{}", "x".repeat(20))).await;
    let until = async |status: u16| {
        let began = Instant::now();
        loop {
            let told = good().await;
            if told.0 == status {
                return told;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "never {status}: {told:?}");
        }
    };
    let told = until(503).await;
    assert_eq!((told.1.as_str(), told.2), (r#"{"error":"webhook_later"}"#, true));
    let text = answer(&mut slow).await;
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    until(200).await;
    assert_eq!(runs(&store).await, 1);
}

// covers: R4-31, R2-18
#[tokio::test]
async fn a_start_above_the_limit_is_told_when_to_come_again_and_taken_then() {
    let store = MemoryStore::new();
    let rate = Rate { calls: 10, per: Duration::from_secs(30), burst: 1 };
    let builder = Engine::builder(store.clone()).register(fulfilment()).start_limit(rate);
    let at = host(endpoint(&builder.build().await.unwrap())).await;
    let order =
        |number: u32| format!(r#"{{"id":"evt_{number}","type":"checkout.session.completed"}}"#);
    let deliver = async |body: &str| deliver(at, &sign(SECRET, now(), body.as_bytes()), body).await;
    assert_eq!(deliver(&order(1)).await.0, 200);
    // So many at once that one of them is above the limit, however slow this machine is.
    let began = Instant::now();
    let mut number = 2;
    let refused = loop {
        let body = order(number);
        match deliver(&body).await {
            (200, ..) => number += 1,
            told => break (body, told),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is ever above the limit");
    };
    let (body, told) = refused;
    assert_eq!(told, (429, r#"{"error":"too_many_starts"}"#.to_owned(), true));
    assert_eq!(runs(&store).await, usize::try_from(number - 1).unwrap());
    while deliver(&body).await.0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is never taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What was taken once is known, whatever the limit says.
    assert_eq!(deliver(&order(1)).await.0, 200);
}

#[derive(Debug)]
struct Fixed(u64);

impl Clock for Fixed {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0 * 1_000)
    }
}

// covers: X7
#[tokio::test]
async fn the_time_of_signatures_is_judged_by_the_hosts_clock_in_both_directions() {
    for (apart, status) in [(0, 200), (300, 200), (301, 400)] {
        for later in [true, false] {
            let store = MemoryStore::new();
            let clock = Fixed(if later { 10_000 + apart } else { 10_000 - apart });
            let endpoint = endpoint(&engine(&store).await).with_clock(Arc::new(clock));
            let at = host(endpoint).await;
            let told = deliver(at, &sign(SECRET, 10_000, ORDER.as_bytes()), ORDER).await;
            assert_eq!(told.0, status, "{apart} {later}");
        }
    }
}
