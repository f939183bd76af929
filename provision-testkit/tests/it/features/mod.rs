//! Small sagas of one or two features each, crashed at every point: signals and sleeps, fan-outs,
//! children, pivots, hooks, secrets, and what a person may order.
//!
//! The saga of ten steps is for stores; these are for the machine and its driver.

mod children;
mod fan_outs;
mod hooks;
mod interruptions;
mod joins;
mod operators;
mod pivots;
mod secrets;
mod signals;
mod unknown;

use provision_core::{
    By, Engine, EngineBuilder, NothingToUndo, Resolution, RunId, RunStatus, Saga, SagaBuilder,
    SagaId,
    saga::{Handle, OnFailure},
    store::RunHead,
};
use provision_testkit::harness::{
    Harness, InMemory, Report, Subject, World,
    world::{Entry, RemoveEntry, Thing},
};

/// The harness of a subject on the store in memory.
macro_rules! harness {
    ($subject:expr) => {
        $crate::features::Harness::new($subject, || async { $crate::features::InMemory::new() })
    };
}
use harness;

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

/// Fails unless the report has no flaw and the ends it has to show.
fn assert_flawless(report: &Report, ends: &[RunStatus]) {
    report.assert_flawless();
    for status in ends {
        assert!(report.ended(*status) > 0, "none ended {}: {report}", status.as_str());
    }
}
