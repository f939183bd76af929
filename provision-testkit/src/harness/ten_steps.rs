//! A saga with one of everything, for crash matrices of stores: plain steps, resources of every
//! identity, polls, a fan-out, a tolerated step, a timer, a signal, a kept secret and a pivot.

use std::time::Duration;

use provision_core::{
    Engine, EngineBuilder, NothingToUndo, RunStatus, Saga, SagaId, SignalId, store::RunHead,
    vault::LocalKeys,
};

use super::{
    Subject, World,
    world::{Compare, Comparison, Entry, RemoveEntry, RevokeToken, Thing, Token},
};

/// Its name and version.
pub const TEN_STEPS: SagaId<String, String> = SagaId::new("ten_steps", 1);
/// The signal it waits for.
pub const APPROVED: SignalId<bool> = SignalId::new("approved");

/// The saga of ten steps. Its input is a name, its output that name's address.
#[derive(Debug, Clone)]
pub struct TenSteps {
    pace: Duration,
}

impl Default for TenSteps {
    fn default() -> Self {
        Self { pace: Duration::from_secs(10) }
    }
}

impl TenSteps {
    /// Sets the length of its waits; default 10 s, for a clock that a test moves.
    #[must_use]
    pub fn with_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    fn wire(&self, world: &World) -> Saga<String, String> {
        let pace = self.pace;
        let thing = |thing: Thing| thing.with_timing(pace * 2, Duration::ZERO);
        let (put, remove) = (Entry(world.clone()), RemoveEntry(world.clone()));
        let saga = Saga::define(TEN_STEPS, |s| {
            let reserve = s
                .step("reserve", put.clone(), remove.clone())
                .input((), |name: &String, ()| format!("{name}-reserved"));
            let network = s
                .resource("network", thing(Thing::named(world)))
                .input(reserve, |name, _| format!("{name}-net"));
            let token = s
                .step("token", Token(world.clone()), RevokeToken(world.clone()))
                .input(reserve, |name, _| format!("{name}-token"));
            let server = thing(Thing::labelled(world)).slow(2, pace).with_secret("admin");
            let server =
                s.resource("server", server).input(network, |name, _| format!("{name}-server"));
            let metrics = s
                .step("metrics", put.clone(), remove.clone())
                .optional()
                .input(server, |name, _| format!("{name}-metrics"));
            let disks = s
                .each("disks", server, |name, _| vec![format!("{name}-a"), format!("{name}-b")])
                .body(|item| {
                    item.resource("disk", thing(Thing::keyed(world))).input((), |d, ()| d.clone())
                });
            let settle = s.sleep("settle").after((disks, metrics)).input((), move |_, ()| pace * 3);
            let approved = s.signal(APPROVED).after(settle).input((), move |_, ()| pace * 1000);
            let verify = s
                .step("verify", Compare(world.clone()), NothingToUndo)
                .after(approved)
                .input(token, |name, token| Comparison { name: format!("{name}-token"), token });
            s.resource("dns", thing(Thing::named(world)))
                .pivot()
                .input(verify, |name, _| format!("{name}.example"))
        });
        saga.expect("the saga is well-formed")
    }
}

impl Subject for TenSteps {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        self.wire(world)
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, _: &World) -> EngineBuilder {
        builder.keys(LocalKeys::new("harness", [7; 32]).expect("the key is well-formed"))
    }

    /// Approves once the run waits for it.
    async fn nudge(&self, engine: &Engine, _: &World, head: &RunHead) -> bool {
        let waits = head.status == RunStatus::Waiting;
        let for_it = head.summary.waiting.as_deref().is_some_and(|w| w.contains(APPROVED.name()));
        waits && for_it && engine.signal(&head.id, APPROVED, &true).await.is_ok()
    }
}
