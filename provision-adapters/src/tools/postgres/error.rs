//! One table from what the server says, and from where a connection ended, to our error.

use provision_core::{Call, CallKind, Effect, StepError, Verdict};
use sqlx::Error;

/// How far a call had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No statement was sent.
    Connecting,
    /// The statements of a transaction were sent, and its commit was not.
    Uncommitted,
    /// A statement was sent that may stand.
    Asking,
}

/// The SQLSTATE of a refusal.
pub(super) fn sqlstate(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// Whether the server has refused a statement, and so undone its transaction.
pub(super) fn is_refusal(sqlstate: &str) -> bool {
    // The other end was going away, and may have been past the commit (Appendix A of the manual,
    // 2026-06-01).
    !matches!(sqlstate.get(..2), Some("08" | "57" | "58" | "XX")) || sqlstate == "57014"
}

/// Classifies the end of a call. What the server says in words may quote values, and stays out
/// (X1).
pub(super) fn classify(call: &Call, stage: Stage, error: &Error) -> StepError {
    let sent = match (stage, call.kind) {
        (Stage::Connecting | Stage::Uncommitted, _) | (_, CallKind::Read) => Effect::None,
        (Stage::Asking, CallKind::Mutate) => Effect::Unknown,
    };
    if let Some(sqlstate) = sqlstate(error) {
        let effect = if is_refusal(&sqlstate) { Effect::None } else { sent };
        return refused(call.operation, &sqlstate).with_effect(effect);
    }
    let (verdict, code, message) = match (error, stage) {
        (Error::Configuration(_), _) => {
            (Verdict::Permanent, "bad_config", "the address cannot be used")
        }
        (Error::Tls(_), _) => {
            (Verdict::Permanent, "tls", "no encrypted connection; the feature `live` has it")
        }
        (_, Stage::Connecting) => (retry(), "connect", "no connection"),
        (_, Stage::Uncommitted | Stage::Asking) => {
            (retry(), "no_answer", "the answer did not come completely")
        }
    };
    StepError::new(sent, verdict, call.operation).with_code(code).with_message(message)
}

const fn retry() -> Verdict {
    Verdict::Retry { after: None }
}

/// What a refusal means, by its SQLSTATE.
pub(super) fn refused(operation: &'static str, sqlstate: &str) -> StepError {
    let (verdict, code) = match sqlstate {
        "28P01" | "28000" => (Verdict::Operator, "unauthorized"),
        "42501" => (Verdict::Operator, "forbidden"),
        // Of two that make one name at once, the later meets the index of the catalog.
        "42P04" | "42710" | "42P06" | "23505" => (Verdict::Permanent, "name_taken"),
        "3D000" => (Verdict::Permanent, "no_database"),
        // Somebody is connected, holds a lock, or is dropping the database: later they may not.
        "55000" | "55006" | "55P03" | "40001" | "40P01" | "57014" => (retry(), "busy"),
        // Starting, stopping, or without room for one more connection.
        state if state.starts_with("57P") => (retry(), "stopping"),
        state if state.starts_with("53") => (retry(), "no_room"),
        state if state.starts_with("08") => (retry(), "no_answer"),
        state if state.starts_with("58") || state.starts_with("XX") => (retry(), "server_trouble"),
        _ => (Verdict::Permanent, "refused"),
    };
    let error = StepError::new(Effect::None, verdict, operation)
        .with_code(code)
        .with_message(format!("the server answered SQLSTATE {sqlstate}"));
    match code {
        "unauthorized" => error.with_hint("look at the role and its password"),
        "forbidden" => error.with_hint(
            "the role that administers the server is a superuser, or has the rights that the \
             documents of `tools::postgres` name",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use provision_core::{Call, Effect, Verdict};
    use sqlx::Error;

    use super::{Stage, classify, is_refusal, refused};

    // covers: S9, L4
    #[test]
    fn only_what_was_sent_and_not_refused_is_unknown() {
        let lost = Error::Io(io::ErrorKind::ConnectionReset.into());
        let (read, mutate) = (Call::read("look"), Call::mutate("make"));
        assert_eq!(classify(&mutate, Stage::Connecting, &lost).effect(), Effect::None);
        assert_eq!(classify(&mutate, Stage::Uncommitted, &lost).effect(), Effect::None);
        assert_eq!(classify(&mutate, Stage::Asking, &lost).effect(), Effect::Unknown);
        assert_eq!(classify(&read, Stage::Asking, &lost).effect(), Effect::None);
        assert!(is_refusal("42P04") && is_refusal("57014"));
        assert!(!is_refusal("57P01") && !is_refusal("08006"));
    }

    // covers: L4
    #[test]
    fn refusals_are_told_apart() {
        for (sqlstate, code, verdict) in [
            ("28P01", "unauthorized", Verdict::Operator),
            ("42501", "forbidden", Verdict::Operator),
            ("42P04", "name_taken", Verdict::Permanent),
            ("23505", "name_taken", Verdict::Permanent),
            ("55006", "busy", Verdict::Retry { after: None }),
            ("53300", "no_room", Verdict::Retry { after: None }),
            ("57P03", "stopping", Verdict::Retry { after: None }),
            ("42601", "refused", Verdict::Permanent),
        ] {
            let error = refused("make", sqlstate);
            assert_eq!((error.code(), error.verdict()), (code, &verdict), "{sqlstate}");
            assert!(error.message().is_some_and(|message| message.contains(sqlstate)));
        }
    }
}
