//! What exists, and how much of it is used: read from the servers themselves, not from what the
//! runs remember.

use std::path::Path;

use example_command::{
    exit::{Exit, Trouble},
    progress::Screen,
    report::print_json,
};
use provision_adapters::tools::{
    postgres::{Identifier, PostgresRole},
    row_security::Answer,
};
use provision_core::{Call, Resource, StepError};
use serde::Serialize;
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::{cloud::Cloud, host::Host, tables::unread};

/// One thing that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Thing {
    /// What it is, such as `postgres.database`.
    pub kind: String,
    /// Its name, or its id where it has none.
    pub name: String,
}

/// Everything that runs have made and that is there now, sorted.
///
/// # Errors
/// A server does not answer.
pub async fn things(host: &Host, data_dir: &Path) -> Result<Vec<Thing>, Trouble> {
    let cx = host.engine.outside(None).await?;
    let databases = host.server.tenants(&cx).await.map_err(|error| unasked(&error))?;
    let roles =
        PostgresRole::new(&host.server).list_owned(&cx).await.map_err(|error| unasked(&error))?;
    let roles = roles.complete().unwrap_or_default();
    let keys = "SELECT p.slug || '/' || k.purpose FROM tenants.api_keys k
        JOIN tenants.projects p ON p.id = k.project WHERE k.revoked_at IS NULL";
    let keys: Vec<(String,)> = query_as(keys).fetch_all(host.pool()).await.map_err(unread)?;
    let thing = |kind: &str, name: String| Thing { kind: kind.to_owned(), name };
    let databases = databases.into_iter().map(|found| thing("postgres.database", found.database));
    let roles = roles.into_iter().filter_map(|role| Some(thing("postgres.role", role.name?)));
    let keys = keys.into_iter().map(|(name,)| thing("tenants.key", name));
    let registered = Cloud::stored(data_dir)?.into_iter();
    let registered =
        registered.map(|item| thing(&format!("{}.{}", item.provider, item.kind), item.name));
    let mut all: Vec<_> = databases.chain(roles).chain(keys).chain(registered).collect();
    all.sort();
    Ok(all)
}

/// `inventory`: shows what exists.
///
/// # Errors
/// A server does not answer.
pub async fn inventory(host: &Host, data_dir: &Path, json: bool) -> Result<Exit, Trouble> {
    let things = things(host, data_dir).await?;
    if json {
        print_json(&things)?;
        return Ok(Exit::Done);
    }
    let screen = Screen::new(false, true);
    for Thing { kind, name } in &things {
        screen.line(format!("{kind:<24} {name}"));
    }
    screen.line(format!("{} things", things.len()));
    Ok(Exit::Done)
}

/// One figure of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// The project.
    pub project: String,
    /// What is measured.
    pub metric: String,
    /// How much is used.
    pub used: Option<i64>,
    /// How much may be.
    pub quota: i64,
}

impl Figure {
    /// Whether more is used than may be.
    #[must_use]
    pub fn is_above(&self) -> bool {
        self.used.is_some_and(|used| used > self.quota)
    }
}

/// Measures every active project, keeps the figures, and answers them.
///
/// # Errors
/// A server does not answer.
pub async fn measure(host: &Host) -> Result<Vec<Figure>, Trouble> {
    let active = "SELECT p.id, r.name FROM tenants.projects p
        JOIN tenants.project_resources r ON r.project = p.id AND r.kind = 'database'
        WHERE p.state = 'active' ORDER BY p.slug";
    let active: Vec<(Uuid, String)> =
        query_as(active).fetch_all(host.pool()).await.map_err(unread)?;
    for (project, database) in active {
        let tenant = project.to_string();
        let usage = host.engine.usage(Some(&tenant)).await?;
        let resources = usage.get(&Some(tenant)).map_or(0, |usage| usage.resources.values().sum());
        // It may be taken down meanwhile: there is nothing to measure then.
        let Some((bytes, connections)) = of_database(host, &database).await? else { continue };
        let figures = [
            ("database_bytes", bytes),
            ("connections", connections),
            ("resources", i64::try_from(resources).unwrap_or(i64::MAX)),
        ];
        for (metric, used) in figures {
            keep(host.pool(), project, (metric, used)).await?;
        }
    }
    figures(host.pool()).await
}

async fn keep(pool: &PgPool, project: Uuid, (metric, used): (&str, i64)) -> Result<(), Trouble> {
    let keep = "UPDATE tenants.project_usage SET used = $3, measured_at = now()
        WHERE project = $1 AND metric = $2";
    let keep = query(keep).bind(project).bind(metric).bind(used);
    keep.execute(pool).await.map(drop).map_err(unread)
}

async fn figures(pool: &PgPool) -> Result<Vec<Figure>, Trouble> {
    let rows = "SELECT p.slug, u.metric, u.used, u.quota FROM tenants.project_usage u
        JOIN tenants.projects p ON p.id = u.project ORDER BY p.slug, u.metric";
    let rows: Vec<(String, String, Option<i64>, i64)> =
        query_as(rows).fetch_all(pool).await.map_err(unread)?;
    let figure = |(project, metric, used, quota)| Figure { project, metric, used, quota };
    Ok(rows.into_iter().map(figure).collect())
}

/// Bytes of a database, and how many are connected to it; `None` where it is gone.
async fn of_database(host: &Host, database: &str) -> Result<Option<(i64, i64)>, Trouble> {
    let cx = host.engine.outside(None).await?;
    let wrong = |error: &str| Trouble::bug("identifier", error.to_owned());
    let name = Identifier::new(database).map_err(|error| wrong(&error.to_string()))?;
    let place = Identifier::new("postgres").map_err(|error| wrong(&error.to_string()))?;
    // A name has no quotes in it.
    let sql = format!(
        "SELECT pg_database_size(oid)::text AS bytes, (SELECT count(*) FROM pg_stat_activity
            WHERE datid = d.oid)::text AS connections FROM pg_database d WHERE datname = '{name}'"
    );
    let answer = host.server.query(&cx, Call::read("measure"), &place, sql).await;
    let Answer::Rows(rows) = answer.map_err(|error| unasked(&error))? else { return Ok(None) };
    let number = |row: &[(String, Option<String>)], place: usize| {
        row.get(place).and_then(|(_, value)| value.as_deref()?.parse().ok())
    };
    Ok(rows.first().and_then(|row| Some((number(row, 0)?, number(row, 1)?))))
}

/// `usage`: measures, and shows the figures. Above a quota the exit code asks for a person.
///
/// # Errors
/// A server does not answer.
pub async fn usage(host: &Host, json: bool) -> Result<Exit, Trouble> {
    let figures = measure(host).await?;
    if json {
        print_json(&figures)?;
    } else {
        let screen = Screen::new(false, true);
        for Figure { project, metric, used, quota } in &figures {
            let used = used.map_or_else(|| "?".to_owned(), |used| used.to_string());
            screen.line(format!("{project:<24} {metric:<16} {used:>14} of {quota}"));
        }
    }
    Ok(if figures.iter().any(Figure::is_above) { Exit::Parked } else { Exit::Done })
}

fn unasked(error: &StepError) -> Trouble {
    Trouble::unavailable("tenants_server", error.to_string(), "check the tenants' server")
}
