//! The provider's error table: from status and body to what may have happened and what to do.

use std::time::Duration;

use provision_core::{Effect, Timestamp};

use super::LISTING_LAG;
use super::model::{ErrorBody, ErrorDetail, VariableFailed};
use crate::http::{Opinion, Response};

pub(crate) const CREATE_PROJECT: &str = "create project";
pub(crate) const DELETE_PROJECT: &str = "delete project";
pub(crate) const SET_VARIABLES: &str = "set variables";
pub(crate) const ADD_DOMAIN: &str = "add domain";

/// How long a transfer of a project is left alone; it ends by a person's hand.
const TRANSFER_WAIT: Duration = Duration::from_secs(60);

/// What this provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(
    operation: &'static str,
    at: Timestamp,
    status: u16,
    body: &[u8],
) -> Option<Opinion> {
    let detail = detail(body).unwrap_or(ErrorDetail {
        code: String::new(),
        message: String::new(),
        limit: None,
    });
    match (status, detail.code.as_str()) {
        // More than a day's deployments: hours, not seconds (issue leopardo-hr#4868, 2026-08).
        (_, "api-deployments-free-per-day") => Some(
            Opinion::operator("deployments_per_day")
                .with_hint("the plan's deployments of today are used up; redrive tomorrow"),
        ),
        (429, _) => Some(match reset_of(&detail, at) {
            Some(wait) => Opinion::throttled_for("throttled", wait),
            None => Opinion::throttled("throttled"),
        }),
        (400, "ENV_CONFLICT") => Some(Opinion::permanent("env_conflict")),
        (400, _) if operation == SET_VARIABLES && is_concurrent_write(&detail) => {
            Some(Opinion::retry("concurrent_env_write"))
        }
        (400, "missing_files") => Some(Opinion::permanent("missing_files")),
        (400..=404, _) if operation == CREATE_PROJECT && is_about_the_link(&detail) => {
            Some(Opinion::permanent("repository_not_visible").with_hint(
                "install the Vercel app on the repository's owner and let it see the repository",
            ))
        }
        (402, _) => Some(Opinion::permanent("payment_required")),
        (409, _) if operation == CREATE_PROJECT || operation == ADD_DOMAIN => {
            Some(Opinion::name_taken(LISTING_LAG))
        }
        (409, _) if operation == DELETE_PROJECT => {
            Some(Opinion::retry_after("being_transferred", TRANSFER_WAIT))
        }
        _ => None,
    }
}

/// Entries that a call answered 201 did not take: the others it did.
pub(crate) fn refused_variables(failed: &[VariableFailed]) -> Opinion {
    let conflict = failed.iter().any(|f| f.error.code == "ENV_CONFLICT");
    let concurrent = failed.iter().all(|f| is_concurrent_write(&f.error));
    let opinion = match (conflict, concurrent) {
        (true, _) => Opinion::permanent("env_conflict"),
        (false, true) => Opinion::retry("concurrent_env_write"),
        (false, false) => Opinion::retry("env_partly_set"),
    };
    opinion.with_effect(Effect::Unknown)
}

/// Whether a 404 is the provider's own, and not the page of something in between, which may well be
/// empty: the provider's says so in its code, such as `not_found`.
pub(crate) fn is_definite_404(response: &Response) -> bool {
    let says_so = |error: ErrorDetail| error.code.to_ascii_lowercase().ends_with("not_found");
    response.status == 404 && detail(&response.body).is_some_and(says_so)
}

fn detail(body: &[u8]) -> Option<ErrorDetail> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error)
}

fn reset_of(detail: &ErrorDetail, at: Timestamp) -> Option<Duration> {
    let reset = detail.limit.as_ref()?.reset?;
    Some(Timestamp::from_millis(reset.saturating_mul(1000)).since(at))
}

fn is_concurrent_write(detail: &ErrorDetail) -> bool {
    detail.message.contains("ongoing update")
}

fn is_about_the_link(detail: &ErrorDetail) -> bool {
    detail.message.contains("GitHub") || detail.code.starts_with("repo")
}

#[cfg(test)]
mod tests {
    use provision_core::Timestamp;

    use super::{ADD_DOMAIN, CREATE_PROJECT, DELETE_PROJECT, SET_VARIABLES, opinion};
    use crate::http::Opinion;

    // covers: S9, L4, R1-02
    #[test]
    fn the_table_says_what_the_providers_page_says() {
        let conflict = br#"{"error":{"code":"ENV_CONFLICT","message":"x"}}"#.as_slice();
        let ongoing = br#"{"error":{"code":"bad_request","message":"ongoing update env update"}}"#;
        let day = br#"{"error":{"code":"api-deployments-free-per-day","message":"x"}}"#;
        let code = |o: Option<Opinion>| o.map(|o| format!("{o:?}")).unwrap_or_default();
        let cases: [(&'static str, u16, &[u8], &str); 8] = [
            (CREATE_PROJECT, 409, b"{}", "name_taken"),
            (ADD_DOMAIN, 409, b"", "name_taken"),
            (DELETE_PROJECT, 409, b"", "being_transferred"),
            (SET_VARIABLES, 400, conflict, "env_conflict"),
            (SET_VARIABLES, 400, ongoing, "concurrent_env_write"),
            ("create deployment", 429, day, "deployments_per_day"),
            ("find project", 429, b"", "throttled"),
            ("find project", 500, b"", ""),
        ];
        for (operation, status, body, expected) in cases {
            let got = code(opinion(operation, Timestamp::ZERO, status, body));
            assert!(got.contains(expected), "{operation} {status}: {got}");
            assert_eq!(got.is_empty(), expected.is_empty());
        }
    }
}
