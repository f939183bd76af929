//! The provider's error table. Version 1 of the Management API answers `{"message": ".."}` without
//! a code, so the texts are compared here and nowhere else (providers page, 2026-08-21).

use super::{
    DELETE_AGAIN,
    model::{ErrorBody, Message},
};
use crate::http::Opinion;

/// What was asked; the same status means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Organization,
    Projects,
    Create,
    Project,
    Delete,
    Health,
    Keys,
    Query,
    Regions,
}

impl Endpoint {
    /// Part of the bucket's name: each endpoint is counted by itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Projects => "list",
            Self::Create => "create",
            Self::Project => "project",
            Self::Delete => "delete",
            Self::Health => "health",
            Self::Keys => "keys",
            Self::Query => "query",
            Self::Regions => "regions",
        }
    }
}

/// What the provider means by an answer; silence leaves it to the general table.
pub(crate) fn opinion(endpoint: Endpoint, status: u16, body: &[u8]) -> Option<Opinion> {
    let message = message(body).unwrap_or_default().to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    match (endpoint, status) {
        // Refused as long as it comes up or pauses, although it is a 400.
        (Endpoint::Delete, 400) if says("not ready") => {
            Some(Opinion::retry_after("not_ready_for_deletion", DELETE_AGAIN))
        }
        (Endpoint::Create, 400 | 402 | 403 | 422) if says("free project") || says("exceeded") => {
            Some(Opinion::operator("quota").with_hint(
                "the organization may not have more projects on its plan; free one or upgrade",
            ))
        }
        (_, 402) => Some(
            Opinion::permanent("plan").with_hint("the organization's plan does not include this"),
        ),
        // Keys follow the project by seconds; until then they are answered like this.
        (Endpoint::Keys, 400 | 404) => Some(Opinion::retry("keys_not_ready")),
        // The database was not reached, or the connection ended without a word from it.
        (Endpoint::Query, 400) => Some(Opinion::unknown("database_unreachable")),
        _ => None,
    }
}

/// The SQLSTATE of a refusal by the database itself: `.. ERROR:  42P01: relation ..`.
pub(crate) fn sqlstate(body: &[u8]) -> Option<String> {
    let message = message(body)?;
    let (_, after) = message.split_once("ERROR:")?;
    let state: String = after.trim_start().chars().take_while(|c| *c != ':').collect();
    let valid = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase();
    (state.len() == 5 && state.chars().all(valid)).then_some(state)
}

/// Whether a refusal by the database is about its condition, not about the statement: lost
/// connections, full resources, shutdowns, deadlocks, locks.
pub(crate) fn is_transient(sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "58" | "XX") || sqlstate == "55P03" || {
        // 57014 is a statement that was cancelled for its length: it would be again.
        class == "57" && sqlstate != "57014"
    }
}

fn message(body: &[u8]) -> Option<String> {
    let body = serde_json::from_slice::<ErrorBody>(body).ok()?;
    Some(match body.message {
        Message::One(text) => text,
        Message::Many(texts) => texts.join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, is_transient, opinion, sqlstate};

    // covers: S9, R1-02
    #[test]
    fn texts_of_the_provider_have_codes() {
        let cases = [
            (Endpoint::Delete, 400, "Project not ready for deletion.", "not_ready_for_deletion"),
            (Endpoint::Delete, 400, "Invalid ref", ""),
            (
                Endpoint::Create,
                400,
                "The following members have exceeded their free project limit",
                "quota",
            ),
            (Endpoint::Create, 400, "name: too long", ""),
            (Endpoint::Project, 402, "upgrade", "plan"),
            (Endpoint::Keys, 404, "x", "keys_not_ready"),
            (Endpoint::Query, 400, "Connection terminated", "database_unreachable"),
            (Endpoint::Project, 404, "Project not found", ""),
        ];
        for (endpoint, status, text, code) in cases {
            let body = serde_json::json!({ "message": text }).to_string();
            let got = opinion(endpoint, status, body.as_bytes());
            let got = got.map(|o| format!("{o:?}")).unwrap_or_default();
            assert!(got.contains(code) && got.is_empty() == code.is_empty(), "{text}: {got}");
        }
    }

    #[test]
    fn the_sqlstate_is_read_and_nothing_else_is_taken_for_one() {
        let read =
            |text: &str| sqlstate(serde_json::json!({ "message": text }).to_string().as_bytes());
        let refused = "Failed to run sql query: ERROR:  42P01: relation \"x\" does not exist";
        assert_eq!(read(refused).as_deref(), Some("42P01"));
        assert_eq!(read("Failed to run sql query: Connection terminated"), None);
        assert_eq!(read("ERROR: relation: x"), None);
        assert_eq!(sqlstate(b"<html>"), None);
    }

    #[test]
    fn a_databases_condition_is_told_from_a_wrong_statement() {
        for state in ["08006", "40001", "40P01", "53300", "57P03", "XX000", "55P03"] {
            assert!(is_transient(state), "{state}");
        }
        for state in ["42501", "42P01", "23505", "57014", "22012", "P0001"] {
            assert!(!is_transient(state), "{state}");
        }
    }
}
