//! A piece of music.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Order, Studio, invalid, share};
use crate::elevenlabs::{
    AudioMade, AudioSink, ElevenLabs, MUSIC_MAX, MUSIC_MIN, MUSIC_MODEL, OUTPUT_FORMAT, PROMPT_MAX,
    client::Family, model::NewMusic,
};

/// What the music is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// A text.
    Prompt {
        /// The text; at most 4,100 characters.
        text: String,
        /// Length in milliseconds, 3,000 to 600,000; the provider chooses where there is none.
        length_ms: Option<u64>,
        /// Whether it has no voice.
        instrumental: bool,
    },
    /// A composition plan: `sections` for `music_v1`, `chunks` for later models.
    Plan(Value),
}

/// A wanted piece of music.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MusicSpec {
    /// Name under which it is stored.
    pub object: String,
    /// What it is made from.
    pub score: Score,
    /// The model. Default `music_v2`.
    pub model: String,
    /// The format. Default `mp3_44100_128`.
    pub format: String,
}

impl MusicSpec {
    /// Wants music from a text, stored under this name.
    #[must_use]
    pub fn prompt(object: impl Into<String>, text: impl Into<String>) -> Self {
        let score = Score::Prompt { text: text.into(), length_ms: None, instrumental: false };
        Self::of(object, score)
    }

    /// Wants music from a composition plan, stored under this name.
    #[must_use]
    pub fn plan(object: impl Into<String>, plan: Value) -> Self {
        Self::of(object, Score::Plan(plan))
    }

    fn of(object: impl Into<String>, score: Score) -> Self {
        Self {
            object: object.into(),
            score,
            model: MUSIC_MODEL.to_owned(),
            format: OUTPUT_FORMAT.to_owned(),
        }
    }

    /// Sets the length of music from a text; a plan has its own.
    #[must_use]
    pub fn lasting(mut self, length: Duration) -> Self {
        if let Score::Prompt { length_ms, .. } = &mut self.score {
            *length_ms = Some(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        }
        self
    }

    /// Wants no voice in music from a text; a plan says so itself.
    #[must_use]
    pub fn instrumental(mut self) -> Self {
        if let Score::Prompt { instrumental, .. } = &mut self.score {
            *instrumental = true;
        }
        self
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

    fn objection(&self) -> Option<&'static str> {
        match &self.score {
            Score::Prompt { text, length_ms, .. } => {
                let within = |ms: u64| (MUSIC_MIN..=MUSIC_MAX).contains(&Duration::from_millis(ms));
                if text.is_empty() || text.chars().count() > PROMPT_MAX {
                    return Some("the prompt is empty, or longer than 4,100 characters");
                }
                (!length_ms.is_none_or(within)).then_some("music lasts 3 s to 10 min")
            }
            Score::Plan(plan) => {
                // The provider says "invalid type" to a plan of another model's shape.
                let part = if self.model == "music_v1" { "sections" } else { "chunks" };
                let fits = plan.get(part).is_some_and(Value::is_array);
                (!fits).then_some("the plan does not have the shape of its model's plans")
            }
        }
    }

    fn length_ms(&self) -> Option<u64> {
        match &self.score {
            Score::Prompt { length_ms, .. } => *length_ms,
            Score::Plan(plan) => {
                let parts = plan.get("chunks").or_else(|| plan.get("sections"))?.as_array()?;
                let mut lengths = parts.iter().map(|part| part.get("duration_ms")?.as_u64());
                lengths.try_fold(0_u64, |sum, length| sum.checked_add(length?))
            }
        }
    }
}

/// Makes music, once.
///
/// A call whose answer may be lost parks the run: it may have been paid, and nothing can fetch it.
/// Declare `.on_unknown(OnUnknown::RunAgain { at_most: 1 })` on the step where it may be paid
/// again.
#[derive(Debug, Clone)]
pub struct Music<S> {
    studio: Studio<S>,
}

impl<S: AudioSink> Music<S> {
    /// Makes it with `elevenlabs` and stores it in `sink`.
    #[must_use]
    pub fn new(elevenlabs: &ElevenLabs, sink: S) -> Self {
        Self { studio: Studio::new(elevenlabs, sink) }
    }
}

impl<S: AudioSink> Resource for Music<S> {
    const KIND: &'static str = "elevenlabs.music";
    type Spec = MusicSpec;
    type Output = AudioMade;

    fn identity(&self, _: &MusicSpec) -> Identity {
        Identity::None
    }

    async fn find(&self, cx: &StepContext, spec: &MusicSpec) -> Result<Found, StepError> {
        self.studio.find(cx, &spec.object).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &MusicSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        if let Some(why) = spec.objection() {
            return Err(invalid(Family::Music.operation(), why));
        }
        let (prompt, plan, length, instrumental) = match &spec.score {
            Score::Prompt { text, length_ms, instrumental } => {
                (Some(text.as_str()), None, *length_ms, *instrumental)
            }
            Score::Plan(plan) => (None, Some(plan), None, false),
        };
        let body = NewMusic {
            prompt,
            composition_plan: plan,
            music_length_ms: length,
            force_instrumental: instrumental,
            model_id: &spec.model,
        };
        let order = Order {
            family: Family::Music,
            path: &["v1", "music"],
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
        _: &MusicSpec,
        id: &ExternalId,
    ) -> Result<Readiness<AudioMade>, StepError> {
        self.studio.ready(cx, id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &MusicSpec,
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

    fn facts(&self, spec: &MusicSpec) -> Facts {
        let price = self.studio.elevenlabs.prices().and_then(|prices| prices.music_minute);
        let cost = spec.length_ms().and_then(|ms| share(price, ms, 60_000));
        self.studio.facts(&spec.object, cost)
    }
}
