//! A request that lands later than its provider has ever said: the sweep finds it and removes it.

use std::time::Duration;

use super::{
    Engine, Place, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial, World,
    entry_after,
};
use crate::harness::{Outside as _, world::Mishap};

const SAGA: SagaId<String, String> = SagaId::new("late", 1);

/// A thing whose first create lands an hour late, and an entry.
#[derive(Debug, Clone, Copy)]
struct Late;

impl Subject for Late {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.plan("create acme", [Mishap::Late(Duration::from_secs(3_600))]);
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let site = s.resource("site", Thing::labelled(world));
            let site = site.input((), |name: &String, ()| name.clone());
            entry_after(s, world, "open", site)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    /// When the run is over, everything lands, and somebody sweeps.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        if head.status.is_end() {
            world.settle();
            let report = engine.sweep(true).await.expect("the sweep looks");
            assert_eq!((&*report.missing, &*report.failures), (&[][..], &[][..]));
            assert!(report.strays.iter().all(|stray| stray.deleted), "{:?}", report.strays);
            let again = engine.sweep(true).await.expect("the sweep looks");
            assert_eq!(again.strays, []);
        }
        false
    }
}

/// Whatever lands after all, nothing is left that nobody knows.
// covers: S10, S15
pub async fn what_lands_too_late_is_swept_over_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Late).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
