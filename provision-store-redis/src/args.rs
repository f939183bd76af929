//! The arguments of one script call, one after the other.

use provision_core::id::{RunId, Timestamp};

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

    pub(crate) fn number(&mut self, value: u64) {
        self.push(value.to_string());
    }

    /// A count of arguments to come.
    pub(crate) fn count(&mut self, value: usize) {
        self.push(value.to_string());
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
    }
}
