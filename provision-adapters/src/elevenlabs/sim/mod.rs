//! A simulated ElevenLabs account: it makes bytes that look like audio, counts what is paid, and
//! refuses in both of the provider's forms.

mod audio;
mod state;
mod voices;

use serde_json::{Map, Value, json};

use self::state::{State, Voice};
use crate::sim::{InventoryItem, Provider, SimRequest, SimResponse, SimTime};

/// Key the simulator accepts.
pub const KEY: &str = "sk_simulated_elevenlabs_key";
/// A word that no prompt for music may have.
pub const BAD_WORD: &str = "beatles";
/// Name and id of the voice that every account has.
pub const VOICE: (&str, &str) = ("Rachel", "21m00Tcm4TlvDq8ikWAM");

/// A simulated account. What a test may decide is a method named for it.
#[derive(Debug)]
pub struct ElevenLabsSim {
    state: State,
    setup: Setup,
}

#[derive(Debug)]
struct Setup {
    keys: Vec<String>,
    limit: u64,
    slots: u64,
    slots_taken: u64,
    making_ms: u64,
    old_errors: bool,
    page: bool,
}

impl Default for ElevenLabsSim {
    fn default() -> Self {
        Self::new()
    }
}

impl ElevenLabsSim {
    /// An account with 100,000 credits, one voice, and two calls at a time.
    #[must_use]
    pub fn new() -> Self {
        let setup = Setup {
            keys: vec![KEY.to_owned()],
            limit: 100_000,
            slots: 2,
            slots_taken: 0,
            making_ms: 0,
            old_errors: false,
            page: false,
        };
        let mut sim = Self { state: State::default(), setup };
        let (name, id) = VOICE;
        sim.state.voices.push(Voice { id: id.to_owned(), name: name.to_owned() });
        sim
    }

    /// Accepts this key as well.
    pub fn accept_key(&mut self, key: &str) {
        self.setup.keys.push(key.to_owned());
    }

    /// Sets the credits of the period; what was used stays used.
    pub fn set_credits(&mut self, limit: u64) {
        self.setup.limit = limit;
    }

    /// Sets how many calls may be open at a time, in all. Default 2.
    pub fn set_slots(&mut self, slots: u64) {
        self.setup.slots = slots;
    }

    /// Lets others of the account have so many calls open.
    pub fn take_slots(&mut self, calls: u64) {
        self.setup.slots_taken = calls;
    }

    /// Sets how long a call counts as open. Default 0: until it is answered.
    pub fn set_making_ms(&mut self, ms: u64) {
        self.setup.making_ms = ms;
    }

    /// Words refusals in the older form, without a `code`.
    pub fn set_old_errors(&mut self, old: bool) {
        self.setup.old_errors = old;
    }

    /// Lets listings of voices have one voice a page.
    pub fn set_small_pages(&mut self, small: bool) {
        self.setup.page = small;
    }

    /// Adds a voice, and says its id.
    pub fn add_voice(&mut self, name: &str) -> String {
        let id = self.state.word(20);
        self.state.voices.push(Voice { id: id.clone(), name: name.to_owned() });
        id
    }

    /// How many calls were made and paid.
    #[must_use]
    pub fn paid(&self) -> usize {
        self.state.paid.len()
    }

    /// How many calls with these words were made and paid.
    #[must_use]
    pub fn paid_for(&self, words: &str) -> usize {
        self.state.paid.iter().filter(|paid| paid.words.contains(words)).count()
    }

    /// Credits that were used.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.used
    }

    fn refusal(&self, status: u16, word: &str, text: &str) -> SimResponse {
        let detail = if self.setup.old_errors {
            json!({ "status": word, "message": text })
        } else {
            json!({
                "type": "error", "code": word, "status": word, "message": text,
                "request_id": "0", "param": null,
            })
        };
        SimResponse::json(status, &json!({ "detail": detail }))
    }

    fn subscription(&self) -> SimResponse {
        SimResponse::json(
            200,
            &json!({
                "tier": "creator", "character_count": self.state.used,
                "character_limit": self.setup.limit, "max_character_limit_extension": null,
                "max_credit_limit_extension": 0, "can_extend_character_limit": false,
                "allowed_to_extend_character_limit": false, "voice_slots_used": 0,
                "professional_voice_slots_used": 0,
                "professional_voice_slots_used_in_workspace": 0, "voice_limit": 30,
                "voice_add_edit_counter": 0, "professional_voice_limit": 1,
                "can_extend_voice_limit": false, "can_use_instant_voice_cloning": true,
                "can_use_professional_voice_cloning": true,
                "current_overage": { "amount": "0", "currency": "usd" }, "status": "active",
                "open_invoices": [], "has_open_invoices": false,
                "next_character_count_reset_unix": 1_767_225_600,
            }),
        )
    }
}

impl Provider for ElevenLabsSim {
    fn name(&self) -> &'static str {
        "elevenlabs"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &["POST /v1/music", "POST /v1/sound-generation", "POST /v1/text-to-speech/*"]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let known = |key: &str| self.setup.keys.iter().any(|known| known == key);
        if !request.header("xi-api-key").is_some_and(known) {
            return self.refusal(401, "invalid_api_key", "Invalid API key");
        }
        let path = request.segments();
        match (request.method.as_str(), path.as_slice()) {
            ("POST", ["v1", "music"]) => self.music(request, now),
            ("POST", ["v1", "sound-generation"]) => self.sound(request, now),
            ("POST", ["v1", "text-to-speech", voice]) => self.speech(request, voice, now),
            ("GET", ["v2", "voices"]) => self.list_voices(request),
            ("GET", ["v1", "voices", id]) => self.show_voice(id),
            ("GET", ["v1", "user", "subscription"]) => self.subscription(),
            _ => SimResponse::unhandled(request),
        }
    }

    /// Nothing stays at the provider: songs cannot be listed there, and are not deleted.
    fn inventory(&self) -> Vec<InventoryItem> {
        Vec::new()
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        match status {
            401 => self.refusal(401, "invalid_api_key", "Invalid API key"),
            429 => self.refusal(429, "system_busy", "We are busy"),
            500..=599 => SimResponse::text(status, "text/plain", "upstream trouble"),
            _ => self.refusal(status, "refused", "refused"),
        }
    }
}

/// How request validation refuses: a list, and no word.
fn invalid(place: &str, text: &str) -> SimResponse {
    let detail = json!([{ "loc": ["body", place], "msg": text, "type": "value_error" }]);
    SimResponse::json(422, &json!({ "detail": detail }))
}

fn fields(request: &SimRequest) -> Map<String, Value> {
    request.json().unwrap_or_default()
}
