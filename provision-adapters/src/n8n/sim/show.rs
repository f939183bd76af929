//! How the simulated instance words its answers, and how it pages its listings.

use provision_core::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    message,
    state::{Credential, Execution, State, Tag, Workflow},
};
use crate::{
    http::format_rfc3339,
    sim::{SimRequest, SimResponse},
};

pub(super) fn workflow(workflow: &Workflow, state: &State) -> Value {
    let version = version_id(workflow);
    let tags: Vec<Value> =
        state.tags.iter().filter(|t| workflow.tags.contains(&t.id)).map(tag).collect();
    let triggers = workflow.nodes().filter(|node| is_trigger(node)).count();
    // Defaults are added to what was sent.
    let mut settings = workflow.settings.as_object().cloned().unwrap_or_default();
    settings.entry("callerPolicy").or_insert_with(|| json!("workflowsFromSameOwner"));
    settings.entry("availableInMCP").or_insert_with(|| json!(false));
    json!({
        "id": workflow.id, "name": workflow.name, "active": workflow.active,
        "createdAt": moment(workflow.created), "updatedAt": moment(workflow.updated),
        "versionId": version, "triggerCount": triggers, "isArchived": false,
        "activeVersionId": if workflow.active { json!(version) } else { Value::Null },
        "nodes": workflow.nodes, "connections": workflow.connections, "settings": settings,
        "staticData": null, "pinData": null, "meta": null, "tags": tags,
    })
}

fn version_id(workflow: &Workflow) -> String {
    let seed = format!("{}{}", workflow.id, workflow.version);
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).to_string()
}

/// What can start a workflow by itself: a manual trigger cannot.
pub(super) fn is_trigger(node: &Map<String, Value>) -> bool {
    let kind = node.get("type").and_then(Value::as_str).unwrap_or_default();
    let trigger =
        kind.ends_with("Trigger") || kind.ends_with(".webhook") || kind.ends_with(".cron");
    trigger && !kind.ends_with(".manualTrigger")
}

pub(super) fn tag(tag: &Tag) -> Value {
    let made = moment(tag.created);
    json!({ "id": tag.id, "name": tag.name, "createdAt": made, "updatedAt": made })
}

/// Never any of the data.
pub(super) fn credential(credential: &Credential) -> Value {
    let made = moment(credential.created);
    json!({
        "id": credential.id, "name": credential.name, "type": credential.kind,
        "isManaged": false, "isGlobal": false, "isResolvable": false,
        "resolvableAllowFallback": false, "resolverId": null, "usageScope": "project",
        "createdAt": made, "updatedAt": made,
    })
}

pub(super) fn execution(execution: &Execution, id: &Value) -> Value {
    let at = moment(execution.started);
    json!({
        "id": id, "finished": true, "mode": "webhook", "retryOf": null, "retrySuccessId": null,
        "status": "success", "startedAt": at, "stoppedAt": at, "workflowId": execution.workflow,
        "waitTill": null,
    })
}

/// One page: at most 250 items, and an opaque cursor to the next.
pub(super) fn paged(request: &SimRequest, items: &[Value]) -> SimResponse {
    let limit = request.q("limit").map_or(Ok(100), str::parse::<usize>);
    let Ok(limit) = limit else { return message(400, "request/query/limit must be number") };
    if limit > 250 {
        return message(400, "request/query/limit must be <= 250");
    }
    let from = match request.q("cursor") {
        None => 0,
        Some(cursor) => match cursor.strip_prefix("offset-").map(str::parse::<usize>) {
            Some(Ok(from)) => from,
            _ => return message(400, "An invalid cursor was provided"),
        },
    };
    let page: Vec<&Value> = items.iter().skip(from).take(limit.max(1)).collect();
    let end = from + page.len();
    let next = (end < items.len()).then(|| format!("offset-{end}"));
    SimResponse::json(200, &json!({ "data": page, "nextCursor": next }))
}

/// Writes `2026-11-21T09:00:00.000Z`.
pub(super) fn moment(ms: u64) -> String {
    let whole = format_rfc3339(Timestamp::from_millis(ms));
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_written_as_the_real_one_does() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
        ];
        for (ms, expected) in cases {
            assert_eq!(moment(ms), expected);
        }
    }
}
