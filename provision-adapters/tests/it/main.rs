//! Every adapter over real HTTP against the simulator of its provider.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and say aloud what they skip"
)]

mod spec;
mod supabase_schemas;
mod vercel;
