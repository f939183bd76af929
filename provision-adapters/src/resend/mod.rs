//! Resend: mail that is sent once, and mail about the end of a run.
//!
//! A mail cannot be looked up by whoever sent it and cannot be recalled. What keeps it from going
//! out twice is the provider's memory of our idempotency key: a lost answer is repeated under the
//! same key while that memory lasts, and is a question for a person afterwards.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod client;
mod config;
mod error;
mod model;
#[cfg(feature = "sim")]
pub mod sim;
mod steps;

pub use client::Resend;
pub use config::ResendConfig;
pub use steps::{Mail, MailSent, NotifyByMail, SENT, SendMail};

/// Root of the provider's API.
pub const API: &str = "https://api.resend.com";
/// Calls per second of an account, unless the provider has raised it. Its pages name 2 and 5; the
/// lower one is kept to.
pub const CALLS_PER_SECOND: u32 = 2;
/// Most calls open at the same time for one account.
pub const CONCURRENCY: u32 = 4;
/// How long the provider remembers an idempotency key.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// How long a key is relied on: the rest is for clocks that differ and for requests that land late.
pub const KEY_TRUSTED: Duration = Duration::from_secs(23 * 3_600);
/// Most addresses a mail goes to: the provider takes 50 in `to`, and we count the copies too.
pub const RECIPIENTS_MAX: usize = 50;
/// Longest subject, in bytes: a line of a mail's head has no more than 998 (RFC 5322).
pub const SUBJECT_BYTES_MAX: usize = 900;
/// Largest text and HTML of a mail together, in bytes. The provider takes 40 MB; a mail is an input
/// of a step and stands in the journal.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Most labels of a mail, ours included.
pub const TAGS_MAX: usize = 20;
/// Longest name or value of a label, in characters.
pub const TAG_CHARS_MAX: usize = 256;
