//! The simulated Vercel itself, asked without our client: what the provider refuses, it refuses.

use provision_adapters::{
    sim::{SimOptions, SimServer},
    vercel::sim::{Fate, TOKEN, VercelSim},
};
use serde_json::{Value, json};

struct Raw {
    server: SimServer<VercelSim>,
    http: reqwest::Client,
}

impl Raw {
    fn start() -> Self {
        let options = SimOptions::default().with_speed(0.0);
        let server = SimServer::start(VercelSim::new(), options).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server, http }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.server.url());
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn project(&self, name: &str) -> String {
        let body = json!({
            "name": name, "gitRepository": { "type": "github", "repo": "acme/site" },
        });
        let (status, made) = self.ask("POST", "/v11/projects", Some(body)).await;
        assert_eq!(status, 200, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

// covers: R2-70
#[tokio::test]
async fn projects_refuse_what_the_provider_refuses() {
    let raw = Raw::start();
    let id = raw.project("acme").await;
    let cases = [
        (json!({}), 400, "bad_request"),
        (json!({ "name": "Acme" }), 400, "bad_request"),
        (json!({ "name": "x", "plan": "pro" }), 400, "bad_request"),
        (json!({ "name": "x", "gitRepository": { "repo": "a/b" } }), 400, "bad_request"),
        (json!({ "name": "acme" }), 409, "conflict"),
    ];
    for (body, status, wanted) in cases {
        let (got, answer) = raw.ask("POST", "/v11/projects", Some(body.clone())).await;
        assert_eq!((got, code(&answer)), (status, wanted), "{body}");
    }
    assert_eq!(raw.ask("GET", "/v9/projects/nobody", None).await.0, 404);
    assert_eq!(raw.ask("GET", "/v9/projects/acme?teamId=team_x", None).await.0, 403);
    let path = format!("/v9/projects/{id}");
    assert_eq!(raw.ask("DELETE", &path, None).await.0, 204);
    assert_eq!(raw.ask("DELETE", &path, None).await.0, 404);
}

// covers: R2-70
#[tokio::test]
async fn an_unknown_version_of_an_endpoint_is_said_aloud() {
    let raw = Raw::start();
    let id = raw.project("acme").await;
    let cases = [
        ("GET", "/v3/projects/acme".to_owned()),
        ("GET", "/v10/projects/acme".to_owned()),
        ("GET", "/v6/deployments/dpl_1".to_owned()),
        ("GET", "/v7/deployments/dpl_1".to_owned()),
        ("GET", "/v13/deployments".to_owned()),
        ("GET", format!("/v6/projects/{id}/domains/a.example")),
        ("GET", "/v9/domains/a.example/config".to_owned()),
        ("POST", format!("/v10/projects/{id}/domains/a.example/verify")),
        ("DELETE", "/v13/deployments".to_owned()),
    ];
    for (method, path) in cases {
        let (status, answer) = raw.ask(method, &path, None).await;
        assert_eq!(status, 501, "{method} {path}: {answer}");
    }
    for path in ["/v6/deployments", "/v7/deployments"] {
        assert_eq!(raw.ask("GET", path, None).await.0, 200, "{path}");
    }
    assert_eq!(raw.ask("GET", "/v13/deployments/dpl_1", None).await.0, 404);
    assert_eq!(raw.ask("GET", "/v6/domains/a.example/config", None).await.0, 200);
}

#[tokio::test]
async fn a_call_without_a_valid_token_is_refused() {
    let raw = Raw::start();
    let url = format!("{}/v10/projects", raw.server.url());
    assert_eq!(raw.http.get(&url).send().await.unwrap().status(), 401);
    let wrong = raw.http.get(&url).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 403);
}

#[tokio::test]
async fn variables_conflict_fail_in_part_and_are_never_shown() {
    let raw = Raw::start();
    let id = raw.project("acme").await;
    let path = format!("/v10/projects/{id}/env");
    let one =
        json!({ "key": "A", "value": "secret", "type": "sensitive", "target": ["production"] });
    let bad = [
        json!({ "key": "A", "value": "v", "target": ["production"] }),
        json!({ "key": "A", "value": "v", "type": "plain" }),
        json!({ "key": "A", "value": "v", "type": "secret", "target": ["production"] }),
        json!({ "key": "A", "value": "v", "type": "plain", "target": ["everywhere"] }),
        json!({ "key": "A", "value": "v", "type": "sensitive", "target": ["development"] }),
        json!([]),
    ];
    for body in bad {
        let (status, answer) = raw.ask("POST", &path, Some(body.clone())).await;
        assert_eq!(status, 400, "{body} {answer}");
    }
    assert_eq!(raw.ask("POST", &path, Some(one.clone())).await.0, 201);
    let (status, answer) = raw.ask("POST", &path, Some(one.clone())).await;
    assert_eq!((status, code(&answer)), (400, "ENV_CONFLICT"));
    let two = json!([
        one,
        { "key": "B", "value": "v", "type": "encrypted", "target": ["production"] },
    ]);
    let (status, answer) = raw.ask("POST", &path, Some(two.clone())).await;
    assert_eq!(status, 201, "partly successful");
    assert_eq!(answer["failed"].as_array().unwrap().len(), 1);
    let (status, answer) = raw.ask("POST", &format!("{path}?upsert=true"), Some(two)).await;
    assert_eq!((status, answer["failed"].as_array().unwrap().len()), (201, 0));
    let (_, listed) = raw.ask("GET", &format!("{path}?decrypt=true"), None).await;
    assert_eq!(listed["envs"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("secret"), "sensitive values are write-only");
    let (_, listed) = raw.ask("GET", &path, None).await;
    assert!(!listed["envs"].to_string().contains("\"v\""), "encrypted values are a blob");
    let env = listed["envs"][0]["id"].as_str().unwrap();
    let path = format!("/v9/projects/{id}/env/{env}");
    assert_eq!(raw.ask("DELETE", &path, None).await.0, 200);
    assert_eq!(raw.ask("DELETE", &path, None).await.0, 404);
    // The team's policy wants sensitive values in production.
    raw.server.with(|sim| sim.set_sensitive_only(true));
    let plain = json!({ "key": "C", "value": "v", "type": "plain", "target": ["production"] });
    let path = format!("/v10/projects/{id}/env");
    assert_eq!(raw.ask("POST", &path, Some(plain)).await.0, 400);
}

#[tokio::test]
async fn deployments_are_deduplicated_checked_and_counted() {
    let raw = Raw::start();
    raw.project("acme").await;
    let git = json!({ "type": "github", "org": "acme", "repo": "site", "ref": "main" });
    let good =
        json!({ "name": "acme", "project": "acme", "gitSource": git, "target": "production" });
    let path = "/v13/deployments";
    let (status, first) = raw.ask("POST", path, Some(good.clone())).await;
    assert_eq!(status, 200);
    let (_, same) = raw.ask("POST", path, Some(good.clone())).await;
    assert_eq!(same["id"], first["id"], "without forceNew the same commit is one deployment");
    let (_, forced) = raw.ask("POST", &format!("{path}?forceNew=1"), Some(good)).await;
    assert_ne!(forced["id"], first["id"]);
    let whole = json!({ "type": "github", "repo": "acme/site", "ref": "main" });
    let hidden = json!({ "type": "github", "org": "x", "repo": "hidden", "ref": "main" });
    raw.server.with(|sim| sim.set_repo_hidden("x/hidden", true));
    let file = json!([{ "file": "a", "sha": "0000000000000000000000000000000000000001" }]);
    let cases = [
        (json!({ "project": "acme" }), 400, "bad_request"),
        (json!({ "name": "acme" }), 400, "bad_request"),
        (json!({ "name": "nobody", "files": [] }), 404, "not_found"),
        (json!({ "name": "acme", "gitSource": whole }), 400, "bad_request"),
        (json!({ "name": "acme", "gitSource": hidden }), 400, "incorrect_git_source_info"),
        (json!({ "name": "acme", "files": file }), 400, "missing_files"),
        (json!({ "name": "acme", "files": [], "env": {} }), 400, "bad_request"),
        (json!({ "name": "acme", "files": [], "target": "moon" }), 400, "bad_request"),
    ];
    for (body, status, wanted) in cases {
        let (got, answer) = raw.ask("POST", path, Some(body.clone())).await;
        assert_eq!((got, code(&answer)), (status, wanted), "{body}");
    }
    let upload = raw
        .http
        .post(format!("{}/v2/files", raw.server.url()))
        .bearer_auth(TOKEN)
        .header("x-vercel-digest", "0000000000000000000000000000000000000001")
        .body("bytes");
    assert_eq!(upload.send().await.unwrap().status(), 200);
    let (status, _) = raw.ask("POST", path, Some(json!({ "name": "acme", "files": file }))).await;
    assert_eq!(status, 200);
    let path = format!("/v13/deployments/{}", first["id"].as_str().unwrap());
    assert_eq!(raw.ask("DELETE", &path, None).await.1["state"], "DELETED");
    assert_eq!(raw.ask("DELETE", &path, None).await.0, 404);
    raw.server.with(|sim| sim.set_deployments_per_day(0));
    let body = json!({ "name": "acme", "files": [] });
    let (_, answer) = raw.ask("POST", "/v13/deployments?forceNew=1", Some(body)).await;
    assert_eq!(code(&answer), "api-deployments-free-per-day");
}

#[tokio::test]
async fn an_app_is_served_only_when_it_is_live_and_complete() {
    let raw = Raw::start();
    raw.project("acme").await;
    let ask_app = async || {
        let request = raw.http.get(format!("{}/", raw.server.url()));
        request.header("host", "acme.vercel.app").send().await.unwrap().status().as_u16()
    };
    let deploy = json!({ "name": "acme", "target": "production", "gitSource": {
        "type": "github", "org": "acme", "repo": "site", "ref": "main",
    }});
    assert_eq!(ask_app().await, 404, "nothing is deployed");
    raw.ask("POST", "/v13/deployments?forceNew=1", Some(deploy.clone())).await;
    assert_eq!(ask_app().await, 500, "built without its variables");
    let env = json!({ "key": "A", "value": "v", "type": "plain", "target": ["production"] });
    raw.ask("POST", "/v10/projects/acme/env", Some(env)).await;
    assert_eq!(ask_app().await, 500, "new values reach new deployments only");
    raw.server.with(|sim| sim.decide_next(Fate::Error("BUILD_FAILED".to_owned())));
    raw.ask("POST", "/v13/deployments?forceNew=1", Some(deploy.clone())).await;
    assert_eq!(ask_app().await, 500, "a failed build changes nothing");
    raw.ask("POST", "/v13/deployments?forceNew=1", Some(deploy)).await;
    assert_eq!(ask_app().await, 200);
    raw.server.with(|sim| sim.set_app_needs(["A", "B"]));
    assert_eq!(ask_app().await, 500);
}

#[tokio::test]
async fn domains_are_verified_by_their_records() {
    let raw = Raw::start();
    let id = raw.project("acme").await;
    let path = format!("/v10/projects/{id}/domains");
    assert_eq!(raw.ask("POST", &path, Some(json!({ "name": "nodots" }))).await.0, 400);
    let body = json!({ "name": "app.acme.example" });
    let (status, made) = raw.ask("POST", &path, Some(body.clone())).await;
    assert_eq!((status, &made["verified"]), (200, &json!(false)));
    assert_eq!(raw.ask("POST", &path, Some(body)).await.0, 409);
    let own = format!("/v9/projects/{id}/domains/app.acme.example");
    assert_eq!(raw.ask("POST", &format!("{own}/verify"), None).await.0, 400);
    raw.server.with(|sim| sim.set_dns("app.acme.example"));
    let (_, verified) = raw.ask("POST", &format!("{own}/verify"), None).await;
    assert_eq!(verified["verified"], true);
    let (_, config) = raw.ask("GET", "/v6/domains/app.acme.example/config", None).await;
    assert_eq!(config["misconfigured"], false);
    assert_eq!(raw.ask("DELETE", &own, None).await.0, 200);
    assert_eq!(raw.ask("DELETE", &own, None).await.0, 404);
}

#[tokio::test]
async fn a_restarted_cloud_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SimOptions::default().with_persist(folder.path().join("vercel.json"));
    let first = SimServer::start(VercelSim::new(), options()).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "name": "acme" });
    let url = format!("{}/v11/projects", first.url());
    http.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap();
    let before = first.inventory();
    first.stop();
    let second = SimServer::start(VercelSim::new(), options()).unwrap();
    assert_eq!(second.inventory(), before);
    assert_eq!(before.len(), 1);
}
