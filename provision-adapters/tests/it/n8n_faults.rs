//! n8n when calls fail, and the simulated instance asked without our client.

use std::{error::Error, time::Duration};

use provision_adapters::{
    n8n::{
        ActivationSpec, Credential, Workflow, WorkflowActivation,
        sim::{KEY, Release},
    },
    sim::{Fault, FaultRule, RetryAfterForm},
};
use provision_core::{Effect, ExternalId, Found, Resource, StepContext, StepError, Verdict};
use serde_json::{Value, json};

use crate::{
    n8n::{World, header, run, wanted},
    vercel::settled,
};

fn lost_answers() -> Vec<Fault> {
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
    ]
}

/// X1: neither the key, nor a drawn value, nor a stack is in anything an error can print.
fn assert_clean(error: &StepError) {
    let mut told = format!("{error} {error:?} {:?} {:?}", error.message(), error.hint());
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        told.push_str(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for secret in [KEY, "canary"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// How many of a kind are there; an activation is an active workflow.
fn count(world: &World, kind: &str) -> usize {
    match kind {
        "activation" => world.server.with(|sim| sim.active().len()),
        kind => world.of(kind).len(),
    }
}

/// Creates with a lost answer, finds exactly one, makes it ready, and deletes it with another.
async fn loses_the_answer<R: Resource>(
    world: &World,
    resource: &R,
    spec: &R::Spec,
    (route, kind): (&str, &str),
) {
    for (number, fault) in lost_answers().into_iter().enumerate() {
        let name = fault.name();
        let cx = world.cx(&format!("{kind}-{number}"));
        world.server.faults().add(FaultRule::new(fault).method("POST").path_contains(route).once());
        let intent = world.host.intend(&cx, resource, spec);
        let error = resource.create(&cx, spec, &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{name}: {error}");
        assert_clean(&error);
        let id = match resource.find(&cx, spec).await.unwrap() {
            Found::Ours(id) => id,
            Found::Foreign(foreign) if !foreign.markable => foreign.id,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(count(world, kind), 1, "{name}");
        settled(&cx, resource, spec, &id).await.unwrap();
        let how = if kind == "activation" { "POST" } else { "DELETE" };
        remove_with_faults(world, &cx, resource, (spec, &id, how)).await;
        assert_eq!(count(world, kind), 0, "{name}");
        world.server.faults().clear();
    }
}

/// A delete whose answer is lost is unknown, and repeated.
async fn remove_with_faults<R: Resource>(
    world: &World,
    cx: &StepContext,
    resource: &R,
    (spec, id, how): (&R::Spec, &ExternalId, &str),
) {
    world.server.faults().add(FaultRule::new(Fault::DropAfter).method(how).once());
    let error = resource.delete(cx, spec, id).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    for _ in 0..2 {
        resource.delete(cx, spec, id).await.unwrap();
    }
}

// covers: S9, S14, X1, R5-38
#[tokio::test]
async fn what_lost_its_answer_is_found_again() {
    let world = World::start();
    let credential = Credential::new(&world.n8n);
    loses_the_answer(&world, &credential, &header(), ("/credentials", "credential")).await;
    let spec = wanted(world.credential().await);
    let workflow = Workflow::new(&world.n8n);
    loses_the_answer(&world, &workflow, &spec, ("/workflows", "workflow")).await;
    let cx = world.cx("workflow");
    let intent = world.host.intend(&cx, &workflow, &spec);
    let id = workflow.create(&cx, &spec, &intent).await.unwrap();
    let active = ActivationSpec::new(settled(&cx, &workflow, &spec, &id).await.unwrap());
    let activation = WorkflowActivation::new(&world.n8n);
    loses_the_answer(&world, &activation, &active, ("/activate", "activation")).await;
}

async fn never_absent<R: Resource>(world: &World, resource: &R, spec: &R::Spec) {
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(403),
        Fault::Status(401),
        Fault::RefuseBefore,
        Fault::ResetAfter,
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
        Fault::SlowHeaders(Duration::from_secs(30)),
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
    ];
    let host = world.host.clone().with_call_max(Duration::from_millis(300));
    let cx = host.context(run(1), "absent");
    for fault in faults {
        let name = fault.name();
        world.server.faults().add(FaultRule::new(fault).method("GET"));
        let error = resource.find(&cx, spec).await.expect_err(name);
        assert_eq!(error.effect(), Effect::None, "{name}");
        assert_clean(&error);
        world.server.faults().clear();
    }
    // While it starts, everything is a page: with status 200 to a GET.
    world.server.with(|sim| sim.set_starting(true));
    let error = resource.find(&cx, spec).await.unwrap_err();
    assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{error}");
    world.server.with(|sim| sim.set_starting(false));
}

// covers: S7, S9, R1-36
#[tokio::test]
async fn a_failed_look_is_never_absent() {
    let world = World::start();
    let (spec, made) = world.workflow().await;
    let made_before = world.server.inventory();
    never_absent(&world, &Credential::new(&world.n8n), &header()).await;
    never_absent(&world, &Workflow::new(&world.n8n), &spec).await;
    never_absent(&world, &WorkflowActivation::new(&world.n8n), &ActivationSpec::new(made)).await;
    assert_eq!(world.server.inventory(), made_before);
}

#[tokio::test]
async fn a_page_while_starting_deletes_nothing() {
    let world = World::start();
    let (spec, made) = world.workflow().await;
    let workflow = Workflow::new(&world.n8n);
    let (cx, id) = (world.cx("workflow"), made.id.into());
    world.server.with(|sim| sim.set_starting(true));
    let error = workflow.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("starting", &Verdict::Retry { after: None }));
    world.server.with(|sim| sim.set_starting(false));
    assert_eq!(world.of("workflow").len(), 1);
}

// covers: L4
#[tokio::test]
async fn a_wait_asked_for_by_a_proxy_is_passed_on() {
    let world = World::start();
    let forms = [
        (RetryAfterForm::Seconds(90), 90..=90),
        (RetryAfterForm::Date(90), 88..=91),
        (RetryAfterForm::Absent, 60..=60),
    ];
    for (form, expected) in forms {
        let rule = FaultRule::new(Fault::RateLimited { retry_after: form }).once();
        world.server.faults().add(rule);
        let credential = Credential::new(&world.n8n);
        let error = credential.find(&world.cx("credential"), &header()).await.unwrap_err();
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert_eq!(bucket, "n8n/default/api");
        assert!(expected.contains(&after.as_secs()), "{form:?}: {after:?}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_permanent_and_said_once() {
    let world = World::start();
    world.host.set_secret("N8N_API_KEY", "canary-stale");
    let credential = Credential::new(&world.n8n);
    let error = credential.find(&world.cx("credential"), &header()).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert!(error.hint().is_some());
    assert_clean(&error);
    assert_eq!(world.server.requests().len(), 1);
}

/// Asks the simulated instance without our client.
async fn ask(world: &World, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v1{path}", world.server.url());
    let mut request = http.request(method.parse().unwrap(), url).header("x-n8n-api-key", KEY);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn says(answer: &Value, text: &str) -> bool {
    answer["message"].as_str().is_some_and(|message| message.contains(text))
}

fn workflow(nodes: &Value) -> Value {
    json!({ "name": "w", "nodes": nodes, "connections": {}, "settings": {} })
}

fn hook(path: &str, id: Option<&str>) -> Value {
    let mut node = json!({
        "id": "1", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2,
        "position": [0, 0], "parameters": { "path": path, "httpMethod": "POST" },
    });
    if let Some(id) = id {
        node["webhookId"] = json!(id);
    }
    node
}

// covers: R2-70
#[tokio::test]
async fn the_instance_refuses_what_the_real_one_refuses() {
    let world = World::start();
    let good = workflow(&json!([hook("p", Some("a"))]));
    let mut cases = Vec::new();
    for name in ["name", "nodes", "connections", "settings"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        cases.push((body, format!("must have required property '{name}'")));
    }
    for name in ["active", "id", "tags"] {
        let mut body = good.clone();
        body[name] = json!(true);
        cases.push((body, format!("request/body/{name} is read-only")));
    }
    for name in ["zzz", "pinData", "projectId"] {
        let mut body = good.clone();
        body[name] = json!({});
        cases.push((body, "must NOT have additional properties".to_owned()));
    }
    let mut body = good.clone();
    body["settings"] = json!({ "zzz": 1 });
    cases.push((body, "request/body/settings must NOT".to_owned()));
    for (body, text) in cases {
        let (status, answer) = ask(&world, "POST", "/workflows", Some(body)).await;
        assert_eq!(status, 400, "{text}");
        assert!(says(&answer, &text), "{text}: {answer}");
    }
    let (status, first) = ask(&world, "POST", "/workflows", Some(good.clone())).await;
    let (_, second) = ask(&world, "POST", "/workflows", Some(good.clone())).await;
    assert_eq!((status, &first["active"]), (200, &json!(false)), "200, not 201");
    assert_ne!(first["id"], second["id"], "names are not unique");
    let (status, _) = ask(&world, "POST", "/workflows", Some(first.clone())).await;
    assert_eq!(status, 400, "its own answer is refused");
    let (_, listed) = ask(&world, "GET", "/workflows?name=w&limit=1", None).await;
    let cursor = listed["nextCursor"].as_str().unwrap();
    let (_, rest) = ask(&world, "GET", &format!("/workflows?limit=1&cursor={cursor}"), None).await;
    assert_eq!(rest["nextCursor"], Value::Null);
    for query in ["limit=251", "cursor=bad"] {
        assert_eq!(ask(&world, "GET", &format!("/workflows?{query}"), None).await.0, 400);
    }
    let path = format!("/workflows/{}", first["id"].as_str().unwrap());
    assert_eq!(ask(&world, "DELETE", &path, None).await.0, 200);
    let (status, answer) = ask(&world, "DELETE", &path, None).await;
    assert!(status == 404 && says(&answer, "Not Found"));
    let (status, answer) = ask(&world, "POST", &format!("{path}/deactivate"), None).await;
    assert!(status == 404 && says(&answer, "not found."));
}

#[tokio::test]
async fn activation_has_its_rules() {
    let world = World::start();
    let manual = json!([{ "id": "1", "name": "m", "type": "n8n-nodes-base.manualTrigger",
        "typeVersion": 1, "position": [0, 0], "parameters": {} }]);
    let unknown = json!([{ "id": "1", "name": "m", "type": "acme.what", "typeVersion": 1,
        "position": [0, 0], "parameters": {} }]);
    let mut secured = hook("s", Some("b"));
    secured["parameters"]["authentication"] = json!("headerAuth");
    let cases = [
        (json!([]), "no trigger node"),
        (manual, "no trigger node"),
        (unknown, "Unrecognized node type: acme.what"),
        (json!([secured]), "Missing required credential: httpHeaderAuth"),
    ];
    for (nodes, text) in cases {
        let (_, made) = ask(&world, "POST", "/workflows", Some(workflow(&nodes))).await;
        let path = format!("/workflows/{}/activate", made["id"].as_str().unwrap());
        let (status, answer) = ask(&world, "POST", &path, None).await;
        assert!(status == 400 && says(&answer, text), "{text}: {answer}");
    }
    let mut ids = Vec::new();
    for (path, id) in [("twin", Some("c")), ("twin", Some("d")), ("lost", None)] {
        let body = workflow(&json!([hook(path, id)]));
        let (_, made) = ask(&world, "POST", "/workflows", Some(body)).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let activate = |id: &str| format!("/workflows/{id}/activate");
    for _ in 0..2 {
        assert_eq!(ask(&world, "POST", &activate(&ids[0]), None).await.0, 200);
    }
    let (status, answer) = ask(&world, "POST", &activate(&ids[1]), None).await;
    assert!(status == 400 && says(&answer, "conflict with one of the webhooks"));
    // Without a webhookId it is active, and never there.
    let (status, answer) = ask(&world, "POST", &activate(&ids[2]), None).await;
    assert_eq!((status, &answer["active"]), (200, &json!(true)));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let root = world.server.url();
    let lost = http.post(format!("{root}/webhook/lost")).send().await.unwrap();
    assert_eq!(lost.status(), 404);
    assert!(lost.text().await.unwrap().contains("is not registered"));
    let wrong = http.get(format!("{root}/webhook/twin")).send().await.unwrap();
    assert!(wrong.text().await.unwrap().contains("Did you mean to make a POST request?"));
    let right = http.post(format!("{root}/webhook/twin")).send().await.unwrap();
    assert_eq!(right.text().await.unwrap(), r#"{"message":"Workflow was started"}"#);
    let (_, runs) = ask(&world, "GET", &format!("/executions?workflowId={}", ids[0]), None).await;
    assert_eq!(runs["data"].as_array().unwrap().len(), 1);
    let publish = format!("/workflows/{}/publish", ids[0]);
    assert_eq!(ask(&world, "POST", &publish, None).await.0, 405);
    world.server.with(|sim| sim.set_release(Release::V2_41));
    assert_eq!(ask(&world, "POST", &publish, None).await.0, 200);
    // New content of an active workflow is live at once.
    let body = workflow(&json!([hook("moved", Some("c"))]));
    assert_eq!(ask(&world, "PUT", &format!("/workflows/{}", ids[0]), Some(body)).await.0, 200);
    let old = http.post(format!("{root}/webhook/twin")).send().await.unwrap();
    let new = http.post(format!("{root}/webhook/moved")).send().await.unwrap();
    assert_eq!((old.status().as_u16(), new.status().as_u16()), (404, 200));
}

#[tokio::test]
async fn keys_tags_credentials_and_broken_bodies_are_answered_as_by_the_real_one() {
    let world = World::start();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v1/workflows", world.server.url());
    let missing = http.get(&url).send().await.unwrap();
    assert_eq!(missing.status(), 401);
    assert!(missing.text().await.unwrap().contains("'X-N8N-API-KEY' header required"));
    let bearer = http.get(&url).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(bearer.status(), 401, "2.8 knows no bearer");
    let broken = http.post(&url).header("x-n8n-api-key", KEY).body("{").send().await.unwrap();
    assert_eq!(broken.status(), 500);
    assert!(broken.headers()["content-type"].to_str().unwrap().starts_with("text/html"));

    let tag = |name: &str| Some(json!({ "name": name }));
    let (status, made) = ask(&world, "POST", "/tags", tag("prov-1")).await;
    assert_eq!(status, 201);
    for name in ["prov-1", "a-name-of-more-than-24-characters"] {
        let (status, answer) = ask(&world, "POST", "/tags", tag(name)).await;
        assert!(status == 409 && says(&answer, "Tag already exists"));
    }
    let (_, workflow) = ask(&world, "POST", "/workflows", Some(workflow(&json!([])))).await;
    let path = format!("/workflows/{}/tags", workflow["id"].as_str().unwrap());
    let (status, answer) = ask(&world, "PUT", &path, Some(json!([{ "id": "nope" }]))).await;
    assert!(status == 404 && says(&answer, "Some tags not found"));
    let own = json!([{ "id": made["id"] }]);
    assert_eq!(ask(&world, "PUT", &path, Some(own)).await.0, 200);
    let (_, tagged) = ask(&world, "GET", "/workflows?tags=prov-1", None).await;
    assert_eq!(tagged["data"].as_array().unwrap().len(), 1);

    let credential =
        |kind: &str, data: Value| Some(json!({ "name": "c", "type": kind, "data": data }));
    let (status, answer) = ask(&world, "POST", "/credentials", credential("nope", json!({}))).await;
    assert!(status == 400 && says(&answer, "is not a known type"));
    let extra = credential("httpHeaderAuth", json!({ "name": "a", "value": "b", "zzz": 1 }));
    let (status, answer) = ask(&world, "POST", "/credentials", extra).await;
    assert!(status == 400 && says(&answer, "additional property \"zzz\""));
    let good = credential("httpHeaderAuth", json!({ "name": "a", "value": "shown-once" }));
    let (status, made) = ask(&world, "POST", "/credentials", good).await;
    assert!(status == 200 && !made.to_string().contains("shown-once"));
    assert_eq!(ask(&world, "GET", "/credentials/schema/httpHeaderAuth", None).await.0, 200);
    assert_eq!(ask(&world, "GET", "/credentials/schema/nope", None).await.0, 404);
    let (status, answer) = ask(&world, "GET", "/variables", None).await;
    assert!(status == 403 && says(&answer, "Your license does not allow for feat:variables"));
    let (status, _) = ask(&world, "GET", "/unknown", None).await;
    assert_eq!(status, 501, "what the simulator does not know is said aloud");
}
