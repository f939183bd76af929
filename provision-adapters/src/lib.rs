//! Provider adapters for `provision`, each with a simulator of its provider.
//!
//! One folder and one feature per provider; the feature `sim` adds the simulators, which speak
//! real HTTP on loopback, and `live` adds TLS for the real providers; `webhook` verifies what
//! providers send, `axum` makes a router of it, and `tools` runs programs such as Terraform. The
//! crate differs from a set of provider SDKs in what a call reports: not only that it failed, but
//! what may have happened and how that can be found out.

#[cfg(any(
    feature = "elevenlabs",
    feature = "github",
    feature = "hetzner",
    feature = "n8n",
    feature = "supabase-storage",
    feature = "vercel"
))]
mod adopted;
#[cfg(feature = "elevenlabs")]
pub mod elevenlabs;
#[cfg(feature = "github")]
pub mod github;
#[cfg(feature = "hetzner")]
pub mod hetzner;
pub mod http;
#[cfg(feature = "n8n")]
pub mod n8n;
#[cfg(feature = "resend")]
pub mod resend;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "supabase")]
pub mod supabase;
#[cfg(feature = "supabase-storage")]
pub mod supabase_storage;
#[cfg(feature = "tailscale")]
pub mod tailscale;
pub mod tools;
#[cfg(feature = "vercel")]
pub mod vercel;
#[cfg(feature = "webhook")]
pub mod webhook;
