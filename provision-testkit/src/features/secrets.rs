//! Values that are drawn once: sealed by a step, with an intent, or shown by a provider; while the
//! keys that seal them are rotated.

use super::{
    Engine, EngineBuilder, NothingToUndo, Place, Report, RunId, RunStatus, Saga, SagaId, Subject,
    Thing, Trial, World,
};
use crate::harness::world::{
    Compare, Comparison, Password, RevokeToken, Tell, Token, UnsetPassword,
};
use provision_core::{irreversible, vault::LocalKeys};

const SAGA: SagaId<String, String> = SagaId::new("rotation", 1);

/// Sets a password, makes a thing with one, issues a token, looks at both, and then says that the
/// old token is worthless: the pivot.
#[derive(Debug, Clone)]
struct Rotation {
    keys: LocalKeys,
}

impl Subject for Rotation {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        World::new()
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let password = s
                .step("password", Password(world.clone()), UnsetPassword(world.clone()))
                .input((), |name: &String, ()| format!("{name}-password"));
            let vm = s
                .resource("vm", Thing::labelled(world).with_secret("root"))
                .input(password, |name, _| name.clone());
            let token = s
                .step("token", Token(world.clone()), RevokeToken(world.clone()))
                .after(vm)
                .input((), |name, ()| format!("{name}-token"));
            let mut compare = |path: &'static str, of: &'static str, token| {
                s.step(path, Compare(world.clone()), NothingToUndo).input(
                    token,
                    move |name, token| Comparison { name: format!("{name}-{of}"), token },
                )
            };
            let same = (
                compare("same-password", "password", password),
                compare("same-token", "token", token),
            );
            s.step("retired", Tell(world.clone()), irreversible("the old token is gone"))
                .pivot()
                .after(same)
                .input((), |name, ()| format!("{name} retired"));
            vm
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }

    fn equip(&self, builder: EngineBuilder, _: &World) -> EngineBuilder {
        builder.keys(self.keys.clone())
    }

    async fn interrupt(&self, _: &Engine, _: &World, _: &RunId) {
        self.keys.rotate().unwrap();
    }
}

/// What was drawn once stays the same, whichever key seals it, and nobody sees it.
// covers: S10, X1, R1-28
pub async fn values_that_are_drawn_once_survive_every_crash_and_every_new_key<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let keys = LocalKeys::new("harness", [7; 32]).unwrap();
    let why = "it is kept when it fails after its work, and leaves nothing when it is refused";
    let report =
        trial.harness(Rotation { keys }).except("retired", why).interrupted([]).run().await;
    trial.check(report, &[RunStatus::Succeeded, RunStatus::RolledBack])
}
