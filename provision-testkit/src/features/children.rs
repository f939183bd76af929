//! Sagas inside of sagas: runs of their own, driven by the same engine, undone with their parent.

use super::{
    Engine, EngineBuilder, Place, Report, RunHead, RunId, RunStatus, Saga, SagaId, Subject, Thing,
    Trial, World, by, entry, entry_after,
};

const HOME: SagaId<String, String> = SagaId::new("home", 1);
const STREET: SagaId<String, String> = SagaId::new("street", 1);

/// What somebody does to the parent in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Cancels,
    Pauses,
}

/// A street with one home that it needs, and a second one whose door is refused for good.
#[derive(Debug, Clone, Copy)]
struct Street(Hand);

fn home(world: &World) -> Saga<String, String> {
    let saga = Saga::define(HOME, |s| {
        let ground =
            s.resource("ground", Thing::named(world)).input((), |name: &String, ()| name.clone());
        entry_after(s, world, "door", ground)
    });
    saga.unwrap()
}

impl Subject for Street {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.block("put two-door");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(STREET, |s| {
            let plan = entry(s, world, "plan");
            let one = s.saga("one", &home(world)).after(plan).input((), |_, ()| "one".to_owned());
            let two = s
                .saga("two", &home(world))
                .optional()
                .after(one)
                .input((), |_, ()| "two".to_owned());
            entry_after(s, world, "sign", (one, two))
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, world: &World) -> EngineBuilder {
        builder.register(home(world))
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

/// Runs inside of a run, one of which fails and is tolerated, cancelled at every point.
// covers: S8, S12, S13, S16
pub async fn children_survive_every_crash_and_every_cancel<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Street(Hand::Cancels)).interrupted([RunStatus::RolledBack]);
    let report = report.run().await;
    let ends = [RunStatus::PartlySucceeded, RunStatus::RolledBack, RunStatus::TornDown];
    trial.check(report, &ends)
}

/// The same, paused and resumed at every point.
// covers: S8, S12, S13
pub async fn a_pause_at_any_point_changes_nothing_for_children<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Street(Hand::Pauses)).interrupted([]).run().await;
    trial.check(report, &[RunStatus::PartlySucceeded, RunStatus::RolledBack])
}
