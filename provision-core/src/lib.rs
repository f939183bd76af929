//! Durable sagas that provision things on other people's clouds, and can prove what exists there.
//!
//! A host composes typed steps into a [`Saga`]; the engine journals every step, resumes after a
//! crash, retries, and undoes in reverse what it cannot finish. After any crash, lost reply or
//! frozen worker, every external resource that may exist is known, and is either wanted or being
//! removed.
//!
//! ```
//! use provision_core::{
//!     Engine, MemoryStore, NothingToUndo, Saga, SagaId, Step, StepContext, StepError,
//!     WorkerConfig,
//! };
//!
//! /// Says hello; there is nothing to undo.
//! struct Greet;
//!
//! impl Step for Greet {
//!     const KIND: &'static str = "hello.greet";
//!     type Input = String;
//!     type Output = String;
//!
//!     async fn run(&self, cx: &StepContext, name: String) -> Result<String, StepError> {
//!         Ok(format!("hello {name}, this is attempt {}", cx.attempt()))
//!     }
//! }
//!
//! const HELLO: SagaId<String, String> = SagaId::new("hello", 1);
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let saga = Saga::define(HELLO, |s| {
//!     s.step("greet", Greet, NothingToUndo).input((), |name, ()| name.clone())
//! })?;
//! let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
//! let worker = engine.spawn_worker(WorkerConfig::default());
//!
//! let run = engine.start(HELLO, &"Ada".to_owned()).key("greeting-1").await?;
//! assert_eq!(run.output().await?, "hello Ada, this is attempt 1");
//!
//! worker.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Where to go from here:
//!
//! - what a host writes: [`Step`] and [`Compensator`], [`Resource`], [`Saga::define`];
//! - what a host calls: [`Engine`], [`RunHandle`], [`engine::Snapshot`], [`engine::ProgressStream`];
//! - what is known of the outside: [`ledger`], [`Engine::sweep`], [`Engine::plan`];
//! - what goes wrong, and what is done next: [`error`], [`retry`], [`Outcome`];
//! - how state is kept: [`store`], [`queue`], [`limit`], [`secret`], with [`MemoryStore`] here and
//!   other stores in crates of their own;
//! - who owns the loop: [`worker`], [`executor`].
//!
//! It differs from a job queue in that a run's effects at providers are part of its state, and
//! from infrastructure-as-code tools in that it is called by a service, once per customer, with
//! typed values.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `api-keys` | hashed API keys (argon2id, scrypt) | no |
//! | `cron` | cron expressions for schedules | no |
//! | `metrics` | counters and histograms through the `metrics` facade | no |
//! | `backoff` | conversions of the unmaintained `backoff` crate's types | no |
#![doc = include_str!("spans.md")]

#[cfg(feature = "api-keys")]
pub mod api_key;
pub mod breaker;
pub mod bucket;
pub mod caps;
mod changes;
mod classify;
pub mod clock;
pub mod context;
pub mod draw;
mod drive;
pub mod engine;
pub mod error;
pub mod executor;
pub mod gcra;
pub mod id;
mod incarnation;
#[cfg(feature = "backoff")]
pub mod interop_backoff;
pub mod ledger;
pub mod limit;
mod local;
pub mod mark;
pub mod memory;
pub mod metric;
mod offers;
mod panics;
pub mod probe;
mod proof;
mod protocol;
pub mod queue;
mod refusals;
mod removed;
pub mod resolver;
pub mod resource;
pub mod retention;
pub mod retry;
pub mod run;
pub mod saga;
pub mod schedule;
pub mod secret;
mod severity;
mod silence;
pub mod step;
pub mod store;
pub mod vault;
pub mod worker;

pub use context::{Call, CallKind, StepContext};
pub use engine::{By, Engine, EngineBuilder, Outcome, Resolution, RunHandle};
pub use error::{
    Classify, Effect, Error, ErrorKind, Failure, OrFail, Severity, StepError, StoreError, Verdict,
};
pub use id::{Data, ExternalId, Payload, RunId, Timestamp};
pub use ledger::{Cost, CostPer, LedgerQuery, LedgerRow, Origin, ResourceState};
pub use mark::OwnerMark;
pub use memory::MemoryStore;
pub use resource::{
    AdoptPolicy, Candidate, Facts, Foreign, Found, Identity, Intent, Listing, Owned, Readiness,
    Resource, Timing,
};
pub use retry::Policy;
pub use run::{Refused, RunStatus, RunSummary};
pub use saga::{Handle, OnUnknown, Saga, SagaBuilder, SagaError, SagaId, SignalId};
pub use secret::{Secret, SecretRef, SecretSpec};
pub use step::{Compensator, Irreversible, NothingToUndo, Step, Undo, irreversible};
pub use worker::{Worker, WorkerConfig};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/writing-a-saga.md")]
struct GuideExamples;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/costs.md")]
struct CostExamples;
