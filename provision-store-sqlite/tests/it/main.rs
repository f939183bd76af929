//! The SQLite store on real files: all suites, and what only a file can show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "these are tests; some start processes and measure time"
)]

mod conformance;
mod given;
