//! What a simulated Vercel remembers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Everything that survives a restart. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) made: u64,
    pub(super) projects: Vec<Project>,
    pub(super) deployments: Vec<Deployment>,
    pub(super) files: BTreeSet<String>,
    pub(super) windows: BTreeMap<String, Window>,
}

/// The calls of one endpoint in its current window.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) ends: u64,
    pub(super) used: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) created: u64,
    pub(super) hidden_until: u64,
    pub(super) settings: serde_json::Value,
    pub(super) link: Option<Link>,
    pub(super) env: Vec<Variable>,
    pub(super) domains: Vec<Domain>,
    /// Made by a test before any run: not in the inventory.
    pub(super) fixture: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) org: String,
    pub(super) repo: String,
    pub(super) repo_id: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Variable {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) kind: String,
    pub(super) targets: BTreeSet<String>,
    pub(super) branch: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) created: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) verified: bool,
    pub(super) created: u64,
}

/// How a deployment ends, decided when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is built, gets its alias, and serves.
    Ready,
    /// Its build fails with this code.
    Error(String),
    /// Nobody may build it.
    Blocked,
    /// It is canceled.
    Canceled,
    /// It is built, and its alias cannot be assigned.
    AliasError,
    /// It is built, and its checks fail.
    ChecksFail,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) scope: String,
    pub(super) project: String,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) production: bool,
    pub(super) created: u64,
    pub(super) hidden_until: u64,
    /// When the build starts, ends, and the alias is there.
    pub(super) building: u64,
    pub(super) built: u64,
    pub(super) aliased: u64,
    pub(super) fate: Fate,
    /// What was built: repository or digest of files, and commit or ref.
    pub(super) source: String,
    pub(super) sha: String,
    pub(super) meta: BTreeMap<String, String>,
    /// Names of the variables it was built with.
    pub(super) env: BTreeSet<String>,
}

impl Deployment {
    /// The provider's word for where it is in its life.
    pub(super) fn state(&self, now: u64) -> &'static str {
        if self.fate == Fate::Blocked && now >= self.building {
            return "BLOCKED";
        }
        if now < self.building {
            return "QUEUED";
        }
        if now < self.built {
            let initializing = self.building + (self.built - self.building) / 10;
            return if now < initializing { "INITIALIZING" } else { "BUILDING" };
        }
        match self.fate {
            Fate::Error(_) => "ERROR",
            Fate::Canceled => "CANCELED",
            Fate::Ready | Fate::AliasError | Fate::ChecksFail | Fate::Blocked => "READY",
        }
    }

    /// Whether its aliases lead to it: a while after it is ready.
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.fate == Fate::Ready && now >= self.aliased
    }

    pub(super) fn failed(&self, now: u64) -> bool {
        matches!(self.state(now), "ERROR" | "CANCELED" | "BLOCKED")
    }
}

impl State {
    /// A fresh id: the same ones in the same order after every start.
    pub(super) fn id(&mut self, prefix: &str, length: usize) -> String {
        self.made += 1;
        let seed = format!("{prefix}{}", self.made);
        let hex = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        let body: String = hex.to_string().chars().take(length).collect();
        format!("{prefix}{body}")
    }
}
