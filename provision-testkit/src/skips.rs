//! What tests leave out: what needs a server that is not there, and what takes too long.

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

/// Whether there is time for everything, and not for a share of it alone: the variable
/// `PROVISION_TEST_LANE` is `long`.
#[must_use]
pub fn is_long() -> bool {
    #[allow(clippy::disallowed_methods, reason = "what runs the tests is told by nothing else")]
    std::env::var("PROVISION_TEST_LANE").is_ok_and(|lane| lane == "long")
}

/// The share of a test, as number and count of shares: number `first` of `of`; where there is time
/// for everything, one of as many shares as tests stand side by side.
#[must_use]
pub fn share(first: usize, of: usize, side_by_side: usize) -> (usize, usize) {
    if is_long() { (first % side_by_side, side_by_side) } else { (first, of) }
}
