//! What a process of workers answers over HTTP, and what it leaves when it ends.

use std::{process::Command, time::Duration};

use connector_platform::{
    metrics::Exporter,
    platform::PlatformName,
    serve::{Front, router},
};
use provision_core::Outcome;
use serde_json::Value;

use crate::{
    place::{Place, until},
    webhooks::{BODY, signed},
};

/// One address that is asked.
struct Asked {
    client: reqwest::Client,
    at: String,
}

impl Asked {
    fn at(at: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
        Self { client: client.build().unwrap(), at: at.to_owned() }
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.at)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.text(path).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    /// Delivers; answers the status, the body, and whether it is to be repeated.
    async fn deliver(&self, platform: &str, headers: &[(String, Vec<u8>)]) -> (u16, Value, bool) {
        let mut request = self.client.post(format!("{}/webhooks/{platform}", self.at)).body(BODY);
        for (name, value) in headers {
            request = request.header(name, value.as_slice());
        }
        let answer = request.send().await.unwrap();
        let again = answer.headers().contains_key("retry-after");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap(), again)
    }
}

fn queue<'a>(told: &'a Value, name: &str) -> &'a Value {
    let all = told["queues"].as_array().unwrap();
    all.iter().find(|queue| queue["queue"] == name).unwrap()
}

/// Whether a run of this saga was counted as ended.
fn has_ended(text: &str, saga: &str) -> bool {
    let saga = format!("saga=\"{saga}\"");
    text.lines().any(|line| line.starts_with("run_ended_total{") && line.contains(&saga))
}

// covers: R5-40, R5-44, R5-69, R5-72
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_answers_how_it_is_and_leaves_what_it_has_counted() {
    let Some(place) = Place::new().await else { return };
    let file = std::env::temp_dir().join(format!("{}.prom", uuid::Uuid::new_v4()));
    let arguments = ["workers", "--lease-ms", "5000", "--tend-ms", "500"];
    let variables =
        [("CONNECTOR_LISTEN", "127.0.0.1:0".as_ref()), ("CONNECTOR_METRICS_FILE", &*file)];
    let mut worker = place.spawn_with(&arguments, &variables);
    let said = worker.said.iter().find_map(|line| line.strip_prefix("listening at "));
    let asked = Asked::at(said.unwrap());
    let (status, told) = asked.json("/health").await;
    assert_eq!((status, &told["ok"]), (200, &Value::Bool(true)));
    let (status, told) = asked.json("/ready").await;
    assert_eq!((status, &told["health"]["troubles"]), (200, &serde_json::json!([])), "{told}");

    let connection = place.connect("acme", PlatformName::Mailchimp).await;
    let (job, outcome) = place.publish("acme", connection).await;
    assert!(!matches!(outcome, Outcome::Parked(..)), "{outcome:?}");
    let (status, told) = asked.json("/queues").await;
    assert_eq!(status, 200, "{told}");
    let names = ["default", "health_checks", "publish_jobs", "token_refresh"];
    let limits = names.map(|name| queue(&told, name)["at_a_time"].as_u64());
    assert_eq!(limits, [None, Some(10), Some(5), Some(5)]);
    until("counted", async || has_ended(&asked.text("/metrics").await.1, "publish-post")).await;
    let (_, text) = asked.text("/metrics").await;
    let latency = "operation_latency_seconds_count{";
    assert!(text.lines().any(|line| line.starts_with(latency)), "{text}");
    assert!(!text.contains("acme"), "no tenant leaves by this door: {text}");

    // What needs a person is no good health of its queue.
    place.service.unpublish("acme", job).await.unwrap();
    assert!(matches!(place.outcome("acme", job).await, Outcome::Parked(..)));
    let (status, told) = asked.json("/queues").await;
    assert_eq!((status, queue(&told, "publish_jobs")["dead_letters"].as_u64()), (503, Some(1)));
    assert_eq!(asked.json("/ready").await.0, 200, "it can do its work all the same");

    let pid = worker.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || worker.child.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert!(ended.expect("it ends").unwrap().success());
    let left = std::fs::read_to_string(&file).unwrap();
    assert!(has_ended(&left, "publish-post") && has_ended(&left, "connect-account"), "{left}");
    std::fs::remove_file(file).unwrap();
}

// covers: X7, R5-05, R5-43, R5-60, R5-62
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_come_in_by_http_and_a_database_that_is_away_is_told() {
    let Some(place) = Place::new().await else { return };
    let routes = router(&place.service, &Exporter::default());
    let front = Front::open("127.0.0.1:0".parse().unwrap(), routes).await.unwrap();
    let taken = Front::open(front.address(), axum::Router::new()).await.unwrap_err();
    assert_eq!(taken.code(), "cannot_listen");
    let asked = Asked::at(&format!("http://{}", front.address()));
    // Meta tries the address before it delivers there.
    let tried = |mode: &str, token: &str, challenge: &str| {
        format!("/webhooks/meta?hub.mode={mode}&hub.challenge={challenge}&hub.verify_token={token}")
    };
    let token = "simulated-verify-token";
    let agreed = asked.text(&tried("subscribe", token, "1158201444")).await;
    assert_eq!(agreed, (200, "1158201444".to_owned()));
    for question in [
        tried("subscribe", "guessed", "1158201444"),
        tried("subscribe", "", "1158201444"),
        tried("unsubscribe", token, "1158201444"),
        tried("subscribe", token, "%3Cscript%3E"),
        tried("subscribe", token, ""),
        "/webhooks/meta".to_owned(),
    ] {
        let (status, told) = asked.json(&question).await;
        assert_eq!((status, &told["error"]), (403, &"not_agreed".into()), "{question}");
    }
    assert_eq!(asked.text("/webhooks/tiktok").await.0, 404);
    let good = signed(BODY, "simulated-secret");
    let (status, told, _) = asked.deliver("meta", &signed(BODY, "another")).await;
    assert_eq!((status, &told["error"]), (400, &"webhook_forged".into()));
    for _ in 0..2 {
        let (status, told, _) = asked.deliver("meta", &good).await;
        assert_eq!((status, told), (200, serde_json::json!({ "run": null })));
    }
    let kept = "SELECT count(*) FROM connectors.webhook_events WHERE id = delivery";
    assert_eq!(place.number(kept).await, 1);
    let (status, told, _) = asked.deliver("tiktok", &good).await;
    assert_eq!((status, &told["error"]), (404, &"unsupported".into()));
    assert!(told["hint"].as_str().unwrap().contains("polled"), "{told}");

    place.service.shared().db.pool().close().await;
    let (status, _, again) = asked.deliver("meta", &good).await;
    assert_eq!((status, again), (503, true), "the sender comes again");
    assert_eq!(asked.json("/queues").await.0, 503);
    let (status, told) = asked.json("/ready").await;
    assert_eq!((status, &told["ok"]), (503, &Value::Bool(false)), "{told}");
    assert_eq!(asked.json("/health").await.0, 200, "the process is there");
    let address = front.address();
    front.close().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
