//! Wire types: only the fields that are used; unknown ones are tolerated.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Serialize)]
pub(crate) struct NewMusic<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) composition_plan: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) music_length_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) force_instrumental: bool,
    pub(crate) model_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewSpeech<'a> {
    pub(crate) text: &'a str,
    pub(crate) model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewSound<'a> {
    pub(crate) text: &'a str,
    pub(crate) model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_seconds: Option<f64>,
    #[serde(rename = "loop", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) looped: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Voice {
    pub(crate) voice_id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) category: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Voices {
    pub(crate) voices: Vec<Voice>,
    #[serde(default)]
    pub(crate) has_more: bool,
    #[serde(default)]
    pub(crate) next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) character_count: u64,
    pub(crate) character_limit: u64,
    #[serde(default)]
    pub(crate) next_character_count_reset_unix: Option<u64>,
}

/// The detail is an object, a list or a text: all three are answered, by the provider, by its
/// request validation, and by gateways.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) detail: Value,
}
