//! How an order becomes songs: input, output, steps, definition.

use std::time::Duration;

use example_command::{stage::Stage, tables::is_refused};
use provision_adapters::{
    elevenlabs::{AudioMade, ElevenLabs, FileSink},
    supabase_storage::{StorageSink, SupabaseStorage},
};
use provision_core::{
    Compensator, NothingToUndo, OnUnknown, Policy, Saga, SagaError, SagaId, Secret, SecretRef,
    Step, StepContext, StepError, Undo,
    draw::{SystemEntropy, uuid_v4},
    saga::ItemKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::song::VariantMusic;

/// Name and version; runs are stored under them.
pub const MAKE: SagaId<Order, Made> = SagaId::new("make-songs", 1);
/// Bucket of all songs.
pub const BUCKET: &str = "songs";
/// Variants of an order, at most; the database says so too.
pub const VARIANTS_MAX: usize = 5;
/// Calls for one variant's music after which nothing was heard, and that may have been paid in vain:
/// each is worth another one.
pub const LOST_CALLS_MAX: u32 = 3;
/// Last part of the path of a variant's music.
pub const MUSIC: &str = "music";

/// Input: what is needed to make the songs. Whose they are, and what they are about, stands in the
/// order's row alone: a journal forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The order's id.
    pub id: Uuid,
    /// One variant for each of these.
    pub styles: Vec<String>,
    /// How long each of them is.
    pub length_ms: u64,
}

/// Output: what was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The order's id.
    pub order: Uuid,
    /// The songs that could be made.
    pub songs: Vec<Song>,
    /// Variants that could not.
    pub missing: usize,
    /// The token that shares them.
    pub token: SecretRef,
}

/// One song.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Song {
    /// Number of the variant, from 1.
    pub number: i16,
    /// Its path in the bucket.
    pub object: String,
}

/// One variant that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    pub(crate) order: Uuid,
    pub(crate) number: i16,
    pub(crate) style: String,
    pub(crate) length_ms: u64,
}

impl ItemKey for Variant {
    fn item_key(&self) -> String {
        self.number.to_string()
    }
}

impl Variant {
    fn all(order: &Order) -> Vec<Self> {
        let numbered = (1..).zip(&order.styles);
        let one = |(number, style): (i16, &String)| Self {
            order: order.id,
            number,
            style: style.clone(),
            length_ms: order.length_ms,
        };
        numbered.map(one).collect()
    }

    pub(crate) fn object(&self) -> String {
        format!("{}/variant-{}.mp3", self.order, self.number)
    }
}

/// What the saga works with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The shop's database, as the role of workers.
    pub pool: PgPool,
    /// Who makes music.
    pub elevenlabs: ElevenLabs,
    /// Where it is kept.
    pub storage: SupabaseStorage,
    /// The folder by way of which it gets there.
    pub spool: FileSink,
    /// Times of a simulated cloud.
    pub stage: Stage,
}

/// Wires the saga.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn making(tools: &Tools) -> Result<Saga<Order, Made>, SagaError> {
    let pool = || tools.pool.clone();
    let sink = StorageSink::new(&tools.storage, BUCKET, tools.spool.clone());
    let music = tools.stage.on(VariantMusic::new(pool(), &tools.elevenlabs, sink));
    Saga::define(MAKE, |s| {
        s.validate(|order: &Order| match order.styles.len() {
            1..=VARIANTS_MAX => Ok(()),
            _ => Err("an order has 1 to 5 variants"),
        });
        s.phase("compose");
        let begun = s
            .step("begin", Begin(pool()), NothingToUndo)
            .retry(database())
            .input((), |order, ()| order.id);
        // One song is worth its money: what could not be made is told, and made good by people.
        let songs =
            s.each("variants", begun, |order, _| Variant::all(order)).keyed().at_least(1).body(
                |item| {
                    let row = item
                        .step("row", EnterVariant(pool()), FailVariant(pool()))
                        .retry(database())
                        .input((), |variant, ()| variant.clone());
                    let audio = item
                        .resource(MUSIC, music)
                        .on_unknown(OnUnknown::RunAgain { at_most: LOST_CALLS_MAX })
                        .input(row, |variant, ()| variant.clone());
                    item.step("done", FinishVariant(pool()), NothingToUndo)
                        .retry(database())
                        .input(audio, |variant, audio| (variant.clone(), audio))
                },
            );
        s.phase("hand over");
        let token = s
            .step("share", Share(pool()), Unshare(pool()))
            .retry(database())
            .input(songs, |order, _| order.id);
        s.value("made").input((songs, token), |order, (songs, token)| {
            let all = songs.len();
            let songs: Vec<_> = songs.into_iter().filter_map(Result::ok).collect();
            Made { order: order.id, missing: all - songs.len(), songs, token }
        })
    })
}

/// A database comes back.
fn database() -> Policy {
    Policy::attempts(10).exponential(Duration::from_millis(100), 2, Duration::from_secs(10))
}

/// Says that the order is being worked on.
struct Begin(PgPool);

impl Step for Begin {
    const KIND: &'static str = "songs.begin";
    type Input = Uuid;
    type Output = ();

    async fn run(&self, _: &StepContext, order: Uuid) -> Result<(), StepError> {
        const OPERATION: &str = "begin the order";
        // What is made after all is not paid back.
        let begin = "UPDATE songs.orders SET progress = 'generating',
            payment = CASE payment WHEN 'refund_due' THEN 'paid' ELSE payment END
            WHERE id = $1 AND payment <> 'refunded' AND progress <> 'removed'";
        let done = told(OPERATION, query(begin).bind(order).execute(&self.0).await)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let stands = "SELECT payment = 'refunded', progress = 'removed' FROM songs.orders
            WHERE id = $1";
        let stands = query_as(stands).bind(order).fetch_optional(&self.0).await;
        // Nothing that comes later would change it.
        let (code, why) = match told(OPERATION, stands)? {
            None => ("no_such_order", "the order has no row"),
            Some((true, _)) => ("order_refunded", "the order has been paid back"),
            Some((false, true)) => ("order_removed", "the order has been removed"),
            Some((false, false)) => {
                return Err(StepError::retry(OPERATION).with_code("order_changed"));
            }
        };
        Err(StepError::permanent(OPERATION).with_code(code).with_message(why))
    }
}

/// Enters a variant; a repetition finds its own row.
struct EnterVariant(PgPool);

impl Step for EnterVariant {
    const KIND: &'static str = "songs.enter_variant";
    type Input = Variant;
    type Output = ();

    async fn run(&self, _: &StepContext, variant: Variant) -> Result<(), StepError> {
        let enter = "INSERT INTO songs.variants (order_id, variant_number, duration_ms)
            VALUES ($1, $2, $3)
            ON CONFLICT (order_id, variant_number) DO UPDATE SET status = 'generating'
            WHERE songs.variants.status = 'failed'";
        let enter = query(enter).bind(variant.order).bind(variant.number);
        let length = i64::try_from(variant.length_ms).unwrap_or(i64::MAX);
        told("enter the variant", enter.bind(length).execute(&self.0).await).map(drop)
    }
}

struct FailVariant(PgPool);

impl Compensator<EnterVariant> for FailVariant {
    // The row stays and says so; it goes away with the songs of the whole order.
    async fn compensate(
        &self,
        _: &StepContext,
        variant: Variant,
        _: Undo<()>,
    ) -> Result<(), StepError> {
        let fail = "UPDATE songs.variants SET status = 'failed', object = NULL, bytes = NULL,
            completed_at = NULL, selected = false WHERE order_id = $1 AND variant_number = $2";
        let fail = query(fail).bind(variant.order).bind(variant.number);
        told("fail the variant", fail.execute(&self.0).await).map(drop)
    }
}

/// Says where a variant is.
struct FinishVariant(PgPool);

impl Step for FinishVariant {
    const KIND: &'static str = "songs.finish_variant";
    type Input = (Variant, AudioMade);
    type Output = Song;

    async fn run(
        &self,
        _: &StepContext,
        (variant, audio): (Variant, AudioMade),
    ) -> Result<Song, StepError> {
        const OPERATION: &str = "finish the variant";
        let finish = "UPDATE songs.variants SET status = 'ready', object = $3, bytes = $4,
            completed_at = coalesce(completed_at, now())
            WHERE order_id = $1 AND variant_number = $2";
        let finish = query(finish).bind(variant.order).bind(variant.number).bind(&audio.object);
        let bytes = i64::try_from(audio.bytes).unwrap_or(i64::MAX);
        let done = told(OPERATION, finish.bind(bytes).execute(&self.0).await)?;
        if done.rows_affected() == 0 {
            return Err(StepError::permanent(OPERATION).with_code("no_such_variant"));
        }
        Ok(Song { number: variant.number, object: audio.object })
    }
}

/// Draws the token that shares the songs, and enters its hash.
struct Share(PgPool);

impl Step for Share {
    const KIND: &'static str = "songs.share";
    type Input = Uuid;
    type Output = SecretRef;

    async fn run(&self, cx: &StepContext, order: Uuid) -> Result<SecretRef, StepError> {
        const OPERATION: &str = "share the songs";
        let drawn = uuid_v4(&SystemEntropy)
            .map_err(|error| StepError::retry(OPERATION).with_source(error))?;
        // Sealed before it is used: a repetition shares under the same token.
        let token = cx.seal("token", || Secret::new(drawn.simple().to_string())).await?;
        let value = cx.reveal(&token).await?;
        let share = "INSERT INTO songs.shares (order_id, token_hash)
            VALUES ($1, $2)
            ON CONFLICT (order_id) DO UPDATE SET token_hash = excluded.token_hash";
        told(
            OPERATION,
            query(share).bind(order).bind(token_hash(value.expose())).execute(&self.0).await,
        )?;
        Ok(token)
    }
}

/// What the database knows of a token. The token itself never gets there, nor into its logs.
pub(crate) fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

struct Unshare(PgPool);

impl Compensator<Share> for Unshare {
    async fn compensate(
        &self,
        _: &StepContext,
        order: Uuid,
        _: Undo<SecretRef>,
    ) -> Result<(), StepError> {
        let unshare = query("DELETE FROM songs.shares WHERE order_id = $1").bind(order);
        told("take back the share", unshare.execute(&self.0).await).map(drop)
    }
}

/// What the database refuses for good is not tried again; otherwise it may have been carried out.
fn told<T>(operation: &'static str, end: Result<T, sqlx::Error>) -> Result<T, StepError> {
    end.map_err(|error| {
        let error = match is_refused(&error) {
            true => StepError::permanent(operation).with_source(error),
            false => StepError::unknown(operation).with_source(error),
        };
        error.with_code("song_database")
    })
}
