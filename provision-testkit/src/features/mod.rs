//! Small sagas of one or two features each, crashed at every point: the cases behind
//! [`features_suite!`](crate::features_suite).
//!
//! The saga of ten steps is for stores; these are for the machine and its driver, on whichever store
//! they are tried: signals and sleeps, fan-outs, children, pivots, hooks, secrets, keys and limits
//! that are shared, what a person may order, workers that are killed or told to stop, and other
//! programs beside them.

mod adopting;
mod again;
mod children;
mod fan_outs;
mod fleets;
mod guarding;
mod hooks;
mod interruptions;
mod joins;
mod limits;
mod operators;
mod pivots;
mod poisoning;
mod removing;
mod schedules;
mod secrets;
mod signals;
mod stopping;
mod strangers;
mod sweeping;
mod unknown;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub use adopting::*;
pub use again::*;
pub use children::*;
pub use fan_outs::*;
pub use fleets::*;
pub use guarding::*;
pub use hooks::*;
pub use interruptions::*;
pub use joins::*;
pub use limits::*;
pub use operators::*;
pub use pivots::*;
pub use poisoning::*;
pub use removing::*;
pub use schedules::*;
pub use secrets::*;
pub use signals::*;
pub use stopping::*;
pub use strangers::*;
pub use sweeping::*;
pub use unknown::*;

use provision_core::{
    By, Engine, EngineBuilder, NothingToUndo, Resolution, RunId, RunStatus, Saga, SagaBuilder,
    SagaId,
    saga::{Handle, OnFailure},
    store::RunHead,
};

use crate::harness::{
    Harness, Place, Report, Subject, World,
    world::{Entry, RemoveEntry, Thing},
};

/// The place of a fresh store, once it is there.
type Placing<P> = Pin<Box<dyn Future<Output = P> + Send>>;

/// Where the sagas are tried, and how much of each.
pub struct Trial<P> {
    places: Arc<dyn Fn() -> Placing<P> + Send + Sync>,
    share: (usize, usize),
    interrupted: (usize, usize),
    rate_period: Duration,
    poll: Duration,
}

impl<P> fmt::Debug for Trial<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("share", &self.share).finish_non_exhaustive()
    }
}

impl<P: Place> Trial<P> {
    /// Tries all of each saga over stores at these places, of which every call gives a fresh one; every
    /// point has to be reached again.
    #[must_use]
    pub fn new<F, Fut>(places: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = P> + Send + 'static,
    {
        let places = Arc::new(move || Box::pin(places()) as Placing<P>);
        let (rate_period, poll) = (Duration::from_secs(5), Duration::from_secs(1));
        let (share, interrupted) = ((0, 1), (0, 1));
        Self { places, share, interrupted, rate_period, poll }
    }

    /// Interrupts at every `of`-th point of those sagas that somebody interrupts, beginning with number
    /// `first` from 0.
    #[must_use]
    pub fn interrupted_part(mut self, first: usize, of: usize) -> Self {
        self.interrupted = (first, of);
        self
    }

    /// For a runtime whose time passes as it does: what is waited for inside of attempts, such as the
    /// next call that a rate allows, is a matter of milliseconds. Other waits are let pass by the place.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        (self.rate_period, self.poll) = (Duration::from_millis(40), Duration::from_millis(20));
        self
    }

    /// Plays only every `of`-th crash of each saga, beginning with number `first` from 0; scenarios
    /// without a crash are all played.
    #[must_use]
    pub fn part(mut self, first: usize, of: usize) -> Self {
        self.share = (first, of);
        self
    }

    fn harness<S: Subject>(
        &self,
        subject: S,
    ) -> Harness<S, impl Fn() -> Placing<P> + Send + Sync + use<P, S>> {
        let places = Arc::clone(&self.places);
        let ((part, of), (first, nth)) = (self.share, self.interrupted);
        Harness::new(subject, move || places()).part(part, of).interrupted_part(first, nth)
    }

    /// Fails unless the report has no flaw and the ends it has to show.
    fn check(&self, report: Report, ends: &[RunStatus]) -> Report {
        report.assert_flawless();
        for status in ends {
            assert!(report.ended(*status) > 0, "none ended {}: {report}", status.as_str());
        }
        report
    }
}

/// The trial, where there is one: a server may be missing.
#[doc(hidden)]
pub fn wanted<P>(trial: impl Into<Option<Trial<P>>>) -> Option<Trial<P>> {
    trial.into()
}

/// Who gives the orders of these tests.
fn by() -> By {
    By::new("operator", "as planned")
}

/// Adds an entry whose name is the input's with this ending; its path is the ending.
fn entry<'s>(
    s: &mut SagaBuilder<'s, String>,
    world: &World,
    path: &'static str,
) -> Handle<'s, String> {
    entry_after(s, world, path, ())
}

/// The same, after what it depends on.
fn entry_after<'s>(
    s: &mut SagaBuilder<'s, String>,
    world: &World,
    path: &'static str,
    deps: impl provision_core::saga::Deps<'s>,
) -> Handle<'s, String> {
    let step = s.step(path, Entry(world.clone()), RemoveEntry(world.clone()));
    step.after(deps).input((), move |name, ()| format!("{name}-{path}"))
}

/// A site `site` under its name, and an entry `open` after it.
fn site_and_entry(id: SagaId<String, String>, world: &World) -> Saga<String, String> {
    let saga = Saga::define(id, |s| {
        let site = s.resource("site", Thing::named(world));
        let site = site.input((), |name: &String, ()| name.clone());
        entry_after(s, world, "open", site)
    });
    saga.unwrap()
}

/// Where a parked run is stuck.
fn stuck(head: &RunHead) -> Option<&str> {
    let failure = head.summary.failure.as_ref()?;
    (head.status == RunStatus::Parked).then_some(failure.path.as_str())
}

/// Whether it is this signal that a run waits for next.
fn waits_for(head: &RunHead, signal: &str) -> bool {
    let named = format!("the signal of `{signal}`");
    head.status == RunStatus::Waiting && head.summary.waiting.as_deref() == Some(&*named)
}

/// Names every case as a test on a store; the attribute says how the tests run. The trial may be an
/// `Option`: where there is none, the tests pass without trying anything.
///
/// ```
/// use provision_testkit::{features::Trial, features_suite, harness::InMemory};
///
/// features_suite!(
///     #[tokio::test(start_paused = true)]
///     in_memory,
///     Trial::new(|| async { InMemory::new() })
/// );
/// ```
#[macro_export]
macro_rules! features_suite {
    (#[$test:meta] $name:ident, $trial:expr) => {
        $crate::features_suite!(@cases $name, $test, $trial,
            what_was_adopted_survives_every_crash
            a_paid_call_is_made_again_over_every_crash
            children_survive_every_crash_and_every_cancel
            a_pause_at_any_point_changes_nothing_for_children
            a_fan_out_with_a_failing_item_survives_every_crash
            a_fleet_over_the_ledger_survives_every_crash
            a_business_key_is_held_over_every_crash
            a_delayed_start_survives_every_crash
            hooks_and_phases_survive_every_crash_and_every_cancel
            a_cancel_at_every_point_survives_every_crash
            a_pause_and_a_resume_at_every_point_survive_every_crash
            optional_and_conditional_steps_survive_every_crash
            held_back_calls_survive_every_crash
            an_open_breaker_survives_every_crash
            a_redrive_after_a_rollback_survives_every_crash
            a_redrive_of_what_was_kept_survives_every_crash
            a_retry_and_a_cancel_of_what_is_parked_survive_every_crash
            a_retried_and_an_abandoned_undo_survive_every_crash
            a_pivot_survives_every_crash_with_what_follows_it
            what_kills_its_workers_is_set_aside_and_mended_over_every_crash
            what_kills_its_workers_is_undone_over_every_crash
            a_ranked_tear_down_survives_every_crash
            a_firing_survives_every_crash
            values_that_are_drawn_once_survive_every_crash_and_every_new_key
            sleeps_polls_and_signals_survive_every_crash
            a_signal_that_never_comes_unwinds_over_every_crash
            a_graceful_stop_at_every_point_survives_every_crash
            a_hurried_stop_at_every_point_survives_every_crash
            a_run_waits_for_its_own_program_over_every_crash
            what_lands_too_late_is_swept_over_every_crash
            what_only_a_person_can_tell_survives_every_crash
        );
    };
    (@cases $name:ident, $test:meta, $trial:expr, $($case:ident)+) => {
        mod $name {
            // One by one: an attribute of the outer list cannot be repeated with the inner one.
            $crate::features_suite!(@each $test, $trial, $($case)+);
        }
    };
    (@each $test:meta, $trial:expr, $case:ident $($rest:ident)*) => {
        #[$test]
        async fn $case() {
            #[allow(unused_imports, reason = "the expression may name what is outside")]
            use super::*;
            let Some(trial) = $crate::features::wanted($trial) else { return };
            let report = $crate::features::$case(&trial).await;
            println!("{}: {report}", stringify!($case));
        }
        $crate::features_suite!(@each $test, $trial, $($rest)*);
    };
    (@each $test:meta, $trial:expr,) => {};
}
