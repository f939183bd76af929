//! The point of no return: what comes after it is parked when it fails, and a person settles it.

use super::{
    Engine, Entry, Place, RemoveEntry, Report, Resolution, RunHead, RunStatus, Saga, SagaId,
    Subject, Thing, Trial, World, by, entry, entry_after, stuck,
};
use crate::harness::world::Tell;
use provision_core::irreversible;

const SAGA: SagaId<String, String> = SagaId::new("payment", 1);

/// Reserves, tells the customer, takes the money (the pivot), delivers, and notes it down.
#[derive(Debug, Clone, Copy)]
struct Payment;

impl Subject for Payment {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let reserved = entry(s, world, "reserved");
            let mail = s
                .step("mail", Tell(world.clone()), irreversible("a mail is not called back"))
                .input(reserved, |name, _| format!("mail to {name}"));
            let charged = s
                .step("charged", Entry(world.clone()), RemoveEntry(world.clone()))
                .pivot()
                .after(mail)
                .input((), |name, ()| format!("{name}-charged"));
            let goods =
                s.resource("goods", Thing::labelled(world)).input(charged, |name, _| name.clone());
            entry_after(s, world, "noted", goods);
            goods
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    /// What the run needs is settled by hand; what it does not need is cleaned up and skipped.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let answer = match stuck(head) {
            Some("goods") => Resolution::succeeded("goods", &"by hand").unwrap(),
            Some("noted") => {
                world.clear("acme-noted");
                Resolution::Skip { path: "noted".to_owned() }
            }
            _ => return false,
        };
        engine.resolve(&head.id, answer, by()).await.is_ok()
    }
}

/// After the point of no return nothing unwinds.
// covers: S12, S13, S16
pub async fn a_pivot_survives_every_crash_with_what_follows_it<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let why = "it is kept when it fails after its work, and leaves nothing when it is refused";
    let report = trial.harness(Payment).except("mail", why).run().await;
    let ends = [RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::RolledBackKeeping];
    trial.check(report, &ends)
}
