//! The steps and resources of a simulated saga: honest adapters, unless a bug is planted in them.

use std::time::Duration;

use provision_core::{
    Call, CallKind, Candidate, Compensator, Effect, ExternalId, Facts, Foreign, Found, Identity,
    Intent, Listing, Owned, Readiness, Resource, Step, StepContext, StepError, Timing, Verdict,
    limit::Profile,
};

use super::{
    Plant,
    shape::{Naming, Unit, Want},
    state::State,
    world::{Ask, Desk, Fate, KEY_LIFETIME, LAG, LATE, Landed, Request, Who},
};

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(4);
/// The bucket of every limited call.
pub(super) const BUCKET: &str = "sim/account";

impl Desk {
    fn describe(&self, call: Call) -> Call {
        let call = call.with_timeout(CALL);
        if !self.sim.shape.limited {
            return call;
        }
        let bucket = BUCKET.to_owned();
        call.with_limit(Profile { bucket, rate: None, concurrency: Some(4_u32.into()) })
    }

    fn who(&self, cx: &StepContext) -> Who {
        Who {
            life: self.life,
            run: *cx.run_id(),
            path: cx.path().to_owned(),
            generation: cx.generation(),
            attempt: cx.attempt(),
        }
    }

    fn unit(&self, cx: &StepContext) -> Unit {
        self.sim.shape.unit(cx.path()).cloned().expect("a step of the shape")
    }

    /// One mutating call over the simulated network.
    async fn send(
        &self,
        cx: &StepContext,
        operation: &'static str,
        ask: Ask,
        body: String,
    ) -> Result<String, StepError> {
        let request = Request { who: self.who(cx), ask, body };
        let unit = self.unit(cx);
        let exchange = self.exchange(operation, request, unit);
        if self.sim.is_planted(Plant::CallsPastTheLease) {
            return exchange.await;
        }
        cx.call(&self.describe(Call::mutate(operation)), exchange).await
    }

    async fn exchange(
        &self,
        operation: &'static str,
        request: Request,
        unit: Unit,
    ) -> Result<String, StepError> {
        self.gate.seam().await;
        let sent = self.sim.with(|state, now| state.send(now, request, &unit));
        self.gate.seam().await;
        tokio::time::sleep_until(self.sim.at(self.sim.elapsed() + sent.answer_in)).await;
        self.gate.seam().await;
        let unknown = |code: &'static str| StepError::unknown(operation).with_code(code);
        match sent.fate {
            Fate::Good => match self.sim.with(|state, now| {
                state.settle(now);
                state.world.landed(sent.ticket)
            }) {
                Some(Landed::Done(id)) => Ok(id),
                // "Already exists" tells nothing of whose it is: look up.
                Some(Landed::NameTaken) => Err(unknown("name_taken")),
                None => Err(unknown("no_answer")),
            },
            Fate::Refused => Err(StepError::permanent(operation).with_code("refused")),
            Fate::Unreachable => Err(StepError::retry(operation).with_code("unreachable")),
            Fate::Failing => Err(unknown("http_500")),
            Fate::Cut => Err(unknown("reset")),
            Fate::Silent => Err(unknown("silent")),
            Fate::Throttled => {
                let after = self.sim.with(|state, _| state.rng.millis(200, 4_000));
                let verdict = Verdict::Throttled { bucket: BUCKET.to_owned(), after };
                Err(StepError::new(Effect::None, verdict, operation).with_code("http_429"))
            }
            // Not a message of the panic hook: nobody wants to read thousands of these.
            Fate::Panics => std::panic::resume_unwind(Box::new("as drawn")),
        }
    }

    /// One reading call.
    async fn look<T>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        read: impl FnOnce(&mut State, provision_core::Timestamp) -> T + Send,
    ) -> Result<T, StepError> {
        let call = self.describe(Call::read(operation));
        debug_assert_eq!(call.kind, CallKind::Read, "looks change nothing");
        cx.call(&call, async {
            self.gate.seam().await;
            let (wait, fails) = self.sim.with(|state, _| {
                let blind = state.weather.blind;
                (state.rng.millis(5, 200), state.rng.chance(blind))
            });
            tokio::time::sleep_until(self.sim.at(self.sim.elapsed() + wait)).await;
            self.gate.seam().await;
            if fails {
                return Err(StepError::retry(operation).with_code("http_503"));
            }
            Ok(self.sim.with(|state, now| {
                state.settle(now);
                read(state, now)
            }))
        })
        .await
    }
}

/// A plain step: an effect under its idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Do {
    desk: Desk,
}

impl Do {
    pub(super) fn new(desk: &Desk) -> Self {
        Self { desk: desk.clone() }
    }
}

impl Step for Do {
    const KIND: &'static str = "sim.act";
    type Input = Want;
    type Output = String;

    async fn run(&self, cx: &StepContext, want: Want) -> Result<String, StepError> {
        let body = format!("{want:?} {}", cx.idempotency_key());
        self.desk.send(cx, "act", Ask::Act, body).await?;
        Ok(format!("{}#{}", want.name, cx.generation()))
    }
}

/// Undoes it.
#[derive(Debug, Clone)]
pub(super) struct Undo {
    desk: Desk,
}

impl Undo {
    pub(super) fn new(desk: &Desk) -> Self {
        Self { desk: desk.clone() }
    }
}

impl Compensator<Do> for Undo {
    async fn compensate(
        &self,
        cx: &StepContext,
        want: Want,
        _: provision_core::Undo<String>,
    ) -> Result<(), StepError> {
        self.desk.send(cx, "undo the act", Ask::UndoAct, format!("{want:?}")).await.map(|_| ())
    }
}

/// A resource.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    desk: Desk,
    unit: Unit,
}

impl Thing {
    pub(super) fn new(desk: &Desk, unit: &Unit) -> Self {
        Self { desk: desk.clone(), unit: unit.clone() }
    }

    fn planted(&self, plant: Plant) -> bool {
        self.desk.sim.is_planted(plant)
    }

    async fn look_up(&self, cx: &StepContext, want: &Want) -> Result<Found, StepError> {
        let (mark, name, naming) = (cx.mark(), want.name.clone(), self.unit.naming);
        let trusting = self.planted(Plant::TakesForeignAsOurs);
        self.desk
            .look(cx, "find", move |state, now| {
                let all = state.world.seen(now, |item| match naming {
                    Naming::Lost => false,
                    Naming::Named | Naming::Bare => item.name == name,
                    Naming::Key | Naming::Label => item.mark.as_ref() == Some(&mark),
                });
                let marked = |item: &super::world::Item| item.mark.as_ref() == Some(&mark);
                match all.as_slice() {
                    [] => Found::Absent,
                    [(id, item)] if marked(item) || trusting => Found::Ours(id.as_str().into()),
                    [(id, item)] => Found::Foreign(foreign(id, item)),
                    many => Found::Many(
                        many.iter()
                            .map(|(id, item)| Candidate {
                                id: id.as_str().into(),
                                marked: marked(item),
                                created_at: Some(item.born),
                            })
                            .collect(),
                    ),
                }
            })
            .await
    }
}

fn foreign(id: &str, item: &super::world::Item) -> Foreign {
    if item.naming == Naming::Bare {
        return Foreign::unmarkable(id).with_created_at(item.born);
    }
    let foreign = Foreign::unmarked(id).with_created_at(item.born);
    match &item.mark {
        Some(mark) => foreign.with_owner(mark.clone()),
        None => foreign,
    }
}

impl Resource for Thing {
    const KIND: &'static str = "sim.thing";
    type Spec = Want;
    type Output = String;

    fn identity(&self, want: &Want) -> Identity {
        match self.unit.naming {
            Naming::Named | Naming::Bare => Identity::Named(want.name.clone()),
            Naming::Key => Identity::ProviderKey,
            Naming::Label => Identity::Label,
            Naming::Lost => Identity::None,
        }
    }

    async fn find(&self, cx: &StepContext, want: &Want) -> Result<Found, StepError> {
        if self.planted(Plant::NeverFinds) {
            return Ok(Found::Absent);
        }
        if self.planted(Plant::CreatesBeforeTheIntent) && cx.memory().intent.is_none() {
            let intent = Intent::new(early(cx), cx.mark(), Vec::new());
            return self.create(cx, want, &intent).await.map(Found::Ours);
        }
        match self.look_up(cx, want).await {
            Err(_) if self.planted(Plant::FindErrsAsAbsent) => Ok(Found::Absent),
            found => found,
        }
    }

    async fn create(
        &self,
        cx: &StepContext,
        want: &Want,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let key = match self.planted(Plant::KeyChangesPerAttempt) {
            true => format!("{}/{}", intent.idempotency_key(), cx.attempt()),
            false => intent.idempotency_key().to_owned(),
        };
        let ask = Ask::Create {
            name: want.name.clone(),
            mark: intent.mark().clone(),
            naming: self.unit.naming,
            polls: self.unit.polls,
            broken: self.unit.broken,
            key: key.clone(),
        };
        let id = self.desk.send(cx, "create", ask, format!("{want:?} {key}")).await?;
        Ok(ExternalId::new(id))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &Want,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        let asked = id.clone();
        let answer = self.desk.look(cx, "ready", move |state, _| {
            let again_in = state.rng.millis(300, 3_000);
            (state.world.poll(asked.as_str()), again_in)
        });
        Ok(match answer.await? {
            (None, _) => {
                return Err(StepError::permanent("ready").with_code("vanished"));
            }
            (Some(None), again_in) => Readiness::NotYet { again_in },
            (Some(Some(true)), _) => Readiness::Ready(id.to_string()),
            (Some(Some(false)), _) => Readiness::Broken { code: "broken".to_owned() },
        })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        want: &Want,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        if self.planted(Plant::DeletePretends) {
            return Ok(());
        }
        let mut id = id.to_string();
        if self.planted(Plant::DeletesByName) {
            let name = want.name.clone();
            let other = self.desk.look(cx, "find by name", move |state, now| {
                state.world.seen(now, |item| item.name == name).pop().map(|(id, _)| id)
            });
            id = other.await?.unwrap_or(id);
        }
        self.desk.send(cx, "delete", Ask::Delete { id: id.clone() }, id).await.map(|_| ())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.desk
            .look(cx, "list", |state, now| {
                let marked = state.world.seen(now, |item| item.mark.is_some());
                let owned = marked.into_iter().map(|(id, item)| {
                    Owned::new(id)
                        .with_name(item.name)
                        .with_mark(item.mark)
                        .with_created_at(Some(item.born))
                });
                owned.collect()
            })
            .await
    }

    fn timing(&self) -> Timing {
        let late_window =
            if self.planted(Plant::DeclaresNoQuietTime) { Duration::ZERO } else { LATE };
        Timing { late_window, listing_lag: LAG, key_lifetime: KEY_LIFETIME, ..Timing::default() }
    }

    fn facts(&self, _: &Want) -> Facts {
        Facts::default()
    }
}

/// The intent that a careless adapter makes up for itself.
fn early(cx: &StepContext) -> provision_core::resource::IntentRecord {
    let key =
        provision_core::context::idempotency_key(cx.run_id(), cx.path(), cx.generation(), "create");
    provision_core::resource::IntentRecord {
        key,
        name: None,
        account: "default".to_owned(),
        region: None,
        template: None,
        cost: None,
        secrets: Vec::new(),
        at: cx.now(),
    }
}

/// Names that stand there before anybody asked: what `wire` calls them.
pub(super) fn name_of(client: &str, path: &str) -> String {
    format!("{client}-{path}")
}
