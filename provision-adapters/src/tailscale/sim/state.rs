//! What a simulated tailnet remembers. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    /// How many access tokens were minted.
    pub(super) minted: u64,
    /// Access tokens, and when they end.
    pub(super) tokens: BTreeMap<String, u64>,
    pub(super) keys: Vec<Key>,
    pub(super) devices: Vec<Device>,
    pub(super) machines: Vec<Machine>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) description: String,
    pub(super) reusable: bool,
    pub(super) ephemeral: bool,
    pub(super) preauthorized: bool,
    pub(super) tags: Vec<String>,
    pub(super) created: u64,
    pub(super) expires: u64,
    /// When it was deleted, or used up.
    pub(super) ended: Option<u64>,
    /// Host names that joined with it.
    pub(super) used_by: Vec<String>,
    pub(super) hidden_until: u64,
}

impl Key {
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.ended.is_none() && now < self.expires
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) node_id: String,
    pub(super) id: String,
    /// First part of its DNS name.
    pub(super) label: String,
    pub(super) hostname: String,
    pub(super) address: u64,
    pub(super) tags: Vec<String>,
    pub(super) authorized: bool,
    pub(super) ephemeral: bool,
    pub(super) created: u64,
    pub(super) hidden_until: u64,
    pub(super) from: From,
}

/// How a device came to be in the tailnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum From {
    /// A machine joined with a key.
    Joined,
    /// It was there before.
    Before,
    /// Another tailnet shares it.
    Shared,
}

/// A machine of the test, outside of the provider: it joined with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) hostname: String,
}

impl State {
    /// A fresh word of letters and digits: the same ones in the same order after every start.
    pub(super) fn word(&mut self, length: usize) -> String {
        self.made += 1;
        let seed = self.made.to_string();
        let hex = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        hex.to_string().chars().take(length).collect()
    }

    /// A name that no device has: the second gets `-1`, the third `-2`.
    pub(super) fn free_label(&self, wanted: &str, but: Option<&str>) -> String {
        let taken = |label: &str| {
            let others = self.devices.iter().filter(|d| but != Some(d.node_id.as_str()));
            others.into_iter().any(|d| d.label == label)
        };
        let numbered = (1..).map(|n: u64| format!("{wanted}-{n}"));
        let mut labels = std::iter::once(wanted.to_owned()).chain(numbered);
        labels.find(|label| !taken(label)).unwrap_or_else(|| wanted.to_owned())
    }
}
