//! A voice of the account, looked up before anything is paid.

use provision_core::{Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::elevenlabs::{ElevenLabs, model::Voice};

const FIND: &str = "find voice";

/// Which voice is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoiceWanted {
    /// The one with this id.
    Id(String),
    /// The only one with exactly this name; names are not unique.
    Name(String),
}

/// A voice that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VoiceFound {
    /// The provider's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What kind of voice it is, such as `premade` or `cloned`.
    pub category: Option<String>,
}

/// Looks for a voice. It changes nothing, so there is nothing to undo.
#[derive(Debug, Clone)]
pub struct FindVoice {
    elevenlabs: ElevenLabs,
}

impl FindVoice {
    /// Looks through `elevenlabs`.
    #[must_use]
    pub fn new(elevenlabs: &ElevenLabs) -> Self {
        Self { elevenlabs: elevenlabs.clone() }
    }
}

impl Step for FindVoice {
    const KIND: &'static str = "elevenlabs.find_voice";
    type Input = VoiceWanted;
    type Output = VoiceFound;

    async fn run(&self, cx: &StepContext, wanted: VoiceWanted) -> Result<VoiceFound, StepError> {
        let voice = match wanted {
            VoiceWanted::Id(id) => self.elevenlabs.voice(cx, &id).await?,
            VoiceWanted::Name(name) => {
                let found = self.elevenlabs.voices(cx, &name).await?;
                only(found.into_iter().filter(|voice| voice.name == name))?
            }
        };
        let Voice { voice_id, name, category } = voice;
        Ok(VoiceFound { id: voice_id, name, category })
    }
}

fn only(mut named: impl Iterator<Item = Voice>) -> Result<Voice, StepError> {
    match (named.next(), named.next()) {
        (Some(voice), None) => Ok(voice),
        (None, _) => Err(StepError::permanent(FIND)
            .with_code("voice_not_found")
            .with_message("the account has no voice of this name")),
        (Some(_), Some(_)) => Err(StepError::permanent(FIND)
            .with_code("voice_ambiguous")
            .with_message("several voices have this name")
            .with_hint("say which one by its id")),
    }
}
