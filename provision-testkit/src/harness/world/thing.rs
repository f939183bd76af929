//! A resource of the cloud.

use std::time::Duration;

use provision_core::{
    Cost, ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Readiness, Resource,
    SecretSpec, StepContext, StepError, Timing, resource::Candidate,
};

use super::{World, state::Wish};

/// Something with a name, which its spec is. Its output is `name@id`.
#[derive(Debug, Clone)]
pub struct Thing {
    world: World,
    identity: fn(&str) -> Identity,
    polls: u32,
    poll_every: Duration,
    secret: Option<&'static str>,
    cost: Option<Cost>,
    timing: Timing,
}

impl Thing {
    /// A thing whose name the provider enforces: no second one of that name.
    #[must_use]
    pub fn named(world: &World) -> Self {
        Self {
            world: world.clone(),
            identity: |name| Identity::Named(name.to_owned()),
            polls: 0,
            poll_every: Duration::from_secs(10),
            secret: None,
            cost: None,
            timing: Timing {
                late_window: Duration::from_secs(20),
                listing_lag: Duration::ZERO,
                key_lifetime: Duration::from_secs(24 * 3600),
                ..Timing::default()
            },
        }
    }

    /// A thing that is found by its owner mark alone; the provider would make a second one.
    #[must_use]
    pub fn labelled(world: &World) -> Self {
        Self { identity: |_| Identity::Label, ..Self::named(world) }
    }

    /// A thing whose create is repeated harmlessly under the same idempotency key.
    #[must_use]
    pub fn keyed(world: &World) -> Self {
        Self { identity: |_| Identity::ProviderKey, ..Self::named(world) }
    }

    /// A thing that cannot be found again, such as what a paid call makes: made again for the same
    /// step, it takes the place of the one before.
    #[must_use]
    pub fn paid(world: &World) -> Self {
        Self { identity: |_| Identity::None, ..Self::named(world) }
    }

    /// Lets it answer "not yet" so many times, with this wait between two looks.
    #[must_use]
    pub fn slow(mut self, polls: u32, every: Duration) -> Self {
        (self.polls, self.poll_every) = (polls, every);
        self
    }

    /// Draws a value with its intent, and sends it with its create.
    #[must_use]
    pub fn with_secret(mut self, name: &'static str) -> Self {
        self.secret = Some(name);
        self
    }

    /// Declares what it costs, for the ledger.
    #[must_use]
    pub fn with_cost(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Sets what it declares about late requests and lagging look-ups.
    #[must_use]
    pub fn with_timing(mut self, late_window: Duration, listing_lag: Duration) -> Self {
        self.timing.late_window = late_window;
        self.timing.listing_lag = listing_lag;
        self
    }
}

impl Resource for Thing {
    const KIND: &'static str = "world.thing";
    type Spec = String;
    type Output = String;

    fn identity(&self, spec: &String) -> Identity {
        (self.identity)(spec)
    }

    async fn find(&self, cx: &StepContext, name: &String) -> Result<Found, StepError> {
        let (mark, identity) = (cx.mark(), self.identity(name));
        let found = self.world.look(cx, "find", |state| {
            let seen = state.seen(name);
            let ours: Vec<_> =
                seen.iter().filter(|(_, k)| k.mark.as_ref() == Some(&mark)).collect();
            let candidate = |(id, kept): &&(&String, &super::state::Kept)| Candidate {
                id: ExternalId::new(id.as_str()),
                marked: true,
                created_at: Some(kept.made_at),
            };
            match ours.as_slice() {
                [] => {}
                [(id, _)] => return Found::Ours(ExternalId::new(id.as_str())),
                many => return Found::Many(many.iter().map(candidate).collect()),
            }
            match seen.first() {
                Some((id, kept)) if matches!(identity, Identity::Named(_)) => {
                    let foreign = Foreign::unmarked(id.as_str());
                    Found::Foreign(match kept.mark.clone() {
                        Some(owner) => foreign.with_owner(owner),
                        None => foreign,
                    })
                }
                _ => Found::Absent,
            }
        });
        found.await
    }

    async fn create(
        &self,
        cx: &StepContext,
        name: &String,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let identity = self.identity(name);
        let keyed = identity == Identity::ProviderKey;
        let wish = Wish {
            name: name.clone(),
            mark: intent.mark().clone(),
            key: keyed.then(|| intent.idempotency_key().to_owned()),
            unique: matches!(identity, Identity::Named(_)),
            replaces: identity == Identity::None,
        };
        let sent = self.secret.and_then(|secret| intent.secret(secret)).cloned();
        let key = intent.idempotency_key();
        let made = self.world.change(cx, "create", name, move |state| {
            if let Some(secret) = sent {
                state.take(name, key, secret.expose());
            }
            state.create(wish)
        });
        made.await.map(ExternalId::new)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        let polls = self.world.look(cx, "ready", |state| {
            let kept = state.things.get_mut(id.as_str())?;
            kept.polls += 1;
            Some(kept.polls)
        });
        Ok(match polls.await? {
            None => Readiness::Broken { code: "vanished".to_owned() },
            Some(polls) if polls <= self.polls => Readiness::NotYet { again_in: self.poll_every },
            Some(_) => Readiness::Ready(format!("{name}@{id}")),
        })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        name: &String,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.world
            .change(cx, "delete", name, |state| {
                state.things.remove(id.as_str());
                Ok(())
            })
            .await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.world.look(cx, "list", |state| state.owned(false)).await.map(Listing::from)
    }

    fn secrets(&self, _: &String) -> Vec<SecretSpec> {
        self.secret.map(SecretSpec::password).into_iter().collect()
    }

    fn timing(&self) -> Timing {
        self.timing
    }

    fn facts(&self, _: &String) -> Facts {
        Facts { cost: self.cost.clone(), ..Facts::default() }
    }
}
