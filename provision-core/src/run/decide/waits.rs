//! How long is waited after an end that uses up no attempt: the call was held back by our own
//! limiter, or met trouble that is not the step's.

use std::time::Duration;

const SLOT_WAIT_FIRST: Duration = Duration::from_secs(4);
const TROUBLE_WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait while there are [`USUAL_ENDS`] of them in a row, or fewer.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Ends in a row after which the waits grow on. Each of them is journaled, and what lasts for days
/// is not asked for every minute (S25).
const USUAL_ENDS: u32 = 60;
/// So many more ends double the wait.
const ENDS_DOUBLING: u32 = 16;
/// Longest wait, unless more was asked for. L1: what ends is noticed within it; nothing but asking
/// finds a free slot.
const LATE_WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// After trouble that is not the step's, of a key service say; `ends` are those in a row.
pub(super) fn after_trouble(ends: u32) -> Duration {
    grown_late(grown(TROUBLE_WAIT_FIRST, ends), ends)
}

/// How long a call that the shared limiter holds back leaves it alone. L4: never for less than was
/// said. Nothing tells when a slot is given back, so who waits for one asks again less and less often.
pub(super) fn held_for(code: &str, after: Duration, ends: u32) -> Duration {
    if code != "held_by_concurrency" {
        return grown_late(after, ends);
    }
    grown_late(after.max(grown(SLOT_WAIT_FIRST, ends)), ends)
}

/// A wait that doubles each time in a row.
fn grown(first: Duration, ends: u32) -> Duration {
    first.saturating_mul(1 << ends.saturating_sub(1).min(8)).min(WAIT_MAX)
}

/// A wait that grows on once there are very many ends in a row.
fn grown_late(wait: Duration, ends: u32) -> Duration {
    let doublings = ends.saturating_sub(USUAL_ENDS) / ENDS_DOUBLING;
    wait.saturating_mul(1 << doublings.min(16)).min(LATE_WAIT_MAX.max(wait))
}

#[cfg(test)]
mod tests {
    use super::{Duration, LATE_WAIT_MAX, after_trouble, held_for};

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    /// How many ends a time holds, and the last wait of them.
    fn ends_in(time: Duration, wait: impl Fn(u32) -> Duration) -> (u32, Duration) {
        let (mut passed, mut ends, mut last) = (Duration::ZERO, 0, Duration::ZERO);
        while passed < time {
            ends += 1;
            last = wait(ends);
            passed += last;
        }
        (ends, last)
    }

    // covers: L4, S25
    #[test]
    fn what_lasts_is_asked_for_less_and_less_often() {
        let first: Vec<u64> = (1..=8).map(|ends| after_trouble(ends).as_secs()).collect();
        assert_eq!(first, [1, 2, 4, 8, 16, 32, 60, 60]);
        let (hour, wait) = ends_in(DAY / 24, after_trouble);
        assert!((60..=70).contains(&hour) && wait == Duration::from_secs(60), "{hour} {wait:?}");
        let (day, wait) = ends_in(DAY, after_trouble);
        assert!(day <= 260 && wait == LATE_WAIT_MAX, "{day} ends in a day, the last wait {wait:?}");
    }

    // covers: L4
    #[test]
    fn what_was_told_is_never_shortened() {
        for ends in [1, 60, 100, 1_000, u32::MAX] {
            for told in [Duration::from_millis(1), DAY, Duration::MAX] {
                for code in ["held_by_pause", "held_by_breaker", "held_by_concurrency"] {
                    assert!(held_for(code, told, ends) >= told, "{code} {told:?} {ends}");
                }
            }
        }
        let second = Duration::from_secs(1);
        assert_eq!(held_for("held_by_breaker", second, 60), second);
        assert_eq!(held_for("held_by_breaker", second, 124), 16 * second);
    }
}
