//! In which order a tear-down removes, and how long it tries.

use std::time::Duration;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunStatus, Saga, SagaId, Subject, Trial,
    World,
};
use crate::harness::world::Mishap;
use provision_core::Policy;

const SAGA: SagaId<String, String> = SagaId::new("ranked", 1);

/// Three entries that do not depend on each other: two with a rank, and one that
/// is hard to remove.
#[derive(Debug, Clone, Copy)]
struct Ranked;

impl Subject for Ranked {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.plan("remove acme-node", [Mishap::Before, Mishap::Throttle, Mishap::Before]);
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let patient = Policy::attempts(6).fixed(Duration::from_secs(20));
        let saga = Saga::define(SAGA, |s| {
            let node = s
                .step("node", Entry(world.clone()), RemoveEntry(world.clone()))
                .retry_undo(patient)
                .input((), |name: &String, ()| format!("{name}-node"));
            s.step("alarm", Entry(world.clone()), RemoveEntry(world.clone()))
                .tear_down_first(1)
                .input((), |name: &String, ()| format!("{name}-alarm"));
            s.step("traffic", Entry(world.clone()), RemoveEntry(world.clone()))
                .tear_down_first(2)
                .input((), |name, ()| format!("{name}-traffic"));
            node
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, _: &Engine, world: &World, head: &RunHead) -> bool {
        if head.status == RunStatus::TornDown {
            let log = world.log();
            let first =
                |path: &str| log.iter().position(|call| *call == format!("remove acme-{path}"));
            let order = ["alarm", "traffic", "node"].map(first);
            assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{log:?}");
        }
        false
    }
}

/// By rank, and the patience of an undo outlives every process.
// covers: S13, L4
pub async fn a_ranked_tear_down_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Ranked).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}
