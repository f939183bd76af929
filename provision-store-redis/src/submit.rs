//! Submissions: new runs and requests, those of many tasks by one script.

use provision_core::{
    error::StoreError,
    store::{Fence, FirstFrame, Leased, NewRun, RunHead, Submission, Submitted},
};
use redis::Value;

use crate::{
    args::Args,
    desk::Call,
    error::{bad_row, failed},
    keys::Reach,
    reply::{Reply, array},
    retention::tombstone,
    rows::{self, Fixed, json, lane, record, run_key, spot},
    store::RedisStore,
};

/// Nonces are below 2^53, which numbers of scripts keep exactly; a call may count up from its own.
const NONCE_BITS: u32 = 52;

const OPERATION: &str = "submit";
/// How much the server has to do for a start, in plain appends.
pub(crate) const START_WEIGHT: usize = 4;

/// Draws the nonce of a lease: from the system, since scripts draw the same numbers again.
pub(crate) fn draw_nonce() -> Result<u64, StoreError> {
    let drawn = getrandom::u64().map_err(|_error| StoreError::unavailable("draw a nonce"))?;
    Ok(drawn >> u64::BITS.saturating_sub(NONCE_BITS))
}

/// The arguments of one start: see `start` in `lua/start.lua`.
pub(crate) fn push_start(args: &mut Args, new: &NewRun) -> Result<(), StoreError> {
    let head = &new.head;
    args.run(&head.id);
    args.flag(head.key.is_some());
    args.push(head.key.as_deref().unwrap_or_default());
    args.json(&head.key)?;
    args.push(head.guard.as_ref().map(json).transpose()?.unwrap_or_default());
    args.push(head.guard.as_ref().map_or("", |guard| guard.key.as_str()));
    args.push(head.parent.as_ref().map(|parent| run_key(&parent.run)).unwrap_or_default());
    args.json(&Fixed::of(head))?;
    args.push(head.input.as_str());
    args.push(lane(&head.queue, &head.saga)?);
    args.push(spot(head.priority, head.tenant.as_deref()));
    args.push(head.status.as_str());
    args.moment(head.due);
    args.number(head.requests);
    args.number(head.consumed);
    args.flag(head.open);
    args.number(u64::from(head.deaths));
    args.moment(head.updated_at);
    args.flag(head.summary.is_dead_letter(head.status));
    args.json(&head.polls)?;
    args.json(&head.summary)?;
    match &new.lease_to {
        Some(lease) => {
            args.print(format_args!("{}", lease.worker.0.hyphenated()));
            args.number(u64::try_from(lease.ttl.as_millis()).unwrap_or(u64::MAX));
            args.number(draw_nonce()?);
        }
        None => {
            args.push("");
            args.push("0");
            args.push("0");
        }
    }
    let first = new.first();
    args.push(first.map(frame).unwrap_or_default());
    args.push(first.map(|first| json(&first.summary)).transpose()?.unwrap_or_default());
    Ok(())
}

/// A first frame as it is stored: its epoch, when, and its body.
fn frame(first: &FirstFrame) -> String {
    format!("1 {} {}", first.at.as_millis(), first.body)
}

impl RedisStore {
    pub(crate) async fn submit_all(
        &self,
        batch: &[Submission],
    ) -> Result<Vec<Submitted>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (mut runs, mut items) = (Args::default(), Args::default());
        for submission in batch {
            let (kind, run, body) = match submission {
                Submission::Run(new) => {
                    runs.run(&new.head.id);
                    items.push("run");
                    push_start(&mut items, new)?;
                    continue;
                }
                Submission::Request { run, body } => ("request", run, body),
                Submission::Reopen { run, body } => ("reopen", run, body),
            };
            runs.run(run);
            items.push(kind);
            items.push(body.as_str());
        }
        let weight = batch.len().saturating_mul(START_WEIGHT);
        let call = Call { operation: OPERATION, reach: Reach::All, runs, items, weight };
        let answers = self.write_together(call).await?;
        // Those of this process need not wait until the server has told them.
        self.stirred().notify_waiters();
        batch.iter().zip(answers).map(|(one, answer)| submitted(one, answer)).collect()
    }
}

fn submitted(submission: &Submission, answer: Value) -> Result<Submitted, StoreError> {
    let mut answer = Reply::of(answer)?;
    match answer.text()?.as_str() {
        "created" => Ok(Submitted::Created(None)),
        "leased" => Ok(Submitted::Created(Some(Box::new(leased(answer.value()?, submission)?)))),
        "known" => Ok(known(rows::head(answer.value()?)?, submission)),
        "guarded" => Ok(Submitted::Guarded(Box::new(rows::head(answer.value()?)?))),
        "requested" => Ok(Submitted::Requested(answer.number()?)),
        "pruned" => Ok(Submitted::Pruned(Box::new(tombstone(&answer.text()?)?))),
        "none" => Ok(Submitted::NoSuchRun),
        "failed" => Err(failed(answer.text()?, answer.text()?, OPERATION)),
        _ => Err(bad_row("an answer to a submission")),
    }
}

/// The same start is the same run; another saga or input under its key is a mistake.
fn known(found: RunHead, submission: &Submission) -> Submitted {
    let same = match submission {
        Submission::Run(new) => {
            found.input_hash == new.head.input_hash && found.saga.name == new.head.saga.name
        }
        Submission::Request { .. } | Submission::Reopen { .. } => false,
    };
    let found = Box::new(found);
    if same { Submitted::Known(found) } else { Submitted::KeyTaken(found) }
}

/// A run that was born leased has no requests yet, and of frames the one that came with it.
fn leased(head: Value, submission: &Submission) -> Result<Leased, StoreError> {
    let first = match submission {
        Submission::Run(new) => new.first(),
        Submission::Request { .. } | Submission::Reopen { .. } => None,
    };
    let frames = first.map(|first| Value::BulkString(frame(first).into_bytes()));
    let mut parts = array(head)?;
    parts.extend([Value::Array(frames.into_iter().collect()), Value::Array(Vec::new())]);
    let (record, nonce) = record(&mut Reply::of(Value::Array(parts))?)?;
    let owner = record.head.owner.ok_or_else(|| bad_row("the owner of a leased run"))?;
    let fence = Fence { owner, epoch: record.head.epoch, nonce };
    Ok(Leased { record, fence, died_at: None })
}
