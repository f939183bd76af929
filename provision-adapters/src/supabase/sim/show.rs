//! How things are shown.

use std::collections::BTreeSet;

use provision_core::Timestamp;
use serde_json::{Value, json};

use super::{
    ORGANIZATION, Setup, SupabaseSim,
    state::{Fate, Project},
};
use crate::{
    http::format_rfc3339,
    sim::{SimRequest, SimResponse, SimTime},
    supabase::{DATA_API_SERVICE, REGION_GROUPS, REGIONS, SERVICES},
};

pub(super) fn organizations() -> SimResponse {
    SimResponse::json(
        200,
        &json!([{ "id": ORGANIZATION, "slug": ORGANIZATION, "name": "Simulated organization" }]),
    )
}

pub(super) fn organization(slug: &str) -> SimResponse {
    if slug != ORGANIZATION {
        return SupabaseSim::refusal(403, "Forbidden resource");
    }
    SimResponse::json(
        200,
        &json!({
            "id": ORGANIZATION,
            "name": "Simulated organization",
            "plan": "pro",
            "opt_in_tags": [],
            "allowed_release_channels": ["ga"],
        }),
    )
}

pub(super) fn regions(request: &SimRequest, full: &BTreeSet<String>) -> SimResponse {
    if request.q("organization_slug").is_none() {
        return SupabaseSim::refusal(400, "organization_slug: Required");
    }
    let specific: Vec<Value> = REGIONS
        .iter()
        .map(|code| {
            let mut region =
                json!({ "name": code, "code": code, "type": "specific", "provider": "AWS" });
            if full.contains(*code) {
                put(&mut region, "status", json!("capacity"));
            }
            region
        })
        .collect();
    let group = |code: &str| json!({ "name": code, "code": code, "type": "smartGroup" });
    let groups: Vec<Value> = REGION_GROUPS.iter().map(|code| group(code)).collect();
    let nearest: Vec<&Value> = specific.iter().take(1).collect();
    SimResponse::json(
        200,
        &json!({
            "recommendations": { "smartGroup": group("emea"), "specific": nearest },
            "all": { "smartGroup": groups, "specific": specific },
        }),
    )
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn basics(project: &Project, status: &str) -> Value {
    json!({
        "id": project.id,
        "ref": project.id,
        "organization_id": ORGANIZATION,
        "organization_slug": ORGANIZATION,
        "name": project.name,
        "region": project.region,
        "created_at": format_rfc3339(Timestamp::from_millis(project.created_ms)),
        "status": status,
    })
}

/// The answer to a create: no keys, no database.
pub(super) fn made(project: &Project) -> Value {
    basics(project, "UNKNOWN")
}

pub(super) fn project(project: &Project, setup: &Setup, now: SimTime) -> Value {
    let mut shown = basics(project, project.status(setup, now));
    let database = json!({
        "host": format!("db.{}.supabase.co", project.id),
        "version": "15.8.1.085",
        "postgres_engine": "15",
        "release_channel": "ga",
    });
    put(&mut shown, "database", database);
    shown
}

/// As the listing of an organization shows it.
pub(super) fn listed(project: &Project, setup: &Setup, now: SimTime) -> Value {
    let status = project.status(setup, now);
    let inner = if status == "INACTIVE" { "UNKNOWN" } else { status };
    json!({
        "ref": project.id,
        "name": project.name,
        "cloud_provider": "AWS",
        "region": project.region,
        "is_branch": false,
        "status": status,
        "inserted_at": format_rfc3339(Timestamp::from_millis(project.created_ms)),
        "databases": [{
            "region": project.region,
            "status": inner,
            "cloud_provider": "AWS",
            "identifier": project.id,
            "type": "PRIMARY",
        }],
    })
}

pub(super) fn health(
    project: &Project,
    setup: &Setup,
    request: &SimRequest,
    now: SimTime,
) -> SimResponse {
    let asked = request.q_all("services");
    if asked.is_empty() || asked.iter().any(|name| !SERVICES.contains(name)) {
        return SupabaseSim::refusal(400, "services: Invalid enum value");
    }
    let services = project.services_are_up(setup, now);
    let database = project.database_is_up(setup, now);
    let service = |name: &str| {
        let (status, error) = match (name, project.fate) {
            (DATA_API_SERVICE, _) if !setup.data_api => ("COMING_UP", None),
            ("auth", Fate::SickService) if services => ("UNHEALTHY", Some("crashed")),
            // In its first seconds the pooler does not know the project.
            ("pooler", _) if !services && database => {
                ("UNHEALTHY", Some("{\"error\":\"not found\"}"))
            }
            ("db" | "db_postgres_user", _) if database => ("ACTIVE_HEALTHY", None),
            ("realtime", _) if !services && database => (
                "UNHEALTHY",
                Some("{\"error\":\"Failed to retrieve project's realtime service health\"}"),
            ),
            _ if services => ("ACTIVE_HEALTHY", None),
            _ => ("COMING_UP", None),
        };
        let mut shown =
            json!({ "name": name, "healthy": status == "ACTIVE_HEALTHY", "status": status });
        if let Some(error) = error {
            put(&mut shown, "error", json!(error));
        }
        shown
    };
    SimResponse::json(200, &asked.into_iter().map(service).collect::<Vec<_>>())
}

/// Legacy keys are shown in full, new secret keys only on demand.
pub(super) fn keys(project: &Project, reveal: bool) -> SimResponse {
    let keys = &project.keys;
    let masked: String = keys.secret.chars().take(15).chain("\u{b7}".repeat(8).chars()).collect();
    let secret = if reveal { keys.secret.clone() } else { masked };
    let old = |name: &str, value: &str| {
        json!({
            "name": name, "api_key": value, "id": name, "type": "legacy",
            "description": format!("Legacy {name} API key"), "prefix": Value::Null,
        })
    };
    SimResponse::json(
        200,
        &json!([
            old("anon", &keys.anon),
            old("service_role", &keys.service_role),
            {
                "name": "default", "api_key": keys.publishable, "id": "pk", "type": "publishable",
                "description": Value::Null,
            },
            {
                "name": "default", "api_key": secret, "id": "sk", "type": "secret",
                "description": Value::Null,
                "secret_jwt_template": { "role": "service_role" },
            },
        ]),
    )
}
