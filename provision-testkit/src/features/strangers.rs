//! Programs that a run is none of: one whose graph has changed under the same version, and a newer one
//! that has forgotten the old version, open the store wherever the right one has died.

use std::time::Duration;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing,
    Trial, World, entry, entry_after, site_and_entry,
};
use provision_core::{ErrorKind, engine::Backend, store::RunFilter};

const SAGA: SagaId<String, String> = SagaId::new("shop", 1);
const NEWER: SagaId<String, String> = SagaId::new("shop", 2);

/// An entry, a pause, a slow thing and an entry.
#[derive(Debug, Clone, Copy)]
struct Deployed;

impl Subject for Deployed {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let seconds = Duration::from_secs;
        let saga = Saga::define(SAGA, |s| {
            let first = entry(s, world, "first");
            let pause = s.sleep("pause").after(first).input((), move |_, ()| seconds(30));
            let slow = Thing::labelled(world).slow(1, seconds(10));
            let vm =
                s.resource("vm", slow).after(pause).input((), |name: &String, ()| name.clone());
            entry_after(s, world, "last", vm)
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn visited<P: Place>(&self, place: &P, world: &World) {
        let store = place.open().await;
        let before = world.log();
        changed(store.clone(), world).await;
        forgetful(store, world).await;
        assert_eq!(world.log(), before, "a program called something of a run that is none of its");
    }
}

/// The same version with another graph: the program does not start.
async fn changed(store: impl Backend, world: &World) {
    // One more step in the same saga.
    let saga = Saga::define(SAGA, |s| {
        let site =
            s.resource("site", Thing::named(world)).input((), |name: &String, ()| name.clone());
        s.step("open", Entry(world.clone()), RemoveEntry(world.clone())).input(site, |_, site| site)
    });
    let refused = Engine::builder(store).register(saga.unwrap()).build().await;
    let refused = refused.expect_err("another graph under the same version");
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Conflict, "fingerprint"));
}

/// Knows the next version alone: it starts, takes nothing of the old one, and says that it waits.
async fn forgetful(store: impl Backend, world: &World) {
    let now = store.now().await.expect("the store answers");
    let engine = Engine::builder(store).register(site_and_entry(NEWER, world)).build().await;
    let engine = engine.expect("the next version is another saga");
    let before = heads(&engine).await;
    for _ in 0..3 {
        assert_eq!(engine.run_one().await.expect("the store answers"), None, "it is not its own");
    }
    for (before, after) in before.iter().zip(heads(&engine).await) {
        // That its worker is dead may be written down: by whom is all the same.
        let found = (after.epoch, after.seq, after.status, &after.summary);
        assert_eq!(found, (before.epoch, before.seq, before.status, &before.summary));
        assert_eq!(after.owner, None, "it is held by nobody");
    }
    // It tells who asks that something is due which nobody takes.
    let waits = before.iter().filter(|head| head.status.is_moving() && head.due <= now).count();
    let queue = engine.health().await.queue.expect("the queue is counted");
    assert!(queue.ready >= waits as u64, "{waits} runs are due, and {queue:?} is told");
}

async fn heads(engine: &Engine) -> Vec<RunHead> {
    engine.runs(&RunFilter::default()).await.expect("runs are listed").runs
}

/// Only the program that it belongs to goes on with a run, and from where it stood.
// covers: S22, S8, L1
pub async fn a_run_waits_for_its_own_program_over_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Deployed).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}
