//! The provider's error table (docs.hetzner.cloud, "Errors", and its own client hcloud-go v2.47,
//! read 2026-10): from code and status to what may have happened and what to do.

use std::time::Duration;

use provision_core::{CallKind, Effect, StepError, Verdict};

use super::{
    CAPACITY_WAIT, LISTING_LAG, LOCKED_WAIT, MAINTENANCE_WAIT, REFILL,
    model::{Action, ErrorBody},
};
use crate::http::{Opinion, Response, refill_pause};

/// Longest word of the provider's that is shown or stored.
const WORD_MAX: usize = 40;

/// What this provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(kind: CallKind, status: u16, body: &[u8]) -> Option<Opinion> {
    let code = code(body).unwrap_or_default();
    match (status, code.as_str()) {
        // The announced reset is when all calls are back; the next one is back in a second.
        (429, _) | (_, "rate_limit_exceeded") => {
            Some(Opinion::throttled_for("rate_limit_exceeded", refill_pause(REFILL)))
        }
        (_, "uniqueness_error") if kind == CallKind::Mutate => {
            Some(Opinion::name_taken(LISTING_LAG))
        }
        (_, word) => refused(word).or_else(|| repeated(word)),
    }
}

/// What a repetition cannot help, or only after somebody has done something about it.
fn refused(code: &str) -> Option<Opinion> {
    Some(match code {
        "token_readonly" => Opinion::permanent("token_readonly")
            .with_hint("the token may only read: make one that may write"),
        "resource_limit_exceeded" => Opinion::operator("resource_limit_exceeded")
            .with_hint("the project's limit is reached: have it raised in the console, then retry"),
        "protected" => Opinion::operator("protected")
            .with_hint("it is protected: end its protection in the console, then retry"),
        "deprecated_api_endpoint" => Opinion::permanent("deprecated_api_endpoint").with_hint(
            "the provider has ended this call: a newer version of the adapter is needed",
        ),
        "invalid_input" => Opinion::permanent("invalid_input"),
        "json_error" => Opinion::permanent("json_error"),
        "method_not_allowed" => Opinion::permanent("method_not_allowed"),
        "unsupported_error" => Opinion::permanent("unsupported_error"),
        "invalid_server_type" => Opinion::permanent("invalid_server_type")
            .with_hint("a disk that has grown fits no smaller type"),
        "server_not_stopped" => {
            Opinion::permanent("server_not_stopped").with_hint("power the server off before")
        }
        "private_net_only_server" => Opinion::permanent("private_net_only_server")
            .with_hint("a server without a public address takes no firewall"),
        "firewall_managed_by_label_selector" => {
            Opinion::permanent("firewall_managed_by_label_selector")
        }
        "no_subnet_available" => Opinion::permanent("no_subnet_available")
            .with_hint("the network has no subnet in the server's zone, or it is full"),
        "networks_overlap" => Opinion::permanent("networks_overlap"),
        "ip_not_available" => Opinion::permanent("ip_not_available"),
        _ => return None,
    })
}

/// What is worth repeating, at once, later, or after a look.
fn repeated(code: &str) -> Option<Opinion> {
    const ELSEWHERE: &str = "another location or server type may have room";
    let capacity = |code| Opinion::retry_after(code, CAPACITY_WAIT).with_hint(ELSEWHERE);
    Some(match code {
        "locked" => Opinion::retry_after("locked", LOCKED_WAIT),
        "maintenance" => Opinion::retry_after("maintenance", MAINTENANCE_WAIT),
        "resource_in_use" => Opinion::retry_after("resource_in_use", LOCKED_WAIT)
            .with_hint("something still uses it: it goes when that is gone"),
        "resource_unavailable" => capacity("resource_unavailable"),
        "placement_error" => capacity("placement_error"),
        "no_space_left_in_location" => capacity("no_space_left_in_location"),
        // S11: this call has done nothing. Whether an earlier one of ours has, its own end says.
        "firewall_already_applied"
        | "server_already_added"
        | "server_already_attached"
        | "volume_already_attached" => Opinion::retry_after("already_attached", LOCKED_WAIT)
            .with_hint("it is attached already, maybe to another server"),
        "conflict" => Opinion::unknown("conflict"),
        "service_error" => Opinion::unknown("service_error"),
        "server_error" | "unknown_error" | "bad_gateway" | "unavailable" | "timeout" => {
            Opinion::unknown("server_error")
        }
        _ => return None,
    })
}

/// Whether a 404 is the provider's own, and not the page of something in between.
pub(crate) fn is_definite_404(response: &Response) -> bool {
    let absent = ["not_found", "firewall_resource_not_found"];
    response.status == 404 && code(&response.body).is_some_and(|code| absent.contains(&&*code))
}

fn code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error.code)
}

/// How the provider finds an answer in its own logs; its support asks for it.
pub(crate) fn correlation(response: &Response) -> Option<&str> {
    let id = response.headers.get("x-correlation-id")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (id.len() <= 64 && id.bytes().all(plain)).then_some(id)
}

/// The code of a failed action as a short word: it comes from the provider, and is stored.
pub(crate) fn failed_action(action: &Action) -> String {
    let code = action.error.as_ref().map_or("unknown", |error| &error.code);
    let plain = |c: &char| c.is_ascii_lowercase() || *c == '_';
    let word: String = code.chars().filter(plain).take(WORD_MAX).collect();
    format!("action_{word}")
}

/// A change was taken and is not done: the next attempt looks whether it is.
pub(crate) fn under_way(operation: &'static str, code: &'static str, again: Duration) -> StepError {
    StepError::new(Effect::Unknown, Verdict::Retry { after: Some(again) }, operation)
        .with_code(code)
        .with_message("taken by the provider, and not done yet")
}

/// A person has to do something before this can be deleted.
pub(crate) fn parked(operation: &'static str, code: &'static str, hint: &'static str) -> StepError {
    StepError::new(Effect::None, Verdict::Operator, operation).with_code(code).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use provision_core::{Call, Effect, StepError, Timestamp, Verdict};

    use super::{failed_action, opinion};
    use crate::{
        hetzner::model::{Action, ActionStatus, ErrorDetail},
        http::{Response, classify},
    };

    fn judged(call: &Call, status: u16, code: &str) -> StepError {
        let body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"canary\"}}}}");
        let headers = [("ratelimit-remaining", "0"), ("ratelimit-reset", "3600")];
        let headers = headers.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        let response = Response::test(status, headers, body.as_bytes(), Timestamp::ZERO);
        classify(call, &response, "b", |status, body| opinion(call.kind, status, body))
    }

    // covers: S9, R1-02, R2-09
    #[test]
    fn every_documented_code_has_its_class() {
        let retry = |secs| Verdict::Retry { after: Some(Duration::from_secs(secs)) };
        let soon = Verdict::Retry { after: None };
        let (none, unknown) = (Effect::None, Effect::Unknown);
        let cases = [
            (400, "json_error", none, Verdict::Permanent, "json_error"),
            (401, "unauthorized", none, Verdict::Permanent, "unauthorized"),
            (401, "token_readonly", none, Verdict::Permanent, "token_readonly"),
            (403, "forbidden", none, Verdict::Permanent, "forbidden"),
            (403, "resource_limit_exceeded", none, Verdict::Operator, "resource_limit_exceeded"),
            (403, "maintenance", none, retry(60), "maintenance"),
            (404, "not_found", none, Verdict::Permanent, "not_found"),
            (405, "method_not_allowed", none, Verdict::Permanent, "method_not_allowed"),
            (409, "uniqueness_error", unknown, retry(5), "name_taken"),
            (409, "conflict", unknown, soon.clone(), "conflict"),
            (410, "deprecated_api_endpoint", none, Verdict::Permanent, "deprecated_api_endpoint"),
            (412, "resource_unavailable", none, retry(120), "resource_unavailable"),
            (412, "placement_error", none, retry(120), "placement_error"),
            (422, "placement_error", none, retry(120), "placement_error"),
            (422, "invalid_input", none, Verdict::Permanent, "invalid_input"),
            (422, "unsupported_error", none, Verdict::Permanent, "unsupported_error"),
            (422, "service_error", unknown, soon.clone(), "service_error"),
            (422, "resource_in_use", none, retry(5), "resource_in_use"),
            (422, "volume_already_attached", none, retry(5), "already_attached"),
            (423, "locked", none, retry(5), "locked"),
            (423, "protected", none, Verdict::Operator, "protected"),
            (500, "server_error", unknown, soon.clone(), "server_error"),
            (503, "unavailable", unknown, soon.clone(), "server_error"),
            (504, "timeout", unknown, soon, "server_error"),
        ];
        for (status, code, effect, verdict, word) in cases {
            let error = judged(&Call::mutate("create server"), status, code);
            assert_eq!((error.effect(), error.verdict()), (effect, &verdict), "{code}");
            assert_eq!(error.code(), word);
            assert!(!format!("{error} {error:?}").contains("canary"));
            let read = judged(&Call::read("find server"), status, code);
            assert_eq!(read.effect(), Effect::None, "{code}");
        }
    }

    // covers: L4, R2-48
    #[test]
    fn a_used_up_allowance_is_not_waited_for_until_it_is_full() {
        for code in ["rate_limit_exceeded", "no code of theirs"] {
            let error = judged(&Call::mutate("create server"), 429, code);
            let after = Duration::from_secs(5);
            assert_eq!(error.verdict(), &Verdict::Throttled { bucket: "b".to_owned(), after });
        }
    }

    #[test]
    fn what_an_action_says_of_its_failure_is_cut_to_a_word() {
        let error = Some(ErrorDetail { code: "placement_error <b>canary</b>7".to_owned() });
        let command = "create_server".to_owned();
        let (status, resources) = (ActionStatus::Error, Vec::new());
        let action = Action { id: 1, command, status, error, started: None, resources };
        assert_eq!(failed_action(&action), "action_placement_errorbcanaryb");
        let silent = Action { error: None, ..action };
        assert_eq!(failed_action(&silent), "action_unknown");
    }
}
