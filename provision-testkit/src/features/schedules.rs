//! Runs that the clock starts, whoever asks it and however often.

use std::time::Duration;

use super::{
    Engine, EngineBuilder, Place, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial,
    World, site_and_entry,
};
use provision_core::{schedule::Schedule, store::RunFilter};

const SAGA: SagaId<String, String> = SagaId::new("shop", 1);
const CLEAN_UP: SagaId<String, String> = SagaId::new("clean-up", 1);

/// A run of its own, and beside it one that a schedule starts.
#[derive(Debug, Clone, Copy)]
struct Nightly;

fn clean_up(world: &World) -> Saga<String, String> {
    let saga = Saga::define(CLEAN_UP, |s| {
        let room = s.resource("room", Thing::labelled(world).slow(1, Duration::from_secs(10)));
        room.input((), |name: &String, ()| name.clone())
    });
    saga.unwrap()
}

impl Subject for Nightly {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        site_and_entry(SAGA, world)
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, world: &World) -> EngineBuilder {
        // So long that it fires once, whenever the test is run.
        let seldom = Schedule::every("clean-up", Duration::from_secs(3_660 * 24 * 3_600)).unwrap();
        let builder = builder.register(clean_up(world));
        builder.schedule(seldom, CLEAN_UP, |at| format!("room-of-{}", at.as_millis()))
    }

    async fn nudge(&self, engine: &Engine, _: &World, _: &RunHead) -> bool {
        let key_prefix = Some("schedule:".to_owned());
        let filter = RunFilter { key_prefix, ..RunFilter::default() };
        let before = engine.runs(&filter).await.expect("runs are listed").runs.len();
        let fired = engine.fire_schedules(None).await.expect("the schedule fires");
        let after = engine.runs(&filter).await.expect("runs are listed").runs;
        assert_eq!(after.iter().map(|head| head.id).collect::<Vec<_>>(), fired);
        assert_eq!(fired.len(), 1, "it fired oftener than once");
        before == 0
    }
}

/// A firing starts one run, whichever process asks.
// covers: S2
pub async fn a_firing_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Nightly).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
