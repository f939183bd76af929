//! One run's journal, read by rules of its own: which record may follow which, what may exist, and
//! which call may be made.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use provision_core::{
    Effect, ExternalId, LedgerRow, Origin, Payload, ResourceState, RunId, RunStatus, Timestamp,
    context::idempotency_key,
    resource::IntentRecord,
    run::journal::{Cause, Direction, Finding, Order, Record},
};

use super::{
    shape::{Naming, Place, Shape, What},
    witness::Findings,
    world::{LAG, LATE},
};

/// Where a step stands, forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ahead {
    #[default]
    Idle,
    Open,
    Waiting,
    Succeeded,
    Skipped,
    GaveUp,
}

/// Where its undo stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Back {
    #[default]
    None,
    Open,
    Waiting,
    Done,
    GaveUp,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub(super) struct StepAccount {
    pub(super) generation: u32,
    pub(super) ahead: Ahead,
    pub(super) back: Back,
    begun: bool,
    undo_begun: bool,
    pub(super) intent: Option<IntentRecord>,
    intent_open: bool,
    worst: Effect,
    pub(super) noted: Vec<(ExternalId, Origin)>,
    input: Option<Payload>,
    /// When the last create of this generation was sent whose end is not known.
    sent: Option<Timestamp>,
    /// When the create was sent that is under way.
    sending: Option<Timestamp>,
    /// Creates whose end is not known and of which nothing was found yet.
    astray: u32,
    /// What it sent.
    body: Option<String>,
}

impl StepAccount {
    fn fresh(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    pub(super) fn adopted(&self) -> bool {
        self.noted.iter().any(|(_, origin)| *origin == Origin::Adopted)
    }
}

/// Whether a path lies in a scope: the run, a step, a fan-out, or one item of one.
fn is_inside(path: &str, scope: &str) -> bool {
    scope.is_empty()
        || path
            .strip_prefix(scope)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
}

/// One run.
#[derive(Debug)]
pub(super) struct Account {
    run: RunId,
    shape: Arc<Shape>,
    pub(super) steps: BTreeMap<String, StepAccount>,
    pub(super) ended: Option<RunStatus>,
    unwinding: bool,
    /// Scopes inside of the run that were undone by themselves.
    unwound: BTreeSet<String>,
    pub(super) cancelled: bool,
}

impl Account {
    pub(super) fn new(run: RunId, shape: &Arc<Shape>) -> Self {
        Self {
            run,
            shape: Arc::clone(shape),
            steps: BTreeMap::new(),
            ended: None,
            unwinding: false,
            unwound: BTreeSet::new(),
            cancelled: false,
        }
    }

    pub(super) fn is_resource(&self, path: &str) -> bool {
        self.shape.unit(path).is_some_and(|unit| unit.resource)
    }

    pub(super) fn is_irreversible(&self, path: &str) -> bool {
        self.shape.unit(path).is_some_and(|unit| unit.irreversible)
    }

    /// S12: what may exist because of a step.
    pub(super) fn standing(&self, path: &str) -> Effect {
        let Some(step) = self.steps.get(path) else { return Effect::None };
        if self.shape.unit(path).is_none() || step.back == Back::Done {
            return Effect::None;
        }
        let open = match (step.ahead, self.is_resource(path)) {
            (Ahead::Open, true) if step.intent_open => Effect::Unknown,
            (Ahead::Open, false) => Effect::Unknown,
            _ => Effect::None,
        };
        open.max(step.worst)
    }

    fn step(&mut self, path: &str) -> &mut StepAccount {
        self.steps.entry(path.to_owned()).or_insert_with(|| StepAccount::fresh(1))
    }

    /// Takes one record that the store has accepted.
    pub(super) fn take(&mut self, record: &Record, now: Timestamp, found: &mut Findings) {
        if let (Some(end), false) = (self.ended, matches!(record, Record::Ordered { .. })) {
            found.push(("S17", format!("{record:?} after {end:?}")));
        }
        match record {
            Record::Started { path, dir: Direction::Forward, generation, input, .. } => {
                self.begins(path, *generation, input.as_ref(), found);
            }
            Record::Started { path, dir: Direction::Undo, .. } => self.undo_begins(path, found),
            Record::Waiting { path, dir, .. } => match dir {
                Direction::Forward => self.step(path).ahead = Ahead::Waiting,
                Direction::Undo => self.step(path).back = Back::Waiting,
            },
            Record::Intent { path, intent } => self.intends(path, intent, found),
            Record::Noted { path, id, origin } => self.notes(path, id, *origin, found),
            Record::Failed { path, dir, .. } => self.fails(path, *dir, record, found),
            Record::Resolved { path, finding } => {
                if *finding == Finding::Absent {
                    self.must_be_quiet(path, now, found);
                    self.step(path).worst = Effect::None;
                }
                self.step(path).intent_open = false;
            }
            Record::Succeeded { path, dir: Direction::Forward, .. } => self.succeeds(path, found),
            Record::Succeeded { path, dir: Direction::Undo, .. } => {
                self.undone(path, now, found);
            }
            // A child that keeps something is over, too: it says so in its own end.
            Record::Kept { path } => self.undone(path, now, found),
            Record::Skipped { path } => self.step(path).ahead = Ahead::Skipped,
            Record::GaveUp { path, dir, .. } => match dir {
                Direction::Forward => self.step(path).ahead = Ahead::GaveUp,
                Direction::Undo => self.step(path).back = Back::GaveUp,
            },
            Record::UnwindStarted { scope, cause, order } => {
                self.unwinds(scope, cause, order, found);
            }
            Record::Renewed { path, generation, .. } => {
                let old = self.step(path).generation;
                if self.standing(path) != Effect::None || *generation != old + 1 {
                    found.push(("S10", format!("{path} is renewed while it may exist")));
                }
                *self.step(path) = StepAccount::fresh(*generation);
            }
            Record::Ordered { order, .. } => self.ordered(order),
            Record::Ended { status, .. } => self.ends(*status, found),
            Record::Expanded { .. }
            | Record::Unwound { .. }
            | Record::Sealed { .. }
            | Record::Signal { .. }
            | Record::Refused { .. }
            | Record::Parked { .. } => {}
        }
    }

    fn begins(
        &mut self,
        path: &str,
        generation: u32,
        input: Option<&Payload>,
        found: &mut Findings,
    ) {
        let unsettled = self.unsettled(path);
        let unwinding = self.unwinding;
        let step = self.step(path);
        let before = step.ahead;
        match before {
            Ahead::Succeeded => found.push(("S8", format!("{path} is started once more"))),
            Ahead::Idle | Ahead::Waiting => {}
            Ahead::Open | Ahead::Skipped | Ahead::GaveUp => {
                found.push(("S3", format!("{path} starts from {before:?}")));
            }
        }
        if unwinding {
            found.push(("S3", format!("{path} goes forward after the unwinding began")));
        }
        if step.generation != generation {
            found.push(("S10", format!("{path} starts in generation {generation}")));
        }
        if let (Some(known), Some(input)) = (&step.input, input)
            && known != input
        {
            found.push(("S10", format!("{path} gets another input in one generation")));
        }
        if let Some(dep) = unsettled {
            found.push(("S4", format!("{path} starts before {dep} is settled")));
        }
        let step = self.step(path);
        step.input = input.cloned().or_else(|| step.input.take());
        step.ahead = Ahead::Open;
        step.begun = true;
    }

    /// A dependency that does not allow a step to start.
    fn unsettled(&self, path: &str) -> Option<String> {
        let place = Place::of(path)?;
        if let Some(inner) = place.inner {
            let item = place.item?;
            let before = format!("n{}[{item}]/i{}", place.node, inner.checked_sub(1)?);
            return (!self.is_settled(&before)).then_some(before);
        }
        let node = self.shape.nodes.get(place.node)?;
        let deps = node.deps.iter().map(|dep| format!("n{dep}"));
        deps.into_iter().find(|dep| !self.is_settled(dep))
    }

    fn is_settled(&self, path: &str) -> bool {
        let Some(step) = self.steps.get(path) else { return false };
        let optional = self.shape.node(path).is_some_and(|node| node.optional);
        match step.ahead {
            Ahead::Succeeded => step.back == Back::None,
            Ahead::Skipped => true,
            Ahead::GaveUp => {
                optional && (self.standing(path) == Effect::None || self.is_irreversible(path))
            }
            Ahead::Idle | Ahead::Open | Ahead::Waiting => false,
        }
    }

    fn undo_begins(&mut self, path: &str, found: &mut Findings) {
        let blocking = self.steps.keys().find(|other| {
            self.shape.depends(path, other)
                && !self.is_irreversible(other)
                && self.standing(other) != Effect::None
        });
        // S13: first everything that was made from it.
        if let Some(blocking) = blocking {
            found.push(("S13", format!("{path} is undone before {blocking}")));
        }
        let step = self.step(path);
        if !step.begun {
            found.push(("S12", format!("{path} is undone and was never started")));
        }
        if step.back == Back::Done {
            found.push(("S3", format!("{path} is undone twice")));
        }
        step.back = Back::Open;
        step.undo_begun = true;
    }

    fn intends(&mut self, path: &str, intent: &IntentRecord, found: &mut Findings) {
        let run = self.run;
        let step = self.step(path);
        if step.ahead != Ahead::Open {
            found.push(("S3", format!("{path} intends from {:?}", step.ahead)));
        }
        if intent.key != idempotency_key(&run, path, step.generation, "create") {
            found.push(("S10", format!("{path} intends under another key")));
        }
        step.intent.get_or_insert_with(|| intent.clone());
        step.intent_open = true;
    }

    fn notes(&mut self, path: &str, id: &ExternalId, origin: Origin, found: &mut Findings) {
        let step = self.step(path);
        if step.noted.iter().any(|(known, was)| known == id && *was != origin) {
            found.push(("S11", format!("{path}: the origin of {id} changes")));
        }
        if !step.noted.iter().any(|(known, _)| known == id) {
            step.noted.push((id.clone(), origin));
            if step.sending.is_none() && origin == Origin::Created {
                // Found: it came of one of them.
                step.astray = step.astray.saturating_sub(1);
            }
        }
        step.intent_open = false;
        step.sending = None;
        if origin == Origin::Created {
            step.worst = Effect::Applied;
        }
    }

    fn fails(&mut self, path: &str, dir: Direction, record: &Record, found: &mut Findings) {
        let Record::Failed { failure, interrupted, .. } = record else { return };
        if failure.code == "store" && !interrupted {
            found.push(("S18", format!("{path}: trouble of the store is an attempt's failure")));
        }
        let step = self.step(path);
        match dir {
            Direction::Forward => {
                if step.ahead != Ahead::Open {
                    found.push(("S3", format!("{path} fails from {:?}", step.ahead)));
                }
                step.ahead = Ahead::Waiting;
                step.intent_open = false;
                step.worst = step.worst.max(failure.effect);
                // A proven "nothing happened" cannot land later.
                let sending = step.sending.take();
                let answered = failure.effect == Effect::None || failure.code == "name_taken";
                if !answered || *interrupted {
                    step.sent = step.sent.max(sending);
                    step.astray += u32::from(sending.is_some());
                }
            }
            Direction::Undo => {
                if step.back != Back::Open {
                    found.push(("S3", format!("the undo of {path} fails from {:?}", step.back)));
                }
                step.back = Back::Waiting;
            }
        }
    }

    fn succeeds(&mut self, path: &str, found: &mut Findings) {
        let acts = self.shape.unit(path).is_some();
        let step = self.step(path);
        if step.ahead != Ahead::Open {
            found.push(("S3", format!("{path} succeeds from {:?}", step.ahead)));
        }
        let adopted = step.noted.iter().all(|(_, origin)| *origin == Origin::Adopted);
        step.ahead = Ahead::Succeeded;
        step.intent_open = false;
        if acts && (step.noted.is_empty() || !adopted) {
            step.worst = step.worst.max(Effect::Applied);
        }
    }

    fn undone(&mut self, path: &str, now: Timestamp, found: &mut Findings) {
        // Where the provider knows the key again, a second call makes nothing.
        let known = self.naming(path) == Some(Naming::Key) && !self.step(path).noted.is_empty();
        if self.is_resource(path) && !known {
            self.must_be_quiet(path, now, found);
        }
        let step = self.step(path);
        if step.back != Back::Open {
            found.push(("S3", format!("the undo of {path} succeeds from {:?}", step.back)));
        }
        step.back = Back::Done;
    }

    /// S7: absent counts only when nothing that was sent can still land.
    fn must_be_quiet(&mut self, path: &str, now: Timestamp, found: &mut Findings) {
        let step = self.step(path);
        let astray = step.astray > 0 || step.sending.is_some();
        let Some(sent) = step.sent.max(step.sending).filter(|_| astray) else { return };
        let quiet = sent.plus(LATE).plus(LAG);
        if now < quiet {
            let early = quiet.since(now).as_millis();
            found.push(("S7", format!("{path} counts as absent {early} ms before its quiet time")));
        }
    }

    /// S12: what is to be undone is what may exist, inside of the scope.
    fn unwinds(&mut self, scope: &str, cause: &Cause, order: &[Arc<str>], found: &mut Findings) {
        self.unwinding |= scope.is_empty();
        if *cause != Cause::Renew && !scope.is_empty() {
            self.unwound.insert(scope.to_owned());
        }
        for (path, step) in &self.steps {
            let inside = is_inside(path, scope);
            let listed = order.iter().any(|other| **other == **path);
            let stands = self.standing(path) != Effect::None && !self.is_irreversible(path);
            if inside && stands && !listed && step.back == Back::None {
                let what = format!("{path} may exist and is not undone by `{scope}`: {cause:?}");
                found.push(("S12", what));
            }
            if listed && !stands && step.ahead != Ahead::Open {
                found.push(("S12", format!("{path} is undone and cannot exist")));
            }
        }
    }

    fn ordered(&mut self, order: &Order) {
        match order {
            Order::TearDown => self.ended = None,
            Order::Cancel => self.cancelled = true,
            Order::Retry => self.retried(),
            Order::Redrive => self.redriven(),
            _ => {}
        }
    }

    fn redriven(&mut self) {
        (self.ended, self.unwinding, self.cancelled) = (None, false, false);
        self.unwound.clear();
        let paths: Vec<String> = self.steps.keys().cloned().collect();
        for path in paths {
            self.reopened(&path);
        }
    }

    /// A step goes forward again: what is finished stays, what is undone gets a new generation.
    fn reopened(&mut self, path: &str) {
        let stands = self.standing(path) != Effect::None;
        let each = self.is_each(path);
        let sleeps = self.is_sleep(path);
        let step = self.step(path);
        let generation = step.generation;
        // S10: what was sent once under a key is never sent under it with another body.
        let sent = step.begun && !sleeps;
        match (step.back, step.ahead) {
            _ if each => *step = StepAccount::fresh(generation),
            (Back::Done, _) => *step = StepAccount::fresh(generation + 1),
            (_, Ahead::Succeeded) => step.back = Back::None,
            _ if !stands => *step = StepAccount::fresh(generation + u32::from(sent)),
            _ => (step.back, step.ahead) = (Back::None, Ahead::Waiting),
        }
    }

    /// What gave up is tried again; items that were undone by themselves go with their fan-out.
    fn retried(&mut self) {
        let paths: Vec<String> = self.steps.keys().cloned().collect();
        for path in &paths {
            let step = self.step(path);
            if step.back == Back::GaveUp {
                step.back = Back::Waiting;
                continue;
            }
            let gave_up = step.ahead == Ahead::GaveUp && step.back == Back::None;
            let optional = self.shape.node(path).is_some_and(|node| node.optional);
            if self.unwinding || !gave_up || optional || self.is_inside_unwound(path) {
                continue;
            }
            if !self.is_each(path) {
                self.step(path).ahead = Ahead::Waiting;
                continue;
            }
            let items: Vec<String> = paths
                .iter()
                .filter(|inner| inner.starts_with(&format!("{path}[")))
                .filter(|inner| self.is_inside_unwound(inner))
                .cloned()
                .collect();
            for inner in items {
                self.reopened(&inner);
            }
            self.unwound.retain(|scope| !scope.starts_with(&format!("{path}[")));
            self.reopened(path);
        }
    }

    fn is_inside_unwound(&self, path: &str) -> bool {
        self.unwound.iter().any(|scope| is_inside(path, scope))
    }

    /// S15: no end while anything may exist that nobody wants.
    fn ends(&mut self, status: RunStatus, found: &mut Findings) {
        let succeeded = matches!(status, RunStatus::Succeeded | RunStatus::PartlySucceeded);
        for (path, step) in &self.steps {
            let stands = self.standing(path);
            let kept = self.is_irreversible(path);
            let clean = match status {
                _ if succeeded => {
                    let wanted = step.ahead == Ahead::Succeeded && step.back == Back::None;
                    stands == Effect::None || wanted || kept
                }
                RunStatus::RolledBack => stands == Effect::None,
                _ => stands == Effect::None || kept,
            };
            if !clean || step.ahead == Ahead::Open && !self.is_each(path) && !self.unwinding {
                found.push(("S15", format!("{path} is {stands:?} at the end {status:?}")));
            }
        }
        self.ended = Some(status);
    }

    fn is_sleep(&self, path: &str) -> bool {
        self.shape.node(path).is_some_and(|node| matches!(node.what, What::Sleep(_)))
    }

    fn is_each(&self, path: &str) -> bool {
        let inside = Place::of(path).is_none_or(|place| place.inner.is_some());
        let node = self.shape.node(path).filter(|_| !inside);
        node.is_some_and(|node| matches!(node.what, What::Each { .. }))
    }

    /// The ledger's row of a step's present generation, as the journal has it.
    pub(super) fn expected_row(&self, path: &str) -> Option<(ResourceState, Option<ExternalId>)> {
        let step = self.steps.get(path)?;
        if !self.is_resource(path) || (step.intent.is_none() && step.noted.is_empty()) {
            return None;
        }
        let id = step.noted.last().map(|(id, _)| id.clone());
        let state = match step.back {
            Back::Done if !step.adopted() => ResourceState::Gone,
            _ if id.is_some() => ResourceState::Alive,
            _ if step.intent_open || step.worst == Effect::Unknown => ResourceState::Unknown,
            _ => ResourceState::Gone,
        };
        Some((state, id))
    }

    /// Compares rows with the journal.
    pub(super) fn check_ledger<'a>(
        &self,
        row_of: impl Fn(&str, u32) -> Option<&'a LedgerRow>,
        found: &mut Findings,
    ) {
        for (path, step) in &self.steps {
            let Some((state, id)) = self.expected_row(path) else { continue };
            match row_of(path, step.generation) {
                Some(row) if row.state == state && row.external_id == id => {}
                row => {
                    let got = row.map(|row| (row.state, row.external_id.clone()));
                    let what = format!("the ledger has {got:?} of {path}, the journal {state:?}");
                    found.push(("S4", what));
                }
            }
        }
    }

    /// Whether a path is a plain step.
    pub(super) fn is_plain(&self, path: &str) -> bool {
        self.shape.unit(path).is_some_and(|unit| !unit.resource)
    }

    /// How a resource of a step can be found again.
    pub(super) fn naming(&self, path: &str) -> Option<Naming> {
        self.shape.unit(path).filter(|unit| unit.resource).map(|unit| unit.naming)
    }
}
