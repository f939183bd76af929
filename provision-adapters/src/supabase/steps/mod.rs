//! What a run does at Supabase.

pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod project;
pub(crate) mod settle;
pub(crate) mod spec;
