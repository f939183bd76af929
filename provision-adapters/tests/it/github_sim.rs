//! The simulated GitHub asked without our client: what it refuses, and in whose words.

use std::time::Duration;

use provision_adapters::{github::Dispatch, sim::SimOptions};
use provision_core::{Effect, Readiness, Resource, Verdict};

use crate::github::{CANARY, World, deploy, spec};

/// A request without our client: status, head and body.
pub(crate) fn raw(world: &World, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let auth = format!("Authorization: Bearer {CANARY}\r\nUser-Agent: raw\r\n");
    raw_with(&world.server.url(), method, path, &auth, body)
}

pub(crate) fn raw_with(
    url: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    use std::io::{Read, Write};
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, head.to_lowercase(), body.to_owned())
}

/// Method, path, body, and the status and words they are refused with.
type Bad = (&'static str, &'static str, String, u16, &'static str);

fn bad(
    method: &'static str,
    path: &'static str,
    body: &str,
    status: u16,
    words: &'static str,
) -> Bad {
    (method, path, body.to_owned(), status, words)
}

fn bad_repositories() -> Vec<Bad> {
    let generate = "/repos/acme/template/generate";
    let topics = "/repos/acme/site/topics";
    let readme = "/repos/acme/site/contents/README.md";
    let taken = r#"{"owner":"acme","name":"SITE"}"#;
    let long = format!(r#"{{"owner":"acme","name":"x","description":"{}"}}"#, "d".repeat(351));
    let put = r#"{"message":"m","content":"eA=="}"#;
    let stale = r#"{"message":"m","content":"eA==","sha":"0"}"#;
    vec![
        bad("POST", generate, "{}", 422, "name"),
        bad("POST", generate, "not json", 422, "name"),
        bad("POST", generate, taken, 422, "Could not clone: Name already exists on this account"),
        bad("POST", generate, &long, 422, "description"),
        bad("POST", generate, r#"{"owner":"nobody","name":"x"}"#, 404, "Not Found"),
        bad("POST", "/repos/acme/site/generate", taken, 422, "template"),
        bad("POST", "/orgs/acme/repos", r#"{"name":"site"}"#, 422, "name already exists on this"),
        bad("GET", "/repos/acme/none", "", 404, "Not Found"),
        bad("PATCH", "/repos/acme/none", "{}", 404, "Not Found"),
        bad("DELETE", "/repos/acme/none", "", 404, "Not Found"),
        bad("PUT", topics, r#"{"names":["Not Good"]}"#, 422, "A topic must start"),
        bad("PUT", topics, "{}", 422, "A topic must start"),
        bad("PUT", readme, put, 422, "sha"),
        bad("PUT", readme, stale, 409, "does not match"),
        bad("GET", "/repos/acme/site/pulls", "", 501, "no route"),
    ]
}

fn bad_actions() -> Vec<Bad> {
    let secret = "/repos/acme/site/actions/secrets/A";
    let variables = "/repos/acme/site/actions/variables";
    let deploy = "/repos/acme/site/actions/workflows/deploy.yml/dispatches";
    let events = "/repos/acme/site/dispatches";
    let keys: Vec<String> = (0..11).map(|n| format!("\"k{n}\":{n}")).collect();
    let eleven = format!(r#"{{"event_type":"e","client_payload":{{{}}}}}"#, keys.join(","));
    vec![
        bad("PUT", secret, "{}", 422, "encrypted_value"),
        bad("PUT", secret, r#"{"encrypted_value":"AAAA","key_id":"1"}"#, 422, "key_id"),
        bad("POST", variables, r#"{"name":"A"}"#, 422, "required"),
        bad("POST", variables, r#"{"name":"GITHUB_A","value":"x"}"#, 422, "names"),
        bad("DELETE", "/repos/acme/site/actions/variables/NONE", "", 404, "Not Found"),
        bad("DELETE", "/repos/acme/site/actions/secrets/NONE", "", 404, "Not Found"),
        bad("POST", deploy, "{}", 422, "ref"),
        bad("POST", deploy, r#"{"ref":"nope"}"#, 422, "No ref found"),
        bad("POST", deploy, r#"{"ref":"main","inputs":{"x":"1"}}"#, 422, "Unexpected"),
        bad("POST", events, "{}", 422, "event_type"),
        bad("POST", events, &eleven, 422, "properties"),
        bad("POST", "/repos/acme/site/actions/runs/1/cancel", "", 404, "Not Found"),
    ]
}

// covers: R2-70
#[tokio::test]
async fn the_simulator_refuses_known_bad_requests_in_the_providers_words() {
    let world = World::new();
    world.site().await;
    for (method, path, body, status, words) in bad_repositories().into_iter().chain(bad_actions()) {
        let (got, head, text) = raw(&world, method, path, &body);
        assert_eq!(got, status, "{method} {path} {body}: {text}");
        assert!(text.contains(words), "{method} {path}: {text}");
        assert_eq!(head.contains("x-sim-unhandled"), status == 501);
    }
    assert_eq!(world.kinds(), ["repo"], "nothing of this was carried out");
}

// covers: X1
#[tokio::test]
async fn a_value_that_was_not_sealed_for_the_repositorys_key_is_refused() {
    let world = World::new();
    world.site().await;
    let path = "/repos/acme/site/actions/secrets/public-key";
    let (_, _, key) = raw(&world, "GET", path, "");
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let body = serde_json::json!({ "encrypted_value": "aGVsbG8=", "key_id": key["key_id"] });
    let (status, _, text) =
        raw(&world, "PUT", "/repos/acme/site/actions/secrets/A", &body.to_string());
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("sealed"), "{text}");
}

#[tokio::test]
async fn the_simulator_knows_who_asks() {
    let world = World::new();
    let url = world.server.url();
    let agent = "User-Agent: raw\r\n";
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let cases = [
        (bearer(CANARY), 403, "User-Agent"),
        (agent.to_owned(), 401, "Requires authentication"),
        (format!("{agent}{}", bearer("wrong")), 401, "Bad credentials"),
        (format!("{agent}{}X-GitHub-Api-Version: 1999-01-01\r\n", bearer(CANARY)), 400, "version"),
        (format!("{agent}{}", bearer(CANARY)), 200, "acme"),
    ];
    for (headers, status, words) in cases {
        let (got, _, text) = raw_with(&url, "GET", "/orgs/acme", &headers, "");
        assert_eq!(got, status, "{headers}: {text}");
        assert!(text.contains(words), "{headers}: {text}");
    }
}

#[tokio::test]
async fn a_generated_repository_is_empty_for_a_while() {
    let world = World::with(SimOptions::default().with_speed(1_000.0));
    let (cx, repos) = (world.cx("repo"), world.repos());
    let intent = world.host.intend(&cx, &repos, &spec());
    let id = repos.create(&cx, &spec(), &intent).await.unwrap();
    let cases = [
        ("GET", "/repos/acme/site/commits", "", 409, "Git Repository is empty."),
        ("GET", "/repos/acme/site/git/ref/heads/main", "", 409, "Git Repository is empty."),
        ("GET", "/repos/acme/site/branches/main", "", 404, "Branch not found"),
        ("GET", "/repos/acme/site/contents/README.md", "", 404, "empty"),
        ("PATCH", "/repos/acme/site", r#"{"default_branch":"main"}"#, 422, "empty repository"),
        (
            "POST",
            "/repos/acme/site/actions/workflows/deploy.yml/dispatches",
            r#"{"ref":"main"}"#,
            404,
            "Not Found",
        ),
        ("GET", "/repos/acme/site", "", 200, "\"default_branch\":\"main\""),
    ];
    for (method, path, body, status, words) in cases {
        let (got, _, text) = raw(&world, method, path, body);
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(text.contains(words), "{method} {path}: {text}");
    }
    let state = repos.ready(&cx, &spec(), &id).await.unwrap();
    assert!(matches!(state, Readiness::NotYet { .. }));
    let dispatch = Dispatch::new(&world.github);
    let intent = world.host.intend(&cx, &dispatch, &deploy());
    let error = dispatch.create(&cx, &deploy(), &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("workflow_not_ready", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Retry { after: None });
}
