//! A node under construction: its options, and the calls that add it.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use super::{
    builder::{SagaBuilder, decode_input, encode_bounded, no_input},
    graph::{Kind, NodeDef, OnUnknown, WhenFn},
    handle::{Always, Deps, Handle, Mode, Reader, Tolerated, When},
};
use crate::{error::StepError, id::Data, resource::AdoptPolicy, retry::Policy};

/// A node under construction; `.input(deps, map)` adds it.
#[must_use = "the node is added by `.input(deps, |input, values| ..)`"]
#[derive(Debug)]
pub struct Node<'b, 's, I, In, Out, M = Always> {
    builder: &'b mut SagaBuilder<'s, I>,
    pub(super) def: NodeDef,
    types: PhantomData<fn(In) -> (Out, M)>,
}

impl<I, In, Out> Node<'_, '_, I, In, Out> {
    pub(super) fn definition(path: String, kind: Kind, phase: Option<&'static str>) -> NodeDef {
        NodeDef {
            path: path.into(),
            kind,
            deps: Vec::new(),
            when: None,
            map: no_input(),
            optional: false,
            pivot: false,
            irreversible: None,
            phase,
            policy: Policy::default(),
            undo_policy: Policy::undo(),
            on_unknown: OnUnknown::default(),
            adopt: AdoptPolicy::default(),
            attempt_timeout: Duration::from_secs(15 * 60),
            tear_down_first: None,
        }
    }
}

impl<'b, 's, I, In, Out> Node<'b, 's, I, In, Out> {
    pub(super) fn new(builder: &'b mut SagaBuilder<'s, I>, path: String, kind: Kind) -> Self {
        let def = Self::definition(path, kind, builder.current_phase());
        Self { builder, def, types: PhantomData }
    }
}

impl<'b, 's, I: Data, In: Data, Out: Data, M: Mode<Out>> Node<'b, 's, I, In, Out, M> {
    fn retype<N>(self) -> Node<'b, 's, I, In, Out, N> {
        Node { builder: self.builder, def: self.def, types: PhantomData }
    }

    /// Sets how attempts are repeated. Default: 5 attempts, exponential, full jitter.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use provision_core::{
    ///     Engine, MemoryStore, NothingToUndo, Policy, Saga, SagaId, Step, StepContext, StepError,
    ///     executor::{Executor, HostDriven},
    /// };
    ///
    /// struct Late;
    /// impl Step for Late {
    ///     const KIND: &'static str = "docs.late";
    ///     type Input = u32;
    ///     type Output = u32;
    ///     async fn run(&self, cx: &StepContext, needs: u32) -> Result<u32, StepError> {
    ///         if cx.attempt() < needs { Err(StepError::retry("ask")) } else { Ok(cx.attempt()) }
    ///     }
    /// }
    ///
    /// const ASK: SagaId<u32, u32> = SagaId::new("ask", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let every_minute = Policy::attempts(3).fixed(Duration::from_secs(60));
    /// let saga = Saga::define(ASK, |s| {
    ///     s.step("ask", Late, NothingToUndo).retry(every_minute).input((), |needs, ()| *needs)
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let third = engine.start(ASK, &3).await?;
    /// let never = engine.start(ASK, &4).await?;
    /// HostDriven.drive(&engine, third.id()).await?;
    /// HostDriven.drive(&engine, never.id()).await?;
    /// assert_eq!(third.output().await?, 3);
    /// assert_eq!(engine.failures(never.id()).await?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(mut self, policy: Policy) -> Self {
        self.def.policy = policy;
        self
    }

    /// Sets how the undo is repeated before it parks. Default: for four hours.
    pub fn retry_undo(mut self, policy: Policy) -> Self {
        self.def.undo_policy = policy;
        self
    }

    /// Marks the point of no return: after it nothing unwinds.
    pub fn pivot(mut self) -> Self {
        self.def.pivot = true;
        self
    }

    /// Sets what happens when an attempt's end is unknown.
    pub fn on_unknown(mut self, rule: OnUnknown) -> Self {
        self.def.on_unknown = rule;
        self
    }

    /// Sets what happens when a foreign resource stands where this one would be.
    ///
    /// ```
    /// use provision_core::{
    ///     AdoptPolicy, By, Engine, LedgerQuery, MemoryStore, Origin, Saga, SagaId,
    ///     executor::{Executor, HostDriven},
    /// };
    /// use provision_testkit::harness::{World, world::Thing};
    ///
    /// const DISK: SagaId<String, String> = SagaId::new("disk", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cloud = World::new();
    /// cloud.put_foreign("archive");
    /// let saga = Saga::define(DISK, |s| {
    ///     let disk = s.resource("disk", Thing::named(&cloud)).adopt(AdoptPolicy::Use);
    ///     disk.input((), |name, ()| name.clone())
    /// })?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// let run = engine.start(DISK, &"archive".to_owned()).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// let rows = engine.ledger(&LedgerQuery::default()).await?;
    /// assert_eq!(rows[0].origin, Origin::Adopted);
    ///
    /// // What was adopted is used, and never deleted.
    /// engine.tear_down(run.id(), By::new("ann", "contract is over")).await?;
    /// HostDriven.drive(&engine, run.id()).await?;
    /// assert_eq!(cloud.names(), ["archive"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt(mut self, policy: AdoptPolicy) -> Self {
        self.def.adopt = policy;
        self
    }

    /// Longest time one attempt may take before it is cut and counts as unknown. Default 15 min; at
    /// most 30 days, which [`Saga::define`](crate::Saga::define) checks.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.def.attempt_timeout = timeout;
        self
    }

    /// On tear-down, undoes this node before those with a higher rank and before unranked ones,
    /// as far as dependencies of the undo allow it. One that has to wait for its next attempt lets the
    /// others pass.
    pub fn tear_down_first(mut self, rank: u32) -> Self {
        self.def.tear_down_first = Some(rank);
        self
    }

    /// Adds edges without values.
    pub fn after(mut self, deps: impl Deps<'s>) -> Self {
        let _ = deps.reader(&mut self.def.deps);
        self
    }

    /// Runs the node only when the condition holds; dependents see `Option`.
    pub fn when(
        mut self,
        condition: impl Fn(&I) -> bool + Send + Sync + 'static,
    ) -> Node<'b, 's, I, In, Out, When<M>> {
        let when: WhenFn = Arc::new(move |input| Ok(condition(&decode_input(input)?)));
        self.def.when = Some(when);
        self.retype()
    }

    /// Tolerates the node's failure; dependents see `Result<_, Failure>`.
    pub fn optional(mut self) -> Node<'b, 's, I, In, Out, Tolerated<M>> {
        self.def.optional = true;
        self.retype()
    }

    /// Adds the node: what it depends on, and how its input comes of that.
    ///
    /// The closure is pure and may run again after a crash before its value is journaled.
    pub fn input<D: Deps<'s>>(
        self,
        deps: D,
        map: impl Fn(&I, D::Values) -> In + Send + Sync + 'static,
    ) -> Handle<'s, M::Out> {
        self.try_input(deps, move |input, values| Ok(map(input, values)))
    }

    /// Adds the node, with a closure that may fail; its error is the node's failure.
    pub fn try_input<D: Deps<'s>>(
        mut self,
        deps: D,
        map: impl Fn(&I, D::Values) -> Result<In, StepError> + Send + Sync + 'static,
    ) -> Handle<'s, M::Out> {
        let reader = deps.reader(&mut self.def.deps);
        self.def.map = Arc::new(move |input, values| {
            let input = decode_input(input)?;
            encode_bounded(&map(&input, reader.read(values)?)?)
        });
        let node = self.builder.add(self.def);
        Handle::new::<M, Out>(node)
    }
}
