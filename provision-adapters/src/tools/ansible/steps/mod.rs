//! What can be done with machines, one file each.

pub(crate) mod known;
pub(crate) mod playbook;
