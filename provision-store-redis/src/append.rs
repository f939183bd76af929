//! Appends: a whole batch by one script, each run fenced on its own.

use provision_core::{
    error::StoreError,
    store::{Append, Appended},
};
use redis::Value;

use crate::{
    args::Args,
    error::bad_row,
    keys::Reach,
    ledger::{push_row, stored_row},
    reply::{Reply, array},
    rows::{json, run_key},
    scripts,
    secrets::{key_text, value_bytes},
    store::RedisStore,
    submit::push_start,
};

impl RedisStore {
    pub(crate) async fn append_all(&self, batch: &[Append]) -> Result<Vec<Appended>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = Args::default();
        args.count(batch.len());
        for append in batch {
            push_append(&mut args, append)?;
        }
        let reach = batch.iter().map(reach).max().unwrap_or(Reach::Step);
        let keys = self.keys().of(reach);
        let answers = array(self.link().write(&scripts::APPEND, keys, &args).await?)?;
        answers.into_iter().map(appended).collect()
    }
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

/// The arguments of one append: see `read_append` in `lua/append.lua`.
fn push_append(args: &mut Args, append: &Append) -> Result<(), StoreError> {
    let fence = &append.fence;
    args.run(&append.run);
    args.push(fence.owner.0.hyphenated().to_string());
    args.number(fence.epoch);
    args.number(fence.nonce);
    // The number the row must have before; frames are numbered from 1, and there is none before 0.
    let least = u64::from(append.frame.is_some());
    match append.seq.checked_sub(least) {
        Some(before) => args.number(before),
        None => args.push("none"),
    }
    args.number(append.seq);
    args.flag(append.frame.is_some());
    args.moment(append.at);
    args.push(append.frame.as_deref().unwrap_or_default());
    args.push(append.status.as_str());
    args.push(json(&append.summary)?);
    args.flag(append.open);
    args.flag(append.settled);
    args.number(append.consumed);
    args.flag(append.summary.is_dead_letter(append.status));
    args.flag(append.free_guard);
    args.flag(append.release.is_some());
    match &append.release {
        Some(release) => {
            args.moment(release.due);
            args.number(release.seen);
            args.push(json(&release.polls)?);
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

fn appended(answer: Value) -> Result<Appended, StoreError> {
    let mut answer = Reply::of(answer)?;
    match answer.text()?.as_str() {
        "applied" => {
            Ok(Appended::Applied { requests: answer.number()?, lease_lost: answer.flag()? })
        }
        "stale" => Ok(Appended::Stale),
        "conflict" => Ok(Appended::Conflict(Box::new(stored_row(&answer.text()?)?))),
        _ => Err(bad_row("an answer to an append")),
    }
}
