//! Something that was there before: used, and never deleted.

use super::{
    Engine, Place, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial, World,
    entry_after,
};
use provision_core::{AdoptPolicy, LedgerQuery, Origin};

const SAGA: SagaId<String, String> = SagaId::new("adopting", 1);

/// A thing of somebody else's, and a thing and an entry beside it.
#[derive(Debug, Clone, Copy)]
struct Adopting;

impl Subject for Adopting {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.put_foreign("archive");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let archive = s
                .resource("archive", Thing::named(world).slow(1, std::time::Duration::from_secs(5)))
                .adopt(AdoptPolicy::Use)
                .input((), |_: &String, ()| "archive".to_owned());
            let site = s.resource("site", Thing::labelled(world));
            let site = site.adopt(AdoptPolicy::Use).input(archive, |name, _| name.clone());
            entry_after(s, world, "link", site)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        assert!(world.names().contains(&"archive".to_owned()), "what was adopted is gone");
        assert_eq!(world.calls("create archive") + world.calls("delete archive"), 0);
        if head.status == RunStatus::Succeeded {
            let rows = engine.ledger(&LedgerQuery::default()).await.expect("the ledger is read");
            let adopted = rows.iter().filter(|row| row.origin == Origin::Adopted);
            assert_eq!(adopted.map(|row| &*row.path).collect::<Vec<_>>(), ["archive"]);
        }
        false
    }
}

/// It is still there at every end, and nothing was sent to it.
// covers: S11, S12
pub async fn what_was_adopted_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Adopting).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}
