//! Optional and conditional steps, and what joins them.

use super::{
    Entry, Place, RemoveEntry, Report, RunStatus, Saga, SagaId, Subject, Thing, Trial, World,
};

const SAGA: SagaId<String, String> = SagaId::new("joins", 1);

/// Three optional steps of which the first fails, joined by both rules; one step is wanted by its
/// condition, another one is not.
#[derive(Debug, Clone, Copy)]
struct Joins;

impl Subject for Joins {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.block("put acme-left");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let (put, remove) = (Entry(world.clone()), RemoveEntry(world.clone()));
        let saga = Saga::define(SAGA, |s| {
            let mut optional = |path: &'static str| {
                s.step(path, put.clone(), remove.clone())
                    .optional()
                    .input((), move |name: &String, ()| format!("{name}-{path}"))
            };
            let (left, right) = (optional("left"), optional("right"));
            let members = vec![left, right];
            let some = s.at_least("some", 1, members.clone());
            let first = s.any("first", members);
            let wanted = s
                .resource("wanted", Thing::labelled(world))
                .when(|name| name == "acme")
                .input(some, |name, _| name.clone());
            let unwanted = s
                .step("unwanted", put.clone(), remove.clone())
                .when(|name| name != "acme")
                .input(some, |name, _| name.clone());
            s.step("close", put, remove).input(
                (some, first, wanted, unwanted),
                |_, (some, first, wanted, unwanted)| {
                    let there = |it: Option<String>| if it.is_some() { "there" } else { "skipped" };
                    format!("{}-{first}-{}-{}", some.len(), there(wanted), there(unwanted))
                },
            )
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }
}

/// What is tolerated, joined, wanted or skipped stays so.
// covers: S8, S12, S13
pub async fn optional_and_conditional_steps_survive_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Joins).run().await;
    trial.check(report, &[RunStatus::PartlySucceeded, RunStatus::RolledBack])
}
