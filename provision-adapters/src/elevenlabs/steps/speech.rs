//! A text that is spoken.

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};

use super::{Order, Studio, invalid, share};
use crate::elevenlabs::{
    AudioMade, AudioSink, ElevenLabs, OUTPUT_FORMAT, SPEECH_MODEL, client::Family, model::NewSpeech,
};

/// A wanted speech.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpeechSpec {
    /// Name under which it is stored.
    pub object: String,
    /// Id of the voice.
    pub voice_id: String,
    /// What is said.
    pub text: String,
    /// The model. Default `eleven_multilingual_v2`.
    pub model: String,
    /// The format. Default `mp3_44100_128`.
    pub format: String,
    /// ISO 639-1 code of the language, where the model cannot tell it from the text.
    pub language: Option<String>,
    /// Makes repetitions alike, not equal.
    pub seed: Option<u32>,
}

impl SpeechSpec {
    /// Wants a text spoken by a voice, stored under this name.
    #[must_use]
    pub fn new(
        object: impl Into<String>,
        voice_id: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            object: object.into(),
            voice_id: voice_id.into(),
            text: text.into(),
            model: SPEECH_MODEL.to_owned(),
            format: OUTPUT_FORMAT.to_owned(),
            language: None,
            seed: None,
        }
    }

    /// Sets the model.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Sets the format.
    #[must_use]
    pub fn with_format(mut self, format: impl Into<String>) -> Self {
        self.format = format.into();
        self
    }

    /// Sets the language.
    #[must_use]
    pub fn in_language(mut self, code: impl Into<String>) -> Self {
        self.language = Some(code.into());
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u32) -> Self {
        self.seed = Some(seed);
        self
    }

    fn objection(&self) -> Option<&'static str> {
        if self.text.trim().is_empty() {
            return Some("there is no text to speak");
        }
        self.voice_id.is_empty().then_some("there is no voice to speak with")
    }
}

/// Makes speech, once. As for [`Music`](super::music::Music), a call whose answer may be lost
/// parks the run unless its step declares that it may be paid again.
#[derive(Debug, Clone)]
pub struct Speech<S> {
    studio: Studio<S>,
}

impl<S: AudioSink> Speech<S> {
    /// Makes it with `elevenlabs` and stores it in `sink`.
    #[must_use]
    pub fn new(elevenlabs: &ElevenLabs, sink: S) -> Self {
        Self { studio: Studio::new(elevenlabs, sink) }
    }
}

impl<S: AudioSink> Resource for Speech<S> {
    const KIND: &'static str = "elevenlabs.speech";
    type Spec = SpeechSpec;
    type Output = AudioMade;

    fn identity(&self, _: &SpeechSpec) -> Identity {
        Identity::None
    }

    async fn find(&self, cx: &StepContext, spec: &SpeechSpec) -> Result<Found, StepError> {
        self.studio.find(cx, &spec.object).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &SpeechSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        if let Some(why) = spec.objection() {
            return Err(invalid(Family::Speech.operation(), why));
        }
        let body = NewSpeech {
            text: &spec.text,
            model_id: &spec.model,
            language_code: spec.language.as_deref(),
            seed: spec.seed,
        };
        let order = Order {
            family: Family::Speech,
            path: &["v1", "text-to-speech", &spec.voice_id],
            format: &spec.format,
            model: &spec.model,
            object: &spec.object,
            body: &body,
        };
        self.studio.make(cx, &order).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &SpeechSpec,
        id: &ExternalId,
    ) -> Result<Readiness<AudioMade>, StepError> {
        self.studio.ready(cx, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &SpeechSpec,
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

    fn facts(&self, spec: &SpeechSpec) -> Facts {
        let price = self.studio.elevenlabs.prices().and_then(|prices| prices.speech_thousand);
        let characters = u64::try_from(spec.text.chars().count()).unwrap_or(u64::MAX);
        self.studio.facts(&spec.object, share(price, characters, 1_000))
    }
}
