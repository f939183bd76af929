//! Runs: what they are called, where they stand, and how they may move.

pub(crate) mod decide;
pub mod journal;

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Where a run stands. Stored by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunStatus {
    /// Claimable, or being driven, forward.
    Running,
    /// Waiting forward for a time, a signal or a child, without a lease.
    Waiting,
    /// Undoing, in reverse.
    Unwinding,
    /// Stopped by a person between attempts, forward or undoing; nothing starts until resumed.
    Paused,
    /// Needs a person; keeps key, guard, ledger and secrets. Not an end.
    Parked,
    /// Every step succeeded or was skipped.
    Succeeded,
    /// Succeeded, with tolerated failures whose effects are undone.
    PartlySucceeded,
    /// Everything it did was undone.
    RolledBack,
    /// Undone, except what is irreversible or was given up by a person.
    RolledBackKeeping,
    /// Succeeded, and later removed by order.
    TornDown,
}

impl RunStatus {
    /// All of them, in the order of the state machine.
    pub const ALL: [Self; 10] = [
        Self::Running,
        Self::Waiting,
        Self::Unwinding,
        Self::Paused,
        Self::Parked,
        Self::Succeeded,
        Self::PartlySucceeded,
        Self::RolledBack,
        Self::RolledBackKeeping,
        Self::TornDown,
    ];

    /// Whether the run is over until a recorded order opens it again.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::PartlySucceeded
                | Self::RolledBack
                | Self::RolledBackKeeping
                | Self::TornDown
        )
    }

    /// Whether the run goes on by itself: parked and paused ones move only by a person's order, ended
    /// ones not at all.
    #[must_use]
    pub const fn is_moving(self) -> bool {
        matches!(self, Self::Running | Self::Waiting | Self::Unwinding)
    }

    /// The name it is stored and shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Unwinding => "Unwinding",
            Self::Paused => "Paused",
            Self::Parked => "Parked",
            Self::Succeeded => "Succeeded",
            Self::PartlySucceeded => "PartlySucceeded",
            Self::RolledBack => "RolledBack",
            Self::RolledBackKeeping => "RolledBackKeeping",
            Self::TornDown => "TornDown",
        }
    }

    /// Finds a status by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What lists and pages show of a run without reading its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RunSummary {
    /// Phase of the newest started step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Steps that are done (forward: succeeded or skipped; unwinding: undone).
    #[serde(default)]
    pub done: u32,
    /// Steps in all, as far as known.
    #[serde(default)]
    pub total: u32,
    /// What the run waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Why it failed or parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether a person has looked at the dead letter and said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolved: bool,
    /// The newest request that was stored and could not be taken when its turn came. One that came
    /// when the run was over stands here until the run is written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Until when a start with a delay is put off, whatever is asked of the run meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<crate::id::Timestamp>,
}

impl RunSummary {
    /// Whether a run of this status needs a person: parked, or undone after a failure that nobody has
    /// looked at.
    #[must_use]
    pub const fn is_dead_letter(&self, status: RunStatus) -> bool {
        let undone = matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping);
        let failed = undone && self.failure.is_some();
        (matches!(status, RunStatus::Parked) || failed) && !self.resolved
    }
}

/// A request of which nothing came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// What was asked; the value of a signal is not kept.
    pub request: journal::RequestBody,
    /// Short stable word.
    pub code: String,
    /// What stood against it.
    pub message: String,
}
