//! Where audio goes: the host's storage, behind a trait that the host may implement.

use std::future::Future;

use provision_core::{OwnerMark, StepContext, StepError};
use serde::{Deserialize, Serialize};

/// Audio that was made, paid and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AudioMade {
    /// Its name in the storage.
    pub object: String,
    /// Its content type, as the provider says.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
    /// The model that made it.
    pub model: String,
    /// The provider's id of a song, which it takes as a reference for others.
    pub song_id: Option<String>,
    /// The provider's id of the call.
    pub request_id: Option<String>,
    /// Credits that the call cost, if the provider says.
    pub credits: Option<u64>,
    /// Calls before it whose answer was lost, and which may have been paid, too.
    pub unanswered_calls: u32,
}

/// What is kept beside stored audio: whose it is, and what the provider said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The run and step that made it.
    pub mark: OwnerMark,
    /// What was made.
    pub made: AudioMade,
}

/// What is stored under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Audio of a run, complete.
    Audio(Receipt),
    /// Audio of the run and step that asks, complete, and not yet where it belongs:
    /// [`AudioSink::finish`] brings it there, and [`AudioSink::remove`] removes it.
    Spooled(Receipt),
    /// Something that no run stored.
    Other,
}

/// Storage for audio. Cheap to clone; clones are the same storage.
///
/// An object appears whole and with its receipt, or not at all: that is what makes a paid call
/// unrepeatable. Names are made of segments of letters, digits, `.`, `-` and `_`, joined by `/`.
pub trait AudioSink: Clone + Send + Sync + 'static {
    /// An upload under way.
    type Upload: AudioUpload;

    /// What is stored under this name, completely; `None` is a definite "nothing". It changes
    /// nothing: it is asked from outside of runs, too, where no mutating call is made.
    ///
    /// # Errors
    /// The storage does not tell.
    fn stored(
        &self,
        cx: &StepContext,
        object: &str,
    ) -> impl Future<Output = Result<Option<Stored>, StepError>> + Send;

    /// Begins an upload that nobody sees. Called before anything is paid.
    ///
    /// # Errors
    /// The storage takes nothing.
    fn begin(
        &self,
        cx: &StepContext,
        object: &str,
    ) -> impl Future<Output = Result<Self::Upload, StepError>> + Send;

    /// Brings audio that was [`Stored::Spooled`] to its place, with this receipt. An object that is
    /// there already is never replaced.
    ///
    /// Storage that spools nothing is never asked, and answers with an error.
    ///
    /// # Errors
    /// It may not be there; [`Effect::None`](provision_core::Effect::None) says that it surely is
    /// not.
    fn finish(
        &self,
        cx: &StepContext,
        object: &str,
        receipt: &Receipt,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Removes what is left on the way of an object that was seen in its place. Storage that spools
    /// nothing has nothing to do.
    ///
    /// # Errors
    /// Something may be left.
    fn tidy(
        &self,
        _cx: &StepContext,
        _object: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Removes an object with its receipt, and what is left of uploads of it; gone is done.
    ///
    /// # Errors
    /// It may still be there.
    fn remove(
        &self,
        cx: &StepContext,
        object: &str,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// An upload under way. Dropped without [`AudioUpload::commit`], it leaves nothing to be seen.
pub trait AudioUpload: Send + 'static {
    /// Takes the next piece.
    ///
    /// # Errors
    /// The storage does not take it.
    fn write(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Makes object and receipt durable and visible, in one step as seen by
    /// [`AudioSink::stored`], in its place or as [`Stored::Spooled`]: from here on nothing is paid
    /// again. An object that is there already is never replaced.
    ///
    /// # Errors
    /// It may not be stored.
    fn commit(self, receipt: &Receipt) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// What is wrong with the name of an object, if anything is.
pub(crate) fn objection(object: &str) -> Option<&'static str> {
    const LONGEST: usize = 512;
    let sound = |segment: &str| {
        let first = segment.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        first && segment.chars().all(rest)
    };
    if object.len() > LONGEST || !object.split('/').all(sound) {
        return Some(
            "the object's name is not made of segments of letters, digits, `.`, `-` and `_`",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::objection;

    #[test]
    fn names_stay_inside_the_storage() {
        for name in ["a", "songs/17/variant-1.mp3", "a.b_c/0"] {
            assert_eq!(objection(name), None, "{name}");
        }
        for name in ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a\\b", "a b", "ü", "c:x"]
        {
            assert!(objection(name).is_some(), "{name}");
        }
        assert!(objection(&"a".repeat(513)).is_some());
    }
}
