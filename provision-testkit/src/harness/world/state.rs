//! What the cloud holds, as plain data: computed on, saved and loaded, never awaited.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use provision_core::{Owned, OwnerMark, StepError, Timestamp};
use serde::{Deserialize, Serialize};

use super::Mishap;

/// One thing that exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) mark: Option<OwnerMark>,
    /// The idempotency key it was made with.
    pub(super) key: Option<String>,
    pub(super) made_at: Timestamp,
    /// Look-ups do not see it before.
    pub(super) seen_from: Timestamp,
    pub(super) polls: u32,
}

/// What a create asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) name: String,
    pub(super) mark: OwnerMark,
    pub(super) key: Option<String>,
    /// The provider refuses a second one of the same name.
    pub(super) unique: bool,
    /// It takes the place of what was made under the same mark, and is no second one.
    pub(super) replaces: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(super) things: BTreeMap<String, Kept>,
    /// Creates that are still under way.
    under_way: Vec<(Timestamp, Wish)>,
    /// Effects of plain steps; a name that stands twice is there twice.
    pub(super) entries: Vec<String>,
    /// Tokens issued and not revoked: name and value.
    pub(super) tokens: BTreeMap<String, String>,
    /// What was told, once or oftener.
    pub(super) told: BTreeSet<String>,
    /// Calls that are refused until they are allowed again.
    pub(super) blocked: BTreeSet<String>,
    /// Calls that kill who makes them until they are allowed again.
    pub(super) deadly: BTreeSet<String>,
    /// By how much the answers of calls are late.
    pub(super) slow: BTreeMap<String, Duration>,
    landed: BTreeMap<String, u32>,
    pub(super) log: Vec<String>,
    pub(super) secrets: Vec<String>,
    /// Drawn values by the idempotency key they came with, and for what.
    drawn: BTreeMap<String, (String, BTreeSet<String>)>,
    pub(super) lag: Duration,
    now: Timestamp,
    next: u32,
    #[serde(skip)]
    plans: BTreeMap<String, VecDeque<Mishap>>,
    /// Set while a call is made that lands late.
    #[serde(skip)]
    pub(super) late: Option<Duration>,
}

impl State {
    pub(super) fn plan(&mut self, call: &str, mishaps: impl IntoIterator<Item = Mishap>) {
        self.plans.entry(call.to_owned()).or_default().extend(mishaps);
    }

    pub(super) fn next_mishap(&mut self, call: &str) -> Option<Mishap> {
        self.plans.get_mut(call).and_then(VecDeque::pop_front)
    }

    /// Moves time on; requests whose moment has come land.
    pub(super) fn pass_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.under_way).into_iter().partition(|w| w.0 <= now);
        self.under_way = rest;
        self.land(due);
    }

    /// Every request that is under way lands now.
    pub(super) fn land_all(&mut self) {
        let due = std::mem::take(&mut self.under_way);
        self.land(due);
        self.lag = Duration::ZERO;
    }

    fn land(&mut self, due: Vec<(Timestamp, Wish)>) {
        for (_, wish) in due {
            // Nobody waits for the answer any more.
            let _ = self.make(&wish);
        }
    }

    /// Creates now, or later when the call is one that lands late.
    pub(super) fn create(&mut self, wish: Wish) -> Result<String, StepError> {
        match self.late {
            Some(by) => {
                self.under_way.push((self.now.plus(by), wish));
                Ok(String::new())
            }
            None => self.make(&wish),
        }
    }

    fn make(&mut self, wish: &Wish) -> Result<String, StepError> {
        let known = |kept: &Kept| wish.key.is_some() && kept.key == wish.key;
        if let Some((id, _)) = self.things.iter().find(|(_, kept)| known(kept)) {
            return Ok(id.clone());
        }
        if wish.unique && self.things.values().any(|kept| kept.name == wish.name) {
            return Err(StepError::retry("create").with_code("name_taken"));
        }
        if wish.replaces {
            self.things.retain(|_, kept| kept.mark.as_ref() != Some(&wish.mark));
            self.landed.remove(&wish.mark.to_string());
        }
        self.next += 1;
        let id = format!("t-{}", self.next);
        *self.landed.entry(wish.mark.to_string()).or_default() += 1;
        let kept = Kept {
            name: wish.name.clone(),
            mark: Some(wish.mark.clone()),
            key: wish.key.clone(),
            made_at: self.now,
            seen_from: self.now.plus(self.lag),
            polls: 0,
        };
        self.things.insert(id.clone(), kept);
        Ok(id)
    }

    pub(super) fn put_foreign(&mut self, name: &str) {
        let kept = Kept {
            name: name.to_owned(),
            mark: None,
            key: None,
            made_at: Timestamp::ZERO,
            seen_from: Timestamp::ZERO,
            polls: 0,
        };
        self.things.insert(format!("f-{name}"), kept);
    }

    /// What look-ups see of a name now.
    pub(super) fn seen(&self, name: &str) -> Vec<(&String, &Kept)> {
        let seen = |kept: &Kept| kept.name == name && kept.seen_from <= self.now;
        self.things.iter().filter(|(_, kept)| seen(kept)).collect()
    }

    /// Everything that carries a mark: all of it, or what listings show now.
    pub(super) fn owned(&self, all: bool) -> Vec<Owned> {
        let listed = |kept: &Kept| kept.mark.is_some() && (all || kept.seen_from <= self.now);
        let marked = self.things.iter().filter(|(_, kept)| listed(kept));
        marked
            .map(|(id, kept)| {
                Owned::new(id.as_str()).with_name(&*kept.name).with_mark(kept.mark.clone())
            })
            .collect()
    }

    pub(super) fn effects(&self) -> Vec<String> {
        let mut effects = self.entries.clone();
        effects.extend(self.tokens.keys().map(|name| format!("token {name}")));
        let oftener = self.drawn.values().filter(|(_, values)| values.len() > 1);
        effects.extend(oftener.map(|(name, values)| format!("{} values of {name}", values.len())));
        effects.sort();
        effects
    }

    pub(super) fn landed(&self, mark: &OwnerMark) -> u32 {
        self.landed.get(&mark.to_string()).copied().unwrap_or(0)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.things.values().map(|kept| kept.name.clone()).collect()
    }

    pub(super) fn calls(&self, call: &str) -> u32 {
        u32::try_from(self.log.iter().filter(|line| *line == call).count()).unwrap_or(u32::MAX)
    }

    /// Takes a value that its caller has drawn; one key comes with one value.
    pub(super) fn take(&mut self, name: &str, key: &str, value: &str) {
        let none = || (name.to_owned(), BTreeSet::new());
        let (_, values) = self.drawn.entry(key.to_owned()).or_insert_with(none);
        values.insert(value.to_owned());
        self.secrets.push(value.to_owned());
    }

    /// Issues a new value under a name; the old one is worthless from then on.
    pub(super) fn issue(&mut self, name: &str, value: &str) {
        self.tokens.insert(name.to_owned(), value.to_owned());
        self.secrets.push(value.to_owned());
    }
}

pub(super) fn load(path: &Path) -> io::Result<State> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

/// Writes beside the file, syncs, and renames: a kill leaves the old file or the new one.
pub(super) fn save(path: &Path, state: &State) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
