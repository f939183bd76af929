//! A role: made with its mark in one transaction, dropped with what it owns and is granted.

use std::time::Duration;

use provision_core::{
    Call, Effect, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, Readiness, Resource,
    SecretRef, SecretSpec, StepContext, StepError, Timing, Verdict, resource::Foreign,
};
use serde::{Deserialize, Serialize};

use super::{Shown, block, join, text};
use crate::tools::{
    postgres::{Identifier, Postgres, error::refused, scram},
    row_security::{Answer, quote_identifier, quote_literal},
};

/// What the name begins with of who gets what a dropped role owned in databases that stay: a role
/// without login and without any right, one for each role that was dropped, so that what one tenant has
/// left reaches nothing of another's. It goes with the next role or database that is dropped once
/// nothing is left of it. Nobody who had more rights may own it: a `security definer` function runs with
/// the rights of its owner.
///
/// Names that begin so are kept for this: a role that is to have one is refused (`bad_name`).
pub const HEIR: &str = "provision_heir_";

/// Name of the sealed password.
const PASSWORD: &str = "password";
const LOOK: &str = include_str!("../sql/role_by_name.sql");
const LOOK_BY_ID: &str = include_str!("../sql/role_by_id.sql");
const LIST: &str = include_str!("../sql/roles.sql");
const USES: &str = include_str!("../sql/role_uses.sql");
/// Makes an heir, or looks at the one that is there.
const MAKE_HEIR: &str = include_str!("../sql/heir.sql");
/// The SQLSTATE by which it says that a role of that name has rights.
const POWERFUL_HEIR: &str = "PV005";
const STRIP: &str = include_str!("../sql/strip.sql");
/// Drops the heirs of whose inheritance nothing is left, and waits for nobody who works with one.
const SWEEP: &str = include_str!("../sql/sweep_heirs.sql");

/// A role to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSpec {
    name: Identifier,
    login: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    member_of: Vec<Identifier>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    connects: Vec<Identifier>,
}

impl RoleSpec {
    /// Wants a role that nobody logs in as: an owner of objects, or a group with rights.
    #[must_use]
    pub fn group(name: Identifier) -> Self {
        Self { name, login: false, member_of: Vec::new(), connects: Vec::new() }
    }

    /// Wants a role that logs in with a password, which is drawn.
    #[must_use]
    pub fn login(name: Identifier) -> Self {
        Self { login: true, ..Self::group(name) }
    }

    /// Gives it the rights of another role.
    #[must_use]
    pub fn with_membership(mut self, role: Identifier) -> Self {
        self.member_of.push(role);
        self
    }

    /// Lets it connect to a database.
    #[must_use]
    pub fn with_connect(mut self, database: Identifier) -> Self {
        self.connects.push(database);
        self
    }
}

/// A role that is there. The password is a reference, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: Identifier,
    /// Its password, where it logs in.
    pub password: Option<SecretRef>,
}

/// A role of a server. It is no superuser, makes no roles and no databases.
///
/// The password is drawn and sealed with the intent; what the server is sent is the verifier of
/// it, from which it cannot be found. A role of the same name without this run's mark is foreign
/// and stays as it is. Before a role is dropped, its connections are ended, what it owns in
/// databases that stay is given to an heir of its own ([`HEIR`]), and its grants are revoked.
#[derive(Debug, Clone)]
pub struct PostgresRole {
    server: Postgres,
}

impl PostgresRole {
    /// Makes roles on this server.
    #[must_use]
    pub fn new(server: &Postgres) -> Self {
        Self { server: server.clone() }
    }

    fn statement(&self, cx: &StepContext, spec: &RoleSpec, verifier: Option<&str>) -> String {
        let (name, mark) = (spec.name.quoted(), quote_literal(&cx.mark().to_string()));
        let login = match verifier {
            Some(verifier) => format!("login password {}", quote_literal(verifier)),
            None => "nologin".to_owned(),
        };
        let mut sql = format!(
            "create role {name} nosuperuser nocreatedb nocreaterole inherit {login};\n\
             comment on role {name} is {mark};\n"
        );
        for role in &spec.member_of {
            sql.push_str(&format!("grant {} to {name};\n", role.quoted()));
        }
        for database in &spec.connects {
            sql.push_str(&format!("grant connect on database {} to {name};\n", database.quoted()));
        }
        sql.push_str(&format!(
            "select oid::text as id from pg_roles where rolname = {}",
            quote_literal(spec.name.as_str())
        ));
        sql
    }

    /// Takes from a role what it has in one database.
    async fn strip(&self, cx: &StepContext, name: &str, database: &str) -> Result<(), StepError> {
        const TAKE: &str = "take rights of role";
        let heir = format!("{HEIR}{}", cx.mark().token());
        // The role's name comes from the server, and may hold anything: it is put in last.
        let put = |sql: &str| {
            let sql = sql.replace("$heir", &quote_literal(&heir));
            block(&sql.replace("$role", &quote_literal(name)))
        };
        // What one of its members makes at this moment is handed over too, and not dropped.
        let (mine, theirs, role) = (join(name), join(&heir), quote_identifier(name));
        let sql = format!("{}{mine}{theirs}{}drop owned by {role}", put(MAKE_HEIR), put(STRIP));
        match self.server.transaction(cx, Call::mutate(TAKE), database, sql).await {
            // The database went away meanwhile, and with it what the role had there.
            Err(error) if error.code() == "no_database" => Ok(()),
            Err(error) => Err(error),
            Ok(Answer::Rows(_)) => Ok(()),
            Ok(Answer::Refused { sqlstate }) => Err(untaken(TAKE, &sqlstate, &heir)),
        }
    }

    fn maintenance(&self) -> &str {
        &self.server.config().database
    }
}

/// Why nothing could be taken from a role.
fn untaken(operation: &'static str, sqlstate: &str, heir: &str) -> StepError {
    match sqlstate {
        POWERFUL_HEIR => StepError::new(Effect::None, Verdict::Operator, operation)
            .with_code("heir_has_rights")
            .with_message(format!("the role {heir} logs in or has rights")),
        // The heir had nothing yet, and was dropped by who drops another role.
        "42704" => StepError::retry(operation).with_code("busy"),
        _ => refused(operation, sqlstate),
    }
}

/// S11: the id alone proves nothing, since a server that was initialised anew gives it again.
fn foreign(operation: &'static str) -> StepError {
    StepError::new(Effect::Applied, Verdict::Operator, operation)
        .with_code("foreign")
        .with_message("the role of this id does not carry the mark of this run")
}

fn check(spec: &RoleSpec) -> Result<(), StepError> {
    if spec.name.as_str().starts_with(HEIR) {
        return Err(StepError::permanent("check role").with_code("bad_name").with_message(
            format!("names that begin with `{HEIR}` are of what dropped roles left"),
        ));
    }
    Ok(())
}

/// Drops the heirs that have nothing any more. What comes of it is nobody's failure: it is done by
/// itself, after what was asked for, and again with whatever is dropped next.
pub(super) async fn sweep_heirs(server: &Postgres, cx: &StepContext) {
    let sql = block(&SWEEP.replace("$heir", &quote_literal(HEIR)));
    let sql = format!("set local lock_timeout = '200ms';\n{sql}");
    drop(server.transact(cx, "drop heirs", &server.config().database, sql).await);
}

impl Resource for PostgresRole {
    const KIND: &'static str = "postgres.role";
    type Spec = RoleSpec;
    type Output = Role;

    fn identity(&self, spec: &RoleSpec) -> Identity {
        Identity::Named(spec.name.to_string())
    }

    async fn find(&self, cx: &StepContext, spec: &RoleSpec) -> Result<Found, StepError> {
        check(spec)?;
        let rows = self.server.ask(cx, "look for role", LOOK, &[spec.name.as_str()]).await?;
        let Some(shown) = rows.first().and_then(Shown::of) else { return Ok(Found::Absent) };
        Ok(match shown.mark {
            Some(mark) if mark == cx.mark() => Found::Ours(ExternalId::new(shown.id)),
            Some(owner) => Found::Foreign(Foreign::unmarked(shown.id).with_owner(owner)),
            None => Found::Foreign(Foreign::unmarked(shown.id)),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &RoleSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        const CREATE: &str = "create role";
        let verifier = match (spec.login, intent.secret(PASSWORD)) {
            (false, _) => None,
            (true, Some(password)) => Some(scram::verifier(password, intent.idempotency_key())),
            (true, None) => {
                return Err(StepError::permanent(CREATE)
                    .with_code("no_password")
                    .with_message("the intent holds no sealed password"));
            }
        };
        let sql = self.statement(cx, spec, verifier.as_deref());
        let rows = match self.server.transact(cx, CREATE, self.maintenance(), sql).await {
            // A call of an earlier attempt may have made it in this very moment.
            Err(error) if error.code() == "name_taken" => {
                return match self.find(cx, spec).await? {
                    Found::Ours(id) => Ok(id),
                    _ => Err(error),
                };
            }
            end => end?,
        };
        let id = rows.first().and_then(|row| text(row, "id"));
        id.map(ExternalId::new).ok_or_else(|| StepError::unknown(CREATE).with_code("garbage"))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &RoleSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Role>, StepError> {
        let rows = self.server.ask(cx, "look at role", LOOK_BY_ID, &[id.as_str()]).await?;
        let Some(shown) = rows.first().and_then(Shown::of) else {
            return Ok(Readiness::Broken { code: "gone".to_owned() });
        };
        if !cx.is_adopted(id) && shown.mark.as_ref() != Some(&cx.mark()) {
            return Err(foreign("look at role"));
        }
        // Somebody else's role keeps a password that is not ours to know.
        let password = (spec.login && !cx.is_adopted(id)).then(|| cx.sealed(PASSWORD));
        Ok(Readiness::Ready(Role { name: spec.name.clone(), password }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &RoleSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        const DROP: &str = "drop role";
        let rows = self.server.ask(cx, "look at role", LOOK_BY_ID, &[id.as_str()]).await?;
        let Some(shown) = rows.first().and_then(Shown::of) else { return Ok(()) };
        if shown.mark.as_ref() != Some(&cx.mark()) {
            return Err(foreign(DROP));
        }
        let (role, name) = (quote_identifier(&shown.name), quote_literal(&shown.name));
        let stop = format!(
            "{}alter role {role} nologin;\n\
             select pg_terminate_backend(pid)::text from pg_stat_activity where usename = {name}",
            join(&shown.name)
        );
        self.server.execute(cx, "end connections of role", self.maintenance(), stop).await?;
        let uses = self.server.ask(cx, "look for uses of role", USES, &[id.as_str()]).await?;
        for database in uses.iter().filter_map(|row| text(row, "name")) {
            let database = if database.is_empty() { self.maintenance() } else { database };
            self.strip(cx, &shown.name, database).await?;
        }
        let sql = format!("drop role if exists {role}");
        self.server.execute(cx, DROP, self.maintenance(), sql).await?;
        sweep_heirs(&self.server, cx).await;
        Ok(())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let rows = self.server.ask(cx, "list roles", LIST, &[]).await?;
        let owned = |shown: Shown| {
            let mark = shown.mark?;
            Some(Owned::new(shown.id).with_name(shown.name).with_mark(Some(mark)))
        };
        Ok(Shown::all(&rows).into_iter().filter_map(owned).collect())
    }

    fn secrets(&self, spec: &RoleSpec) -> Vec<SecretSpec> {
        spec.login.then(|| SecretSpec::password(PASSWORD)).into_iter().collect()
    }

    fn timing(&self) -> Timing {
        let late_window = self.server.config().late_window();
        Timing { late_window, listing_lag: Duration::ZERO, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.server.account()
    }

    fn facts(&self, spec: &RoleSpec) -> Facts {
        Facts { name: Some(spec.name.to_string()), ..Facts::default() }
    }
}
