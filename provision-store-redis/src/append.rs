//! Appends: those of many tasks by one script, each run fenced on its own.

use provision_core::{
    error::StoreError,
    store::{Append, Appended, Fence},
};
use redis::Value;

use crate::{
    args::Args,
    desk::Call,
    error::{bad_row, failed},
    keys::Reach,
    ledger::{push_row, stored_row},
    reply::{self, Reply},
    rows::run_key,
    secrets::{key_text, value_bytes},
    store::RedisStore,
    submit::{START_WEIGHT, push_start},
};

const OPERATION: &str = "append";

impl RedisStore {
    pub(crate) async fn append_all(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (mut runs, mut items) = (Args::default(), Args::default());
        for append in batch {
            runs.run(&append.run);
            items.push(if is_plain(append) { "plain" } else { "append" });
            push_append(&mut items, append)?;
        }
        let reach = batch.iter().map(reach).max().unwrap_or(Reach::Step);
        let weight = batch.iter().map(weight).fold(0, usize::saturating_add);
        let answers =
            self.write_together(Call { operation: OPERATION, reach, runs, items, weight }).await?;
        answers.into_iter().map(appended).collect()
    }
}

/// How much the server has to do, in plain appends.
fn weight(append: &Append) -> usize {
    let rows = append.ledger.len().saturating_mul(3).saturating_add(append.sealed.len());
    let runs = append.starts.len().saturating_mul(START_WEIGHT).saturating_add(append.wakes.len());
    rows.saturating_add(runs).saturating_add(if is_plain(append) { 1 } else { 2 })
}

/// Whether nothing hangs on it but its frame and its row.
fn is_plain(append: &Append) -> bool {
    let rows = append.ledger.is_empty() && append.sealed.is_empty();
    let runs = append.wakes.is_empty() && append.starts.is_empty();
    rows && runs && !append.free_guard && append.release.is_none()
}

/// A plain step names nine keys: what it cannot touch is not sent along.
fn reach(append: &Append) -> Reach {
    if !append.starts.is_empty() {
        Reach::All
    } else if append.ledger.is_empty() && append.sealed.is_empty() {
        Reach::Step
    } else {
        Reach::Effects
    }
}

/// The arguments of one append: see `lua/append.lua`.
fn push_append(args: &mut Args, append: &Append) -> Result<(), StoreError> {
    let Fence { owner, epoch, nonce } = &append.fence;
    // The number the row must have before; frames are numbered from 1, and there is none before 0.
    let least = u64::from(append.frame.is_some());
    match append.seq.checked_sub(least) {
        Some(before) => args.number(before),
        None => args.push("none"),
    }
    args.number(append.seq);
    args.print(format_args!("{epoch}\n{}\n{nonce}", owner.0.hyphenated()));
    match &append.frame {
        Some(body) => args.print(format_args!("{epoch} {} {body}", append.at.as_millis())),
        None => args.push(""),
    }
    args.push(append.status.as_str());
    args.json(&append.summary)?;
    args.flag(append.open);
    args.flag(append.settled);
    args.number(append.consumed);
    args.flag(append.summary.is_dead_letter(append.status));
    if is_plain(append) {
        return Ok(());
    }
    args.flag(append.free_guard);
    args.flag(append.release.is_some());
    match &append.release {
        Some(release) => {
            args.moment(release.due);
            args.number(release.seen);
            args.json(&release.polls)?;
        }
        None => (0..3).for_each(|_| args.push("")),
    }
    push_effects(args, append)
}

fn push_effects(args: &mut Args, append: &Append) -> Result<(), StoreError> {
    args.count(append.ledger.len());
    for row in &append.ledger {
        push_row(args, row)?;
    }
    args.count(append.sealed.len());
    for (key, sealed) in &append.sealed {
        args.push(key_text(key));
        args.push(value_bytes(sealed));
    }
    args.count(append.wakes.len());
    for run in &append.wakes {
        args.push(run_key(run));
    }
    args.count(append.starts.len());
    append.starts.iter().try_for_each(|new| push_start(args, new))
}

/// The number of its newest request answers an append that was written as it was asked for.
fn appended(answer: Value) -> Result<Appended, StoreError> {
    if !matches!(answer, Value::Array(_)) {
        let requests = reply::number(&reply::text(answer)?)?;
        return Ok(Appended::Applied { requests, lease_lost: false });
    }
    let mut answer = Reply::of(answer)?;
    match answer.text()?.as_str() {
        "applied" => {
            Ok(Appended::Applied { requests: answer.number()?, lease_lost: answer.flag()? })
        }
        "stale" => Ok(Appended::Stale),
        "conflict" => Ok(Appended::Conflict(Box::new(stored_row(&answer.text()?)?))),
        "failed" => Err(failed(answer.text()?, answer.text()?, OPERATION)),
        _ => Err(bad_row("an answer to an append")),
    }
}
