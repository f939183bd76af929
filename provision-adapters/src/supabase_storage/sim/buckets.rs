//! Buckets of a simulated storage.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{BucketKept, SupabaseStorageSim, duplicate, no_bucket, refusal};
use crate::sim::{SimRequest, SimResponse};

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    file_size_limit: Option<u64>,
    #[serde(default)]
    allowed_mime_types: Vec<String>,
}

impl SupabaseStorageSim {
    pub(super) fn create_bucket(&mut self, request: &SimRequest) -> SimResponse {
        let wanted: Wanted = match request.json() {
            Ok(wanted) => wanted,
            Err(_) => return refusal(400, ("Error", "InvalidRequest"), "body is not valid"),
        };
        if !is_name(&wanted.name) || wanted.name.trim() != wanted.name {
            return refusal(400, ("Invalid Input", "InvalidBucketName"), "Bucket name invalid");
        }
        let id = wanted.id.unwrap_or_else(|| wanted.name.clone());
        // Both are unique in the server's table.
        let named = self.state.buckets.values().any(|bucket| bucket.name == wanted.name);
        if named || self.state.buckets.contains_key(&id) {
            return duplicate("BucketAlreadyExists");
        }
        let answer = SimResponse::json(200, &json!({ "name": wanted.name }));
        let bucket = BucketKept {
            name: wanted.name,
            public: wanted.public,
            object_bytes_max: wanted.file_size_limit,
            content_types: wanted.allowed_mime_types,
            fixture: false,
        };
        self.state.buckets.insert(id, bucket);
        answer
    }

    pub(super) fn list_buckets(&self, request: &SimRequest) -> SimResponse {
        let number = |name: &str| request.q(name).and_then(|text| text.parse::<usize>().ok());
        let limit = number("limit").unwrap_or(100).min(self.page);
        let page = self.state.buckets.iter().skip(number("offset").unwrap_or(0)).take(limit);
        let page: Vec<Value> = page.map(|(id, bucket)| shown(id, bucket)).collect();
        SimResponse::json(200, &page)
    }

    pub(super) fn show_bucket(&self, id: &str) -> SimResponse {
        match self.state.buckets.get(id) {
            Some(bucket) => SimResponse::json(200, &shown(id, bucket)),
            None => no_bucket(),
        }
    }

    pub(super) fn delete_bucket(&mut self, id: &str) -> SimResponse {
        if !self.state.buckets.contains_key(id) {
            return no_bucket();
        }
        if self.state.objects.get(id).is_some_and(|objects| !objects.is_empty()) {
            let text = "The bucket you tried to delete is not empty";
            return refusal(409, ("ResourceNotEmpty", "ResourceNotEmpty"), text);
        }
        self.state.buckets.remove(id);
        SimResponse::json(200, &json!({ "message": "Successfully deleted" }))
    }
}

fn shown(id: &str, bucket: &BucketKept) -> Value {
    json!({
        "id": id, "name": bucket.name, "owner": "", "type": "STANDARD", "public": bucket.public,
        "file_size_limit": bucket.object_bytes_max, "allowed_mime_types": bucket.content_types,
        "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
    })
}

fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_!.*'() &$=@;:+,?-".contains(c);
    (1..=100).contains(&name.len()) && name.chars().all(sound)
}
