//! ElevenLabs: music, speech and sound effects, each paid once and kept in the host's storage.
//!
//! A call of this provider is paid when it is answered, and nothing can fetch a lost answer. So
//! what is made has no identity at the provider: a call whose answer may be lost parks its run
//! for a person, unless the author of the step declares that it may be paid again
//! ([`OnUnknown::RunAgain`](provision_core::OnUnknown::RunAgain)). What was stored completely is
//! found again by its name and never paid twice.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod file;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod sink;
mod steps;

pub use client::{Credits, ElevenLabs};
pub use config::{ElevenLabsConfig, Prices};
pub use file::{FileSink, FileUpload};
pub use sink::{AudioMade, AudioSink, AudioUpload, Receipt, Stored};
pub use steps::{
    music::{Music, MusicSpec, Score},
    sound::{SoundEffect, SoundSpec},
    speech::{Speech, SpeechSpec},
    voice::{FindVoice, VoiceFound, VoiceWanted},
};

/// Address of the real provider.
pub const API: &str = "https://api.elevenlabs.io";
/// Default time for one call: it stays open until the audio is there, which takes minutes.
pub const CALL_WITHIN: Duration = Duration::from_secs(300);
/// Default number of open calls of one kind and account: what the smallest plans allow.
pub const CONCURRENCY: u32 = 2;
/// Default size of the largest audio that is taken, in bytes.
pub const AUDIO_BYTES_MAX: u64 = 64 << 20;
/// Default model for music. It is always sent: the provider's own default is deprecated.
pub const MUSIC_MODEL: &str = "music_v2";
/// Default model for speech.
pub const SPEECH_MODEL: &str = "eleven_multilingual_v2";
/// Model for sound effects.
pub const SOUND_MODEL: &str = "eleven_text_to_sound_v2";
/// Default format of all audio: MP3 with 44.1 kHz and 128 kbit/s, which every plan has.
pub const OUTPUT_FORMAT: &str = "mp3_44100_128";
/// Longest prompt for music, in characters.
pub const PROMPT_MAX: usize = 4_100;
/// Shortest music.
pub const MUSIC_MIN: Duration = Duration::from_secs(3);
/// Longest music.
pub const MUSIC_MAX: Duration = Duration::from_secs(600);
/// Shortest sound effect.
pub const SOUND_MIN: Duration = Duration::from_millis(500);
/// Longest sound effect.
pub const SOUND_MAX: Duration = Duration::from_secs(30);
/// Voices of one page of a listing; the provider refuses more than 100.
pub const PAGE_ITEMS: u32 = 100;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: usize = 100;
/// Pause after a refusal for too many open calls: it passes when one of them ends.
pub const SLOT_PAUSE: Duration = Duration::from_secs(2);
