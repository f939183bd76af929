//! Databases, roles and schemas on a PostgreSQL server of one's own.
//!
//! It differs from the adapters of hosted databases in that there is no provider in between: a
//! database carries its owner mark as its comment, a role as well, and what was made is known by
//! the server's own object id, which no rename changes.
#![doc = include_str!("docs.md")]

use std::time::Duration;

mod config;
mod error;
mod identifier;
mod scram;
mod server;
mod steps;

pub use crate::tools::{
    migrations::{Migration, MigrationError},
    row_security::Openings,
};
pub use config::PostgresConfig;
pub use identifier::{IDENTIFIER_BYTES_MAX, Identifier, IdentifierError};
pub use server::Postgres;
pub use steps::{
    database::{Database, DatabaseSpec, PostgresDatabase},
    role::{HEIR, PostgresRole, Role, RoleSpec},
    schema::{ApplySchema, Schema, SchemaSpec},
    tenants::Tenant,
};

/// Longest time that a statement may still run on after its call was cut, where neither side
/// notices that the connection is gone: the statement's own longest time and room for the network.
pub const LATE_WINDOW: Duration = Duration::from_secs(120);
/// Room for the network beyond the longest time of a statement.
pub const LATE_NETWORK: Duration = Duration::from_secs(60);
/// Default longest time of one statement.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a lock that somebody else holds.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for ending a connection whose call was cut.
pub const END_WITHIN: Duration = Duration::from_secs(10);
/// Default number of calls on one server at a time.
pub const CONCURRENCY: u32 = 8;
/// Default for the most bytes of the dump of a template: 16 MiB.
pub const DUMP_BYTES_MAX: usize = 16 << 20;
/// Batches that a verification may send as the anonymous role; a server of one's own has no limit
/// of calls, so this only bounds the work.
pub const PROBES_MAX: usize = 5_000;
