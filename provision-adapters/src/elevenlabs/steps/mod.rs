//! What can be made at ElevenLabs, one file each, and how each of them is paid once and stored.

use std::time::Duration;

use provision_core::{
    Cost, CostPer, Effect, ExternalId, Facts, Foreign, Found, Readiness, StepContext, StepError,
    Timing, Verdict,
};
use serde::Serialize;

use super::{
    client::{ElevenLabs, Family},
    sink::{AudioMade, AudioSink, AudioUpload, Receipt, Stored, objection},
};
use crate::http::{AnswerSink, Response};

pub(crate) mod music;
pub(crate) mod sound;
pub(crate) mod speech;
pub(crate) mod voice;

/// One paid call.
pub(crate) struct Order<'a, B> {
    pub(crate) family: Family,
    pub(crate) path: &'a [&'a str],
    pub(crate) format: &'a str,
    pub(crate) model: &'a str,
    pub(crate) object: &'a str,
    pub(crate) body: &'a B,
}

/// A provider and a storage: what every kind of audio is made with.
#[derive(Debug, Clone)]
pub(crate) struct Studio<S> {
    pub(crate) elevenlabs: ElevenLabs,
    pub(crate) sink: S,
}

impl<S: AudioSink> Studio<S> {
    pub(crate) fn new(elevenlabs: &ElevenLabs, sink: S) -> Self {
        Self { elevenlabs: elevenlabs.clone(), sink }
    }

    /// The storage is the only place where what was paid can be found again.
    pub(crate) async fn find(&self, cx: &StepContext, object: &str) -> Result<Found, StepError> {
        if let Some(why) = objection(object) {
            return Err(invalid("look at stored audio", why));
        }
        let id = || ExternalId::new(object);
        Ok(match self.sink.stored(cx, object).await? {
            None => Found::Absent,
            Some(Stored::Audio(receipt)) if receipt.mark == cx.mark() => Found::Ours(id()),
            // Paid, and not yet where it belongs.
            Some(Stored::Spooled(_)) => Found::Begun(id()),
            Some(Stored::Audio(receipt)) => {
                Found::Foreign(Foreign::unmarked(id()).with_owner(receipt.mark))
            }
            Some(Stored::Other) => Found::Foreign(Foreign::unmarked(id())),
        })
    }

    /// Pays for the audio and stores it; what was paid before is only brought to its place.
    pub(crate) async fn make<B: Serialize + Sync>(
        &self,
        cx: &StepContext,
        order: &Order<'_, B>,
    ) -> Result<ExternalId, StepError> {
        let id = ExternalId::new(order.object);
        if let Some(Stored::Spooled(receipt)) = self.sink.stored(cx, order.object).await? {
            let finished = self.sink.finish(cx, order.object, &receipt).await;
            // S12: it is paid and kept here, whatever became of the upload.
            finished.map_err(|error| {
                let effect = error.effect().max(Effect::Applied);
                error.with_effect(effect)
            })?;
            cx.note(&id).await?;
            return Ok(id);
        }
        let operation = order.family.operation();
        // Storage that takes nothing is noticed before anything is paid.
        let upload = self.sink.begin(cx, order.object).await?;
        let most = self.elevenlabs.audio_bytes_max();
        let mut taking = Taking { operation, most, upload, bytes: 0, content_type: String::new() };
        let call = (order.family, order.path);
        let answer =
            self.elevenlabs.make(cx, call, (order.format, order.body), &mut taking).await?;
        let Taking { upload, bytes, content_type, .. } = taking;
        if bytes == 0 {
            return Err(lost(operation, "empty_audio"));
        }
        let text = |name: &str| answer.headers.get(name).map(ToOwned::to_owned);
        let made = AudioMade {
            object: order.object.to_owned(),
            content_type,
            bytes,
            model: order.model.to_owned(),
            song_id: text("song-id"),
            request_id: text("request-id"),
            credits: text("character-cost").and_then(|cost| cost.trim().parse().ok()),
            unanswered_calls: cx.memory().unknown_calls,
        };
        let receipt = Receipt { mark: cx.mark(), made };
        upload.commit(&receipt).await.map_err(|error| not_stored(operation, error))?;
        let kept = self.sink.stored(cx, order.object).await;
        if let Some(Stored::Spooled(receipt)) = kept.map_err(|e| not_stored(operation, e))? {
            let finished = self.sink.finish(cx, order.object, &receipt).await;
            finished.map_err(|error| not_stored(operation, error))?;
        }
        cx.note(&id).await?;
        Ok(id)
    }

    pub(crate) async fn ready(
        &self,
        cx: &StepContext,
        id: &ExternalId,
    ) -> Result<Readiness<AudioMade>, StepError> {
        Ok(match self.sink.stored(cx, id.as_str()).await? {
            Some(Stored::Audio(receipt)) if receipt.mark == cx.mark() => {
                // What an upload whose answer was lost has left.
                self.sink.tidy(cx, id.as_str()).await?;
                Readiness::Ready(receipt.made)
            }
            Some(Stored::Audio(receipt)) if cx.is_adopted(id) => Readiness::Ready(receipt.made),
            // Stored a moment ago, and the storage does not show it yet.
            Some(Stored::Spooled(_)) if may_lag(cx) => {
                Readiness::NotYet { again_in: Duration::from_secs(1) }
            }
            Some(Stored::Spooled(_)) => return Err(not_in_its_place()),
            // Another run was faster, and its audio is not what this one has paid.
            Some(Stored::Audio(_)) => Readiness::Broken { code: "replaced".to_owned() },
            Some(Stored::Other) => {
                return Err(crate::adopted::adopted_incomplete(
                    "use stored audio",
                    "what is stored under this name has no receipt of a run that fits it",
                ));
            }
            None => Readiness::Broken { code: "vanished".to_owned() },
        })
    }

    /// Removes the stored audio. What was paid stays paid, and the provider deletes no song.
    pub(crate) async fn remove(&self, cx: &StepContext, id: &ExternalId) -> Result<(), StepError> {
        match self.sink.stored(cx, id.as_str()).await? {
            // S11: somebody else's of the same name.
            Some(Stored::Other) => Ok(()),
            Some(Stored::Audio(receipt)) if receipt.mark != cx.mark() => Ok(()),
            Some(Stored::Audio(_) | Stored::Spooled(_)) | None => {
                self.sink.remove(cx, id.as_str()).await
            }
        }
    }

    pub(crate) fn facts(&self, object: &str, cost: Option<u64>) -> Facts {
        let currency = self.elevenlabs.prices().map(|prices| prices.currency.clone());
        let cost = cost.zip(currency);
        Facts {
            name: Some(object.to_owned()),
            cost: cost.map(|(milli, currency)| Cost { milli, currency, per: CostPer::Once }),
            ..Facts::default()
        }
    }
}

/// Takes the audio as it comes.
struct Taking<U> {
    operation: &'static str,
    most: u64,
    upload: U,
    bytes: u64,
    content_type: String,
}

impl<U: AudioUpload> AnswerSink for Taking<U> {
    async fn begin(&mut self, head: &Response) -> Result<u64, StepError> {
        let kind = head.headers.get("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // A page with status 200 is no audio.
        if !kind.starts_with("audio/") && kind != "application/octet-stream" {
            return Err(lost(self.operation, "garbage"));
        }
        self.content_type = kind;
        Ok(self.most)
    }

    async fn piece(&mut self, bytes: &[u8]) -> Result<(), StepError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        self.upload.write(bytes).await.map_err(|error| not_stored(self.operation, error))
    }
}

/// Answered, and there is no audio: it may have been paid.
fn lost(operation: &'static str, code: &'static str) -> StepError {
    StepError::unknown(operation).with_code(code).with_message("answered without usable audio")
}

/// Paid, and the storage did not take it.
fn not_stored(operation: &'static str, error: StepError) -> StepError {
    match error.verdict() {
        // L4, S18: when it may be asked again is the storage's to say.
        Verdict::Throttled { .. } => error.with_effect(Effect::Unknown),
        Verdict::Retry { .. } => error.with_effect(Effect::Unknown).with_code("not_stored"),
        _ => StepError::unknown(operation).with_code("not_stored").with_source(error),
    }
    .with_message("the audio was made, and the storage did not take it")
}

/// A look right after an upload may be behind it.
fn may_lag(cx: &StepContext) -> bool {
    let lag = Timing::default().listing_lag;
    cx.memory().polling_since.is_none_or(|since| cx.now().since(since) < lag)
}

/// What was stored is gone from its place, and its copy on this machine is not.
fn not_in_its_place() -> StepError {
    StepError::new(Effect::None, Verdict::Operator, "use stored audio")
        .with_code("not_in_its_place")
        .with_message("the audio is on this machine and not in the storage")
        .with_hint("resolve the step as absent: it then stores the audio, and pays nothing")
}

pub(crate) fn invalid(operation: &'static str, why: &'static str) -> StepError {
    StepError::permanent(operation).with_code("invalid_spec").with_message(why)
}

/// What so many of `per` cost, rounded up.
pub(crate) fn share(price: Option<u64>, count: u64, per: u64) -> Option<u64> {
    price.map(|milli| milli.saturating_mul(count).div_ceil(per))
}
