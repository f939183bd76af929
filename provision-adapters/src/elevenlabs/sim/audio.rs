//! Music, speech and sound effects: checked, counted, paid, and answered with deterministic bytes.

use serde_json::{Map, Value};

use super::{BAD_WORD, ElevenLabsSim, fields, invalid, state::Paid};
use crate::{
    elevenlabs::PROMPT_MAX,
    sim::{SimRequest, SimResponse},
};

/// Bytes of a millisecond of MP3 with 128 kbit/s.
const BYTES_PER_MS: u64 = 16;
/// Characters that are spoken in a second.
const SPOKEN_PER_SECOND: u64 = 15;

/// What is to be made.
struct Job {
    kind: &'static str,
    words: String,
    length_ms: u64,
    credits: u64,
}

impl ElevenLabsSim {
    pub(super) fn music(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = fields(request);
        let known = [
            "prompt",
            "composition_plan",
            "music_length_ms",
            "model_id",
            "seed",
            "force_instrumental",
            "finetune_id",
            "respect_sections_durations",
            "store_for_inpainting",
            "sign_with_c2pa",
        ];
        if let Some(name) = body.keys().find(|name| !known.contains(&name.as_str())) {
            return invalid(name, "Extra inputs are not permitted");
        }
        let model = body.get("model_id").and_then(Value::as_str).unwrap_or("music_v1");
        let plan = body.get("composition_plan").filter(|plan| plan.is_object());
        let (words, length_ms) = match (body.get("prompt").and_then(Value::as_str), plan) {
            (Some(prompt), None) => {
                if prompt.is_empty() || prompt.chars().count() > PROMPT_MAX {
                    return invalid("prompt", "String should have at most 4100 characters");
                }
                let length = body.get("music_length_ms").and_then(Value::as_u64);
                if length.is_some_and(|ms| !(3_000..=600_000).contains(&ms)) {
                    return invalid("music_length_ms", "Input should be between 3000 and 600000");
                }
                (prompt.to_owned(), length.unwrap_or(30_000))
            }
            (None, Some(plan)) => {
                let part = if model == "music_v1" { "sections" } else { "chunks" };
                let Some(parts) = plan.get(part).and_then(Value::as_array) else {
                    return invalid("composition_plan", "Invalid type of composition_plan");
                };
                let length = parts.iter().filter_map(|part| part.get("duration_ms")?.as_u64());
                (plan.to_string(), length.sum())
            }
            _ => return invalid("prompt", "Provide exactly one of prompt and composition_plan"),
        };
        if words.to_lowercase().contains(BAD_WORD) {
            return self.bad_prompt(plan.is_some());
        }
        let credits = length_ms / 100;
        self.make(Job { kind: "music", words, length_ms, credits }, now)
    }

    /// Whether it is 400 or 422 differs between reports; so it does here.
    fn bad_prompt(&self, plan: bool) -> SimResponse {
        let (status, word) = if plan { (422, "bad_composition_plan") } else { (400, "bad_prompt") };
        self.refusal(status, word, "The prompt names a protected artist or work")
    }

    pub(super) fn sound(&mut self, request: &SimRequest, now: u64) -> SimResponse {
        let body = fields(request);
        let Some(words) = text_of(&body) else { return invalid("text", "Field required") };
        if request.q("output_format").is_some_and(|format| format.starts_with("mp3_48000")) {
            return invalid("output_format", "Input should be a known format");
        }
        let seconds = body.get("duration_seconds").and_then(Value::as_f64);
        if seconds.is_some_and(|seconds| !(0.5..=30.0).contains(&seconds)) {
            return invalid("duration_seconds", "Input should be between 0.5 and 30");
        }
        // A whole number of milliseconds, since tests give no others.
        let length_ms = seconds
            .map_or(5_000, |seconds| format!("{:.0}", seconds * 1_000.0).parse().unwrap_or(5_000));
        self.make(Job { kind: "sound", words, length_ms, credits: 100 }, now)
    }

    pub(super) fn speech(&mut self, request: &SimRequest, voice: &str, now: u64) -> SimResponse {
        let body = fields(request);
        let Some(words) = text_of(&body) else { return invalid("text", "Field required") };
        if !self.state.voices.iter().any(|known| known.id == voice) {
            return self.refusal(404, "voice_not_found", "A voice with that id was not found");
        }
        let credits = u64::try_from(words.chars().count()).unwrap_or(u64::MAX);
        let length_ms = credits.saturating_mul(1_000).div_ceil(SPOKEN_PER_SECOND);
        self.make(Job { kind: "speech", words, length_ms, credits }, now)
    }

    fn make(&mut self, job: Job, now: u64) -> SimResponse {
        self.state.open.retain(|end| *end > now);
        let open = u64::try_from(self.state.open.len()).unwrap_or(u64::MAX);
        let open = open.saturating_add(self.setup.slots_taken);
        if open >= self.setup.slots {
            let word = if self.setup.old_errors {
                "too_many_concurrent_requests"
            } else {
                "concurrent_limit_exceeded"
            };
            return self.refusal(429, word, "Too many concurrent requests");
        }
        if self.state.used.saturating_add(job.credits) > self.setup.limit {
            // With a status that others keep for bad keys.
            return self.refusal(401, "quota_exceeded", "This request exceeds your quota");
        }
        self.state.used += job.credits;
        if self.setup.making_ms > 0 {
            self.state.open.push(now.saturating_add(self.setup.making_ms));
        }
        let (call, song) = (self.state.word(20), self.state.word(20));
        let answer = SimResponse::text(200, "audio/mpeg", bytes(&call, job.length_ms))
            .header("request-id", &call)
            .header("character-cost", &job.credits.to_string())
            .header("current-concurrent-requests", &(open + 1).to_string())
            .header("maximum-concurrent-requests", &self.setup.slots.to_string());
        let answer = if job.kind == "music" { answer.header("song-id", &song) } else { answer };
        let Job { kind, words, credits, .. } = job;
        self.state.paid.push(Paid { kind: kind.to_owned(), words, credits });
        answer
    }
}

fn text_of(body: &Map<String, Value>) -> Option<String> {
    body.get("text").and_then(Value::as_str).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// Bytes that begin as MP3 frames do; the same for the same call after every start, and never the
/// same for two calls: the provider reproduces nothing.
fn bytes(call: &str, length_ms: u64) -> Vec<u8> {
    let mut out = vec![0xFF, 0xFB, 0x90, 0x00];
    let length = usize::try_from(length_ms.saturating_mul(BYTES_PER_MS)).unwrap_or(usize::MAX);
    let mut block: u64 = 0;
    while out.len() < length {
        let seed = format!("{call}/{block}");
        out.extend(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).as_bytes());
        block += 1;
    }
    out.truncate(length.max(4));
    out
}
