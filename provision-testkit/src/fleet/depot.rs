//! A provider that several processes share: a folder with a file for each thing.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use provision_core::{
    Call, ExternalId, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness, Resource,
    RunId, StepContext, StepError, Timestamp, Timing,
    clock::{Clock as _, SystemClock, sleep},
    resource::Candidate,
};
use serde::{Deserialize, Serialize};

/// What a client orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its name; boxes of other runs may have the same.
    pub name: String,
    /// How long the first create of this name takes before it is carried out, in milliseconds.
    pub before_ms: u64,
    /// How long its answer takes after that, in milliseconds.
    pub after_ms: u64,
}

impl Order {
    /// One that is carried out and answered at once.
    #[must_use]
    pub fn prompt(name: impl Into<String>) -> Self {
        Self { name: name.into(), before_ms: 0, after_ms: 0 }
    }

    /// The first create of it is carried out so much later.
    #[must_use]
    pub fn late(name: impl Into<String>, by: Duration) -> Self {
        Self { before_ms: millis(by), ..Self::prompt(name) }
    }

    /// The first create of it is answered so long after it was carried out.
    #[must_use]
    pub fn unanswered(name: impl Into<String>, by: Duration) -> Self {
        Self { after_ms: millis(by), ..Self::prompt(name) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    name: String,
    mark: OwnerMark,
}

/// The provider. It carries out what it is asked for by a rename or a removal, so that a process
/// that dies leaves it whole.
#[derive(Debug, Clone)]
pub struct Depot {
    folder: Arc<Path>,
}

impl Depot {
    /// The provider of a folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        for part in ["boxes", "drafts", "held"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { folder: folder.into() }
    }

    /// How many boxes of each name there are.
    #[must_use]
    pub fn boxes(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for (_, kept) in self.all() {
            *count.entry(kept.name).or_default() += 1;
        }
        count
    }

    /// How many boxes each run has made.
    #[must_use]
    pub fn by_run(&self) -> BTreeMap<RunId, usize> {
        let mut count = BTreeMap::new();
        for (_, kept) in self.all() {
            *count.entry(kept.mark.run()).or_default() += 1;
        }
        count
    }

    /// Whether the first create of a name is under way, or has been.
    #[must_use]
    pub fn is_held(&self, name: &str) -> bool {
        self.folder.join("held").join(name).exists()
    }

    /// What was asked for, in order: the word, the name, and when by the machine's clock.
    #[must_use]
    pub fn log(&self) -> Vec<(String, String, Timestamp)> {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            (word(), word(), Timestamp::from_millis(word().parse().unwrap()))
        };
        text.lines().map(line).collect()
    }

    fn note(&self, word: &str, name: &str) {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(self.folder.join("log")).unwrap();
        let line = format!("{word} {name} {}\n", SystemClock.wall().as_millis());
        file.write_all(line.as_bytes()).unwrap();
    }

    fn all(&self) -> Vec<(ExternalId, Kept)> {
        self.all_of("")
    }

    /// Those whose id begins so: an id begins with that of the run that made it.
    fn all_of(&self, beginning: &str) -> Vec<(ExternalId, Kept)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.folder.join("boxes")).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with(beginning) {
                continue;
            }
            match fs::read(entry.path()) {
                Ok(text) => {
                    let id = ExternalId::new(entry.file_name().to_string_lossy());
                    all.push((id, serde_json::from_slice(&text).unwrap()));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
        }
        all
    }

    fn path(&self, id: &ExternalId) -> PathBuf {
        self.folder.join("boxes").join(id.as_str())
    }

    /// Whether this is the first create of a name.
    fn is_first(&self, name: &str) -> bool {
        let path = self.folder.join("held").join(name);
        OpenOptions::new().create_new(true).write(true).open(path).is_ok()
    }
}

impl Resource for Depot {
    const KIND: &'static str = "depot.box";
    type Spec = Order;
    type Output = String;

    fn identity(&self, _: &Order) -> Identity {
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, order: &Order) -> Result<Found, StepError> {
        self.note("find", &order.name);
        let mark = cx.mark();
        let of_run = self.all_of(&format!("{}_", mark.run()));
        let mut ours = of_run.into_iter().filter(|(_, kept)| kept.mark == mark);
        let Some((first, _)) = ours.next() else { return Ok(Found::Absent) };
        let others: Vec<_> = ours.collect();
        if others.is_empty() {
            return Ok(Found::Ours(first));
        }
        let ids = others.into_iter().map(|(id, _)| id).chain([first]);
        let candidate = |id| Candidate { id, marked: true, created_at: None };
        Ok(Found::Many(ids.map(candidate).collect()))
    }

    async fn create(
        &self,
        cx: &StepContext,
        order: &Order,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let kept = Kept { name: order.name.clone(), mark: intent.mark().clone() };
        let first = self.is_first(&order.name);
        cx.call(&Call::mutate("create a box"), async {
            if first {
                sleep(Duration::from_millis(order.before_ms)).await;
            }
            let id = format!("{}_{}", kept.mark.run(), uuid::Uuid::now_v7());
            let id = ExternalId::new(id);
            let draft = self.folder.join("drafts").join(id.as_str());
            fs::write(&draft, serde_json::to_vec(&kept).unwrap()).unwrap();
            fs::rename(draft, self.path(&id)).unwrap();
            self.note("create", &order.name);
            if first {
                sleep(Duration::from_millis(order.after_ms)).await;
            }
            Ok(id)
        })
        .await
    }

    async fn ready(
        &self,
        _: &StepContext,
        _: &Order,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        match self.path(id).exists() {
            true => Ok(Readiness::Ready(id.to_string())),
            false => Ok(Readiness::Broken { code: "gone".into() }),
        }
    }

    async fn delete(
        &self,
        cx: &StepContext,
        order: &Order,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        cx.call(&Call::mutate("delete a box"), async {
            drop(fs::remove_file(self.path(id)));
            self.note("delete", &order.name);
            Ok(())
        })
        .await
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        let owned = |(id, kept): (ExternalId, Kept)| Owned::new(id).with_mark(Some(kept.mark));
        Ok(self.all().into_iter().map(owned).collect())
    }

    fn timing(&self) -> Timing {
        // A process that stands still for as long as a call may last has sent nothing since.
        Timing {
            late_window: Duration::from_millis(200),
            listing_lag: Duration::ZERO,
            ..Timing::default()
        }
    }
}
