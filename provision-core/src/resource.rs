//! What provisioning is made of: a [`Resource`] is found, created, waited for and deleted, and the
//! engine decides when each of these is safe.
//!
//! It differs from a [`crate::step::Step`] in that its author answers questions ("is it there, is
//! it ours?") and the protocol in this crate turns the answers into check-then-create, recovery
//! after a lost reply, and undo.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    context::StepContext,
    error::StepError,
    id::{Data, ExternalId, Timestamp},
    ledger::Cost,
    mark::OwnerMark,
    secret::{Secret, SecretSpec},
};

/// How an effect is found again when its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The provider enforces that this name exists once; a repeated create cannot make a second.
    Named(String),
    /// The provider remembers our idempotency key for [`Timing::key_lifetime`].
    ProviderKey,
    /// It can be listed by our owner mark; the provider would make a second one.
    Label,
    /// It cannot be found again: an unknown end parks, unless declared otherwise.
    None,
}

/// The answer of [`Resource::find`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Definitely not there.
    Absent,
    /// There, with the mark of this run and step.
    Ours(ExternalId),
    /// There, and not provably ours.
    Foreign(Foreign),
    /// There, and being deleted: ask again.
    Going {
        /// When to ask again.
        again_in: Duration,
    },
    /// Several that may be ours.
    Many(Vec<Candidate>),
    /// Ours, begun and not finished: nobody else can use it yet.
    ///
    /// [`Resource::create`] is called once more and goes on with it, under an intent of its own
    /// and whatever the identity; an undo deletes what there is of it, and waits until no call
    /// that was cut can finish it any more.
    Begun(ExternalId),
}

/// Something that exists where ours would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The provider's id.
    pub id: ExternalId,
    /// The mark of another run, if it carries one.
    pub owner: Option<OwnerMark>,
    /// When it was created, if the provider says.
    pub created_at: Option<Timestamp>,
    /// Whether the provider has a place for our mark on this kind of resource. Where it has none,
    /// the run's own intent is the mark: it is recorded after an "absent", and its call may have
    /// happened.
    pub markable: bool,
}

impl Foreign {
    /// Something that carries no mark although the provider has a place for one.
    #[must_use]
    pub fn unmarked(id: impl Into<ExternalId>) -> Self {
        Self { id: id.into(), owner: None, created_at: None, markable: true }
    }

    /// Something at a provider that has no place for marks on this kind.
    #[must_use]
    pub fn unmarkable(id: impl Into<ExternalId>) -> Self {
        Self { id: id.into(), owner: None, created_at: None, markable: false }
    }

    /// Adds the mark of the other run.
    #[must_use]
    pub fn with_owner(mut self, owner: OwnerMark) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Adds the creation time.
    #[must_use]
    pub fn with_created_at(mut self, at: Timestamp) -> Self {
        self.created_at = Some(at);
        self
    }
}

/// One of several that may be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The provider's id.
    pub id: ExternalId,
    /// Whether it carries the mark of this run and step.
    pub marked: bool,
    /// When it was created, if the provider says.
    pub created_at: Option<Timestamp>,
}

/// The answer of [`Resource::ready`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness<T> {
    /// Usable and verified; this is the step's output.
    Ready(T),
    /// Not yet: the run gives its worker slot back until then.
    NotYet {
        /// When to ask again.
        again_in: Duration,
    },
    /// It exists and will never become ready. A retry deletes it first.
    Broken {
        /// Short stable word for what the provider said.
        code: String,
    },
}

/// A resource that carries one of our marks, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The provider's id.
    pub id: ExternalId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The mark it carries.
    pub mark: Option<OwnerMark>,
    /// When it was created, if the provider says.
    pub created_at: Option<Timestamp>,
}

impl Owned {
    /// A listed resource without further facts.
    #[must_use]
    pub fn new(id: impl Into<ExternalId>) -> Self {
        Self { id: id.into(), name: None, mark: None, created_at: None }
    }

    /// Adds its name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds the mark it carries.
    #[must_use]
    pub fn with_mark(mut self, mark: Option<OwnerMark>) -> Self {
        self.mark = mark;
        self
    }

    /// Adds its creation time.
    #[must_use]
    pub fn with_created_at(mut self, at: Option<Timestamp>) -> Self {
        self.created_at = at;
        self
    }
}

/// The answer of [`Resource::list_owned`].
///
/// An empty list is a proof: whoever cannot list must not answer one. What is not listed is looked
/// for with [`Resource::find`], step by step, or told as not proven gone; see the variants.
///
/// ```
/// use provision_core::{Listing, Owned};
///
/// let ids = ["m-1", "m-2"];
/// let listing: Listing = ids.into_iter().map(Owned::new).collect();
/// assert_eq!(listing.complete().map(|owned| owned.len()), Some(2));
/// assert_eq!(Listing::Unlisted.complete(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// Everything of this kind in this account that carries one of our marks: what is not in it is
    /// not there.
    Complete(Vec<Owned>),
    /// Nothing lists it, and a thing carries its mark where `find` looks: [`Found::Ours`] is proven
    /// by the mark alone, at any later time, and [`Found::Absent`] is definite.
    ///
    /// The watch asks `find` with the step's input, and deletes what is ours and nothing wants.
    Unlisted,
    /// Nothing lists it, and there is no place for a mark, or `find` tells ours by what its run
    /// remembers: later, what is found may be anybody's.
    ///
    /// The watch asks `find`, and deletes nothing. What is found and belongs to nobody the ledger
    /// knows keeps its row on watch, and a sweep reports it as unverified.
    Unmarked,
}

impl Listing {
    /// What is listed; `None` where nothing lists it.
    #[must_use]
    pub fn complete(self) -> Option<Vec<Owned>> {
        match self {
            Self::Complete(owned) => Some(owned),
            Self::Unlisted | Self::Unmarked => None,
        }
    }
}

impl From<Vec<Owned>> for Listing {
    fn from(owned: Vec<Owned>) -> Self {
        Self::Complete(owned)
    }
}

impl FromIterator<Owned> for Listing {
    fn from_iter<I: IntoIterator<Item = Owned>>(owned: I) -> Self {
        Self::Complete(owned.into_iter().collect())
    }
}

/// Times a provider's behaviour dictates. Declared per resource, from the provider's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Longest time a cut create may still need to land. Default 60 s.
    pub late_window: Duration,
    /// How far listings and look-ups lag behind. Default 5 s.
    pub listing_lag: Duration,
    /// How long the provider remembers an idempotency key. Default 0: not at all.
    pub key_lifetime: Duration,
    /// Longest time from creation to readiness. Default 10 min.
    pub ready_within: Duration,
    /// How far the provider's clock may be behind ours, where its creation times are compared
    /// with our intents. Default 2 min.
    pub clock_skew: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            late_window: Duration::from_secs(60),
            listing_lag: Duration::from_secs(5),
            key_lifetime: Duration::ZERO,
            ready_within: Duration::from_secs(600),
            clock_skew: Duration::from_secs(120),
        }
    }
}

impl Timing {
    /// Longest of each of these times, other than `key_lifetime`: 90 days (S25).
    pub const LONGEST: Duration = Duration::from_secs(90 * 24 * 3_600);

    /// What is wrong with these times, if anything is.
    pub(crate) fn objection(&self) -> Option<String> {
        let bounded = [
            ("late_window", self.late_window),
            ("listing_lag", self.listing_lag),
            ("ready_within", self.ready_within),
            ("clock_skew", self.clock_skew),
        ];
        if self.ready_within.is_zero() {
            return Some("`ready_within` is zero: nothing would become ready in time".to_owned());
        }
        let (name, _) = bounded.into_iter().find(|(_, time)| *time > Self::LONGEST)?;
        Some(format!("`{name}` is longer than 90 days"))
    }

    /// Time after which an unanswered create can be declared absent, counted from its last
    /// possible moment of sending.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        self.late_window.saturating_add(self.listing_lag)
    }
}

/// The account of a resource that names none.
pub(crate) const DEFAULT_ACCOUNT: &str = "default";

/// What the ledger shows of a resource before it exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The name it gets, where it has one.
    pub name: Option<String>,
    /// The region it lives in.
    pub region: Option<String>,
    /// The version of the template it is made from.
    pub template: Option<String>,
    /// What it will cost.
    pub cost: Option<Cost>,
}

/// What is journaled before the first byte of a create. Stored; never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRecord {
    /// Key the create is sent with.
    pub key: Uuid,
    /// Name it gets, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Account at the provider.
    pub account: String,
    /// Region it lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Version of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What it will cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Names of the values drawn and sealed with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// When it was recorded, by the store's clock.
    pub at: Timestamp,
}

/// What a create is given: the journaled intent, with its values opened.
#[derive(Debug, Clone)]
pub struct Intent {
    record: IntentRecord,
    key: String,
    mark: OwnerMark,
    labels: Vec<(String, String)>,
    secrets: Vec<(String, Secret)>,
}

impl Intent {
    /// Joins a record with its opened values; the engine does.
    #[must_use]
    pub fn new(record: IntentRecord, mark: OwnerMark, secrets: Vec<(String, Secret)>) -> Self {
        let labels = mark.labels();
        Self { key: record.key.to_string(), record, mark, labels, secrets }
    }

    /// The name the resource gets, where it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.record.name.as_deref()
    }

    /// The key to send with the create; the same on every attempt of this generation.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.key
    }

    /// The owner mark as label pairs.
    #[must_use]
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }

    /// The owner mark.
    #[must_use]
    pub fn mark(&self) -> &OwnerMark {
        &self.mark
    }

    /// A value drawn and sealed with this intent.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The journaled part.
    #[must_use]
    pub fn record(&self) -> &IntentRecord {
        &self.record
    }
}

/// What to do with something that exists and is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdoptPolicy {
    /// Fail, without touching it.
    #[default]
    Refuse,
    /// Use it, and never delete it.
    Use,
}

/// Something at a provider that is found, created, waited for and deleted.
///
/// `find` must answer [`Found::Absent`] only on a definite "not there"; any other trouble is an
/// error. `delete` treats "already gone" as success. `create` is called at most once per recorded
/// intent unless the identity makes a repetition harmless.
///
/// ```
/// use std::{sync::{Arc, Mutex}, time::Duration};
///
/// use provision_core::{
///     Engine, ExternalId, Found, Identity, Intent, Listing, MemoryStore, Readiness, Resource, Saga,
///     SagaId, SecretRef, SecretSpec, StepContext, StepError, executor::{Executor, HostDriven},
///     vault::LocalKeys,
/// };
///
/// /// The one machine of a small cloud, with the number of looks at it.
/// #[derive(Clone, Default)]
/// struct Machine(Arc<Mutex<Option<u32>>>);
///
/// impl Resource for Machine {
///     const KIND: &'static str = "docs.machine";
///     type Spec = String;
///     type Output = SecretRef;
///
///     fn identity(&self, name: &String) -> Identity {
///         Identity::Named(name.clone())
///     }
///
///     async fn find(&self, _: &StepContext, _: &String) -> Result<Found, StepError> {
///         let there = self.0.lock().unwrap().is_some();
///         Ok(if there { Found::Ours(ExternalId::new("m-1")) } else { Found::Absent })
///     }
///
///     async fn create(
///         &self,
///         _: &StepContext,
///         _: &String,
///         intent: &Intent,
///     ) -> Result<ExternalId, StepError> {
///         // Drawn once and sealed with the intent: a repeated create sends the same one.
///         assert!(intent.secret("root").is_some());
///         *self.0.lock().unwrap() = Some(0);
///         Ok(ExternalId::new("m-1"))
///     }
///
///     async fn ready(
///         &self,
///         cx: &StepContext,
///         _: &String,
///         _: &ExternalId,
///     ) -> Result<Readiness<SecretRef>, StepError> {
///         let mut machine = self.0.lock().unwrap();
///         let looks = machine.map_or(0, |looks| looks + 1);
///         *machine = Some(looks);
///         Ok(match looks {
///             0..3 => Readiness::NotYet { again_in: Duration::from_secs(5) },
///             _ => Readiness::Ready(cx.sealed("root")),
///         })
///     }
///
///     async fn delete(&self, _: &StepContext, _: &String, _: &ExternalId) -> Result<(), StepError> {
///         *self.0.lock().unwrap() = None;
///         Ok(())
///     }
///
///     async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
///         // There is one at most, and no place on it for a mark.
///         Ok(Listing::Unmarked)
///     }
///
///     fn secrets(&self, _: &String) -> Vec<SecretSpec> {
///         vec![SecretSpec::password("root")]
///     }
/// }
///
/// const BOOT: SagaId<String, SecretRef> = SagaId::new("boot", 1);
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let saga = Saga::define(BOOT, |s| {
///     s.resource("machine", Machine::default()).input((), |name, ()| name.clone())
/// })?;
/// let builder = Engine::builder(MemoryStore::new()).keys(LocalKeys::new("docs", [7; 32])?);
/// let engine = builder.register(saga).build().await?;
/// let run = engine.start(BOOT, &"agent-7".to_owned()).await?;
/// HostDriven.drive(&engine, run.id()).await?;
/// let root = engine.reveal(run.id(), &run.output().await?).await?;
/// assert!(!root.expose().is_empty());
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resource",
    label = "expected a type that implements `Resource`",
    note = "implement `Resource` (find, create, ready, delete, list_owned) for `{Self}`; \
            a plain `Step` goes to `.step(path, step, undo)` instead"
)]
pub trait Resource: Send + Sync + 'static {
    /// Durable name `provider.kind`, such as `"supabase.project"`; stored, never changes.
    const KIND: &'static str;
    /// Revision of the kind; a change of meaning of spec or output gets a new one.
    const REVISION: u32 = 1;
    /// What is wanted; journaled with `started`. Holds references to secrets, never secrets.
    type Spec: Data;
    /// What dependents get; journaled with `succeeded`.
    type Output: Data;

    /// How it is found again.
    fn identity(&self, spec: &Self::Spec) -> Identity;

    /// Looks whether it is there, and whose it is. Changes nothing: where only looking is allowed, a
    /// mutating call fails with code `look_only` before its first byte.
    fn find(
        &self,
        cx: &StepContext,
        spec: &Self::Spec,
    ) -> impl Future<Output = Result<Found, StepError>> + Send;

    /// Creates it, with the intent's name, key, labels and secrets.
    fn create(
        &self,
        cx: &StepContext,
        spec: &Self::Spec,
        intent: &Intent,
    ) -> impl Future<Output = Result<ExternalId, StepError>> + Send;

    /// Looks whether it is usable, and verifies what matters before its output is released.
    ///
    /// May also finish what belongs to it (repeatably), such as locking it down.
    fn ready(
        &self,
        cx: &StepContext,
        spec: &Self::Spec,
        id: &ExternalId,
    ) -> impl Future<Output = Result<Readiness<Self::Output>, StepError>> + Send;

    /// Deletes it; already gone is success.
    fn delete(
        &self,
        cx: &StepContext,
        spec: &Self::Spec,
        id: &ExternalId,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Lists everything of this kind that carries one of our marks, for the watch and the sweep,
    /// or says that nothing lists it.
    ///
    /// An empty [`Listing::Complete`] means that nothing is there. An error means that the provider
    /// did not tell this time; the watch asks again, and the sweep reports it.
    fn list_owned(
        &self,
        cx: &StepContext,
    ) -> impl Future<Output = Result<Listing, StepError>> + Send;

    /// Values to draw and seal with the intent, before the create.
    fn secrets(&self, _spec: &Self::Spec) -> Vec<SecretSpec> {
        Vec::new()
    }

    /// Times the provider's behaviour dictates.
    ///
    /// Read once, when the saga is defined; a panic, no time to become ready, or more than
    /// [`Timing::LONGEST`] is refused there.
    fn timing(&self) -> Timing {
        Timing::default()
    }

    /// The account its client works in, where one process may work in several.
    ///
    /// Names and ids of two accounts may be equal without being the same, and a sweep looks once
    /// in each. Read once, when the saga is defined. Default: `"default"`.
    fn account(&self) -> &str {
        DEFAULT_ACCOUNT
    }

    /// What the ledger shows of it.
    fn facts(&self, _spec: &Self::Spec) -> Facts {
        Facts::default()
    }
}

/// What the author of a resource declares of it.
///
/// Read once, when the saga is defined: deciding calls no code of an author.
#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) timing: Timing,
    pub(crate) account: String,
}

impl Declared {
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn of<R: Resource>(resource: &R) -> Result<Self, String> {
        let read = || Self { timing: resource.timing(), account: resource.account().to_owned() };
        // S21: an author's declaration is read where its author sees what is wrong with it.
        let declared = catch_unwind(AssertUnwindSafe(read)).map_err(|_| "reading it panicked")?;
        declared.timing.objection().map_or(Ok(declared), Err)
    }
}
