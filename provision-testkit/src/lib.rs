//! Conformance suites, the saga harness and fault wrappers for `provision`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test kit fails by panicking")]

pub mod solo;
