//! What a simulated Supabase remembers, and the stages a project goes through.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Setup, database::Database};
use crate::sim::SimTime;

/// What becomes of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Fate {
    /// It comes up.
    #[default]
    Healthy,
    /// It fails while it comes up.
    InitFailed,
    /// It says that it comes up, for ever.
    Hangs,
    /// It comes up, and one of its services stays ill.
    SickService,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) projects: BTreeMap<String, Project>,
    pub(super) windows: BTreeMap<String, Window>,
    pub(super) serial: u64,
}

/// Calls counted within one minute.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) from_ms: u64,
    pub(super) used: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) password: String,
    pub(super) created_ms: u64,
    pub(super) visible_ms: u64,
    pub(super) deleted_ms: Option<u64>,
    pub(super) fate: Fate,
    pub(super) fixture: bool,
    pub(super) keys: Keys,
    pub(super) database: Database,
}

/// The keys of one project.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) anon: String,
    pub(super) service_role: String,
    pub(super) publishable: String,
    pub(super) secret: String,
}

impl Keys {
    fn new(id: &str) -> Self {
        let draw = |name: &str| {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{id}/{name}").as_bytes())
                .simple()
                .to_string()
        };
        let old = |name: &str| format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", draw(name), draw("signature"));
        Self {
            anon: old("anon"),
            service_role: old("service_role"),
            publishable: format!("sb_publishable_{}", draw("publishable")),
            secret: format!("sb_secret_{}", draw("secret")),
        }
    }

    pub(super) fn all(&self) -> [&str; 4] {
        [&self.anon, &self.service_role, &self.publishable, &self.secret]
    }

    /// The database role a key acts as.
    pub(super) fn role(&self, key: &str) -> Option<&'static str> {
        if key == self.anon || key == self.publishable {
            return Some("anon");
        }
        (key == self.service_role || key == self.secret).then_some("service_role")
    }
}

impl State {
    /// A new project id: 20 letters that depend on the seed and the order alone.
    pub(super) fn next_id(&mut self, seed: u64) -> String {
        self.serial += 1;
        let draw = |part: u8| {
            let name = format!("{seed}/{}/{part}", self.serial);
            *Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_bytes()
        };
        let letters = [draw(0), draw(1)].into_iter().flatten();
        letters.take(20).map(|byte| char::from(b'a' + byte % 26)).collect()
    }
}

impl Project {
    /// A project in a region of its own choice, with a password that everybody knows.
    pub(super) fn new(id: &str, number: u64, name: &str, database: Database) -> Self {
        Self {
            id: id.to_owned(),
            number,
            name: name.to_owned(),
            region: "eu-west-1".to_owned(),
            password: "fixture".to_owned(),
            created_ms: 0,
            visible_ms: 0,
            deleted_ms: None,
            fate: Fate::Healthy,
            fixture: false,
            keys: Keys::new(id),
            database,
        }
    }

    /// Whether so much time has passed since `since_ms`, by the speed of this cloud.
    fn passed(setup: &Setup, since_ms: u64, stage: Duration, now: SimTime) -> bool {
        now >= Duration::from_millis(since_ms).saturating_add(stage.mul_f64(setup.speed))
    }

    /// Whether it is gone for good.
    pub(super) fn is_gone(&self, setup: &Setup, now: SimTime) -> bool {
        let stage = setup.stages.going_down;
        self.deleted_ms.is_some_and(|deleted| Self::passed(setup, deleted, stage, now))
    }

    pub(super) fn is_listed(&self, setup: &Setup, now: SimTime) -> bool {
        now >= Duration::from_millis(self.visible_ms) && !self.is_gone(setup, now)
    }

    pub(super) fn status(&self, setup: &Setup, now: SimTime) -> &'static str {
        let stages = setup.stages;
        let passed = |stage| Self::passed(setup, self.created_ms, stage, now);
        if self.deleted_ms.is_some() {
            return "GOING_DOWN";
        }
        match self.fate {
            _ if !passed(stages.unknown) => "UNKNOWN",
            Fate::Hangs => "COMING_UP",
            _ if !passed(stages.coming_up) => "COMING_UP",
            Fate::InitFailed => "INIT_FAILED",
            Fate::Healthy | Fate::SickService => "ACTIVE_HEALTHY",
        }
    }

    fn reached(&self, setup: &Setup, stage: Duration, now: SimTime) -> bool {
        self.status(setup, now) == "ACTIVE_HEALTHY"
            && Self::passed(setup, self.created_ms, stage, now)
    }

    /// Whether the database can be reached: half way between the project and its services.
    pub(super) fn database_is_up(&self, setup: &Setup, now: SimTime) -> bool {
        let stages = setup.stages;
        self.reached(setup, stages.coming_up + stages.services / 2, now)
    }

    pub(super) fn services_are_up(&self, setup: &Setup, now: SimTime) -> bool {
        self.reached(setup, setup.stages.coming_up + setup.stages.services, now)
    }

    pub(super) fn keys_are_there(&self, setup: &Setup, now: SimTime) -> bool {
        let stages = setup.stages;
        self.reached(setup, stages.coming_up + stages.services + stages.keys, now)
    }
}
