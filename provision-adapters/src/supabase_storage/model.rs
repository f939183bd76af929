//! Wire types: only the fields that are used; unknown ones are tolerated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize)]
pub(crate) struct NewBucket<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_size_limit: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) allowed_mime_types: &'a [String],
}

#[derive(Debug, Deserialize)]
pub(crate) struct BucketShown {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) public: bool,
}

/// What `/object/info` says.
#[derive(Debug, Deserialize)]
pub(crate) struct ObjectShown {
    #[serde(default)]
    pub(crate) size: Option<u64>,
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    /// What the uploader wrote beside it; values of others may be anything.
    #[serde(default)]
    pub(crate) metadata: Option<BTreeMap<String, serde_json::Value>>,
}

impl ObjectShown {
    /// A text that the uploader wrote beside it.
    pub(crate) fn noted(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name)?.as_str()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ObjectsPage {
    pub(crate) objects: Vec<ObjectListed>,
    #[serde(default, rename = "hasNext")]
    pub(crate) has_next: bool,
    #[serde(default, rename = "nextCursor")]
    pub(crate) next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ObjectListed {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    #[serde(rename = "signedURL")]
    pub(crate) signed_url: String,
}

/// The status of the answer is 400 for nearly everything; the true one stands here, as text.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    #[serde(rename = "statusCode")]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) code: Option<String>,
}
