//! Whom a verification asks as, and where it looks.

use super::names::{quote_identifier, quote_literal};

/// Most batches that are sent as the anonymous role, unless the scope says otherwise: one for each
/// relation and function it is granted, and a few for all policies. A Supabase project answers 120
/// queries a minute (providers page, 2026-08-21), and a look that needed more would never end.
pub const PROBES_MAX: usize = 90;

/// Schemas of a Supabase project that are the provider's own.
const SUPABASE: [&str; 17] = [
    "auth",
    "storage",
    "realtime",
    "_realtime",
    "extensions",
    "graphql",
    "pgbouncer",
    "vault",
    "net",
    "cron",
    "supabase_functions",
    "supabase_migrations",
    "_analytics",
    "_supavisor",
    "pgsodium",
    "pgsodium_masks",
    "pgtle",
];

/// What the anonymous key of a Supabase project says of its holder: nobody, and yet more than
/// nothing.
const CLAIMS: &str =
    r#"{"iss":"supabase","ref":"project","role":"anon","iat":1700000000,"exp":4102444800}"#;

/// Which role is anonymous in a database, and which schemas are not the tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub(super) anonymous: String,
    /// The role of whoever signs up.
    signed_in: String,
    /// Schemas that are the provider's own; the server's are never looked at.
    provided: &'static [&'static str],
    search_path: &'static str,
    claims: Option<&'static str>,
    pub(super) probes_max: usize,
}

impl Scope {
    /// A Supabase project: the roles `anon` and `authenticated`, without the provider's schemas.
    #[must_use]
    pub fn supabase() -> Self {
        Self {
            anonymous: "anon".to_owned(),
            signed_in: "authenticated".to_owned(),
            provided: &SUPABASE,
            search_path: "public, extensions",
            claims: Some(CLAIMS),
            probes_max: PROBES_MAX,
        }
    }

    /// A database of a plain server, of which one role is anonymous; every schema but the server's
    /// own is looked at.
    #[must_use]
    pub fn role(anonymous: impl Into<String>) -> Self {
        let anonymous = anonymous.into();
        Self {
            signed_in: anonymous.clone(),
            anonymous,
            provided: &[],
            search_path: "public",
            claims: None,
            probes_max: PROBES_MAX,
        }
    }

    /// Most batches that are sent as the anonymous role. Default [`PROBES_MAX`].
    #[must_use]
    pub fn with_probes_max(mut self, batches: usize) -> Self {
        self.probes_max = batches;
        self
    }

    /// Puts the names of this scope into a question to the catalog, where it says `{anonymous}`,
    /// `{signed_in}` and `{provided}`.
    #[must_use]
    pub fn render(&self, sql: &str) -> String {
        let mut provided = quote_literal("information_schema");
        for schema in self.provided {
            provided.push_str(", ");
            provided.push_str(&quote_literal(schema));
        }
        sql.replace("{anonymous}", &quote_literal(&self.anonymous))
            .replace("{signed_in}", &quote_literal(&self.signed_in))
            .replace("{provided}", &provided)
    }

    /// Makes the rest of a batch an anonymous request that changes nothing.
    pub(super) fn preamble(&self, asker: Asker, filter: Filter) -> String {
        let row_security = match filter {
            Filter::On => "on",
            Filter::Refuse => "off",
        };
        let claims = self.claims.map_or_else(String::new, |claims| {
            format!("set local \"request.jwt.claims\" = '{claims}';\n")
        });
        let role = match asker {
            Asker::Anonymous => {
                format!("set local role {};\n", quote_identifier(&self.anonymous))
            }
            Asker::Owner => String::new(),
        };
        format!(
            "set transaction read only;\n\
             set local statement_timeout = '10s';\n\
             set local search_path = {};\n\
             {claims}{role}set local row_security = {row_security};\n",
            self.search_path
        )
    }
}

/// Whether row-level security filters a read, or refuses one that it would have filtered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filter {
    On,
    Refuse,
}

/// Who makes an anonymous request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// The anonymous role.
    Anonymous,
    /// The owner, in the place of the anonymous role.
    Owner,
}
