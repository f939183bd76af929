//! What a harness found.

use std::{collections::BTreeMap, fmt};

use provision_core::RunStatus;

use super::Script;

/// A scenario that did not end as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The scenario.
    pub script: Script,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

/// Counts, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Scenarios played, those without a crash among them.
    pub scenarios: usize,
    /// Points that were recorded and had to be killed.
    pub points: usize,
    /// Points at which the world was stopped.
    pub killed: usize,
    /// How many scenarios came to each end.
    pub ends: BTreeMap<RunStatus, usize>,
    /// Scenarios that did not end as they should.
    pub flaws: Vec<Flaw>,
}

/// What is wrong with a point that does not come again.
pub(super) const MISSED: &str = "this point was recorded and never reached again";

/// Flaws that are printed; more of them seldom say more.
const SHOWN: usize = 12;

impl Report {
    /// Adds the counts and flaws of another part.
    pub fn merge(&mut self, other: Self) {
        self.scenarios += other.scenarios;
        self.points += other.points;
        self.killed += other.killed;
        for (status, count) in other.ends {
            *self.ends.entry(status).or_default() += count;
        }
        self.flaws.extend(other.flaws);
    }

    /// Fails with a list of what is wrong.
    ///
    /// # Panics
    /// There is a flaw, or a recorded point was never killed.
    pub fn assert_flawless(&self) {
        assert!(self.flaws.is_empty(), "{self}");
        assert_eq!(self.killed, self.points, "points were recorded and never killed");
    }

    /// How many scenarios came to this end.
    #[must_use]
    pub fn ended(&self, status: RunStatus) -> usize {
        self.ends.get(&status).copied().unwrap_or(0)
    }

    /// Whether some flaw says this.
    #[must_use]
    pub fn tells_of(&self, words: &str) -> bool {
        self.flaws.iter().flat_map(|flaw| &flaw.wrong).any(|wrong| wrong.contains(words))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, points, killed, ends, flaws } = self;
        let flawed = flaws.len();
        writeln!(f, "{scenarios} scenarios, {killed} of {points} points killed, {flawed} flawed")?;
        for (status, count) in ends {
            writeln!(f, "{count} ended {}", status.as_str())?;
        }
        for flaw in flaws.iter().take(SHOWN) {
            writeln!(f, "- {}", flaw.script)?;
            for wrong in &flaw.wrong {
                writeln!(f, "    {wrong}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Upset, Flaw, MISSED, Report, Script};

    fn report(wrong: &[&str], killed: usize) -> Report {
        let script = Script::of(Upset::Nothing);
        let wrong: Vec<_> = wrong.iter().map(|wrong| (*wrong).to_owned()).collect();
        let flaws = if wrong.is_empty() { Vec::new() } else { vec![Flaw { script, wrong }] };
        Report { points: 50, killed, flaws, ..Report::default() }
    }

    #[test]
    fn neither_a_flaw_nor_a_point_that_does_not_come_again_is_let_pass() {
        report(&[], 50).assert_flawless();
        for assert in [
            (|| report(&[MISSED], 49).assert_flawless()) as fn(),
            || report(&["a thing is left"], 50).assert_flawless(),
            || report(&[], 49).assert_flawless(),
        ] {
            assert!(std::panic::catch_unwind(assert).is_err());
        }
    }
}
