//! Provider adapters for `provision`, each with a simulator of its provider.
//!
//! One folder and one feature per provider. The crate differs from a set of provider SDKs in what
//! a call reports: not only that it failed, but what may have happened and how that can be found
//! out.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `supabase`, `github`, `vercel`, `n8n`, `tailscale`, `hetzner`, `elevenlabs`, `resend` | the adapter of that name |
//! | `supabase-storage` | buckets and objects of Supabase Storage |
//! | `github-app` | installations of a GitHub App as a way in, and `github` |
//! | `webhook` | verification of what senders deliver, and callbacks of outside executors |
//! | `axum` | a router that takes webhooks, and `webhook` |
//! | `process` | programs run as calls (Unix) |
//! | `terraform`, `ansible` | these tools as steps, and `process` |
//! | `postgres-admin` | databases, roles and schemas on a server of one's own, and `process` |
//! | `sim` | a simulator of every enabled provider, over real HTTP on loopback |
//! | `sim-postgres` | databases of simulated Supabase projects on a real PostgreSQL server, and `sim` |
//! | `live` | TLS: without it no real provider can be reached |

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
