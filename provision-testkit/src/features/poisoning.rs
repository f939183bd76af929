//! A call that kills every worker which makes it: its run is set aside before it has killed them
//! all, and a person looks.

use super::{
    Engine, Place, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial, World, by,
    entry, entry_after, stuck,
};

const SAGA: SagaId<String, String> = SagaId::new("poison", 1);
/// Workers that a run may kill before it is set aside.
const DEATHS: u32 = 3;

/// What the person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Mends,
    Cancels,
}

/// An entry, a thing, and an entry whose call kills the process that makes it; where it is mended, the
/// undo of the first one does so, too.
#[derive(Debug, Clone, Copy)]
struct Poison(Hand);

impl Subject for Poison {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.make_deadly("put acme-last");
        if self.0 == Hand::Mends {
            world.make_deadly("remove acme-first");
        }
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let first = entry(s, world, "first");
            let vm = s.resource("vm", Thing::labelled(world)).input(first, |name, _| name.clone());
            entry_after(s, world, "last", vm)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        if stuck(head).is_none() {
            return false;
        }
        let failure = head.summary.failure.as_ref();
        assert_eq!(failure.map(|failure| &*failure.code), Some("crash_loop"), "{head:?}");
        let ordered = match self.0 {
            Hand::Mends => {
                mend(world, "put acme-last");
                mend(world, "remove acme-first");
                engine.retry(&head.id, by()).await
            }
            Hand::Cancels => engine.cancel(&head.id, by()).await,
        };
        ordered.is_ok()
    }
}

/// Mends a call that has killed somebody.
fn mend(world: &World, call: &str) {
    let made = world.calls(call);
    if made > 0 && world.allow(call) {
        // One of the deaths may have been the scenario's own crash.
        assert!((DEATHS - 1..=DEATHS).contains(&made), "`{call}` killed {made} workers");
    }
}

/// Three dead workers, forward and on the way back; mended each time.
// covers: S21, S12, S14, L1, L5
pub async fn what_kills_its_workers_is_set_aside_and_mended_over_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Poison(Hand::Mends)).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}

/// What the deadly call has done all the same is undone when a person cancels.
// covers: S21, S12, S15, L5
pub async fn what_kills_its_workers_is_undone_over_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Poison(Hand::Cancels)).run().await;
    trial.check(report, &[RunStatus::RolledBack])
}
