//! Units of work as authors write them: a [`Step`] and the [`Compensator`] that undoes it.
//!
//! A step may be repeated: it is called at least once, and its outcome is journaled once. What is
//! created at a provider is better written as a [`crate::resource::Resource`], which the engine
//! lifts into a step that looks before it creates.

use std::future::Future;

use crate::{context::StepContext, error::StepError, id::Data, id::ExternalId};

/// One unit of forward work with typed input and output.
///
/// `run` promises to be repeatable: after a crash or an unknown end it is called again with the
/// same input and the same idempotency key. Nothing it holds survives a crash but what it
/// returned or noted.
///
/// ```
/// # // covers: R4-22
/// use provision_core::{Step, StepContext, StepError};
///
/// struct Reserve;
///
/// impl Step for Reserve {
///     const KIND: &'static str = "stock.reserve";
///     type Input = u32;
///     type Output = String;
///
///     async fn run(&self, cx: &StepContext, pieces: u32) -> Result<String, StepError> {
///         match pieces {
///             0 => Err(StepError::permanent("reserve").with_code("nothing_to_reserve")),
///             _ => Ok(format!("{pieces} pieces under {}", cx.idempotency_key())),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step",
    label = "expected a type that implements `Step`",
    note = "implement `Step` (with KIND, Input, Output and run) for `{Self}`; \
            a `Resource` goes to `.resource(path, resource)` instead"
)]
pub trait Step: Send + Sync + 'static {
    /// Durable name, such as `"bank.charge"`; it is stored and never changes.
    const KIND: &'static str;
    /// Revision of the kind; a change of meaning of input or output gets a new one.
    const REVISION: u32 = 1;
    /// What it is given, journaled with `started`.
    type Input: Data;
    /// What it gives, journaled with `succeeded`. Holds references to secrets, never secrets.
    type Output: Data;

    /// Does the work.
    ///
    /// May be cut at any `.await` when the lease ends; the attempt then counts as unknown.
    fn run(
        &self,
        cx: &StepContext,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;
}

/// What is known of the step that is to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo<T> {
    /// It succeeded, with this output.
    Succeeded(T),
    /// It did not succeed, and these ids are known.
    Partial(Vec<ExternalId>),
    /// It started and nobody knows how it ended; these ids were noted before.
    Unknown(Vec<ExternalId>),
}

/// Undoes one kind of step. Called until it succeeds or its policy ends; "already gone" is success.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not undo `{S}`",
    label = "expected a `Compensator<{S}>`",
    note = "implement `Compensator<{S}>` for `{Self}`, or pass `irreversible(\"why\")`"
)]
pub trait Compensator<S: Step>: Send + Sync + 'static {
    /// Removes what the step did, or may have done.
    fn compensate(
        &self,
        cx: &StepContext,
        input: S::Input,
        undo: Undo<S::Output>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Why there is no undo, for irreversible steps.
    #[doc(hidden)]
    fn irreversible_because(&self) -> Option<&'static str> {
        None
    }
}

/// The compensator of a step that cannot be undone; unwinding passes over it.
#[derive(Debug, Clone, Copy)]
pub struct Irreversible {
    why: &'static str,
}

/// Says that a step cannot be undone, and why; the run then ends `RolledBackKeeping` at best.
///
/// ```
/// use provision_core::{
///     Engine, MemoryStore, RunStatus, Saga, SagaId, Step, StepContext, StepError, irreversible,
///     executor::{Executor, HostDriven},
/// };
///
/// struct Mail;
/// impl Step for Mail {
///     const KIND: &'static str = "docs.mail";
///     type Input = String;
///     type Output = ();
///     async fn run(&self, _: &StepContext, _to: String) -> Result<(), StepError> {
///         Ok(())
///     }
/// }
///
/// const WELCOME: SagaId<String, ()> = SagaId::new("welcome", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::define(WELCOME, |s| {
///     let mail = s.step("mail", Mail, irreversible("a sent mail cannot be recalled"));
///     let mail = mail.input((), |to, ()| to.clone());
///     s.value("file").try_input(mail, |_, ()| Err(StepError::permanent("file")))
/// })?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// let run = engine.start(WELCOME, &"Ada".to_owned()).await?;
/// let head = HostDriven.drive(&engine, run.id()).await?;
/// assert_eq!(head.status, RunStatus::RolledBackKeeping);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub const fn irreversible(why: &'static str) -> Irreversible {
    Irreversible { why }
}

impl<S: Step> Compensator<S> for Irreversible {
    async fn compensate(
        &self,
        _: &StepContext,
        _: S::Input,
        _: Undo<S::Output>,
    ) -> Result<(), StepError> {
        Ok(())
    }

    fn irreversible_because(&self) -> Option<&'static str> {
        Some(self.why)
    }
}

/// The compensator of a step without an effect outside the run: there is nothing to undo.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingToUndo;

impl<S: Step> Compensator<S> for NothingToUndo {
    async fn compensate(
        &self,
        _: &StepContext,
        _: S::Input,
        _: Undo<S::Output>,
    ) -> Result<(), StepError> {
        Ok(())
    }
}
