//! The plumbing under faults: what a call without a usable answer is taken for, what is never
//! followed or obeyed, and what the simulators' front does to a request.

use std::{net::TcpListener, process::Command, time::Duration};

use provision_adapters::{
    github::{GitHub, RepoFromTemplate, sim::GitHubSim},
    http::{BaseUrl, ConfigError, Http, HttpConfig, Request},
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{Call, Effect, Found, Resource, StepError, Verdict, limit::Profile};
use provision_testkit::solo::SoloHost;

use crate::github::{CANARY, World, all_texts, config, run, spec};

const BODY_MAX: usize = 64 << 10;

fn profile() -> Profile {
    Profile { bucket: "test".to_owned(), rate: None, concurrency: None }
}

fn http(url: &str) -> Http {
    let base = BaseUrl::parse(url).unwrap();
    let config = HttpConfig::new("test", base, profile())
        .with_body_bytes_max(BODY_MAX)
        .with_idle_timeout(Duration::from_millis(500))
        .with_connect_timeout(Duration::from_secs(2));
    Http::new(config).unwrap()
}

fn sim() -> SimServer<GitHubSim> {
    SimServer::start(GitHubSim::acme(CANARY), SimOptions::default().with_speed(0.0)).unwrap()
}

/// One call to the simulated organization, with the canary as its token.
async fn look(http: &Http, call: Call) -> Result<u16, StepError> {
    let host = SoloHost::new().with_call_max(Duration::from_secs(4));
    let cx = host.context(run(1), "probe");
    let request = Request::get(&["orgs", "acme"])
        .query("probe", CANARY)
        .bearer(&provision_core::Secret::new(CANARY));
    http.send(&cx, call, request).await.map(|response| response.status)
}

// covers: S9, X1, X6, R1-88
#[tokio::test]
async fn the_end_of_a_call_without_an_answer_depends_on_what_it_may_have_done() {
    let faults = [
        (Fault::RefuseBefore, "no_answer"),
        (Fault::DropAfter, "no_answer"),
        (Fault::ResetAfter, "no_answer"),
        (Fault::CutBody, "no_answer"),
        (Fault::LyingLength, "no_answer"),
        (Fault::EndlessBody { bytes: 8 << 20 }, "body_too_large"),
        (Fault::SlowHeaders(Duration::from_secs(20)), "timeout"),
        (Fault::Slow(Duration::from_secs(20)), "timeout"),
    ];
    let server = sim();
    for (fault, code) in faults {
        server.faults().clear();
        server.faults().add(FaultRule::new(fault.clone()));
        let http = http(&server.url());
        for (call, effect) in
            [(Call::read("look"), Effect::None), (Call::mutate("change"), Effect::Unknown)]
        {
            let error = look(&http, call).await.unwrap_err();
            assert_eq!((error.code(), error.effect()), (code, effect), "{fault:?}");
            assert_eq!(error.verdict(), &Verdict::Retry { after: None }, "{fault:?}");
            assert!(!all_texts(&error).contains("CANARY"), "{}", all_texts(&error));
        }
    }
}

// covers: S9
#[tokio::test]
async fn a_refused_connection_proves_that_nothing_happened() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = look(&http(&url), Call::mutate("change")).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("connect", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Retry { after: None });
    assert!(!all_texts(&error).contains("CANARY"));
}

// covers: S9
#[tokio::test]
async fn a_call_is_sent_once_even_when_a_kept_connection_has_died() {
    let server = sim();
    let http = http(&server.url());
    assert_eq!(look(&http, Call::read("look")).await.unwrap(), 200);
    server.faults().add(FaultRule::new(Fault::DropAfter).once());
    assert!(look(&http, Call::mutate("change")).await.is_err());
    assert_eq!(server.requests().len(), 2, "the client repeated a call by itself");
}

// covers: X2
#[tokio::test]
async fn a_redirect_is_never_followed_with_our_token() {
    let sentinel = sim();
    let world = World::new();
    let to = format!("{}/orgs/acme", sentinel.url());
    world.server.faults().add(FaultRule::new(Fault::Redirect(to)));
    let error = world.repos().find(&world.cx("repo"), &spec()).await.unwrap_err();
    assert_eq!(error.code(), "redirected");
    assert_eq!(error.verdict(), &Verdict::Permanent);
    let cx = world.cx("repo");
    let intent = world.host.intend(&cx, &world.repos(), &spec());
    assert!(world.repos().create(&cx, &spec(), &intent).await.is_err());
    assert!(sentinel.requests().is_empty(), "{:?}", sentinel.requests());
    assert!(!all_texts(&error).contains(&sentinel.url()), "the message names no url");
}

const PROBE: &str = "PROVISION_TEST_PROBE_URL";

// covers: X2
#[test]
fn proxies_of_the_environment_are_ignored() {
    let (server, sentinel) = (sim(), sim());
    let proxy = sentinel.url();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::probe_in_a_child", "--nocapture"])
        .env(PROBE, server.url())
        .env("HTTP_PROXY", &proxy)
        .env("http_proxy", &proxy)
        .env("ALL_PROXY", &proxy)
        .env("all_proxy", &proxy)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert_eq!(server.requests().len(), 1);
    assert!(sentinel.requests().is_empty(), "{:?}", sentinel.requests());
}

/// Runs in a child process of the test above; without its variable there is nothing to do.
#[tokio::test]
async fn probe_in_a_child() {
    if let Ok(url) = std::env::var(PROBE) {
        assert_eq!(look(&http(&url), Call::read("look")).await.unwrap(), 200);
    }
}

// covers: X2
#[test]
fn tls_is_needed_outside_this_machine() {
    assert!(BaseUrl::parse("http://api.github.com").is_err());
    let base = BaseUrl::parse("https://api.github.com").unwrap();
    let built = Http::new(HttpConfig::new("test", base, profile()));
    match cfg!(feature = "live") {
        true => assert!(built.is_ok()),
        false => assert!(matches!(built, Err(ConfigError::TlsMissing))),
    }
}

// covers: X4
#[tokio::test]
async fn a_segment_that_would_change_the_endpoint_is_refused_before_sending() {
    let server = sim();
    let http = http(&server.url());
    let host = SoloHost::new();
    for segments in [&["repos", "..", "x"][..], &["repos", "", "x"], &["repos", "."]] {
        let request = Request::delete(segments);
        let cx = host.context(run(1), "probe");
        let error = http.send(&cx, Call::mutate("delete"), request).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("bad_request", Effect::None));
        assert_eq!(error.verdict(), &Verdict::Permanent);
    }
    assert!(server.requests().is_empty());
    let request = Request::get(&["repos", "acme/..", "a?b#c%2e"]);
    let cx = host.context(run(1), "probe");
    http.send(&cx, Call::read("look"), request).await.unwrap();
    assert_eq!(server.requests()[0].path, "/repos/acme/../a?b#c%2e", "three segments, as given");
    assert!(host.told().calls.iter().all(|call| *call != "delete"), "not even admitted");
}

// covers: R4-29
#[tokio::test]
async fn every_request_says_which_run_it_belongs_to() {
    let world = World::new();
    world.repos().find(&world.cx("repo"), &spec()).await.unwrap();
    let exchanges = world.server.exchanges();
    assert!(!exchanges.is_empty());
    for exchange in exchanges {
        let request = exchange.request;
        assert_eq!(request.header("x-provision-run"), Some(run(1).to_string().as_str()));
        let trace = request.header("traceparent").unwrap();
        let parts: Vec<&str> = trace.split('-').collect();
        assert_eq!((parts[0], parts[1].len(), parts[2].len(), parts[3]), ("00", 32, 16, "01"));
        assert_eq!(parts[1], run(1).as_uuid().simple().to_string());
        assert!(request.header("user-agent").unwrap().starts_with("provision/"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

// covers: X6
#[tokio::test]
async fn an_answer_above_the_limit_is_refused_by_its_announced_length_too() {
    let world = World::new();
    let mut small = config(&world.server.url());
    small.body_bytes_max = 100;
    let repos = RepoFromTemplate::new(&GitHub::new(small).unwrap());
    let error = repos.find(&world.cx("repo"), &spec()).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("body_too_large", Effect::None));
}

#[tokio::test]
async fn what_was_answered_survives_the_end_of_the_cloud() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("github.json");
    let options = || SimOptions::default().with_speed(0.0).with_persist(&file);
    let world = World::with(options());
    let id = world.site().await;
    // Committed before the answer: the file has it while the server is still up.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"Site\""), "{text}");
    assert!(!text.contains("CANARY"), "tokens are the process's, not the world's");
    let before = world.server.inventory();
    world.server.stop();

    let again = World::with(options());
    assert_eq!(again.server.inventory(), before);
    let found = again.repos().find(&again.cx("repo"), &spec()).await.unwrap();
    assert_eq!(found, Found::Ours(id));
}

#[tokio::test]
async fn a_late_request_lands_even_in_a_restarted_cloud() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("github.json");
    let options = || SimOptions::default().with_speed(0.0).with_persist(&file);
    let world = World::with(options());
    let late = Fault::LateLanding(Duration::from_secs(4));
    world.server.faults().add(FaultRule::new(late).method("POST").once());
    let (cx, repos) = (world.cx("repo"), world.repos());
    let intent = world.host.intend(&cx, &repos, &spec());
    let error = repos.create(&cx, &spec(), &intent).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(repos.find(&cx, &spec()).await.unwrap(), Found::Absent, "not yet");
    world.server.stop();

    let again = World::with(options());
    let (cx, repos) = (again.cx("repo"), again.repos());
    for _ in 0..1_500 {
        if let Found::Ours(_) = repos.find(&cx, &spec()).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never landed");
}

#[tokio::test]
async fn a_damaged_state_is_refused_rather_than_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("github.json");
    for text in ["{\"state\": 7}", "{\"sta"] {
        std::fs::write(&file, text).unwrap();
        let options = SimOptions::default().with_persist(&file);
        assert!(SimServer::start(GitHubSim::acme(CANARY), options).is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn the_front_reads_chunked_bodies_and_refuses_nonsense() {
    use std::io::{Read, Write};
    let server = sim();
    let ask = |text: String| {
        let mut stream = std::net::TcpStream::connect(server.url().replace("http://", "")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let head = format!("Host: sim\r\nUser-Agent: raw\r\nAuthorization: Bearer {CANARY}\r\n");
    let post = "POST /repos/acme/template/generate HTTP/1.1\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let good = format!(
        "{post}{head}{chunked}10;x=1\r\n{{\"owner\":\"acme\",\r\ne\r\n\"name\": \"chu\"}}\r\n0\r\n\r\n"
    );
    assert!(ask(good).starts_with("HTTP/1.1 201"));
    let bad = [
        "GET\r\n\r\n".to_owned(),
        format!("{post}{head}Content-Length: many\r\n\r\n"),
        format!("{post}{head}Content-Length: 99999999999\r\n\r\n"),
        format!("{post}{head}Content-Length: 10\r\n\r\nshort"),
        format!("{post}{head}{chunked}zz\r\n"),
        format!("{post}{head}{chunked}5\r\nabcdefgh\r\n0\r\n\r\n"),
        "GET /%zz HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000)),
    ];
    for text in bad {
        let answer = ask(text.clone());
        assert!(answer.starts_with("HTTP/1.1 400"), "{text:.60}: {answer}");
    }
    let two = format!("GET /orgs/acme HTTP/1.1\r\n{head}\r\n").repeat(2);
    assert_eq!(ask(two).matches("HTTP/1.1 200").count(), 2, "connections are kept");
}
