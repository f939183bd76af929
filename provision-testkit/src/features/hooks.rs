//! Terminal hooks, phases and a condition, over every end that a run can come to.

use super::{
    Engine, Place, Report, RunId, RunStatus, Saga, SagaId, Subject, Thing, Trial, World, by, entry,
    entry_after,
};
use crate::harness::world::Tell;

const SAGA: SagaId<String, String> = SagaId::new("told", 1);

/// Three phases, and two hooks that tell how the run ended and in which phase.
#[derive(Debug, Clone, Copy)]
struct Told;

impl Subject for Told {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            s.phase("prepare");
            let plan = entry(s, world, "plan");
            s.phase("build");
            let house = s
                .resource("house", Thing::named(world))
                .when(|name| name == "acme")
                .input(plan, |name, _| name.clone());
            s.phase("hand over");
            let key = entry_after(s, world, "key", house);
            s.phase("tell");
            s.on_end("owner", Tell(world.clone()), |name, end| {
                format!("{name} {}", end.status.as_str())
            });
            s.on_end("office", Tell(world.clone()), |_, end| {
                let well = end.status == RunStatus::Succeeded;
                if well { "fine" } else { "not fine" }.to_owned()
            });
            key
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn interrupt(&self, engine: &Engine, _: &World, run: &RunId) {
        let _ = engine.cancel(run, by()).await;
    }
}

/// Hooks tell of every end that the run comes to, once.
// covers: S16, S17, R3-27
pub async fn hooks_and_phases_survive_every_crash_and_every_cancel<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Told).interrupted([RunStatus::RolledBack]).run().await;
    let ends = [RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown];
    trial.check(report, &ends)
}
