//! The resource protocol: what turns an author's answers into check-then-create, recovery and undo.
//!
//! [`Action`] is the private, erased twin of `Step` and `Resource`: payloads in, payloads out.
//! Typing ends here.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    context::StepContext,
    error::{Effect, StepError, Verdict},
    id::{ExternalId, Payload},
    ledger::Origin,
    panics,
    proof::{By, Proof, Seen},
    refusals::{adopted, refused, unresolvable},
    removed,
    resource::{
        AdoptPolicy, Candidate, DEFAULT_ACCOUNT, Declared, Foreign, Found, Identity, IntentRecord,
        Listing, Readiness, Resource, Timing,
    },
    run::journal::WaitReason,
    step::{Compensator, Step, Undo},
};

/// How an attempt went, when it did not fail.
#[derive(Debug)]
pub(crate) enum Flow {
    /// Done; the payload is the output (forward) or nothing (undo).
    Done(Payload),
    /// Ask again; the run gives its slot back.
    NotYet { after: Duration, reason: WaitReason },
    /// Surely absent after the quiet time: the next generation begins.
    Renew,
    /// Undone, except for something that stays.
    Kept,
}

/// Code of one node: called by the driver, never by the machine.
#[async_trait]
pub(crate) trait Action: Send + Sync {
    async fn run(&self, cx: StepContext, input: Payload) -> Result<Flow, StepError>;
    async fn undo(
        &self,
        cx: StepContext,
        input: Payload,
        output: Option<Payload>,
    ) -> Result<Flow, StepError>;
    /// Looks only; `None` for a plain step.
    async fn look(&self, cx: StepContext, input: Payload) -> Result<Option<Seen>, StepError>;
    /// Lists what carries our marks; `None` for a plain step.
    async fn list_owned(&self, cx: StepContext) -> Result<Option<Listing>, StepError>;
    /// Looks for what the step has made, where nothing lists it.
    async fn prove(&self, _cx: StepContext, _: Payload, _: By) -> Result<Proof, StepError> {
        Err(StepError::permanent("look for its own").with_code("not_a_resource"))
    }
    /// Deletes by id, for the watch and the sweep.
    async fn delete(
        &self,
        cx: StepContext,
        input: Payload,
        id: &ExternalId,
    ) -> Result<(), StepError>;
    /// Times of a resource; `None` for a plain step.
    fn timing(&self) -> Option<Timing>;
    /// The account that its client works in.
    fn account(&self) -> &str {
        DEFAULT_ACCOUNT
    }
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(payload: &Payload) -> Result<T, StepError> {
    payload.decode().map_err(|error| {
        StepError::new(Effect::None, Verdict::Operator, "read a journaled value")
            .with_code("value_shape")
            .with_hint("the step's types changed: give its kind a new REVISION")
            .with_source(error)
    })
}

pub(crate) fn encode<T: serde::Serialize>(value: &T) -> Result<Payload, StepError> {
    // The work is done; only its output cannot be kept.
    let refused = |code| {
        StepError::new(Effect::Applied, Verdict::Operator, "encode an output").with_code(code)
    };
    let output =
        Payload::encode(value).map_err(|error| refused("not_serializable").with_source(error))?;
    if !output.fits() {
        let (bytes, most) = (output.as_str().len(), Payload::MAX_BYTES);
        return Err(refused("output_too_large")
            .with_message(format!("{bytes} bytes, at most {most}"))
            .with_hint(
                "keep the blob elsewhere and give back a reference; then resolve the step",
            ));
    }
    Ok(output)
}

/// A plain step and its compensator.
pub(crate) struct StepAction<S, C> {
    step: S,
    undo: C,
}

impl<S: Step, C: Compensator<S>> StepAction<S, C> {
    pub(crate) const fn new(step: S, undo: C) -> Self {
        Self { step, undo }
    }
}

#[async_trait]
impl<S: Step, C: Compensator<S>> Action for StepAction<S, C> {
    async fn run(&self, cx: StepContext, input: Payload) -> Result<Flow, StepError> {
        let output = self.step.run(&cx, decode(&input)?).await?;
        encode(&output).map(Flow::Done)
    }

    async fn undo(
        &self,
        cx: StepContext,
        input: Payload,
        output: Option<Payload>,
    ) -> Result<Flow, StepError> {
        let noted = cx.noted();
        let undo = match output {
            Some(output) => Undo::Succeeded(decode(&output)?),
            None if !noted.is_empty() && !cx.memory().unknown => Undo::Partial(noted),
            None => Undo::Unknown(noted),
        };
        self.undo.compensate(&cx, decode(&input)?, undo).await?;
        Ok(Flow::Done(Payload::null()))
    }

    async fn look(&self, _: StepContext, _: Payload) -> Result<Option<Seen>, StepError> {
        Ok(None)
    }

    async fn list_owned(&self, _: StepContext) -> Result<Option<Listing>, StepError> {
        Ok(None)
    }

    async fn delete(&self, _: StepContext, _: Payload, _: &ExternalId) -> Result<(), StepError> {
        Err(StepError::permanent("delete by id").with_code("not_a_resource"))
    }

    fn timing(&self) -> Option<Timing> {
        None
    }
}

/// A resource under the protocol.
pub(crate) struct ResourceAction<R> {
    resource: R,
    declared: Declared,
}

/// What to do after a look.
pub(crate) enum Next {
    Use(ExternalId, Origin),
    Create,
    Wait { after: Duration, reason: WaitReason },
    Renew,
}

impl<R: Resource> ResourceAction<R> {
    pub(crate) const fn new(resource: R, declared: Declared) -> Self {
        Self { resource, declared }
    }

    /// DESIGN of the protocol, step 1 and 7: look, then decide what that means for this run.
    async fn look_first(&self, cx: &StepContext, spec: &R::Spec) -> Result<Next, StepError> {
        match self.resource.find(cx, spec).await? {
            Found::Ours(id) => Ok(Next::Use(id, Origin::Created)),
            Found::Going { again_in } => {
                Ok(Next::Wait { after: again_in, reason: WaitReason::Poll })
            }
            Found::Foreign(foreign) if self.is_ours_by_intent(cx, &foreign) => {
                Ok(Next::Use(foreign.id, Origin::Created))
            }
            Found::Foreign(foreign) => match cx.memory().adopt {
                AdoptPolicy::Use => Ok(Next::Use(foreign.id, Origin::Adopted)),
                AdoptPolicy::Refuse => match removed::foreign(cx, self.place(), &foreign.id).await?
                {
                    Some(wait) => Ok(wait),
                    None => Err(refused(R::KIND, &foreign)),
                },
            },
            Found::Many(candidates) => {
                let keep = self.keep_one(cx, spec, candidates).await?;
                Ok(Next::Use(keep, Origin::Created))
            }
            Found::Begun(_) => Ok(Next::Create),
            Found::Absent if self.resource.identity(spec) == Identity::None => {
                self.unnamed(cx, spec).await
            }
            Found::Absent => self.absent(cx, spec),
        }
    }

    /// What no look-up can find: what a worker has seen when it lost its lease is all there is.
    async fn unnamed(&self, cx: &StepContext, spec: &R::Spec) -> Result<Next, StepError> {
        let memory = cx.memory();
        if memory.intent.is_none() || !memory.unknown {
            return Ok(Next::Create);
        }
        let mut seen = sighted(cx).await?.into_iter();
        let Some(keep) = seen.next() else {
            return match memory.run_again {
                Some(at_most) if memory.unknown_calls <= at_most => Ok(Next::Create),
                // S7: a call may land yet, and who sent it may say so.
                _ => match quiet_left(cx) {
                    Some(after) => Ok(Next::Wait { after, reason: WaitReason::Quiet }),
                    None => Err(unresolvable(R::KIND)),
                },
            };
        };
        for duplicate in seen {
            self.delete_ours(cx, spec, &duplicate).await?;
        }
        Ok(Next::Use(keep, Origin::Created))
    }

    /// S7: absent means something only when no call of this generation can still land.
    fn absent(&self, cx: &StepContext, spec: &R::Spec) -> Result<Next, StepError> {
        let memory = cx.memory();
        let Some(intent) = memory.intent.as_ref().filter(|_| memory.unknown) else {
            return Ok(Next::Create);
        };
        let now = cx.now();
        match self.resource.identity(spec) {
            Identity::Named(_) => Ok(Next::Create),
            // S10: a key older than the provider remembers is never trusted.
            Identity::ProviderKey if now < intent.at.plus(self.declared.timing.key_lifetime) => {
                Ok(Next::Create)
            }
            Identity::ProviderKey | Identity::Label | Identity::None => match quiet_left(cx) {
                Some(after) => Ok(Next::Wait { after, reason: WaitReason::Quiet }),
                None => Ok(Next::Renew),
            },
        }
    }

    async fn keep_one(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        candidates: Vec<Candidate>,
    ) -> Result<ExternalId, StepError> {
        let mut marked: Vec<_> = candidates.into_iter().filter(|c| c.marked).collect();
        marked.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let mut marked = marked.into_iter();
        let Some(keep) = marked.next() else {
            return Err(StepError::new(Effect::None, Verdict::Operator, "tell which one is ours")
                .with_code("many_unmarked")
                .with_hint("several exist and none carries our mark: say which one it is"));
        };
        // S15: the kept one is noted last; until then the next attempt looks again, and no
        // duplicate that could not be deleted is forgotten.
        for duplicate in marked {
            self.delete_ours(cx, spec, &duplicate.id).await?;
        }
        Ok(keep.id)
    }

    async fn create(&self, cx: &StepContext, spec: &R::Spec) -> Result<ExternalId, StepError> {
        let facts = self.resource.facts(spec);
        let name = self.name(spec);
        let draw = self.resource.secrets(spec);
        let record = IntentRecord {
            key: crate::context::idempotency_key(cx.run_id(), cx.path(), cx.generation(), "create"),
            name,
            account: self.declared.account.clone(),
            region: facts.region,
            template: facts.template,
            cost: facts.cost,
            secrets: draw.iter().map(|secret| secret.name.to_owned()).collect(),
            at: cx.now(),
        };
        // S4: the intent is committed before the first byte of the mutating call.
        let intent = cx.host().intend(record, &draw).await?;
        let id = self.resource.create(cx, spec, &intent).await?;
        cx.note(&id).await?;
        Ok(id)
    }

    /// The name it gets, where it has one.
    fn name(&self, spec: &R::Spec) -> Option<String> {
        match self.resource.identity(spec) {
            Identity::Named(name) => Some(name),
            _ => self.resource.facts(spec).name,
        }
    }

    fn place(&self) -> (&str, &str) {
        (R::KIND, &self.declared.account)
    }

    /// Polls what is noted, unless somebody removes it.
    async fn live_with(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        noted: (&ExternalId, Origin),
    ) -> Result<Flow, StepError> {
        match removed::noted(cx, self.place(), noted).await? {
            Some(look_again) => Ok(look_again),
            None => self.ready(cx, spec, noted.0).await,
        }
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        id: &ExternalId,
    ) -> Result<Flow, StepError> {
        match self.resource.ready(cx, spec, id).await? {
            Readiness::Ready(output) => encode(&output).map(Flow::Done),
            Readiness::NotYet { again_in } => {
                Ok(Flow::NotYet { after: again_in, reason: WaitReason::Poll })
            }
            Readiness::Broken { code } => Err(StepError::new(
                Effect::Applied,
                Verdict::Retry { after: None },
                "wait until ready",
            )
            .with_code(code)
            .broken()),
        }
    }

    /// Deletes every id this run created and noted; what it adopted is left alone.
    async fn delete_noted(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
    ) -> Result<Option<Flow>, StepError> {
        let memory = cx.memory();
        let created = memory.noted.iter().filter(|(_, origin)| *origin == Origin::Created);
        for (id, _) in created {
            // S14: "not found" on a delete proves nothing while look-ups may still lag.
            if let Some(after) = self.lag_left(cx) {
                return Ok(Some(Flow::NotYet { after, reason: WaitReason::Quiet }));
            }
            self.delete_ours(cx, spec, id).await?;
        }
        Ok(None)
    }

    /// Deletes what is ours, unless a live run has adopted it from us.
    async fn delete_ours(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // S7: a delete that is cut may land yet, a repeated one as well as the first.
        cx.host().removes().await?;
        // S11: asked last, so that nobody adopts it between the answer and the call.
        if let Some(adopter) = cx.host().adopter_of(R::KIND, self.account(), id).await? {
            return Err(adopted(R::KIND, id, &adopter));
        }
        self.resource.delete(cx, spec, id).await
    }

    /// Where the provider has no place for a mark, the run's own intent is the mark: it had seen
    /// "absent" before, and what stands there now is not older than the intent.
    ///
    /// S11: only where a call of ours may have made it. An intent whose calls are all proven to
    /// have done nothing says nothing about what stands there.
    fn is_ours_by_intent(&self, cx: &StepContext, foreign: &Foreign) -> bool {
        let memory = cx.memory();
        let Some(intent) = memory.intent.as_ref().filter(|_| memory.may_exist) else {
            return false;
        };
        let tolerance = self.declared.timing.clock_skew;
        let not_older = foreign.created_at.is_none_or(|at| at.plus(tolerance) >= intent.at);
        !foreign.markable && foreign.owner.is_none() && not_older
    }

    /// S14: counted from what was called last, not from the generation's first intent.
    fn lag_left(&self, cx: &StepContext) -> Option<Duration> {
        let visible = cx.memory().called_at?.plus(self.declared.timing.listing_lag);
        (cx.now() < visible).then(|| visible.since(cx.now()))
    }

    /// When what is noted is deleted: how long another call of the same generation, which had no
    /// answer, may still land. `None` when none can, and nothing is to be looked for.
    fn late_left(cx: &StepContext) -> Option<Option<Duration>> {
        (cx.memory().unknown_calls > 0).then(|| quiet_left(cx))
    }

    /// Deletes what workers have seen when they lost their lease; how much that was.
    async fn delete_sighted(&self, cx: &StepContext, spec: &R::Spec) -> Result<usize, StepError> {
        let memory = cx.memory();
        if !memory.unknown && memory.unknown_calls == 0 {
            return Ok(0);
        }
        let seen = sighted(cx).await?;
        for id in &seen {
            cx.note(id).await?;
            self.delete_ours(cx, spec, id).await?;
        }
        Ok(seen.len())
    }

    /// Undoes calls of which only the intent is known: what of ours is found is deleted.
    ///
    /// `sighted` of them are known by what workers saw, and deleted.
    async fn undo_found(
        &self,
        cx: &StepContext,
        spec: &R::Spec,
        sighted: usize,
    ) -> Result<Flow, StepError> {
        // How many calls what is found may have come of: none has finished what is only begun.
        let mut landed = 1;
        let ids = match self.resource.find(cx, spec).await? {
            Found::Ours(id) => vec![id],
            Found::Begun(id) => {
                landed = 0;
                vec![id]
            }
            Found::Foreign(foreign) if self.is_ours_by_intent(cx, &foreign) => vec![foreign.id],
            Found::Many(all) => all.into_iter().filter(|c| c.marked).map(|c| c.id).collect(),
            Found::Going { again_in } => {
                return Ok(Flow::NotYet { after: again_in, reason: WaitReason::Poll });
            }
            Found::Absent | Found::Foreign(_) => Vec::new(),
        };
        let ids: Vec<_> = ids.into_iter().filter(|id| !cx.is_adopted(id)).collect();
        if ids.is_empty() {
            let calls = usize::try_from(cx.memory().unknown_calls).unwrap_or(usize::MAX);
            return match (self.resource.identity(spec), quiet_left(cx)) {
                (Identity::None, _) if sighted > 0 && sighted >= calls => {
                    Ok(Flow::Done(Payload::null()))
                }
                // S7: a rollback always waits out the quiet time.
                (_, Some(after)) => Ok(Flow::NotYet { after, reason: WaitReason::Quiet }),
                (Identity::None, None) => Err(unresolvable(R::KIND)),
                (_, None) => Ok(Flow::Done(Payload::null())),
            };
        }
        for id in ids {
            if !cx.noted().contains(&id) {
                cx.note(&id).await?;
            }
            self.delete_ours(cx, spec, &id).await?;
        }
        // S7: what was found came of one call; another one without an answer may land yet. The
        // next attempt goes by what is noted, and looks once more when nothing can come.
        match quiet_left(cx).filter(|_| cx.memory().unknown_calls > landed) {
            Some(after) => Ok(Flow::NotYet { after, reason: WaitReason::Quiet }),
            None => Ok(Flow::Done(Payload::null())),
        }
    }
}

#[async_trait]
impl<R: Resource> Action for ResourceAction<R> {
    async fn run(&self, cx: StepContext, input: Payload) -> Result<Flow, StepError> {
        let spec: R::Spec = decode(&input)?;
        if let Some((id, origin)) = cx.memory().noted.last() {
            let doubtful = cx.memory().undo_unknown && *origin == Origin::Created;
            if doubtful && self.resource.identity(&spec) != Identity::None {
                // S7: an undo without an answer may have taken it away.
                match self.resource.find(&cx, &spec).await? {
                    Found::Absent | Found::Begun(_) => return Ok(Flow::Renew),
                    Found::Going { again_in } => {
                        return Ok(Flow::NotYet { after: again_in, reason: WaitReason::Poll });
                    }
                    Found::Ours(_) | Found::Foreign(_) | Found::Many(_) => {}
                }
            }
            return self.live_with(&cx, &spec, (id, *origin)).await;
        }
        if let Some(wait) = removed::own(&cx, self.place()).await? {
            return Ok(wait);
        }
        let (id, origin) = match self.look_first(&cx, &spec).await? {
            Next::Use(id, origin) => {
                if let Some(wait) = removed::found(&cx, self.place(), (&id, origin)).await? {
                    return Ok(wait);
                }
                if !cx.noted().contains(&id) {
                    cx.note_as(&id, origin).await?;
                }
                (id, origin)
            }
            Next::Create => (self.create(&cx, &spec).await?, Origin::Created),
            Next::Wait { after, reason } => return Ok(Flow::NotYet { after, reason }),
            Next::Renew => return Ok(Flow::Renew),
        };
        self.live_with(&cx, &spec, (&id, origin)).await
    }

    async fn undo(
        &self,
        cx: StepContext,
        input: Payload,
        _: Option<Payload>,
    ) -> Result<Flow, StepError> {
        let spec: R::Spec = decode(&input)?;
        if let Some(wait) = self.delete_noted(&cx, &spec).await? {
            return Ok(wait);
        }
        let sighted = self.delete_sighted(&cx, &spec).await?;
        if cx.memory().noted.is_empty() {
            return self.undo_found(&cx, &spec, sighted).await;
        }
        // S7: a rollback waits until nothing can land any more, and looks once more; what no
        // look-up finds was deleted once more by what is noted.
        match Self::late_left(&cx) {
            Some(Some(after)) => Ok(Flow::NotYet { after, reason: WaitReason::Quiet }),
            Some(None) if self.resource.identity(&spec) != Identity::None => {
                self.undo_found(&cx, &spec, sighted).await
            }
            Some(None) | None => Ok(Flow::Done(Payload::null())),
        }
    }

    async fn look(&self, cx: StepContext, input: Payload) -> Result<Option<Seen>, StepError> {
        let spec: R::Spec = decode(&input)?;
        self.resource.find(&cx, &spec).await.map(|found| Some(found.into()))
    }

    async fn list_owned(&self, cx: StepContext) -> Result<Option<Listing>, StepError> {
        let listing = self.resource.list_owned(&cx);
        panics::guarded("list what is ours", R::KIND, Effect::None, listing).await.map(Some)
    }

    async fn prove(&self, cx: StepContext, input: Payload, by: By) -> Result<Proof, StepError> {
        let spec: R::Spec = decode(&input)?;
        if cx.memory().intent.as_ref().is_some_and(|intent| intent.name != self.name(&spec)) {
            // Made with another input: a look would not see it.
            return Ok(Proof::Unclear(Vec::new()));
        }
        let looking = self.resource.find(&cx, &spec);
        let found = panics::guarded("look for its own", R::KIND, Effect::None, looking).await?;
        let by_intent = match &found {
            Found::Foreign(foreign) => self.is_ours_by_intent(&cx, foreign),
            _ => false,
        };
        Ok(Proof::of(found, by, &self.resource.identity(&spec), by_intent))
    }

    async fn delete(
        &self,
        cx: StepContext,
        input: Payload,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let spec: R::Spec = decode(&input)?;
        let deleting = self.resource.delete(&cx, &spec, id);
        panics::guarded("delete by id", R::KIND, Effect::Unknown, deleting).await
    }

    fn timing(&self) -> Option<Timing> {
        Some(self.declared.timing)
    }

    fn account(&self) -> &str {
        &self.declared.account
    }
}

/// What workers without a lease have seen, and nobody has noted since.
async fn sighted(cx: &StepContext) -> Result<Vec<ExternalId>, StepError> {
    let mut seen = cx.host().sighted().await?;
    seen.retain(|id| !cx.noted().contains(id));
    Ok(seen)
}

fn quiet_left(cx: &StepContext) -> Option<Duration> {
    let until = cx.memory().quiet_until?;
    let now = cx.now();
    (now < until).then(|| until.since(now))
}
