//! The random saga of a seed: drawn as data, then wired through the public builder.

use provision_core::{
    AdoptPolicy, Failure, Handle, OnUnknown, Policy, Saga, SagaBuilder, SagaError, SagaId,
    irreversible,
};
use serde::{Deserialize, Serialize};

use crate::rng::Rng;

use super::{
    steps::{Do, Thing, Undo},
    world::Desk,
};

/// What every run is started with.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) client: String,
    pub(super) wants: bool,
    pub(super) items: Vec<u32>,
}

/// What one step is asked for: the body that every attempt of a generation must repeat.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) name: String,
    pub(super) made_from: Vec<String>,
}

pub(super) const SAGA: SagaId<Order, Vec<String>> = SagaId::new("simulated", 1);

/// How a resource is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// By a name that the provider keeps unique, with room for our mark.
    Named,
    /// By such a name, without room for a mark.
    Bare,
    /// By the provider's memory of our key.
    Key,
    /// By our mark alone.
    Label,
    /// Not at all.
    Lost,
}

/// How the provider feels about one step, whatever the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doom {
    Fine,
    FailsFirst(u32),
    Refused,
}

/// One piece of work.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "traits that are drawn one by one")]
pub(super) struct Unit {
    pub(super) resource: bool,
    pub(super) naming: Naming,
    pub(super) doom: Doom,
    /// Undos that fail before one works.
    pub(super) undo_fails: u32,
    pub(super) polls: u32,
    /// The first one made never becomes ready.
    pub(super) broken: bool,
    pub(super) adopts: bool,
    /// Something foreign stands under its name from the beginning.
    pub(super) foreign: bool,
    pub(super) irreversible: bool,
    pub(super) parks_on_unknown: bool,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum What {
    Work(Unit),
    Sleep(u64),
    Each { at_least: Option<usize>, body: Vec<Unit> },
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct NodeShape {
    pub(super) path: String,
    pub(super) what: What,
    pub(super) deps: Vec<usize>,
    pub(super) when: Option<bool>,
    pub(super) optional: bool,
    pub(super) pivot: bool,
}

/// The saga of a seed.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) nodes: Vec<NodeShape>,
    /// Whether calls ask the shared limiter.
    pub(super) limited: bool,
    /// `reach[a][b]`: b depends on a, directly or not.
    reach: Vec<Vec<bool>>,
}

fn unit(rng: &mut Rng) -> Unit {
    let resource = rng.chance(65);
    let naming = match rng.below(100) {
        0..30 => Naming::Named,
        30..42 => Naming::Bare,
        42..60 => Naming::Key,
        60..95 => Naming::Label,
        _ => Naming::Lost,
    };
    let doom = match rng.below(100) {
        0..72 => Doom::Fine,
        72..88 => Doom::FailsFirst(u32::try_from(rng.between(1, 3)).unwrap_or(1)),
        _ => Doom::Refused,
    };
    let undo_fails = match rng.below(100) {
        0..75 => 0,
        75..95 => u32::try_from(rng.between(1, 3)).unwrap_or(1),
        _ => u32::MAX,
    };
    let named = matches!(naming, Naming::Named | Naming::Bare);
    let foreign = resource && named && rng.chance(12);
    Unit {
        resource,
        naming,
        doom,
        undo_fails,
        polls: u32::try_from(rng.below(4)).unwrap_or(0),
        broken: resource && rng.chance(8),
        adopts: foreign && rng.chance(50),
        foreign,
        irreversible: !resource && rng.chance(8),
        parks_on_unknown: !resource && rng.chance(5),
    }
}

/// Work inside of a fan-out, which is wired without options.
fn inner(rng: &mut Rng) -> Unit {
    Unit {
        foreign: false,
        adopts: false,
        irreversible: false,
        parks_on_unknown: false,
        ..unit(rng)
    }
}

fn what(rng: &mut Rng) -> What {
    match rng.below(100) {
        0..80 => What::Work(unit(rng)),
        80..88 => What::Sleep(rng.between(200, 6_000)),
        _ => What::Each {
            at_least: rng.chance(60).then(|| rng.index(3)),
            body: (0..rng.between(1, 2)).map(|_| inner(rng)).collect(),
        },
    }
}

impl Shape {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let count = rng.between(1, 6);
        let mut nodes: Vec<NodeShape> = Vec::new();
        let mut pivot = rng.chance(15);
        for number in 0..count {
            let deps = (0..nodes.len()).filter(|_| rng.chance(40)).collect();
            let what = what(rng);
            let each = matches!(what, What::Each { .. });
            let optional = !each && rng.chance(15);
            let is_pivot = !each && !optional && pivot && rng.chance(30);
            pivot &= !is_pivot;
            nodes.push(NodeShape {
                path: format!("n{number}"),
                when: (!each && rng.chance(15)).then(|| rng.chance(60)),
                optional,
                pivot: is_pivot,
                deps,
                what,
            });
        }
        let reach = closure(&nodes);
        Self { nodes, limited: rng.chance(40), reach }
    }

    /// The work of a step: its node, and its place in a fan-out's body.
    pub(super) fn unit(&self, path: &str) -> Option<&Unit> {
        let place = Place::of(path)?;
        match (&self.nodes.get(place.node)?.what, place.inner) {
            (What::Work(unit), None) => Some(unit),
            (What::Each { body, .. }, Some(inner)) => body.get(inner),
            _ => None,
        }
    }

    pub(super) fn node(&self, path: &str) -> Option<&NodeShape> {
        self.nodes.get(Place::of(path)?.node)
    }

    /// Whether the second step depends on the first.
    pub(super) fn depends(&self, first: &str, second: &str) -> bool {
        let (Some(a), Some(b)) = (Place::of(first), Place::of(second)) else { return false };
        if a.node == b.node {
            return a.item == b.item && a.inner < b.inner;
        }
        self.reach[a.node][b.node]
    }
}

fn closure(nodes: &[NodeShape]) -> Vec<Vec<bool>> {
    let mut reach = vec![vec![false; nodes.len()]; nodes.len()];
    for (b, node) in nodes.iter().enumerate() {
        for a in &node.deps {
            reach[*a][b] = true;
            for row in &mut reach[..*a] {
                row[b] |= row[*a];
            }
        }
    }
    reach
}

/// Where a path points: `n3`, or `n3[item]/i1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: usize,
    pub(super) item: Option<String>,
    pub(super) inner: Option<usize>,
}

impl Place {
    pub(super) fn of(path: &str) -> Option<Self> {
        let Some((outer, inner)) = path.split_once('/') else {
            let (node, item) = match path.split_once('[') {
                Some((node, item)) => (node, Some(item.trim_end_matches(']').to_owned())),
                None => (path, None),
            };
            return Some(Self { node: node.strip_prefix('n')?.parse().ok()?, item, inner: None });
        };
        let (node, item) = outer.split_once('[')?;
        Some(Self {
            node: node.strip_prefix('n')?.parse().ok()?,
            item: Some(item.trim_end_matches(']').to_owned()),
            inner: Some(inner.strip_prefix('i')?.parse().ok()?),
        })
    }
}

/// Handles by what dependents see of them.
#[derive(Debug, Clone, Copy)]
enum Made<'s> {
    Plain(Handle<'s, String>),
    Maybe(Handle<'s, Option<String>>),
    Tried(Handle<'s, Result<String, Failure>>),
    MaybeTried(Handle<'s, Result<Option<String>, Failure>>),
    Slept(Handle<'s, ()>),
    List(Handle<'s, Vec<String>>),
    Some(Handle<'s, Vec<Result<String, Failure>>>),
}

/// The dependencies of one node, sorted by type.
#[derive(Debug, Default)]
struct Links<'s> {
    plain: Vec<Handle<'s, String>>,
    maybe: Vec<Handle<'s, Option<String>>>,
    tried: Vec<Handle<'s, Result<String, Failure>>>,
    both: Vec<Handle<'s, Result<Option<String>, Failure>>>,
    slept: Vec<Handle<'s, ()>>,
    list: Vec<Handle<'s, Vec<String>>>,
    some: Vec<Handle<'s, Vec<Result<String, Failure>>>>,
}

impl<'s> Links<'s> {
    fn of(made: impl IntoIterator<Item = Made<'s>>) -> Self {
        let mut links = Self::default();
        for one in made {
            match one {
                Made::Plain(h) => links.plain.push(h),
                Made::Maybe(h) => links.maybe.push(h),
                Made::Tried(h) => links.tried.push(h),
                Made::MaybeTried(h) => links.both.push(h),
                Made::Slept(h) => links.slept.push(h),
                Made::List(h) => links.list.push(h),
                Made::Some(h) => links.some.push(h),
            }
        }
        links
    }
}

fn policy() -> Policy {
    use std::time::Duration;
    Policy::attempts(6).exponential(Duration::from_secs(1), 2, Duration::from_secs(5))
}

/// Edges without values: everything that is not plain.
macro_rules! linked {
    ($node:expr, $links:expr) => {
        $node
            .after($links.maybe)
            .after($links.tried)
            .after($links.both)
            .after($links.slept)
            .after($links.list)
            .after($links.some)
    };
}

macro_rules! finished {
    ($node:expr, $shape:expr, $plain:expr, $map:expr) => {{
        let node = if $shape.pivot { $node.pivot() } else { $node };
        match ($shape.when, $shape.optional) {
            (None, false) => Made::Plain(node.input($plain, $map)),
            (None, true) => Made::Tried(node.optional().input($plain, $map)),
            (Some(wants), false) => {
                Made::Maybe(node.when(move |o: &Order| o.wants == wants).input($plain, $map))
            }
            (Some(wants), true) => Made::MaybeTried(
                node.when(move |o: &Order| o.wants == wants).optional().input($plain, $map),
            ),
        }
    }};
}

fn work<'s>(
    s: &mut SagaBuilder<'s, Order>,
    shape: &NodeShape,
    unit: &Unit,
    links: Links<'s>,
    desk: &Desk,
) -> Made<'s> {
    let path = shape.path.clone();
    let map = move |order: &Order, made_from: Vec<String>| Want {
        name: format!("{}-{path}", order.client),
        made_from,
    };
    let path = shape.path.clone();
    if unit.resource {
        let thing = Thing::new(desk, unit);
        let adopt = if unit.adopts { AdoptPolicy::Use } else { AdoptPolicy::Refuse };
        let node = s.resource(path, thing).retry(policy()).retry_undo(policy()).adopt(adopt);
        return finished!(linked!(node, links), shape, links.plain, map);
    }
    let unknown = if unit.parks_on_unknown { OnUnknown::Park } else { OnUnknown::default() };
    let act = Do::new(desk);
    let node = if unit.irreversible {
        s.step(path, act, irreversible("it was said"))
    } else {
        s.step(path, act, Undo::new(desk))
    };
    let node = node.retry(policy()).retry_undo(policy()).on_unknown(unknown);
    finished!(linked!(node, links), shape, links.plain, map)
}

/// The steps of one item: a chain.
macro_rules! chain {
    ($item:expr, $body:expr, $desk:expr, $path:expr) => {{
        let mut last = Vec::new();
        for (index, unit) in $body.iter().enumerate() {
            let path = format!("i{index}");
            let name = format!("{}-{index}", $path);
            let map = move |item: &String, made_from: Vec<String>| Want {
                name: format!("{item}-{name}"),
                made_from,
            };
            let handle = if unit.resource {
                let thing = Thing::new($desk, unit);
                $item
                    .resource(path, thing)
                    .retry(policy())
                    .retry_undo(policy())
                    .input(last.clone(), map)
            } else {
                $item
                    .step(path, Do::new($desk), Undo::new($desk))
                    .retry(policy())
                    .retry_undo(policy())
                    .input(last.clone(), map)
            };
            last = vec![handle];
        }
        last[0]
    }};
}

fn each<'s>(
    s: &mut SagaBuilder<'s, Order>,
    shape: &NodeShape,
    (at_least, body): (Option<usize>, &[Unit]),
    links: Links<'s>,
    desk: &Desk,
) -> Made<'s> {
    let path = shape.path.clone();
    let deps =
        (links.plain, links.maybe, links.tried, links.both, links.slept, links.list, links.some);
    let each = s.each(path.clone(), deps, |order: &Order, _| {
        order.items.iter().map(|item| format!("{}-{item}", order.client)).collect()
    });
    match at_least {
        None => Made::List(each.body(|item| chain!(item, body, desk, path))),
        Some(k) => Made::Some(each.at_least(k).body(|item| chain!(item, body, desk, path))),
    }
}

/// Wires a shape for one life of one worker.
pub(super) fn wire(shape: &Shape, desk: &Desk) -> Result<Saga<Order, Vec<String>>, SagaError> {
    Saga::define(SAGA, |s| {
        let mut made: Vec<Made<'_>> = Vec::new();
        for node in &shape.nodes {
            let links = Links::of(node.deps.iter().map(|dep| made[*dep]));
            let one = match &node.what {
                What::Work(unit) => work(s, node, unit, links, desk),
                What::Sleep(ms) => {
                    let wait = std::time::Duration::from_millis(*ms);
                    let sleep = s.sleep(node.path.clone()).after(links.plain.clone());
                    Made::Slept(linked!(sleep, links).input((), move |_, ()| wait))
                }
                What::Each { at_least, body } => each(s, node, (*at_least, body), links, desk),
            };
            made.push(one);
        }
        let links = Links::of(made);
        let end = s.value("end");
        linked!(end, links).input(links.plain, |_, outputs| outputs)
    })
}
