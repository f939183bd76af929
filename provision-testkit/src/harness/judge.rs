//! Compares what exists with what the ledger and the journal say, when a run is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use provision_core::{
    CallKind, Engine, ExternalId, LedgerQuery, LedgerRow, Origin, Owned, OwnerMark, ResourceState,
    RunId, RunStatus,
    run::journal::{Direction, Finding, Order, Record},
    store::{RunFilter, RunHead, RunRecord, StateStore},
};

use super::{Outside, canary, trace::Seen};

/// How a script ends where nothing crashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: RunStatus,
    pub(super) effects: Vec<String>,
    pub(super) told: BTreeSet<String>,
    /// What may have been told besides.
    pub(super) may_be_told: BTreeSet<String>,
    pub(super) phase: Option<String>,
}

impl Expected {
    /// An end that shows nothing but its status.
    pub(super) fn of(status: RunStatus) -> Self {
        let (told, may_be_told) = Default::default();
        Self { status, effects: Vec::new(), told, may_be_told, phase: None }
    }

    /// The same end, where this may have been told besides.
    pub(super) fn allowing(&self, told: &BTreeSet<String>) -> Self {
        Self { may_be_told: told.clone(), ..self.clone() }
    }

    /// Whether what was found is this end.
    pub(super) fn is(&self, found: &Self) -> bool {
        let same = self.status == found.status && self.phase == found.phase;
        same && self.effects == found.effects && self.told_fits(found)
    }

    fn told_fits(&self, found: &Self) -> bool {
        let known = |told| self.told.contains(told) || self.may_be_told.contains(told);
        self.told.is_subset(&found.told) && found.told.iter().all(known)
    }
}

/// Everything that is known when a scenario is over.
#[derive(Debug)]
pub(super) struct Facts {
    main: RunId,
    runs: Vec<(RunRecord, Vec<Record>)>,
    rows: Vec<LedgerRow>,
    resources: Vec<Owned>,
    effects: Vec<String>,
    told: BTreeSet<String>,
    seen: Vec<Seen>,
    /// What people may read of the runs.
    texts: Vec<(&'static str, String)>,
    /// What is stored, as it lies on the disk.
    pub(super) bytes: Vec<u8>,
    /// Whether the phase says the same in every run: where steps call one after another it is that
    /// of whichever began last.
    pub(super) has_phase: bool,
    unreadable: Vec<String>,
}

/// Created resources by run, path and id.
type Named = BTreeSet<(RunId, String, ExternalId)>;

impl Facts {
    pub(super) async fn gather(engine: &Engine, store: &dyn StateStore, main: RunId) -> Self {
        let mut facts = Self {
            main,
            runs: Vec::new(),
            rows: Vec::new(),
            resources: Vec::new(),
            effects: Vec::new(),
            told: BTreeSet::new(),
            seen: Vec::new(),
            texts: Vec::new(),
            bytes: Vec::new(),
            has_phase: true,
            unreadable: Vec::new(),
        };
        let runs = store.list(&RunFilter { limit: 1_000, ..RunFilter::default() }).await;
        let ids: Vec<RunId> = runs.expect("runs are listed").runs.iter().map(|r| r.id).collect();
        for record in store.load(&ids).await.expect("runs are loaded").into_iter().flatten() {
            let mut records = Vec::new();
            for frame in &record.frames {
                match Record::decode(&frame.body) {
                    Ok(more) => records.extend(more),
                    Err(error) => facts.unreadable.push(format!("frame {}: {error}", frame.seq)),
                }
            }
            facts.read(engine, &record).await;
            facts.runs.push((record, records));
        }
        facts.rows = engine.ledger(&LedgerQuery::default()).await.expect("the ledger is read");
        facts.texts.push(("the ledger", format!("{:?}", facts.rows)));
        facts
    }

    /// Keeps everything that people may read of a run.
    async fn read(&mut self, engine: &Engine, record: &RunRecord) {
        let id = &record.head.id;
        self.texts.push(("the row of the run", format!("{:?}", record.head)));
        for frame in &record.frames {
            self.texts.push(("the journal", frame.body.to_string()));
        }
        match engine.snapshot(id).await {
            Ok(snapshot) => self.texts.push(("the snapshot", format!("{snapshot:?}"))),
            Err(error) => self.unreadable.push(format!("snapshot: {error}")),
        }
        match engine.failures(id).await {
            Ok(failures) => self.texts.push(("the failures", format!("{failures:?}"))),
            Err(error) => self.unreadable.push(format!("failures: {error}")),
        }
        let mut events = engine.watch(id, 0);
        while let Ok(Some(event)) = events.next().await {
            self.texts.push(("an event", format!("{event:?}")));
        }
    }

    pub(super) fn look_outside(&mut self, world: &impl Outside, seen: Vec<Seen>) {
        self.resources = world.resources();
        self.effects = world.effects();
        self.effects.sort();
        self.told = world.told();
        self.seen = seen;
    }

    /// How it ended.
    pub(super) fn found(&self) -> Expected {
        let head = self.head();
        Expected {
            status: self.status(),
            effects: self.effects.clone(),
            told: self.told.clone(),
            may_be_told: BTreeSet::new(),
            phase: head.filter(|_| self.has_phase).and_then(|head| head.summary.phase.clone()),
        }
    }

    fn head(&self) -> Option<&RunHead> {
        let main = self.runs.iter().find(|(record, _)| record.head.id == self.main);
        main.map(|(record, _)| &record.head)
    }

    fn status(&self) -> RunStatus {
        self.head().map_or(RunStatus::Parked, |head| head.status)
    }

    /// Everything that is wrong, in words.
    pub(super) fn judge(&self, world: &impl Outside, expected: &[Expected]) -> Vec<String> {
        let mut flaws = self.unreadable.clone();
        let found = self.found();
        let fits = expected.iter().any(|end| end.is(&found));
        if let (false, Some(first)) = (fits, expected.first()) {
            let same = expected.iter().find(|end| end.status == found.status);
            self.compare_end(&found, same.unwrap_or(first), &mut flaws);
        }
        self.compare_inventory(&mut flaws);
        self.count_landings(world, &mut flaws);
        self.look_clean(&mut flaws);
        for (record, records) in &self.runs {
            repeated(record.head.id, records, &mut flaws);
        }
        self.follow_calls(&mut flaws);
        self.look_for_secrets(&world.secrets(), &mut flaws);
        flaws
    }

    fn compare_end(&self, found: &Expected, expected: &Expected, flaws: &mut Vec<String>) {
        if found.status != expected.status {
            let failures: Vec<_> =
                self.runs.iter().filter_map(|(r, _)| r.head.summary.failure.as_ref()).collect();
            flaws.push(format!(
                "it ended {}, not {}: {failures:?}",
                self.status().as_str(),
                expected.status.as_str(),
            ));
        }
        if found.effects != expected.effects {
            let (found, expected) = (&found.effects, &expected.effects);
            flaws.push(format!("effects of plain steps are {found:?}, not {expected:?}"));
        }
        if !expected.told_fits(found) {
            let (found, expected) = (&found.told, &expected.told);
            flaws.push(format!("what was told is {found:?}, not {expected:?}"));
        }
        if found.phase != expected.phase {
            let (found, expected) = (&found.phase, &expected.phase);
            flaws.push(format!("its phase is {found:?}, not {expected:?}"));
        }
    }

    /// What exists, what the ledger knows as alive or given up, and what the journal noted are the
    /// same.
    fn compare_inventory(&self, flaws: &mut Vec<String>) {
        let (alive, given_up) = (ResourceState::Alive, ResourceState::LeftBehind);
        let there = |row: &&LedgerRow| {
            (row.state == alive || row.state == given_up) && row.origin == Origin::Created
        };
        let named = |row: &LedgerRow| Some((row.run, row.path.clone(), row.external_id.clone()?));
        let ledger: Named = self.rows.iter().filter(there).filter_map(named).collect();
        let journal: Named =
            self.runs.iter().flat_map(|(r, records)| noted(r.head.id, records)).collect();
        for (_, path, id) in journal.difference(&ledger) {
            flaws.push(format!("the journal noted {id} of `{path}`, the ledger does not know it"));
        }
        for (_, path, id) in ledger.difference(&journal) {
            flaws.push(format!("the ledger knows {id} of `{path}`, the journal did not note it"));
        }
        let known: BTreeSet<&ExternalId> = ledger.iter().map(|(.., id)| id).collect();
        let there: BTreeSet<&ExternalId> = self.resources.iter().map(|owned| &owned.id).collect();
        let sure = self.rows.iter().filter(|row| row.state == alive);
        let sure: BTreeSet<&ExternalId> = sure
            .filter_map(|row| row.external_id.as_ref())
            .filter(|id| known.contains(id))
            .collect();
        for id in sure.difference(&there) {
            flaws.push(format!("lost: the ledger knows {id} as alive, and it does not exist"));
        }
        for owned in self.resources.iter().filter(|owned| !known.contains(&owned.id)) {
            flaws.push(format!("leaked: {} exists ({:?}), nobody knows it", owned.id, owned.name));
        }
        for row in self.rows.iter().filter(|row| row.state == ResourceState::Unknown) {
            flaws.push(format!("the row of `{}` is still unknown at the end", row.path));
        }
    }

    /// S9: no second effect of a generation, and no two of one mark.
    fn count_landings(&self, world: &impl Outside, flaws: &mut Vec<String>) {
        let mut by_mark: HashMap<&OwnerMark, u32> = HashMap::new();
        for mark in self.resources.iter().filter_map(|owned| owned.mark.as_ref()) {
            *by_mark.entry(mark).or_default() += 1;
        }
        for (mark, count) in by_mark.into_iter().filter(|(_, count)| *count > 1) {
            flaws.push(format!("doubled: {count} resources of {mark} exist"));
        }
        for (record, records) in &self.runs {
            for (path, generations) in generations(records) {
                let mark = OwnerMark::new(record.head.id, &path);
                let landed = world.landed(&mark).unwrap_or(0);
                if landed > generations {
                    flaws.push(format!(
                        "doubled: `{path}` was created {landed} times in {generations} generations"
                    ));
                }
            }
        }
    }

    /// S15: what ended as rolled back or torn down left nothing.
    fn look_clean(&self, flaws: &mut Vec<String>) {
        let clean = |status| matches!(status, RunStatus::RolledBack | RunStatus::TornDown);
        for (record, _) in self.runs.iter().filter(|(record, _)| clean(record.head.status)) {
            let (run, status) = (record.head.id, record.head.status.as_str());
            let left = self
                .resources
                .iter()
                .filter(|owned| owned.mark.as_ref().is_some_and(|mark| mark.run() == run));
            for owned in left {
                flaws.push(format!("{status}, and {} is left", owned.id));
            }
        }
        if clean(self.status()) && !self.effects.is_empty() {
            flaws.push(format!("{}, and {:?} is left", self.status().as_str(), self.effects));
        }
    }

    /// S4 and S8, as seen at the seams: nothing changing is sent before it is written down, and
    /// nothing of a step that is done.
    fn follow_calls(&self, flaws: &mut Vec<String>) {
        let resources: BTreeSet<(RunId, &str)> = self
            .runs
            .iter()
            .flat_map(|(r, records)| {
                let run = r.head.id;
                records.iter().filter_map(move |record| match record {
                    Record::Intent { path, .. } => Some((run, &**path)),
                    _ => None,
                })
            })
            .collect();
        let mut steps: HashMap<(RunId, String), Step> = HashMap::new();
        for seen in &self.seen {
            match seen {
                Seen::Ended => {}
                Seen::Appended(run, records) => {
                    for record in records {
                        follow(*run, record, &mut steps);
                    }
                }
                Seen::Sending(run, path, kind) => {
                    let step = steps.get(&(*run, path.clone())).copied().unwrap_or_default();
                    if step.done && !step.undoing {
                        flaws.push(format!("`{path}` was done and is called again"));
                    }
                    let changes = *kind == CallKind::Mutate;
                    if changes && !step.started {
                        flaws.push(format!("`{path}` changes something before `started`"));
                    }
                    let resource = resources.contains(&(*run, path.as_str()));
                    if changes && resource && !step.intended && !step.undoing {
                        flaws.push(format!("`{path}` changes something before its intent"));
                    }
                }
            }
        }
    }

    fn look_for_secrets(&self, secrets: &[String], flaws: &mut Vec<String>) {
        let forms: Vec<_> = secrets.iter().map(|secret| canary::encodings(secret)).collect();
        for (place, text) in &self.texts {
            flaws.extend(canary::find(&forms, place, text));
        }
        let stored = String::from_utf8_lossy(&self.bytes);
        flaws.extend(canary::find(&forms, "the stored bytes", &stored));
    }
}

/// A step as its records tell it.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a record that was seen or was not")]
struct Step {
    generation: u32,
    started: bool,
    intended: bool,
    done: bool,
    undoing: bool,
}

fn follow(run: RunId, record: &Record, steps: &mut HashMap<(RunId, String), Step>) {
    let mut step = |path: &str, change: fn(&mut Step)| {
        change(steps.entry((run, path.to_owned())).or_default());
    };
    match record {
        Record::Started { path, dir: Direction::Forward, generation, .. } => {
            let step = steps.entry((run, path.to_string())).or_default();
            if *generation > step.generation {
                *step = Step { generation: *generation, ..Step::default() };
            }
            step.started = true;
        }
        Record::Started { path, dir: Direction::Undo, .. } => {
            step(path, |s| (s.started, s.undoing) = (true, true));
        }
        Record::Intent { path, .. } => step(path, |s| s.intended = true),
        Record::Succeeded { path, dir: Direction::Forward, .. } => step(path, |s| s.done = true),
        Record::Renewed { path, .. } => step(path, |s| *s = Step::default()),
        _ => {}
    }
}

/// Ids that a run created and has not given up, as its journal tells it.
fn noted(run: RunId, records: &[Record]) -> Named {
    let mut ids: BTreeMap<String, BTreeSet<ExternalId>> = BTreeMap::new();
    for record in records {
        match record {
            Record::Noted { path, id, origin: Origin::Created } => {
                ids.entry(path.to_string()).or_default().insert(id.clone());
            }
            Record::Ordered { order: Order::Found { path, finding }, .. } => {
                let known = ids.entry(path.clone()).or_default();
                match finding {
                    Finding::Ours(id) => {
                        known.insert(id.clone());
                    }
                    Finding::Absent => known.clear(),
                }
            }
            Record::Succeeded { path, dir: Direction::Undo, .. }
            | Record::Renewed { path, .. }
            | Record::Resolved { path, finding: Finding::Absent } => {
                ids.remove(&**path);
            }
            _ => {}
        }
    }
    let flat =
        ids.into_iter().flat_map(|(path, ids)| ids.into_iter().map(move |id| (path.clone(), id)));
    flat.map(|(path, id)| (run, path, id)).collect()
}

/// How many generations each resource had.
fn generations(records: &[Record]) -> BTreeMap<String, u32> {
    let mut generations = BTreeMap::new();
    for record in records {
        match record {
            Record::Intent { path, .. } => {
                generations.entry(path.to_string()).or_insert(1);
            }
            Record::Started { path, generation, .. } | Record::Renewed { path, generation, .. } => {
                generations.insert(path.to_string(), *generation);
            }
            _ => {}
        }
    }
    generations
}

/// S8 in the journal: a step that is done neither starts again nor succeeds again.
fn repeated(run: RunId, records: &[Record], flaws: &mut Vec<String>) {
    let (mut begun, mut done) = (BTreeMap::new(), BTreeSet::new());
    for record in records {
        match record {
            Record::Started { path, dir: Direction::Forward, generation, .. } => {
                if begun.insert(&**path, *generation) != Some(*generation) {
                    done.remove(&**path);
                } else if done.contains(&**path) {
                    flaws.push(format!("`{path}` of {run} was done and started again"));
                }
            }
            Record::Succeeded { path, dir: Direction::Forward, .. } if !done.insert(&**path) => {
                flaws.push(format!("`{path}` of {run} succeeded twice"));
            }
            Record::Ordered { order: Order::ResolveAs { path, .. }, .. } => {
                done.insert(path.as_str());
            }
            Record::Renewed { path, .. } => {
                done.remove(&**path);
            }
            _ => {}
        }
    }
}
