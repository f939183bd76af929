//! A sound effect.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};

use super::{Order, Studio, invalid};
use crate::elevenlabs::{
    AudioMade, AudioSink, ElevenLabs, OUTPUT_FORMAT, SOUND_MAX, SOUND_MIN, SOUND_MODEL,
    client::Family, model::NewSound,
};

/// A wanted sound effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SoundSpec {
    /// Name under which it is stored.
    pub object: String,
    /// What is heard.
    pub text: String,
    /// Length in milliseconds, 500 to 30,000; the provider chooses where there is none.
    pub length_ms: Option<u64>,
    /// Whether its end fits its beginning.
    pub looped: bool,
    /// The format. Default `mp3_44100_128`; the provider has no MP3 with 48 kHz here.
    pub format: String,
}

impl SoundSpec {
    /// Wants a sound effect, stored under this name.
    #[must_use]
    pub fn new(object: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            text: text.into(),
            length_ms: None,
            looped: false,
            format: OUTPUT_FORMAT.to_owned(),
        }
    }

    /// Sets the length.
    #[must_use]
    pub fn lasting(mut self, length: Duration) -> Self {
        self.length_ms = Some(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Lets its end fit its beginning.
    #[must_use]
    pub fn looped(mut self) -> Self {
        self.looped = true;
        self
    }

    /// Sets the format.
    #[must_use]
    pub fn with_format(mut self, format: impl Into<String>) -> Self {
        self.format = format.into();
        self
    }

    fn objection(&self) -> Option<&'static str> {
        let within = |ms: u64| (SOUND_MIN..=SOUND_MAX).contains(&Duration::from_millis(ms));
        if self.text.trim().is_empty() {
            return Some("there is no text to make a sound of");
        }
        if self.format.starts_with("mp3_48000") {
            return Some("sound effects have no MP3 with 48 kHz");
        }
        (!self.length_ms.is_none_or(within)).then_some("a sound effect lasts 0.5 s to 30 s")
    }
}

/// Makes a sound effect, once. As for [`Music`](super::music::Music), a call whose answer may be
/// lost parks the run unless its step declares that it may be paid again.
#[derive(Debug, Clone)]
pub struct SoundEffect<S> {
    studio: Studio<S>,
}

impl<S: AudioSink> SoundEffect<S> {
    /// Makes it with `elevenlabs` and stores it in `sink`.
    #[must_use]
    pub fn new(elevenlabs: &ElevenLabs, sink: S) -> Self {
        Self { studio: Studio::new(elevenlabs, sink) }
    }
}

impl<S: AudioSink> Resource for SoundEffect<S> {
    const KIND: &'static str = "elevenlabs.sound";
    type Spec = SoundSpec;
    type Output = AudioMade;

    fn identity(&self, _: &SoundSpec) -> Identity {
        Identity::None
    }

    async fn find(&self, cx: &StepContext, spec: &SoundSpec) -> Result<Found, StepError> {
        self.studio.find(cx, &spec.object).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &SoundSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        if let Some(why) = spec.objection() {
            return Err(invalid(Family::Sound.operation(), why));
        }
        let seconds = spec.length_ms.map(|ms| Duration::from_millis(ms).as_secs_f64());
        let body = NewSound {
            text: &spec.text,
            model_id: SOUND_MODEL,
            duration_seconds: seconds,
            looped: spec.looped,
        };
        let order = Order {
            family: Family::Sound,
            path: &["v1", "sound-generation"],
            format: &spec.format,
            model: SOUND_MODEL,
            object: &spec.object,
            body: &body,
        };
        self.studio.make(cx, &order).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &SoundSpec,
        id: &ExternalId,
    ) -> Result<Readiness<AudioMade>, StepError> {
        self.studio.ready(cx, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &SoundSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.studio.remove(cx, id).await
    }

    /// Nothing is at the provider, and storage lists nothing: what is stored is looked for by its
    /// name, and carries its receipt.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
    }

    fn account(&self) -> &str {
        self.studio.elevenlabs.account()
    }

    fn facts(&self, spec: &SoundSpec) -> Facts {
        let price = self.studio.elevenlabs.prices().and_then(|prices| prices.sound);
        self.studio.facts(&spec.object, price)
    }
}
