//! What is driven on machines and servers of one's own, and not by a provider's HTTP interface.
//!
//! These folders differ from those of providers in that nobody simulates them: their tests run
//! against the real program or server, on loopback.

#[cfg(all(unix, feature = "process"))]
pub mod process;
