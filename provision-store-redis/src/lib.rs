#![doc = include_str!("docs.md")]

mod append;
mod args;
mod config;
mod counters;
mod desk;
mod error;
mod keys;
mod lease;
mod ledger;
mod limiter;
mod link;
mod list;
mod open;
mod queue;
mod reply;
mod retention;
mod rows;
mod scripts;
mod secrets;
mod sidecar;
mod store;
mod submit;
mod wake;

pub use config::{Durability, RedisConfig};
pub use counters::Counters;
pub use sidecar::RedisSidecar;
pub use store::RedisStore;
