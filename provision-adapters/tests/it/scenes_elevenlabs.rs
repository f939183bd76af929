//! A voice, and three kinds of audio that are paid and kept on a shelf in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use provision_adapters::elevenlabs::{
    AudioSink, AudioUpload, ElevenLabs, ElevenLabsConfig, FileSink, FindVoice, Music, MusicSpec,
    Prices, Receipt, SoundEffect, SoundSpec, Speech, SpeechSpec, Stored, VoiceWanted,
    sim::{ElevenLabsSim, VOICE},
};
use provision_core::{OnUnknown, Saga, StepContext, StepError, resolver::MapResolver};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, call_within},
    scenes::{TOKEN, at, resolver, token, without},
};

/// Receipt and bytes by name; what no run made has no receipt.
type Objects = BTreeMap<String, (Option<Receipt>, Vec<u8>)>;

/// Storage in memory, shared by its clones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Objects>>);

impl Shelf {
    fn all(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of what is stored.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, object: &str) -> Vec<u8> {
        self.all()[object].1.clone()
    }

    /// Stores something that no run made.
    pub(crate) fn put(&self, object: &str) {
        self.all().insert(object.to_owned(), (None, b"theirs".to_vec()));
    }
}

/// An upload to a shelf.
#[derive(Debug)]
pub(crate) struct Upload {
    shelf: Shelf,
    object: String,
    bytes: Vec<u8>,
}

impl AudioSink for Shelf {
    type Upload = Upload;

    async fn stored(&self, _: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        Ok(self.all().get(object).map(|(receipt, _)| match receipt {
            Some(receipt) => Stored::Audio(receipt.clone()),
            None => Stored::Other,
        }))
    }

    async fn begin(&self, _: &StepContext, object: &str) -> Result<Upload, StepError> {
        Ok(Upload { shelf: self.clone(), object: object.to_owned(), bytes: Vec::new() })
    }

    async fn finish(&self, _: &StepContext, _: &str, _: &Receipt) -> Result<(), StepError> {
        panic!("nothing is spooled")
    }

    async fn remove(&self, _: &StepContext, object: &str) -> Result<(), StepError> {
        self.all().remove(object);
        Ok(())
    }
}

impl AudioUpload for Upload {
    async fn write(&mut self, piece: &[u8]) -> Result<(), StepError> {
        self.bytes.extend(piece);
        Ok(())
    }

    async fn commit(self, receipt: &Receipt) -> Result<(), StepError> {
        let taken = self.shelf.all().contains_key(&self.object);
        assert!(!taken, "{} is stored twice", self.object);
        self.shelf.all().insert(self.object.clone(), (Some(receipt.clone()), self.bytes));
        Ok(())
    }
}

/// Speech, music and a sound effect; each on a shelf of its own run, or in a folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnElevenLabs {
    /// How often a call whose answer was lost is paid again.
    pub(crate) again: Option<u32>,
    pub(crate) shelf: Shelf,
    pub(crate) folder: Option<Arc<TempDir>>,
}

/// Words of the three calls, by which the simulator tells them apart.
pub(crate) const WORDS: [&str; 3] = ["hello", "a calm piano", "a door"];

impl OnElevenLabs {
    fn rule(&self) -> OnUnknown {
        self.again.map_or(OnUnknown::Protocol, |at_most| OnUnknown::RunAgain { at_most })
    }

    /// Keeps its audio in a folder of its own.
    pub(crate) fn in_a_folder(mut self) -> Self {
        self.folder = Some(Arc::new(tempfile::tempdir().unwrap()));
        self
    }

    /// Names of everything that is stored, and of what is left of uploads.
    pub(crate) fn names(&self) -> Vec<String> {
        let Some(folder) = &self.folder else { return self.shelf.names() };
        let Ok(entries) = std::fs::read_dir(folder.path().join("client-a")) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names = entries.map(|entry| name(entry).to_string_lossy().into_owned());
        let mut names: Vec<_> = names.collect();
        let whole = names.clone();
        // A receipt without its object is left over, too.
        names.retain(|name| {
            let object = name.strip_suffix(".receipt.json");
            object.is_none_or(|object| !whole.iter().any(|other| other == object))
        });
        names
    }

    fn saga_in<S: AudioSink>(&self, sink: &S, url: &str, build: Build) -> Saga<String, String> {
        let prices = Prices::new("EUR").music_minute(600).speech_thousand(100).sound(50);
        let config = ElevenLabsConfig::at(at(url), token()).with_prices(prices);
        let config = config.with_call_within(call_within());
        let elevenlabs = ElevenLabs::new(config).unwrap();
        Saga::define(SAGA, |s| {
            let voice = s
                .step("voice", FindVoice::new(&elevenlabs), NOTHING)
                .retry(build.policy())
                .input((), |_: &String, ()| VoiceWanted::Name(VOICE.0.to_owned()));
            let speech = s
                .resource("speech", Speech::new(&elevenlabs, sink.clone()))
                .retry(build.policy())
                .on_unknown(self.rule())
                .input(voice, |name, voice| {
                    SpeechSpec::new(format!("{name}/speech.mp3"), voice.id, WORDS[0])
                });
            let music = s
                .resource("music", Music::new(&elevenlabs, sink.clone()))
                .retry(build.policy())
                .on_unknown(self.rule())
                .after(speech)
                .input((), |name, ()| {
                    MusicSpec::prompt(format!("{name}/song.mp3"), WORDS[1])
                        .lasting(Duration::from_secs(3))
                });
            let sound = s
                .resource("sound", SoundEffect::new(&elevenlabs, sink.clone()))
                .retry(build.policy())
                .on_unknown(self.rule())
                .after(music)
                .input((), |name, ()| {
                    SoundSpec::new(format!("{name}/door.mp3"), WORDS[2])
                        .lasting(Duration::from_secs(1))
                });
            s.step("end", End(build), NOTHING).input(sound, |_, sound| sound.object)
        })
        .unwrap()
    }
}

impl Scene for OnElevenLabs {
    type Sim = ElevenLabsSim;

    fn sim(&self) -> ElevenLabsSim {
        let mut sim = ElevenLabsSim::new();
        sim.accept_key(TOKEN);
        sim.add_voice("Rachel the second");
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        match &self.folder {
            Some(folder) => self.saga_in(&FileSink::new(folder.path()), url, build),
            None => self.saga_in(&self.shelf, url, build),
        }
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        without(state, &["made", "paid", "used", "open"])
    }

    fn same_ids(&self, _: &str) -> Option<&'static str> {
        // Audio is in the host's storage, and nothing is at the provider.
        None
    }

    fn lag(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn late(&self) -> Duration {
        Duration::from_secs(60)
    }
}
