//! Voices: searched by a part of their name, and paged.

use serde_json::{Value, json};

use super::{ElevenLabsSim, invalid, state::Voice};
use crate::sim::{SimRequest, SimResponse};

impl ElevenLabsSim {
    pub(super) fn list_voices(&self, request: &SimRequest) -> SimResponse {
        let search = request.q("search").unwrap_or_default().to_lowercase();
        let found: Vec<&Voice> = self
            .state
            .voices
            .iter()
            .filter(|voice| voice.name.to_lowercase().contains(&search))
            .collect();
        let asked = request.q("page_size").map_or(Some(10), |size| size.parse::<usize>().ok());
        let Some(size) = asked.filter(|size| (1..=100).contains(size)) else {
            return invalid("page_size", "Input should be between 1 and 100");
        };
        let size = if self.setup.page { 1 } else { size };
        let from = match request.q("next_page_token") {
            None => 0,
            Some(token) => match token.strip_prefix("from-").and_then(|n| n.parse().ok()) {
                Some(from) => from,
                None => return invalid("next_page_token", "unknown token"),
            },
        };
        let page: Vec<Value> =
            found.iter().skip(from).take(size).map(|voice| shown(voice)).collect();
        let end = from + page.len();
        let more = end < found.len();
        let next = more.then(|| format!("from-{end}"));
        SimResponse::json(
            200,
            &json!({
                "voices": page, "has_more": more, "total_count": found.len(),
                "next_page_token": next,
            }),
        )
    }

    pub(super) fn show_voice(&self, id: &str) -> SimResponse {
        match self.state.voices.iter().find(|voice| voice.id == id) {
            Some(voice) => SimResponse::json(200, &shown(voice)),
            None => self.refusal(400, "voice_not_found", "A voice with that id was not found"),
        }
    }
}

fn shown(voice: &Voice) -> Value {
    json!({
        "voice_id": voice.id, "name": voice.name, "category": "premade", "labels": {},
        "available_for_tiers": [], "high_quality_base_model_ids": [],
    })
}
