//! Tries a saga at every point at which something can go wrong.
//!
//! A [`Harness`] first runs a saga undisturbed and writes down every point: before and after each
//! write of the journal, before and after each provider call. Then it runs the saga again for each
//! of them, stops the world there as a crash would, opens store and engine anew, drives the run to
//! its end, and compares what exists with the ledger and with the journal. The same is done with
//! every step failing, every step and every undo called twice, every answer lost, and the whole
//! torn down; and, where it is asked for, with an order or a signal that comes at every point. What
//! was recorded and could not be reached again is a failure of its own.
//!
//! It differs from the suites of [`crate::conformance`] in that it tests a host's steps, not a
//! store; and from a simulation in that it is complete rather than random.
//!
//! ```
//! use provision_core::{Saga, SagaId};
//! use provision_testkit::harness::{Harness, InMemory, Subject, World, world::{Entry, RemoveEntry, Thing}};
//!
//! /// A saga of a thing and an entry in a small cloud.
//! struct Two;
//!
//! const TWO: SagaId<String, String> = SagaId::new("two", 1);
//!
//! impl Subject for Two {
//!     type Input = String;
//!     type Output = String;
//!     type World = World;
//!
//!     fn world(&self) -> World {
//!         World::new()
//!     }
//!
//!     fn saga(&self, world: &World) -> Saga<String, String> {
//!         Saga::define(TWO, |s| {
//!             let db = s.resource("db", Thing::named(world)).input((), |name: &String, ()| name.clone());
//!             s.step("dns", Entry(world.clone()), RemoveEntry(world.clone())).input(db, |_, db| db)
//!         })
//!         .expect("the saga is well-formed")
//!     }
//!
//!     fn input(&self) -> String {
//!         "acme".to_owned()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let report = Harness::new(Two, || async { InMemory::new() }).run().await;
//! report.assert_flawless();
//! assert!(report.scenarios > 60);
//! # }
//! ```

mod canary;
mod judge;
mod matrix;
mod place;
mod report;
mod scenario;
mod script;
mod ten_steps;
mod trace;
pub mod world;

use std::{collections::BTreeSet, fmt::Debug, future::Future};

use provision_core::{
    Data, Engine, EngineBuilder, Owned, OwnerMark, RunId, Saga, WorkerConfig, engine::StartRun,
    store::RunHead,
};

pub use canary::encodings;
pub use matrix::Harness;
pub use place::{InMemory, Leaping, Place};
pub use report::{Flaw, Report};
pub use scenario::Stage;
pub use script::{Script, Upset};
pub use ten_steps::{APPROVED, TEN_STEPS, TenSteps};
pub use trace::Point;
pub use world::World;

/// The world outside the engine, as the harness looks at it when a run is over.
pub trait Outside: Clone + Debug + Send + Sync + 'static {
    /// Lets every request that is still under way land, and every listing catch up.
    fn settle(&self) {}

    /// Everything that exists and carries one of our marks.
    fn resources(&self) -> Vec<Owned>;

    /// Effects of plain steps that stand, by names that are the same in every run; one that is
    /// there twice is listed twice. Default: none are known.
    fn effects(&self) -> Vec<String> {
        Vec::new()
    }

    /// What was told to somebody, by names that are the same in every run; telling it again changes
    /// nothing, and nothing takes it back. Default: nothing is told.
    fn told(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// How often something with this mark came to be, if the world counts that.
    fn landed(&self, _mark: &OwnerMark) -> Option<u32> {
        None
    }

    /// Values that nobody but the steps themselves may ever see.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Comes back when a call has killed the process that made it; the scenario goes on with the next
    /// process. Default: no call does.
    fn kills(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// A saga under test, with the world its steps act upon.
pub trait Subject: Send + Sync + 'static {
    /// The saga's input.
    type Input: Data;
    /// The saga's output.
    type Output: Data;
    /// The world its steps act upon.
    type World: Outside;

    /// A fresh, empty world.
    fn world(&self) -> Self::World;

    /// The saga, with steps that act upon this world.
    fn saga(&self, world: &Self::World) -> Saga<Self::Input, Self::Output>;

    /// The input of every run.
    fn input(&self) -> Self::Input;

    /// Adds what else the run is started with: a business key, a delay, a tenant.
    fn begin(&self, start: StartRun<Self::Output>) -> StartRun<Self::Output> {
        start
    }

    /// Adds what else the engine needs: keys, a resolver, child sagas.
    fn equip(&self, builder: EngineBuilder, _world: &Self::World) -> EngineBuilder {
        builder
    }

    /// The options of the worker that drives the run in each process. Default: there is none, and the
    /// run is driven as a host's own loop does it, by [`Engine::run_one`].
    ///
    /// A worker can be stopped: with [`Harness::interrupted`], the process is told to stop at every
    /// point, lets go of what it holds, and is followed by another one, which goes on at once.
    fn worker(&self) -> Option<WorkerConfig> {
        None
    }

    /// Lets another program open the store, when the process is dead and its lease is over, and before
    /// the next one comes. Default: nobody does.
    fn visited<P: Place>(
        &self,
        _place: &P,
        _world: &Self::World,
    ) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Gives a run what it waits for: a signal, or an order to one that is paused, parked or over.
    /// Asked whenever nothing is due and all that was given before is taken, also at the end; true
    /// when something was given.
    ///
    /// A process may die right after it, so it decides by what run and world are like, and not by
    /// what it has done before.
    fn nudge(
        &self,
        _engine: &Engine,
        _world: &Self::World,
        _head: &RunHead,
    ) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Does what somebody may do to a run at any moment, such as ordering a cancel; asked once in
    /// each scenario that [`Harness::interrupted`] adds. What the engine refuses is to be ignored.
    fn interrupt(
        &self,
        _engine: &Engine,
        _world: &Self::World,
        _run: &RunId,
    ) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
