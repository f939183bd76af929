//! An object, which is uploaded once and carries the owner mark in its own metadata.

use std::{collections::BTreeMap, path::PathBuf};

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, OwnerMark, Readiness, Resource,
    StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncReadExt};

use crate::{
    adopted::adopted_incomplete,
    supabase_storage::{
        LATE_WINDOW, LOOKUP_LAG, SupabaseStorage,
        client::{Payload, Upload, bucket_objection, hex, invalid, path_objection},
        model::ObjectShown,
    },
};

const UPLOAD: &str = "upload object";
/// Name of the digest in an object's metadata.
const SHA256: &str = "sha256";
/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// This text. It is journaled with the step's input.
    Text(String),
    /// A file of the machine that drives the step; it is sent piece by piece, and never held in
    /// memory.
    File(PathBuf),
}

/// A wanted object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectSpec {
    /// Id of its bucket.
    pub bucket: String,
    /// Its path: segments of letters, digits, `.`, `-` and `_`, joined by `/`.
    pub path: String,
    /// Its content type, such as `audio/mpeg`.
    pub content_type: String,
    /// What it holds.
    pub content: Content,
}

impl ObjectSpec {
    /// Wants a file's content stored.
    #[must_use]
    pub fn file(
        bucket: impl Into<String>,
        path: impl Into<String>,
        (content_type, file): (impl Into<String>, impl Into<PathBuf>),
    ) -> Self {
        Self {
            bucket: bucket.into(),
            path: path.into(),
            content_type: content_type.into(),
            content: Content::File(file.into()),
        }
    }

    /// Wants a text stored.
    #[must_use]
    pub fn text(
        bucket: impl Into<String>,
        path: impl Into<String>,
        (content_type, text): (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self {
            bucket: bucket.into(),
            path: path.into(),
            content_type: content_type.into(),
            content: Content::Text(text.into()),
        }
    }

    /// Bucket and path: two buckets may hold the same path.
    fn id(&self) -> ExternalId {
        ExternalId::new(format!("{}/{}", self.bucket, self.path))
    }

    fn objection(&self) -> Option<&'static str> {
        let sound = |c: char| c.is_ascii_alphanumeric() || "/+-.;= ".contains(c);
        let kind = self.content_type.contains('/') && self.content_type.chars().all(sound);
        bucket_objection(&self.bucket)
            .or_else(|| path_objection(&self.path))
            .or((!kind).then_some("the content type is none"))
    }
}

/// An object that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectStored {
    /// Id of its bucket.
    pub bucket: String,
    /// Its path.
    pub path: String,
    /// Its content type, as the storage says.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// Stores an object, once.
///
/// An object that this step has stored before is found again and not sent twice. One that somebody
/// else has put there is never replaced: it is refused, or, where the step says
/// [`AdoptPolicy::Use`](provision_core::AdoptPolicy::Use), used if its content is the same.
#[derive(Debug, Clone)]
pub struct Object {
    storage: SupabaseStorage,
}

impl Object {
    /// Works through `storage`.
    #[must_use]
    pub fn new(storage: &SupabaseStorage) -> Self {
        Self { storage: storage.clone() }
    }

    async fn shown(
        &self,
        cx: &StepContext,
        spec: &ObjectSpec,
    ) -> Result<Option<ObjectShown>, StepError> {
        self.storage.info(cx, &spec.bucket, &spec.path).await
    }
}

/// The mark that an object carries.
pub(crate) fn mark_of(shown: &ObjectShown) -> Option<OwnerMark> {
    let metadata = shown.metadata.as_ref()?;
    let labels = metadata.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    OwnerMark::from_labels(labels)
}

/// The metadata of an object of this mark.
pub(crate) fn metadata(labels: &[(String, String)]) -> BTreeMap<&str, String> {
    labels.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}

/// Length and SHA-256 of what is to be stored.
async fn digest(content: &Content) -> Result<(u64, String), StepError> {
    let mut hash = Sha256::new();
    let length = match content {
        Content::Text(text) => {
            hash.update(text.as_bytes());
            u64::try_from(text.len()).unwrap_or(u64::MAX)
        }
        Content::File(path) => {
            let mut file = File::open(path).await.map_err(unreadable)?;
            let mut piece = vec![0; PIECE];
            let mut length: u64 = 0;
            loop {
                let read = file.read(&mut piece).await.map_err(unreadable)?;
                if read == 0 {
                    break length;
                }
                hash.update(piece.get(..read).unwrap_or_default());
                length = length.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            }
        }
    };
    Ok((length, hex(&hash.finalize())))
}

fn unreadable(error: std::io::Error) -> StepError {
    StepError::retry(UPLOAD)
        .with_code("file_unreadable")
        .with_message("the file that is to be stored cannot be read")
        .with_source(error)
}

impl Resource for Object {
    const KIND: &'static str = "supabase_storage.object";
    type Spec = ObjectSpec;
    type Output = ObjectStored;

    fn identity(&self, spec: &ObjectSpec) -> Identity {
        Identity::Named(spec.id().as_str().to_owned())
    }

    async fn find(&self, cx: &StepContext, spec: &ObjectSpec) -> Result<Found, StepError> {
        if let Some(why) = spec.objection() {
            return Err(invalid(UPLOAD, why));
        }
        let id = || spec.id();
        let shown = match self.shown(cx, spec).await {
            // With its bucket everything in it went away. Where nothing was sent yet, it is said
            // before anything is.
            Err(error) if error.code() == "no_bucket" && cx.memory().intent.is_some() => None,
            end => end?,
        };
        Ok(match shown {
            None => Found::Absent,
            Some(there) => match mark_of(&there) {
                Some(mark) if mark == cx.mark() => Found::Ours(id()),
                Some(mark) => Found::Foreign(Foreign::unmarked(id()).with_owner(mark)),
                None => Found::Foreign(Foreign::unmarked(id())),
            },
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &ObjectSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let (length, sha256) = digest(&spec.content).await?;
        if length > self.storage.object_bytes_max() {
            return Err(StepError::permanent(UPLOAD)
                .with_code("too_large")
                .with_message(format!("it has {length} bytes")));
        }
        let mut metadata = metadata(intent.labels());
        metadata.insert(SHA256, sha256);
        let payload = match &spec.content {
            Content::Text(text) => Payload::Text(text.clone()),
            Content::File(path) => Payload::File(path.clone(), length),
        };
        let upload = Upload {
            bucket: &spec.bucket,
            path: &spec.path,
            content_type: &spec.content_type,
            payload,
            metadata,
        };
        self.storage.upload(cx, upload).await?;
        let id = spec.id();
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &ObjectSpec,
        id: &ExternalId,
    ) -> Result<Readiness<ObjectStored>, StepError> {
        let Some(there) = self.shown(cx, spec).await? else {
            return Ok(Readiness::Broken { code: "vanished".to_owned() });
        };
        let stored = |bytes: u64, sha256: String| ObjectStored {
            bucket: spec.bucket.clone(),
            path: spec.path.clone(),
            content_type: there.content_type.clone().unwrap_or_default(),
            bytes,
            sha256,
        };
        let noted = there.noted(SHA256).map(ToOwned::to_owned);
        if mark_of(&there).is_some_and(|mark| mark == cx.mark()) {
            let (Some(bytes), Some(sha256)) = (there.size, noted) else {
                return Ok(Readiness::Broken { code: "incomplete".to_owned() });
            };
            return Ok(Readiness::Ready(stored(bytes, sha256)));
        }
        if !cx.is_adopted(id) {
            // Two uploads at once: the server lets the later one have the path.
            return Ok(Readiness::Broken { code: "replaced".to_owned() });
        }
        let wanted = digest(&spec.content).await?;
        if self.storage.digest(cx, &spec.bucket, &spec.path).await? != wanted {
            let what = "what is stored under this path has another content";
            return Err(adopted_incomplete("use stored object", what));
        }
        Ok(Readiness::Ready(stored(wanted.0, wanted.1)))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &ObjectSpec,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        match self.shown(cx, spec).await {
            Ok(Some(there)) if mark_of(&there).is_some_and(|mark| mark == cx.mark()) => {
                self.storage.remove(cx, &spec.bucket, &spec.path).await
            }
            // S11: somebody else's of the same path.
            Ok(Some(_) | None) => Ok(()),
            // With its bucket everything in it went away.
            Err(error) if error.code() == "no_bucket" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Marks stand in no listing, but with each object: it is looked for by its path.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unlisted)
    }

    fn timing(&self) -> Timing {
        Timing { late_window: LATE_WINDOW, listing_lag: LOOKUP_LAG, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.storage.account()
    }

    fn facts(&self, spec: &ObjectSpec) -> Facts {
        Facts { name: Some(spec.id().as_str().to_owned()), ..Facts::default() }
    }
}
