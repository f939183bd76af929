//! The edge: what a deployed app answers.

use serde_json::json;

use super::{VercelSim, state::Deployment};
use crate::sim::{SimRequest, SimResponse};

impl VercelSim {
    /// Answers for an app, if the request's host is one.
    pub(super) fn serve_app(&self, request: &SimRequest, now: u64) -> Option<SimResponse> {
        let host = request.host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let custom = self.state.projects.iter().any(|p| p.domains.iter().any(|d| d.name == host));
        if !host.ends_with(".vercel.app") && !custom {
            return None;
        }
        // The newest live one has the alias.
        let mut live = self.state.deployments.iter().rev().filter(|d| d.is_live(now));
        let found = live.find(|d| d.url == host || self.aliases(d).contains(&host));
        Some(match found {
            Some(deployment) => self.app(deployment),
            None => SimResponse::text(404, "text/plain", "The deployment could not be found")
                .header("x-vercel-error", "DEPLOYMENT_NOT_FOUND"),
        })
    }

    /// An app built without its variables starts, and fails at the first request.
    fn app(&self, deployment: &Deployment) -> SimResponse {
        let complete = match &self.setup.needs {
            Some(needs) => needs.is_subset(&deployment.env),
            None => !deployment.env.is_empty(),
        };
        match self.setup.app_status {
            Some(status) => SimResponse::text(status, "text/plain", "set by the test"),
            None if complete => SimResponse::json(200, &json!({ "app": deployment.name })),
            None => SimResponse::text(500, "text/plain", "This Serverless Function has crashed.")
                .header("x-vercel-error", "FUNCTION_INVOCATION_FAILED"),
        }
    }
}
