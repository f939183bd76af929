//! Tests that need what is not there, such as a server.

/// Fails where a run of tests must leave nothing out: in CI, nobody reads that something was
/// skipped. `missing` says what is not there.
///
/// # Panics
/// The variable `CI` is set, to something else than nothing, `0` or `false`.
#[track_caller]
pub fn refused_in_ci(missing: &str) {
    #[allow(clippy::disallowed_methods, reason = "what runs the tests is told by nothing else")]
    let ci = std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
    assert!(!ci, "{missing}: these tests are not skipped in CI");
}
