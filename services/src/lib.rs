//! Private servers for tests and examples: from binaries that are installed, on a loopback port,
//! with a password of their own, as a user without rights, and gone with who started them.
//!
//! | Module | Holds |
//! |---|---|
//! | [`find`] | where the binaries are; nothing is installed here |
//! | [`postgres`], [`pgbouncer`], [`redis`] | a server in a folder that is removed with it |
//! | [`kept`] | a PostgreSQL server in a folder of the caller's, whose data stays |
//!
//! Each server has a guardian (a small shell): however the process that started it ends, a kill
//! included, the server is stopped.
#![allow(
    clippy::disallowed_methods,
    reason = "it searches the PATH, and waits for servers that tell nobody when they are there"
)]

mod cluster;
pub mod find;
mod guardian;
pub mod kept;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;

/// The error is a sentence for a person.
pub type Outcome<T = ()> = Result<T, String>;
