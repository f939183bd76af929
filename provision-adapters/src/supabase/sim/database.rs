//! The database of one project, as the Management API's query endpoint and the data API use it: a
//! model, or one of a real server.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    SupabaseSim,
    server::{Failure, Home, SqlServer},
    sql::{Catalog, ResultSet},
};
use crate::sim::{SimRequest, SimResponse, SimTime};

/// What the name of every database on a server begins with.
pub(super) const NAME_PREFIX: &str = "provision_sim_";
/// Longest name PostgreSQL keeps whole.
const NAME_MAX: usize = 63;

/// A database with what a new project has in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, try_from = "Value")]
pub(super) enum Database {
    Model(Box<Catalog>),
    Server(Hosted),
}

/// A database of a server. It is made when it is first asked: by then its name is on the disk, so
/// that none is ever left that no cloud knows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hosted {
    on_server: String,
    /// It was there.
    #[serde(default)]
    made: bool,
    /// Nothing of it is left.
    #[serde(default)]
    removed: bool,
}

/// Read by hand: what serde does for alternatives cannot read numbers as keys.
impl TryFrom<Value> for Database {
    type Error = String;

    fn try_from(stored: Value) -> Result<Self, String> {
        if stored.get("on_server").is_none() {
            let catalog = serde_json::from_value(stored).map_err(|error| error.to_string())?;
            return Ok(Self::Model(catalog));
        }
        let hosted: Hosted = serde_json::from_value(stored).map_err(|error| error.to_string())?;
        // It becomes part of statements.
        let name = &hosted.on_server;
        let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if name.starts_with(NAME_PREFIX) && name.len() <= NAME_MAX && name.bytes().all(known) {
            return Ok(Self::Server(hosted));
        }
        Err("the name of a database is none that was drawn here".to_owned())
    }
}

/// How a database is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// The server, where the cloud has one.
    pub(super) server: Option<&'a dyn SqlServer>,
    /// Password of the database's owner.
    pub(super) password: &'a str,
}

impl<'a> Way<'a> {
    fn to(&self, hosted: &'a Hosted) -> Result<(&'a dyn SqlServer, Home<'a>), Failure> {
        let Some(server) = self.server else {
            let why = "the database is on a server, and this cloud was started without it";
            return Err(Failure::Unreachable(why.to_owned()));
        };
        let Hosted { on_server, made, .. } = hosted;
        Ok((server, Home { name: on_server, password: self.password, made: *made }))
    }
}

impl Database {
    /// The database of a new project: on the server, where there is one.
    pub(super) fn new(server: Option<&dyn SqlServer>, project: &str) -> Self {
        match server {
            None => Self::Model(Box::new(Catalog::supabase_defaults())),
            Some(server) => {
                let on_server = server.name_for(project);
                Self::Server(Hosted { on_server, made: false, removed: false })
            }
        }
    }

    /// Whether it cannot be used without a server.
    pub(super) fn is_on_server(&self) -> bool {
        matches!(self, Self::Server(hosted) if !hosted.removed)
    }

    /// Removes it from its server; tried again after a failure.
    pub(super) fn remove(&mut self, server: &dyn SqlServer) {
        if let Self::Server(hosted) = self
            && !hosted.removed
        {
            hosted.removed = server.remove(&hosted.on_server).is_ok();
        }
    }

    /// Sets what the model takes for the present; a server has a clock of its own.
    pub(super) fn set_now(&mut self, now: SimTime) {
        if let Self::Model(catalog) = self {
            catalog.set_now(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        }
    }

    /// Runs a batch as the owner, as one transaction. Gives the rows of the last statement that
    /// has any, as the provider does.
    pub(super) fn run(&mut self, way: Way<'_>, sql: &str) -> Result<Vec<Value>, Failure> {
        let sets = match self {
            Self::Model(catalog) => catalog.execute(sql)?,
            Self::Server(hosted) => {
                let (server, home) = way.to(hosted)?;
                let answer = server.execute(home, sql);
                hosted.made |= !matches!(answer, Err(Failure::Unreachable(_)));
                answer?
            }
        };
        Ok(sets.into_iter().rev().map(objects).find(|rows| !rows.is_empty()).unwrap_or_default())
    }

    /// Runs one query as a role of the data API.
    pub(super) fn read(&self, way: Way<'_>, role: &str, sql: &str) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Model(catalog) => Ok(objects(catalog.query_as(role, sql)?)),
            Self::Server(hosted) => {
                let (server, home) = way.to(hosted)?;
                server.ask(home, role, sql).map(objects)
            }
        }
    }

    /// POST /v1/projects/{ref}/database/query.
    pub(super) fn query(&mut self, way: Way<'_>, request: &SimRequest) -> SimResponse {
        let body = request.json::<Map<String, Value>>().unwrap_or_default();
        let query = body.get("query").and_then(Value::as_str).unwrap_or_default();
        if query.is_empty() {
            return SupabaseSim::refusal(400, "query: Required");
        }
        if body.keys().any(|key| key != "query") {
            return SimResponse::unhandled(request);
        }
        let text = match self.run(way, query) {
            Ok(rows) => return SimResponse::json(201, &rows),
            Err(Failure::Refused { sqlstate, message }) => {
                format!("Failed to run sql query: ERROR:  {sqlstate}: {message}\n")
            }
            Err(Failure::Unreachable(why)) => format!("Failed to run sql query: {why}"),
        };
        SupabaseSim::refusal(400, &text)
    }
}

fn objects(set: ResultSet) -> Vec<Value> {
    let columns = set.columns;
    let object = |row: Vec<Value>| columns.iter().cloned().zip(row).collect::<Map<_, _>>();
    set.rows.into_iter().map(|row| json!(object(row))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Database;

    #[test]
    fn what_is_stored_is_read_back_and_no_other_name_is_taken() {
        let model = serde_json::to_value(Database::new(None, "x")).unwrap();
        let read: Database = serde_json::from_value(model.clone()).unwrap();
        assert!(!read.is_on_server());
        assert_eq!(serde_json::to_value(read).unwrap(), model);
        let named = |name: &str| serde_json::from_value::<Database>(json!({ "on_server": name }));
        assert!(named("provision_sim_00_x").unwrap().is_on_server());
        let long = "x".repeat(60);
        for name in ["postgres", "provision_sim_x; drop role a", &format!("provision_sim_{long}")] {
            assert!(named(name).is_err(), "{name}");
        }
    }
}
