//! Durable sagas that provision things on other people's clouds and can prove what exists there.

pub mod error;
pub mod id;
pub mod ledger;
pub mod limit;
pub mod queue;
pub mod run;
pub mod secret;
pub mod store;
