//! Durable sleeps, polls and signals: a signal comes early, late, at its limit, or never.

use std::time::Duration;

use provision_core::SignalId;

use super::{
    Engine, Entry, Place, RemoveEntry, Report, RunHead, RunId, RunStatus, Saga, SagaId, Subject,
    Thing, Trial, World, waits_for,
};

const SAGA: SagaId<String, String> = SagaId::new("approval", 1);
const GO: SignalId<String> = SignalId::new("go");
const BONUS: SignalId<String> = SignalId::new("bonus");

/// Rests, waits for a thing that is slow, then for one signal that it needs and for another one
/// that it can do without.
#[derive(Debug, Clone, Copy)]
struct Approval {
    /// Whether somebody approves when the run waits for it.
    answered: bool,
}

impl Subject for Approval {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let seconds = Duration::from_secs;
        let saga = Saga::define(SAGA, |s| {
            let rest = s.sleep("rest").input((), move |_, ()| seconds(5));
            let slow = Thing::named(world).slow(2, seconds(10));
            let vm = s.resource("vm", slow).input((), |name: &String, ()| name.clone());
            let bonus = s.signal(BONUS).optional().after(rest).input((), move |_, ()| seconds(12));
            let go = s.signal(GO).after((rest, vm)).input((), move |_, ()| seconds(3600));
            s.step("open", Entry(world.clone()), RemoveEntry(world.clone()))
                .input((go, bonus), |name, (go, bonus)| {
                    format!("{name}-{go}-{}", bonus.unwrap_or_default())
                })
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        let asked = self.answered && waits_for(head, GO.name());
        asked && engine.signal(&head.id, GO, &"green".to_owned()).await.is_ok()
    }

    /// Both signals at once, wherever the run stands.
    async fn interrupt(&self, engine: &Engine, _: &World, run: &RunId) {
        let _ = engine.signal(run, GO, &"green".to_owned()).await;
        let _ = engine.signal(run, BONUS, &"gift".to_owned()).await;
    }
}

/// Sleeps, polls and signals that come.
// covers: S3, S8, S20
pub async fn sleeps_polls_and_signals_survive_every_crash<P: Place>(trial: &Trial<P>) -> Report {
    let report = trial.harness(Approval { answered: true }).interrupted([RunStatus::Succeeded]);
    let report = report.run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::PartlySucceeded])
}

/// Signals that are missed.
// covers: S3, S12, S20
pub async fn a_signal_that_never_comes_unwinds_over_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial
        .harness(Approval { answered: false })
        .interrupted([RunStatus::Succeeded, RunStatus::PartlySucceeded]);
    let report = report.run().await;
    trial.check(report, &[RunStatus::RolledBack, RunStatus::Succeeded])
}
