//! Sagas: typed graphs of steps, checked by the compiler where it can and by
//! [`Saga::define`] where it cannot.
//!
//! A node reads from left to right: what it is (`step`, `resource`, `saga`, `value`, `sleep`,
//! `signal`), its options (`retry`, `when`, `optional`, `pivot`, `after`, `on_unknown`, `adopt`),
//! and then `.input(deps, map)`, the only call that adds it and gives a [`Handle`]. The handles in
//! `deps` are the edges of the graph; nodes without a path between them run in parallel.
//!
//! ```
//! use provision_core::{NothingToUndo, Saga, SagaId, Step, StepContext, StepError};
//!
//! struct Double;
//! impl Step for Double {
//!     const KIND: &'static str = "docs.double";
//!     type Input = u32;
//!     type Output = u32;
//!     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> { Ok(n * 2) }
//! }
//!
//! let saga = Saga::define(SagaId::<u32, u32>::new("docs", 1), |s| {
//!     let a = s.step("a", Double, NothingToUndo).input((), |n, ()| *n);
//!     let big = s.step("big", Double, NothingToUndo).when(|n| *n > 10).input(a, |_, a| a);
//!     let each = s.each("each", a, |_, a| vec![a, a + 1])
//!         .body(|item| item.step("one", Double, NothingToUndo).input((), |n, ()| *n));
//!     s.value("sum").input((big, each), |_, (big, each)| {
//!         big.unwrap_or(0) + each.into_iter().sum::<u32>()
//!     })
//! })?;
//! assert_eq!(saga.paths(), ["a", "big", "each", "each[]/one", "sum"]);
//! # Ok::<(), provision_core::SagaError>(())
//! ```
//!
//! What is wired wrongly does not compile. A forgotten undo:
//!
//! ```compile_fail,E0061
//! # // covers: R1-92, R4-26
//! # use provision_core::{NothingToUndo, Saga, SagaId, Step, StepContext, StepError};
//! # struct Double;
//! # impl Step for Double {
//! #     const KIND: &'static str = "docs.double";
//! #     type Input = u32;
//! #     type Output = u32;
//! #     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> { Ok(n * 2) }
//! # }
//! let saga = Saga::define(SagaId::<u32, u32>::new("docs", 1), |s| {
//!     s.step("a", Double).input((), |n, ()| *n)
//! });
//! ```
//!
//! An output of another type, or of a step that may be skipped, used as it is:
//!
//! ```compile_fail,E0308
//! # // covers: R1-92, R4-26
//! # use provision_core::{NothingToUndo, Saga, SagaId, Step, StepContext, StepError};
//! # struct Double;
//! # impl Step for Double {
//! #     const KIND: &'static str = "docs.double";
//! #     type Input = u32;
//! #     type Output = u32;
//! #     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> { Ok(n * 2) }
//! # }
//! let saga = Saga::define(SagaId::<u32, u32>::new("docs", 1), |s| {
//!     let a = s.step("a", Double, NothingToUndo).when(|n| *n > 10).input((), |n, ()| *n);
//!     s.step("b", Double, NothingToUndo).input(a, |_, a| a)
//! });
//! ```
//!
//! A handle that leaves its fan-out:
//!
//! ```compile_fail
//! # // covers: R1-92, R4-26
//! # use provision_core::{NothingToUndo, Saga, SagaId, Step, StepContext, StepError};
//! # struct Double;
//! # impl Step for Double {
//! #     const KIND: &'static str = "docs.double";
//! #     type Input = u32;
//! #     type Output = u32;
//! #     async fn run(&self, _: &StepContext, n: u32) -> Result<u32, StepError> { Ok(n * 2) }
//! # }
//! let saga = Saga::define(SagaId::<u32, u32>::new("docs", 1), |s| {
//!     let mut kept = None;
//!     s.each("each", (), |_, ()| vec![1_u32]).body(|item| {
//!         let one = item.step("one", Double, NothingToUndo).input((), |n, ()| *n);
//!         kept = Some(one);
//!         one
//!     });
//!     kept.unwrap()
//! });
//! ```
//!
//! A secret in an output:
//!
//! ```compile_fail
//! # // covers: R1-92, R4-26
//! # use provision_core::{Secret, Step, StepContext, StepError};
//! struct Leak;
//! impl Step for Leak {
//!     const KIND: &'static str = "docs.leak";
//!     type Input = u32;
//!     type Output = Secret;
//!     async fn run(&self, _: &StepContext, _: u32) -> Result<Secret, StepError> {
//!         Ok(Secret::new("s"))
//!     }
//! }
//! ```

mod builder;
mod check;
mod each;
pub(crate) mod graph;
mod handle;
mod node;

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Deserialize, Serialize};

pub use builder::SagaBuilder;
pub(crate) use builder::check_size;
pub use each::{Each, Item, ItemKey};
pub use graph::{JoinRule, OnUnknown};
#[doc(hidden)]
pub use graph::{Ref, ValueOf, Values};
#[doc(hidden)]
pub use handle::{Always, Mode, Reader, Tolerated, When};
pub use handle::{Deps, Handle};
pub use node::Node;

use crate::{error::Failure, id::Data, retry::LiveOverrides, run::RunStatus, store::SagaRef};

/// Names a saga, with the types of its input and output.
pub struct SagaId<I, O> {
    name: &'static str,
    version: u32,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> SagaId<I, O> {
    /// Names a saga; name and version are durable.
    #[must_use]
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version, types: PhantomData }
    }

    /// The durable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }
}

impl<I, O> Clone for SagaId<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I, O> Copy for SagaId<I, O> {}

impl<I, O> fmt::Debug for SagaId<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// Names a signal, with the type it carries.
pub struct SignalId<T> {
    name: &'static str,
    types: PhantomData<fn(T)>,
}

impl<T> SignalId<T> {
    /// Names a signal; the name is durable, and is the path of the node that waits for it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The durable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for SignalId<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SignalId<T> {}

impl<T> fmt::Debug for SignalId<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How a run ended, as a hook sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct End {
    /// The status the run is about to end with.
    pub status: RunStatus,
    /// Why, when it failed.
    pub failure: Option<Failure>,
}

/// What becomes of what a run has made, when a step that nothing tolerates fails for good.
///
/// A policy of the running code, like retry policies: it is not a part of the saga's shape, and what
/// it led to is journaled. An order to cancel or tear down undoes everything under each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// Everything is undone, in reverse. The default.
    #[default]
    Compensate,
    /// Finished steps stay; only what failed, or was cut off by the failure, is undone. The run ends
    /// `RolledBackKeeping` when something stays, and can be driven again: finished steps do not run
    /// twice.
    Keep,
    /// The run parks and a person decides: retry, resolve the step, or cancel, which undoes all.
    Ask,
}

/// A definition: a graph of steps with compensations. Cheap to clone.
pub struct Saga<I, O> {
    pub(crate) plan: Arc<Plan>,
    types: PhantomData<fn(I) -> O>,
}

/// The untyped part of a saga.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) saga: SagaRef,
    pub(crate) graph: Arc<graph::Graph>,
    /// What an input must fulfil.
    pub(crate) checks: check::Checks,
    /// What becomes of finished steps when a later one fails for good.
    pub(crate) on_failure: OnFailure,
    /// Policies that replace the graph's own, as they are now.
    pub(crate) overrides: Arc<LiveOverrides>,
}

impl Plan {
    pub(crate) fn new(saga: SagaRef, graph: graph::Graph) -> Self {
        let (checks, overrides) = (check::Checks::default(), Arc::default());
        let on_failure = OnFailure::default();
        Self { saga, graph: Arc::new(graph), checks, on_failure, overrides }
    }

    /// The same saga in an engine that has overrides.
    pub(crate) fn under(&self, overrides: &Arc<LiveOverrides>) -> Self {
        Self { overrides: Arc::clone(overrides), ..self.clone() }
    }
}

impl<I, O> Clone for Saga<I, O> {
    fn clone(&self) -> Self {
        Self { plan: Arc::clone(&self.plan), types: PhantomData }
    }
}

impl<I, O> fmt::Debug for Saga<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga").field("saga", &self.plan.saga).finish_non_exhaustive()
    }
}

impl<I: Data, O: Data> Saga<I, O> {
    /// Wires a saga.
    ///
    /// The closure adds nodes and returns the handle whose value is the run's output. Nodes
    /// without a path between them run in parallel.
    ///
    /// # Errors
    /// A path, a retry policy or a resource's timing is not usable, a path is used twice, a body returns an outer handle, a join has outer
    /// members, or a limit is passed.
    pub fn define(
        id: SagaId<I, O>,
        wire: impl for<'s> FnOnce(&mut SagaBuilder<'s, I>) -> Handle<'s, O>,
    ) -> Result<Self, SagaError> {
        let mut builder = SagaBuilder::root();
        let output = wire(&mut builder);
        let checks = std::mem::take(&mut builder.checks);
        let on_failure = builder.on_failure.unwrap_or_default();
        let graph = builder.finish(output)?;
        let saga = SagaRef {
            name: id.name.to_owned(),
            version: id.version,
            fingerprint: graph.fingerprint(),
        };
        let plan = Plan { checks, on_failure, ..Plan::new(saga, graph) };
        Ok(Self { plan: Arc::new(plan), types: PhantomData })
    }

    /// Name, version and fingerprint.
    #[must_use]
    pub fn saga_ref(&self) -> &SagaRef {
        &self.plan.saga
    }

    /// The paths of its nodes in the order they were added; a fan-out's own nodes are `path[]/..`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        fn walk(graph: &graph::Graph, prefix: &str, out: &mut Vec<String>) {
            for node in &graph.nodes {
                out.push(format!("{prefix}{}", node.path));
                if let graph::Kind::Each { body, .. } = &node.kind {
                    walk(body, &format!("{prefix}{}[]/", node.path), out);
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.plan.graph, "", &mut out);
        out
    }
}

/// Why a saga could not be defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// Two nodes have the same path; paths are the keys of the journal.
    #[error("the path `{path}` is used twice")]
    DuplicatePath {
        /// The path.
        path: String,
    },
    /// A path holds characters the journal and the providers' labels cannot carry.
    #[error("the path `{path}` is not usable: use letters, digits, `-`, `_` and `.`, at most 60")]
    BadPath {
        /// The path.
        path: String,
    },
    /// A retry policy has values outside their range, such as no attempts at all.
    #[error("the retry policy of `{path}` is not usable: {why}")]
    BadPolicy {
        /// The step.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The times of a resource, or the longest time of an attempt, cannot be used, or reading them
    /// panicked.
    #[error("the timing of `{path}` is not usable: {why}")]
    BadTiming {
        /// The resource.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A fan-out's body returned a handle from outside of it.
    #[error("the body of `{path}` must return one of its own nodes")]
    OuterOutput {
        /// The fan-out.
        path: String,
    },
    /// A fan-out's body says what only a saga can say.
    #[error("the body of `{path}` calls `validate` or `on_failure`: call it on the saga instead")]
    SaidOfItem {
        /// The fan-out.
        path: String,
    },
    /// A join has members from outside of its scope.
    #[error("the join `{path}` has members from outside its fan-out's body")]
    OuterMember {
        /// The join.
        path: String,
    },
    /// A join asks for more members than it has, or for none.
    #[error("the join `{path}` asks for {asked} of {members} members")]
    BadJoin {
        /// The join.
        path: String,
        /// Members asked for.
        asked: usize,
        /// Members it has.
        members: usize,
    },
    /// The graph is larger than 2,000 nodes or deeper than 4 fan-outs.
    #[error("the saga is too large: at most 2000 nodes and 4 levels of fan-out")]
    TooLarge,
}
