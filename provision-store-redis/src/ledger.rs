//! The ledger: rows, names, sightings, the watch.

use provision_core::{
    error::StoreError,
    id::{ExternalId, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, ResourceState, Sighting},
};
use redis::Value;

use crate::{
    args::Args,
    error::bad_row,
    keys::Reach,
    reply::{Reply, changed, number, texts},
    rows::{hex, json, parsed, run_key},
    scripts::{self, Script},
    store::RedisStore,
};

/// Rows a query answers when it names no limit, and the most it ever answers.
const ROWS_DEFAULT: usize = 1_000;
const ROWS_MAX: usize = 10_000;
/// Rows looked at in one call.
const STRETCH: usize = 1_000;

/// The key of a row, which sorts by run, path, generation and index.
fn row_key(run: &RunId, path: &str, generation: u32, index: u32) -> String {
    format!("{}.{}.{generation:010}.{index:010}", run_key(run), hex(path))
}

fn key_of(row: &LedgerRow) -> String {
    row_key(&row.run, &row.path, row.generation, row.index)
}

/// The name a row claims for its run, as JSON; nothing when it claims none.
fn claim(row: &LedgerRow) -> Result<String, StoreError> {
    match row.claimed_name() {
        Some(name) => json(&(&row.provider, &row.account, &row.kind, name)),
        None => Ok(String::new()),
    }
}

fn moment_or_none(at: Option<Timestamp>) -> String {
    at.map(|at| at.as_millis().to_string()).unwrap_or_default()
}

/// The arguments of one row: see `lua/ledger_rows.lua`.
pub(crate) fn push_row(args: &mut Args, row: &LedgerRow) -> Result<(), StoreError> {
    args.push(key_of(row));
    args.push(claim(row)?);
    args.push(moment_or_none(row.watch_at));
    args.push(row.external_id.as_ref().map(json).transpose()?.unwrap_or_default());
    // The watch has a line of its own, which scripts move on.
    args.push(json(&LedgerRow { watch_at: None, ..row.clone() })?);
    Ok(())
}

/// Reads a row as it is stored.
pub(crate) fn stored_row(stored: &str) -> Result<LedgerRow, StoreError> {
    let mut lines = stored.splitn(4, '\n');
    let mut line = || lines.next().ok_or_else(|| bad_row("a row of the ledger"));
    let (_claim, watch, _id) = (line()?, line()?, line()?);
    let mut row: LedgerRow = parsed(line()?, "a row of the ledger")?;
    if !watch.is_empty() {
        row.watch_at = Some(Timestamp::from_millis(number(watch)?));
    }
    Ok(row)
}

fn stored_rows(value: Value) -> Result<Vec<LedgerRow>, StoreError> {
    texts(value)?.iter().map(|stored| stored_row(stored)).collect()
}

impl RedisStore {
    pub(crate) async fn ledger_op(&self, op: &LedgerOp) -> Result<LedgerReply, StoreError> {
        match op {
            LedgerOp::Query(query) => self.rows(query).await.map(LedgerReply::Rows),
            LedgerOp::Sight(sighting) => {
                let mut args = Args::default();
                args.push(identity(sighting)?);
                args.push(json(sighting)?);
                self.change(&scripts::SIGHT, &args).await
            }
            LedgerOp::Sightings(run) => self.sightings(*run).await.map(LedgerReply::Sightings),
            LedgerOp::ClaimWatch { hold, limit, .. } => {
                let mut args = Args::default();
                args.number(u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
                args.count((*limit).min(ROWS_MAX));
                let keys = self.keys().of(Reach::All);
                let rows = self.link().write(&scripts::WATCH_CLAIM, keys, &args).await?;
                stored_rows(rows).map(LedgerReply::Rows)
            }
            LedgerOp::EndWatch { row, next } => {
                let mut args = Args::default();
                args.push(key_of(row));
                args.push(moment_or_none(row.watch_at));
                args.push(moment_or_none(*next));
                self.change(&scripts::WATCH_END, &args).await
            }
            LedgerOp::Enter(row) => {
                let mut args = Args::default();
                args.run(&row.run);
                push_row(&mut args, row)?;
                let gone = row.state == ResourceState::Gone;
                args.push(if row.index > 0 { "1" } else { "0" });
                args.push(if gone { "1" } else { "0" });
                self.change(&scripts::LEDGER_ENTER, &args).await
            }
        }
    }

    async fn change(&self, script: &Script, args: &Args) -> Result<LedgerReply, StoreError> {
        let answer = self.link().write(script, self.keys().of(Reach::All), args).await?;
        Ok(LedgerReply::Changed(changed(&answer)))
    }

    async fn sightings(&self, run: Option<RunId>) -> Result<Vec<Sighting>, StoreError> {
        let mut args = Args::default();
        args.push(run.as_ref().map(run_key).unwrap_or_default());
        let keys = self.keys().of(Reach::All);
        let found = texts(self.link().read(&scripts::SIGHTINGS, keys, &args).await?)?;
        found.iter().map(|text| parsed(text, "a sighting")).collect()
    }

    async fn rows(&self, query: &LedgerQuery) -> Result<Vec<LedgerRow>, StoreError> {
        let limit = if query.limit == 0 { ROWS_DEFAULT } else { query.limit.min(ROWS_MAX) };
        let mut from = first(query);
        let mut found = Vec::new();
        loop {
            let args = args_of(query, &from, limit.saturating_sub(found.len()))?;
            let keys = self.keys().of(Reach::All);
            let answer = self.link().read(&scripts::LEDGER_QUERY, keys, &args).await?;
            let mut answer = Reply::of(answer)?;
            let last = answer.text()?;
            found.extend(stored_rows(answer.value()?)?);
            if last.is_empty() || found.len() >= limit {
                return Ok(found);
            }
            from = format!("({last}");
        }
    }
}

/// The bound at which a query begins.
fn first(query: &LedgerQuery) -> String {
    match (&query.after, &query.run) {
        (Some((run, path, generation, index)), _) => {
            format!("({}", row_key(run, path, *generation, *index))
        }
        (None, Some(run)) => format!("[{}.", run_key(run)),
        (None, None) => "[".to_owned(),
    }
}

/// The arguments in the order in which `lua/ledger_query.lua` takes them.
fn args_of(query: &LedgerQuery, from: &str, limit: usize) -> Result<Args, StoreError> {
    let maybe = |text: &Option<String>| text.as_ref().map(json).transpose();
    let run = query.run.as_ref().map(run_key).unwrap_or_default();
    let mut args = Args::default();
    args.push(
        query
            .external_id
            .as_ref()
            .map(ExternalId::as_str)
            .map(json)
            .transpose()?
            .unwrap_or_default(),
    );
    args.push(from);
    // All keys of a run lie before its id with the character after the separator.
    args.push(if run.is_empty() { String::new() } else { format!("{run}/") });
    args.count(STRETCH);
    args.count(limit);
    args.push(&run);
    for text in [&query.path, &query.tenant, &query.provider, &query.kind] {
        args.push(maybe(text)?.unwrap_or_default());
    }
    args.count(query.states.len());
    for state in &query.states {
        args.push(json(state)?.trim_matches('"'));
    }
    Ok(args)
}

/// What makes two sightings the same; it begins with the run, by which they are found.
fn identity(s: &Sighting) -> Result<String, StoreError> {
    let rest = json(&(&s.path, &s.provider, &s.kind, &s.external_id, s.epoch))?;
    Ok(format!("{} {rest}", run_key(&s.run)))
}
