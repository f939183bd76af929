//! A business key that one run may hold, and a start that is delayed.

use std::time::Duration;

use super::{
    Engine, Place, Report, RunHead, RunId, RunStatus, Saga, SagaId, Subject, Thing, Trial, World,
    by, site_and_entry,
};
use provision_core::engine::StartRun;

const SAGA: SagaId<String, String> = SagaId::new("guarded", 1);
const DOMAIN: &str = "domain/acme.example";
const LATER: Duration = Duration::from_secs(60);

/// Two things, made by whoever holds the domain.
#[derive(Debug, Clone, Copy)]
struct Guarded;

impl Subject for Guarded {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let site =
                s.resource("site", Thing::named(world)).input((), |name: &String, ()| name.clone());
            let mail = s.resource("mail", Thing::labelled(world));
            mail.after(site).input((), |name, ()| format!("{name}-mail"))
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn begin(&self, start: StartRun<String>) -> StartRun<String> {
        start.unique(DOMAIN)
    }

    /// Somebody else wants the domain, all the time: and gets it once it is free.
    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        let other = engine.start(SAGA, &"other".to_owned()).key("other").unique(DOMAIN);
        let other = other.await.expect("a start is answered");
        let free = matches!(head.status, RunStatus::RolledBack | RunStatus::TornDown);
        assert_eq!(*other.id() != head.id, free, "{} holds {DOMAIN}", head.status.as_str());
        other.is_new()
    }

    async fn interrupt(&self, engine: &Engine, _: &World, run: &RunId) {
        let _ = engine.cancel(run, by()).await;
    }
}

/// One run holds the key until what it made is gone; then the other one gets it.
// covers: S1, S2, S12, S16
pub async fn a_business_key_is_held_over_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Guarded).interrupted([RunStatus::RolledBack]).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::TornDown])
}

/// An entry and a thing, a minute later.
#[derive(Debug, Clone, Copy)]
struct Delayed;

impl Subject for Delayed {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        site_and_entry(SAGA, world)
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn begin(&self, start: StartRun<String>) -> StartRun<String> {
        start.delay(LATER)
    }

    async fn nudge(&self, engine: &Engine, world: &World, head: &RunHead) -> bool {
        let first = match head.seq {
            0 => None,
            _ => engine.watch(&head.id, 0).next().await.expect("its journal is read"),
        };
        match first {
            Some(first) => assert!(first.at >= head.created_at.plus(LATER), "it began too early"),
            None => assert!(world.log().is_empty(), "something was called before it began"),
        }
        false
    }
}

/// Nothing of a delayed run is called before its time.
// covers: S1, S20
pub async fn a_delayed_start_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Delayed).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
