//! Custom domains.

use serde_json::json;

use super::{
    VercelSim, error, not_found, show,
    state::{Deployment, Domain, Project},
};
use crate::sim::{SimRequest, SimResponse};

impl VercelSim {
    pub(super) fn add_domain(
        &mut self,
        request: &SimRequest,
        scope: &str,
        id: &str,
        now: u64,
    ) -> SimResponse {
        let name = request.json::<serde_json::Value>().ok().and_then(|body| {
            body.get("name").and_then(|name| name.as_str()).map(str::to_lowercase)
        });
        let Some(name) = name.filter(|name| name.contains('.')) else {
            return error(400, "bad_request", "Invalid request: `name` should be a domain.");
        };
        let Some(at) = self.position(scope, id) else { return not_found("Project") };
        let taken = |p: &Project| p.domains.iter().any(|d| d.name == name);
        if self.state.projects.iter().any(taken) {
            return error(409, "domain_already_in_use", "The domain is assigned to a project.");
        }
        let Some(project) = self.state.projects.get(at) else { return not_found("Project") };
        let own = |d: &&Deployment| d.project == project.id && d.production;
        let last = self.state.deployments.iter().rfind(own);
        if last.is_some_and(|d| d.failed(now)) {
            return error(400, "bad_request", "The last production deployment failed.");
        }
        let verified = self.setup.has_dns(&name) && !self.setup.unasked.contains(&name);
        let domain = Domain { name, verified, created: now };
        let shown = show::domain(&domain, &project.id);
        if let Some(project) = self.state.projects.get_mut(at) {
            project.domains.push(domain);
        }
        SimResponse::json(200, &shown)
    }

    fn find_domain(&self, scope: &str, id: &str, name: &str) -> Option<(usize, usize)> {
        let at = self.position(scope, id)?;
        let project = self.state.projects.get(at)?;
        Some((at, project.domains.iter().position(|d| d.name == name)?))
    }

    pub(super) fn show_domain(&self, scope: &str, id: &str, name: &str) -> SimResponse {
        let found = self.find_domain(scope, id, name).and_then(|(at, place)| {
            let project = self.state.projects.get(at)?;
            Some(show::domain(project.domains.get(place)?, &project.id))
        });
        match found {
            Some(shown) => SimResponse::json(200, &shown),
            None => not_found("Domain"),
        }
    }

    pub(super) fn verify_domain(&mut self, scope: &str, id: &str, name: &str) -> SimResponse {
        let Some((at, place)) = self.find_domain(scope, id, name) else {
            return not_found("Domain");
        };
        if !self.setup.has_dns(name) {
            return error(400, "missing_txt_record", "The TXT record is missing.");
        }
        let project = self.state.projects.get_mut(at);
        if let Some(domain) = project.and_then(|p| p.domains.get_mut(place)) {
            domain.verified = true;
        }
        self.show_domain(scope, id, name)
    }

    pub(super) fn domain_config(&self, name: &str) -> SimResponse {
        let right = self.setup.has_dns(name);
        let body = json!({
            "configuredBy": if right { json!("CNAME") } else { json!(null) },
            "acceptedChallenges": ["dns-01"],
            "recommendedIPv4": [{ "rank": 1, "value": ["76.76.21.21"] }],
            "recommendedCNAME": [{ "rank": 1, "value": "cname.vercel-dns.com." }],
            "misconfigured": !right,
        });
        SimResponse::json(200, &body)
    }

    pub(super) fn remove_domain(&mut self, scope: &str, id: &str, name: &str) -> SimResponse {
        let Some((at, place)) = self.find_domain(scope, id, name) else {
            return not_found("Domain");
        };
        if let Some(project) = self.state.projects.get_mut(at) {
            project.domains.remove(place);
        }
        SimResponse::json(200, &json!({}))
    }
}
