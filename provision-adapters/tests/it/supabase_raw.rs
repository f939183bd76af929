//! The simulated Supabase asked without our client: what the provider is documented to refuse.

use provision_adapters::supabase::sim::ORGANIZATION;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::supabase::{CANARY, World, spec};

/// One request on a connection of its own; status, head and body.
pub(crate) async fn ask(
    world: &World,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String, Value) {
    let url = world.server.url();
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn api(world: &World, line: &str, body: &str) -> (u16, String, Value) {
    let bearer = format!("Bearer {CANARY}");
    ask(world, line, &[("authorization", &bearer), ("content-type", "application/json")], body)
        .await
}

fn create(change: impl Fn(&mut Value)) -> String {
    let mut body = json!({
        "name": "raw", "organization_slug": ORGANIZATION, "db_pass": "x",
        "region_selection": { "type": "specific", "code": "eu-west-1" },
    });
    change(&mut body);
    body.to_string()
}

// covers: R2-70
#[tokio::test]
async fn known_bad_requests_are_refused_as_documented() {
    let world = World::start();
    let id = world.server.with(|sim| sim.add_project("there"));
    let missing = "abcdefghijklmnopqrst";
    let without = |key: &'static str| {
        create(move |body| {
            body.as_object_mut().unwrap().remove(key);
        })
    };
    let with = |key: &'static str, value: Value| create(move |body| body[key] = value.clone());
    let cases: Vec<(String, String, u16)> = vec![
        ("POST /v1/projects".into(), without("organization_slug"), 400),
        ("POST /v1/projects".into(), without("db_pass"), 400),
        ("POST /v1/projects".into(), without("name"), 400),
        ("POST /v1/projects".into(), with("organization_slug", json!("another")), 403),
        ("POST /v1/projects".into(), with("name", json!("x".repeat(257))), 400),
        ("POST /v1/projects".into(), with("desired_instance_size", json!("smal")), 400),
        ("POST /v1/projects".into(), with("labels", json!({ "a": "b" })), 400),
        ("POST /v1/projects".into(), with("region", json!("eu-west-1")), 400),
        (
            "POST /v1/projects".into(),
            with("region_selection", json!({ "type": "specific", "code": "af-south-1" })),
            400,
        ),
        (
            "POST /v1/projects".into(),
            with("region_selection", json!({ "type": "smartGroup", "code": "africa" })),
            400,
        ),
        ("POST /v1/projects".into(), "{".into(), 400),
        (format!("GET /v1/projects/{missing}"), String::new(), 404),
        ("GET /v1/projects/UPPER".into(), String::new(), 400),
        (format!("DELETE /v1/projects/{missing}"), String::new(), 404),
        (format!("GET /v1/projects/{id}/health"), String::new(), 400),
        (format!("GET /v1/projects/{id}/health?services=auth,db"), String::new(), 400),
        (format!("POST /v1/projects/{id}/database/query"), "{}".into(), 400),
        (
            format!("POST /v1/projects/{id}/database/query"),
            json!({ "query": "select * from nowhere" }).to_string(),
            400,
        ),
        ("GET /v1/organizations/another/projects".into(), String::new(), 403),
        (format!("GET /v1/organizations/{ORGANIZATION}/projects?limit=101"), String::new(), 400),
        ("GET /v1/projects/available-regions".into(), String::new(), 400),
        ("GET /v1/snippets".into(), String::new(), 501),
    ];
    for (line, body, expected) in cases {
        let (status, head, answer) = api(&world, &line, &body).await;
        assert_eq!(status, expected, "{line} {body}: {answer}");
        assert!(answer["message"].is_string(), "{line}: {answer}");
        assert_eq!(head.contains("x-sim-unhandled"), status == 501, "{line}");
        assert!(head.contains("x-ratelimit-limit: 120"), "{line}: {head}");
        assert!(!head.contains("retry-after"), "{line}");
    }
    for token in ["", "Bearer wrong", "Bearer sbp_sim"] {
        let (status, _, answer) =
            ask(&world, "GET /v1/projects", &[("authorization", token)], "").await;
        assert_eq!((status, &answer["message"]), (401, &json!("Unauthorized")));
    }
}

#[tokio::test]
async fn names_are_not_unique_and_the_first_status_is_unknown() {
    let world = World::start();
    let body = create(|_| {});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (status, head, made) = api(&world, "POST /v1/projects", &body).await;
        assert_eq!((status, &made["status"]), (201, &json!("UNKNOWN")));
        assert!(made["database"].is_null() && made["api_keys"].is_null());
        assert!(!head.contains("location"));
        ids.push(made["ref"].as_str().unwrap().to_owned());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(world.made(), 2);
    let line = format!("DELETE /v1/projects/{}", ids[0]);
    let (status, _, gone) = api(&world, &line, "").await;
    assert_eq!(status, 200);
    assert!(gone["id"].is_number(), "the id of a deleted project is a number: {gone}");
    assert_eq!(api(&world, &line, "").await.0, 404);
}

#[tokio::test]
async fn secret_keys_are_masked_unless_asked_for() {
    let world = World::start();
    let id = world.server.with(|sim| sim.add_project("there"));
    let keys = world.server.with(|sim| sim.keys(&id));
    let secret = keys.iter().find(|key| key.starts_with("sb_secret_")).unwrap();
    for (query, shown) in [("", false), ("?reveal=true", true)] {
        let (status, _, all) =
            api(&world, &format!("GET /v1/projects/{id}/api-keys{query}"), "").await;
        assert_eq!(status, 200);
        assert_eq!(all.to_string().contains(secret.as_str()), shown, "{query}");
        let old = all.as_array().unwrap().iter().find(|key| key["name"] == "anon").unwrap();
        assert_eq!(old["api_key"], json!(keys[0]), "legacy keys are shown in full");
    }
}

// covers: X11
#[tokio::test]
async fn the_anonymous_key_reads_what_the_database_lets_it_read() {
    let world = World::start();
    let cx = world.cx("supabase");
    let project = world.make(&cx, &spec()).await;
    let id = project.project_ref.as_str();
    let seed = "insert into public.notes (owner, body) values (gen_random_uuid(), 'seed')";
    world.server.with(|sim| sim.execute(id, seed)).unwrap();
    let path = format!("GET /p/{id}/rest/v1/notes");
    let anon = cx.reveal(&project.anon_key).await.unwrap();
    let service = cx.reveal(&project.service_key).await.unwrap();
    let (status, _, answer) = ask(&world, &path, &[("apikey", anon.expose())], "").await;
    assert_eq!((status, &answer["code"]), (401, &json!("42501")), "{answer}");
    let grant = "grant select on public.notes to anon";
    world.server.with(|sim| sim.execute(id, grant)).unwrap();
    let (status, _, answer) = ask(&world, &path, &[("apikey", anon.expose())], "").await;
    assert_eq!((status, answer), (200, json!([])));
    let grant = "grant select on public.notes to service_role";
    world.server.with(|sim| sim.execute(id, grant)).unwrap();
    let (status, _, rows) = ask(&world, &path, &[("apikey", service.expose())], "").await;
    assert_eq!((status, rows.as_array().unwrap().len()), (200, 1));
    assert_eq!(ask(&world, &path, &[("apikey", "sb_wrong")], "").await.0, 401);
}
