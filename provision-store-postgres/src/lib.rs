#![doc = include_str!("docs.md")]

mod append;
mod batch;
mod bury;
mod caps;
mod check;
mod config;
mod counters;
mod db;
mod error;
mod extras;
mod held;
mod host;
mod inbox;
mod lease;
mod ledger;
mod limiter;
mod list;
mod migrate;
mod notify;
mod queue;
mod retention;
mod rights;
mod rows;
mod secrets;
mod sql;
mod start;
mod store;
mod submit;
mod turns;

pub use config::PostgresConfig;
pub use counters::Counters;
pub use store::PostgresStore;
