//! What a simulated Resend remembers. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    pub(super) emails: Vec<Email>,
    /// What was answered under a key.
    pub(super) keys: BTreeMap<String, Answered>,
}

/// A mail that went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Email {
    /// Its id.
    pub id: String,
    /// Sender.
    pub from: String,
    /// Recipients, without copies.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// The plain text, if there is one.
    pub text: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// The key it was sent under, if there was one.
    pub key: Option<String>,
    pub(super) body: Value,
    pub(super) created: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) id: String,
    pub(super) body: Value,
    pub(super) at: u64,
}

impl State {
    /// A fresh id: the same ones in the same order after every start.
    pub(super) fn id(&mut self) -> String {
        self.made += 1;
        let seed = format!("email {}", self.made);
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).to_string()
    }
}
