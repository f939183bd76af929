//! Steps that only a person can tell about when their end is unknown: every crash in the middle of
//! them parks the run, and somebody looks.

use super::{
    Engine, Entry, Place, RemoveEntry, Report, Resolution, RunHead, RunStatus, Saga, SagaId,
    Subject, Thing, Trial, World, by, entry_after, stuck,
};
use crate::harness::Outside as _;
use provision_core::{OnUnknown, RunId};

const SAGA: SagaId<String, String> = SagaId::new("careful", 1);

/// A step and a resource that park when their end is unknown.
#[derive(Debug, Clone, Copy)]
struct Careful;

impl Subject for Careful {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let paid = s
                .step("paid", Entry(world.clone()), RemoveEntry(world.clone()))
                .on_unknown(OnUnknown::Park)
                .input((), |name: &String, ()| format!("{name}-paid"));
            let vm = s
                .resource("vm", Thing::labelled(world))
                .on_unknown(OnUnknown::Park)
                .input(paid, |name, _| name.clone());
            entry_after(s, world, "last", vm)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    /// Looks at the cloud and says what is there.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let path = match stuck(head) {
            Some(path) => path.to_owned(),
            None => return false,
        };
        if refused(head) {
            return engine.cancel(&head.id, by()).await.is_ok();
        }
        let answer = match &*path {
            "vm" => match made_by(world, &head.id) {
                Some(id) => Resolution::Exists { path, id },
                None => Resolution::Absent { path },
            },
            _ if world.effects().contains(&format!("acme-{path}")) => {
                Resolution::succeeded(&*path, &format!("acme-{path}")).unwrap()
            }
            _ => return engine.retry(&head.id, by()).await.is_ok(),
        };
        engine.resolve(&head.id, answer, by()).await.is_ok()
    }
}

/// Whether the run is stuck for another reason than an unknown end.
fn refused(head: &RunHead) -> bool {
    let failure = head.summary.failure.as_ref();
    failure.is_some_and(|failure| failure.effect != provision_core::Effect::Unknown)
}

fn made_by(world: &World, run: &RunId) -> Option<provision_core::ExternalId> {
    let owned = world.resources().into_iter();
    let mut ours = owned.filter(|o| o.mark.as_ref().is_some_and(|mark| mark.run() == *run));
    ours.next().map(|owned| owned.id)
}

/// Every crash in the middle parks, and somebody looks.
// covers: S9, S12, S15, L5
pub async fn what_only_a_person_can_tell_survives_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Careful).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
