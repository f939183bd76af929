//! A bucket, which is found by its id and known as ours by its display name.

use provision_core::{
    ExternalId, Facts, Foreign, Found, Identity, Intent, Listing, Owned, OwnerMark, Readiness,
    Resource, StepContext, StepError, Timing,
};
use serde::{Deserialize, Serialize};

use crate::supabase_storage::{
    LATE_WINDOW, LOOKUP_LAG, SupabaseStorage,
    client::{bucket_objection, invalid},
    model::NewBucket,
};

const CREATE: &str = "create bucket";

/// A wanted bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BucketSpec {
    /// Its id, by which objects are addressed: at most 80 letters, digits, `.`, `-` and `_`.
    pub id: String,
    /// Whether anybody may download from it without a key. Default false.
    pub public: bool,
    /// Largest object it takes, in bytes. Default: what the project allows.
    pub object_bytes_max: Option<u64>,
    /// Content types it takes. Default: all.
    pub content_types: Vec<String>,
    /// Whether an undo removes what is in it. Default false: then a bucket with contents needs a
    /// person.
    pub deleted_with_contents: bool,
}

impl BucketSpec {
    /// Wants a private bucket.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            public: false,
            object_bytes_max: None,
            content_types: Vec::new(),
            deleted_with_contents: false,
        }
    }

    /// Lets anybody download from it without a key.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Sets the size of the largest object it takes, in bytes.
    #[must_use]
    pub fn with_object_bytes_max(mut self, bytes: u64) -> Self {
        self.object_bytes_max = Some(bytes);
        self
    }

    /// Takes this content type, such as `audio/mpeg` or `image/*`, and others that are named.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_types.push(content_type.into());
        self
    }

    /// Lets an undo remove what is in it, whoever has put it there.
    #[must_use]
    pub fn deleted_with_contents(mut self) -> Self {
        self.deleted_with_contents = true;
        self
    }
}

/// A bucket that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BucketMade {
    /// Its id.
    pub id: String,
    /// Whether anybody may download from it without a key.
    pub public: bool,
}

/// Makes a bucket.
///
/// The server has no labels for buckets, and two names for each: the id that addresses use, and
/// one for people. The second carries this run's token, in the very call that makes the bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    storage: SupabaseStorage,
}

impl Bucket {
    /// Works through `storage`.
    #[must_use]
    pub fn new(storage: &SupabaseStorage) -> Self {
        Self { storage: storage.clone() }
    }
}

/// The name for people: the id, and the token of run and step.
fn display_name(id: &str, mark: &OwnerMark) -> String {
    format!("{id} {}", mark.token())
}

impl Resource for Bucket {
    const KIND: &'static str = "supabase_storage.bucket";
    type Spec = BucketSpec;
    type Output = BucketMade;

    fn identity(&self, spec: &BucketSpec) -> Identity {
        Identity::Named(spec.id.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &BucketSpec) -> Result<Found, StepError> {
        if let Some(why) = bucket_objection(&spec.id) {
            return Err(invalid(CREATE, why));
        }
        Ok(match self.storage.bucket(cx, &spec.id).await? {
            None => Found::Absent,
            Some(there) if there.name == display_name(&spec.id, &cx.mark()) => {
                Found::Ours(ExternalId::new(there.id))
            }
            Some(there) => Found::Foreign(Foreign::unmarked(there.id)),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &BucketSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let name = display_name(&spec.id, intent.mark());
        let wanted = NewBucket {
            id: &spec.id,
            name: &name,
            public: spec.public,
            file_size_limit: spec.object_bytes_max,
            allowed_mime_types: &spec.content_types,
        };
        self.storage.create_bucket(cx, &wanted).await?;
        let id = ExternalId::new(spec.id.as_str());
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &BucketSpec,
        id: &ExternalId,
    ) -> Result<Readiness<BucketMade>, StepError> {
        let Some(there) = self.storage.bucket(cx, id.as_str()).await? else {
            return Ok(Readiness::Broken { code: "vanished".to_owned() });
        };
        // Whoever adopts a bucket must not find it open to everybody.
        if there.public != spec.public {
            return Err(crate::adopted::adopted_incomplete(
                "use bucket",
                "the bucket is public where it must not be, or the other way round",
            ));
        }
        Ok(Readiness::Ready(BucketMade { id: there.id, public: there.public }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &BucketSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let ours = display_name(id.as_str(), &cx.mark());
        match self.storage.bucket(cx, id.as_str()).await? {
            // S11: somebody else's of the same id.
            Some(there) if there.name != ours => return Ok(()),
            Some(_) => {}
            None => return Ok(()),
        }
        if spec.deleted_with_contents {
            self.storage.empty_bucket(cx, id.as_str()).await?;
        }
        self.storage.delete_bucket(cx, id.as_str()).await
    }

    /// Lists by display name; its token says whether the mark is that of the step that asks, and
    /// nothing of others.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let mark = cx.mark();
        let all = self.storage.buckets(cx).await?;
        let ours = all.into_iter().filter(|there| is_display_name(&there.id, &there.name));
        let owned = ours.map(|there| {
            let own = (there.name == display_name(&there.id, &mark)).then(|| mark.clone());
            Owned::new(there.id).with_name(there.name).with_mark(own)
        });
        Ok(owned.collect())
    }

    fn timing(&self) -> Timing {
        Timing { late_window: LATE_WINDOW, listing_lag: LOOKUP_LAG, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.storage.account()
    }

    fn facts(&self, spec: &BucketSpec) -> Facts {
        Facts { name: Some(spec.id.clone()), ..Facts::default() }
    }
}

/// Whether a display name carries a token of any run.
fn is_display_name(id: &str, name: &str) -> bool {
    let token = name.strip_prefix(id).and_then(|rest| rest.strip_prefix(' '));
    token.is_some_and(|token| token.len() == 12 && token.bytes().all(|b| b.is_ascii_hexdigit()))
}
