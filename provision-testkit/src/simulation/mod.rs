//! Whole systems under one seed: several workers, one store, one world of providers, virtual time,
//! and everything that goes wrong between them.
//!
//! A seed draws a saga, the weather of its providers and of its network, and a schedule of faults:
//! frozen workers that wake up after their lease, killed ones, partitions of the store before and
//! after a write, lost and doubled queue messages, answers that never come, effects that land late
//! or become visible late, cancels, stops. An onlooker compares every answer of the store and every
//! call at a provider with the invariants, at the moment it happens and at the end. The same seed
//! gives the same run, to the last byte of its trace.
//!
//! ```
//! use provision_testkit::simulation::Simulation;
//!
//! let report = Simulation::new(7).run();
//! assert!(report.violations.is_empty(), "{report}");
//! assert_eq!(report.hash, Simulation::new(7).run().hash);
//! ```
//!
//! It differs from the suites of [`crate::conformance`] in that nobody wrote the cases, and from a
//! test on real servers in that a thousand of them take less than a minute.

mod account;
mod finish;
mod gate;
mod planted;
mod scenario;
mod search;
mod shape;
mod state;
mod steps;
mod store;
mod witness;
mod world;

use std::{fmt, time::Duration};

pub use search::{Search, search};

/// A bug that a simulation plants, to show that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Plant {
    /// The store takes writes of owners who have lost their lease.
    TakesStaleWrites,
    /// The store acknowledges appends that it does not write.
    LosesAppends,
    /// The store writes the first record of a frame and drops the rest.
    TearsFrames,
    /// The store writes the records of a frame in another order.
    ReordersRecords,
    /// The store writes an append a second time.
    AppendsTwice,
    /// The store leases a run that another worker holds.
    TwoOwners,
    /// The store declares incarnations dead whose lease lasts.
    BuriesTheLiving,
    /// The store gives every lease the same epoch.
    EpochsStandStill,
    /// The store drops rows of the ledger that are intents.
    LedgerForgetsIntents,
    /// The store acknowledges requests and drops them.
    LosesRequests,
    /// The store does not keep start keys.
    ForgetsStartKeys,
    /// The store loses the due time of runs that wait.
    LosesTimers,
    /// The store dates the deaths of owners before their last possible call.
    ForgetsDeaths,
    /// The store's clock does not run like a clock.
    StoreClockJumps,
    /// A look-up that fails says "absent".
    FindErrsAsAbsent,
    /// A look-up always says "absent".
    NeverFinds,
    /// A look-up takes what carries no mark of ours as ours.
    TakesForeignAsOurs,
    /// A delete says that it is done and does nothing.
    DeletePretends,
    /// A delete goes by name and takes whatever has it.
    DeletesByName,
    /// A create sends another key on every attempt.
    KeyChangesPerAttempt,
    /// A look-up creates what it does not find.
    CreatesBeforeTheIntent,
    /// A resource says that its provider is never late.
    DeclaresNoQuietTime,
    /// Calls go out without the engine's look at the lease.
    CallsPastTheLease,
    /// The limiter does not hear of pauses.
    LimiterIsDeaf,
    /// The queue loses every proposal. Harmless: the store's own scan finds every run.
    QueueLosesAll,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::TakesStaleWrites,
        Self::LosesAppends,
        Self::TearsFrames,
        Self::ReordersRecords,
        Self::AppendsTwice,
        Self::TwoOwners,
        Self::BuriesTheLiving,
        Self::EpochsStandStill,
        Self::LedgerForgetsIntents,
        Self::LosesRequests,
        Self::ForgetsStartKeys,
        Self::LosesTimers,
        Self::ForgetsDeaths,
        Self::StoreClockJumps,
        Self::FindErrsAsAbsent,
        Self::NeverFinds,
        Self::TakesForeignAsOurs,
        Self::DeletePretends,
        Self::DeletesByName,
        Self::KeyChangesPerAttempt,
        Self::CreatesBeforeTheIntent,
        Self::DeclaresNoQuietTime,
        Self::CallsPastTheLease,
        Self::LimiterIsDeaf,
        Self::QueueLosesAll,
    ];
}

/// Something that must never be and was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub id: &'static str,
    /// What was seen.
    pub what: String,
    /// When, from the beginning of the simulation.
    pub at: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.id, self.at.as_millis(), self.what)
    }
}

/// One simulation, before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Simulation {
    seed: u64,
    plant: Option<Plant>,
}

impl Simulation {
    /// The simulation of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, plant: None }
    }

    /// Plants a bug.
    #[must_use]
    pub const fn with_plant(mut self, plant: Plant) -> Self {
        self.plant = Some(plant);
        self
    }

    /// Runs it, on a runtime of its own with paused time.
    #[must_use]
    pub fn run(self) -> Report {
        scenario::run(self.seed, self.plant)
    }
}

/// What came of one simulation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Hash of everything that happened, in its order.
    pub hash: u64,
    /// What was found wrong; a sound system has none.
    pub violations: Vec<Violation>,
    /// What happened, line by line, up to a limit.
    pub trace: Vec<String>,
    /// How its runs ended, by the name of the status.
    pub ends: Vec<String>,
    /// Mutating calls that reached a provider.
    pub calls: u64,
    /// Virtual time it took.
    pub lasted: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}, {} ms, {:?}", self.seed, self.lasted.as_millis(), self.ends)?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        write!(
            f,
            "repeat it: PROVISION_SEED={} cargo test -p provision-testkit --test it simulation",
            self.seed
        )
    }
}
