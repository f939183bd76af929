//! A cancel, or a pause and a resume, at every point of a run that sleeps, polls and has a pivot.

use std::time::Duration;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunId, RunStatus, Saga, SagaId, Subject,
    Thing, Trial, World, by, entry,
};

const SAGA: SagaId<String, String> = SagaId::new("busy", 1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Cancels,
    Pauses,
}

/// An entry, a slow thing beside a sleep, and an entry that is the pivot.
#[derive(Debug, Clone, Copy)]
struct Busy(Hand);

impl Subject for Busy {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let seconds = Duration::from_secs;
        let saga = Saga::define(SAGA, |s| {
            let begin = entry(s, world, "begin");
            let rest = s.sleep("rest").after(begin).input((), move |_, ()| seconds(15));
            let slow = Thing::labelled(world).slow(1, seconds(10));
            let vm = s.resource("vm", slow).input(begin, |name, _| name.clone());
            s.step("done", Entry(world.clone()), RemoveEntry(world.clone()))
                .pivot()
                .after((rest, vm))
                .input((), |name, ()| format!("{name}-done"))
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        head.status == RunStatus::Paused && engine.resume(&head.id, by()).await.is_ok()
    }

    async fn interrupt(&self, engine: &Engine, _: &World, run: &RunId) {
        let _ = match self.0 {
            Hand::Cancels => engine.cancel(run, by()).await,
            Hand::Pauses => engine.pause(run, by()).await,
        };
    }
}

/// A cancel undoes everything, or comes too late.
// covers: S12, S16
pub async fn a_cancel_at_every_point_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report =
        trial.harness(Busy(Hand::Cancels)).interrupted([RunStatus::RolledBack]).run().await;
    let ends = [RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown];
    trial.check(report, &ends)
}

/// A pause at any point changes nothing about the end.
// covers: S16
pub async fn a_pause_and_a_resume_at_every_point_survive_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Busy(Hand::Pauses)).interrupted([]).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
