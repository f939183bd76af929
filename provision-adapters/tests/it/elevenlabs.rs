//! ElevenLabs: what is made, stored and paid, and that nothing of it happens twice.

use std::time::Duration;

use provision_adapters::{
    elevenlabs::{
        AudioMade, AudioSink, AudioUpload, ElevenLabs, ElevenLabsConfig, FileSink, FindVoice,
        Music, MusicSpec, Prices, Receipt, SoundEffect, SoundSpec, Speech, SpeechSpec, Stored,
        VoiceWanted,
        sim::{ElevenLabsSim, KEY, VOICE},
    },
    http::BaseUrl,
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    Cost, CostPer, Effect, ExternalId, Found, Origin, Readiness, Resource, RunId, SecretRef, Step,
    StepContext, Verdict, context::Memory,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::{
    scenes_elevenlabs::Shelf,
    spec::{SpecSet, check_exchanges},
    vercel::build,
};

/// A simulated account, a client of it, a shelf for its audio, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<ElevenLabsSim>,
    pub(crate) elevenlabs: ElevenLabs,
    pub(crate) shelf: Shelf,
    pub(crate) host: SoloHost,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(|config| config)
    }

    pub(crate) fn with(set: impl FnOnce(ElevenLabsConfig) -> ElevenLabsConfig) -> Self {
        let options = SimOptions::default().with_recorded_exchanges();
        let server = SimServer::start(ElevenLabsSim::new(), options).unwrap();
        let base = BaseUrl::parse(&server.url()).unwrap();
        let config = ElevenLabsConfig::at(base, SecretRef::named("ELEVENLABS_KEY"));
        let elevenlabs = ElevenLabs::new(set(config)).unwrap();
        let host = SoloHost::new().with_secret("ELEVENLABS_KEY", KEY);
        Self { server, elevenlabs, shelf: Shelf::default(), host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    pub(crate) fn music(&self) -> Music<Shelf> {
        Music::new(&self.elevenlabs, self.shelf.clone())
    }

    pub(crate) fn paid(&self) -> usize {
        self.server.with(|sim| sim.paid())
    }

    /// Every exchange fits the document.
    fn check(&self) {
        let Some(spec) = SpecSet::load("elevenlabs") else { return };
        check_exchanges(&spec, &self.server.exchanges());
    }
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn song(object: &str) -> MusicSpec {
    MusicSpec::prompt(object, "a calm piano").lasting(Duration::from_secs(3))
}

// covers: R2-54, R2-70
#[tokio::test]
async fn audio_is_made_stored_with_its_receipt_found_again_and_removed() {
    let world = World::start();
    let (cx, music) = (world.cx("song"), world.music());
    let (id, made) = build(&world.host, &cx, &music, &song("17/song.mp3")).await;
    assert_eq!((id.as_str(), made.object.as_str()), ("17/song.mp3", "17/song.mp3"));
    assert_eq!((made.content_type.as_str(), made.bytes), ("audio/mpeg", 48_000));
    assert_eq!((made.model.as_str(), made.credits), ("music_v2", Some(30)));
    assert!(made.song_id.is_some() && made.request_id.is_some());
    assert_eq!(made.unanswered_calls, 0);
    let bytes = world.shelf.bytes("17/song.mp3");
    assert_eq!((bytes.len(), &bytes[..4]), (48_000, &[0xFF, 0xFB, 0x90, 0x00][..]));
    assert_eq!(music.find(&cx, &song("17/song.mp3")).await.unwrap(), Found::Ours(id.clone()));

    let sound = SoundEffect::new(&world.elevenlabs, world.shelf.clone());
    let spec = SoundSpec::new("17/door.mp3", "a door").lasting(Duration::from_millis(1_500));
    let (_, made) = build(&world.host, &world.cx("sound"), &sound, &spec.looped()).await;
    assert_eq!((made.bytes, made.song_id), (24_000, None));
    let speech = Speech::new(&world.elevenlabs, world.shelf.clone());
    let spec = SpeechSpec::new("17/hello.mp3", VOICE.1, "hello").in_language("en").with_seed(7);
    let (_, made) = build(&world.host, &world.cx("speech"), &speech, &spec).await;
    assert_eq!((made.credits, made.model.as_str()), (Some(5), "eleven_multilingual_v2"));
    let plan = serde_json::json!({ "chunks": [
        { "text": "quiet", "duration_ms": 3_000, "positive_styles": ["piano"] } ] });
    let plan = MusicSpec::plan("17/plan.mp3", plan);
    build(&world.host, &world.cx("plan"), &music, &plan).await;
    assert_eq!(world.paid(), 4);

    for _ in 0..2 {
        music.delete(&cx, &song("17/song.mp3"), &id).await.unwrap();
    }
    assert_eq!(world.shelf.names(), ["17/door.mp3", "17/hello.mp3", "17/plan.mp3"]);
    let state = music.ready(&cx, &song("17/song.mp3"), &id).await.unwrap();
    assert!(matches!(state, Readiness::Broken { ref code } if code == "vanished"));
    world.check();
}

#[tokio::test]
async fn voices_are_found_by_id_or_by_their_whole_name() {
    let world = World::start();
    let find = FindVoice::new(&world.elevenlabs);
    let second = world.server.with(|sim| {
        sim.set_small_pages(true);
        sim.add_voice("Rachel the second");
        sim.add_voice("Twin");
        sim.add_voice("Twin");
        sim.add_voice("Rachel the second of that name")
    });
    let cx = world.cx("voice");
    let by_name = |name: &str| VoiceWanted::Name(name.to_owned());
    let found = find.run(&cx, by_name(VOICE.0)).await.unwrap();
    assert_eq!((found.id.as_str(), found.category.as_deref()), (VOICE.1, Some("premade")));
    let pages = world.server.requests().len();
    assert_eq!(pages, 3, "all pages of what the search finds");
    let found = find.run(&cx, VoiceWanted::Id(second)).await.unwrap();
    assert_eq!(found.name, "Rachel the second of that name");
    let cases = [
        (by_name("rachel"), "voice_not_found"),
        (by_name("Twin"), "voice_ambiguous"),
        (VoiceWanted::Id("nobody".to_owned()), "voice_not_found"),
    ];
    for (wanted, code) in cases {
        let error = find.run(&cx, wanted).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &Verdict::Permanent));
    }
    world.check();
}

#[tokio::test]
async fn credits_are_read() {
    let world = World::start();
    build(&world.host, &world.cx("song"), &world.music(), &song("a")).await;
    let credits = world.elevenlabs.credits(&world.cx("song")).await.unwrap();
    assert_eq!((credits.left, credits.limit), (99_970, 100_000));
    assert!(credits.resets_at.is_some());
    world.check();
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_before_anything_is_paid() {
    let world = World::start();
    let cx = world.cx("song");
    let sections = serde_json::json!({ "sections": [] });
    let specs = [
        MusicSpec::prompt("a", ""),
        MusicSpec::prompt("a", "x".repeat(4_101)),
        song("a").lasting(Duration::from_millis(2_999)),
        song("a").lasting(Duration::from_secs(601)),
        MusicSpec::plan("a", sections.clone()),
        MusicSpec::plan("a", serde_json::json!({ "chunks": [] })).with_model("music_v1"),
    ];
    for spec in specs {
        let intent = world.host.intend(&cx, &world.music(), &spec);
        let error = world.music().create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    for object in ["", "../a", "/etc/passwd", "a//b", ".a"] {
        let error = world.music().find(&cx, &song(object)).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("invalid_spec", &Verdict::Permanent));
    }
    let sound = SoundEffect::new(&world.elevenlabs, world.shelf.clone());
    for spec in [
        SoundSpec::new("a", " "),
        SoundSpec::new("a", "x").lasting(Duration::from_millis(499)),
        SoundSpec::new("a", "x").lasting(Duration::from_secs(31)),
        SoundSpec::new("a", "x").with_format("mp3_48000_192"),
    ] {
        let intent = world.host.intend(&cx, &sound, &spec);
        let error = sound.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!(error.code(), "invalid_spec", "{spec:?}");
    }
    assert!(world.server.requests().is_empty());
    let fits = MusicSpec::plan("a", sections).with_model("music_v1").with_format("pcm_44100");
    let intent = world.host.intend(&cx, &world.music(), &fits);
    world.music().create(&cx, &fits, &intent).await.unwrap();
}

#[test]
fn the_ledger_is_told_what_a_call_is_expected_to_cost() {
    let prices = Prices::new("EUR").music_minute(600).speech_thousand(100).sound(50);
    let world = World::with(|config| config.with_prices(prices).with_account("acme"));
    let cost = |milli| Some(Cost { milli, currency: "EUR".to_owned(), per: CostPer::Once });
    let facts = world.music().facts(&song("a"));
    assert_eq!((facts.cost, world.music().account()), (cost(30), "acme"));
    assert_eq!(facts.name.as_deref(), Some("a"));
    let plan = serde_json::json!({ "chunks": [{ "duration_ms": 90_000 }, { "duration_ms": 1 }] });
    assert_eq!(world.music().facts(&MusicSpec::plan("a", plan)).cost, cost(901), "rounded up");
    assert_eq!(world.music().facts(&MusicSpec::prompt("a", "x")).cost, None, "nobody knows");
    let speech = Speech::new(&world.elevenlabs, world.shelf.clone());
    assert_eq!(speech.facts(&SpeechSpec::new("a", "v", "x".repeat(15))).cost, cost(2));
    let sound = SoundEffect::new(&world.elevenlabs, world.shelf.clone());
    assert_eq!(sound.facts(&SoundSpec::new("a", "x")).cost, cost(50));
    assert_eq!(World::start().music().facts(&song("a")).cost, None);
}

// covers: S11
#[tokio::test]
async fn what_others_stored_under_the_name_is_neither_replaced_nor_removed() {
    let world = World::start();
    let (cx, music) = (world.cx("song"), world.music());
    let (theirs, spec) = (world.host.context(run(2), "song"), song("same"));
    let (id, made) = build(&world.host, &theirs, &music, &spec).await;
    let found = music.find(&cx, &spec).await.unwrap();
    let Found::Foreign(foreign) = found else { panic!("{found:?}") };
    assert_eq!((foreign.id.clone(), foreign.owner.unwrap().run()), (id.clone(), run(2)));
    music.delete(&cx, &spec, &id).await.unwrap();
    world.shelf.put("other");
    let found = music.find(&cx, &song("other")).await.unwrap();
    assert!(matches!(found, Found::Foreign(ref f) if f.owner.is_none()), "{found:?}");
    music.delete(&cx, &song("other"), &ExternalId::new("other")).await.unwrap();
    assert_eq!(world.shelf.names(), ["other", "same"]);
    // Adopted, another run's audio is used as it is.
    cx.note_as(&id, Origin::Adopted).await.unwrap();
    let state = music.ready(&cx, &spec, &id).await.unwrap();
    assert_eq!(state, Readiness::Ready(made));
    assert_eq!(world.paid(), 1);
}

/// What is kept beside `a.mp3` of so many bytes, made by the step of this context.
pub(crate) fn receipt(cx: &StepContext, bytes: u64) -> Receipt {
    let made = serde_json::json!({
        "object": "a.mp3", "content_type": "audio/mpeg", "bytes": bytes, "model": "music_v2",
        "song_id": null, "request_id": null, "credits": null, "unanswered_calls": 0,
    });
    Receipt { mark: cx.mark(), made: serde_json::from_value(made).unwrap() }
}

/// How many files of a folder have this in their name.
pub(crate) fn leftovers(folder: &std::path::Path, part: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    entries.filter(|name| name.to_string_lossy().contains(part)).count()
}

// covers: X6, S14
#[tokio::test]
async fn a_folder_holds_whole_objects_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start();
    let sink = FileSink::new(folder.path());
    let music = Music::new(&world.elevenlabs, sink.clone());
    let (cx, spec) = (world.cx("song"), song("17/song.mp3"));
    // Cut, lying, empty or no audio: nothing is there, and nothing is left.
    let place = folder.path().join("17");
    for fault in [
        Fault::CutBody,
        Fault::LyingLength,
        Fault::ResetAfter,
        Fault::Html200,
        Fault::EndlessBody { bytes: 1 << 20 },
    ] {
        let name = fault.name();
        world.server.faults().add(FaultRule::new(fault).once());
        let intent = world.host.intend(&cx, &music, &spec);
        let error = music.create(&cx, &spec, &intent).await.expect_err(name);
        assert_eq!(error.effect(), Effect::Unknown, "{name}: it may have been paid");
        assert_eq!(music.find(&cx, &spec).await.unwrap(), Found::Absent, "{name}");
        assert_eq!(leftovers(&place, ""), 0, "{name}");
        world.server.faults().clear();
    }
    // What a crash left of an upload is removed by the next one.
    let dead = format!("song.mp3.part-{}-dead-1", cx.mark().token());
    std::fs::write(place.join(dead), b"half").unwrap();
    let (id, made) = build(&world.host, &cx, &music, &spec).await;
    assert_eq!(std::fs::read(sink.path("17/song.mp3").unwrap()).unwrap().len(), 48_000);
    assert_eq!((leftovers(&place, ".part-"), leftovers(&place, "")), (0, 2));
    // Another process sees the same, whole.
    let again = Music::new(&world.elevenlabs, FileSink::new(folder.path()));
    assert_eq!(again.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    assert_eq!(again.ready(&cx, &spec, &id).await.unwrap(), Readiness::Ready(made.clone()));
    // A second upload of the same name replaces nothing.
    let mut upload = sink.begin(&cx, "17/song.mp3").await.unwrap();
    upload.write(b"other").await.unwrap();
    let receipt = Receipt { mark: cx.mark(), made };
    assert_eq!(upload.commit(&receipt).await.unwrap_err().code(), "storage");
    assert_eq!(std::fs::read(place.join("song.mp3")).unwrap().len(), 48_000);
    for _ in 0..2 {
        again.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!(leftovers(&place, ""), 0);
    // A file without a receipt is somebody's.
    std::fs::write(place.join("song.mp3"), b"mine").unwrap();
    assert_eq!(sink.stored(&cx, "17/song.mp3").await.unwrap(), Some(Stored::Other));
    for name in ["../x", "a.receipt.json", "a.part-1"] {
        assert_eq!(sink.path(name).unwrap_err().code(), "invalid_object", "{name}");
    }
}

// covers: S11, S9
#[tokio::test]
async fn two_runs_that_store_under_one_name_leave_each_other_alone() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start();
    let sink = FileSink::new(folder.path());
    let (mine, theirs) = (world.cx("song"), world.host.context(run(2), "song"));
    // Both are under way; none takes the other's unfinished file.
    let mut first = sink.begin(&mine, "a.mp3").await.unwrap();
    first.write(b"mine").await.unwrap();
    let mut second = sink.begin(&theirs, "a.mp3").await.unwrap();
    second.write(b"theirs").await.unwrap();
    first.commit(&receipt(&mine, 4)).await.unwrap();
    assert_eq!(second.commit(&receipt(&theirs, 6)).await.unwrap_err().code(), "storage");
    let path = sink.path("a.mp3").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let stored = sink.stored(&theirs, "a.mp3").await.unwrap();
    assert_eq!(stored, Some(Stored::Audio(receipt(&mine, 4))));
    assert_eq!(leftovers(folder.path(), ""), 2, "the object and its receipt");
    // Noted as made by the other run, it is not that run's audio.
    let music = Music::new(&world.elevenlabs, sink.clone());
    let id = ExternalId::new("a.mp3");
    let state = music.ready(&theirs, &song("a.mp3"), &id).await.unwrap();
    assert_eq!(state, Readiness::Broken { code: "replaced".to_owned() });
    music.delete(&theirs, &song("a.mp3"), &id).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    // A crash between receipt and object leaves the name to the run whose receipt it is.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(sink.begin(&theirs, "a.mp3").await.unwrap_err().effect(), Effect::None);
    music.delete(&theirs, &song("a.mp3"), &id).await.unwrap();
    let mut again = sink.begin(&mine, "a.mp3").await.unwrap();
    again.write(b"again").await.unwrap();
    again.commit(&receipt(&mine, 5)).await.unwrap();
    let stored = sink.stored(&mine, "a.mp3").await.unwrap();
    assert_eq!(stored, Some(Stored::Audio(receipt(&mine, 5))));
    music.delete(&mine, &song("a.mp3"), &id).await.unwrap();
    assert_eq!(leftovers(folder.path(), ""), 0);
}

// covers: X6
#[tokio::test]
async fn audio_above_the_limit_is_not_taken_by_announcement_or_by_count() {
    let world = World::with(|config| config.with_audio_bytes_max(40_000));
    let (cx, music) = (world.cx("song"), world.music());
    let create = async || {
        let intent = world.host.intend(&cx, &music, &song("a"));
        music.create(&cx, &song("a"), &intent).await.unwrap_err()
    };
    let announced = create().await;
    world.server.faults().add(FaultRule::new(Fault::EndlessBody { bytes: 64 << 20 }));
    let counted = create().await;
    for error in [announced, counted] {
        assert_eq!((error.code(), error.effect()), ("body_too_large", Effect::Unknown));
    }
    assert_eq!(world.shelf.names(), Vec::<String>::new());
}

// covers: S9
#[tokio::test]
async fn storage_that_takes_nothing_costs_nothing_and_a_lost_one_may_have_cost() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start();
    std::fs::write(folder.path().join("17"), b"a file where a folder is needed").unwrap();
    let music = Music::new(&world.elevenlabs, FileSink::new(folder.path()));
    let (cx, spec) = (world.cx("song"), song("17/song.mp3"));
    let intent = world.host.intend(&cx, &music, &spec);
    let error = music.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("storage", Effect::None));
    assert_eq!(world.paid(), 0);
    // It goes away while the audio comes.
    let spec = song("18/song.mp3");
    world.server.faults().add(FaultRule::new(Fault::SlowHeaders(Duration::from_secs(2))));
    let intent = world.host.intend(&cx, &music, &spec);
    let vanish = async {
        while world.server.faults().fired().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::remove_dir_all(folder.path().join("18")).unwrap();
    };
    let (end, ()) = tokio::join!(music.create(&cx, &spec, &intent), vanish);
    let error = end.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("not_stored", Effect::Unknown));
    assert_eq!(world.paid(), 1);
}

#[tokio::test]
async fn lost_calls_before_the_answered_one_are_counted_in_what_is_kept() {
    let world = World::start();
    let memory = Memory { unknown_calls: 2, unknown: true, ..Memory::default() };
    let cx = world.host.attempt(run(1), "song", 3, memory);
    let music = world.music();
    let intent = world.host.intend(&cx, &music, &song("a"));
    let id = music.create(&cx, &song("a"), &intent).await.unwrap();
    let state: Readiness<AudioMade> = music.ready(&cx, &song("a"), &id).await.unwrap();
    assert!(matches!(state, Readiness::Ready(ref made) if made.unanswered_calls == 2));
}
