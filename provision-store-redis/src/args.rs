//! The arguments of one script call, one after the other.

use std::{fmt, io::Write as _};

use provision_core::{
    error::StoreError,
    id::{RunId, Timestamp},
};
use serde::Serialize;

use crate::error::bad_row;

/// Arguments in one buffer; texts and bytes go over as they are, numbers as decimal text.
#[derive(Debug, Default)]
pub(crate) struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    pub(crate) fn push(&mut self, value: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(value.as_ref());
        self.ends.push(self.bytes.len());
    }

    /// What is printed so.
    pub(crate) fn print(&mut self, value: fmt::Arguments<'_>) {
        // Into the buffer itself, which cannot fail.
        drop(self.bytes.write_fmt(value));
        self.ends.push(self.bytes.len());
    }

    /// A value as JSON text, which never holds a raw line feed.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), StoreError> {
        let begun = self.bytes.len();
        // Only values of our own types come here; all of them have a JSON form.
        serde_json::to_writer(&mut self.bytes, value).map_err(|_error| {
            self.bytes.truncate(begun);
            bad_row("a value without a JSON form")
        })?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub(crate) fn number(&mut self, value: u64) {
        self.print(format_args!("{value}"));
    }

    /// A count of arguments to come.
    pub(crate) fn count(&mut self, value: usize) {
        self.print(format_args!("{value}"));
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.push(if value { "1" } else { "0" });
    }

    pub(crate) fn moment(&mut self, at: Timestamp) {
        self.number(at.as_millis());
    }

    pub(crate) fn run(&mut self, run: &RunId) {
        self.push(run.as_uuid().hyphenated().encode_lower(&mut [0; 36]));
    }

    /// Adds those of another.
    pub(crate) fn extend(&mut self, other: &Self) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| from.saturating_add(*end)));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How long they are together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    #[test]
    fn arguments_come_back_one_by_one() {
        let mut args = Args::default();
        args.push("a");
        args.push("");
        args.number(u64::MAX);
        args.flag(true);
        let found: Vec<_> = args.iter().map(<[u8]>::to_vec).collect();
        assert_eq!(found, [&b"a"[..], b"", b"18446744073709551615", b"1"]);
        let mut more = Args::default();
        more.push("b");
        more.extend(&args);
        let found: Vec<_> = more.iter().map(<[u8]>::to_vec).collect();
        assert_eq!(found, [&b"b"[..], b"a", b"", b"18446744073709551615", b"1"]);
        assert_eq!((more.len(), more.bytes()), (5, 23));
    }
}
