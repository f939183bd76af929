#![doc = include_str!("docs.md")]

mod append;
mod clock;
mod config;
mod counters;
mod error;
mod host;
mod lease;
mod ledger;
mod limiter;
mod list;
mod pick;
mod place;
mod queue;
mod readers;
mod retention;
mod rows;
mod schema;
mod secrets;
mod sql;
mod store;
mod submit;
mod turn;
mod unit;
mod writer;

pub use clock::{Boot, Machine, ThisMachine};
pub use config::SqliteConfig;
pub use counters::Counters;
pub use store::SqliteStore;
