//! Between stored texts and values: the only place in Rust that knows the order of the fields.

use std::{collections::BTreeMap, sync::Arc};

use provision_core::{
    error::StoreError,
    id::{Payload, RunId, Timestamp},
    run::RunStatus,
    store::{Frame, Incarnation, Parent, Request, RunHead, RunRecord, SagaRef},
};
use redis::Value;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    error::bad_row,
    reply::{Reply, number, text},
};

/// What of a run never changes, but for its input, which has a place of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fixed {
    saga: SagaRef,
    tenant: Option<String>,
    queue: String,
    priority: i32,
    key: Option<String>,
    input_hash: String,
    parent: Option<Parent>,
    context: BTreeMap<String, String>,
    created_at: Timestamp,
}

impl Fixed {
    pub(crate) fn of(head: &RunHead) -> Self {
        Self {
            saga: head.saga.clone(),
            tenant: head.tenant.clone(),
            queue: head.queue.clone(),
            priority: head.priority,
            key: head.key.clone(),
            input_hash: head.input_hash.clone(),
            parent: head.parent.clone(),
            context: head.context.clone(),
            created_at: head.created_at,
        }
    }
}

/// A value as JSON text, which never holds a raw line feed.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    // Only values of our own types come here; all of them have a JSON form.
    serde_json::to_string(value).map_err(|_error| bad_row("a value without a JSON form"))
}

pub(crate) fn parsed<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_error| bad_row(what))
}

/// The lane of a queue and saga, as scripts know it: both as JSON, on a line each.
pub(crate) fn lane(queue: &str, saga: &SagaRef) -> Result<String, StoreError> {
    Ok(format!("{}\n{}", json(queue)?, json(saga)?))
}

/// Priority and tenant, so that they sort as they are served: see `lua/pick.lua`.
pub(crate) fn spot(priority: i32, tenant: Option<&str>) -> String {
    let inverted = i64::from(i32::MAX).saturating_sub(i64::from(priority));
    format!("{inverted:010}.{}", tenant_key(tenant))
}

/// A tenant in characters that sort after the separator; empty for none.
pub(crate) fn tenant_key(tenant: Option<&str>) -> String {
    tenant.map_or_else(String::new, |tenant| format!("t{}", hex(tenant)))
}

/// Bytes as hexadecimal digits, which sort like the bytes.
pub(crate) fn hex(text: &str) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The fields of a mutable row, from left to right: see `lua/rows.lua`.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn take(&mut self) -> Result<&'a str, StoreError> {
        self.0.next().ok_or_else(|| bad_row("a row that ends early"))
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        number(self.take()?)
    }

    fn moment(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp::from_millis)
    }

    fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.take()? == "1")
    }

    /// JSON, or nothing.
    fn maybe<T: DeserializeOwned>(&mut self, what: &'static str) -> Result<Option<T>, StoreError> {
        let text = self.take()?;
        if text.is_empty() { Ok(None) } else { parsed(text, what).map(Some) }
    }
}

/// A head with the nonce of its lease.
pub(crate) struct Row {
    pub(crate) head: RunHead,
    pub(crate) nonce: u64,
}

/// Reads the four parts of a head: id, what is fixed, input, mutable row.
pub(crate) fn row(reply: &mut Reply) -> Result<Row, StoreError> {
    let id = reply.run()?;
    let fixed: Fixed = parsed(&reply.text()?, "what is fixed of a run")?;
    let input = Payload::from_json(reply.text()?).map_err(|_error| bad_row("input"))?;
    let row = reply.text()?;
    let mut fields = Fields(row.split('\n'));
    let f = &mut fields;
    let status = RunStatus::parse(f.take()?).ok_or_else(|| bad_row("status"))?;
    let (due, seq, epoch) = (f.moment()?, f.number()?, f.number()?);
    let owner = owner(f.take()?)?;
    let nonce = f.number()?;
    let (requests, consumed, open) = (f.number()?, f.number()?, f.flag()?);
    let deaths = u32::try_from(f.number()?).map_err(|_error| bad_row("deaths"))?;
    let (_died, _poked, _place, _spot) = (f.take()?, f.take()?, f.take()?, f.take()?);
    let guard = f.maybe("guard")?;
    let _freed = f.take()?;
    let updated_at = f.moment()?;
    let (_letter, _key) = (f.take()?, f.take()?);
    let polls = parsed(f.take()?, "polls")?;
    let summary = parsed(f.take()?, "summary")?;
    let head = RunHead {
        id,
        saga: fixed.saga,
        tenant: fixed.tenant,
        queue: fixed.queue,
        priority: fixed.priority,
        key: fixed.key,
        guard,
        input,
        input_hash: fixed.input_hash,
        parent: fixed.parent,
        context: fixed.context,
        status,
        due,
        polls,
        seq,
        epoch,
        owner,
        requests,
        consumed,
        open,
        deaths,
        summary,
        created_at: fixed.created_at,
        updated_at,
    };
    Ok(Row { head, nonce })
}

fn owner(text: &str) -> Result<Option<Incarnation>, StoreError> {
    if text.is_empty() { Ok(None) } else { incarnation(text).map(Some) }
}

pub(crate) fn incarnation(text: &str) -> Result<Incarnation, StoreError> {
    Uuid::parse_str(text).map(Incarnation).map_err(|_error| bad_row("an incarnation"))
}

/// A head that stands alone in an answer.
pub(crate) fn head(value: Value) -> Result<RunHead, StoreError> {
    Ok(row(&mut Reply::of(value)?)?.head)
}

/// Everything stored of a run: its head, frames and requests.
pub(crate) fn record(reply: &mut Reply) -> Result<(RunRecord, u64), StoreError> {
    let Row { head, nonce } = row(reply)?;
    let frames = (1..).zip(reply.array()?).map(|(seq, stored)| frame(seq, stored));
    let frames = frames.collect::<Result<_, _>>()?;
    let first = head.consumed.saturating_add(1);
    let requests = (first..).zip(reply.array()?).map(|(number, stored)| request(number, stored));
    let requests = requests.collect::<Result<_, _>>()?;
    Ok((RunRecord { head, frames, requests }, nonce))
}

/// `<epoch> <moment> <records>`.
fn frame(seq: u64, stored: Value) -> Result<Frame, StoreError> {
    let stored = text(stored)?;
    let mut parts = stored.splitn(3, ' ');
    let mut part = || parts.next().ok_or_else(|| bad_row("a frame"));
    let epoch = number(part()?)?;
    let at = Timestamp::from_millis(number(part()?)?);
    Ok(Frame { seq, epoch, at, body: Arc::from(part()?) })
}

/// `<moment> <body>`.
fn request(wanted: u64, stored: Value) -> Result<Request, StoreError> {
    let stored = text(stored)?;
    let (at, body) = stored.split_once(' ').ok_or_else(|| bad_row("a request"))?;
    let body = Payload::from_json(body).map_err(|_error| bad_row("the body of a request"))?;
    Ok(Request { number: wanted, at: Timestamp::from_millis(number(at)?), body })
}

/// The id of a run as scripts know it.
pub(crate) fn run_key(run: &RunId) -> String {
    run.as_uuid().hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::{hex, spot};

    // covers: L3
    #[test]
    fn spots_sort_by_priority_and_then_by_tenant() {
        let mut spots = [
            spot(0, Some("b")),
            spot(i32::MIN, None),
            spot(0, None),
            spot(i32::MAX, Some("z")),
            spot(0, Some("a.b")),
            spot(0, Some("a")),
            spot(0, Some("")),
        ];
        spots.sort();
        let expected = [
            spot(i32::MAX, Some("z")),
            spot(0, None),
            spot(0, Some("")),
            spot(0, Some("a")),
            spot(0, Some("a.b")),
            spot(0, Some("b")),
            spot(i32::MIN, None),
        ];
        assert_eq!(spots, expected);
        assert_eq!(hex("a\0ÿ"), "6100c3bf");
    }
}
