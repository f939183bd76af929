//! Webhooks in: whether a delivery is what its sender signed, and the key that starts its run once.
//!
//! A sender repeats a delivery until it is answered, and forgers send what they like. So a handler
//! verifies the raw body first, and starts a run under the key of the event: however often it comes,
//! and however many handlers it meets at once, there is one run, and each delivery is answered with
//! it. The run's start key is the inbox: it is recorded by the very append that makes the run.
//!
//! The input of the run is made of the event alone, never of one delivery of it: the same key with
//! another input is refused.
//!
//! ```
//! use provision_adapters::webhook::Verifier;
//! use provision_core::{Secret, Timestamp};
//!
//! // The example of GitHub's documentation.
//! let verifier = Verifier::github("acme-repos", [Secret::new("It's a Secret to Everybody")])?;
//! let signed = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
//! let headers: [(&str, &[u8]); 2] = [
//!     ("X-Hub-Signature-256", signed),
//!     ("X-GitHub-Delivery", b"72d3162e-cc78-11e3-81ab-4c9367dc0958"),
//! ];
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! let event = verifier.verify(headers, b"Hello, World!", now)?;
//! assert_eq!(event.key().as_deref(), Some("github:acme-repos:72d3162e-cc78-11e3-81ab-4c9367dc0958"));
//! assert!(verifier.verify(headers, b"Hello, World?", now).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The start is then `engine.start(SAGA, &input).key(key)`. With the feature `axum`, `Endpoint` does
//! all of it behind a router that a host nests into its own.
//!
//! A verifier is of one source: one endpoint of one account. Ids are unique at their sender at
//! most, and who knows the secret of one source can sign any id; so the source is a part of the
//! key, and no source can take the key of another's event.
//!
//! # Callbacks
//!
//! What an outside executor reports of itself while it works comes by [`Callbacks`] instead: each
//! execution is started with tokens, one for each thing it can say, and a host's handler hands over
//! what comes as it is:
//!
//! ```
//! use provision_adapters::webhook::{Answer, Callbacks, Report};
//! use provision_core::{Engine, MemoryStore, Secret, SignalId, Timestamp};
//!
//! const RUNNING: SignalId<String> = SignalId::new("running");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = Secret::new("a key of at least thirty-two bytes");
//! let callbacks = Callbacks::new([key])?.accept(RUNNING);
//! let engine = Engine::builder(MemoryStore::new()).build().await?;
//!
//! // POST /callbacks/running
//! let headers: [(&str, &[u8]); 1] = [("Authorization", b"Bearer forged")];
//! let now = Timestamp::from_millis(1_767_225_600_000);
//! let report = Report { name: "running", headers: &headers, body: b"\"at last\"", now };
//! let answer = callbacks.receive(&engine, report).await;
//! assert_eq!((answer, answer.status()), (Answer::Refused, 401));
//! # Ok(())
//! # }
//! ```
//!
//! A token is bound to one run, one making of one step, and one signal, until a moment. So what is
//! sent twice is heard once and answered alike, in whatever order it comes; what is sent for a run
//! that is over, or by an execution that was undone, is answered with 410, and a forged token with
//! 401 and nothing else.

mod callback;
#[cfg(feature = "axum")]
mod router;
mod scheme;
mod verify;

pub use callback::{Answer, CALLBACK_BODY_MAX, CALLBACK_KEY_MIN, Callbacks, Report, UnusableKey};
#[cfg(feature = "axum")]
pub use router::{ANSWER_WITHIN, Delivery, Endpoint, Taken, UNPROVEN_MAX, Untaken};
pub use scheme::Encoding;
pub use verify::{
    BODY_MAX, Refused, SOURCE_MAX, TOLERANCE, TOLERANCE_MAX, Unusable, Verified, Verifier,
};
