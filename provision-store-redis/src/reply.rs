//! Answers of scripts, taken apart.

use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
};
use redis::Value;

use crate::error::bad_row;

/// The values of an answer, from left to right.
#[derive(Debug)]
pub(crate) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(crate) fn of(value: Value) -> Result<Self, StoreError> {
        array(value).map(|values| Self(values.into_iter()))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    pub(crate) fn value(&mut self) -> Result<Value, StoreError> {
        self.0.next().ok_or_else(|| bad_row("an answer that ends early"))
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        text(self.value()?)
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        number(&self.text()?)
    }

    pub(crate) fn moment(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp::from_millis)
    }

    pub(crate) fn run(&mut self) -> Result<RunId, StoreError> {
        run(&self.text()?)
    }

    /// Whether a flag is set.
    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.text()? == "1")
    }

    pub(crate) fn array(&mut self) -> Result<Vec<Value>, StoreError> {
        array(self.value()?)
    }
}

pub(crate) fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(bad_row("an answer that is no list")),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(bad_row("an answer that is no text")),
    }
}

pub(crate) fn text(value: Value) -> Result<String, StoreError> {
    if let Value::Int(number) = value {
        return Ok(number.to_string());
    }
    String::from_utf8(bytes(value)?).map_err(|_error| bad_row("a text that is not UTF-8"))
}

/// A list of texts.
pub(crate) fn texts(value: Value) -> Result<Vec<String>, StoreError> {
    array(value)?.into_iter().map(text).collect()
}

pub(crate) fn number(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_error| bad_row("a number"))
}

pub(crate) fn run(text: &str) -> Result<RunId, StoreError> {
    text.parse().map_err(|_error| bad_row("the id of a run"))
}

/// Whether a script changed something.
pub(crate) fn changed(value: &Value) -> bool {
    matches!(value, Value::Int(1))
}
