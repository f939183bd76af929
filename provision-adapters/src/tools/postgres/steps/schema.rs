//! The schema of a tenant's database: cloned from a template, made from migrations, or both; then
//! locked down, and tried as the anonymous role before the step is done.

use provision_core::{Call, Effect, Step, StepContext, StepError, Verdict};
use serde::{Deserialize, Serialize};

use super::{
    clone::{self, Dump},
    join, text,
};
use crate::tools::{
    migrations::{Migration, RECORDED, Record, acceptable, batch, checksum, entry, pending},
    postgres::{Identifier, PROBES_MAX, Postgres, error::refused, server::label},
    row_security::{Answer, Executor, Openings, Row, Scope, prove, quote_literal},
};

/// What was put off to the end of the transaction is done with the same rights.
const SETTLE: &str = "set constraints all immediate";
const OPERATION: &str = "apply schema";
const CLONE: &str = "clone schema";
const JOIN: &str = "join roles of schema";
const READ: &str = "read applied migrations";
const VERIFY: &str = "verify row-level security";
/// Looks whose the record of migrations is.
const RECORDS: &str = include_str!("../sql/records.sql");
/// Keeps what is looked at from being exchanged before it is read.
const HELD: &str = "lock table provision.migrations in access share mode;\n";
/// The SQLSTATE by which it says that they are somebody else's.
const FOREIGN_RECORDS: &str = "PV001";
/// Refuses an owner whose rights tenants' code must not have.
const PLAIN_OWNER: &str = include_str!("../sql/plain_owner.sql");
/// The SQLSTATE by which it does.
const POWERFUL_OWNER: &str = "PV004";
const FIRST: &str = include_str!("../sql/first.sql");
const AFTER: &str = include_str!("../sql/after.sql");
/// By what a piece of SQL is run with the rights of the owner; gone with the connection.
const WORK: &str = "pg_temp.provision_work()";
const ROW_SECURITY: &str = include_str!("../sql/row_security.sql");
const LEND_TEMPORARY: &str = include_str!("../sql/lend_temporary.sql");
const RETURN_TEMPORARY: &str = include_str!("../sql/return_temporary.sql");
/// Codes of an attempt after which statements of this step may still run at the server.
const STOPPED: [&str; 2] = ["timeout", "busy"];

/// A schema to be in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaSpec {
    database: Identifier,
    anonymous: Identifier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Identifier>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schemas: Vec<Identifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<Identifier>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    migrations: Vec<Migration>,
    #[serde(default)]
    openings: Openings,
}

impl SchemaSpec {
    /// Wants a schema in this database, closed to a role that stands for whoever is not signed in.
    /// The role must be there.
    #[must_use]
    pub fn new(database: Identifier, anonymous: Identifier) -> Self {
        Self {
            database,
            anonymous,
            owner: None,
            schemas: Vec::new(),
            template: None,
            migrations: Vec::new(),
            openings: Openings::none(),
        }
    }

    /// Sets the role that owns what is made, and with whose rights migrations run; it must be there.
    /// Such a migration is run by a function: it cannot switch roles, and `select .. into` a new
    /// table is written as `create table .. as`.
    ///
    /// With an owner or without, constraints and triggers that a migration puts off are done at
    /// its end.
    ///
    /// Default: the role that administers the server, with whose rights every trigger and function
    /// of the schema then runs that a migration touches. A template needs an owner (`no_owner`).
    /// An owner that is a superuser, makes roles, or is a member of such a role or of one of the
    /// server's own is refused (`powerful_owner`).
    #[must_use]
    pub fn with_owner(mut self, role: Identifier) -> Self {
        self.owner = Some(role);
        self
    }

    /// Makes a schema, in which migrations then work first. Default: they work in `public`.
    #[must_use]
    pub fn with_schema(mut self, name: Identifier) -> Self {
        self.schemas.push(name);
        self
    }

    /// Clones the schema of another database of the server, as it is at that moment: tables,
    /// constraints, triggers, sequences, views, functions, policies and extensions, without rows,
    /// owners and grants. Grants are given by migrations.
    #[must_use]
    pub fn with_template(mut self, database: Identifier) -> Self {
        self.template = Some(database);
        self
    }

    /// Adds a migration, applied once and after the template: tables with policies and grants.
    ///
    /// All migrations run in one transaction; one that is recorded under this name with other SQL
    /// is refused.
    #[must_use]
    pub fn with_migration(mut self, name: impl Into<String>, sql: impl Into<String>) -> Self {
        self.migrations.push(Migration::new(name, sql));
        self
    }

    /// Names what anonymous readers may reach. Default: nothing.
    #[must_use]
    pub fn with_openings(mut self, openings: Openings) -> Self {
        self.openings = openings;
        self
    }

    /// What makes the administering role a member of those that it gives something to.
    fn memberships(&self) -> String {
        let owner = self.owner.as_ref().map_or_else(String::new, |owner| {
            format!("{}{}", put_owner(PLAIN_OWNER, owner), join(owner.as_str()))
        });
        format!("{owner}{}", join(self.anonymous.as_str()))
    }

    /// What comes before anything of the tenant, in each transaction.
    fn first(&self) -> String {
        // What is there already is looked at last: nobody can put something there after it.
        let mut sql = format!("{FIRST}{RECORDS}");
        let owner = self.owner.as_ref().map(Identifier::quoted);
        if let (Some(name), Some(owner)) = (&self.owner, &owner) {
            sql.push_str(&put_owner(PLAIN_OWNER, name));
            sql.push_str(&put_owner(LEND_TEMPORARY, name));
            let database = self.database.quoted();
            sql.push_str(&format!(
                "grant create on database {database} to {owner};\n\
                 grant create, usage on schema public to {owner};\n\
                 alter default privileges for role {owner} revoke execute on functions from public;\n"
            ));
        }
        for schema in &self.schemas {
            let owned = owner.as_ref().map_or_else(String::new, |o| format!(" authorization {o}"));
            sql.push_str(&format!("create schema if not exists {}{owned};\n", schema.quoted()));
        }
        sql
    }

    /// What comes after everything of the tenant, in each transaction.
    fn last(&self) -> String {
        let lent = self.owner.as_ref().map(|owner| put_owner(RETURN_TEMPORARY, owner));
        format!("{ROW_SECURITY}{}", lent.unwrap_or_default())
    }

    /// A piece of the tenant's SQL, with the schema and the rights that it works with.
    ///
    /// Functions and triggers that others have made may run in it, so a `set role` would hold
    /// nobody: what it sets they reset. No function that runs with the rights of its owner can
    /// change the role, nor can what it calls. The label is in the statement that calls them.
    fn piece(&self, sql: &str, label: &str) -> String {
        let path = match self.schemas.first() {
            // What an earlier piece has left for this connection alone is found last.
            Some(schema) => {
                format!("set local search_path = {}, public, pg_temp;\n", schema.quoted())
            }
            None => "set local search_path = public, pg_temp;\n".to_owned(),
        };
        let work = match &self.owner {
            // A comment at its end must not swallow what comes after it.
            None => format!("{path}{sql}\n;\n{SETTLE}"),
            Some(owner) => {
                let body = format!("begin\n{path}execute {};\n{SETTLE};\nend", quote_literal(sql));
                format!(
                    "create or replace function {WORK} returns void\n\
                     language plpgsql security definer as {};\n\
                     alter function {WORK} owner to {};\nselect {label} {WORK}::text as done",
                    quote_literal(&body),
                    owner.quoted()
                )
            }
        };
        format!("{work}\n{AFTER}")
    }

    /// Who owns what a template is cloned into: its functions may run with their owner's rights.
    fn has_owner_for_template(&self) -> Result<(), StepError> {
        if self.template.is_none() || self.owner.is_some() {
            return Ok(());
        }
        Err(StepError::permanent(OPERATION).with_code("no_owner").with_message(
            "a clone of a template needs an owner that is not the administering role",
        ))
    }

    /// Under what a clone of the template is recorded; no migration can have this name.
    fn template_entry(&self) -> Option<String> {
        self.template.as_ref().map(|template| format!("template:{template}"))
    }
}

/// A schema that is applied and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The database it is in.
    pub database: Identifier,
    /// Tells one schema from another: 32 hexadecimal digits over the template and all migrations,
    /// also kept with the database, where [`Postgres::tenants`] reads it.
    pub version: String,
}

/// Applies a schema and verifies that it is closed to the anonymous role (X11).
///
/// Repeatable: every transaction begins with its record, so one that is sent twice, or lands late,
/// changes nothing. The step has nothing to undo beyond its database. Give credentials of the
/// database to a role that depends on this step.
#[derive(Debug, Clone)]
pub struct ApplySchema {
    server: Postgres,
}

impl ApplySchema {
    /// Applies schemas on this server.
    #[must_use]
    pub fn new(server: &Postgres) -> Self {
        Self { server: server.clone() }
    }

    /// The version that a new database would get now, with the template as it is; changes nothing.
    ///
    /// # Errors
    /// The template cannot be read.
    pub async fn version(&self, cx: &StepContext, spec: &SchemaSpec) -> Result<String, StepError> {
        let template = match &spec.template {
            Some(template) => Some(clone::dump(&self.server, cx, template).await?.checksum),
            None => None,
        };
        Ok(version(template.as_deref(), &spec.migrations))
    }

    /// Clones the template unless that is recorded; tells the checksum of what was cloned.
    async fn clone_template(
        &self,
        cx: &StepContext,
        spec: &SchemaSpec,
        recorded: &[Record],
    ) -> Result<Option<String>, StepError> {
        let (Some(template), Some(name)) = (&spec.template, spec.template_entry()) else {
            return Ok(None);
        };
        let found = |records: &[Record]| {
            records.iter().find(|(n, _)| *n == name).map(|(_, checksum)| checksum.clone())
        };
        if let Some(checksum) = found(recorded) {
            return Ok(Some(checksum));
        }
        let dump = clone::dump(&self.server, cx, template).await?;
        match self.apply_dump(cx, spec, &dump, &name).await? {
            Answer::Rows(_) => Ok(Some(dump.checksum)),
            Answer::Refused { sqlstate } => {
                // Another attempt's clone was faster: it is whole, or this one would not see it.
                let now = self.recorded(cx, &spec.database).await?.unwrap_or_default();
                found(&now).map(Some).ok_or_else(|| kept_nothing(&sqlstate))
            }
        }
    }

    async fn apply_dump(
        &self,
        cx: &StepContext,
        spec: &SchemaSpec,
        dump: &Dump,
        name: &str,
    ) -> Result<Answer, StepError> {
        let (label, record) = (label(cx), entry(name, &dump.checksum));
        let (first, last) = (spec.first(), spec.last());
        let piece = spec.piece(&dump.statements(), &label);
        // The server shows the beginning of a message.
        let sql = format!("{label}\n{first}{record}{piece}{last}");
        self.server.transaction(cx, Call::mutate(CLONE), spec.database.as_str(), sql).await
    }

    /// Joins the roles of the schema, before anything of the tenant runs: others want the same role,
    /// and would wait for the end of this tenant's code.
    async fn join_roles(&self, cx: &StepContext, spec: &SchemaSpec) -> Result<(), StepError> {
        let (call, sql) = (Call::mutate(JOIN), spec.memberships());
        match self.server.transaction(cx, call, spec.database.as_str(), sql).await? {
            Answer::Rows(_) => Ok(()),
            Answer::Refused { sqlstate } => Err(kept_nothing(&sqlstate)),
        }
    }

    async fn migrate(
        &self,
        cx: &StepContext,
        spec: &SchemaSpec,
        missing: &[&Migration],
    ) -> Result<(), StepError> {
        // The server shows the beginning of a message.
        let (label, first) = (label(cx), format!("{}\n{}", label(cx), spec.first()));
        let sql = batch(&first, missing, |sql| spec.piece(sql, &label), &spec.last());
        let call = Call::mutate(OPERATION);
        match self.server.transaction(cx, call, spec.database.as_str(), sql).await? {
            Answer::Rows(_) => Ok(()),
            Answer::Refused { sqlstate } => {
                let now = self.recorded(cx, &spec.database).await?.unwrap_or_default();
                match pending(OPERATION, &spec.migrations, &now)?.len() {
                    0 if !missing.is_empty() => Ok(()),
                    left if left < missing.len() => Err(StepError::retry(OPERATION)
                        .with_code("busy")
                        .with_message("another attempt applies migrations")),
                    _ => Err(kept_nothing(&sqlstate)),
                }
            }
        }
    }

    /// Keeps the version with the database, once it is verified.
    async fn record_version(
        &self,
        cx: &StepContext,
        database: &Identifier,
        version: &str,
    ) -> Result<(), StepError> {
        // A version is hexadecimal digits. Two that write it at once would be refused by the server.
        let sql = format!(
            "select pg_advisory_xact_lock(hashtext('provision.schema_version'))::text;\n\
             alter database {} set provision.schema_version = '{version}'",
            database.quoted()
        );
        let end = self.server.transact(cx, "record schema version", database.as_str(), sql).await;
        end.map(drop)
    }

    /// Names and checksums on record; `None` before the first batch.
    async fn recorded(
        &self,
        cx: &StepContext,
        database: &Identifier,
    ) -> Result<Option<Vec<Record>>, StepError> {
        let call = Call::read(READ);
        let sql = format!("{HELD}{RECORDS}{RECORDED}");
        match self.server.batch(cx, call, database.as_str(), sql).await? {
            Answer::Rows(rows) => {
                let record = |row: &Row| {
                    Some((text(row, "name")?.to_owned(), text(row, "checksum")?.to_owned()))
                };
                let read: Option<Vec<_>> = rows.iter().map(record).collect();
                read.map(Some).ok_or_else(|| StepError::retry(READ).with_code("garbage"))
            }
            // There is no such table, or no such schema.
            Answer::Refused { sqlstate } if matches!(&*sqlstate, "42P01" | "3F000") => Ok(None),
            Answer::Refused { sqlstate } if sqlstate == FOREIGN_RECORDS => {
                Err(StepError::new(Effect::None, Verdict::Operator, READ)
                    .with_code("foreign_records")
                    .with_message("the schema `provision` of the database is somebody else's"))
            }
            Answer::Refused { sqlstate } => Err(refused(READ, &sqlstate)),
        }
    }
}

impl Step for ApplySchema {
    const KIND: &'static str = "postgres.apply_schema";
    type Input = SchemaSpec;
    type Output = Schema;

    async fn run(&self, cx: &StepContext, spec: SchemaSpec) -> Result<Schema, StepError> {
        let end = Box::pin(self.applied(cx, spec)).await;
        // What was cut, or what an attempt that died has left, may stand in the way of the next one.
        if end.as_ref().is_err_and(|error| STOPPED.contains(&error.code())) {
            self.server.end_labelled(cx).await;
        }
        end
    }
}

impl ApplySchema {
    async fn applied(&self, cx: &StepContext, spec: SchemaSpec) -> Result<Schema, StepError> {
        acceptable(&spec.migrations).map_err(|error| {
            StepError::permanent(OPERATION).with_code(error.code()).with_message(error.to_string())
        })?;
        spec.has_owner_for_template()?;
        let recorded = self.recorded(cx, &spec.database).await?;
        let known = recorded.as_deref().unwrap_or_default();
        let missing = pending(OPERATION, &spec.migrations, known)?;
        let uncloned =
            spec.template_entry().is_some_and(|entry| !known.iter().any(|r| r.0 == entry));
        if recorded.is_none() || uncloned || !missing.is_empty() {
            self.join_roles(cx, &spec).await?;
        }
        let template = self.clone_template(cx, &spec, known).await?;
        let version = version(template.as_deref(), &spec.migrations);
        let untouched = recorded.is_none() && template.is_none();
        if !missing.is_empty() || untouched {
            self.migrate(cx, &spec, &missing).await?;
        }
        let tenant = Tenant { server: &self.server, cx, database: &spec.database };
        let scope = Scope::role(spec.anonymous.as_str()).with_probes_max(PROBES_MAX);
        prove(VERIFY, &tenant, &scope, &spec.openings).await?;
        self.record_version(cx, &spec.database, &version).await?;
        Ok(Schema { database: spec.database, version })
    }
}

/// Sends a batch of the verification to a tenant's database.
struct Tenant<'a> {
    server: &'a Postgres,
    cx: &'a StepContext,
    database: &'a Identifier,
}

impl Executor for Tenant<'_> {
    type Error = StepError;

    async fn run(&self, batch: String) -> Result<Answer, StepError> {
        self.server.batch(self.cx, Call::read(VERIFY), self.database.as_str(), batch).await
    }
}

/// Puts the name of the owner into statements.
fn put_owner(sql: &str, owner: &Identifier) -> String {
    sql.replace("$owner", &quote_literal(owner.as_str()))
}

/// Tells schemas apart by the template they came from and by all that was applied to them.
fn version(template: Option<&str>, migrations: &[Migration]) -> String {
    let mut parts = vec![template.unwrap_or_default().to_owned()];
    parts.extend(migrations.iter().map(|m| format!("{} {}", m.name, m.checksum())));
    checksum(&parts.join("\n"))
}

fn kept_nothing(sqlstate: &str) -> StepError {
    if sqlstate == POWERFUL_OWNER {
        return StepError::permanent(OPERATION)
            .with_code("powerful_owner")
            .with_message("the owner of the schema has rights beyond it")
            .with_hint(
                "name a role that is no superuser, makes no roles, and is in no `pg_` role",
            );
    }
    let error = refused(OPERATION, sqlstate);
    // What passes is worth a repetition; what the SQL itself says is not.
    if *error.verdict() == (Verdict::Retry { after: None }) {
        return error;
    }
    StepError::new(Effect::None, error.verdict().clone(), OPERATION)
        .with_code("migration_refused")
        .with_message(format!("the database answered SQLSTATE {sqlstate} and kept nothing"))
        .with_hint("run the same on an empty database to see the statement")
}
