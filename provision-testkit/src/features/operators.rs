//! What a person orders when a run has failed: redrive, retry, cancel, abandon; under each rule for
//! finished steps.

use super::{
    Engine, OnFailure, Place, Report, Resolution, RunHead, RunStatus, Saga, SagaId, Subject, Thing,
    Trial, World, by, entry, entry_after, stuck,
};

const SAGA: SagaId<String, String> = SagaId::new("broken", 1);

/// An entry, a slow thing and an entry that is refused until somebody has mended the cloud.
#[derive(Debug, Clone, Copy)]
struct Broken(OnFailure);

impl Subject for Broken {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.block("put acme-last");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            s.on_failure(self.0);
            let first = entry(s, world, "first");
            let vm = s.resource("vm", Thing::labelled(world)).input(first, |name, _| name.clone());
            entry_after(s, world, "last", vm)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    /// Mends the cloud and lets the run go on, once; what fails then is cancelled where it parks.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let ordered = match head.status {
            RunStatus::RolledBack | RunStatus::RolledBackKeeping
                if world.allow("put acme-last") =>
            {
                engine.redrive(&head.id, by()).await
            }
            RunStatus::Parked if world.allow("put acme-last") => engine.retry(&head.id, by()).await,
            RunStatus::Parked => engine.cancel(&head.id, by()).await,
            _ => return false,
        };
        ordered.is_ok()
    }
}

/// Undone, and driven again once the cause is mended.
// covers: S3, S8, S10, S12, S17, R1-45
pub async fn a_redrive_after_a_rollback_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Broken(OnFailure::Compensate)).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}

/// Finished steps were kept, and are not run twice.
// covers: S3, S8, S12, S17, R2-21
pub async fn a_redrive_of_what_was_kept_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Broken(OnFailure::Keep)).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBackKeeping])
}

/// Parked after a failure: retried, or cancelled.
// covers: S3, S8, S12, L5
pub async fn a_retry_and_a_cancel_of_what_is_parked_survive_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Broken(OnFailure::Ask)).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}

/// Two undos that are refused for good: a person mends the cloud for the one, and gives the other
/// one up.
#[derive(Debug, Clone, Copy)]
struct Stuck;

impl Subject for Stuck {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        for call in ["put acme-last", "delete acme-disk", "delete acme-vm"] {
            world.block(call);
        }
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let first = entry(s, world, "first");
            let vm = s
                .resource("vm", Thing::labelled(world))
                .input(first, |name, _| format!("{name}-vm"));
            let disk =
                s.resource("disk", Thing::keyed(world)).input(vm, |name, _| format!("{name}-disk"));
            entry_after(s, world, "last", disk)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let ordered = match stuck(head) {
            Some("disk") if world.allow("delete acme-disk") => engine.retry(&head.id, by()).await,
            Some(path) => {
                let answer = Resolution::Abandon { path: path.to_owned() };
                engine.resolve(&head.id, answer, by()).await
            }
            None => return false,
        };
        ordered.is_ok()
    }
}

/// Of two undos that are refused, one is retried and one is given up.
// covers: S12, S13, S15, L5
pub async fn a_retried_and_an_abandoned_undo_survive_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let why = "its delete is refused, so that it stays where it failed after its work";
    let report = trial.harness(Stuck).except("vm", why).run().await;
    trial.check(report, &[RunStatus::RolledBackKeeping, RunStatus::RolledBack])
}
