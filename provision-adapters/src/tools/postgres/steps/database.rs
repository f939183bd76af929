//! A tenant's database: made under a name of the run's own, and given its name together with its
//! mark, so that there is no moment at which somebody else's could be taken for ours.
//!
//! `CREATE DATABASE` can be part of no transaction, and a comment comes after it. A database that
//! was made by a call without an answer is therefore found by its first name, which no other run
//! gives; renaming it and marking it are one transaction.

use provision_core::{
    Candidate, Effect, ExternalId, Facts, Found, Identity, Intent, Listing, Owned, OwnerMark,
    Readiness, Resource, StepContext, StepError, Timing, Verdict, resource::Foreign,
};
use serde::{Deserialize, Serialize};

use super::{Shown, role::sweep_heirs};
use crate::tools::{
    postgres::{Identifier, Postgres},
    row_security::{quote_identifier, quote_literal},
};

/// What every first name begins with.
const FIRST_NAME: &str = "provision_new_";
const LOOK: &str = include_str!("../sql/database_by_name.sql");
const LOOK_BY_ID: &str = include_str!("../sql/database_by_id.sql");
const LIST: &str = include_str!("../sql/databases.sql");

/// A database to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSpec {
    name: Identifier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections_max: Option<u16>,
}

impl DatabaseSpec {
    /// Wants an empty UTF-8 database of this name, to which nobody may connect who is not granted
    /// it.
    #[must_use]
    pub fn new(name: Identifier) -> Self {
        Self { name, connections_max: None }
    }

    /// Bounds how many may be connected at a time. Default: the server's own limit.
    #[must_use]
    pub fn with_connections_max(mut self, connections: u16) -> Self {
        self.connections_max = Some(connections);
        self
    }
}

/// A database that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: Identifier,
    /// The server's own id of it, which a new database of the same name does not get.
    pub id: String,
}

/// A database of a server: found again by its mark, dropped with those who are connected to it.
///
/// Needs PostgreSQL 13 or later. A database of the same name without this run's mark is foreign
/// and stays as it is.
#[derive(Debug, Clone)]
pub struct PostgresDatabase {
    server: Postgres,
}

impl PostgresDatabase {
    /// Makes databases on this server.
    #[must_use]
    pub fn new(server: &Postgres) -> Self {
        Self { server: server.clone() }
    }

    /// The database of this name, and the one of the run's own first name.
    async fn look(
        &self,
        cx: &StepContext,
        spec: &DatabaseSpec,
    ) -> Result<(Option<Shown>, Option<Shown>), StepError> {
        let first = first_name(&cx.mark());
        let names = [spec.name.as_str(), &first];
        let rows = self.server.ask(cx, "look for database", LOOK, &names).await?;
        let (mut named, mut unfinished) = (None, None);
        for shown in Shown::all(&rows) {
            match shown.name == first {
                true => unfinished = Some(shown),
                false => named = Some(shown),
            }
        }
        Ok((named, unfinished))
    }

    async fn by_id(&self, cx: &StepContext, id: &ExternalId) -> Result<Option<Shown>, StepError> {
        let rows = self.server.ask(cx, "look at database", LOOK_BY_ID, &[id.as_str()]).await?;
        Ok(rows.first().and_then(Shown::of))
    }

    async fn make(&self, cx: &StepContext, spec: &DatabaseSpec) -> Result<(), StepError> {
        let first = quote_identifier(&first_name(&cx.mark()));
        let limit = spec.connections_max.map_or(-1, i32::from);
        // The bare template: what others put into the usual one is not the tenant's. Nobody gets in
        // until everybody's right to connect is taken away.
        let sql = format!(
            "create database {first} template template0 encoding 'UTF8' \
             connection limit {limit} allow_connections false"
        );
        match self.server.execute(cx, "create database", self.maintenance(), sql).await {
            // An earlier attempt of this step has made it: no other gives this name.
            Err(error) if error.code() == "name_taken" => Ok(()),
            end => end.map(drop),
        }
    }

    /// Gives a database its name and its mark, in one transaction.
    async fn finish(&self, cx: &StepContext, spec: &DatabaseSpec) -> Result<(), StepError> {
        let first = quote_identifier(&first_name(&cx.mark()));
        let (name, mark) = (spec.name.quoted(), quote_literal(&cx.mark().to_string()));
        let sql = format!(
            "alter database {first} rename to {name};\n\
             comment on database {name} is {mark};\n\
             revoke all on database {name} from public;\n\
             alter database {name} allow_connections true"
        );
        let end = self.server.transact(cx, "name database", self.maintenance(), sql).await;
        // Whatever came of this, the database itself is there.
        end.map(drop).map_err(|error| match error.effect() {
            Effect::None => error.with_effect(Effect::Applied),
            Effect::Applied | Effect::Unknown => error,
        })
    }

    fn maintenance(&self) -> &str {
        &self.server.config().database
    }
}

/// The name that a database of this step has until it is complete.
fn first_name(mark: &OwnerMark) -> String {
    format!("{FIRST_NAME}{}", mark.token())
}

/// The database under its own name, where it is this step's.
fn complete(cx: &StepContext, named: Option<Shown>) -> Result<ExternalId, StepError> {
    match named {
        Some(shown) if shown.mark.as_ref() == Some(&cx.mark()) => Ok(ExternalId::new(shown.id)),
        _ => Err(StepError::unknown("create database").with_code("not_shown")),
    }
}

/// Whether a database is this step's: by its mark, or by the first name that no other step gives.
/// The id alone proves nothing (S11): a server that was initialised anew gives the ids again.
fn is_ours(cx: &StepContext, shown: &Shown) -> bool {
    match &shown.mark {
        Some(mark) => *mark == cx.mark(),
        None => shown.name == first_name(&cx.mark()),
    }
}

fn foreign(operation: &'static str) -> StepError {
    StepError::new(Effect::Applied, Verdict::Operator, operation)
        .with_code("foreign")
        .with_message("the database of this id does not carry the mark of this run")
}

fn check(spec: &DatabaseSpec) -> Result<(), StepError> {
    if spec.name.as_str().starts_with(FIRST_NAME) {
        return Err(StepError::permanent("check database")
            .with_code("bad_name")
            .with_message(format!("names that begin with `{FIRST_NAME}` are of unfinished ones")));
    }
    Ok(())
}

fn gone() -> Readiness<Database> {
    Readiness::Broken { code: "gone".to_owned() }
}

/// A role with few rights ends no connection of a superuser, and the server's own clean-up counts as
/// one: both are gone after a time.
fn passing(error: StepError) -> StepError {
    if error.code() != "forbidden" {
        return error;
    }
    StepError::retry("drop database")
        .with_code("forbidden")
        .with_message("a superuser is connected to it, or the right to drop it is missing")
        .with_hint(
            "end the connections of superusers to this database, then order the run to retry",
        )
}

impl Resource for PostgresDatabase {
    const KIND: &'static str = "postgres.database";
    type Spec = DatabaseSpec;
    type Output = Database;

    fn identity(&self, spec: &DatabaseSpec) -> Identity {
        Identity::Named(spec.name.to_string())
    }

    async fn find(&self, cx: &StepContext, spec: &DatabaseSpec) -> Result<Found, StepError> {
        check(spec)?;
        let mark = cx.mark();
        let (named, unfinished) = self.look(cx, spec).await?;
        let ours = named.as_ref().is_some_and(|shown| shown.mark.as_ref() == Some(&mark));
        Ok(match (named, unfinished) {
            (None, None) => Found::Absent,
            (Some(named), None) if ours => Found::Ours(ExternalId::new(named.id)),
            (Some(named), None) => {
                let foreign = Foreign::unmarked(named.id);
                Found::Foreign(match named.mark {
                    Some(owner) => foreign.with_owner(owner),
                    None => foreign,
                })
            }
            // A create that landed late made a second one.
            (Some(named), Some(unfinished)) if ours => {
                Found::Many(vec![candidate(named.id), candidate(unfinished.id)])
            }
            (_, Some(unfinished)) => Found::Ours(ExternalId::new(unfinished.id)),
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &DatabaseSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        self.make(cx, spec).await?;
        let there = |error: StepError| error.with_effect(Effect::Applied);
        let (named, unfinished) = self.look(cx, spec).await.map_err(there)?;
        let Some(unfinished) = unfinished else { return complete(cx, named) };
        let id = ExternalId::new(unfinished.id);
        cx.note(&id).await?;
        match self.finish(cx, spec).await {
            // A call of an earlier attempt may have done it in this very moment.
            Err(error) if matches!(error.code(), "name_taken" | "no_database") => {
                let (named, _) = self.look(cx, spec).await.map_err(there)?;
                complete(cx, named).map_err(|_| error)
            }
            end => end.map(|()| id),
        }
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DatabaseSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Database>, StepError> {
        let Some(shown) = self.by_id(cx, id).await? else { return Ok(gone()) };
        let adopted = cx.is_adopted(id);
        if !adopted && !is_ours(cx, &shown) {
            return Err(foreign("look at database"));
        }
        if shown.name == first_name(&cx.mark()) && !adopted {
            self.finish(cx, spec).await?;
        } else if shown.name != spec.name.as_str() {
            return Err(StepError::new(Effect::Applied, Verdict::Operator, "look at database")
                .with_code("renamed")
                .with_message("the database has another name now"));
        }
        Ok(Readiness::Ready(Database { name: spec.name.clone(), id: shown.id }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &DatabaseSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(shown) = self.by_id(cx, id).await? else { return Ok(()) };
        if !is_ours(cx, &shown) {
            return Err(foreign("drop database"));
        }
        let sql = format!("drop database if exists {} with (force)", quote_identifier(&shown.name));
        let dropped = self.server.execute(cx, "drop database", self.maintenance(), sql).await;
        dropped.map_err(passing)?;
        // What roles had left in it is gone.
        sweep_heirs(&self.server, cx).await;
        Ok(())
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let rows = self.server.ask(cx, "list databases", LIST, &[]).await?;
        let owned = |row| {
            let shown = Shown::of(row)?;
            // An unfinished one has no mark yet, and is known to its own run by its name.
            let mark = match shown.mark {
                None if shown.name == first_name(&cx.mark()) => cx.mark(),
                mark => mark?,
            };
            Some(Owned::new(shown.id).with_name(shown.name).with_mark(Some(mark)))
        };
        Ok(rows.iter().filter_map(owned).collect())
    }

    fn timing(&self) -> Timing {
        let late_window = self.server.config().late_window();
        Timing { late_window, listing_lag: std::time::Duration::ZERO, ..Timing::default() }
    }

    fn account(&self) -> &str {
        self.server.account()
    }

    fn facts(&self, spec: &DatabaseSpec) -> Facts {
        Facts { name: Some(spec.name.to_string()), ..Facts::default() }
    }
}

fn candidate(id: String) -> Candidate {
    Candidate { id: ExternalId::new(id), marked: true, created_at: None }
}
