//! Durable sagas that provision things on other people's clouds and can prove what exists there.

#[cfg(feature = "api-keys")]
pub mod api_key;
pub mod breaker;
pub mod bucket;
mod changes;
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
pub mod mark;
pub mod memory;
pub mod metric;
pub mod probe;
mod protocol;
pub mod queue;
pub mod resolver;
pub mod resource;
pub mod retry;
pub mod run;
pub mod saga;
pub mod schedule;
pub mod secret;
pub mod step;
pub mod store;
pub mod vault;
pub mod worker;

pub use context::{Call, CallKind, StepContext};
pub use engine::{By, Engine, EngineBuilder, Outcome, Resolution, RunHandle};
pub use error::{
    Classify, Effect, Error, ErrorKind, Failure, OrFail, StepError, StoreError, Verdict,
};
pub use id::{Data, ExternalId, Payload, RunId, Timestamp};
pub use ledger::{Cost, CostPer, LedgerQuery, LedgerRow, Origin, ResourceState};
pub use mark::OwnerMark;
pub use memory::MemoryStore;
pub use resource::{
    AdoptPolicy, Candidate, Facts, Foreign, Found, Identity, Intent, Owned, Readiness, Resource,
    Timing,
};
pub use retry::Policy;
pub use run::{RunStatus, RunSummary};
pub use saga::{Handle, OnUnknown, Saga, SagaBuilder, SagaError, SagaId, SignalId};
pub use secret::{Secret, SecretRef, SecretSpec};
pub use step::{Compensator, Irreversible, NothingToUndo, Step, Undo, irreversible};
pub use worker::{Worker, WorkerConfig};
