//! One variant as something that is made at a provider: the music, from words that stand in the
//! order's row alone.

use std::time::Duration;

use provision_adapters::{
    elevenlabs::{AudioMade, ElevenLabs, Music, MusicSpec},
    supabase_storage::StorageSink,
};
use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use sqlx::{PgPool, query_scalar};

use crate::saga::Variant;

/// Makes the music of a variant, once.
///
/// It differs from [`Music`] in that the journal, which keeps what is wanted, holds no word of the
/// story: it is read when the call is made, and is gone when the order's row forgets it.
#[derive(Debug, Clone)]
pub struct VariantMusic {
    pool: PgPool,
    music: Music<StorageSink>,
}

impl VariantMusic {
    /// Makes it with `elevenlabs`, stores it in `sink`, and reads the story from the orders.
    #[must_use]
    pub fn new(pool: PgPool, elevenlabs: &ElevenLabs, sink: StorageSink) -> Self {
        Self { pool, music: Music::new(elevenlabs, sink) }
    }

    /// What is wanted, but for the story.
    fn without_story(variant: &Variant) -> MusicSpec {
        Self::with_story(variant, "")
    }

    fn with_story(variant: &Variant, story: &str) -> MusicSpec {
        MusicSpec::prompt(variant.object(), format!("{}: {story}", variant.style))
            .lasting(Duration::from_millis(variant.length_ms))
    }

    async fn story(&self, variant: &Variant) -> Result<String, StepError> {
        const OPERATION: &str = "read the story";
        let story = "SELECT story FROM songs.orders WHERE id = $1";
        let story = query_scalar(story).bind(variant.order).fetch_optional(&self.pool).await;
        // Nothing has been asked of anybody yet.
        let story: Option<Option<String>> = story.map_err(|error| {
            StepError::retry(OPERATION).with_code("song_database").with_source(error)
        })?;
        story.flatten().ok_or_else(|| {
            StepError::permanent(OPERATION)
                .with_code("order_removed")
                .with_message("the order has been removed, with its story")
        })
    }
}

impl Resource for VariantMusic {
    const KIND: &'static str = "songs.variant_music";
    type Spec = Variant;
    type Output = AudioMade;

    fn identity(&self, variant: &Variant) -> Identity {
        self.music.identity(&Self::without_story(variant))
    }

    async fn find(&self, cx: &StepContext, variant: &Variant) -> Result<Found, StepError> {
        self.music.find(cx, &Self::without_story(variant)).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        variant: &Variant,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let story = self.story(variant).await?;
        self.music.create(cx, &Self::with_story(variant, &story), intent).await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        variant: &Variant,
        id: &ExternalId,
    ) -> Result<Readiness<AudioMade>, StepError> {
        self.music.ready(cx, &Self::without_story(variant), id).await
    }

    async fn delete(
        &self,
        cx: &StepContext,
        variant: &Variant,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        self.music.delete(cx, &Self::without_story(variant), id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        self.music.list_owned(cx).await
    }

    fn timing(&self) -> Timing {
        self.music.timing()
    }

    fn account(&self) -> &str {
        self.music.account()
    }

    fn facts(&self, variant: &Variant) -> Facts {
        self.music.facts(&Self::without_story(variant))
    }
}
