//! One run for each row of the ledger, with one that fails and is driven again by the next call.

use std::time::Duration;

use super::{
    Engine, EngineBuilder, Place, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing, Trial,
    World,
};
use provision_core::{
    LedgerQuery, ResourceState, clock,
    engine::Fleet,
    store::{RunFilter, RunPage},
};

const SAGA: SagaId<String, String> = SagaId::new("disks", 1);
const COPY: SagaId<String, String> = SagaId::new("copy", 1);

/// Two disks, each of which a fleet copies; the copy of the second one is refused until it is
/// mended.
#[derive(Debug, Clone, Copy)]
struct Disks;

fn copy(world: &World) -> Saga<String, String> {
    let saga = Saga::define(COPY, |s| {
        let copy = s.resource("copy", Thing::labelled(world));
        copy.input((), |name: &String, ()| format!("copy-of-{name}"))
    });
    saga.unwrap()
}

async fn copies(engine: &Engine) -> RunPage {
    let key_prefix = Some("fleet:copies:".to_owned());
    let filter = RunFilter { key_prefix, ..RunFilter::default() };
    engine.runs(&filter).await.expect("runs are listed")
}

impl Subject for Disks {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.block("create copy-of-acme-two");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let one = s.resource("one", Thing::named(world));
            let one = one.input((), |name: &String, ()| format!("{name}-one"));
            let two = s.resource("two", Thing::labelled(world));
            two.after(one).input((), |name, ()| format!("{name}-two"))
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, world: &World) -> EngineBuilder {
        builder.register(copy(world))
    }

    /// Starts the fleet over what is alive, looks in again until each of its runs is over, and
    /// once more when the cause of the failure is mended.
    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let known = copies(engine).await.runs;
        if head.status != RunStatus::Succeeded || known.iter().any(|run| run.status.is_moving()) {
            return false;
        }
        let undone: Vec<_> =
            known.iter().filter(|run| run.status == RunStatus::RolledBack).collect();
        let mended = world.allow("create copy-of-acme-two");
        let again = !mended && undone.iter().any(|run| run.requests == 0);
        if known.len() == 2 && !again {
            return mended;
        }
        let states = vec![ResourceState::Alive];
        let query = LedgerQuery { run: Some(head.id), states, ..LedgerQuery::default() };
        let rows = engine.ledger(&query).await.expect("the ledger is read");
        let names = rows.into_iter().filter_map(|row| row.external_id.map(|id| (id, row.path)));
        let items = names.map(|(id, path)| (id.to_string(), format!("acme-{path}"))).collect();
        // It is dropped in the middle: its runs go on, and the next call finds them.
        let fleet = Fleet::new("copies").with_at_once(2);
        let fleet = engine.fleet(&fleet, COPY, items);
        let report = clock::within(Duration::from_millis(20), fleet).await;
        report.transpose().expect("the fleet is started");
        true
    }
}

/// Each item has one run, however often the fleet is started.
// covers: S2, S8
pub async fn a_fleet_over_the_ledger_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Disks).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
