//! Creating a project: the provider's validation, quota, and the first answer.

use serde_json::{Map, Value};

use super::{
    ORGANIZATION, SupabaseSim,
    database::Database,
    show,
    state::{Fate, Project},
};
use crate::{
    sim::{SimRequest, SimResponse, SimTime},
    supabase::{INSTANCE_SIZES, PROJECT_NAME_MAX, REGION_GROUPS, REGIONS},
};

/// Keys the body may have; any other is a validation error.
const KEYS: [&str; 10] = [
    "db_pass",
    "name",
    "organization_id",
    "organization_slug",
    "plan",
    "region",
    "region_selection",
    "kps_enabled",
    "desired_instance_size",
    "template_url",
];

/// A body that passed the validation.
struct Wanted {
    name: String,
    password: String,
    region: String,
}

impl SupabaseSim {
    pub(super) fn create(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        let Ok(body) = request.json::<Map<String, Value>>() else {
            return Self::refusal(400, "Invalid JSON body");
        };
        let wanted = match validate(&body) {
            Ok(wanted) => wanted,
            Err(message) => return Self::refusal(400, &message),
        };
        if body.get("organization_slug").and_then(Value::as_str) != Some(ORGANIZATION) {
            return Self::refusal(403, "Forbidden resource");
        }
        let alive = self.state.projects.values().filter(|p| p.deleted_ms.is_none()).count();
        if self.setup.projects_max.is_some_and(|most| alive >= most) {
            let message = "The following organization members have reached their maximum limits \
                           for the number of active free projects within organizations where \
                           they are an administrator or owner: sim (2 project limit). They have \
                           exceeded their free project limit.";
            return Self::refusal(400, message);
        }
        // Names are not unique: a second project of the same name is a second project.
        let id = self.state.next_id(self.setup.seed);
        let Wanted { name, password, region } = wanted;
        let database = Database::new(self.setup.server(), &id);
        let mut project = Project::new(&id, self.state.serial, &name, database);
        (project.password, project.region) = (password, region);
        project.created_ms = millis(now);
        project.visible_ms = millis(now.saturating_add(request.hidden_for));
        project.fate = self.setup.fates.pop_front().unwrap_or(Fate::Healthy);
        // What the provider answers first, twice recorded: it does not know yet.
        let shown = show::made(&project);
        self.state.projects.insert(id, project);
        SimResponse::json(201, &shown)
    }
}

pub(super) fn millis(at: SimTime) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

fn validate(body: &Map<String, Value>) -> Result<Wanted, String> {
    if let Some(unknown) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("property {unknown} should not exist"));
    }
    let text = |key: &str| match body.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(format!("{key}: Expected a string")),
        None => Err(format!("{key}: Required")),
    };
    let (name, password, slug) = (text("name")?, text("db_pass")?, text("organization_slug")?);
    if name.chars().count() > PROJECT_NAME_MAX {
        return Err(format!("name: must contain at most {PROJECT_NAME_MAX} character(s)"));
    }
    if !slug.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err("organization_slug: Invalid".to_owned());
    }
    if let Some(size) = body.get("desired_instance_size") {
        let known = size.as_str().is_some_and(|size| INSTANCE_SIZES.contains(&size));
        if !known {
            return Err(format!("desired_instance_size: Invalid enum value, received {size}"));
        }
    }
    Ok(Wanted { name, password, region: region(body)? })
}

/// One region or one group, by exactly one of the two fields.
fn region(body: &Map<String, Value>) -> Result<String, String> {
    let known = |code: &str| {
        let found = REGIONS.contains(&code).then(|| code.to_owned());
        found.ok_or_else(|| format!("region: Invalid enum value, received '{code}'"))
    };
    match (body.get("region"), body.get("region_selection")) {
        (Some(_), Some(_)) => Err("region and region_selection are mutually exclusive".to_owned()),
        (Some(region), None) => known(region.as_str().unwrap_or_default()),
        (None, None) => Ok("us-east-1".to_owned()),
        (None, Some(selection)) => {
            let field = |key: &str| selection.get(key).and_then(Value::as_str).unwrap_or_default();
            match (field("type"), field("code")) {
                ("specific", code) => known(code),
                ("smartGroup", code) if REGION_GROUPS.contains(&code) => Ok(match code {
                    "americas" => "us-east-1".to_owned(),
                    "apac" => "ap-southeast-1".to_owned(),
                    _ => "eu-central-1".to_owned(),
                }),
                _ => Err("region_selection: Invalid input".to_owned()),
            }
        }
    }
}
