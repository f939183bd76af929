//! Graphs built by hand, and a digest of everything a journal must give back.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::super::{Phase, State, Undo};
use crate::{
    context::StepContext,
    error::StepError,
    id::{ExternalId, Payload, RunId},
    proof::Seen,
    protocol::{Action, Flow},
    resource::{AdoptPolicy, IntentRecord, Listing, Timing},
    retry::Policy,
    run::journal::WaitReason,
    saga::{
        JoinRule, OnUnknown, Plan,
        graph::{Graph, Kind, NodeDef, Ref},
    },
    store::SagaRef,
};

/// Code that is never called: the test decides how attempts end.
struct Never(Option<Timing>);

#[async_trait]
impl Action for Never {
    async fn run(&self, _: StepContext, _: Payload) -> Result<Flow, StepError> {
        Err(StepError::permanent("never"))
    }
    async fn undo(
        &self,
        _: StepContext,
        _: Payload,
        _: Option<Payload>,
    ) -> Result<Flow, StepError> {
        Err(StepError::permanent("never"))
    }
    async fn look(&self, _: StepContext, _: Payload) -> Result<Option<Seen>, StepError> {
        Ok(None)
    }
    async fn list_owned(&self, _: StepContext) -> Result<Option<Listing>, StepError> {
        Ok(None)
    }
    async fn delete(&self, _: StepContext, _: Payload, _: &ExternalId) -> Result<(), StepError> {
        Ok(())
    }
    fn timing(&self) -> Option<Timing> {
        self.0
    }
}

/// What a node of a random graph is.
#[derive(Debug, Clone)]
pub(super) enum What {
    Step,
    Resource,
    Value,
    Sleep,
    Signal,
    Child,
    Join(usize),
    Each { items: usize, at_least: Option<usize>, body: Vec<Spec> },
}

/// One node of a random graph.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "marks of a node, drawn one by one")]
pub(super) struct Spec {
    pub(super) what: What,
    /// Earlier nodes of the same scope it depends on, as bits.
    pub(super) deps: u16,
    /// Earlier nodes of the scope around it that an item's node depends on, as bits.
    pub(super) outer: u16,
    pub(super) when: Option<bool>,
    pub(super) optional: bool,
    pub(super) pivot: bool,
    pub(super) irreversible: bool,
    pub(super) park: bool,
    pub(super) attempts: u32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            what: What::Step,
            deps: 0,
            outer: 0,
            when: None,
            optional: false,
            pivot: false,
            irreversible: false,
            park: false,
            attempts: 1,
        }
    }
}

fn quick(attempts: u32) -> Policy {
    Policy::attempts(attempts).fixed(Duration::from_secs(1)).with_total(Duration::from_hours(999))
}

fn refs(bits: u16, below: usize, depth: u16) -> impl Iterator<Item = Ref> {
    (0..below.min(16))
        .filter(move |bit| bits >> bit & 1 == 1)
        .map(move |index| Ref { depth, index: u32::try_from(index).unwrap() })
}

fn kind(spec: &Spec, depth: u16, index: usize) -> Kind {
    let action = |timing| Kind::Action {
        kind: "test.thing",
        revision: 1,
        action: Arc::new(Never(timing)) as Arc<dyn Action>,
    };
    match &spec.what {
        What::Step => action(None),
        What::Resource => action(Some(Timing::default())),
        What::Value => Kind::Value,
        What::Sleep => Kind::Sleep,
        What::Signal => Kind::Signal { name: "go" },
        What::Child => Kind::Saga {
            child: SagaRef { name: "child".into(), version: 1, fingerprint: "f".into() },
        },
        What::Join(k) => Kind::Join { rule: JoinRule::AtLeast(*k) },
        What::Each { items, at_least, body } => {
            let count = *items;
            Kind::Each {
                items: Arc::new(move |_, _| {
                    Ok((0..count).map(|n| (n.to_string(), Payload::null())).collect())
                }),
                at_least: *at_least,
                body: Arc::new(graph(body, depth + 1, index)),
            }
        }
    }
}

/// Compiles a scope; `around` is the number of nodes before the fan-out in the scope around it.
pub(super) fn graph(specs: &[Spec], depth: u16, around: usize) -> Graph {
    let node = |(index, spec): (usize, &Spec)| {
        let mut deps: Vec<Ref> = refs(spec.deps, index, depth).collect();
        if depth > 0 {
            deps.extend(refs(spec.outer, around, depth - 1));
        }
        if let What::Each { body, .. } = &spec.what {
            let used = body.iter().fold(0, |bits, inner| bits | inner.outer);
            deps.extend(refs(used & !spec.deps, index, depth));
        }
        let wanted = spec.when;
        let wait = matches!(spec.what, What::Sleep | What::Signal);
        NodeDef {
            path: Arc::from(format!("n{index}")),
            kind: kind(spec, depth, index),
            deps,
            when: wanted.map(|wanted| Arc::new(move |_: &Payload| Ok(wanted)) as _),
            map: Arc::new(move |_, _| {
                if wait {
                    Payload::encode(&Duration::from_secs(60))
                        .map_err(|_| StepError::permanent("encode"))
                } else {
                    Ok(Payload::null())
                }
            }),
            optional: spec.optional,
            pivot: spec.pivot,
            irreversible: spec.irreversible.then_some("as planned"),
            phase: None,
            policy: quick(spec.attempts),
            undo_policy: quick(2),
            on_unknown: if spec.park { OnUnknown::Park } else { OnUnknown::Protocol },
            adopt: AdoptPolicy::Refuse,
            attempt_timeout: Duration::from_secs(60),
            tear_down_first: None,
        }
    };
    let nodes = specs.iter().enumerate().map(node).collect();
    Graph::new(depth, nodes, Arc::new(|_| Ok(Payload::null())))
}

pub(super) fn plan(specs: &[Spec]) -> Arc<Plan> {
    let saga = SagaRef { name: "random".into(), version: 1, fingerprint: "f".into() };
    Arc::new(Plan::new(saga, graph(specs, 0, 0)))
}

pub(super) fn fresh(plan: &Arc<Plan>) -> State {
    State::new(RunId::from_uuid(Uuid::from_u128(7)), plan, Payload::null())
}

pub(super) fn intent(at: crate::id::Timestamp) -> IntentRecord {
    IntentRecord {
        key: Uuid::nil(),
        name: None,
        account: "default".into(),
        region: None,
        template: None,
        cost: None,
        secrets: Vec::new(),
        at,
    }
}

/// Everything the journal must give back. What only lives in memory (the time of a repeated poll,
/// a poll that is under way) is left out.
pub(super) fn digest(state: &State) -> String {
    let mut out = String::new();
    for node in &state.nodes {
        let mut node = node.clone();
        node.quiet_start = false;
        node.polls = 0;
        if let Phase::Waiting { due, reason } = &mut node.phase
            && memory_only(reason)
        {
            *due = crate::id::Timestamp::ZERO;
        }
        if let Undo::Waiting { due, reason } = &mut node.undo
            && memory_only(reason)
        {
            *due = crate::id::Timestamp::ZERO;
        }
        let _ = writeln!(out, "{node:?}");
    }
    let _ = write!(
        out,
        "{:?} {:?} {:?} {:?} {:?} {:?} {} {}",
        state.unwinds,
        state.paused,
        state.parked,
        state.ended,
        state.output,
        state.cause,
        state.left_behind,
        state.acknowledged
    );
    out
}

fn memory_only(reason: &WaitReason) -> bool {
    matches!(reason, WaitReason::Poll | WaitReason::Quiet | WaitReason::Child { .. })
}
