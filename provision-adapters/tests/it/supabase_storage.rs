//! Supabase Storage: what is uploaded, found again, refused and signed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use provision_adapters::{
    elevenlabs::{AudioMade, FileSink, Music, MusicSpec},
    http::BaseUrl,
    sim::{Fault, FaultRule, SimOptions, SimServer},
    supabase_storage::{
        Bucket, BucketSpec, Object, ObjectSpec, PAGES_MAX, SIGNED_MAX, StorageSink,
        SupabaseStorage, SupabaseStorageConfig,
        sim::{KEY, SupabaseStorageSim, base},
    },
};
use provision_core::{
    AdoptPolicy, By, Effect, Engine, ExternalId, Found, MemoryStore, Origin, Outcome, Policy,
    Readiness, Resource, RunId, Saga, SagaId, SecretRef, StepContext, Timestamp, WorkerConfig,
    clock::Clock, context::Memory, resolver::MapResolver,
};
use provision_testkit::solo::SoloHost;

use crate::{
    elevenlabs::{World as Studio, run, song},
    engine::CALL_WITHIN,
    network::plays_alone,
    scenes::TOKEN,
    spec::{SpecSet, check_exchanges},
    vercel::build,
};

const BUCKET: &str = "songs";
const NAME: &str = "STORAGE_KEY";
const UPLOADS: &str = "/storage/v1/object/songs/";

/// A simulated storage with one bucket, a client of it, and a host for single resources.
struct World {
    server: SimServer<SupabaseStorageSim>,
    storage: SupabaseStorage,
    host: SoloHost,
}

impl World {
    fn start() -> Self {
        Self::with(SimOptions::default(), |config| config)
    }

    fn with(
        options: SimOptions,
        set: impl FnOnce(SupabaseStorageConfig) -> SupabaseStorageConfig,
    ) -> Self {
        let mut sim = SupabaseStorageSim::new();
        sim.add_bucket(BUCKET);
        let server = SimServer::start(sim, options).unwrap();
        let base = BaseUrl::parse(&base(&server.url())).unwrap();
        let config = SupabaseStorageConfig::at(base, SecretRef::named(NAME));
        let storage = SupabaseStorage::new(set(config)).unwrap();
        Self { server, storage, host: SoloHost::new().with_secret(NAME, KEY) }
    }

    fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    fn object(&self) -> Object {
        Object::new(&self.storage)
    }

    fn fails(&self, fault: Fault) {
        let rule = FaultRule::new(fault).method("POST").path_contains(UPLOADS).once();
        self.server.faults().add(rule);
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.server.with(|sim| sim.content(BUCKET, path))
    }

    fn uploads(&self) -> u64 {
        self.server.with(|sim| sim.uploads())
    }
}

fn note(path: &str, text: &str) -> ObjectSpec {
    ObjectSpec::text(BUCKET, path, ("text/plain", text))
}

/// Stops being asked soon.
fn brief() -> Policy {
    Policy::attempts(8).fixed(Duration::from_millis(20))
}

// covers: S7, S9, S14, R3-20
#[tokio::test]
async fn an_upload_that_is_already_there_is_a_success() {
    let world = World::start();
    let (cx, object) = (world.cx("note"), world.object());
    world.fails(Fault::DropAfter);
    let intent = world.host.intend(&cx, &object, &note("1/a.txt", "hello"));
    let lost = object.create(&cx, &note("1/a.txt", "hello"), &intent).await.unwrap_err();
    assert_eq!(lost.effect(), Effect::Unknown);
    // The same attempt again, and what the engine asks before it begins another one.
    let again = object.create(&cx, &note("1/a.txt", "hello"), &intent).await.unwrap_err();
    assert_eq!((again.code(), again.effect()), ("name_taken", Effect::Unknown));
    let found = object.find(&cx, &note("1/a.txt", "hello")).await.unwrap();
    let id = ExternalId::new("songs/1/a.txt");
    assert_eq!(found, Found::Ours(id.clone()));
    let Readiness::Ready(stored) = object.ready(&cx, &note("1/a.txt", "hello"), &id).await.unwrap()
    else {
        panic!("it is there");
    };
    assert_eq!((stored.bytes, stored.content_type.as_str()), (5, "text/plain"));
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(stored.sha256, hello);
    assert_eq!((world.uploads(), world.content("1/a.txt").unwrap()), (1, b"hello".to_vec()));
    for _ in 0..2 {
        object.delete(&cx, &note("1/a.txt", "hello"), &id).await.unwrap();
    }
    assert_eq!(world.server.inventory(), []);
}

// covers: S7, S9, R3-20
#[tokio::test]
async fn a_run_whose_upload_lost_its_answer_ends_well_with_one_object() {
    const KEEP: SagaId<String, String> = SagaId::new("keep", 1);
    for fault in [Fault::DropAfter, Fault::StatusAfter(503), Fault::CutBody, Fault::Duplicate] {
        let world = World::start();
        let name = fault.name();
        world.fails(fault);
        let saga = Saga::define(KEEP, |s| {
            let kept = s
                .resource("object", world.object())
                .retry(brief())
                .input((), |text, ()| note("1/a.txt", text));
            s.value("path").input(kept, |_, kept| kept.path)
        });
        let resolver = MapResolver::new().with(NAME, KEY);
        let builder = Engine::builder(MemoryStore::new()).resolver(resolver);
        let engine = builder.register(saga.unwrap()).build().await.unwrap();
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(KEEP, &"hello".to_owned()).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), run.output()).await;
        let asked = || panic!("{name}: {:?}", world.server.requests());
        assert_eq!(ended.unwrap_or_else(|_| asked()).unwrap(), "1/a.txt", "{name}");
        assert_eq!(world.uploads(), 1, "{name}");
        assert_eq!(world.server.inventory().len(), 1, "{name}");
        worker.stop().await;
    }
}

// covers: S11
#[tokio::test]
async fn what_others_have_put_there_is_refused_and_used_only_where_it_is_the_same() {
    let world = World::start();
    world.server.with(|sim| sim.put(BUCKET, "1/a.txt", b"hello"));
    let object = world.object();
    let id = ExternalId::new("songs/1/a.txt");
    let found = object.find(&world.cx("note"), &note("1/a.txt", "hello")).await.unwrap();
    assert!(matches!(found, Found::Foreign(foreign) if foreign.id == id && foreign.markable));
    let memory = Memory {
        adopt: AdoptPolicy::Use,
        noted: vec![(id.clone(), Origin::Adopted)],
        ..Memory::default()
    };
    let cx = world.host.attempt(run(1), "note", 1, memory);
    let same = object.ready(&cx, &note("1/a.txt", "hello"), &id).await.unwrap();
    assert!(matches!(same, Readiness::Ready(stored) if stored.bytes == 5));
    let other = object.ready(&cx, &note("1/a.txt", "hallo"), &id).await.unwrap_err();
    assert_eq!(other.code(), "adopted_incomplete");
    // Another run's is as foreign, and says whose it is.
    let (theirs, spec) = (world.host.context(run(2), "note"), note("2/b.txt", "x"));
    let (_, made) = build(&world.host, &theirs, &object, &spec).await;
    assert_eq!(made.path, "2/b.txt");
    let found = object.find(&world.cx("note"), &spec).await.unwrap();
    assert!(matches!(found, Found::Foreign(foreign) if foreign.owner == Some(theirs.mark())));
    for (cx, spec, id) in [(&cx, note("1/a.txt", "hello"), id), (&cx, spec, "songs/2/b.txt".into())]
    {
        object.delete(cx, &spec, &id).await.unwrap();
    }
    assert_eq!(world.server.with(|sim| sim.paths(BUCKET)), ["1/a.txt", "2/b.txt"]);
    assert_eq!(world.content("1/a.txt").unwrap(), b"hello");
}

fn file(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("part");
    std::fs::write(&path, bytes).unwrap();
    path
}

// covers: X6, S25
#[tokio::test]
async fn a_file_is_sent_in_pieces_and_one_that_is_too_large_not_at_all() {
    let world = World::with(SimOptions::default(), |config| config.with_object_bytes_max(300_000));
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
    let spec = |path: &str| ObjectSpec::file(BUCKET, path, ("audio/mpeg", file(&folder, &bytes)));
    let object = world.object();
    let (_, stored) = build(&world.host, &world.cx("a"), &object, &spec("a.mp3")).await;
    assert_eq!((stored.bytes, world.content("a.mp3").unwrap()), (300_000, bytes.clone()));

    let larger = ObjectSpec::file(
        BUCKET,
        "b.mp3",
        ("audio/mpeg", file(&folder, &[bytes.as_slice(), b"1"].concat())),
    );
    let cx = world.cx("b");
    let intent = world.host.intend(&cx, &object, &larger);
    let refused = object.create(&cx, &larger, &intent).await.unwrap_err();
    assert_eq!((refused.code(), refused.effect()), ("too_large", Effect::None));
    assert_eq!(world.uploads(), 1, "it was not sent");
    // The project's limit and the bucket's are told by the server.
    world.server.with(|sim| sim.set_object_bytes_max(1_000));
    let refused = object.create(&cx, &spec("b.mp3"), &intent).await.unwrap_err();
    assert_eq!((refused.code(), refused.effect()), ("too_large", Effect::None));
    let nowhere = ObjectSpec::file(BUCKET, "c.mp3", ("audio/mpeg", folder.path().join("none")));
    let refused = object.create(&cx, &nowhere, &intent).await.unwrap_err();
    assert_eq!((refused.code(), refused.effect()), ("file_unreadable", Effect::None));
    for path in ["", "/a", "a//b", "../a", "a/..", "a b", "\u{e9}", "a?b"] {
        let refused = object.find(&cx, &note(path, "x")).await.unwrap_err();
        assert_eq!(refused.code(), "invalid_spec", "{path}");
    }
    let elsewhere = ObjectSpec::text("nowhere", "a.txt", ("text/plain", "x"));
    assert_eq!(object.find(&cx, &elsewhere).await.unwrap_err().code(), "no_bucket");
    object.delete(&cx, &elsewhere, &ExternalId::new("nowhere/a.txt")).await.unwrap();
}

// covers: S7, S11, S14
#[tokio::test]
async fn a_bucket_is_made_found_again_and_removed_with_its_contents_where_that_is_wanted() {
    let world = World::start();
    world.server.with(|sim| sim.set_page(2));
    let (cx, bucket) = (world.cx("bucket"), Bucket::new(&world.storage));
    let spec = BucketSpec::new("client-a").with_content_type("text/*").with_object_bytes_max(9);
    let (id, made) = build(&world.host, &cx, &bucket, &spec).await;
    assert_eq!((made.id.as_str(), made.public), ("client-a", false));
    assert_eq!(bucket.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    let stranger = world.host.context(run(2), "bucket");
    let found = bucket.find(&stranger, &spec).await.unwrap();
    assert!(matches!(found, Found::Foreign(_)));
    bucket.delete(&stranger, &spec, &id).await.unwrap();
    let owned = bucket.list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 1, "not the one that a person has made");
    assert_eq!(owned[0].mark, Some(cx.mark()));

    // The bucket's own limits.
    let object = world.object();
    let step = world.cx("object");
    for (content_type, text, code) in
        [("audio/mpeg", "x", "content_type"), ("text/plain", "0123456789", "too_large")]
    {
        let spec = ObjectSpec::text("client-a", "a.txt", (content_type, text));
        let intent = world.host.intend(&step, &object, &spec);
        assert_eq!(object.create(&step, &spec, &intent).await.unwrap_err().code(), code);
    }
    world.server.with(|sim| {
        ["a", "b/c", "b/d", "e", "f"].into_iter().for_each(|path| sim.put("client-a", path, b"x"));
    });
    let listed = world.storage.list(&cx, "client-a", "b/").await.unwrap();
    assert_eq!(listed, ["b/c", "b/d"]);
    let full = bucket.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!(full.code(), "bucket_not_empty");
    assert_eq!(world.server.with(|sim| sim.paths("client-a").len()), 5);
    let spec = spec.deleted_with_contents();
    for _ in 0..2 {
        bucket.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!(bucket.find(&cx, &spec).await.unwrap(), Found::Absent);
    // One that a person has made is refused, and never deleted.
    let theirs = BucketSpec::new(BUCKET).deleted_with_contents();
    assert!(matches!(bucket.find(&cx, &theirs).await.unwrap(), Found::Foreign(_)));
    bucket.delete(&cx, &theirs, &ExternalId::new(BUCKET)).await.unwrap();
    assert_eq!(world.server.with(|sim| sim.paths(BUCKET).len()), 0);
    let open = bucket.ready(&cx, &theirs.public(), &ExternalId::new(BUCKET)).await.unwrap_err();
    assert_eq!(open.code(), "adopted_incomplete", "a bucket is not opened to everybody");
}

// covers: S12, S25
#[tokio::test]
async fn a_bucket_is_emptied_however_many_pages_are_in_it() {
    let world = World::start();
    let (cx, bucket) = (world.cx("bucket"), Bucket::new(&world.storage));
    let spec = BucketSpec::new("client-a").deleted_with_contents();
    let (id, _) = build(&world.host, &cx, &bucket, &spec).await;
    world.server.with(|sim| {
        // More pages than a listing may have.
        sim.set_page(1);
        for number in 0..=PAGES_MAX {
            sim.put("client-a", &format!("{number}.txt"), b"x");
        }
    });
    let listing = world.storage.list(&cx, "client-a", "").await.unwrap_err();
    assert_eq!(listing.code(), "endless_listing");
    bucket.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(bucket.find(&cx, &spec).await.unwrap(), Found::Absent);
    assert_eq!(world.server.inventory(), []);
}

/// A clock that a test moves.
#[derive(Debug, Default)]
struct Hands(std::sync::atomic::AtomicU64);

impl Clock for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

// covers: R3-31, X1
#[tokio::test]
async fn an_address_is_signed_when_asked_and_lasts_as_long_as_was_said() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let hands = Arc::new(Hands::default());
    let clock = Arc::clone(&hands) as Arc<dyn Clock>;
    let world = World::with(SimOptions::default().with_clock(clock), |config| config);
    world.server.with(|sim| sim.put(BUCKET, "1/a.mp3", b"audio"));
    // A host that is in no step.
    let resolver = MapResolver::new().with(NAME, KEY);
    let engine = Engine::builder(MemoryStore::new()).resolver(resolver).build().await.unwrap();
    let cx = engine.outside(None).await.unwrap();
    let week = world.storage.sign(&cx, (BUCKET, "1/a.mp3"), 7 * DAY).await.unwrap();
    let short = world.storage.sign(&cx, (BUCKET, "1/a.mp3"), DAY / 96).await.unwrap();
    assert!(!format!("{week:?}").contains("token"), "it is a key");
    let fetch = async |url: &str| {
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    assert_eq!(fetch(week.expose()).await, (200, b"audio".to_vec()));
    hands.0.store(6 * 24 * 3_600 * 1_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(fetch(week.expose()).await, (200, b"audio".to_vec()));
    assert_eq!(fetch(short.expose()).await.0, 400, "fifteen minutes are over");
    hands.0.store(7 * 24 * 3_600 * 1_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(fetch(week.expose()).await.0, 400);
    let other = week.expose().replace("1/a.mp3", "1/b.mp3");
    assert_eq!(fetch(&other).await.0, 400, "it opens one object");

    let absent = world.storage.sign(&cx, (BUCKET, "2/a.mp3"), DAY).await.unwrap_err();
    assert_eq!(absent.code(), "not_found");
    for lifetime in [Duration::ZERO, SIGNED_MAX + Duration::from_secs(1)] {
        let refused = world.storage.sign(&cx, (BUCKET, "1/a.mp3"), lifetime).await.unwrap_err();
        assert_eq!(refused.code(), "invalid_spec");
    }
    // Looking is all that a host may do there.
    let spec = note("3/c.txt", "x");
    let noted = cx.note(&ExternalId::new("x")).await.unwrap_err();
    assert_eq!(noted.code(), "look_only");
    assert_eq!(world.object().find(&cx, &spec).await.unwrap(), Found::Absent);
}

const SONG: SagaId<String, AudioMade> = SagaId::new("song", 1);

/// An engine that makes music into the storage by way of a folder.
async fn band(world: &World, studio: &Studio, folder: &tempfile::TempDir) -> Engine {
    let sink = StorageSink::new(&world.storage, BUCKET, FileSink::new(folder.path()));
    let music = Music::new(&studio.elevenlabs, sink);
    let saga = Saga::define(SONG, |s| {
        s.resource("song", music)
            .retry(brief())
            .input((), |order, ()| song(&format!("{order}/variant-1.mp3")))
    });
    let resolver = MapResolver::new()
        .with(NAME, KEY)
        .with("ELEVENLABS_KEY", provision_adapters::elevenlabs::sim::KEY);
    let builder = Engine::builder(MemoryStore::new()).resolver(resolver);
    builder.register(saga.unwrap()).build().await.unwrap()
}

// covers: S8, S9, R3-20, R3-21
#[tokio::test]
async fn audio_is_paid_once_and_stored_under_its_path_whatever_happens_to_its_upload() {
    let faults = [
        None,
        Some(Fault::RefuseBefore),
        Some(Fault::DropAfter),
        Some(Fault::Status(503)),
        Some(Fault::StatusAfter(500)),
        Some(Fault::Status(500)),
    ];
    for fault in faults {
        let (world, studio) = (World::start(), Studio::start());
        let name = fault.as_ref().map(Fault::name);
        if let Some(fault) = fault {
            world.fails(fault);
        }
        let folder = tempfile::tempdir().unwrap();
        let engine = band(&world, &studio, &folder).await;
        let worker = engine.spawn_worker(WorkerConfig::default());
        let run = engine.start(SONG, &"order-7".to_owned()).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), run.output()).await;
        let made = ended.unwrap().unwrap();
        assert_eq!(made.object, "order-7/variant-1.mp3", "{name:?}");
        assert_eq!((studio.paid(), world.uploads()), (1, 1), "{name:?}");
        let kept = world.server.with(|sim| {
            let kind = sim.content_type(BUCKET, "order-7/variant-1.mp3");
            (sim.paths(BUCKET), kind.unwrap())
        });
        assert_eq!(kept, (vec!["order-7/variant-1.mp3".to_owned()], "audio/mpeg".to_owned()));
        let bytes = world.content("order-7/variant-1.mp3").unwrap();
        assert_eq!(u64::try_from(bytes.len()).unwrap(), made.bytes, "{name:?}");
        assert_eq!(left_in(&folder), 0, "{name:?}: nothing stays in the spool");
        if name.is_none() {
            // Where an upload had no answer, its time is waited out: see `ambiguous`.
            engine.tear_down(run.id(), By::default()).await.unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(60), run.outcome()).await;
            assert_eq!(ended.unwrap().unwrap(), Outcome::TornDown);
            assert_eq!(world.server.inventory(), []);
        }
        worker.stop().await;
    }
}

// covers: S9, S12, R3-20
#[tokio::test]
async fn a_look_uploads_nothing_and_a_repeated_create_pays_nothing() {
    let (world, studio) = (World::start(), Studio::start());
    let folder = tempfile::tempdir().unwrap();
    let sink = StorageSink::new(&world.storage, BUCKET, FileSink::new(folder.path()));
    let music = Music::new(&studio.elevenlabs, sink);
    let host = SoloHost::new()
        .with_secret(NAME, KEY)
        .with_secret("ELEVENLABS_KEY", provision_adapters::elevenlabs::sim::KEY);
    let (cx, spec) = (host.context(run(1), "song"), song("order-7/variant-1.mp3"));
    let intent = host.intend(&cx, &music, &spec);
    world.fails(Fault::RefuseBefore);
    let refused = music.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((refused.code(), refused.effect()), ("not_stored", Effect::Unknown));
    assert_ne!(left_in(&folder), 0, "what was paid is kept");

    let id = ExternalId::new("order-7/variant-1.mp3");
    let sent = || world.server.requests().iter().filter(|line| line.method != "GET").count();
    let before = sent();
    for _ in 0..2 {
        assert_eq!(music.find(&cx, &spec).await.unwrap(), Found::Begun(id.clone()));
    }
    // Another run's step sees nothing, and one on another machine does not either.
    let other = host.context(run(2), "song");
    assert_eq!(music.find(&other, &spec).await.unwrap(), Found::Absent);
    assert_eq!((sent(), world.uploads(), studio.paid()), (before, 0, 1));

    assert_eq!(music.create(&cx, &spec, &intent).await.unwrap(), id);
    assert_eq!((world.uploads(), studio.paid()), (1, 1));
    assert_eq!(music.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    assert!(matches!(music.ready(&cx, &spec, &id).await.unwrap(), Readiness::Ready(_)));
    assert_eq!(left_in(&folder), 0, "it was seen in its place");
    music.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.server.inventory(), []);
}

// covers: S12, S14
#[tokio::test]
async fn an_undo_removes_what_is_spooled_and_uploads_nothing() {
    let (world, studio) = (World::start(), Studio::start());
    let folder = tempfile::tempdir().unwrap();
    let sink = StorageSink::new(&world.storage, BUCKET, FileSink::new(folder.path()));
    let music = Music::new(&studio.elevenlabs, sink);
    let host = SoloHost::new()
        .with_secret(NAME, KEY)
        .with_secret("ELEVENLABS_KEY", provision_adapters::elevenlabs::sim::KEY);
    let (cx, spec) = (host.context(run(1), "song"), song("order-7/variant-1.mp3"));
    let intent = host.intend(&cx, &music, &spec);
    world.fails(Fault::RefuseBefore);
    music.create(&cx, &spec, &intent).await.unwrap_err();
    // Meanwhile somebody else takes the name: theirs stays, and so does not what was paid.
    world.server.with(|sim| sim.put(BUCKET, "order-7/variant-1.mp3", b"theirs"));
    let id = ExternalId::new("order-7/variant-1.mp3");
    assert_eq!(music.find(&cx, &spec).await.unwrap(), Found::Begun(id.clone()));
    for _ in 0..2 {
        music.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!((left_in(&folder), world.uploads()), (0, 0));
    assert_eq!(world.content("order-7/variant-1.mp3").unwrap(), b"theirs");
}

// covers: S9
#[tokio::test]
async fn a_bucket_that_is_not_there_is_noticed_before_anything_is_paid() {
    let (world, studio) = (World::start(), Studio::start());
    let folder = tempfile::tempdir().unwrap();
    let sink = StorageSink::new(&world.storage, "nowhere", FileSink::new(folder.path()));
    let music = Music::new(&studio.elevenlabs, sink);
    let host = SoloHost::new().with_secret(NAME, KEY);
    let (cx, spec) = (host.context(run(1), "song"), song("order-7/variant-1.mp3"));
    // Nothing of ours is in a bucket that is not there: an undo has nothing to wait for.
    assert_eq!(music.find(&cx, &spec).await.unwrap(), Found::Absent);
    music.delete(&cx, &spec, &ExternalId::new("order-7/variant-1.mp3")).await.unwrap();
    let intent = host.intend(&cx, &music, &spec);
    let refused = music.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((refused.code(), refused.effect()), ("no_bucket", Effect::None));
    assert_eq!((studio.paid(), left_in(&folder)), (0, 0));
}

fn left_in(folder: &tempfile::TempDir) -> usize {
    let Ok(entries) = std::fs::read_dir(folder.path().join("order-7")) else { return 0 };
    entries.count()
}

// covers: S11
#[tokio::test]
async fn audio_of_others_under_the_same_name_stays() {
    let (world, studio) = (World::start(), Studio::start());
    world.server.with(|sim| sim.put(BUCKET, "order-7/variant-1.mp3", b"theirs"));
    let folder = tempfile::tempdir().unwrap();
    let sink = StorageSink::new(&world.storage, BUCKET, FileSink::new(folder.path()));
    let music = Music::new(&studio.elevenlabs, sink);
    let host = SoloHost::new().with_secret(NAME, KEY);
    let cx = host.context(RunId::from_uuid(uuid::Uuid::from_u128(1)), "song");
    let spec = MusicSpec::prompt("order-7/variant-1.mp3", "a calm piano");
    let found = music.find(&cx, &spec).await.unwrap();
    assert!(matches!(found, Found::Foreign(_)));
    music.delete(&cx, &spec, &ExternalId::new("order-7/variant-1.mp3")).await.unwrap();
    assert_eq!(world.content("order-7/variant-1.mp3").unwrap(), b"theirs");
    assert_eq!(studio.paid(), 0);
}

// covers: R1-12
#[tokio::test]
async fn every_exchange_about_buckets_fits_the_providers_specification() {
    let world = World::with(SimOptions::default().with_recorded_exchanges(), |config| config);
    let (cx, bucket) = (world.cx("bucket"), Bucket::new(&world.storage));
    let spec = BucketSpec::new("client-a").public().with_content_type("text/*");
    assert_eq!(bucket.find(&cx, &spec).await.unwrap(), Found::Absent);
    let spec = spec.with_object_bytes_max(9).deleted_with_contents();
    let (id, _) = build(&world.host, &cx, &bucket, &spec).await;
    let intent = world.host.intend(&cx, &bucket, &spec);
    let taken = bucket.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!(taken.code(), "name_taken");
    let inside = ObjectSpec::text("client-a", "a.txt", ("text/plain", "x"));
    build(&world.host, &world.cx("object"), &world.object(), &inside).await;
    let mut full = spec.clone();
    full.deleted_with_contents = false;
    assert!(bucket.delete(&cx, &full, &id).await.is_err(), "something is in it");
    bucket.list_owned(&cx).await.unwrap();
    bucket.delete(&cx, &spec, &id).await.unwrap();
    bucket.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.server.inventory(), []);
    // The document that the provider publishes describes buckets alone.
    let Some(document) = SpecSet::load("supabase-storage") else { return };
    let document = document.exempt("/storage/v1/object/");
    let seen = check_exchanges(&document, &world.server.exchanges());
    let called =
        ["DELETE /bucket/{bucketId}", "GET /bucket", "GET /bucket/{bucketId}", "POST /bucket"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), called, "all that the adapter calls of it");
}

// covers: S9, X1, X2
#[tokio::test]
async fn no_network_misleads_the_emptying_of_a_bucket() {
    let world = World::with(SimOptions::default(), |config| {
        config.with_call_timeout(CALL_WITHIN).with_upload_within(CALL_WITHIN)
    });
    world.server.with(|sim| sim.accept_key(TOKEN));
    world.host.set_secret(NAME, TOKEN);
    let (cx, bucket) = (world.cx("bucket"), Bucket::new(&world.storage));
    let spec = BucketSpec::new("client-a").deleted_with_contents();
    let inside = ObjectSpec::text("client-a", "a.txt", ("text/plain", "x"));
    plays_alone(&world.server, ("DELETE", "/object/client-a"), async || {
        // What an earlier round has left is taken as it is.
        let intent = world.host.intend(&cx, &bucket, &spec);
        let _ = bucket.create(&cx, &spec, &intent).await;
        let _ = world.object().create(&world.cx("object"), &inside, &intent).await;
        bucket.delete(&cx, &spec, &ExternalId::new("client-a")).await
    })
    .await;
}
