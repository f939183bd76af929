//! A process that is told to stop at any point: it lets go, and the next one goes on at once.

use std::time::Duration;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing,
    Trial, World, entry,
};
use provision_core::{WorkerConfig, run::journal::Direction};

const SAGA: SagaId<String, String> = SagaId::new("rolling", 1);
/// How long the slow calls take.
const SLOW: Duration = Duration::from_millis(300);

/// An entry, a sleep beside a slow thing whose create and whose delete take a while, and a last entry
/// that takes as long.
#[derive(Debug, Clone, Copy)]
struct Rolling {
    /// How long a process that is told to stop waits for what is open.
    grace: Duration,
    /// How often its worker looks for what is due.
    poll: Duration,
}

impl Subject for Rolling {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let calls = ["create acme-vm", "delete acme-vm", "put acme-last", "remove acme-last"];
        calls.into_iter().fold(World::new(), |world, call| world.slow_to_answer(call, SLOW))
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let seconds = Duration::from_secs;
        let saga = Saga::define(SAGA, |s| {
            let first = entry(s, world, "first");
            let rest = s.sleep("rest").after(first).input((), move |_, ()| seconds(15));
            let slow = Thing::labelled(world).slow(1, seconds(10));
            let vm = s.resource("vm", slow).input(first, |name, _| format!("{name}-vm"));
            s.step("last", Entry(world.clone()), RemoveEntry(world.clone()))
                .after((rest, vm))
                .input((), |name, ()| format!("{name}-last"))
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn worker(&self) -> Option<WorkerConfig> {
        Some(WorkerConfig::default().with_poll(self.poll).with_grace(self.grace))
    }

    /// What was cut is told as that, and is no failure of the step.
    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        if head.status == RunStatus::Succeeded {
            let failures = engine.failures(&head.id).await.expect("its journal is read");
            let forward = failures.iter().filter(|failed| failed.dir == Direction::Forward);
            for failed in forward {
                let code = &*failed.failure.code;
                assert!(["interrupted", "as_planned"].contains(&code), "{failed:?}");
            }
        }
        false
    }
}

/// What is open is waited for.
// covers: L6, S8, S16, L1
pub async fn a_graceful_stop_at_every_point_survives_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let grace = Duration::from_secs(25);
    let report = trial.harness(Rolling { grace, poll: trial.poll }).interrupted([]).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}

/// What is open is cut at the hard deadline, and is looked for by the next process.
// covers: L6, S7, S9, S12, L1
pub async fn a_hurried_stop_at_every_point_survives_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let grace = SLOW / 6;
    let report = trial.harness(Rolling { grace, poll: trial.poll }).interrupted([]).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}
