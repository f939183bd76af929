//! Tailscale when calls fail, the simulated tailnet asked without our client, and whole runs in
//! which time passes.

use std::{error::Error, time::Duration};

use provision_adapters::{
    sim::{Fault, FaultRule, RetryAfterForm},
    tailscale::{
        DeviceSpec, KeySpec,
        sim::{CLIENT_ID, CLIENT_SECRET, TAG},
    },
};
use provision_core::{
    By, Effect, ExternalId, Found, Outcome, Resource, RunStatus, StepContext, StepError, Verdict,
};
use serde_json::{Value, json};

use crate::{
    engine::{Build, Stage, ended, paused},
    scenes_tailscale::OnTailscale,
    tailscale::{World, run, wanted},
    vercel::build,
};

/// X1: neither secret nor token nor key is in anything an error can print.
fn assert_clean(error: &StepError) {
    let mut told = format!("{error} {error:?} {:?} {:?}", error.message(), error.hint());
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        told.push_str(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for secret in ["tskey-", CLIENT_SECRET] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

async fn never_absent<R: Resource>(world: &World, resource: &R, spec: &R::Spec) {
    let faults = [
        Fault::Status(500),
        Fault::Status(504),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(501),
        Fault::RefuseBefore,
        Fault::ResetAfter,
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
        Fault::Echo(400),
        Fault::SlowHeaders(Duration::from_secs(30)),
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
    ];
    let host = world.host.clone().with_call_max(Duration::from_millis(300));
    let cx = host.context(run(1), "absent");
    for fault in faults {
        for path in ["/tailnet", "/oauth"] {
            let name = fault.name();
            // Without a token that is known, so that both calls are made.
            world.server.with(provision_adapters::tailscale::sim::TailscaleSim::end_tokens);
            world.server.faults().add(FaultRule::new(fault.clone()).path_contains(path));
            let error = resource.find(&cx, spec).await.expect_err(name);
            assert_eq!(error.effect(), Effect::None, "{name} {path}");
            assert_clean(&error);
            world.server.faults().clear();
        }
    }
}

// covers: S7, S9, R1-36
#[tokio::test]
async fn a_failed_look_is_never_absent() {
    let world = World::start();
    let key = world.key("key").await;
    never_absent(&world, &world.keys(), &wanted()).await;
    never_absent(&world, &world.devices(), &DeviceSpec::of(key)).await;
}

/// A delete whose answer is lost is unknown, and repeated.
async fn remove_with_faults<R: Resource>(
    world: &World,
    cx: &StepContext,
    (resource, spec, id): (&R, &R::Spec, &ExternalId),
) {
    for fault in [
        Fault::DropAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::Garbage200,
        Fault::Html200,
    ] {
        let name = fault.name();
        world.server.faults().add(FaultRule::new(fault).method("DELETE").once());
        if let Err(error) = resource.delete(cx, spec, id).await {
            assert_eq!(error.effect(), Effect::Unknown, "{name}");
            assert_clean(&error);
        }
        resource.delete(cx, spec, id).await.unwrap();
        world.server.faults().clear();
    }
}

// covers: S9, S14, X1, R5-38
#[tokio::test]
async fn what_lost_its_answer_is_found_again_and_deleted_again() {
    let world = World::start();
    let lost = [
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
    ];
    for (number, fault) in lost.into_iter().enumerate() {
        let (name, keys) = (fault.name(), world.keys());
        let cx = world.cx(&format!("key-{number}"));
        let rule = FaultRule::new(fault).method("POST").path_contains("/keys");
        world.server.faults().add(rule.once());
        let intent = world.host.intend(&cx, &keys, &wanted());
        let error = keys.create(&cx, &wanted(), &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{name}: {error}");
        assert_clean(&error);
        let found = keys.find(&cx, &wanted()).await.unwrap();
        let Found::Ours(id) = found else { panic!("{name}: {found:?}") };
        assert_eq!(world.of("auth_key").len(), 1, "{name}");
        remove_with_faults(&world, &cx, (&keys, &wanted(), &id)).await;
        assert_eq!(world.of("auth_key"), [], "{name}");
    }
    let cx = world.cx("key");
    let (_, key) = build(&world.host, &cx, &world.keys(), &wanted()).await;
    world.join(&cx, &key).await;
    let (id, spec) = (ExternalId::new(key.hostname.as_str()), DeviceSpec::of(key));
    remove_with_faults(&world, &world.cx("device"), (&world.devices(), &spec, &id)).await;
    assert_eq!(world.of("device"), []);
}

// covers: L4
#[tokio::test]
async fn a_wait_that_is_asked_for_is_passed_on() {
    let world = World::start();
    let forms = [
        (RetryAfterForm::Seconds(90), 90..=90),
        (RetryAfterForm::Date(90), 88..=91),
        (RetryAfterForm::Absent, 60..=60),
    ];
    for path in ["/oauth", "/tailnet"] {
        for (form, expected) in forms.clone() {
            let rule = FaultRule::new(Fault::RateLimited { retry_after: form });
            world.server.faults().add(rule.path_contains(path).once());
            let error = world.keys().find(&world.cx("key"), &wanted()).await.unwrap_err();
            let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
            assert_eq!(bucket, "tailscale/default");
            assert!(expected.contains(&after.as_secs()), "{form:?}: {after:?}");
        }
    }
}

// covers: R1-02
#[tokio::test]
async fn refusals_have_codes_and_say_what_to_do() {
    let world = World::start();
    let (cx, keys) = (world.cx("key"), world.keys());
    let spec = KeySpec::new("agent-7", ["tag:other"]);
    let intent = world.host.intend(&cx, &keys, &spec);
    let error = keys.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("tags_not_permitted", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Permanent);
    assert!(error.hint().unwrap().contains("tagOwners"));
    world.server.with(|sim| sim.permit_tag("tag:other"));
    keys.create(&cx, &spec, &intent).await.unwrap();

    world.host.set_secret("TAILSCALE_SECRET", "tskey-client-stale");
    let error = keys.find(&cx, &wanted()).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert!(error.hint().unwrap().contains("OAuth client"));
    assert_clean(&error);
    world.host.set_secret("TAILSCALE_SECRET", CLIENT_SECRET);

    let key = world.key("shared").await;
    world.server.with(|sim| sim.seed_shared_device(&key.hostname));
    let (spec, id) = (DeviceSpec::of(key.clone()), ExternalId::new(key.hostname));
    let error = world.devices().delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("shared_device", Effect::None));
}

/// Asks the simulated tailnet without our client.
async fn ask(world: &World, token: &str, what: (&str, &str, Option<Value>)) -> (u16, Value) {
    let (method, path, body) = what;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v2{path}", world.server.url());
    let mut request = http.request(method.parse().unwrap(), url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
}

async fn token(world: &World) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
    );
    let request = http
        .post(format!("{}/api/v2/oauth/token", world.server.url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer: Value =
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    answer["access_token"].as_str().unwrap().to_owned()
}

fn order(description: &str, tags: &[&str]) -> Value {
    let create = json!({ "preauthorized": true, "tags": tags });
    json!({ "description": description, "capabilities": { "devices": { "create": create } } })
}

// covers: R2-70
#[tokio::test]
async fn the_tailnet_refuses_what_the_real_one_refuses() {
    let world = World::start();
    let token = token(&world).await;
    let keys = "/tailnet/-/keys";
    assert_eq!(ask(&world, "tskey-api-wrong", ("GET", keys, None)).await.0, 401);
    let long = "a".repeat(51);
    let mut spare = order("x", &[TAG]);
    spare["zzz"] = json!(1);
    let refused = [
        order("saga:1/step_2", &[TAG]),
        order(&long, &[TAG]),
        order("x", &[]),
        order("x", &[TAG, "tag:other"]),
        json!({ "description": "x" }),
        spare,
    ];
    for body in refused {
        let what = body.to_string();
        let (status, answer) = ask(&world, &token, ("POST", keys, Some(body))).await;
        assert!(status == 400 && answer["message"].is_string(), "{what}: {answer}");
    }
    let (status, first) = ask(&world, &token, ("POST", keys, Some(order("x", &[TAG])))).await;
    let (_, second) = ask(&world, &token, ("POST", keys, Some(order("x", &[TAG])))).await;
    assert_eq!(status, 200);
    assert_ne!(first["id"], second["id"], "descriptions are not unique");
    assert_eq!(first["expirySeconds"], 7_776_000, "90 days unless asked");
    let (_, some) = ask(&world, &token, ("GET", keys, None)).await;
    let kinds: Vec<_> = some["keys"].as_array().unwrap().iter().map(|k| &k["keyType"]).collect();
    assert_eq!(kinds, ["client"], "an OAuth client sees no auth keys unless it asks for all");
    let (_, all) = ask(&world, &token, ("GET", "/tailnet/-/keys?all=true", None)).await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 3);
    assert!(!all.to_string().contains("tskey-auth"), "a key is shown once");

    let path = format!("{keys}/{}", first["id"].as_str().unwrap());
    assert_eq!(ask(&world, &token, ("DELETE", &path, None)).await.0, 200);
    assert_eq!(ask(&world, &token, ("DELETE", &path, None)).await.0, 404);
    let (status, gone) = ask(&world, &token, ("GET", &path, None)).await;
    assert_eq!((status, &gone["invalid"]), (200, &json!(true)));
    world.server.with(|sim| sim.show_deleted_keys(false));
    assert_eq!(ask(&world, &token, ("GET", &path, None)).await.0, 404);
    assert_eq!(ask(&world, &token, ("GET", "/tailnet/others/keys", None)).await.0, 404);
    assert_eq!(ask(&world, &token, ("GET", "/tailnet/-/acl", None)).await.0, 501, "said aloud");
}

// covers: R2-70
#[tokio::test]
async fn machines_join_once_by_name_and_a_second_one_gets_a_number() {
    let world = World::start();
    let token = token(&world).await;
    let now = 1_767_225_600_000;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let body = Some(order("x", &[TAG]));
        let (_, made) = ask(&world, &token, ("POST", "/tailnet/-/keys", body)).await;
        keys.push(made["key"].as_str().unwrap().to_owned());
    }
    let join = |hostname: &str, key: &str| {
        world.server.with(|sim| sim.join(hostname, key, now).map_err(ToOwned::to_owned))
    };
    join("web", &keys[0]).unwrap();
    assert!(join("web", &keys[0]).is_err(), "used up");
    let second = join("web", &keys[1]).unwrap();
    assert!(join("web", "tskey-auth-no").is_err());
    let (_, list) = ask(&world, &token, ("GET", "/tailnet/-/devices?hostname=web", None)).await;
    let names: Vec<_> = list["devices"].as_array().unwrap().iter().map(|d| &d["name"]).collect();
    assert_eq!(names, ["web.tail1234.ts.net", "web-1.tail1234.ts.net"]);
    let (_, none) = ask(&world, &token, ("GET", "/tailnet/-/devices?hostname=we", None)).await;
    assert_eq!(none["devices"], json!([]), "host names are compared whole");
    let tagged = "/tailnet/-/devices?tags=tag:agent&tags=tag:other";
    assert_eq!(ask(&world, &token, ("GET", tagged, None)).await.1["devices"], json!([]));
    let path = format!("/device/{second}");
    assert_eq!(ask(&world, &token, ("DELETE", &path, None)).await.0, 200);
    assert_eq!(ask(&world, &token, ("DELETE", &path, None)).await.0, 404);
}

// covers: R2-61, S13
#[test]
fn the_device_leaves_the_tailnet_before_its_machine_and_the_key_is_revoked_last() {
    paused(async {
        let stage = Stage::set(OnTailscale, Build::GOES_WELL).await;
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert_eq!(outcome, Outcome::Succeeded("client-a.tail1234.ts.net".to_owned()));
        stage.engine.tear_down(run.id(), By::default()).await.unwrap();
        stage.pass(Duration::from_secs(30)).await;
        assert_eq!(ended(&run).await, Outcome::TornDown);
        let place = |path: &str| {
            ["/device/", "/machines/", "/keys/"].into_iter().find(|part| path.contains(part))
        };
        let deletes = stage.changes().into_iter().filter(|line| line.method == "DELETE");
        let order: Vec<_> = deletes.filter_map(|line| place(&line.path)).collect();
        assert_eq!(order, ["/device/", "/machines/", "/keys/"]);
        stage.assert_as_before(run.id(), "torn down").await;
        stage.close().await;
    });
}

// covers: R2-11
#[test]
fn a_run_that_stood_still_for_91_days_uses_another_key() {
    paused(async {
        let stage = Stage::set(OnTailscale, Build::GOES_WELL).await;
        // The key is minted; then no machine can be started for a quarter of a year.
        let gone =
            stage.server.faults().add(FaultRule::new(Fault::Status(503)).path_contains("/sim"));
        let run = stage.start().await;
        stage.pass(Duration::from_secs(2)).await;
        stage.engine.pause(run.id(), By::default()).await.unwrap();
        // No call is under way when the time leaps.
        for _ in 0..100 {
            let head = stage.engine.snapshot(run.id()).await.unwrap().head;
            if head.status == RunStatus::Paused && head.owner.is_none() {
                break;
            }
            stage.pass(Duration::from_secs(1)).await;
        }
        let head = stage.engine.snapshot(run.id()).await.unwrap().head;
        assert_eq!((head.status, head.owner.is_some()), (RunStatus::Paused, false));
        // In one leap, as for a machine that slept: not poll by poll.
        tokio::time::advance(Duration::from_secs(91 * 24 * 3_600)).await;
        stage.pass(Duration::from_secs(1)).await;
        stage.server.faults().remove(gone);
        stage.engine.resume(run.id(), By::default()).await.unwrap();
        let outcome = ended(&run).await;
        let Outcome::RolledBack(Some(failure)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.code, "enrolment_key_expired");
        let minted = || {
            let lines = stage.changes();
            lines.iter().filter(|l| l.method == "POST" && l.path.ends_with("/keys")).count()
        };
        assert_eq!(minted(), 1);
        stage.engine.redrive(run.id(), By::default()).await.unwrap();
        stage.pass(Duration::from_secs(30)).await;
        assert!(matches!(ended(&run).await, Outcome::Succeeded(_)));
        assert_eq!(minted(), 2, "the old key is not used");
        let kinds: Vec<_> = stage.made().into_iter().map(|item| item.kind).collect();
        assert_eq!(kinds, ["device"]);
        stage.close().await;
    });
}

// covers: S7, S14
#[tokio::test]
async fn an_empty_404_is_no_proof_that_something_is_gone() {
    let world = World::start();
    let cx = world.cx("key");
    let (id, _) = build(&world.host, &cx, &world.keys(), &wanted()).await;
    let device = DeviceSpec::of(world.key("other").await);
    for body in ["", "{}", "<html>404</html>"] {
        let page = Fault::Page {
            status: 404,
            content_type: "application/json".to_owned(),
            body: body.to_owned(),
        };
        world.server.faults().add(FaultRule::new(page.clone()).method("DELETE").once());
        let error = world.keys().delete(&cx, &wanted(), &id).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("not_the_provider", Effect::Unknown));
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{body}");
        assert_eq!(world.of("auth_key").len(), 2, "{body}");
        world.server.faults().add(FaultRule::new(page).path_contains("/devices"));
        let error = world.devices().find(&cx, &device).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("not_the_provider", Effect::None), "{body}");
        world.server.faults().clear();
    }
    world.keys().delete(&cx, &wanted(), &id).await.unwrap();
}
