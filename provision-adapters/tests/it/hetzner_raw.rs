//! The simulated Hetzner itself, asked without our client: what the provider refuses, it refuses.

use provision_adapters::{
    hetzner::sim::{HetznerSim, TOKEN},
    sim::{SimOptions, SimServer},
};
use serde_json::{Value, json};

struct Raw {
    server: SimServer<HetznerSim>,
    http: reqwest::Client,
}

impl Raw {
    fn start(speed: f64) -> Self {
        let options = SimOptions::default().with_speed(speed);
        let server = SimServer::start(HetznerSim::new(), options).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server, http }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/v1{path}", self.server.url());
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
            assert!(answer.headers().contains_key(name), "{name} comes with every answer");
        }
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

fn wanted(name: &str) -> Value {
    json!({ "name": name, "server_type": "cx23", "image": "debian-13", "location": "fsn1" })
}

// covers: R2-16
#[tokio::test]
async fn servers_refuse_what_the_provider_refuses() {
    let raw = Raw::start(0.0);
    let with = |key: &str, value: Value| {
        let mut body = wanted("a");
        body[key] = value;
        body
    };
    let cases = [
        (json!({ "name": "a" }), 422, "invalid_input"),
        (with("name", json!("a_b")), 422, "invalid_input"),
        (with("datacenter", json!("fsn1-dc14")), 422, "invalid_input"),
        (with("location", json!("fsn1-dc14")), 422, "invalid_input"),
        (with("image", json!("windows")), 422, "invalid_input"),
        (with("labels", json!({ "x": "https://x" })), 422, "invalid_input"),
        (with("ssh_keys", json!([7])), 404, "not_found"),
        (with("user_data", json!("x".repeat(40_000))), 422, "invalid_input"),
    ];
    for (body, status, expected) in cases {
        let (got, answer) = raw.ask("POST", "/servers", Some(body.clone())).await;
        assert_eq!((got, code(&answer)), (status, expected), "{body}");
    }
    assert_eq!(raw.ask("POST", "/servers", Some(wanted("a"))).await.0, 201);
    let (status, answer) = raw.ask("POST", "/servers", Some(wanted("a"))).await;
    assert_eq!((status, code(&answer)), (409, "uniqueness_error"));
    assert_eq!(answer["error"]["details"]["fields"][0]["name"], "name");
    for path in ["/datacenters", "/actions"] {
        let (status, answer) = raw.ask("GET", path, None).await;
        assert_eq!((status, code(&answer)), (410, "deprecated_api_endpoint"), "{path}");
    }
    assert_eq!(raw.ask("GET", "/load_balancers", None).await.0, 501);
}

#[tokio::test]
async fn a_root_password_is_drawn_only_where_no_key_was_given() {
    let raw = Raw::start(0.0);
    let key = json!({ "name": "k", "public_key": "ssh-ed25519 AAAA x" });
    let (_, key) = raw.ask("POST", "/ssh_keys", Some(key)).await;
    let (_, made) = raw.ask("POST", "/servers", Some(wanted("a"))).await;
    assert!(made["root_password"].as_str().unwrap().len() > 12);
    let mut keyed = wanted("b");
    keyed["ssh_keys"] = json!([key["ssh_key"]["id"]]);
    let (_, made) = raw.ask("POST", "/servers", Some(keyed)).await;
    assert_eq!(made["root_password"], Value::Null);
}

#[tokio::test]
async fn actions_go_on_after_the_answer_and_hold_their_server() {
    let raw = Raw::start(1.0);
    let (_, made) = raw.ask("POST", "/servers", Some(wanted("a"))).await;
    assert_eq!(made["action"]["status"], "running");
    assert_eq!(made["next_actions"][0]["command"], "start_server");
    assert_eq!(made["server"]["locked"], true);
    let id = made["server"]["id"].as_u64().unwrap();
    let (status, answer) = raw.ask("DELETE", &format!("/servers/{id}"), None).await;
    assert_eq!((status, code(&answer)), (423, "locked"));
    let action = made["action"]["id"].as_u64().unwrap();
    let (_, shown) = raw.ask("GET", &format!("/actions/{action}"), None).await;
    assert_eq!(shown["action"]["error"], Value::Null);
    let next = made["next_actions"][0]["id"].as_u64().unwrap();
    let (_, both) = raw.ask("GET", &format!("/actions?id={action}&id={next}"), None).await;
    assert_eq!(both["actions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_allowance_is_refilled_call_by_call_and_counted_in_errors_too() {
    let raw = Raw::start(0.0);
    raw.server.with(|sim| sim.set_calls_per_hour(2));
    let statuses = [200, 404, 429, 429];
    for (at, path) in ["/servers", "/servers/7", "/servers", "/servers"].iter().enumerate() {
        assert_eq!(raw.ask("GET", path, None).await.0, statuses[at]);
    }
}

#[tokio::test]
async fn a_restarted_cloud_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SimOptions::default().with_persist(folder.path().join("hetzner.json"));
    let first = SimServer::start(HetznerSim::new(), options()).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/servers", first.url());
    http.post(url).bearer_auth(TOKEN).json(&wanted("a")).send().await.unwrap();
    let before = first.inventory();
    first.stop();
    let second = SimServer::start(HetznerSim::new(), options()).unwrap();
    assert_eq!((second.inventory(), before.len()), (before.clone(), 1));
}
