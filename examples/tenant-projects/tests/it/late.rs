//! What a step has sent may come late: after its undo, or beside it.

use std::sync::Arc;

use example_command::stage::Stage;
use provision_core::{Compensator as _, RunId, Step as _, Undo};
use provision_testkit::solo::SoloHost;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tenant_projects::{
    input::{Project, Request},
    keys::{Hashing, Issue, KeysSpec, Purpose, Revoke},
    services::Registered,
    tables::{Activate, Complete, Deactivate, Release, Reserve, migrate},
};
use uuid::Uuid;

use crate::place::Place;

const ROWS: &str = "SELECT (SELECT count(*) FROM tenants.project_services)
    + (SELECT count(*) FROM tenants.project_resources)
    + (SELECT count(*) FROM tenants.project_usage)";
const VALID: &str = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
const LIVING: &str = "SELECT count(*) FROM tenants.projects
    WHERE state IN ('provisioning', 'active')";

/// A project whose steps are called by hand.
struct Alone {
    place: Place,
    pool: PgPool,
    run: RunId,
    project: Project,
}

impl Alone {
    async fn new() -> Option<Self> {
        let place = Place::new().await?;
        let pool = PgPoolOptions::new().connect(&place.url).await.unwrap();
        migrate(&pool, Some("nobody")).await.unwrap();
        let request = Request { slug: place.slug.clone(), ..Request::default() };
        let run = RunId::from_uuid(Uuid::now_v7());
        Some(Self { project: request.project().unwrap(), place, pool, run })
    }

    async fn reserve(&self) -> Result<(), provision_core::StepError> {
        let reserve = Reserve { pool: self.pool.clone(), stage: Stage::live() };
        reserve.run(&SoloHost::new().context(self.run, "reserve"), self.project.clone()).await
    }

    async fn release(&self) {
        let cx = SoloHost::new().context(self.run, "reserve");
        let undo = Undo::Unknown(Vec::new());
        Release(self.pool.clone()).compensate(&cx, self.project.clone(), undo).await.unwrap();
    }

    fn complete(&self) -> Complete {
        Complete {
            project: self.project.clone(),
            resources: vec![("database".to_owned(), format!("project_{}", self.place.slug))],
            services: vec![Registered { service: "auth".to_owned(), id: "auth-1".to_owned() }],
        }
    }

    async fn activate(&self) -> Result<(), provision_core::StepError> {
        let activate = Activate { pool: self.pool.clone(), stage: Stage::live() };
        activate.run(&SoloHost::new().context(self.run, "activate"), self.complete()).await
    }

    async fn deactivate(&self) {
        let cx = SoloHost::new().context(self.run, "activate");
        let undo = Undo::Unknown(Vec::new());
        Deactivate(self.pool.clone()).compensate(&cx, self.complete(), undo).await.unwrap();
    }

    fn keys(&self) -> KeysSpec {
        KeysSpec { project: self.project.id, purposes: Purpose::ALL.to_vec() }
    }

    async fn issue(&self) -> Result<(), provision_core::StepError> {
        let (pool, stage) = (self.pool.clone(), Stage::live());
        let issue = Issue { pool, hashing: Hashing::Argon2id, stage };
        let cx = SoloHost::new().context(self.run, "keys");
        issue.run(&cx, self.keys()).await.map(drop)
    }

    async fn revoke(&self) {
        let cx = SoloHost::new().context(self.run, "keys");
        let undo = Undo::Unknown(Vec::new());
        Revoke(self.pool.clone()).compensate(&cx, self.keys(), undo).await.unwrap();
    }
}

fn code(ended: Result<(), provision_core::StepError>) -> String {
    ended.unwrap_err().code().to_owned()
}

// covers: S12, S14, R4-33
#[tokio::test]
async fn what_comes_after_its_undo_changes_nothing() {
    let Some(alone) = Alone::new().await else { return };
    alone.reserve().await.unwrap();
    alone.reserve().await.expect("a step may be repeated");
    alone.deactivate().await;
    assert_eq!(code(alone.activate().await), "project_gone");
    assert_eq!(alone.place.number(ROWS).await, 0);
    alone.revoke().await;
    assert_eq!(code(alone.issue().await), "project_gone");
    alone.release().await;
    assert_eq!(code(alone.reserve().await), "project_gone");
    assert_eq!((alone.place.number(VALID).await, alone.place.number(LIVING).await), (0, 0));
}

// covers: S12, S14
#[tokio::test]
async fn a_reservation_that_comes_after_its_release_is_refused() {
    let Some(alone) = Alone::new().await else { return };
    alone.release().await;
    alone.release().await;
    assert_eq!(code(alone.reserve().await), "project_gone");
    let held = "SELECT count(*) FROM tenants.projects WHERE ended_at IS NULL";
    assert_eq!(alone.place.number(held).await, 0, "the name is free");
}

// covers: S14
#[tokio::test]
async fn keys_are_revoked_however_often_and_whatever_the_project_came_to() {
    let Some(alone) = Alone::new().await else { return };
    alone.reserve().await.unwrap();
    alone.issue().await.unwrap();
    assert_eq!(alone.place.number(VALID).await, 2);
    for end in ["failed", "removed"] {
        alone.revoke().await;
        let set = "UPDATE tenants.projects SET state = $1, ended_at = now()";
        sqlx::query(set).bind(end).execute(&alone.pool).await.unwrap();
        alone.revoke().await;
        let state = "SELECT state FROM tenants.projects";
        let state: String = sqlx::query_scalar(state).fetch_one(&alone.pool).await.unwrap();
        assert_eq!((alone.place.number(VALID).await, state.as_str()), (0, end));
    }
}

// covers: S12, S15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_waits_for_the_commit_of_what_it_undoes() {
    let Some(alone) = Alone::new().await else { return };
    let alone = Arc::new(alone);
    alone.reserve().await.unwrap();
    // An activation that has written everything, and whose commit is under way.
    let mut late = PgConnection::connect(&alone.place.url).await.unwrap();
    let mut late = late.begin().await.unwrap();
    late.execute("SELECT 1 FROM tenants.projects FOR UPDATE").await.unwrap();
    let enter = "INSERT INTO tenants.project_resources (project, kind, name)
        SELECT id, 'database', 'project_late' FROM tenants.projects";
    late.execute(enter).await.unwrap();
    let undoing = tokio::spawn({
        let alone = Arc::clone(&alone);
        async move { alone.deactivate().await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    alone.place.until(waiting, 1).await;
    assert!(!undoing.is_finished());
    late.commit().await.unwrap();
    undoing.await.unwrap();
    assert_eq!(alone.place.number(ROWS).await, 0);
}
