//! Leases: one script renews, takes over, gives back and grants.

use provision_core::{
    caps::Capped,
    error::{StoreError, StoreErrorKind},
    id::{RunId, Timestamp},
    store::{Acquire, Fence, Incarnation, LeaseGrant, LeaseRequest, Leased},
};
use redis::Value;

use crate::{
    args::Args,
    error::bad_row,
    keys::Reach,
    reply::{self, Reply, texts},
    rows::{incarnation, json, record, run_key},
    scripts,
    store::RedisStore,
    submit::draw_nonce,
};

impl RedisStore {
    pub(crate) async fn grant(&self, request: &LeaseRequest) -> Result<LeaseGrant, StoreError> {
        let args = args_of(request)?;
        let keys = self.keys().of(Reach::All);
        let answer = self.link().write(&scripts::LEASE, keys, &args).await?;
        let mut answer = Reply::of(answer)?;
        let (now, alive) = (answer.moment()?, answer.flag()?);
        let granted = answer.array()?;
        let mut held = held(answer.array()?)?;
        let peers = answer.array()?.into_iter().map(peer).collect::<Result<_, _>>()?;
        let next_due = answer.text()?;
        let next_due = match next_due.is_empty() {
            true => None,
            false => Some(Timestamp::from_millis(reply::number(&next_due)?)),
        };
        let full = texts(answer.value()?)?;
        let full = full.iter().map(|name| from_json(name)).collect::<Result<_, _>>()?;
        let mut leased = Vec::new();
        for granted in granted {
            match self.leased(request.worker, granted).await? {
                Ok(one) => leased.push(one),
                Err(run) => held.retain(|(other, _)| *other != run),
            }
        }
        Ok(LeaseGrant { now, alive, leased, held, peers, next_due, full })
    }

    /// Reads a granted run. S3: one that cannot be read is given back, and stops nobody else.
    async fn leased(
        &self,
        worker: Incarnation,
        granted: Value,
    ) -> Result<Result<Leased, RunId>, StoreError> {
        let id = match &granted {
            Value::Array(parts) => parts.first().cloned().unwrap_or_default(),
            _ => Value::Nil,
        };
        let run = reply::run(&reply::text(id)?)?;
        match read(worker, granted) {
            Ok(leased) => Ok(Ok(leased)),
            Err(error) if error.kind() == StoreErrorKind::Damaged => {
                tracing::error!(%run, %error, "a run that cannot be read is parked");
                let mut args = Args::default();
                args.push(run_key(&run));
                args.push(worker.0.hyphenated().to_string());
                self.link().write(&scripts::PARK, self.keys().of(Reach::All), &args).await?;
                Ok(Err(run))
            }
            Err(error) => Err(error),
        }
    }
}

fn read(worker: Incarnation, granted: Value) -> Result<Leased, StoreError> {
    let mut granted = Reply::of(granted)?;
    let (record, nonce) = record(&mut granted)?;
    let died = granted.text()?;
    let died_at = match died.is_empty() {
        true => None,
        false => Some(Timestamp::from_millis(reply::number(&died)?)),
    };
    let fence = Fence { owner: worker, epoch: record.head.epoch, nonce };
    Ok(Leased { record, fence, died_at })
}

fn from_json(name: &str) -> Result<String, StoreError> {
    serde_json::from_str(name).map_err(|_error| bad_row("the name of a queue"))
}

fn held(values: Vec<Value>) -> Result<Vec<(RunId, u64)>, StoreError> {
    let one = |value| {
        let mut parts = Reply::of(value)?;
        Ok((parts.run()?, parts.number()?))
    };
    values.into_iter().map(one).collect()
}

fn peer(value: Value) -> Result<Incarnation, StoreError> {
    incarnation(&reply::text(value)?)
}

/// The arguments in the order in which `lua/lease.lua` takes them.
fn args_of(request: &LeaseRequest) -> Result<Args, StoreError> {
    let mut args = Args::default();
    args.push(request.worker.0.hyphenated().to_string());
    args.number(u64::try_from(request.ttl.as_millis()).unwrap_or(u64::MAX));
    args.number(draw_nonce()?);
    args.flag(request.retire);
    args.count(request.dead.len());
    for who in &request.dead {
        args.push(who.0.hyphenated().to_string());
    }
    args.count(request.release.len());
    for (run, fence, release) in &request.release {
        args.run(run);
        args.push(fence.owner.0.hyphenated().to_string());
        args.number(fence.epoch);
        args.number(fence.nonce);
        args.moment(release.due);
        args.number(release.seen);
        args.push(json(&release.polls)?);
    }
    args.count(request.strangers.len());
    for (run, epoch) in &request.strangers {
        args.run(run);
        args.number(*epoch);
    }
    match &request.acquire {
        Some(acquire) => push_acquire(&mut args, acquire)?,
        None => ["none", "0", "0", "0", "0"].iter().for_each(|word| args.push(word)),
    }
    Ok(args)
}

fn push_acquire(args: &mut Args, acquire: &Acquire) -> Result<(), StoreError> {
    args.push(if acquire.runs.is_some() { "these" } else { "due" });
    args.count(acquire.limit);
    args.count(acquire.queues.len());
    for queue in &acquire.queues {
        args.push(json(queue)?);
    }
    args.count(acquire.code.len());
    for saga in &acquire.code {
        args.push(json(saga)?);
    }
    args.count(acquire.caps.0.len());
    for cap in &acquire.caps.0 {
        match &cap.queues {
            Capped::Named(name) => {
                args.push("named");
                args.push(json(name)?);
            }
            Capped::Each(prefix) => {
                args.push("each");
                // Scripts know names as JSON text: all that begin so have this beginning.
                let text = json(prefix)?;
                args.push(text.strip_suffix('"').unwrap_or(&text));
            }
        }
        args.number(u64::from(cap.runs));
    }
    let runs = acquire.runs.as_deref().unwrap_or_default();
    args.count(runs.len());
    runs.iter().for_each(|run| args.run(run));
    Ok(())
}

/// Runs that a script names.
pub(crate) fn runs(value: Value) -> Result<Vec<RunId>, StoreError> {
    texts(value)?.iter().map(|text| reply::run(text)).collect()
}
