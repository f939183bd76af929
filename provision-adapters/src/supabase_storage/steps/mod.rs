//! What can be made in a project's storage, one file each.

pub(crate) mod bucket;
pub(crate) mod object;
