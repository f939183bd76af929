//! The API of one project that clients read through: `GET /p/<ref>/rest/v1/<relation>` and
//! `POST /p/<ref>/rest/v1/rpc/<function>`, as the role of the key that is sent.

use serde_json::json;

use super::{SupabaseSim, database::Way, server::Failure, state::Project};
use crate::{
    sim::{SimRequest, SimResponse, SimTime},
    supabase::verify::quote_identifier,
};

impl SupabaseSim {
    pub(super) fn data_api(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let path = request.segments();
        let ["p", id, "rest", "v1", target @ ..] = path.as_slice() else {
            return SimResponse::unhandled(request);
        };
        let there = self.state.projects.get(*id).filter(|p| p.deleted_ms.is_none());
        // The host of a project that is not there does not resolve; a front that has no name to
        // drop can only say so.
        let Some(project) = there else { return SimResponse::empty(404) };
        if !project.services_are_up(&self.setup, now) {
            return problem(503, "PGRST000", "Could not connect with the database");
        }
        let key = request.header("apikey").or_else(|| request.bearer()).unwrap_or_default();
        let Some(role) = project.keys.role(key) else {
            return Self::refusal(401, "Invalid API key");
        };
        let sql = match (request.method.as_str(), target) {
            ("GET", [relation]) => relation_query(relation),
            ("POST", ["rpc", function]) => function_query(function),
            _ => return SimResponse::unhandled(request),
        };
        let way = Way { server: self.setup.server(), password: &project.password };
        read(project, way, role, &sql)
    }
}

fn relation_query(relation: &str) -> String {
    format!("select * from public.{}", quote_identifier(relation))
}

fn function_query(function: &str) -> String {
    format!("select * from public.{}()", quote_identifier(function))
}

fn read(project: &Project, way: Way<'_>, role: &str, sql: &str) -> SimResponse {
    // Every request says in its transaction who it is, as the provider's gateway does.
    let claims = json!({ "role": role }).to_string();
    let sql = format!("select set_config('request.jwt.claims', '{claims}', true); {sql}");
    match project.database.read(way, role, &sql) {
        Ok(rows) => SimResponse::json(200, &rows),
        Err(Failure::Unreachable(why)) => problem(503, "PGRST000", &why),
        Err(Failure::Refused { sqlstate, message }) => {
            let status = match sqlstate.as_str() {
                "42501" if role == "anon" => 401,
                "42501" => 403,
                "42P01" | "42883" => 404,
                _ => 400,
            };
            problem(status, &sqlstate, &message)
        }
    }
}

fn problem(status: u16, code: &str, message: &str) -> SimResponse {
    let body = json!({ "code": code, "details": null, "hint": null, "message": message });
    SimResponse::json(status, &body)
}
