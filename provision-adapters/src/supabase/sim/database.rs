//! The database of one project, as the Management API's query endpoint and the data API use it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    SupabaseSim,
    sql::{Catalog, ResultSet, SqlError},
};
use crate::sim::{SimRequest, SimResponse, SimTime};

/// A database with what a new project has in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Database {
    catalog: Catalog,
}

impl Database {
    pub(super) fn new() -> Self {
        Self { catalog: Catalog::supabase_defaults() }
    }

    /// Sets what the database takes for the present.
    pub(super) fn set_now(&mut self, now: SimTime) {
        self.catalog.set_now(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    }

    /// Runs a batch as the owner, as one transaction. Gives the rows of the last statement that
    /// has any, as the provider does.
    pub(super) fn run(&mut self, sql: &str) -> Result<Vec<Value>, SqlError> {
        let sets = self.catalog.execute(sql)?;
        Ok(sets.into_iter().rev().map(objects).find(|rows| !rows.is_empty()).unwrap_or_default())
    }

    /// Runs one query as a role of the data API.
    pub(super) fn read(&self, role: &str, sql: &str) -> Result<Vec<Value>, SqlError> {
        self.catalog.query_as(role, sql).map(objects)
    }

    /// POST /v1/projects/{ref}/database/query.
    pub(super) fn query(&mut self, request: &SimRequest) -> SimResponse {
        let body = request.json::<Map<String, Value>>().unwrap_or_default();
        let query = body.get("query").and_then(Value::as_str).unwrap_or_default();
        if query.is_empty() {
            return SupabaseSim::refusal(400, "query: Required");
        }
        if body.keys().any(|key| key != "query") {
            return SimResponse::unhandled(request);
        }
        match self.run(query) {
            Ok(rows) => SimResponse::json(201, &rows),
            Err(error) => {
                let SqlError { sqlstate, message } = error;
                let text = format!("Failed to run sql query: ERROR:  {sqlstate}: {message}\n");
                SupabaseSim::refusal(400, &text)
            }
        }
    }
}

fn objects(set: ResultSet) -> Vec<Value> {
    let columns = set.columns;
    let object = |row: Vec<Value>| columns.iter().cloned().zip(row).collect::<Map<_, _>>();
    set.rows.into_iter().map(|row| json!(object(row))).collect()
}
