//! Whether a project and its services have come up: one look, judged.

use crate::supabase::model::{ServiceHealth, ServiceStatus, Status};

/// Where something is on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is there.
    Up,
    /// It may come up still.
    Coming,
    /// It will never come up.
    Failed(&'static str),
}

/// The classification of the provider's own Terraform client (read 2026-08-20): right after the
/// create the provider says UNKNOWN, which is no failure.
pub(crate) fn project(status: Status) -> Phase {
    match status {
        Status::ActiveHealthy => Phase::Up,
        Status::ActiveUnhealthy
        | Status::ComingUp
        | Status::Unknown
        | Status::Restoring
        | Status::Upgrading
        | Status::Pausing
        | Status::Restarting
        | Status::Resizing => Phase::Coming,
        Status::GoingDown => Phase::Failed("going_down"),
        Status::InitFailed => Phase::Failed("init_failed"),
        Status::Removed => Phase::Failed("removed"),
        Status::Inactive => Phase::Failed("inactive"),
        Status::PauseFailed => Phase::Failed("pause_failed"),
        Status::RestoreFailed => Phase::Failed("restore_failed"),
    }
}

/// What the services say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Services {
    /// All are up.
    Up,
    /// Some are coming up.
    Coming,
    /// One is ill, and not in the way services are while they come up.
    Ill(String),
}

/// Services follow the project by seconds to minutes.
pub(crate) fn services(health: &[ServiceHealth], wanted: &[&str]) -> Services {
    let ill = health.iter().find(|s| s.status == ServiceStatus::Unhealthy && !is_passing(s));
    if let Some(service) = ill {
        return Services::Ill(service.name.clone());
    }
    let up = |name: &str| {
        health.iter().any(|s| s.name == name && s.status == ServiceStatus::ActiveHealthy)
    };
    if wanted.iter().all(|name| up(name)) { Services::Up } else { Services::Coming }
}

/// In its first seconds a service can be "unhealthy" because it cannot be asked, and the pooler
/// because it does not know the project yet.
fn is_passing(service: &ServiceHealth) -> bool {
    let error = service.error.as_deref().unwrap_or_default();
    let text = serde_json::from_str::<serde_json::Value>(error).ok();
    let text = text.as_ref().and_then(|e| e.get("error")?.as_str()).unwrap_or(error);
    let unasked = text.starts_with("Failed to retrieve project's");
    unasked || (service.name == "pooler" && text == "not found")
}

#[cfg(test)]
mod tests {
    use super::{Phase, Services, project, services};
    use crate::supabase::{
        SERVICES,
        model::{ServiceHealth, ServiceStatus, Status},
    };

    #[test]
    fn the_first_status_of_a_project_is_waited_out() {
        assert_eq!(project(Status::Unknown), Phase::Coming);
        assert_eq!(project(Status::ActiveUnhealthy), Phase::Coming);
        assert_eq!(project(Status::ActiveHealthy), Phase::Up);
        assert_eq!(project(Status::InitFailed), Phase::Failed("init_failed"));
    }

    #[test]
    fn services_are_up_when_all_of_them_say_so() {
        let service = |name: &str, status, error: Option<&str>| ServiceHealth {
            name: name.to_owned(),
            status,
            error: error.map(str::to_owned),
        };
        let all = || SERVICES.iter().map(|name| service(name, ServiceStatus::ActiveHealthy, None));
        let with = |name: &str, status, error| {
            let mut health: Vec<_> = all().filter(|s| s.name != name).collect();
            health.push(service(name, status, error));
            services(&health, &SERVICES)
        };
        assert_eq!(services(&all().collect::<Vec<_>>(), &SERVICES), Services::Up);
        assert_eq!(services(&all().skip(1).collect::<Vec<_>>(), &SERVICES), Services::Coming);
        assert_eq!(with("db", ServiceStatus::ComingUp, None), Services::Coming);
        let ill = ServiceStatus::Unhealthy;
        let unasked = "{\"error\":\"Failed to retrieve project's auth service health\"}";
        assert_eq!(with("auth", ill, Some(unasked)), Services::Coming);
        assert_eq!(with("pooler", ill, Some("{\"error\":\"not found\"}")), Services::Coming);
        let auth = Services::Ill("auth".to_owned());
        assert_eq!(with("auth", ill, Some("{\"error\":\"not found\"}")), auth);
        assert_eq!(with("auth", ill, None), auth);
    }
}
