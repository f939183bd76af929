//! Which partition takes a row.

use std::cmp::Ordering;

use super::super::error::{SqlError, code};
use super::super::state::{Database, Oid, PartitionBound, RangeEnd, Relation};
use super::super::value::{Value, compare};

/// Finds the table that keeps a row: the table itself, or the partition that takes it.
pub(crate) fn leaf(db: &Database, table: Oid, row: &[Value]) -> Result<Oid, SqlError> {
    let relation = db.relation(table)?;
    let Some(rule) = &relation.partitioning else { return Ok(table) };
    let key: Vec<Value> =
        rule.columns.iter().map(|place| row.get(*place).cloned().unwrap_or(Value::Null)).collect();
    let mut fallback = None;
    for partition in db.partitions_of(table) {
        match partition.partition_of.as_ref().map(|place| &place.bound) {
            Some(PartitionBound::Default) => fallback = Some(partition.oid),
            Some(bound) if takes(bound, &key) => return leaf(db, partition.oid, row),
            _ => {}
        }
    }
    match fallback {
        Some(partition) => leaf(db, partition, row),
        None => {
            let text = format!("no partition of relation \"{}\" found for row", relation.name);
            Err(SqlError::new(code::CHECK_VIOLATION, text))
        }
    }
}

/// Checks that a row put into a partition directly belongs there.
pub(crate) fn check_belongs(
    db: &Database,
    relation: &Relation,
    row: &[Value],
) -> Result<(), SqlError> {
    let Some(place) = &relation.partition_of else { return Ok(()) };
    let parent = db.relation(place.parent)?;
    // The row may belong to a partition of this partition.
    let mut up = Some(leaf(db, parent.oid, row)?);
    let mut found = false;
    while let (Some(oid), false) = (up, found) {
        found = oid == relation.oid;
        up = db.relation(oid)?.partition_of.as_ref().map(|place| place.parent);
    }
    if found {
        return check_belongs(db, parent, row);
    }
    let text = format!("new row for relation \"{}\" violates partition constraint", relation.name);
    Err(SqlError::new(code::CHECK_VIOLATION, text))
}

fn takes(bound: &PartitionBound, key: &[Value]) -> bool {
    match bound {
        PartitionBound::Default => false,
        PartitionBound::List(values) => {
            key.first().is_some_and(|key| values.iter().any(|value| compare(value, key).is_eq()))
        }
        PartitionBound::Range(from, to) => {
            // A null belongs to no range.
            key.iter().all(|value| !value.is_null())
                && compare_key(key, from).is_ge()
                && compare_key(key, to).is_lt()
        }
    }
}

fn compare_key(key: &[Value], end: &[RangeEnd]) -> Ordering {
    for (value, end) in key.iter().zip(end) {
        let order = match end {
            RangeEnd::Min => Ordering::Greater,
            RangeEnd::Max => Ordering::Less,
            RangeEnd::At(limit) => compare(value, limit),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Orders two ends of ranges.
pub(crate) fn compare_ends(left: &[RangeEnd], right: &[RangeEnd]) -> Ordering {
    for pair in left.iter().zip(right) {
        let order = match pair {
            (RangeEnd::Min, RangeEnd::Min) | (RangeEnd::Max, RangeEnd::Max) => {
                return Ordering::Equal;
            }
            (RangeEnd::Min, _) | (_, RangeEnd::Max) => Ordering::Less,
            (RangeEnd::Max, _) | (_, RangeEnd::Min) => Ordering::Greater,
            (RangeEnd::At(a), RangeEnd::At(b)) => compare(a, b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Tells whether two partitions would take the same row.
pub(crate) fn overlaps(left: &PartitionBound, right: &PartitionBound) -> bool {
    match (left, right) {
        (PartitionBound::Default, PartitionBound::Default) => true,
        (PartitionBound::List(a), PartitionBound::List(b)) => {
            a.iter().any(|value| b.iter().any(|other| compare(value, other).is_eq()))
        }
        (PartitionBound::Range(a_from, a_to), PartitionBound::Range(b_from, b_to)) => {
            compare_ends(a_from, b_to).is_lt() && compare_ends(b_from, a_to).is_lt()
        }
        _ => false,
    }
}
