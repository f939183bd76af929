//! A small cloud in memory, and the steps and resources the journeys use.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Call, Compensator, Effect, ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Owned,
    OwnerMark, Readiness, Resource, Step, StepContext, StepError, Timing, Undo, Verdict,
};

/// What one call does besides its ordinary work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails before the effect, and it is worth repeating.
    Before,
    /// Has its effect, and the answer is lost.
    After,
    /// Has its effect, and the answer says so without an id.
    Told,
    /// Is refused for good.
    Refuse,
    /// Asks for time.
    Throttle,
    /// Panics.
    Panic,
    /// Never answers.
    Hang,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) things: BTreeMap<String, (String, Option<OwnerMark>)>,
    pub(crate) log: Vec<String>,
    /// Every call that reached it, looks and failed ones too.
    pub(crate) asked: Vec<String>,
    pub(crate) faults: BTreeMap<String, VecDeque<Fault>>,
    next: u32,
    /// Names whose things are refused when they are asked for.
    unready: Vec<String>,
    /// What ids end with.
    id_end: String,
    /// Looks at a name that see nothing yet, whatever is there.
    hidden: BTreeMap<String, u32>,
    /// Looks at a name that find it on its way out, five minutes apart.
    going: BTreeMap<String, u32>,
    /// Looks at readiness, by id.
    pub(crate) polls: BTreeMap<String, u32>,
    /// Why listing is refused, if it is.
    pub(crate) unlisted: Option<fn() -> StepError>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Cloud(pub(crate) Arc<Mutex<World>>);

impl Cloud {
    pub(crate) fn fault(&self, call: &str, faults: &[Fault]) {
        let mut world = self.0.lock().unwrap();
        world.faults.entry(call.into()).or_default().extend(faults);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().things.values().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    pub(crate) fn calls(&self, call: &str) -> usize {
        self.log().iter().filter(|line| *line == call).count()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    pub(crate) fn put_foreign(&self, name: &str) {
        self.0.lock().unwrap().things.insert(format!("f-{name}"), (name.into(), None));
    }

    /// From now on ids are as long as whole answers.
    pub(crate) fn long_ids(&self) {
        self.0.lock().unwrap().id_end = "x".repeat(5_000);
    }

    /// From now on the thing of this name never comes up.
    pub(crate) fn refuse_ready(&self, name: &str) {
        self.0.lock().unwrap().unready.push(name.to_owned());
    }

    /// The next looks for this name are behind.
    pub(crate) fn hide(&self, name: &str, looks: u32) {
        self.0.lock().unwrap().hidden.insert(name.to_owned(), looks);
    }

    /// The next looks for this name find what bore it before, being deleted.
    pub(crate) fn leave(&self, name: &str, looks: u32) {
        self.0.lock().unwrap().going.insert(name.to_owned(), looks);
    }

    async fn act<T>(
        &self,
        cx: &StepContext,
        call: String,
        work: impl FnOnce(&mut World) -> T + Send,
    ) -> Result<T, StepError> {
        cx.call(&Call::mutate("act"), async {
            let fault = {
                let mut world = self.0.lock().unwrap();
                world.asked.push(call.clone());
                world.faults.get_mut(&call).and_then(VecDeque::pop_front)
            };
            if fault == Some(Fault::Hang) {
                return std::future::pending().await;
            }
            let mut world = self.0.lock().unwrap();
            match fault {
                Some(Fault::Before) => return Err(StepError::retry("act")),
                Some(Fault::Refuse) => return Err(StepError::permanent("act").with_code("no")),
                Some(Fault::Throttle) => {
                    let bucket = "cloud".to_owned();
                    let verdict = Verdict::Throttled { bucket, after: Duration::from_secs(7) };
                    return Err(StepError::new(Effect::None, verdict, "act"));
                }
                Some(Fault::Panic) => {
                    drop(world);
                    panic!("as planned");
                }
                Some(Fault::After | Fault::Told | Fault::Hang) | None => {}
            }
            world.log.push(call);
            let done = work(&mut world);
            match fault {
                Some(Fault::After) => Err(StepError::unknown("act")),
                Some(Fault::Told) => Err(StepError::retry("act").with_effect(Effect::Applied)),
                _ => Ok(done),
            }
        })
        .await
    }
}

/// A resource named by its spec.
#[derive(Debug, Clone)]
pub(crate) struct Thing {
    pub(crate) cloud: Cloud,
    pub(crate) identity: fn(&str) -> Identity,
    pub(crate) polls: u32,
    pub(crate) facts: Facts,
    pub(crate) account: &'static str,
    lag: Duration,
    ready_within: Duration,
}

impl Thing {
    pub(crate) fn new(cloud: &Cloud) -> Self {
        Self {
            cloud: cloud.clone(),
            identity: |name| Identity::Named(name.into()),
            polls: 0,
            facts: Facts::default(),
            account: "default",
            lag: Duration::ZERO,
            ready_within: Timing::default().ready_within,
        }
    }

    /// Looks may be so far behind.
    pub(crate) fn lagging(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    pub(crate) fn ready_within(mut self, time: Duration) -> Self {
        self.ready_within = time;
        self
    }

    pub(crate) fn in_account(mut self, account: &'static str) -> Self {
        self.account = account;
        self
    }

    pub(crate) fn labelled(mut self) -> Self {
        self.identity = |_| Identity::Label;
        self
    }

    pub(crate) fn with_facts(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }

    pub(crate) fn slow(mut self, polls: u32) -> Self {
        self.polls = polls;
        self
    }
}

impl Resource for Thing {
    const KIND: &'static str = "cloud.thing";
    type Spec = String;
    type Output = String;

    fn identity(&self, spec: &String) -> Identity {
        (self.identity)(spec)
    }

    async fn find(&self, cx: &StepContext, name: &String) -> Result<Found, StepError> {
        let cloud = self.cloud.clone();
        cx.call(&Call::read("find"), async {
            let mut world = cloud.0.lock().unwrap();
            world.asked.push(format!("find {name}"));
            let mut left = |of: fn(&mut World) -> &mut BTreeMap<String, u32>| {
                let left = of(&mut world).get_mut(name).filter(|left| **left > 0);
                left.map(|left| *left -= 1).is_some()
            };
            if left(|world| &mut world.hidden) {
                return Ok(Found::Absent);
            }
            if left(|world| &mut world.going) {
                return Ok(Found::Going { again_in: Duration::from_secs(300) });
            }
            let ours: Vec<_> = world
                .things
                .iter()
                .filter(|(_, (n, m))| n == name && *m == Some(cx.mark()))
                .collect();
            if let Some((id, _)) = ours.first() {
                return Ok(Found::Ours(ExternalId::new(id.as_str())));
            }
            Ok(match world.things.iter().find(|(_, (n, _))| n == name) {
                Some((id, _)) if matches!(self.identity(name), Identity::Named(_)) => {
                    Found::Foreign(Foreign::unmarked(id.as_str()))
                }
                _ => Found::Absent,
            })
        })
        .await
    }

    async fn create(
        &self,
        cx: &StepContext,
        name: &String,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let mark = intent.mark().clone();
        let name = name.clone();
        self.cloud
            .act(cx, format!("create {name}"), move |world| {
                world.next += 1;
                let id = format!("t-{}{}", world.next, world.id_end);
                world.things.insert(id.clone(), (name, Some(mark)));
                ExternalId::new(id)
            })
            .await
    }

    async fn ready(
        &self,
        _: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        let mut world = self.cloud.0.lock().unwrap();
        let looks = format!("ready {name}");
        if world.faults.get_mut(&looks).and_then(VecDeque::pop_front).is_some() {
            return Err(StepError::retry("look"));
        }
        if world.unready.contains(name) {
            return Err(StepError::permanent("wait").with_code("dead"));
        }
        let polls = world.polls.entry(id.to_string()).or_default();
        *polls += 1;
        if *polls <= self.polls {
            return Ok(Readiness::NotYet { again_in: Duration::from_secs(10) });
        }
        Ok(Readiness::Ready(format!("{name}@{id}")))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let id = id.to_string();
        self.cloud
            .act(cx, format!("delete {name}"), move |world| {
                world.things.remove(&id);
            })
            .await
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        let world = self.cloud.0.lock().unwrap();
        if let Some(refusal) = world.unlisted {
            return Err(refusal());
        }
        let marked = world.things.iter().filter(|(_, (_, mark))| mark.is_some());
        Ok(marked
            .map(|(id, (n, m))| Owned::new(id.as_str()).with_name(n).with_mark(m.clone()))
            .collect())
    }

    fn account(&self) -> &str {
        self.account
    }

    fn facts(&self, _: &String) -> Facts {
        self.facts.clone()
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: Duration::from_secs(20),
            listing_lag: self.lag,
            ready_within: self.ready_within,
            ..Timing::default()
        }
    }
}

/// A plain step that writes its name into the world's log.
#[derive(Debug, Clone)]
pub(crate) struct Do(pub(crate) Cloud);

impl Step for Do {
    const KIND: &'static str = "cloud.do";
    type Input = String;
    type Output = String;

    async fn run(&self, cx: &StepContext, name: String) -> Result<String, StepError> {
        self.0.act(cx, format!("do {name}"), |_| ()).await?;
        Ok(name)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct UndoIt(pub(crate) Cloud);

impl Compensator<Do> for UndoIt {
    async fn compensate(
        &self,
        cx: &StepContext,
        name: String,
        _: Undo<String>,
    ) -> Result<(), StepError> {
        self.0.act(cx, format!("undo {name}"), |_| ()).await
    }
}
