//! Objects of a simulated storage.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    BucketKept, ObjectKept, PREFIX, SignedKept, SupabaseStorageSim, duplicate, no_bucket,
    no_object, refusal,
};
use crate::sim::{SimRequest, SimResponse, SimTime};

impl ObjectKept {
    pub(super) fn new(
        content: &[u8],
        content_type: &str,
        metadata: Option<Value>,
        fixture: bool,
    ) -> Self {
        Self {
            content: STANDARD.encode(content),
            bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
            content_type: content_type.to_owned(),
            metadata,
            fixture,
        }
    }

    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.content).ok()
    }
}

impl BucketKept {
    /// Why it does not take an object, if it does not.
    fn refusal(&self, content_type: &str) -> Option<SimResponse> {
        let fits = |allowed: &String| match allowed.strip_suffix("/*") {
            Some(family) => content_type.split('/').next() == Some(family),
            None => allowed == content_type,
        };
        if self.content_types.is_empty() || self.content_types.iter().any(fits) {
            return None;
        }
        let text = format!("mime type {content_type} is not supported");
        Some(refusal(415, ("invalid_mime_type", "InvalidMimeType"), &text))
    }
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Removal {
    prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifetime {
    expires_in: u64,
}

impl SupabaseStorageSim {
    fn object(&self, bucket: &str, path: &str) -> Result<&ObjectKept, SimResponse> {
        if !self.state.buckets.contains_key(bucket) {
            return Err(no_bucket());
        }
        self.state.objects.get(bucket).and_then(|all| all.get(path)).ok_or_else(no_object)
    }

    pub(super) fn upload(
        &mut self,
        request: &SimRequest,
        (bucket, path): (&str, &str),
    ) -> SimResponse {
        let Some(kept) = self.state.buckets.get(bucket) else { return no_bucket() };
        let sound = |c: char| c.is_ascii_alphanumeric() || "_/!.*'() &$=@;:+,?-".contains(c);
        if path.is_empty() || !path.chars().all(sound) {
            return refusal(400, ("InvalidKey", "InvalidKey"), &format!("Invalid key: {path}"));
        }
        let content_type = request.header("content-type").unwrap_or("application/octet-stream");
        if let Some(refused) = kept.refusal(content_type) {
            return refused;
        }
        let most = kept.object_bytes_max.unwrap_or(u64::MAX).min(self.object_bytes_max);
        if u64::try_from(request.body.len()).unwrap_or(u64::MAX) > most {
            let text = "The object exceeded the maximum allowed size";
            return refusal(413, ("Payload too large", "EntityTooLarge"), text);
        }
        let replaces = request.header("x-upsert") == Some("true");
        let objects = self.state.objects.entry(bucket.to_owned()).or_default();
        if objects.contains_key(path) && !replaces {
            return duplicate("KeyAlreadyExists");
        }
        let metadata = request.header("x-metadata").and_then(|text| STANDARD.decode(text).ok());
        let metadata = metadata.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let object = ObjectKept::new(&request.body, content_type, metadata, false);
        objects.insert(path.to_owned(), object);
        self.state.uploads += 1;
        let seed = format!("{bucket}/{path}");
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes());
        SimResponse::json(200, &json!({ "Id": id, "Key": seed }))
    }

    pub(super) fn info(&self, bucket: &str, path: &str) -> SimResponse {
        match self.object(bucket, path) {
            Ok(object) => SimResponse::json(
                200,
                &json!({
                    "id": "00000000-0000-0000-0000-000000000000", "name": path, "version": "1",
                    "bucket_id": bucket, "size": object.bytes,
                    "content_type": object.content_type, "cache_control": "no-cache",
                    "etag": "\"0\"", "metadata": object.metadata,
                    "last_modified": "2026-01-01T00:00:00.000Z",
                    "created_at": "2026-01-01T00:00:00.000Z",
                }),
            ),
            Err(refused) => refused,
        }
    }

    pub(super) fn download(&self, bucket: &str, path: &str) -> SimResponse {
        match self.object(bucket, path) {
            Ok(object) => {
                SimResponse::text(200, &object.content_type, object.bytes().unwrap_or_default())
            }
            Err(refused) => refused,
        }
    }

    pub(super) fn remove(&mut self, bucket: &str, path: &str) -> SimResponse {
        if let Err(refused) = self.object(bucket, path) {
            return refused;
        }
        if let Some(objects) = self.state.objects.get_mut(bucket) {
            objects.remove(path);
        }
        SimResponse::json(200, &json!({ "message": "Successfully deleted" }))
    }

    pub(super) fn remove_many(&mut self, request: &SimRequest, bucket: &str) -> SimResponse {
        let Ok(removal) = request.json::<Removal>() else {
            return refusal(400, ("Error", "InvalidRequest"), "body is not valid");
        };
        if removal.prefixes.len() > 1_000 {
            let text = "Bulk object requests are limited to 1000 objects per request.";
            return refusal(400, ("InvalidRequest", "InvalidRequest"), text);
        }
        let Some(objects) = self.state.objects.get_mut(bucket) else {
            return SimResponse::json(200, &json!([]));
        };
        let gone = removal.prefixes.into_iter().filter(|path| objects.remove(path).is_some());
        let gone: Vec<_> = gone.map(|path| json!({ "name": path, "bucket_id": bucket })).collect();
        SimResponse::json(200, &gone)
    }

    pub(super) fn list(&self, request: &SimRequest, bucket: &str) -> SimResponse {
        if !self.state.buckets.contains_key(bucket) {
            return SimResponse::json(200, &json!({ "hasNext": false, "objects": [] }));
        }
        let Ok(listing) = request.json::<Listing>() else {
            return refusal(400, ("Error", "InvalidRequest"), "body is not valid");
        };
        let limit = listing.limit.unwrap_or(1_000).min(1_000).min(self.page);
        let after = listing.cursor.unwrap_or_default();
        let empty = std::collections::BTreeMap::new();
        let all = self.state.objects.get(bucket).unwrap_or(&empty);
        let found = all.iter().filter(|(path, _)| path.starts_with(&listing.prefix));
        let mut rest = found.filter(|(path, _)| **path > after);
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let objects: Vec<_> = page
            .iter()
            .map(|(path, object)| {
                let metadata = json!({ "size": object.bytes, "mimetype": object.content_type });
                json!({ "id": "0", "name": path, "metadata": metadata })
            })
            .collect();
        let mut answer = json!({ "hasNext": more, "folders": [], "objects": objects });
        if let (true, Some((last, _)), Some(fields)) = (more, page.last(), answer.as_object_mut()) {
            fields.insert("nextCursor".to_owned(), json!(last));
        }
        SimResponse::json(200, &answer)
    }

    pub(super) fn sign(
        &mut self,
        request: &SimRequest,
        (bucket, path): (&str, &str),
        now: SimTime,
    ) -> SimResponse {
        let Ok(Lifetime { expires_in: 1.. }) = request.json::<Lifetime>() else {
            return refusal(400, ("Error", "InvalidRequest"), "body/expiresIn must be >= 1");
        };
        if let Err(refused) = self.object(bucket, path) {
            return refused;
        }
        let seconds = request.json::<Lifetime>().map_or(0, |lifetime| lifetime.expires_in);
        let until = now.saturating_add(std::time::Duration::from_secs(seconds));
        let seed = format!("{bucket}/{path}/{}", self.state.signed.len());
        let token = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()).simple();
        let token = format!("simulated.{token}");
        let shown = format!("/object/sign/{bucket}/{path}?token={token}");
        let (bucket, path) = (bucket.to_owned(), path.to_owned());
        self.state.signed.push(SignedKept { token, bucket, path, until });
        SimResponse::json(200, &json!({ "signedURL": shown }))
    }

    pub(super) fn download_signed(
        &self,
        request: &SimRequest,
        (bucket, path): (&str, &str),
        now: SimTime,
    ) -> SimResponse {
        let token = request.q("token").unwrap_or_default();
        let known = self.state.signed.iter().find(|signed| signed.token == token);
        match known.filter(|signed| signed.bucket == bucket && signed.path == path) {
            None => refusal(400, ("InvalidSignature", "InvalidSignature"), "Invalid signature"),
            Some(signed) if signed.until <= now => {
                refusal(400, ("InvalidJWT", "InvalidJWT"), "\"exp\" claim timestamp check failed")
            }
            Some(_) => self.download(bucket, path),
        }
    }
}

/// Where a server of the simulator has its storage.
#[must_use]
pub fn base(server: &str) -> String {
    format!("{server}{PREFIX}")
}
