//! What Redis reports, sorted into the kinds a caller can act on.

use provision_core::error::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError};

/// A stored value or an answer that this version cannot read.
pub(crate) fn bad_row(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Damaged, "redis_bad_row", "read a row")
        .with_context(what)
        .with_hint("restore the namespace from a backup, or repair the row")
}

/// Sorts an error by the server's own code. Its text names commands and keys, never values.
pub(crate) fn sorted(error: &RedisError, operation: &'static str) -> StoreError {
    let (kind, code, hint) = by_code(error).unwrap_or_else(|| by_kind(error));
    let store = StoreError::new(kind, code, operation);
    let store = if hint.is_empty() { store } else { store.with_hint(hint) };
    match context(error) {
        Some(text) => store.with_context(text),
        None => store,
    }
}

/// The server's own words; a connection error is told by its category, without the address.
fn context(error: &RedisError) -> Option<String> {
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some(code) => Some(format!("{code} {detail}").trim_end().to_owned()),
        None => Some(error.category().to_owned()),
    }
}

/// What a script answers in the place of one of many answers: a code, and what else it said.
pub(crate) fn failed(code: String, words: String, operation: &'static str) -> StoreError {
    sorted(&redis::make_extension_error(code, Some(words)), operation)
}

/// The same error for one more of those who wait for the same answer.
pub(crate) fn again(error: &StoreError, operation: &'static str) -> StoreError {
    let told = StoreError::new(error.kind(), error.code(), operation);
    let told = match error.hint() {
        Some(hint) => told.with_hint(hint.to_owned()),
        None => told,
    };
    match error.context() {
        Some(context) => told.with_context(context),
        None => told,
    }
}

/// What a server that was good once says now: it is waited for, and nothing is parked for it (S18).
pub(crate) fn passing(error: StoreError) -> StoreError {
    if error.kind() != StoreErrorKind::Unsuitable {
        return error;
    }
    let hint = error.hint().unwrap_or_default().to_owned();
    StoreError::new(StoreErrorKind::Unavailable, error.code(), "reach the server")
        .with_hint(hint)
        .with_context(error.context().unwrap_or_default())
}

type Sorted = (StoreErrorKind, &'static str, &'static str);

fn by_code(error: &RedisError) -> Option<Sorted> {
    use StoreErrorKind::{Damaged, Full, Unavailable, Unsuitable};
    let sorted = match error.code()? {
        "OOM" => (
            Full,
            "redis_full",
            "raise `maxmemory` or free memory; nothing is evicted, so nothing is lost",
        ),
        "MISCONF" => (
            Full,
            "redis_cannot_persist",
            "the server cannot write its file: free its disk, and look at its log",
        ),
        "LOADING" => (Unavailable, "redis_loading", "the server reads its file; it answers soon"),
        "READONLY" => (
            Unavailable,
            "redis_read_only",
            "the server has become a replica: point the URL at the one that takes writes",
        ),
        "BUSY" => (
            Unavailable,
            "redis_busy",
            "a script of another program holds the server up; see `SCRIPT KILL`",
        ),
        "NOREPLICAS" => (
            Unavailable,
            "redis_not_replicated",
            "bring the replicas back, or lower `min-replicas-to-write`",
        ),
        "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => {
            (Unavailable, "redis_cluster_moves", "the cluster is being changed; it answers soon")
        }
        "MOVED" | "ASK" | "CROSSSLOT" => (
            Unsuitable,
            "redis_other_node",
            "the slot of this namespace is on another node: point the URL at that one",
        ),
        "NOAUTH" => (
            Unsuitable,
            "redis_password_needed",
            "put the user and password into the URL: redis://user:password@host:6379",
        ),
        "WRONGPASS" => (Unsuitable, "redis_wrong_password", "check user and password in the URL"),
        "NOPERM" | "PROVISIONDENIED" => (
            Unsuitable,
            "redis_not_permitted",
            "grant the user what the page of this crate lists under \"Permissions\"",
        ),
        // Said by the server before it hangs up, without a code of its own.
        "ERR" if error.detail().is_some_and(|words| words.contains("max number of clients")) => (
            Unavailable,
            "redis_too_many_clients",
            "raise the server's `maxclients`, or open fewer stores",
        ),
        "WRONGTYPE" => (
            Damaged,
            "redis_wrong_type",
            "another program uses keys of this namespace: choose another namespace or database",
        ),
        code => return by_own_code(code),
    };
    Some(sorted)
}

/// Codes that our own scripts answer with.
fn by_own_code(code: &str) -> Option<Sorted> {
    use StoreErrorKind::{Damaged, Unsuitable};
    let sorted = match code {
        "PROVISIONGONE" => (
            Unsuitable,
            "redis_namespace_gone",
            "somebody flushed the server while the store was open: restore it from a backup, or \
             open the store anew to begin with an empty one",
        ),
        "PROVISIONFORMAT" => (
            Damaged,
            "schema_newer",
            "the namespace was written by a newer version of this library: upgrade this program; or \
             it is a store's where a sidecar was asked for, or the other way round: give each its own",
        ),
        "PROVISIONLANES" => (
            Unsuitable,
            "redis_too_many_lanes",
            "each queue with each version of a saga is a lane for ever: name fewer queues, and tell \
             tenants apart by `tenant`",
        ),
        _ => return None,
    };
    Some(sorted)
}

fn by_kind(error: &RedisError) -> Sorted {
    use StoreErrorKind::{Unavailable, Unsuitable};
    if error.is_timeout() {
        return (
            Unavailable,
            "redis_timeout",
            "whether the call landed is not known; look at the load of the server",
        );
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => by_password(error),
        ErrorKind::InvalidClientConfig => (
            Unsuitable,
            "redis_wrong_url",
            "it looks like redis://user:password@host:6379/0; rediss:// needs the feature `tls`",
        ),
        ErrorKind::Io => (
            Unavailable,
            "redis_unreachable",
            "check address and port in the URL, and that the server runs",
        ),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            (Unsuitable, "redis_refused", "the server's words are in the context")
        }
        _ => (Unavailable, "redis_unavailable", "look at the server's log"),
    }
}

/// The client tells a failed log-in as one kind, whatever the server said.
fn by_password(error: &RedisError) -> Sorted {
    let needed = error.detail().is_some_and(|detail| detail.contains("NOAUTH"));
    if needed {
        return (
            StoreErrorKind::Unsuitable,
            "redis_password_needed",
            "put the user and password into the URL: redis://user:password@host:6379",
        );
    }
    (
        StoreErrorKind::Unsuitable,
        "redis_wrong_password",
        "check user and password in the URL; a server at its `maxclients` looks the same",
    )
}

#[cfg(test)]
mod tests {
    use provision_core::error::StoreErrorKind;

    use super::sorted;

    // covers: S18
    #[test]
    fn what_passes_is_transient_and_what_does_not_is_not() {
        let of = |code: &str| {
            let error = redis::make_extension_error(code.to_owned(), Some("words".to_owned()));
            sorted(&error, "append")
        };
        for code in ["LOADING", "READONLY", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS"] {
            let error = of(code);
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{code}");
            assert!(error.is_transient() && error.hint().is_some(), "{code}");
        }
        for code in ["NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "PROVISIONGONE", "ERR"] {
            let error = of(code);
            assert_eq!(error.kind(), StoreErrorKind::Unsuitable, "{code}");
            assert!(!error.is_transient() && error.hint().is_some(), "{code}");
        }
        let words = Some("max number of clients reached".to_owned());
        let full = sorted(&redis::make_extension_error("ERR".to_owned(), words), "append");
        assert_eq!(
            (full.kind(), full.code()),
            (StoreErrorKind::Unavailable, "redis_too_many_clients")
        );
        assert_eq!(of("OOM").kind(), StoreErrorKind::Full);
        assert_eq!(of("PROVISIONFORMAT").kind(), StoreErrorKind::Damaged);
    }
}
