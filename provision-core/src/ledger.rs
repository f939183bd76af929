//! What exists out there: one row per generation of every resource a run created, may have
//! created, or adopted.
//!
//! Rows that belong to a run under way are written by the run's own fenced appends. What needs no
//! lease (sightings by a stale owner, the watch) goes through [`LedgerOp`].
//!
//! [`Engine::sweep`](crate::Engine::sweep) compares it with what providers list:
//!
//! ```
//! use provision_core::{
//!     Engine, LedgerQuery, MemoryStore, ResourceState, Saga, SagaId,
//!     executor::{Executor, HostDriven},
//! };
//! use provision_testkit::harness::{World, world::Thing};
//!
//! const DISK: SagaId<String, String> = SagaId::new("disk", 1);
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cloud = World::new();
//! let saga = Saga::define(DISK, |s| {
//!     s.resource("disk", Thing::named(&cloud)).input((), |name, ()| name.clone())
//! })?;
//! let engine = Engine::builder(MemoryStore::new()).register(saga.clone()).build().await?;
//! let run = engine.start(DISK, &"acme".to_owned()).tenant("acme").await?;
//! HostDriven.drive(&engine, run.id()).await?;
//!
//! let query = LedgerQuery { tenant: Some("acme".to_owned()), ..LedgerQuery::default() };
//! let rows = engine.ledger(&query).await?;
//! assert_eq!((rows.len(), rows[0].state), (1, ResourceState::Alive));
//! assert_eq!(engine.sweep(true).await?.wanted, 1);
//!
//! // To a store that does not know the run, what it made is a stray: told of, and left alone.
//! let other = Engine::builder(MemoryStore::new()).register(saga).build().await?;
//! let strays = other.sweep(true).await?.strays;
//! assert_eq!(strays[0].run, Some(*run.id()));
//! assert!(!strays[0].deleted);
//! assert_eq!(cloud.names(), ["acme"]);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    id::{ExternalId, RunId, Timestamp},
    run::RunStatus,
    store::{Incarnation, StateStore},
};

/// How a resource came to be used by a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// This run created it, or may have: undo deletes it.
    Created,
    /// It was there before, and the step's policy says to use it: undo never touches it.
    Adopted,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Created, Self::Adopted];

    /// The word it is stored and shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Adopted => "adopted",
        }
    }

    /// Finds an origin by its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// Whether a resource exists, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// An intent is recorded and its end is not: it may exist.
    Unknown,
    /// It exists.
    Alive,
    /// It was deleted, or surely never came to be.
    Gone,
    /// It exists, or may, and a person gave it up.
    LeftBehind,
}

impl ResourceState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Alive, Self::Gone, Self::LeftBehind];

    /// The word it is stored and shown under.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Gone => "gone",
            Self::LeftBehind => "left_behind",
        }
    }

    /// Finds a state by its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What a resource costs, as declared by its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Thousandths of the currency's unit, per `per`.
    pub milli: u64,
    /// ISO 4217 code.
    pub currency: String,
    /// Per hour, per month, or once.
    pub per: CostPer,
}

/// What a [`Cost`] is counted per.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostPer {
    /// For every hour it exists.
    Hour,
    /// For every month it exists.
    Month,
    /// Once.
    Once,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The run that owns the row.
    pub run: RunId,
    /// The step of that run.
    pub path: String,
    /// The generation of the step's effect.
    pub generation: u32,
    /// Position among the step's ids; a step may note several. A resource has 0 only; later ones
    /// are what the watch has found under its mark.
    pub index: u32,
    /// Tenant of the run.
    pub tenant: Option<String>,
    /// Provider, such as `supabase`.
    pub provider: String,
    /// Account at the provider.
    pub account: String,
    /// Kind, such as `project`.
    pub kind: String,
    /// Name we gave it, where it has one.
    pub name: Option<String>,
    /// The provider's id, once known.
    pub external_id: Option<ExternalId>,
    /// Created or adopted.
    pub origin: Origin,
    /// Whether it exists.
    pub state: ResourceState,
    /// Region, where it has one.
    pub region: Option<String>,
    /// Version of the template it was made from, where it has one.
    pub template: Option<String>,
    /// What it costs.
    pub cost: Option<Cost>,
    /// Whether its end was ever unknown, or its run taken over: it stays on watch once more.
    pub suspect: bool,
    /// When the watch looks next; `None` when it does not.
    pub watch_at: Option<Timestamp>,
    /// When the intent was recorded.
    pub since: Timestamp,
    /// When it was gone.
    pub until: Option<Timestamp>,
}

impl LedgerRow {
    /// Its durable kind, such as `supabase.project`.
    pub(crate) fn full_kind(&self) -> String {
        match self.provider.as_str() {
            "" => self.kind.clone(),
            provider => format!("{provider}.{}", self.kind),
        }
    }

    /// Whether a store enters it over `known`, the row that is there, where its run stands so; `None`
    /// where there is no such run, or none any more.
    ///
    /// What is being removed is changed by who holds it, and by nobody else: it is told gone, under
    /// the `watch_at` of the claim, at any time, since no run writes such a row. Other rows of a run
    /// that moves are its own (S17), and nobody could end a removal that was begun for a run that
    /// retention has removed (S15).
    #[must_use]
    pub fn may_be_entered(&self, known: Option<&Self>, run: Option<RunStatus>) -> bool {
        match known.filter(|known| known.is_being_removed()) {
            Some(known) => {
                self.state == ResourceState::Gone
                    && self.external_id == known.external_id
                    && self.watch_at == known.watch_at
            }
            None => run.is_some_and(|status| !status.is_moving()),
        }
    }

    /// Whether the watch or a sweep has found it under the mark of a resource, and removes it.
    #[must_use]
    pub fn is_being_removed(&self) -> bool {
        self.index > 0 && self.state == ResourceState::Alive
    }

    /// The name this row claims for its run: that of what the run created and what may exist.
    #[must_use]
    pub fn claimed_name(&self) -> Option<&str> {
        let live = matches!(self.state, ResourceState::Unknown | ResourceState::Alive);
        self.name.as_deref().filter(|_| live && self.origin == Origin::Created)
    }
}

/// Where, what and which rows to read.
#[derive(Debug, Clone, Default)]
pub struct LedgerQuery {
    /// Only rows of this run.
    pub run: Option<RunId>,
    /// Only rows of this step.
    pub path: Option<String>,
    /// Only rows of this tenant.
    pub tenant: Option<String>,
    /// Only this provider.
    pub provider: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this external id.
    pub external_id: Option<ExternalId>,
    /// Only these states; empty means all.
    pub states: Vec<ResourceState>,
    /// Only rows after this (run, path, generation, index), in that order.
    pub after: Option<(RunId, String, u32, u32)>,
    /// At most so many; 0 means 1,000, and no store answers more than 10,000. What lies beyond is
    /// asked for with `after`, until a page is empty.
    pub limit: usize,
}

/// A resource seen by a worker whose lease had ended: read by the next look-up and the sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The run the worker was driving.
    pub run: RunId,
    /// The step.
    pub path: String,
    /// How often the step has begun anew.
    pub generation: u32,
    /// Provider.
    pub provider: String,
    /// Kind.
    pub kind: String,
    /// What the worker had created.
    pub external_id: ExternalId,
    /// The stale lease.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
}

/// One operation on the ledger that needs no lease.
#[derive(Debug, Clone)]
pub enum LedgerOp {
    /// Reads rows, ordered by (run, path, generation, index).
    Query(LedgerQuery),
    /// Adds a sighting; a repeated one changes nothing.
    Sight(Sighting),
    /// Reads the sightings of a run; of all runs when `None`.
    Sightings(Option<RunId>),
    /// Takes up to `limit` rows whose `watch_at` has come, pushing it `hold` into the future.
    ClaimWatch {
        /// Who looks.
        worker: Incarnation,
        /// How long the claim lasts.
        hold: Duration,
        /// At most so many.
        limit: usize,
    },
    /// Ends the watch of a row: `watch_at` becomes `next`, if it still is `claimed`.
    EndWatch {
        /// The row as it was claimed.
        row: Box<LedgerRow>,
        /// The next look, if any.
        next: Option<Timestamp>,
    },
    /// Adds a row the watch or a sweep found, or changes the state of such a row. Never touches
    /// a row of a run that moves by itself ([`RunStatus::is_moving`](crate::RunStatus::is_moving)),
    /// nor adds one to a run that is not there, except that what is being removed may be told gone;
    /// see [`LedgerRow::may_be_entered`]. Two that enter the same row of a run at the same time come
    /// one after the other.
    Enter(Box<LedgerRow>),
}

/// Answer to one [`LedgerOp`].
#[derive(Debug, Clone)]
pub enum LedgerReply {
    /// Rows.
    Rows(Vec<LedgerRow>),
    /// Sightings.
    Sightings(Vec<Sighting>),
    /// Whether something was changed.
    Changed(bool),
}

/// Reads every row that a query selects, page after page: whoever decides by what is *not* in the
/// ledger must have seen all of it.
pub(crate) async fn all_rows(
    store: &dyn StateStore,
    mut query: LedgerQuery,
) -> Result<Vec<LedgerRow>, StoreError> {
    let mut all = Vec::new();
    loop {
        let replies = store.ledger(&[LedgerOp::Query(query.clone())]).await?;
        let page = rows(replies);
        let Some(last) = page.last() else { return Ok(all) };
        query.after = Some((last.run, last.path.clone(), last.generation, last.index));
        all.extend(page);
    }
}

/// The rows of a step, in all its generations.
pub(crate) async fn rows_of(
    store: &dyn StateStore,
    run: RunId,
    path: &str,
) -> Result<Vec<LedgerRow>, StoreError> {
    let (run, path) = (Some(run), Some(path.to_owned()));
    all_rows(store, LedgerQuery { run, path, ..LedgerQuery::default() }).await
}

/// The live rows of a thing, in whatever run.
///
/// Ids of other kinds, providers and accounts may look the same.
async fn alive(
    store: &dyn StateStore,
    (full_kind, account): (&str, &str),
    id: &ExternalId,
) -> Result<Vec<LedgerRow>, StoreError> {
    let (provider, kind) = halves(full_kind);
    let query = LedgerQuery {
        provider: Some(provider.to_owned()),
        kind: Some(kind.to_owned()),
        external_id: Some(id.clone()),
        states: vec![ResourceState::Alive],
        ..LedgerQuery::default()
    };
    let mut rows = all_rows(store, query).await?;
    rows.retain(|row| row.account == account);
    Ok(rows)
}

/// A run other than `but` that lives with a resource because it has adopted it.
pub(crate) async fn adopter(
    store: &dyn StateStore,
    place: (&str, &str),
    id: &ExternalId,
    but: RunId,
) -> Result<Option<RunId>, StoreError> {
    adopter_among(store, &alive(store, place, id).await?, but).await
}

async fn adopter_among(
    store: &dyn StateStore,
    rows: &[LedgerRow],
    but: RunId,
) -> Result<Option<RunId>, StoreError> {
    for row in rows.iter().filter(|row| row.origin == Origin::Adopted && row.run != but) {
        // What was adopted is still there when its run is undone, and so is its row. A run that
        // kept something may live with it until it is torn down.
        let record = store.load(&[row.run]).await?.pop().flatten();
        let over = record.is_none_or(|record| {
            matches!(record.head.status, RunStatus::RolledBack | RunStatus::TornDown)
        });
        if !over {
            return Ok(Some(row.run));
        }
    }
    Ok(None)
}

/// Whether anybody but this step lives with a resource: another step or run that has made it, or
/// one that has adopted it.
pub(crate) async fn is_lived_with(
    store: &dyn StateStore,
    place: (&str, &str),
    id: &ExternalId,
    (run, path): (RunId, &str),
) -> Result<bool, StoreError> {
    let rows = alive(store, place, id).await?;
    let lives = |row: &LedgerRow| {
        let other = row.run != run || row.path != path;
        let known = row.origin == Origin::Created || row.run == run;
        row.index == 0 && other && known
    };
    Ok(rows.iter().any(lives) || adopter_among(store, &rows, run).await?.is_some())
}

/// Whether the watch or a sweep is removing something: what carries the mark of a step, or, with an
/// id, that thing, whoever's it is.
pub(crate) async fn being_removed(
    store: &dyn StateStore,
    place: (&str, &str),
    (run, path): (RunId, &str),
    id: Option<&ExternalId>,
) -> Result<bool, StoreError> {
    if let Some(id) = id {
        return Ok(alive(store, place, id).await?.iter().any(LedgerRow::is_being_removed));
    }
    let here = |row: &LedgerRow| (row.full_kind().as_str(), row.account.as_str()) == place;
    let rows = rows_of(store, run, path).await?;
    Ok(rows.iter().any(|row| row.is_being_removed() && here(row)))
}

/// The two halves of a durable kind such as `supabase.project`; a kind without a dot has no
/// provider.
pub(crate) fn halves(full_kind: &str) -> (&str, &str) {
    full_kind.split_once('.').unwrap_or(("", full_kind))
}

/// The sightings of a run, or of all.
pub(crate) async fn sightings(
    store: &dyn StateStore,
    run: Option<RunId>,
) -> Result<Vec<Sighting>, StoreError> {
    let replies = store.ledger(&[LedgerOp::Sightings(run)]).await?;
    let sightings = replies.into_iter().map(|reply| match reply {
        LedgerReply::Sightings(sightings) => sightings,
        LedgerReply::Rows(_) | LedgerReply::Changed(_) => Vec::new(),
    });
    Ok(sightings.flatten().collect())
}

/// The rows among the answers.
pub(crate) fn rows(replies: Vec<LedgerReply>) -> Vec<LedgerRow> {
    let rows = replies.into_iter().map(|reply| match reply {
        LedgerReply::Rows(rows) => rows,
        LedgerReply::Sightings(_) | LedgerReply::Changed(_) => Vec::new(),
    });
    rows.flatten().collect()
}
