//! Options of the ElevenLabs adapter. Values come in as arguments; nothing here reads the
//! environment.

use std::time::Duration;

use provision_core::SecretRef;

use super::{AUDIO_BYTES_MAX, CALL_WITHIN, CONCURRENCY};
use crate::http::{BaseUrl, ConfigError};

/// What calls cost under the account's plan, in thousandths of the currency's unit.
///
/// The provider publishes no price that holds for every plan, so the host says it; the ledger
/// shows what a call is expected to cost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prices {
    /// ISO 4217 code.
    pub currency: String,
    /// A minute of music.
    pub music_minute: Option<u64>,
    /// A thousand characters of speech.
    pub speech_thousand: Option<u64>,
    /// One sound effect.
    pub sound: Option<u64>,
}

impl Prices {
    /// No prices so far, in this currency.
    #[must_use]
    pub fn new(currency: impl Into<String>) -> Self {
        Self { currency: currency.into(), music_minute: None, speech_thousand: None, sound: None }
    }

    /// Sets the price of a minute of music.
    #[must_use]
    pub fn music_minute(mut self, milli: u64) -> Self {
        self.music_minute = Some(milli);
        self
    }

    /// Sets the price of a thousand characters of speech.
    #[must_use]
    pub fn speech_thousand(mut self, milli: u64) -> Self {
        self.speech_thousand = Some(milli);
        self
    }

    /// Sets the price of a sound effect.
    #[must_use]
    pub fn sound(mut self, milli: u64) -> Self {
        self.sound = Some(milli);
        self
    }
}

/// Where ElevenLabs is, and with which key it is asked.
#[derive(Debug, Clone)]
pub struct ElevenLabsConfig {
    pub(crate) base: BaseUrl,
    pub(crate) key: SecretRef,
    pub(crate) account: Option<String>,
    pub(crate) call_within: Duration,
    pub(crate) music_concurrency: u32,
    pub(crate) speech_concurrency: u32,
    pub(crate) audio_bytes_max: u64,
    pub(crate) prices: Option<Prices>,
}

impl ElevenLabsConfig {
    /// Describes the real provider at `https://api.elevenlabs.io`, with a reference to its key.
    ///
    /// # Errors
    /// Never for this address; the type is the parser's.
    pub fn new(key: SecretRef) -> Result<Self, ConfigError> {
        Ok(Self::at(BaseUrl::parse(super::API)?, key))
    }

    /// Describes a provider at another address: a residency host, or a simulator on loopback.
    #[must_use]
    pub fn at(base: BaseUrl, key: SecretRef) -> Self {
        Self {
            base,
            key,
            account: None,
            call_within: CALL_WITHIN,
            music_concurrency: CONCURRENCY,
            speech_concurrency: CONCURRENCY,
            audio_bytes_max: AUDIO_BYTES_MAX,
            prices: None,
        }
    }

    /// Names the account in the ledger and in limits. Default `"default"`.
    ///
    /// Needed where one process works for several accounts.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Sets the longest time for one call. Default 5 min; a call that is cut may have been paid.
    /// One that only looks has 30 s at most.
    ///
    /// The step's attempt time-out has to be longer; it is 15 min unless set.
    #[must_use]
    pub fn with_call_within(mut self, time: Duration) -> Self {
        self.call_within = time;
        self
    }

    /// Sets how many calls for music the plan lets be open at a time. Default 2.
    #[must_use]
    pub fn with_music_concurrency(mut self, calls: u32) -> Self {
        self.music_concurrency = calls.max(1);
        self
    }

    /// Sets how many calls for speech, and as many for sound effects, the plan lets be open at a
    /// time. Default 2.
    #[must_use]
    pub fn with_speech_concurrency(mut self, calls: u32) -> Self {
        self.speech_concurrency = calls.max(1);
        self
    }

    /// Sets the size of the largest audio that is taken. Default 64 MiB; 10 min of MP3 with
    /// 128 kbit/s have less than 10.
    #[must_use]
    pub fn with_audio_bytes_max(mut self, bytes: u64) -> Self {
        self.audio_bytes_max = bytes;
        self
    }

    /// Says what calls cost, for the ledger. Default: unknown.
    #[must_use]
    pub fn with_prices(mut self, prices: Prices) -> Self {
        self.prices = Some(prices);
        self
    }
}
