//! A provider with bad habits: answers that are lost, calls that land late, look-ups that lag, a
//! clock that is behind, kinds without a place for marks.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use provision_core::{
    Effect, ExternalId, Foreign, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, RunId, Step, StepContext, StepError, Timestamp, Timing, Verdict, clock::sleep,
    resource::Candidate,
};

/// What a create or a delete does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Fails for certain; it is worth repeating after a minute.
    Nothing,
    /// Has its effect; the answer is lost.
    Lost,
    /// The answer is lost, and the effect does not come by itself.
    Late,
    /// Has its effect, which look-ups and deletes do not see for so many seconds.
    Hidden(u64),
    /// Takes so many seconds.
    Slow(u64),
    /// The adapter's code panics.
    Panic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plot {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) mark: Option<OwnerMark>,
    pub(crate) created: Timestamp,
    pub(crate) seen_from: Timestamp,
    /// On its way out.
    pub(crate) going: bool,
}

impl Plot {
    /// One that is simply there.
    pub(crate) fn new(id: &str, name: &str, mark: Option<OwnerMark>, created: Timestamp) -> Self {
        let (id, name) = (id.to_owned(), name.to_owned());
        Self { id, name, mark, created, seen_from: Timestamp::ZERO, going: false }
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) plots: Vec<Plot>,
    pub(crate) log: Vec<String>,
    /// What the next creates do; fine when there is nothing left.
    pub(crate) creates: VecDeque<How>,
    /// What the next deletes do.
    pub(crate) deletes: VecDeque<How>,
    /// How many of the next listings panic.
    pub(crate) listings_panic: u32,
    /// How long a listing takes after it was made.
    pub(crate) listed_for: Duration,
    /// How far the provider's clock is behind.
    pub(crate) behind: Duration,
    next: u32,
}

/// The resource.
#[derive(Debug, Clone)]
pub(crate) struct Yard {
    world: Arc<Mutex<World>>,
    identity: fn(&str) -> Identity,
    /// Whether the provider has a place for marks.
    marks: bool,
    /// Whether nothing lists what is there.
    unlisted: bool,
    /// What it declares of the provider's times.
    pub(crate) times: fn() -> Timing,
    /// Readiness needs a person while this is set.
    pub(crate) stuck: Arc<AtomicBool>,
}

impl Yard {
    pub(crate) fn new() -> Self {
        Self {
            world: Arc::default(),
            identity: |name| Identity::Named(name.to_owned()),
            marks: true,
            unlisted: false,
            times: || Timing {
                late_window: Duration::from_secs(60),
                listing_lag: Duration::from_secs(5),
                ..Timing::default()
            },
            stuck: Arc::default(),
        }
    }

    pub(crate) fn labelled(mut self) -> Self {
        self.identity = |_| Identity::Label;
        self
    }

    pub(crate) fn without_marks(mut self) -> Self {
        self.marks = false;
        self
    }

    pub(crate) fn unlisted(mut self) -> Self {
        self.unlisted = true;
        self
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn creates(&self, how: &[How]) {
        self.world().creates.extend(how);
    }

    pub(crate) fn put(&self, plot: Plot) {
        self.world().plots.push(plot);
    }

    /// A plot of a run's step `r` that lands now.
    pub(crate) fn land(&self, id: &str, run: &RunId) {
        self.put(Plot::new(id, "x", Some(OwnerMark::new(*run, "r")), Timestamp::ZERO));
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.world().plots.iter().map(|plot| plot.id.clone()).collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.world().log.clone()
    }
}

fn lost(how: Option<How>) -> bool {
    matches!(how, Some(How::Lost | How::Late))
}

impl Resource for Yard {
    const KIND: &'static str = "yard.plot";
    type Spec = String;
    type Output = String;

    fn identity(&self, name: &String) -> Identity {
        (self.identity)(name)
    }

    async fn find(&self, cx: &StepContext, name: &String) -> Result<Found, StepError> {
        let (world, now) = (self.world(), cx.now());
        let seen = |plot: &&Plot| plot.name == *name && plot.seen_from <= now;
        let all: Vec<_> = world.plots.iter().filter(seen).collect();
        let (ours, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|plot| self.marks && plot.mark == Some(cx.mark()));
        if ours.len() > 1 {
            let candidate = |plot: &Plot| Candidate {
                id: plot.id.as_str().into(),
                marked: true,
                created_at: Some(plot.created),
            };
            return Ok(Found::Many(ours.into_iter().map(candidate).collect()));
        }
        Ok(match (ours.first(), others.first()) {
            (Some(plot), _) if plot.going => Found::Going { again_in: Duration::from_secs(5) },
            (Some(plot), _) => Found::Ours(plot.id.as_str().into()),
            (None, None) => Found::Absent,
            (None, Some(plot)) if self.marks => {
                let foreign = Foreign::unmarked(plot.id.as_str());
                let owner = plot.mark.clone();
                Found::Foreign(owner.into_iter().fold(foreign, Foreign::with_owner))
            }
            (None, Some(plot)) => {
                let foreign = Foreign::unmarkable(plot.id.as_str());
                Found::Foreign(foreign.with_created_at(plot.created))
            }
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        name: &String,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let how = self.world().creates.pop_front();
        if let Some(How::Slow(seconds)) = how {
            sleep(Duration::from_secs(seconds)).await;
        }
        let mut world = self.world();
        world.log.push(format!("create {name}"));
        if how == Some(How::Nothing) {
            let verdict = Verdict::Retry { after: Some(Duration::from_secs(60)) };
            return Err(StepError::new(Effect::None, verdict, "create"));
        }
        if how == Some(How::Late) {
            return Err(StepError::unknown("create"));
        }
        world.next += 1;
        let id = format!("t{}", world.next);
        let behind = u64::try_from(world.behind.as_millis()).unwrap();
        let created = Timestamp::from_millis(cx.now().as_millis() - behind);
        let mut plot = Plot::new(&id, name, self.marks.then(|| cx.mark()), created);
        if let Some(How::Hidden(seconds)) = how {
            plot.seen_from = cx.now().plus(Duration::from_secs(seconds));
        }
        world.plots.push(plot);
        if lost(how) { Err(StepError::unknown("create")) } else { Ok(ExternalId::new(id)) }
    }

    async fn ready(
        &self,
        _: &StepContext,
        _: &String,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        if self.stuck.load(SeqCst) {
            return Err(StepError::new(Effect::None, Verdict::Operator, "verify"));
        }
        Ok(Readiness::Ready(id.to_string()))
    }

    async fn delete(&self, cx: &StepContext, _: &String, id: &ExternalId) -> Result<(), StepError> {
        let how = self.world().deletes.pop_front();
        assert_ne!(how, Some(How::Panic), "as planned");
        if let Some(How::Slow(seconds)) = how {
            sleep(Duration::from_secs(seconds)).await;
        }
        let mut world = self.world();
        world.log.push(format!("delete {id}"));
        if how == Some(How::Nothing) {
            return Err(StepError::retry("delete"));
        }
        // What look-ups do not see yet is answered "not found".
        let now = cx.now();
        world.plots.retain(|plot| plot.id != id.as_str() || plot.seen_from > now);
        if lost(how) { Err(StepError::unknown("delete")) } else { Ok(()) }
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        if self.unlisted {
            return Ok(if self.marks { Listing::Unlisted } else { Listing::Unmarked });
        }
        let panics = {
            let left = &mut self.world().listings_panic;
            std::mem::replace(left, left.saturating_sub(1)) > 0
        };
        assert!(!panics, "as planned");
        let owned = |plot: &Plot| {
            Owned::new(plot.id.as_str()).with_name(plot.name.clone()).with_mark(plot.mark.clone())
        };
        let (listed, held) = {
            let world = self.world();
            let marked = world.plots.iter().filter(|plot| plot.mark.is_some());
            (marked.map(owned).collect::<Listing>(), world.listed_for)
        };
        sleep(held).await;
        Ok(listed)
    }

    fn timing(&self) -> Timing {
        (self.times)()
    }
}

/// A plain step that hands its input on, and fails for good while its switch is set.
#[derive(Debug, Clone)]
pub(crate) struct Pass(pub(crate) Arc<AtomicBool>);

impl Pass {
    pub(crate) fn failing() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Step for Pass {
    const KIND: &'static str = "yard.pass";
    type Input = String;
    type Output = String;

    async fn run(&self, _: &StepContext, value: String) -> Result<String, StepError> {
        if self.0.load(SeqCst) { Err(StepError::permanent("pass")) } else { Ok(value) }
    }
}
