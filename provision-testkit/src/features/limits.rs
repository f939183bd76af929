//! Limits that all calls share: a rate, one call at a time, a provider's own wish, a breaker.

use std::time::Duration;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunStatus, Saga, SagaId, Subject, Thing,
    Trial, World,
};
use crate::harness::world::Mishap;
use provision_core::{
    Policy,
    limit::{Profile, Rate},
};

const SAGA: SagaId<String, String> = SagaId::new("limited", 1);

/// Two entries beside each other and a thing after them, on a cloud that takes one call in a period.
#[derive(Debug, Clone, Copy)]
struct Limited {
    /// What goes wrong with the first calls.
    mishap: Mishap,
    times: usize,
    period: Duration,
}

impl Subject for Limited {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let rate = Rate { calls: 1, per: self.period, burst: 1 };
        // The bucket that a throttled call of this cloud asks to pause.
        let bucket = "world".to_owned();
        let profile = Profile { bucket, rate: Some(rate), concurrency: Some(1_u32.into()) };
        let world = World::new().limited_by(profile);
        world.plan("put acme-left", vec![self.mishap; self.times]);
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let often = Policy::attempts(30).fixed(Duration::from_secs(1));
        let saga = Saga::define(SAGA, |s| {
            let mut limited = |path: &'static str| {
                s.step(path, Entry(world.clone()), RemoveEntry(world.clone()))
                    .retry(often.clone())
                    .input((), move |name: &String, ()| format!("{name}-{path}"))
            };
            let both = (limited("left"), limited("right"));
            let thing = s.resource("thing", Thing::keyed(world)).retry(often.clone());
            thing.after(both).input((), |name, ()| name.clone())
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        if head.status == RunStatus::Succeeded && self.mishap == Mishap::Before {
            let failures = engine.failures(&head.id).await.expect("its journal is read");
            let held = failures.iter().any(|view| view.failure.code == "held_by_breaker");
            assert!(held, "the breaker never opened: {failures:?}");
        }
        false
    }
}

/// Held back by rate, slots and the provider's own wish, every call is made once.
// covers: S6, S8, L4
pub async fn held_back_calls_survive_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let limited = Limited { mishap: Mishap::Throttle, times: 2, period: trial.rate_period };
    let report = trial.harness(limited).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}

/// So many calls fail that the breaker opens; the probe closes it.
// covers: S8, L4
pub async fn an_open_breaker_survives_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    // One good call takes a failure back, and a crash may lose what one more has shown.
    let times = 3 + provision_core::breaker::FAILURES_MAX;
    let limited = Limited { mishap: Mishap::Before, times, period: trial.rate_period };
    let report = trial.harness(limited).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
