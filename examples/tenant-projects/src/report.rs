//! What exists, and how much of it is used: read from the servers themselves, not from what the
//! runs remember.

use std::path::Path;

use example_command::{
    exit::{Exit, Trouble},
    folder::show_inventory,
    progress::Screen,
    report::print_json,
};
use provision_adapters::{
    sim::{Inventory, InventoryItem},
    tools::{
        postgres::{Identifier, PostgresDatabase, PostgresRole},
        row_security::Answer,
    },
};
use provision_core::{Call, Owned, OwnerMark, Resource, RunId, StepError};
use serde::Serialize;
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::{cloud::Cloud, host::Look, tables::unread};

/// Everything that runs have made and that is there now: databases and roles as the tenants' server
/// lists them, registrations as the services keep them, and the keys that are valid.
///
/// # Errors
/// A server does not answer.
pub async fn things(look: &Look, data_dir: &Path) -> Result<Inventory, Trouble> {
    let cx = look.engine.outside(None).await?;
    let (databases, roles) = (PostgresDatabase::new(&look.server), PostgresRole::new(&look.server));
    let databases = databases.list_owned(&cx).await.map_err(|error| unasked(&error))?;
    let roles = roles.list_owned(&cx).await.map_err(|error| unasked(&error))?;
    let of = |kind: &'static str| move |owned: Owned| on_server(kind, owned);
    Ok(Inventory::merge([
        databases.complete().unwrap_or_default().into_iter().map(of("database")).collect(),
        roles.complete().unwrap_or_default().into_iter().map(of("role")).collect(),
        valid_keys(look).await?,
        Cloud::stored(data_dir)?,
    ]))
}

fn on_server(kind: &str, owned: Owned) -> InventoryItem {
    let labels = owned.mark.map(|mark| mark.labels()).unwrap_or_default();
    InventoryItem {
        provider: "postgres".to_owned(),
        kind: kind.to_owned(),
        id: owned.id.to_string(),
        name: owned.name.unwrap_or_default(),
        labels: labels.into_iter().collect(),
    }
}

async fn valid_keys(look: &Look) -> Result<Vec<InventoryItem>, Trouble> {
    if !look.is_set_up {
        return Ok(Vec::new());
    }
    let keys = "SELECT k.id, p.slug || '/' || k.purpose, k.run FROM tenants.api_keys k
        JOIN tenants.projects p ON p.id = k.project WHERE k.revoked_at IS NULL";
    let keys: Vec<(String, String, Uuid)> =
        query_as(keys).fetch_all(look.pool()).await.map_err(unread)?;
    let item = |(id, name, run)| InventoryItem {
        provider: "tenants".to_owned(),
        kind: "key".to_owned(),
        id,
        name,
        labels: OwnerMark::new(RunId::from_uuid(run), crate::keys::PATH)
            .labels()
            .into_iter()
            .collect(),
    };
    Ok(keys.into_iter().map(item).collect())
}

/// `inventory`: shows what exists.
///
/// # Errors
/// A server does not answer.
pub async fn inventory(look: &Look, data_dir: &Path, json: bool) -> Result<Exit, Trouble> {
    show_inventory(&things(look, data_dir).await?, json)
}

/// What there is where no database is named and none was ever made: no project has begun here.
///
/// # Errors
/// It cannot be printed.
pub fn nothing(json: bool) -> Result<Exit, Trouble> {
    match json {
        true => print_json(&[(); 0])?,
        false => Screen::new(false, true).line("there is nothing: no project was begun here"),
    }
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
    /// When it was measured, in UTC.
    pub measured_at: Option<String>,
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
pub async fn measure(look: &Look) -> Result<Vec<Figure>, Trouble> {
    if !look.is_set_up {
        return Ok(Vec::new());
    }
    let active = "SELECT p.id, r.name FROM tenants.projects p
        JOIN tenants.project_resources r ON r.project = p.id AND r.kind = 'database'
        WHERE p.state = 'active' ORDER BY p.slug";
    let active: Vec<(Uuid, String)> =
        query_as(active).fetch_all(look.pool()).await.map_err(unread)?;
    for (project, database) in active {
        let tenant = project.to_string();
        let usage = look.engine.usage(Some(&tenant)).await?;
        let resources = usage.get(&Some(tenant)).map_or(0, |usage| usage.resources.values().sum());
        // It may be taken down meanwhile: there is nothing to measure then.
        let Some((bytes, connections)) = of_database(look, &database).await? else { continue };
        let figures = [
            ("database_bytes", bytes),
            ("connections", connections),
            ("resources", i64::try_from(resources).unwrap_or(i64::MAX)),
        ];
        for (metric, used) in figures {
            keep(look.pool(), project, (metric, used)).await?;
        }
    }
    figures(look.pool()).await
}

async fn keep(pool: &PgPool, project: Uuid, (metric, used): (&str, i64)) -> Result<(), Trouble> {
    let keep = "UPDATE tenants.project_usage SET used = $3, measured_at = now()
        WHERE project = $1 AND metric = $2";
    let keep = query(keep).bind(project).bind(metric).bind(used);
    keep.execute(pool).await.map(drop).map_err(unread)
}

async fn figures(pool: &PgPool) -> Result<Vec<Figure>, Trouble> {
    type Row = (String, String, Option<i64>, i64, Option<String>);
    let rows = "SELECT p.slug, u.metric, u.used, u.quota,
            to_char(u.measured_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
        FROM tenants.project_usage u JOIN tenants.projects p ON p.id = u.project ORDER BY p.slug, u.metric";
    let rows: Vec<Row> = query_as(rows).fetch_all(pool).await.map_err(unread)?;
    let figure = |(project, metric, used, quota, measured_at)| Figure {
        project,
        metric,
        used,
        quota,
        measured_at,
    };
    Ok(rows.into_iter().map(figure).collect())
}

/// Bytes of a database, and how many are connected to it; `None` where it is gone.
async fn of_database(look: &Look, database: &str) -> Result<Option<(i64, i64)>, Trouble> {
    let cx = look.engine.outside(None).await?;
    let wrong = |error: &str| Trouble::bug("identifier", error.to_owned());
    let name = Identifier::new(database).map_err(|error| wrong(&error.to_string()))?;
    let place = Identifier::new("postgres").map_err(|error| wrong(&error.to_string()))?;
    // A name has no quotes in it.
    let sql = format!(
        "SELECT pg_database_size(oid)::text AS bytes, (SELECT count(*) FROM pg_stat_activity
            WHERE datid = d.oid)::text AS connections FROM pg_database d WHERE datname = '{name}'"
    );
    let answer = look.server.query(&cx, Call::read("measure"), &place, sql).await;
    let rows = match answer.map_err(|error| unasked(&error))? {
        Answer::Rows(rows) => rows,
        Answer::Refused { sqlstate } => return Err(refused(&sqlstate)),
    };
    let number = |row: &[(String, Option<String>)], place: usize| {
        row.get(place).and_then(|(_, value)| value.as_deref()?.parse().ok())
    };
    // Only an empty answer says that it is gone.
    let Some(row) = rows.first() else { return Ok(None) };
    let (Some(bytes), Some(connections)) = (number(row, 0), number(row, 1)) else {
        return Err(Trouble::bug("figures", "the server's figures are no numbers"));
    };
    Ok(Some((bytes, connections)))
}

fn refused(sqlstate: &str) -> Trouble {
    let message = format!("the tenants' server refuses to be measured: {sqlstate}");
    Trouble::unavailable("tenants_server", message, "check the rights of who administers it")
}

/// `usage`: measures, and shows the figures. Above a quota the exit code asks for a person.
///
/// # Errors
/// A server does not answer.
pub async fn usage(look: &Look, json: bool) -> Result<Exit, Trouble> {
    let figures = measure(look).await?;
    if json {
        print_json(&figures)?;
    } else {
        let screen = Screen::new(false, true);
        for Figure { project, metric, used, quota, measured_at } in &figures {
            let used = used.map_or_else(|| "?".to_owned(), |used| used.to_string());
            let at = measured_at.as_deref().unwrap_or("never measured");
            screen.line(format!("{project:<24} {metric:<16} {used:>14} of {quota:<14} {at}"));
        }
    }
    Ok(if figures.iter().any(Figure::is_above) { Exit::Parked } else { Exit::Done })
}

fn unasked(error: &StepError) -> Trouble {
    Trouble::unavailable("tenants_server", error.to_string(), "check the tenants' server")
}
