//! The storage of a simulated project: buckets, objects with their metadata, and signed addresses,
//! refused as the server refuses, with 400 and the true status in the body.

mod buckets;
mod objects;

pub use objects::base;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sim::{InventoryItem, Provider, SimRequest, SimResponse, SimTime};

/// Key the simulator accepts, unless told of another one.
pub const KEY: &str = "sb_secret_simulated_storage_key";
/// Path under which a server of the simulator has the storage.
const PREFIX: &str = "/storage/v1";

/// The storage of a simulated project. What a test may decide is a method named for it.
#[derive(Debug)]
pub struct SupabaseStorageSim {
    state: State,
    object_bytes_max: u64,
    page: usize,
    key: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    buckets: BTreeMap<String, BucketKept>,
    /// By bucket and path.
    objects: BTreeMap<String, BTreeMap<String, ObjectKept>>,
    signed: Vec<SignedKept>,
    uploads: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct BucketKept {
    name: String,
    public: bool,
    object_bytes_max: Option<u64>,
    content_types: Vec<String>,
    /// Whether a test has put it there.
    fixture: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObjectKept {
    /// In Base64: the state is JSON.
    content: String,
    bytes: u64,
    content_type: String,
    metadata: Option<Value>,
    /// Whether a test has put it there.
    fixture: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SignedKept {
    token: String,
    bucket: String,
    path: String,
    until: SimTime,
}

impl Default for SupabaseStorageSim {
    fn default() -> Self {
        Self::new()
    }
}

impl SupabaseStorageSim {
    /// A storage without buckets, which takes objects of 50 MiB.
    #[must_use]
    pub fn new() -> Self {
        let key = KEY.to_owned();
        Self { state: State::default(), object_bytes_max: 50 << 20, page: usize::MAX, key }
    }

    /// Accepts this key instead of [`KEY`].
    pub fn accept_key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }

    /// Sets the size of the largest object it takes, in bytes.
    pub fn set_object_bytes_max(&mut self, bytes: u64) {
        self.object_bytes_max = bytes;
    }

    /// Lets listings have so many items a page.
    pub fn set_page(&mut self, items: usize) {
        self.page = items;
    }

    /// Makes a bucket as a person would.
    pub fn add_bucket(&mut self, id: &str) {
        let bucket = BucketKept {
            name: id.to_owned(),
            public: false,
            object_bytes_max: None,
            content_types: Vec::new(),
            fixture: true,
        };
        self.state.buckets.insert(id.to_owned(), bucket);
    }

    /// Puts an object there as a person would.
    pub fn put(&mut self, bucket: &str, path: &str, content: &[u8]) {
        let object = ObjectKept::new(content, "text/plain", None, true);
        self.state.objects.entry(bucket.to_owned()).or_default().insert(path.to_owned(), object);
    }

    /// Paths in a bucket, sorted.
    #[must_use]
    pub fn paths(&self, bucket: &str) -> Vec<String> {
        self.state.objects.get(bucket).map(|o| o.keys().cloned().collect()).unwrap_or_default()
    }

    /// What an object holds, if it is there.
    #[must_use]
    pub fn content(&self, bucket: &str, path: &str) -> Option<Vec<u8>> {
        self.state.objects.get(bucket)?.get(path)?.bytes()
    }

    /// Content type of an object, if it is there.
    #[must_use]
    pub fn content_type(&self, bucket: &str, path: &str) -> Option<String> {
        Some(self.state.objects.get(bucket)?.get(path)?.content_type.clone())
    }

    /// How many uploads were stored.
    #[must_use]
    pub fn uploads(&self) -> u64 {
        self.state.uploads
    }
}

impl Provider for SupabaseStorageSim {
    fn name(&self) -> &'static str {
        "supabase_storage"
    }

    fn changing_routes(&self) -> &'static [&'static str] {
        &[
            "POST /storage/v1/bucket",
            "DELETE /storage/v1/bucket/*",
            "POST /storage/v1/object/list-v2/*",
            "POST /storage/v1/object/sign/**",
            "DELETE /storage/v1/object/*",
            "POST /storage/v1/object/**",
            "DELETE /storage/v1/object/**",
        ]
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let path = request.segments();
        let Some(["storage", "v1"]) = path.get(..2) else { return SimResponse::unhandled(request) };
        let rest = path.get(2..).unwrap_or_default();
        if let ("GET", ["object", "sign", bucket, of @ ..]) = (request.method.as_str(), rest) {
            return self.download_signed(request, (bucket, &of.join("/")), now);
        }
        let key = Some(self.key.as_str());
        if request.bearer() != key || request.header("apikey") != key {
            return refusal(403, ("Unauthorized", "AccessDenied"), "Invalid Compact JWS");
        }
        match (request.method.as_str(), rest) {
            ("POST", ["bucket"]) => self.create_bucket(request),
            ("GET", ["bucket"]) => self.list_buckets(request),
            ("GET", ["bucket", id]) => self.show_bucket(id),
            ("DELETE", ["bucket", id]) => self.delete_bucket(id),
            ("POST", ["object", "list-v2", bucket]) => self.list(request, bucket),
            ("POST", ["object", "sign", bucket, of @ ..]) => {
                self.sign(request, (bucket, &of.join("/")), now)
            }
            ("GET", ["object", "info", bucket, of @ ..]) => self.info(bucket, &of.join("/")),
            ("GET", ["object", "authenticated", bucket, of @ ..]) => {
                self.download(bucket, &of.join("/"))
            }
            ("DELETE", ["object", bucket]) => self.remove_many(request, bucket),
            ("POST", ["object", bucket, of @ ..]) => self.upload(request, (bucket, &of.join("/"))),
            ("DELETE", ["object", bucket, of @ ..]) => self.remove(bucket, &of.join("/")),
            _ => SimResponse::unhandled(request),
        }
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let item = |kind: &str, id: String| InventoryItem {
            provider: "supabase_storage".to_owned(),
            kind: kind.to_owned(),
            name: id.clone(),
            id,
            labels: BTreeMap::new(),
        };
        let buckets = self.state.buckets.iter().filter(|(_, bucket)| !bucket.fixture);
        let objects = self.state.objects.iter().flat_map(|(bucket, objects)| {
            let made = objects.iter().filter(|(_, object)| !object.fixture);
            made.map(move |(path, _)| format!("{bucket}/{path}"))
        });
        let objects = objects.map(|id| item("object", id));
        buckets.map(|(id, _)| item("bucket", id.clone())).chain(objects).collect()
    }

    fn snapshot(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: Value) -> Result<(), String> {
        self.state = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        refusal(status, ("refused", "UnknownError"), "refused")
    }
}

/// 400 with the true status in the body, as the server has it; 500 stays 500.
fn refusal(status: u16, (error, code): (&str, &str), message: &str) -> SimResponse {
    let shown = if status == 500 { 500 } else { 400 };
    let body = json!({
        "statusCode": status.to_string(), "error": error, "code": code, "message": message,
    });
    SimResponse::json(shown, &body)
}

fn no_bucket() -> SimResponse {
    refusal(404, ("Bucket not found", "NoSuchBucket"), "Bucket not found")
}

fn no_object() -> SimResponse {
    refusal(404, ("not_found", "NoSuchKey"), "Object not found")
}

fn duplicate(code: &str) -> SimResponse {
    refusal(409, ("Duplicate", code), "The resource already exists")
}
