//! A bucket, an object, and a song that is paid elsewhere and stored beside it by way of a folder.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use provision_adapters::{
    elevenlabs::{ElevenLabs, ElevenLabsConfig, FileSink, Music, MusicSpec, sim::ElevenLabsSim},
    sim::{SimOptions, SimServer},
    supabase_storage::{
        Bucket, BucketSpec, Object, ObjectSpec, StorageSink, SupabaseStorage,
        SupabaseStorageConfig,
        sim::{SupabaseStorageSim, base},
    },
};
use provision_core::{Saga, resolver::MapResolver};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, call_within},
    scenes::{TOKEN, at, resolver, token, without},
};

/// The bucket in which objects and songs are kept; it was there before.
const SHARED: &str = "songs";

/// A storage, with a studio that goes well beside it.
#[derive(Clone)]
pub(crate) struct OnStorage {
    studio: Arc<SimServer<ElevenLabsSim>>,
    /// Each engine has a folder of its own in it.
    spool: Arc<TempDir>,
    engines: Arc<AtomicU32>,
}

impl fmt::Debug for OnStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same in each case: cases are told apart by it.
        f.write_str("OnStorage")
    }
}

impl OnStorage {
    pub(crate) fn new() -> Self {
        let mut studio = ElevenLabsSim::new();
        studio.accept_key(TOKEN);
        Self {
            studio: Arc::new(SimServer::start(studio, SimOptions::default()).unwrap()),
            spool: Arc::new(tempfile::tempdir().unwrap()),
            engines: Arc::default(),
        }
    }

    /// Files that are left in the spool of any engine.
    pub(crate) fn spooled(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(self.spool.path(), &mut files);
        files
    }
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path.display().to_string()),
        }
    }
}

impl Scene for OnStorage {
    type Sim = SupabaseStorageSim;

    fn sim(&self) -> SupabaseStorageSim {
        let mut sim = SupabaseStorageSim::new();
        sim.accept_key(TOKEN);
        sim.add_bucket(SHARED);
        sim.put(SHARED, "client-b/note.txt", b"theirs");
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let storage = SupabaseStorageConfig::at(at(&base(url)), token())
            .with_call_timeout(call_within())
            .with_upload_within(call_within());
        let storage = SupabaseStorage::new(storage).unwrap();
        let studio = ElevenLabsConfig::at(at(&self.studio.url()), token());
        let studio = studio.with_call_within(call_within());
        let elevenlabs = ElevenLabs::new(studio).unwrap();
        let number = self.engines.fetch_add(1, Ordering::Relaxed);
        let spool = FileSink::new(self.spool.path().join(number.to_string()));
        let sink = StorageSink::new(&storage, SHARED, spool);
        Saga::define(SAGA, |s| {
            let bucket = s
                .resource("bucket", Bucket::new(&storage))
                .retry(build.policy())
                .input((), |name: &String, ()| BucketSpec::new(name));
            let object = s
                .resource("object", Object::new(&storage))
                .retry(build.policy())
                .after(bucket)
                .input((), |name, ()| {
                    let path = format!("{name}/note.txt");
                    ObjectSpec::text(SHARED, path, ("text/plain", "hello"))
                });
            let song = s
                .resource("song", Music::new(&elevenlabs, sink))
                .retry(build.policy())
                .after(object)
                .input((), |name, ()| {
                    MusicSpec::prompt(format!("{name}/song.mp3"), "a calm piano")
                        .lasting(Duration::from_secs(3))
                });
            s.step("end", End(build), NOTHING).input(song, |_, song| song.object)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, mut state: Value) -> Value {
        if let Some(objects) = state.get_mut("objects").and_then(Value::as_object_mut) {
            objects.retain(|_, of| of.as_object().is_some_and(|of| !of.is_empty()));
        }
        without(state, &["uploads"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        // A song is an object there, and has another id in the ledger.
        (kind == "bucket").then_some("bucket")
    }

    fn lag(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn late(&self) -> Duration {
        Duration::from_secs(60)
    }
}
