//! The journal: what happened to a run, in the order in which it was committed.
//!
//! One [`Frame`](crate::store::Frame) holds the records of one append, as a JSON array. Keys are
//! stable step paths, never positions. Format 1; every later release reads it. A frame of another
//! format opens with `{"format":number}`, and a release that does not know it leaves the run alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Effect, Failure, Verdict},
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::Origin,
    resource::IntentRecord,
    run::RunStatus,
};

/// Version of the record format; a journal that names none is of this one.
pub const FORMAT: u32 = 1;

/// What opens a frame of a format that is not the first.
const MARK: &str = "[{\"format\":";

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It was written in a later format: a newer release reads it, and nothing is wrong with it.
    #[error("it is of format {format}, and this version reads {FORMAT}")]
    Newer {
        /// Its format.
        format: u32,
    },
    /// It is not what any release can have written.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// Which way an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The step's action.
    #[default]
    Forward,
    /// Its compensation.
    Undo,
}

impl Direction {
    /// Whether it is the one that a record means when it names none.
    #[must_use]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a step waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// For the time of its next attempt.
    Retry,
    /// For its resource to become ready.
    Poll,
    /// For the moment at which "absent" can be believed.
    Quiet,
    /// For a bucket that was told to pause.
    Throttled {
        /// The bucket.
        bucket: String,
    },
    /// For a duration that its author gave.
    Sleep,
    /// For a signal of this name.
    Signal {
        /// The signal.
        name: String,
    },
    /// For another run.
    Child {
        /// That run.
        run: RunId,
    },
}

impl WaitReason {
    /// Whether what is waited for is the next attempt.
    pub(crate) fn is_for_an_attempt(&self) -> bool {
        matches!(self, Self::Retry | Self::Throttled { .. })
    }
}

/// The step on whose behalf somebody outside sends a signal, such as one that has started an outside
/// executor.
///
/// Of one source a run hears each name once, and only while what the step has made stands: what is
/// sent on behalf of an earlier generation, or of a step that was undone, is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignalSource {
    /// Path of the step.
    pub path: String,
    /// Generation of its effect.
    pub generation: u32,
}

/// What a look-up after an unknown end, or a person, found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It exists and is ours.
    Ours(ExternalId),
    /// It does not exist, asked after the quiet time.
    Absent,
}

/// Why a scope unwinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A step failed.
    Failure(Failure),
    /// Somebody cancelled the run.
    Cancelled,
    /// Somebody ordered what succeeded to be removed.
    TearDown,
    /// The step's resource is broken and is made again.
    Renew,
}

/// What a person ordered. Every order carries who and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Undo everything and end.
    Cancel,
    /// Start nothing more until resumed.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Try again what gave up, keeping what exists.
    Retry,
    /// Go forward again after a rollback; finished steps stay, undone ones get a new generation.
    Redrive,
    /// Remove what a succeeded run made.
    TearDown,
    /// Treat a step as not wanted.
    Skip {
        /// The step.
        path: String,
    },
    /// Treat a step as succeeded with this output.
    ResolveAs {
        /// The step.
        path: String,
        /// Its output.
        output: Payload,
    },
    /// Say what a resource's unknown end was.
    Found {
        /// The step.
        path: String,
        /// What is there.
        finding: Finding,
    },
    /// Give up an undo: what may remain is left behind, named in the ledger with its cost.
    Abandon {
        /// The step.
        path: String,
    },
    /// Say that a dead letter has been looked at.
    Acknowledge,
}

/// A request as it is stored beside the journal until a frame consumes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestBody {
    /// An order, with who gave it and why.
    Order {
        /// What is ordered.
        order: Order,
        /// Who ordered it.
        who: String,
        /// Why.
        why: String,
    },
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// What it carries.
        value: Payload,
        /// On whose behalf it is sent, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SignalSource>,
    },
    /// A request that this version cannot read. Nobody asks so: it stands only where a request was
    /// refused.
    Unreadable {
        /// Number of the request.
        number: u64,
    },
}

/// Reads a payload that is there: `null` is a value like any other (the output of a step that
/// answers `()`), and only a field that is missing is none.
fn written<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Payload>, D::Error> {
    Payload::deserialize(from).map(Some)
}

const fn first() -> u32 {
    1
}

const fn is_first(attempt: &u32) -> bool {
    *attempt == first()
}

const fn is_zero(generation: &u32) -> bool {
    *generation == 0
}

/// One item of a fan-out, as it was journaled when the list was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Key of the item; its steps are `path[key]/..`.
    pub key: String,
    /// The item.
    pub value: Payload,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A step is not due yet.
    Waiting {
        /// The step.
        path: Arc<str>,
        /// Which way; not written forward.
        #[serde(default, skip_serializing_if = "Direction::is_default")]
        dir: Direction,
        /// For what.
        reason: WaitReason,
        /// Until when.
        due: Timestamp,
    },
    /// An attempt began.
    Started {
        /// The step.
        path: Arc<str>,
        /// Which way; not written forward.
        #[serde(default, skip_serializing_if = "Direction::is_default")]
        dir: Direction,
        /// Generation of the step's effect; the first, 0, is not written.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
        /// Number of the attempt in this direction, from 1, which is not written.
        #[serde(default = "first", skip_serializing_if = "is_first")]
        attempt: u32,
        /// Its input, with the first forward attempt of a generation.
        #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
        input: Option<Payload>,
    },
    /// A mutating call of a resource is about to be made.
    Intent {
        /// The step.
        path: Arc<str>,
        /// What will be sent.
        intent: IntentRecord,
    },
    /// An external id became known.
    Noted {
        /// The step.
        path: Arc<str>,
        /// The id.
        id: ExternalId,
        /// Created or adopted; never changes later.
        origin: Origin,
    },
    /// An attempt failed, or was cut.
    Failed {
        /// The step.
        path: Arc<str>,
        /// Which way; not written forward.
        #[serde(default, skip_serializing_if = "Direction::is_default")]
        dir: Direction,
        /// What happened.
        failure: Failure,
        /// What was to be done next.
        verdict: Verdict,
        /// The resource has to be deleted before the next attempt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        broken: bool,
        /// The attempt was cut from outside and does not count.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        interrupted: bool,
        /// The last moment at which its call could have been sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent_until: Option<Timestamp>,
    },
    /// A look-up told how an unknown end had ended.
    Resolved {
        /// The step.
        path: Arc<str>,
        /// What was found.
        finding: Finding,
    },
    /// An attempt succeeded.
    Succeeded {
        /// The step.
        path: Arc<str>,
        /// Which way; not written forward.
        #[serde(default, skip_serializing_if = "Direction::is_default")]
        dir: Direction,
        /// The step's output, forward.
        #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    /// A step is not wanted.
    Skipped {
        /// The step.
        path: Arc<str>,
    },
    /// An undo is over, and something of what it undid stays: a child run keeps it.
    Kept {
        /// The step.
        path: Arc<str>,
    },
    /// A series of attempts is over without success.
    GaveUp {
        /// The step.
        path: Arc<str>,
        /// Which way; not written forward.
        #[serde(default, skip_serializing_if = "Direction::is_default")]
        dir: Direction,
        /// The last failure.
        failure: Failure,
    },
    /// A fan-out knows its items.
    Expanded {
        /// The fan-out.
        path: Arc<str>,
        /// Its items, in order.
        items: Vec<ItemRecord>,
    },
    /// From here on a scope is undone, in this order.
    UnwindStarted {
        /// The scope: `""` for the run, a step's path, or `path[key]`.
        scope: Arc<str>,
        /// Why.
        cause: Cause,
        /// Steps to undo, first one first.
        order: Vec<Arc<str>>,
    },
    /// A scope is undone.
    Unwound {
        /// The scope.
        scope: Arc<str>,
    },
    /// A value was drawn and sealed by this very append.
    Sealed {
        /// The step.
        path: Arc<str>,
        /// Name of the value.
        name: String,
    },
    /// A signal arrived.
    Signal {
        /// Its name.
        name: String,
        /// What it carries.
        value: Payload,
        /// On whose behalf it was sent, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SignalSource>,
    },
    /// A person gave an order.
    Ordered {
        /// What.
        order: Order,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A request was stored, and could not be taken when its turn came: nothing came of it.
    Refused {
        /// What was asked; the value of a signal is not kept.
        request: RequestBody,
        /// Short stable word.
        code: String,
        /// What stood against it.
        message: String,
    },
    /// The run needs a person.
    Parked {
        /// Why.
        failure: Failure,
    },
    /// The run is over.
    Ended {
        /// How.
        status: RunStatus,
        /// Its output, where it has one.
        #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    /// The next generation of a step's effect begins; the previous one is closed.
    Renewed {
        /// The step.
        path: Arc<str>,
        /// Number of the new generation.
        generation: u32,
        /// Its idempotency key.
        key: Uuid,
    },
}

impl Record {
    /// Encodes the records of one append.
    ///
    /// # Errors
    /// A payload cannot be encoded.
    pub fn encode(records: &[Self]) -> Result<Arc<str>, serde_json::Error> {
        serde_json::to_string(records).map(Arc::from)
    }

    /// Decodes one frame.
    ///
    /// # Errors
    /// The text is damaged, or in the format of a newer release.
    pub fn decode(body: &str) -> Result<Vec<Self>, Unreadable> {
        let format = body.strip_prefix(MARK).and_then(|rest| rest.split_once('}'));
        if let Some(Ok(format)) = format.map(|(number, _)| number.trim().parse::<u32>())
            && format > FORMAT
        {
            return Err(Unreadable::Newer { format });
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Whether the failure's effect has to be looked up.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Failed { failure, .. } if failure.effect == Effect::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction, Record};

    // What every step writes is kept short, and can be read as it was written before.
    // covers: S22
    #[test]
    fn what_goes_without_saying_is_not_written() {
        let path: std::sync::Arc<str> = "s1".into();
        let started = |dir, generation, attempt| Record::Started {
            path: std::sync::Arc::clone(&path),
            dir,
            generation,
            attempt,
            input: None,
        };
        let plain = started(Direction::Forward, 0, 1);
        let other = started(Direction::Undo, 2, 3);
        let text = Record::encode(&[plain.clone(), other.clone()]).unwrap();
        let said = r#"{"path":"s1","dir":"undo","generation":2,"attempt":3}"#;
        assert_eq!(*text, *format!(r#"[{{"started":{{"path":"s1"}}}},{{"started":{said}}}]"#));
        assert_eq!(Record::decode(&text).unwrap(), [plain.clone(), other]);

        let long = r#"[{"started":{"path":"s1","dir":"forward","generation":0,"attempt":1}}]"#;
        assert_eq!(Record::decode(long).unwrap(), [plain]);
    }

    // covers: S22
    #[test]
    fn the_page_about_the_journal_names_every_record() {
        let page = include_str!("../../../docs/formats/journal.md");
        // What serde expects instead of an unknown record is the list of all.
        let told = serde_json::from_str::<Record>(r#"{"nonsense":{}}"#).unwrap_err().to_string();
        let (_, known) = told.split_once("expected one of ").unwrap();
        let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
        assert!(known.len() >= 20 && known.contains(&"kept"), "{known:?}");
        for record in &known {
            assert!(page.contains(&format!("\n| `{record}` |")), "`{record}` is not described");
        }
        assert_eq!(page.matches("\n| `").count(), known.len(), "it describes what there is");
    }
}
