//! Projects after their creation: listings, one project, its health, keys and SQL, its deletion.

use serde_json::{Value, json};

use super::{ORGANIZATION, SupabaseSim, create::millis, database::Way, show, state::Project};
use crate::sim::{SimRequest, SimResponse, SimTime};

impl SupabaseSim {
    pub(super) fn list(&self, slug: &str, request: &SimRequest, now: SimTime) -> SimResponse {
        if slug != ORGANIZATION {
            return Self::refusal(403, "Forbidden resource");
        }
        let number =
            |name: &str, default: usize| request.q(name).map_or(Ok(default), str::parse::<usize>);
        let (Ok(offset), Ok(limit @ 1..=100)) = (number("offset", 0), number("limit", 100)) else {
            return Self::refusal(400, "limit: Number must be between 1 and 100");
        };
        let search = request.q("search").unwrap_or_default().to_lowercase();
        let mut found: Vec<&Project> = self
            .state
            .projects
            .values()
            .filter(|p| p.is_listed(&self.setup, now) && p.name.to_lowercase().contains(&search))
            .collect();
        match request.q("sort").unwrap_or("name_asc") {
            "name_asc" => found.sort_by(|a, b| a.name.cmp(&b.name)),
            "name_desc" => found.sort_by(|a, b| b.name.cmp(&a.name)),
            "created_asc" => found.sort_by_key(|p| p.number),
            "created_desc" => found.sort_by_key(|p| std::cmp::Reverse(p.number)),
            _ => return Self::refusal(400, "sort: Invalid enum value"),
        }
        let page: Vec<Value> = found
            .iter()
            .skip(offset)
            .take(limit)
            .map(|project| show::listed(project, &self.setup, now))
            .collect();
        let pagination = json!({ "count": found.len(), "limit": limit, "offset": offset });
        SimResponse::json(200, &json!({ "projects": page, "pagination": pagination }))
    }

    pub(super) fn list_all(&self, now: SimTime) -> SimResponse {
        let listed = self.state.projects.values().filter(|p| p.is_listed(&self.setup, now));
        let shown: Vec<Value> = listed.map(|p| show::project(p, &self.setup, now)).collect();
        SimResponse::json(200, &shown)
    }

    /// Everything below `/v1/projects/{ref}`.
    pub(super) fn project(
        &mut self,
        id: &str,
        rest: &[&str],
        request: &SimRequest,
        now: SimTime,
    ) -> SimResponse {
        if id.len() != 20 || !id.bytes().all(|b| b.is_ascii_lowercase()) {
            return Self::refusal(400, "ref: Invalid project ref");
        }
        let setup = &self.setup;
        let there = self.state.projects.get_mut(id).filter(|p| !p.is_gone(setup, now));
        let Some(project) = there else { return Self::refusal(404, "Project not found") };
        match (request.method.as_str(), rest) {
            ("GET", []) => SimResponse::json(200, &show::project(project, setup, now)),
            ("DELETE", []) => match project.status(setup, now) {
                "UNKNOWN" | "COMING_UP" => Self::refusal(400, "Project not ready for deletion."),
                _ => {
                    project.deleted_ms.get_or_insert(millis(now));
                    let Project { number, id, name, .. } = project;
                    SimResponse::json(200, &json!({ "id": number, "ref": id, "name": name }))
                }
            },
            ("GET", ["health"]) => show::health(project, setup, request, now),
            ("GET", ["api-keys"]) if !project.keys_are_there(setup, now) => {
                Self::refusal(400, "Project API keys are not available yet.")
            }
            ("GET", ["api-keys"]) => show::keys(project, request.q("reveal") == Some("true")),
            ("POST", ["database", "query"]) => {
                if project.database_is_up(setup, now) {
                    let Project { database, password, .. } = project;
                    database.set_now(now);
                    return database.query(Way { server: setup.server(), password }, request);
                }
                let message = "Failed to run sql query: Connection terminated due to connection \
                               timeout";
                Self::refusal(400, message)
            }
            _ => SimResponse::unhandled(request),
        }
    }
}
