//! Whom a verification asks as, and where it looks.

use super::{
    Answer,
    names::{quote_identifier, quote_literal},
    probe::NO_RIGHT,
};

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
    /// Whether the executor is one whose rights no code of the database may get.
    guarded: bool,
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
            guarded: false,
            probes_max: PROBES_MAX,
        }
    }

    /// A database of a plain server, of which one role is anonymous; every schema but the server's
    /// own is looked at. The executor is a superuser; or it owns the database, is a member of that
    /// role, and may set `lc_messages`.
    #[must_use]
    pub fn role(anonymous: impl Into<String>) -> Self {
        let anonymous = anonymous.into();
        Self {
            signed_in: anonymous.clone(),
            anonymous,
            provided: &[],
            search_path: "public",
            claims: None,
            guarded: true,
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

    /// A batch that asks one question, and changes nothing.
    pub(super) fn request(&self, question: &Question<'_>) -> String {
        match self.guarded {
            true => self.behind_guard(question),
            false => format!("{}{}", self.preamble(question), question.select),
        }
    }

    /// The question as a function puts it that runs with the anonymous role's rights. Nothing that it
    /// calls can change the role, as it could after a `set role` alone; and the transaction is
    /// rolled back, since what it leaves for the commit, such as a cursor to be held, would run
    /// with the rights of the connection.
    ///
    /// The executor itself reads no expression of the database: already the reading of a literal
    /// may run the checks of a domain.
    fn behind_guard(&self, question: &Question<'_>) -> String {
        let anonymous = quote_identifier(&self.anonymous);
        let columns: Vec<String> =
            question.columns.iter().map(|name| format!("{name} text")).collect();
        let body = GUARD.replace("{select}", &quote_literal(question.select));
        // X5: quoted as a whole, since a name may hold whatever would end its text.
        let put = |sql: &str| {
            let body = sql.replace("{anonymous}", &quote_literal(&self.anonymous));
            format!("do {};\n", quote_literal(&body))
        };
        let open = match question.asker {
            Asker::Anonymous => put(LEND),
            Asker::Author => format!("{}{}", put(OPEN), put(LEND)),
        };
        format!(
            "begin;\n\
             set local statement_timeout = '10s';\n\
             set local lc_messages = 'C';\n\
             set local search_path = pg_catalog, pg_temp;\n\
             {open}\
             create function pg_temp.provision_answer() returns table ({})\n\
             language plpgsql security definer as {};\n\
             alter function pg_temp.provision_answer() owner to {anonymous};\n\
             set transaction read only;\n\
             set local search_path = {};\n\
             {}\
             set local row_security = {};\n\
             set local role {anonymous};\n\
             select * from pg_temp.provision_answer();\n\
             rollback;\n",
            columns.join(", "),
            quote_literal(&body),
            self.search_path,
            question.emptied(),
            question.filter.setting(),
        )
    }

    /// Makes the rest of a batch an anonymous request that changes nothing.
    fn preamble(&self, question: &Question<'_>) -> String {
        let claims = self.claims.map_or_else(String::new, |claims| {
            format!("set local \"request.jwt.claims\" = '{claims}';\n")
        });
        let role = match question.asker {
            Asker::Anonymous => {
                format!("set local role {};\n", quote_identifier(&self.anonymous))
            }
            Asker::Author => String::new(),
        };
        format!(
            "set transaction read only;\n\
             set local statement_timeout = '10s';\n\
             set local search_path = {};\n\
             {claims}{}{role}set local row_security = {};\n",
            self.search_path,
            question.emptied(),
            question.filter.setting(),
        )
    }

    /// What an answer says of the anonymous role. Behind the guard, a right that is missing before
    /// the question was put is one of the executor, and says nothing of that role.
    pub(super) fn answer(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Refused { sqlstate } if self.guarded => Answer::Refused {
                sqlstate: match sqlstate.as_str() {
                    REFUSED => NO_RIGHT.to_owned(),
                    NO_RIGHT => format!("{NO_RIGHT} of the executor"),
                    _ => sqlstate,
                },
            },
            answer => answer,
        }
    }

    /// Whether what is asked runs with the rights of the anonymous role in any case.
    pub(super) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Whether every request sets this setting anew.
    pub(super) fn is_always_set(&self, setting: &str) -> bool {
        self.claims.is_some() && setting.starts_with("request.")
    }
}

/// What is asked in the place of an anonymous request.
pub(super) struct Question<'q> {
    pub(super) asker: Asker,
    pub(super) filter: Filter,
    pub(super) select: &'q str,
    /// Its columns, each of them text.
    pub(super) columns: &'q [&'q str],
    /// Settings that are empty, as those of an earlier request on the same connection are.
    pub(super) emptied: &'q [String],
}

impl Question<'_> {
    fn emptied(&self) -> String {
        let empty = |name: &String| format!("set local {} = '';\n", quote_identifier(name));
        self.emptied.iter().map(empty).collect()
    }
}

/// Puts a question, and tells what is refused to the anonymous role by an SQLSTATE of its own.
const GUARD: &str = include_str!("sql/guard.sql");
/// The SQLSTATE of a right that the anonymous role lacks, behind the guard.
const REFUSED: &str = "PV003";
/// Lets the anonymous role have a function, for the one transaction.
const LEND: &str = include_str!("sql/lend.sql");
/// Opens every schema to the anonymous role, for the one transaction.
const OPEN: &str = include_str!("sql/open.sql");

/// Whether row-level security filters a read, or refuses one that it would have filtered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filter {
    On,
    Refuse,
}

impl Filter {
    const fn setting(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Refuse => "off",
        }
    }
}

/// Who makes an anonymous request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// The anonymous role.
    Anonymous,
    /// The anonymous role, which finds the names that the author of a policy found. Where there is no
    /// superuser to see to that, the executor asks in its place, with its own rights.
    Author,
}
