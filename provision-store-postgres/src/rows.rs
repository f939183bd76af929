//! Between rows and values: the only place that knows the order of the columns.

use std::sync::Arc;

use provision_core::{
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{LedgerRow, Origin, ResourceState},
    run::RunStatus,
    store::{Frame, Guard, GuardUntil, Incarnation, Parent, Request, RunHead, RunRecord, SagaRef},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Column, Decode, Postgres, Row as _, Type, postgres::PgRow};
use uuid::Uuid;

use crate::error::{Fault, bad_row};

/// PostgreSQL's integers are signed; ours never come near the difference.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What was worked out from clocks and counts, and is not stored; below 0 it is 0.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

pub(crate) fn moment(at: Timestamp) -> i64 {
    signed(at.as_millis())
}

pub(crate) fn at(value: i64) -> Timestamp {
    Timestamp::from_millis(unsigned(value))
}

pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// A limit or a number of rows.
pub(crate) fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// A value as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    // Only values of our own types come here; all of them have a JSON form.
    serde_json::to_string(value).map_err(|_error| bad_row("json"))
}

fn stored(value: i64, column: &str) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_error| bad_row(column))
}

/// Reads the columns of a row from left to right.
pub(crate) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// Leaves columns out.
    pub(crate) fn skip(mut self, columns: usize) -> Self {
        self.next = self.next.saturating_add(columns);
        self
    }

    pub(crate) fn take<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, Fault> {
        let value = self.row.try_get(self.next)?;
        self.next = self.next.saturating_add(1);
        Ok(value)
    }

    /// S3: stored numbers and moments are never negative; one that is was damaged.
    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        let column = self.row.columns().get(self.next).map_or("?", Column::name);
        stored(self.take()?, column)
    }

    fn small(&mut self, column: &'static str) -> Result<u32, Fault> {
        u32::try_from(self.take::<i64>()?).map_err(|_error| bad_row(column))
    }

    pub(crate) fn moment(&mut self) -> Result<Timestamp, Fault> {
        self.number().map(Timestamp::from_millis)
    }

    pub(crate) fn moment_or_none(&mut self) -> Result<Option<Timestamp>, Fault> {
        let column = self.row.columns().get(self.next).map_or("?", Column::name);
        let value = self.take::<Option<i64>>()?.map(|value| stored(value, column));
        Ok(value.transpose()?.map(Timestamp::from_millis))
    }

    pub(crate) fn run(&mut self) -> Result<RunId, Fault> {
        self.take::<Uuid>().map(RunId::from_uuid)
    }

    fn json<T: DeserializeOwned>(&mut self, column: &'static str) -> Result<T, Fault> {
        serde_json::from_str(self.take::<&str>()?).map_err(|_error| bad_row(column))
    }

    fn payload(&mut self, column: &'static str) -> Result<Payload, Fault> {
        Payload::from_json(self.take::<String>()?).map_err(|_error| bad_row(column))
    }
}

/// The columns of `run_rows` up to `updated_at`.
pub(crate) fn head(c: &mut Columns<'_>) -> Result<RunHead, Fault> {
    let _ns: i32 = c.take()?;
    let id = c.run()?;
    let saga = SagaRef { name: c.take()?, version: c.small("version")?, fingerprint: c.take()? };
    Ok(RunHead {
        id,
        saga,
        tenant: c.take()?,
        queue: c.take()?,
        priority: c.take()?,
        key: c.take()?,
        guard: guard(c)?,
        input: c.payload("input")?,
        input_hash: c.take()?,
        parent: parent(c)?,
        context: c.json("context")?,
        status: RunStatus::parse(c.take()?).ok_or_else(|| bad_row("status"))?,
        due: c.moment()?,
        polls: c.json("polls")?,
        seq: c.number()?,
        epoch: c.number()?,
        owner: c.take::<Option<Uuid>>()?.map(Incarnation),
        requests: c.number()?,
        consumed: c.number()?,
        open: c.take()?,
        deaths: u32::try_from(c.take::<i32>()?).map_err(|_error| bad_row("deaths"))?,
        summary: c.json("summary")?,
        created_at: c.moment()?,
        updated_at: c.moment()?,
    })
}

fn guard(c: &mut Columns<'_>) -> Result<Option<Guard>, Fault> {
    let (key, until): (Option<String>, Option<&str>) = (c.take()?, c.take()?);
    let Some(key) = key else { return Ok(None) };
    let until = until.and_then(GuardUntil::parse).ok_or_else(|| bad_row("guard_until"))?;
    Ok(Some(Guard { key, until }))
}

fn parent(c: &mut Columns<'_>) -> Result<Option<Parent>, Fault> {
    match (c.take::<Option<Uuid>>()?, c.take::<Option<String>>()?) {
        (Some(run), Some(path)) => Ok(Some(Parent { run: RunId::from_uuid(run), path })),
        (None, _) => Ok(None),
        (Some(_), None) => Err(bad_row("parent_path")),
    }
}

/// A row of `record`: everything stored of a run.
pub(crate) fn record(row: &PgRow) -> Result<RunRecord, Fault> {
    let head = head(&mut Columns::new(row))?;
    let (frames, requests) = journal(&mut Columns::new(row).skip(31))?;
    Ok(RunRecord { head, frames, requests })
}

/// Frames and requests, as columns of arrays.
fn journal(c: &mut Columns<'_>) -> Result<(Vec<Frame>, Vec<Request>), Fault> {
    let (seqs, epochs, ats): (Vec<i64>, Vec<i64>, Vec<i64>) = (c.take()?, c.take()?, c.take()?);
    let bodies: Vec<String> = c.take()?;
    let frames = seqs.into_iter().zip(epochs).zip(ats).zip(bodies);
    let frames = frames.map(|(((seq, epoch), time), body)| {
        let (seq, epoch) = (stored(seq, "seqs")?, stored(epoch, "epochs")?);
        let at = Timestamp::from_millis(stored(time, "ats")?);
        Ok(Frame { seq, epoch, at, body: Arc::from(body) })
    });
    let (numbers, ats, bodies): (Vec<i64>, Vec<i64>, Vec<String>) =
        (c.take()?, c.take()?, c.take()?);
    let requests = numbers.into_iter().zip(ats).zip(bodies).map(|((number, time), body)| {
        let body = Payload::from_json(body).map_err(|_error| bad_row("body"))?;
        let at = Timestamp::from_millis(stored(time, "ats")?);
        Ok(Request { number: stored(number, "numbers")?, at, body })
    });
    Ok((frames.collect::<Result<_, Fault>>()?, requests.collect::<Result<_, Fault>>()?))
}

/// The columns of the ledger.
pub(crate) fn ledger_row(c: &mut Columns<'_>) -> Result<LedgerRow, Fault> {
    let _ns: i32 = c.take()?;
    Ok(LedgerRow {
        run: c.run()?,
        path: c.take()?,
        generation: c.small("generation")?,
        index: c.small("idx")?,
        tenant: c.take()?,
        provider: c.take()?,
        account: c.take()?,
        kind: c.take()?,
        name: c.take()?,
        external_id: c.take::<Option<String>>()?.map(ExternalId::new),
        origin: Origin::parse(c.take::<&str>()?).ok_or_else(|| bad_row("origin"))?,
        state: ResourceState::parse(c.take::<&str>()?).ok_or_else(|| bad_row("state"))?,
        region: c.take()?,
        template: c.take()?,
        cost: c
            .take::<Option<&str>>()?
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_error| bad_row("cost"))?,
        suspect: c.take()?,
        watch_at: c.moment_or_none()?,
        since: c.moment()?,
        until: c.moment_or_none()?,
    })
}
