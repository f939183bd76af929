//! One method per endpoint of the storage server. Facts: supabase/storage of 2026-08-21
//! (`src/http/routes`), read 2026-11-22.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use provision_core::{
    Call, Secret, StepContext, StepError,
    limit::{Concurrency, Profile},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};

use super::{
    BUCKET_MAX, CONCURRENCY, EMPTIED_PAGES_MAX, PAGE_ITEMS, PAGES_MAX, PATH_MAX, REMOVED_AT_ONCE,
    SIGNED_MAX, SIGNED_MIN,
    config::SupabaseStorageConfig,
    error::{Refusal, is_absent, opinion},
    model::{BucketShown, NewBucket, ObjectShown, ObjectsPage, Signed},
};
use crate::http::{
    AnswerSink, ConfigError, Credential, Http, HttpConfig, Request, Response, classify,
    not_the_provider,
};

/// The gateway before the server looks for the key in a header of its own.
const KEY_HEADER: &str = "apikey";
const LIST_OBJECTS: &str = "list objects";

/// A project's storage. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct SupabaseStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    config: SupabaseStorageConfig,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Text(String),
    /// A file of this machine, of this length; it is read as it is sent.
    File(PathBuf, u64),
}

/// One upload.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) payload: Payload,
    /// What is kept beside the object.
    pub(crate) metadata: BTreeMap<&'a str, String>,
}

/// An address that whoever holds it can download from, until it expires.
#[derive(Clone)]
pub struct SignedUrl(Secret);

impl SignedUrl {
    /// The address. It is a key to the object: give it to who may have it, and store it nowhere.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedUrl(***)")
    }
}

impl SupabaseStorage {
    /// Builds the client; nothing is sent.
    ///
    /// # Errors
    /// The address needs TLS and the feature `live` is off, or the HTTP client cannot be set up.
    pub fn new(config: SupabaseStorageConfig) -> Result<Self, ConfigError> {
        let account = config.account.as_deref().unwrap_or("default");
        let bucket = Profile {
            bucket: format!("supabase_storage/{account}"),
            rate: None,
            concurrency: Some(Concurrency::Adaptive(CONCURRENCY)),
        };
        let http = Http::new(HttpConfig::new("supabase_storage", config.base.clone(), bucket))?;
        Ok(Self { inner: Arc::new(Inner { http, config }) })
    }

    pub(crate) fn account(&self) -> &str {
        self.inner.config.account.as_deref().unwrap_or("default")
    }

    pub(crate) fn object_bytes_max(&self) -> u64 {
        self.inner.config.object_bytes_max
    }

    fn read(&self, operation: &'static str) -> Call {
        Call::read(operation).with_timeout(self.inner.config.call_timeout)
    }

    fn mutate(&self, operation: &'static str) -> Call {
        Call::mutate(operation).with_timeout(self.inner.config.call_timeout)
    }

    fn credential(&self) -> Credential<'_> {
        Credential::bearer(&self.inner.config.key).and_as(KEY_HEADER)
    }

    fn refused(&self, call: &Call, answer: &Response) -> StepError {
        if answer.status == 404 {
            // The server's own answer would have another status and a body.
            return not_the_provider(call);
        }
        classify(call, answer, self.inner.http.bucket(), opinion)
    }

    async fn send(
        &self,
        cx: &StepContext,
        call: &Call,
        request: Request,
    ) -> Result<Response, StepError> {
        self.inner.http.send_as(cx, call.clone(), request, self.credential()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<T, StepError> {
        let answer = self.send(cx, &call, request).await?;
        if answer.is_success() {
            answer.json(call.operation)
        } else {
            Err(self.refused(&call, &answer))
        }
    }

    /// As [`Self::call`], with `None` where the server says that it is not there.
    async fn look<T: DeserializeOwned>(
        &self,
        cx: &StepContext,
        call: Call,
        request: Request,
    ) -> Result<Option<T>, StepError> {
        let answer = self.send(cx, &call, request).await?;
        if answer.is_success() {
            return answer.json(call.operation).map(Some);
        }
        if is_absent(&answer) { Ok(None) } else { Err(self.refused(&call, &answer)) }
    }

    /// GET `/bucket/{id}`.
    pub(crate) async fn bucket(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<BucketShown>, StepError> {
        self.look(cx, self.read("look at bucket"), Request::get(&["bucket", id])).await
    }

    /// GET /bucket, all pages.
    pub(crate) async fn buckets(&self, cx: &StepContext) -> Result<Vec<BucketShown>, StepError> {
        const OPERATION: &str = "list buckets";
        let mut all: Vec<BucketShown> = Vec::new();
        for _ in 0..PAGES_MAX {
            let request = Request::get(&["bucket"])
                .query("limit", PAGE_ITEMS.to_string())
                .query("offset", all.len().to_string())
                .query("sortColumn", "id");
            let page: Vec<BucketShown> = self.call(cx, self.read(OPERATION), request).await?;
            let more = page.len() == PAGE_ITEMS;
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
        Err(endless(OPERATION))
    }

    /// POST /bucket: 200; one of the same id or name is refused.
    pub(crate) async fn create_bucket(
        &self,
        cx: &StepContext,
        bucket: &NewBucket<'_>,
    ) -> Result<(), StepError> {
        let request = Request::post(&["bucket"]).json(bucket);
        self.call::<IgnoredAny>(cx, self.mutate("create bucket"), request).await.map(drop)
    }

    /// DELETE `/bucket/{id}`: refused while anything is in it; not there is done.
    pub(crate) async fn delete_bucket(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        let request = Request::delete(&["bucket", id]);
        self.look::<IgnoredAny>(cx, self.mutate("delete bucket"), request).await.map(drop)
    }

    /// Removes everything in a bucket, page by page.
    ///
    /// The server's own call for this (`/bucket/{id}/empty`) only queues it, for up to an hour; so
    /// the objects are listed and removed, and it is done when this returns. More than
    /// [`EMPTIED_PAGES_MAX`] pages take another attempt, which goes on with what is left.
    pub(crate) async fn empty_bucket(&self, cx: &StepContext, id: &str) -> Result<(), StepError> {
        const OPERATION: &str = "empty bucket";
        let mut removed: Vec<String> = Vec::new();
        for _ in 0..EMPTIED_PAGES_MAX {
            let page = self.objects_page(cx, (id, ""), None).await?;
            let names: Vec<String> = page.objects.into_iter().map(|object| object.name).collect();
            if names.is_empty() {
                return Ok(());
            }
            if names == removed {
                return Err(StepError::retry(OPERATION)
                    .with_code("not_removed")
                    .with_message("the server says that it has removed what it still lists"));
            }
            for some in names.chunks(REMOVED_AT_ONCE) {
                let request =
                    Request::delete(&["object", id]).json(&serde_json::json!({ "prefixes": some }));
                self.call::<IgnoredAny>(cx, self.mutate(OPERATION), request).await?;
            }
            removed = names;
        }
        Err(StepError::retry(OPERATION)
            .with_code("not_yet_empty")
            .with_message("more objects are left than one attempt removes"))
    }

    /// GET `/object/info/{bucket}/{path}`; an error where the bucket is not there.
    pub(crate) async fn info(
        &self,
        cx: &StepContext,
        bucket: &str,
        path: &str,
    ) -> Result<Option<ObjectShown>, StepError> {
        let call = self.read("look at object");
        let request = Request::get(&at(&["object", "info"], bucket, path));
        let answer = self.send(cx, &call, request).await?;
        if answer.is_success() {
            return answer.json(call.operation).map(Some);
        }
        match Refusal::read(&answer.body) {
            Some(refusal) if refusal.status == 404 && !refusal.is_no_bucket() => Ok(None),
            _ => Err(self.refused(&call, &answer)),
        }
    }

    /// POST `/object/{bucket}/{path}` without upsert: an object that is there is not replaced.
    pub(crate) async fn upload(
        &self,
        cx: &StepContext,
        upload: Upload<'_>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "upload object";
        let metadata = serde_json::to_vec(&upload.metadata).unwrap_or_default();
        let request = Request::post(&at(&["object"], upload.bucket, upload.path))
            .header("x-upsert", "false")
            .header("x-metadata", STANDARD.encode(metadata));
        let request = match upload.payload {
            Payload::Text(text) => request.text(upload.content_type, text),
            Payload::File(path, length) => request.file(upload.content_type, path, length),
        };
        let call = Call::mutate(OPERATION).with_timeout(self.inner.config.upload_within);
        self.call::<IgnoredAny>(cx, call, request).await.map(drop)
    }

    /// DELETE `/object/{bucket}/{path}`; not there is done.
    pub(crate) async fn remove(
        &self,
        cx: &StepContext,
        bucket: &str,
        path: &str,
    ) -> Result<(), StepError> {
        let request = Request::delete(&at(&["object"], bucket, path));
        self.look::<IgnoredAny>(cx, self.mutate("remove object"), request).await.map(drop)
    }

    /// Paths of the objects of a bucket that begin with `prefix`, sorted: POST
    /// `/object/list-v2/{bucket}`, all pages.
    ///
    /// # Errors
    /// The bucket is not there, the key is refused, or the listing does not end.
    pub async fn list(
        &self,
        cx: &StepContext,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<String>, StepError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = self.objects_page(cx, (bucket, prefix), cursor.as_deref()).await?;
            all.extend(page.objects.into_iter().map(|object| object.name));
            match page.next_cursor.filter(|_| page.has_next) {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                None if !page.has_next => {
                    all.sort();
                    return Ok(all);
                }
                _ => break,
            }
        }
        // Half a listing proves nothing about what is absent.
        Err(endless(LIST_OBJECTS))
    }

    async fn objects_page(
        &self,
        cx: &StepContext,
        (bucket, prefix): (&str, &str),
        cursor: Option<&str>,
    ) -> Result<ObjectsPage, StepError> {
        let body = serde_json::json!({
            "prefix": prefix, "limit": PAGE_ITEMS, "with_delimiter": false, "cursor": cursor,
        });
        let request = Request::post(&["object", "list-v2", bucket]).json(&body);
        self.call(cx, self.read(LIST_OBJECTS), request).await
    }

    /// Signs an address from which an object can be downloaded without a key, for so long: POST
    /// `/object/sign/{bucket}/{path}`.
    ///
    /// Sign when somebody asks, and store nothing: an address cannot be taken back before it
    /// expires. Give it as long as a download may take, which for a player that reads in pieces is
    /// as long as it plays. A host that is in no step signs with [`Engine::outside`].
    ///
    /// # Errors
    /// Code `not_found` for an object that is not there, `no_bucket` for such a bucket,
    /// `invalid_spec` for a lifetime outside [`SIGNED_MIN`] and [`SIGNED_MAX`].
    ///
    /// [`Engine::outside`]: provision_core::Engine::outside
    pub async fn sign(
        &self,
        cx: &StepContext,
        (bucket, path): (&str, &str),
        lifetime: Duration,
    ) -> Result<SignedUrl, StepError> {
        const OPERATION: &str = "sign address of object";
        if !(SIGNED_MIN..=SIGNED_MAX).contains(&lifetime) {
            return Err(invalid(OPERATION, "a signed address lives 1 s to 365 days"));
        }
        if let Some(why) = path_objection(path) {
            return Err(invalid(OPERATION, why));
        }
        let body = serde_json::json!({ "expiresIn": lifetime.as_secs() });
        let request = Request::post(&at(&["object", "sign"], bucket, path)).json(&body);
        // It signs, and changes nothing.
        let signed: Signed = self.call(cx, self.read(OPERATION), request).await?;
        let base = self.inner.http.base().as_str();
        Ok(SignedUrl(Secret::new(format!("{base}{}", signed.signed_url))))
    }

    /// GET `/object/authenticated/{bucket}/{path}`: length and SHA-256 of what is stored.
    pub(crate) async fn digest(
        &self,
        cx: &StepContext,
        bucket: &str,
        path: &str,
    ) -> Result<(u64, String), StepError> {
        let call = Call::read("read object").with_timeout(self.inner.config.upload_within);
        let request =
            Request::get(&at(&["object", "authenticated"], bucket, path)).header("accept", "*/*");
        let most = self.object_bytes_max();
        let mut digesting = Digesting { most, length: 0, hash: Sha256::new() };
        let http = &self.inner.http;
        let to = (self.credential(), &mut digesting);
        let answer = http.send_as_into(cx, call.clone(), request, to).await?;
        if answer.is_success() {
            Ok((digesting.length, hex(&digesting.hash.finalize())))
        } else {
            Err(self.refused(&call, &answer))
        }
    }
}

/// Reads a body without keeping it.
struct Digesting {
    most: u64,
    length: u64,
    hash: Sha256,
}

impl AnswerSink for Digesting {
    async fn begin(&mut self, _: &Response) -> Result<u64, StepError> {
        Ok(self.most)
    }

    async fn piece(&mut self, bytes: &[u8]) -> Result<(), StepError> {
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hash.update(bytes);
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub(crate) fn invalid(operation: &'static str, why: &'static str) -> StepError {
    StepError::permanent(operation).with_code("invalid_spec").with_message(why)
}

fn endless(operation: &'static str) -> StepError {
    StepError::retry(operation)
        .with_code("endless_listing")
        .with_message("the pages of the listing do not end")
}

/// The segments of an object's endpoint.
fn at<'a>(endpoint: &[&'a str], bucket: &'a str, path: &'a str) -> Vec<&'a str> {
    endpoint.iter().copied().chain([bucket]).chain(path.split('/')).collect()
}

/// What is wrong with the id of a bucket, if anything is.
pub(crate) fn bucket_objection(id: &str) -> Option<&'static str> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let first = id.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = first && id.len() <= BUCKET_MAX && id.chars().all(sound);
    (!fits).then_some("the bucket's id has other characters than letters, digits, `.`, `-`, `_`")
}

/// What is wrong with the path of an object, if anything is. Stricter than the server, which also
/// takes characters that mean something in addresses and to shells.
pub(crate) fn path_objection(path: &str) -> Option<&'static str> {
    let sound = |segment: &str| {
        let first = segment.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        first && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let fits = path.len() <= PATH_MAX && path.split('/').all(sound);
    (!fits).then_some("the path is not made of segments of letters, digits, `.`, `-` and `_`")
}
