//! Supabase Storage: buckets, objects that are uploaded once, and addresses signed on demand.
//!
//! It is a server of its own beside the Management API that [`crate::supabase`] speaks: a project's
//! own key, another error format, and no names that the provider hands out. An object carries the
//! owner mark in its own metadata, written by the very upload; a bucket has no place for one, and
//! carries its token in its display name beside the id by which it is used.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "elevenlabs")]
mod sink;
mod steps;

pub use client::{SignedUrl, SupabaseStorage};
pub use config::SupabaseStorageConfig;
#[cfg(feature = "elevenlabs")]
pub use sink::{StorageSink, StorageUpload};
pub use steps::{
    bucket::{Bucket, BucketMade, BucketSpec},
    object::{Content, Object, ObjectSpec, ObjectStored},
};

/// Longest id of a bucket, in characters; its display name also holds a token of 13.
pub const BUCKET_MAX: usize = 80;
/// Longest path of an object, in bytes.
pub const PATH_MAX: usize = 900;
/// Default size of the largest object that is sent, in bytes: what a new project allows.
pub const OBJECT_BYTES_MAX: u64 = 50 << 20;
/// Longest time of one call that carries no object.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Default time for one upload.
pub const UPLOAD_WITHIN: Duration = Duration::from_secs(300);
/// Shortest lifetime of a signed address.
pub const SIGNED_MIN: Duration = Duration::from_secs(1);
/// Longest lifetime of a signed address: a year.
pub const SIGNED_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Longest time a cut upload may still need to land.
pub const LATE_WINDOW: Duration = Duration::from_secs(60);
/// How far a look-up may lag behind: the server reads the database it has written.
pub const LOOKUP_LAG: Duration = Duration::from_secs(1);
/// Most calls open at a time for one project.
pub const CONCURRENCY: u32 = 16;
/// Items of one page of a listing.
pub const PAGE_ITEMS: usize = 1_000;
/// Most pages one listing may have before it is given up as endless.
pub const PAGES_MAX: usize = 100;
/// Most pages of objects that one attempt removes when it empties a bucket; the next one goes on.
pub const EMPTIED_PAGES_MAX: usize = 1_000;
/// Objects that one call removes: what the server's own storage takes in one call.
pub const REMOVED_AT_ONCE: usize = 500;
