//! What a simulated account remembers. Times are milliseconds since 1970.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    pub(super) paid: Vec<Paid>,
    pub(super) used: u64,
    pub(super) voices: Vec<Voice>,
    /// When the calls end that are open in the account's eyes.
    pub(super) open: Vec<u64>,
}

/// One call that was made and paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Paid {
    pub(super) kind: String,
    /// The text or plan, by which a test knows its calls.
    pub(super) words: String,
    pub(super) credits: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Voice {
    pub(super) id: String,
    pub(super) name: String,
}

impl State {
    /// A fresh word: the same ones in the same order after every start.
    pub(super) fn word(&mut self, length: usize) -> String {
        self.made += 1;
        let seed = self.made.to_string();
        let hex = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        hex.to_string().chars().take(length).collect()
    }
}
