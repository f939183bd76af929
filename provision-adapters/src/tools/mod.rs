//! What is driven on machines and servers of one's own, and not by a provider's HTTP interface.
//!
//! These folders differ from those of providers in that nobody simulates them: their tests run
//! against the real program or server, on loopback, or against a program that acts its part.

#[cfg(all(unix, feature = "ansible"))]
pub mod ansible;
#[cfg(all(unix, any(feature = "ansible", feature = "terraform")))]
mod folder;
#[cfg(any(feature = "postgres-admin", feature = "supabase"))]
pub mod migrations;
#[cfg(all(unix, feature = "postgres-admin"))]
pub mod postgres;
#[cfg(all(unix, feature = "process"))]
pub mod process;
#[cfg(any(feature = "postgres-admin", feature = "supabase"))]
pub mod row_security;
#[cfg(all(unix, feature = "terraform"))]
pub mod terraform;
#[cfg(all(unix, any(feature = "ansible", feature = "terraform")))]
mod version;

#[cfg(all(unix, any(feature = "ansible", feature = "terraform")))]
pub use version::Version;
