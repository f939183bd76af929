//! A paid call that cannot be found again: made again a few times, then a person looks.

use super::{
    Engine, Place, Report, Resolution, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial,
    World, by, entry_after, stuck,
};
use crate::harness::Outside as _;
use provision_core::OnUnknown;

const SAGA: SagaId<String, String> = SagaId::new("song", 1);
const AT_MOST: u32 = 1;

/// A song that is paid for, and an entry that lists it.
#[derive(Debug, Clone, Copy)]
struct Song;

impl Subject for Song {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let song = s
                .resource("song", Thing::paid(world))
                .on_unknown(OnUnknown::RunAgain { at_most: AT_MOST })
                .input((), |name: &String, ()| name.clone());
            entry_after(s, world, "listed", song)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    /// Looks at the cloud where the engine cannot.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        assert!(world.calls("create acme") <= 1 + AT_MOST, "it was paid for too often");
        let Some(path) = stuck(head).map(str::to_owned) else { return false };
        let mut made = world.resources().into_iter();
        let answer = match made.next() {
            Some(owned) => Resolution::Exists { path, id: owned.id },
            None => Resolution::Absent { path },
        };
        engine.resolve(&head.id, answer, by()).await.is_ok()
    }
}

/// It is paid for once more at most, and what it made is known at every end.
// covers: S9, S15
pub async fn a_paid_call_is_made_again_over_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Song).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
