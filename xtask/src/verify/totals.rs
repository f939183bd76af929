//! Sums what the test binaries report.

use std::fmt;

/// Results of all test binaries of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Totals {
    /// Reads every `test result:` line.
    pub(super) fn read(output: &str) -> Self {
        let mut totals = Self::default();
        for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
            let counted = |word: &str| {
                let part = line.split([';', '.']).find(|part| part.trim_end().ends_with(word));
                part.and_then(|part| part.split_whitespace().next()?.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            totals.add(&Self {
                passed: counted(" passed"),
                failed: counted(" failed"),
                ignored: counted(" ignored"),
            });
        }
        totals
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The output without the lines of tests that passed.
pub(super) fn without_passes(output: &str) -> String {
    let kept =
        output.lines().filter(|line| !(line.starts_with("test ") && line.ends_with("... ok")));
    kept.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Totals, without_passes};

    const OUTPUT: &str = "\
running 2 tests
test a ... ok
test b ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.20s
";

    #[test]
    fn all_binaries_are_summed() {
        let totals = Totals::read(OUTPUT);
        assert_eq!(totals, Totals { passed: 41, failed: 1, ignored: 2 });
        assert_eq!(totals.to_string(), "41 passed, 1 failed");
    }

    #[test]
    fn failures_stay_visible_without_the_passes() {
        let kept = without_passes(OUTPUT);
        assert!(kept.contains("test b ... FAILED") && !kept.contains("test a ... ok"));
    }
}
