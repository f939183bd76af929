//! Runs that one more death of a worker would park are called alone, one after the other: what
//! dies then dies of its own call, and not of that of a run beside it.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Drive, Driven, Event, State, park};
use crate::{
    clock::{self, Moment},
    store::RunHead,
};

/// How long others wait for a run that is called alone: what kills a worker mostly does so soon.
const ALONE_MAX: Duration = Duration::from_secs(10);

/// Whose turn it is among the runs of a worker that are on trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<()>>);

/// Whether a run is on trial (S21): workers died so often with it open that one more death would
/// park it.
pub(super) struct Trial {
    stage: Stage,
    /// Deaths are counted anew since its claim.
    settled: bool,
}

enum Stage {
    Off,
    /// Another one is called. Nothing of this one begins, and once it is told, its row says so: a
    /// death that comes now is not of its doing.
    Waits {
        told: bool,
        turn: BoxFuture<'static, OwnedMutexGuard<()>>,
    },
    /// No other one on trial is called.
    Alone {
        until: Moment,
        _turn: OwnedMutexGuard<()>,
    },
    /// It has lived long enough with its call for others to begin.
    Beside,
}

impl Trial {
    pub(super) fn of(head: &RunHead, state: &State, turns: &Turns) -> Self {
        let moves = state.parked.is_none() && state.ended.is_none();
        let last = moves && head.deaths.saturating_add(1) == park::DEATHS_MAX;
        let turn = || Arc::clone(&turns.0).lock_owned().boxed();
        let stage = if last { Stage::Waits { told: false, turn: turn() } } else { Stage::Off };
        Self { stage, settled: false }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waits { .. })
    }

    /// Whether the row still says what it said when the last owner died.
    pub(super) fn is_untold(&self) -> bool {
        matches!(self.stage, Stage::Waits { told: false, .. })
    }

    /// Whether a poll is journaled when it begins: then the row says that an attempt is open while
    /// one is, and at no other time.
    pub(super) fn tells_polls(&self) -> bool {
        !matches!(self.stage, Stage::Off)
    }

    /// Whether the next owner, too, journals its polls, after a write that settles an attempt or
    /// does not.
    pub(super) fn lasts(&self, settles: bool) -> bool {
        self.tells_polls() && !self.settled && !settles
    }

    /// A write of the run was taken.
    pub(super) fn written(&mut self, settles: bool) {
        self.settled |= settles;
        match &mut self.stage {
            Stage::Waits { told, .. } => *told = true,
            Stage::Alone { .. } | Stage::Beside if settles => self.stage = Stage::Off,
            Stage::Off | Stage::Alone { .. } | Stage::Beside => {}
        }
    }

    /// Ends when the run's turn has come, or others may begin beside it.
    pub(super) async fn moves_on(&mut self) {
        self.stage = match &mut self.stage {
            Stage::Waits { turn, .. } => {
                let turn = turn.await;
                Stage::Alone { until: clock::moment() + ALONE_MAX, _turn: turn }
            }
            Stage::Alone { until, .. } => {
                clock::sleep(until.saturating_duration_since(clock::moment())).await;
                Stage::Beside
            }
            Stage::Off | Stage::Beside => std::future::pending().await,
        };
    }
}

impl Drive {
    /// A trial has moved on. Where the run's turn has come, what waited for it begins.
    pub(super) async fn tried(&mut self) -> Driven<bool> {
        if !matches!(self.trial.stage, Stage::Alone { .. }) {
            return Ok(false);
        }
        // S16: what was asked for meanwhile may be a cancel.
        self.requests = self.requests.max(self.consumed.saturating_add(1));
        if self.requests().await? {
            return Ok(true);
        }
        self.event(Event::Due, &[]).await
    }
}
