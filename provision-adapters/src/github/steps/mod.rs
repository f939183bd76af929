//! What sagas are made of at GitHub, one file per resource or step.

mod dispatch;
mod event;
mod repo;
mod secrets;
mod values;
mod variables;

pub use dispatch::{Dispatch, DispatchSpec, DispatchedRun, Wait};
pub use event::{Event, EventSent, SendEvent, StopRuns};
pub use repo::{Repo, RepoFromTemplate, RepoSpec};
pub use secrets::{RepoSecrets, SecretsSpec};
pub use values::Values;
pub use variables::{RepoVariables, VariablesSpec};
