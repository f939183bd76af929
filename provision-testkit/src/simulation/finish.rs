//! The comparisons that no single moment shows: the store against what was acknowledged, the
//! inventory against ledger and journal.

use std::collections::BTreeMap;

use provision_core::{
    Effect, LedgerRow, Origin, ResourceState, RunId, RunStatus, Timestamp,
    ledger::{LedgerOp, LedgerQuery, LedgerReply},
    store::StateStore,
};

use super::{
    account::{Ahead, Back},
    scenario::Stage,
    shape::Naming,
    state::State,
};

type Rows = BTreeMap<(RunId, String, u32, u32), LedgerRow>;

impl Stage {
    async fn rows(&self) -> Rows {
        let query = LedgerQuery { limit: usize::MAX, ..LedgerQuery::default() };
        let replies = self.memory.ledger(&[LedgerOp::Query(query)]).await;
        let rows = replies.expect("the memory store is there").into_iter().flat_map(|r| match r {
            LedgerReply::Rows(rows) => rows,
            LedgerReply::Sightings(_) | LedgerReply::Changed(_) => Vec::new(),
        });
        rows.map(|row| ((row.run, row.path.clone(), row.generation, row.index), row)).collect()
    }

    /// The ledger holds what was acknowledged, at every moment.
    pub(super) async fn audit(&self) {
        let rows = self.rows().await;
        self.sim.with(|state, now| {
            state.settle(now);
            let plain = |row: &LedgerRow| LedgerRow { watch_at: None, ..row.clone() };
            let lost = state
                .witness
                .ledger
                .iter()
                .find(|(key, row)| rows.get(*key).map(plain).as_ref() != Some(&plain(row)));
            if let Some(((_, path, generation, _), _)) = lost {
                let what = format!("the ledger has lost {path}, generation {generation}");
                state.violated(now, "S4", what);
            }
        });
    }

    /// Compares everything with everything once nothing moves any more.
    pub(super) async fn check_end(&self) {
        self.audit().await;
        let ids: Vec<RunId> =
            self.sim.with(|state, _| state.witness.runs.keys().copied().collect());
        let records = self.memory.load(&ids).await.expect("the memory store is there");
        let rows = self.rows().await;
        self.sim.with(|state, now| {
            for (id, record) in ids.iter().zip(&records) {
                match record {
                    Some(record) => state.compare(now, record),
                    None => state.violated(now, "S1", format!("{id} is gone")),
                }
            }
            for id in &ids {
                state.check_run(now, *id, &rows);
            }
            state.check_foreign(now);
        });
    }
}

impl State {
    /// A start was answered: from now on the run exists for ever.
    pub(super) fn acknowledged(&mut self, now: Timestamp, key: &str, run: RunId) {
        self.say(now, || format!("{key} is {run}"));
        if self.witness.keys.get(key) != Some(&run) || !self.witness.runs.contains_key(&run) {
            self.violated(now, "S1", format!("{key} is said to be {run}"));
        }
    }

    fn check_foreign(&mut self, now: Timestamp) {
        let first = self.world.foreign;
        let left = self.world.items.values().filter(|item| item.made_by.is_none()).count();
        if left != first {
            let what = format!("{left} of {first} foreign resources are left");
            self.violated(now, "S11", what);
        }
    }

    fn check_run(&mut self, now: Timestamp, id: RunId, rows: &Rows) {
        let mut found = Vec::new();
        if let Some(run) = self.witness.runs.get(&id) {
            self.check_items(id, run.status, rows, &mut found);
            self.check_rows(id, rows, &mut found);
            self.check_acts(id, &mut found);
            let row_of = |path: &str, generation| rows.get(&(id, path.to_owned(), generation, 0));
            run.account.check_ledger(row_of, &mut found);
            if let Some(status) = run.account.ended.filter(|status| *status != run.status) {
                found
                    .push(("S3", format!("the row says {:?}, the journal {status:?}", run.status)));
            }
        }
        for (invariant, what) in found {
            self.violated(now, invariant, format!("at the end, run {id}: {what}"));
        }
    }

    /// Whatever exists because of a run is known by the ledger, and wanted.
    fn check_items(
        &self,
        id: RunId,
        status: RunStatus,
        rows: &Rows,
        found: &mut Vec<(&'static str, String)>,
    ) {
        for (name, item) in &self.world.items {
            let Some((_, path, _)) = item.made_by.as_ref().filter(|(run, ..)| *run == id) else {
                continue;
            };
            let of_step = rows.values().filter(|row| row.run == id && row.path == *path);
            let known = of_step.clone().any(|row| {
                row.state == ResourceState::Alive
                    && row.external_id.as_ref().is_some_and(|known| known.as_str() == name)
            });
            // A parked run may stand in the middle of an undo, which then goes on with a look.
            let parked = status == RunStatus::Parked;
            let open = parked
                && of_step.clone().any(|row| match row.state {
                    ResourceState::Unknown => true,
                    ResourceState::Alive => row.suspect,
                    ResourceState::Gone | ResourceState::LeftBehind => false,
                });
            let removed = matches!(status, RunStatus::RolledBack | RunStatus::TornDown);
            if removed || !(known || open) {
                found.push(("S15", format!("{name} of {path} is left at the end {status:?}")));
            }
        }
    }

    /// Whatever the ledger calls alive exists.
    fn check_rows(&self, id: RunId, rows: &Rows, found: &mut Vec<(&'static str, String)>) {
        let alive = rows.values().filter(|row| {
            row.run == id && row.state == ResourceState::Alive && row.origin == Origin::Created
        });
        for row in alive {
            let Some(external) = &row.external_id else { continue };
            let undoing =
                self.witness.runs.get(&id).and_then(|run| run.account.steps.get(&row.path));
            let half_gone = undoing.is_some_and(|step| step.back != Back::None);
            if !self.world.items.contains_key(external.as_str()) && !half_gone {
                found.push((
                    "S15",
                    format!("{external} of {} is alive in the ledger only", row.path),
                ));
            }
        }
    }

    /// Effects of plain steps stand where the journal says so.
    fn check_acts(&self, id: RunId, found: &mut Vec<(&'static str, String)>) {
        let Some(run) = self.witness.runs.get(&id) else { return };
        let account = &run.account;
        for (_, path, generation) in self.world.acts.iter().filter(|(run, ..)| *run == id) {
            let step = account.steps.get(path);
            let stands = account.standing(path) != Effect::None;
            if !stands || step.is_none_or(|step| step.generation != *generation) {
                found.push(("S15", format!("the effect of {path} is left at the end")));
            }
        }
        for (path, step) in &account.steps {
            let plain = account.is_plain(path);
            let done = step.ahead == Ahead::Succeeded && step.back == Back::None;
            let place = (id, path.clone(), step.generation);
            if plain && done && !self.world.acts.contains(&place) {
                found.push(("S8", format!("{path} succeeded and its effect is not there")));
            }
            let lost = account.naming(path) == Some(Naming::Lost);
            if lost && step.ahead == Ahead::Succeeded && step.noted.is_empty() {
                found.push(("S9", format!("{path} succeeded without an id")));
            }
        }
    }
}
