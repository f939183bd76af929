//! The four clients a saga works through, and what differs between accounts.

use provision_adapters::{github::GitHub, n8n::N8n, supabase::Supabase, vercel::Vercel};

/// Clients of the providers. Tokens are not in here: each call asks the engine's resolver.
#[derive(Debug, Clone)]
pub struct Providers {
    /// Databases.
    pub supabase: Supabase,
    /// Repositories.
    pub github: GitHub,
    /// Sites.
    pub vercel: Vercel,
    /// Workflows.
    pub n8n: N8n,
    /// Repository that clients' repositories are made from, `owner/name`.
    pub template: String,
    /// Domain below which clients get their own.
    pub zone: String,
}

/// Names under which tokens are resolved.
pub mod token {
    /// Supabase.
    pub const SUPABASE: &str = "SUPABASE_ACCESS_TOKEN";
    /// GitHub.
    pub const GITHUB: &str = "GITHUB_TOKEN";
    /// Vercel.
    pub const VERCEL: &str = "VERCEL_TOKEN";
    /// n8n.
    pub const N8N: &str = "N8N_API_KEY";
}
