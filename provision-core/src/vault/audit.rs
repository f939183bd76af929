//! The trail of every operation on a secret: who, what, when, and never the value.

use std::{
    fmt::{self, Debug},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// What was done with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// Stored, whether or not there was a value before.
    Put,
    /// Read and handed out.
    Get,
    /// Replaced by a newer value.
    Rotate,
    /// Erased.
    Delete,
    /// Sealed again under another key; the value is the same.
    Reseal,
}

impl Operation {
    /// A short stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Rotate => "rotate",
            Self::Delete => "delete",
            Self::Reseal => "reseal",
        }
    }
}

/// How far an operation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// About to be done; without a second record, whether it was is not known.
    Begun,
    /// Done.
    Done,
    /// There is no such secret.
    Absent,
    /// Somebody else changed the value first; nothing was done.
    Changed,
    /// Refused or failed.
    Failed,
}

/// One line of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When, by the wall clock of the machine.
    pub at: Timestamp,
    /// Who, as the host named its caller.
    pub actor: String,
    /// What was done.
    pub operation: Operation,
    /// How far it came.
    pub outcome: Outcome,
    /// Where the secret is kept: scope, generation, name, path.
    pub key: crate::secret::SecretKey,
}

/// Takes records in and never gives them back: append-only.
#[async_trait]
pub trait AuditSink: Debug + Send + Sync + 'static {
    /// Appends one record, durably before it answers.
    ///
    /// # Errors
    /// The record was not stored. The operation is refused, or reported as failed if it is done
    /// already: there is no access without a trail.
    async fn record(&self, record: &AuditRecord) -> Result<(), AuditError>;
}

/// A record that was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditError;

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("record secret operation: the audit trail takes no record")
    }
}

impl std::error::Error for AuditError {}

/// Keeps the trail in memory, for tests and for small tools.
#[derive(Debug, Default)]
pub struct MemoryAudit {
    // A lock of the standard library: it is never held across an await.
    records: Mutex<Vec<AuditRecord>>,
}

impl MemoryAudit {
    /// Starts empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of the trail so far.
    #[must_use]
    pub fn records(&self) -> Vec<AuditRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl AuditSink for MemoryAudit {
    async fn record(&self, record: &AuditRecord) -> Result<(), AuditError> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        Ok(())
    }
}

/// Writes each record as an event of target `provision::audit`, for hosts that ship their log.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingAudit;

#[async_trait]
impl AuditSink for TracingAudit {
    async fn record(&self, record: &AuditRecord) -> Result<(), AuditError> {
        tracing::info!(
            target: "provision::audit",
            actor = %record.actor,
            operation = record.operation.as_str(),
            outcome = ?record.outcome,
            key = %record.key,
            "secret operation"
        );
        Ok(())
    }
}
