//! Fan-outs: a body wired once, run for every item of a list.

use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    SagaError,
    builder::{SagaBuilder, decode_input, output_fn},
    graph::{Graph, ItemsFn, Kind, Ref},
    handle::{Always, Handle},
    node::Node,
};
use crate::{error::Failure, id::Data};

const DEPTH_MAX: u16 = 4;

/// A fan-out under construction; `.body(..)` adds it.
///
/// ```
/// use provision_core::{Engine, MemoryStore, RunStatus, Saga, SagaId, StepError, executor::{Executor, HostDriven}};
///
/// const HALVES: SagaId<Vec<u32>, Vec<Option<u32>>> = SagaId::new("halves", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::define(HALVES, |s| {
///     let halves = s.each("halves", (), |list, ()| list.clone()).at_least(1).body(|item| {
///         item.value("half").try_input((), |n, ()| match n % 2 {
///             0 => Ok(n / 2),
///             _ => Err(StepError::permanent("halve").with_code("odd")),
///         })
///     });
///     // An item that fails is undone alone, and is an error among the outputs.
///     s.value("done").input(halves, |_, halves| halves.into_iter().map(Result::ok).collect())
/// })?;
/// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
/// let run = engine.start(HALVES, &vec![4, 5]).await?;
/// let head = HostDriven.drive(&engine, run.id()).await?;
/// assert_eq!(head.status, RunStatus::PartlySucceeded);
/// assert_eq!(run.output().await?, [Some(2), None]);
/// # Ok(())
/// # }
/// ```
#[must_use = "the fan-out is added by `.body(|item| ..)`"]
pub struct Each<'b, 's, I, T, R = Always> {
    builder: &'b mut SagaBuilder<'s, I>,
    path: String,
    edges: Vec<Ref>,
    items: ItemsFn,
    at_least: Option<usize>,
    types: PhantomData<fn(T) -> R>,
}

impl<I, T, R> std::fmt::Debug for Each<'_, '_, I, T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Each").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Marks a fan-out that tolerates failed items.
#[doc(hidden)]
#[derive(Debug)]
pub struct SomeItems;

/// Gives an item its stable key; keys of one fan-out are unique.
pub trait ItemKey {
    /// The key: letters, digits, `-`, `_` and `.`, at most 60.
    fn item_key(&self) -> String;
}

impl<'b, 's, I: Data, T: Data, R> Each<'b, 's, I, T, R> {
    pub(super) fn new(
        builder: &'b mut SagaBuilder<'s, I>,
        path: String,
        edges: Vec<Ref>,
        items: ItemsFn,
    ) -> Self {
        Self { builder, path, edges, items, at_least: None, types: PhantomData }
    }

    /// Names items by their own key instead of their position.
    pub fn keyed(mut self) -> Self
    where
        T: ItemKey,
    {
        let items = self.items;
        self.items = Arc::new(move |input, values| {
            items(input, values)?
                .into_iter()
                .map(|(_, payload)| Ok((decode_input::<T>(&payload)?.item_key(), payload)))
                .collect()
        });
        self
    }

    fn wire<O: Data>(
        self,
        wire: impl for<'e> FnOnce(&mut Item<'e, 's, T>) -> Handle<'e, O>,
    ) -> Ref {
        let Self { builder, path, mut edges, items, at_least, .. } = self;
        let depth = builder.depth.saturating_add(1);
        if depth > DEPTH_MAX {
            builder.fail(SagaError::TooLarge);
        }
        let mut item = Item {
            builder: SagaBuilder::at_depth(depth, builder.current_phase()),
            outer: PhantomData,
        };
        let output = wire(&mut item);
        if output.node.depth != depth {
            builder.fail(SagaError::OuterOutput { path: path.clone() });
        }
        if !item.builder.checks.is_empty() || item.builder.on_failure.is_some() {
            builder.fail(SagaError::SaidOfItem { path: path.clone() });
        }
        edges.extend(outer_edges(&item.builder, depth));
        let body = match item.builder.finish_with(output_fn(output)) {
            Ok(graph) => graph,
            Err(error) => {
                builder.fail(error);
                Graph::new(depth, Vec::new(), Arc::new(|_| Ok(crate::id::Payload::null())))
            }
        };
        let kind = Kind::Each { items, at_least, body: Arc::new(body) };
        let mut def = Node::<I, (), ()>::definition(path, kind, builder.current_phase());
        edges.sort_by_key(|edge| (edge.depth, edge.index));
        edges.dedup();
        def.deps = edges;
        builder.add(def)
    }
}

/// Handles from outside that a body uses become edges of the fan-out itself.
fn outer_edges<T>(body: &SagaBuilder<'_, T>, depth: u16) -> Vec<Ref> {
    body.nodes.iter().flat_map(|node| &node.deps).filter(|dep| dep.depth < depth).copied().collect()
}

impl<'b, 's, I: Data, T: Data> Each<'b, 's, I, T> {
    /// Tolerates failed items as long as `k` succeed; the output is then a `Vec` of `Result`s.
    pub fn at_least(self, k: usize) -> Each<'b, 's, I, T, SomeItems> {
        Each {
            builder: self.builder,
            path: self.path,
            edges: self.edges,
            items: self.items,
            at_least: Some(k),
            types: PhantomData,
        }
    }

    /// Adds the fan-out; the closure wires the steps of one item.
    pub fn body<O: Data>(
        self,
        wire: impl for<'e> FnOnce(&mut Item<'e, 's, T>) -> Handle<'e, O>,
    ) -> Handle<'s, Vec<O>> {
        Handle::new::<Always, Vec<O>>(self.wire(wire))
    }
}

impl<'s, I: Data, T: Data> Each<'_, 's, I, T, SomeItems> {
    /// Adds the fan-out; the closure wires the steps of one item.
    pub fn body<O: Data>(
        self,
        wire: impl for<'e> FnOnce(&mut Item<'e, 's, T>) -> Handle<'e, O>,
    ) -> Handle<'s, Vec<Result<O, Failure>>> {
        Handle::new::<Always, Vec<Result<O, Failure>>>(self.wire(wire))
    }
}

/// Wires the steps of one item; a builder whose input is the item.
#[derive(Debug)]
pub struct Item<'e, 's: 'e, T> {
    builder: SagaBuilder<'e, T>,
    outer: PhantomData<&'e &'s ()>,
}

impl<'e, T> Deref for Item<'e, '_, T> {
    type Target = SagaBuilder<'e, T>;

    fn deref(&self) -> &Self::Target {
        &self.builder
    }
}

impl<T> DerefMut for Item<'_, '_, T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.builder
    }
}
