//! A small cloud in memory: what steps under test make, find and delete.
//!
//! It keeps what a provider keeps (names, owner marks, idempotency keys), answers as late or as
//! wrongly as it is told to, and counts what landed. Its time is what its callers' store says, so
//! listing lag and late requests follow a test's clock. Kept in a file, it survives the death of
//! the process that used it.

mod state;
mod steps;
mod thing;

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use provision_core::{
    Call, Effect, Owned, OwnerMark, StepContext, StepError, Verdict, clock,
    limit::{Observed, Profile},
};
use tokio::sync::Notify;

use state::State;
pub use steps::{
    Compare, Comparison, Entry, Password, RemoveEntry, RevokeToken, Tell, Token, UnsetPassword,
};
pub use thing::Thing;

use super::Outside;

/// What one call does besides its ordinary work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Fails before the effect, and is worth repeating.
    Before,
    /// Has its effect, and the answer is lost.
    After,
    /// Has its effect so much later, and the answer is lost.
    Late(Duration),
    /// Is refused for good.
    Refuse,
    /// Asks for seven seconds of rest.
    Throttle,
    /// Panics before the effect.
    Panic,
}

/// The cloud. Cheap to clone; clones are the same cloud.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// A plain mutex: every call computes only, and never holds it across an await.
    state: Arc<Mutex<State>>,
    file: Option<Arc<PathBuf>>,
    limit: Option<Profile>,
    /// Woken when a call kills who made it.
    killed: Arc<Notify>,
}

/// What becomes of a call's answer.
enum Answer<T> {
    /// It comes, after so long.
    After(Duration, Result<T, StepError>),
    /// Who asked for it is dead.
    Never,
}

impl World {
    /// An empty cloud.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A cloud that is written to a file, and synced, before any call is answered; what the file
    /// holds already is there.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn kept_in(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let state = state::load(&path)?;
        let (state, file) = (Arc::new(Mutex::new(state)), Some(Arc::new(path)));
        Ok(Self { state, file, limit: None, killed: Arc::default() })
    }

    /// Lets look-ups and listings lag so far behind what was made.
    #[must_use]
    pub fn with_listing_lag(self, lag: Duration) -> Self {
        self.state().lag = lag;
        self
    }

    /// Counts every changing call against a bucket, and tells the limiter how it ended.
    #[must_use]
    pub fn limited_by(mut self, profile: Profile) -> Self {
        self.limit = Some(profile);
        self
    }

    /// Plans what the next calls of this name do, such as `"create db"`.
    pub fn plan(&self, call: &str, mishaps: impl IntoIterator<Item = Mishap>) {
        self.state().plan(call, mishaps);
    }

    /// Refuses every call of this name for good, such as `"put mail"`, until it is allowed again.
    pub fn block(&self, call: &str) {
        let mut state = self.state();
        state.blocked.insert(call.to_owned());
        self.keep(&state);
    }

    /// Lets every call of this name kill the process that makes it, once it has had its effect, until
    /// it is allowed again.
    pub fn make_deadly(&self, call: &str) {
        let mut state = self.state();
        state.deadly.insert(call.to_owned());
        self.keep(&state);
    }

    /// Allows a call that was blocked, or deadly; whether it was.
    #[must_use = "says whether it was blocked"]
    pub fn allow(&self, call: &str) -> bool {
        let mut state = self.state();
        let was = state.blocked.remove(call) | state.deadly.remove(call);
        self.keep(&state);
        was
    }

    /// Answers every call of this name so much later than it has its effect.
    #[must_use]
    pub fn slow_to_answer(self, call: &str, by: Duration) -> Self {
        self.state().slow.insert(call.to_owned(), by);
        self
    }

    /// Removes an entry, as a person does by hand.
    pub fn clear(&self, entry: &str) {
        let mut state = self.state();
        state.entries.retain(|kept| kept != entry);
        self.keep(&state);
    }

    /// Puts something there that nobody here made.
    pub fn put_foreign(&self, name: &str) {
        self.state().put_foreign(name);
    }

    /// Names of everything that exists.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().names()
    }

    /// How often a call of this name had its effect, such as `"create db"`.
    #[must_use]
    pub fn calls(&self, call: &str) -> u32 {
        self.state().calls(call)
    }

    /// Every call that had its effect, in order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one changing call: as planned, or as asked.
    pub(super) async fn change<T: Send>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&mut State) -> Result<T, StepError> + Send,
    ) -> Result<T, StepError> {
        let sent = async {
            match self.answer(cx, operation, name, work) {
                Answer::After(late, answer) => {
                    if !late.is_zero() {
                        clock::sleep(late).await;
                    }
                    answer
                }
                Answer::Never => {
                    self.killed.notify_one();
                    std::future::pending().await
                }
            }
        };
        let Some(limit) = &self.limit else {
            return cx.call(&Call::mutate(operation), sent).await;
        };
        let answer = cx.call(&Call::mutate(operation).with_limit(limit.clone()), sent).await;
        let held = |e: &StepError| matches!(e.verdict(), Verdict::Throttled { .. });
        if !answer.as_ref().err().is_some_and(held) {
            let healthy = Some(answer.is_ok());
            cx.observe(&limit.bucket, Observed { healthy, ..Observed::default() }).await;
        }
        answer
    }

    /// What one changing call does, and what becomes of its answer.
    fn answer<T>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&mut State) -> Result<T, StepError>,
    ) -> Answer<T> {
        let at_once = |error| Answer::After(Duration::ZERO, Err(error));
        let mut state = self.state();
        state.pass_to(cx.now());
        let call = format!("{operation} {name}");
        if state.blocked.contains(&call) {
            return at_once(StepError::permanent(operation).with_code("refused"));
        }
        let mishap = state.next_mishap(&call);
        match mishap {
            Some(Mishap::Before) => return at_once(StepError::retry(operation)),
            Some(Mishap::Refuse) => {
                return at_once(StepError::permanent(operation).with_code("refused"));
            }
            Some(Mishap::Throttle) => {
                let (bucket, after) = ("world".to_owned(), Duration::from_secs(7));
                let verdict = Verdict::Throttled { bucket, after };
                return at_once(StepError::new(Effect::None, verdict, operation));
            }
            Some(Mishap::Panic) => {
                drop(state);
                panic!("as planned");
            }
            Some(Mishap::Late(by)) => state.late = Some(by),
            Some(Mishap::After) | None => {}
        }
        let done = work(&mut state);
        state.late = None;
        let kills = state.deadly.contains(&call);
        let late = state.slow.get(&call).copied().unwrap_or_default();
        if done.is_ok() {
            state.log.push(call);
        }
        self.keep(&state);
        match mishap {
            _ if kills => Answer::Never,
            Some(Mishap::After | Mishap::Late(_)) => at_once(StepError::unknown(operation)),
            _ => Answer::After(late, done),
        }
    }

    /// Makes one call that only looks.
    pub(super) async fn look<T: Send>(
        &self,
        cx: &StepContext,
        operation: &'static str,
        work: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, StepError> {
        let sent = async {
            let mut state = self.state();
            state.pass_to(cx.now());
            let seen = work(&mut state);
            self.keep(&state);
            Ok(seen)
        };
        cx.call(&Call::read(operation), sent).await
    }

    fn keep(&self, state: &State) {
        if let Some(file) = &self.file {
            state::save(file, state).expect("the world's file is written");
        }
    }
}

impl Outside for World {
    fn settle(&self) {
        let mut state = self.state();
        state.land_all();
        self.keep(&state);
    }

    fn resources(&self) -> Vec<Owned> {
        self.state().owned(true)
    }

    fn effects(&self) -> Vec<String> {
        self.state().effects()
    }

    fn told(&self) -> BTreeSet<String> {
        self.state().told.clone()
    }

    fn landed(&self, mark: &OwnerMark) -> Option<u32> {
        Some(self.state().landed(mark))
    }

    fn secrets(&self) -> Vec<String> {
        self.state().secrets.clone()
    }

    async fn kills(&self) {
        self.killed.notified().await;
    }
}
