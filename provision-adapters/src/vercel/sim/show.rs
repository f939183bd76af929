//! How the simulated provider words its answers.

use serde_json::{Value, json};

use super::state::{Deployment, Domain, Fate, Project, Variable};

pub(super) fn project(project: &Project, with_env: bool) -> Value {
    let mut shown = json!({
        "accountId": project.scope,
        "id": project.id,
        "name": project.name,
        "createdAt": project.created,
        "updatedAt": project.created,
        "directoryListing": false,
        "nodeVersion": "22.x",
        "resourceConfig": { "functionDefaultRegions": ["iad1"] },
        "defaultResourceConfig": { "functionDefaultRegions": ["iad1"] },
        "live": false,
    });
    let Some(object) = shown.as_object_mut() else { return shown };
    if let Some(settings) = project.settings.as_object() {
        object.extend(settings.clone());
    }
    if let Some(link) = &project.link {
        let link = json!({
            "type": "github", "org": link.org, "repo": link.repo, "repoId": link.repo_id,
            "gitCredentialId": "cred_sim", "productionBranch": "main", "deployHooks": [],
            "createdAt": project.created, "updatedAt": project.created, "sourceless": true,
        });
        object.insert("link".to_owned(), link);
    }
    if with_env {
        let env: Vec<Value> = project.env.iter().map(|v| variable(v, false)).collect();
        object.insert("env".to_owned(), Value::Array(env));
    }
    shown
}

/// Sensitive values are never shown, encrypted ones as a blob unless they are decrypted.
pub(super) fn variable(variable: &Variable, decrypt: bool) -> Value {
    let readable = variable.kind == "plain" || (variable.kind == "encrypted" && decrypt);
    let value = match (variable.kind.as_str(), readable) {
        (_, true) => variable.value.clone(),
        ("sensitive", _) => String::new(),
        // The provider's blob says nothing about the value but that there is one.
        _ => format!("eyJ2IjoidjIi{}", variable.id),
    };
    let mut shown = json!({
        "id": variable.id, "key": variable.key, "value": value, "type": variable.kind,
        "target": variable.targets, "configurationId": null, "createdAt": variable.created,
        "updatedAt": variable.created, "createdBy": "user_sim", "updatedBy": null,
    });
    if let Some(object) = shown.as_object_mut() {
        if variable.kind == "encrypted" && decrypt {
            object.insert("decrypted".to_owned(), json!(true));
        }
        if let Some(comment) = &variable.comment {
            object.insert("comment".to_owned(), json!(comment));
        }
        if let Some(branch) = &variable.branch {
            object.insert("gitBranch".to_owned(), json!(branch));
        }
    }
    shown
}

pub(super) fn domain(domain: &Domain, project: &str) -> Value {
    let labels: Vec<&str> = domain.name.rsplitn(3, '.').collect();
    let apex: Vec<&str> = labels.iter().take(2).rev().copied().collect();
    let mut shown = json!({
        "name": domain.name, "apexName": apex.join("."), "projectId": project,
        "redirect": null, "redirectStatusCode": null, "gitBranch": null,
        "verified": domain.verified, "createdAt": domain.created, "updatedAt": domain.created,
    });
    if let (false, Some(object)) = (domain.verified, shown.as_object_mut()) {
        let record = json!([{
            "type": "TXT", "domain": format!("_vercel.{}", apex.join(".")),
            "value": format!("vc-domain-verify={}", domain.name), "reason": "pending_domain_verification",
        }]);
        object.insert("verification".to_owned(), record);
    }
    shown
}

pub(super) fn deployment(deployment: &Deployment, alias: &[String], now: u64) -> Value {
    let state = deployment.state(now);
    let live = deployment.is_live(now);
    let target = if deployment.production { json!("production") } else { Value::Null };
    let mut shown = json!({
        "id": deployment.id, "name": deployment.name, "url": deployment.url,
        "projectId": deployment.project, "ownerId": deployment.scope, "target": target,
        "readyState": state, "status": state, "aliasAssigned": live, "aliasError": null,
        "alias": if live { alias } else { &[] },
        "createdAt": deployment.created, "buildingAt": deployment.building,
        "bootedAt": deployment.building, "buildSkipped": false, "creator": { "uid": "user_sim" },
        "public": false, "type": "LAMBDAS", "version": 2, "meta": deployment.meta,
        "regions": ["iad1"], "plan": "pro", "createdIn": "iad1", "routes": null,
        "build": { "env": [] }, "env": [], "projectSettings": {},
        "inspectorUrl": inspector(deployment),
        "isInConcurrentBuildsQueue": state == "QUEUED", "isInSystemBuildsQueue": false,
    });
    if let Some(object) = shown.as_object_mut() {
        object.extend(outcome(deployment, state, now));
    }
    shown
}

/// What only appears once the build has ended.
fn outcome(deployment: &Deployment, state: &str, now: u64) -> serde_json::Map<String, Value> {
    let mut more = serde_json::Map::new();
    match &deployment.fate {
        Fate::Error(code) if state == "ERROR" => {
            more.insert("errorCode".to_owned(), json!(code));
            // Build output may quote secrets of the app; nothing of it may be repeated.
            more.insert("errorMessage".to_owned(), json!("Command exited with 1: canary-output"));
        }
        Fate::AliasError if now >= deployment.aliased => {
            let error = json!({ "code": "cert_missing", "message": "no certificate" });
            more.insert("aliasError".to_owned(), error);
        }
        Fate::ChecksFail if now >= deployment.built => {
            more.insert("checksState".to_owned(), json!("completed"));
            more.insert("checksConclusion".to_owned(), json!("failed"));
        }
        _ => {}
    }
    if state == "READY" {
        more.insert("ready".to_owned(), json!(deployment.built));
    }
    more
}

fn inspector(deployment: &Deployment) -> String {
    let id = deployment.id.trim_start_matches("dpl_");
    format!("https://vercel.com/{}/{}/{id}", deployment.scope, deployment.name)
}

pub(super) fn listed(deployment: &Deployment, now: u64) -> Value {
    let state = deployment.state(now);
    json!({
        "uid": deployment.id, "name": deployment.name, "projectId": deployment.project,
        "url": deployment.url, "created": deployment.created, "createdAt": deployment.created,
        "state": state, "readyState": state, "type": "LAMBDAS", "creator": { "uid": "user_sim" },
        "meta": deployment.meta,
        "target": if deployment.production { json!("production") } else { Value::Null },
        // A moment in lists, a boolean elsewhere.
        "aliasAssigned": if deployment.is_live(now) { json!(deployment.aliased) } else { Value::Null },
        "inspectorUrl": inspector(deployment),
    })
}
