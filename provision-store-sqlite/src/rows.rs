//! Between rows and values: the only place that knows the order of the columns.

use std::sync::Arc;

use provision_core::{
    error::StoreError,
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{LedgerRow, Origin, ResourceState},
    run::RunStatus,
    store::{Frame, Guard, GuardUntil, Incarnation, Parent, Request, RunHead, RunRecord, SagaRef},
};
use rusqlite::{
    Connection, Params, Row,
    types::{FromSql, ValueRef},
};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    error::{Fault, bad_row},
    sql,
};

/// SQLite's integers are signed; ours never come near the difference.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Stored numbers are never negative; one that is was damaged, and reads as 0.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

pub(crate) fn moment(at: Timestamp) -> i64 {
    signed(at.as_millis())
}

pub(crate) fn at(value: i64) -> Timestamp {
    Timestamp::from_millis(unsigned(value))
}

pub(crate) fn blob(run: &RunId) -> &[u8] {
    run.as_uuid().as_bytes()
}

/// A value as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    // Only values of our own types come here; all of them have a JSON form.
    serde_json::to_string(value).map_err(|_error| bad_row("json"))
}

/// All rows of a query.
pub(crate) fn all<T>(
    conn: &Connection,
    text: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = conn.prepare_cached(text)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads the columns of a row from left to right.
struct Columns<'a, 'b> {
    row: &'a Row<'b>,
    next: usize,
}

impl Columns<'_, '_> {
    fn take<T: FromSql>(&mut self) -> Result<T, Fault> {
        let value = self.row.get(self.next)?;
        self.next = self.next.saturating_add(1);
        Ok(value)
    }

    fn number(&mut self) -> Result<u64, Fault> {
        self.take().map(unsigned)
    }

    fn count(&mut self, column: &'static str) -> Result<u32, Fault> {
        u32::try_from(self.take::<i64>()?).map_err(|_error| bad_row(column))
    }

    fn moment(&mut self) -> Result<Timestamp, Fault> {
        self.take().map(at)
    }

    fn run(&mut self) -> Result<RunId, Fault> {
        self.take::<[u8; 16]>().map(|bytes| RunId::from_uuid(Uuid::from_bytes(bytes)))
    }

    fn json<T: DeserializeOwned>(&mut self, column: &'static str) -> Result<T, Fault> {
        serde_json::from_str(&self.take::<String>()?).map_err(|_error| bad_row(column))
    }

    fn payload(&mut self, column: &'static str) -> Result<Payload, Fault> {
        Payload::from_json(self.take::<String>()?).map_err(|_error| bad_row(column))
    }
}

/// A row of `provision_run_rows`, with the death of its last owner.
pub(crate) fn head(row: &Row<'_>) -> Result<(RunHead, Option<Timestamp>), Fault> {
    // Column 0 is the namespace.
    let mut c = Columns { row, next: 1 };
    let id = c.run()?;
    let saga = SagaRef { name: c.take()?, version: c.count("version")?, fingerprint: c.take()? };
    let head = RunHead {
        id,
        saga,
        tenant: c.take()?,
        queue: c.take()?,
        priority: c.take()?,
        key: c.take()?,
        guard: guard(&mut c)?,
        input: c.payload("input")?,
        input_hash: c.take()?,
        parent: parent(&mut c)?,
        context: c.json("context")?,
        status: RunStatus::parse(&c.take::<String>()?).ok_or_else(|| bad_row("status"))?,
        due: c.moment()?,
        polls: c.json("polls")?,
        seq: c.number()?,
        epoch: c.number()?,
        owner: c.take::<Option<[u8; 16]>>()?.map(|id| Incarnation(Uuid::from_bytes(id))),
        requests: c.number()?,
        consumed: c.number()?,
        open: c.take()?,
        deaths: c.count("deaths")?,
        summary: c.json("summary")?,
        created_at: c.moment()?,
        updated_at: c.moment()?,
    };
    Ok((head, c.take::<Option<i64>>()?.map(at)))
}

fn guard(c: &mut Columns<'_, '_>) -> Result<Option<Guard>, Fault> {
    let (key, until): (Option<String>, Option<String>) = (c.take()?, c.take()?);
    let Some(key) = key else { return Ok(None) };
    let until =
        until.as_deref().and_then(GuardUntil::parse).ok_or_else(|| bad_row("guard_until"))?;
    Ok(Some(Guard { key, until }))
}

fn parent(c: &mut Columns<'_, '_>) -> Result<Option<Parent>, Fault> {
    let (run, path): (Option<[u8; 16]>, Option<String>) = (c.take()?, c.take()?);
    match (run, path) {
        (Some(run), Some(path)) => {
            Ok(Some(Parent { run: RunId::from_uuid(Uuid::from_bytes(run)), path }))
        }
        (None, _) => Ok(None),
        (Some(_), None) => Err(bad_row("parent_path")),
    }
}

/// Everything stored of a run, with the death of its last owner.
pub(crate) fn record(
    conn: &Connection,
    ns: i64,
    run: &RunId,
) -> Result<Option<(RunRecord, Option<Timestamp>)>, Fault> {
    let key = (ns, blob(run));
    let Some((head, died_at)) = all(conn, sql::RUN_READ, key, head)?.pop() else {
        return Ok(None);
    };
    let frames = match head.seq {
        0 => Vec::new(),
        _ => all(conn, sql::FRAMES, key, frame)?,
    };
    let requests = match head.requests > head.consumed {
        false => Vec::new(),
        true => all(conn, sql::REQUESTS, key, request)?,
    };
    Ok(Some((RunRecord { head, frames, requests }, died_at)))
}

fn frame(row: &Row<'_>) -> Result<Frame, Fault> {
    let mut c = Columns { row, next: 0 };
    let (seq, epoch, at) = (c.number()?, c.number()?, c.moment()?);
    Ok(Frame { seq, epoch, at, body: c.take::<Arc<str>>()? })
}

fn request(row: &Row<'_>) -> Result<Request, Fault> {
    let mut c = Columns { row, next: 0 };
    Ok(Request { number: c.number()?, at: c.moment()?, body: c.payload("body")? })
}

/// A row of the ledger; one that cannot be read is named, so that a person can find it.
pub(crate) fn ledger_row(row: &Row<'_>) -> Result<LedgerRow, Fault> {
    ledger_columns(row).map_err(|fault| {
        if !fault.is_bad_row() {
            return fault;
        }
        let named = |at| match row.get_ref(at) {
            Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            Ok(ValueRef::Blob(id)) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            _ => String::new(),
        };
        let (run, path, generation, index) = (named(1), named(2), named(3), named(4));
        let cause = fault.into_store("read a row of the ledger");
        let error = StoreError::new(cause.kind(), cause.code(), "read a row of the ledger");
        let key = format!("run {run}, path {path}, generation {generation}, index {index}");
        Fault::Store(
            error
                .with_context(format!("{key}: {cause}"))
                .with_hint("restore the file from a backup, or repair the row"),
        )
    })
}

fn ledger_columns(row: &Row<'_>) -> Result<LedgerRow, Fault> {
    // Column 0 is the namespace.
    let mut c = Columns { row, next: 1 };
    Ok(LedgerRow {
        run: c.run()?,
        path: c.take()?,
        generation: c.count("generation")?,
        index: c.count("idx")?,
        tenant: c.take()?,
        provider: c.take()?,
        account: c.take()?,
        kind: c.take()?,
        name: c.take()?,
        external_id: c.take::<Option<String>>()?.map(ExternalId::new),
        origin: Origin::parse(&c.take::<String>()?).ok_or_else(|| bad_row("origin"))?,
        state: ResourceState::parse(&c.take::<String>()?).ok_or_else(|| bad_row("state"))?,
        region: c.take()?,
        template: c.take()?,
        cost: c
            .take::<Option<String>>()?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_error| bad_row("cost"))?,
        suspect: c.take()?,
        watch_at: c.take::<Option<i64>>()?.map(at),
        since: c.moment()?,
        until: c.take::<Option<i64>>()?.map(at),
    })
}
