//! A project at every point at which something can go wrong: each step refused, each answer lost,
//! everything twice, a crash before and after each write and each call; and what the server, the
//! services and the host's tables hold compared with ledger and journal each time.
//!
//! All projects of a share are on one server and in one database of the host, one after the other:
//! each has a slug of its own, so that a world costs no more than what the saga makes in it.

use std::{
    sync::{Arc, LazyLock, Mutex},
    thread,
    time::{Duration, Instant},
};

use example_command::stage::Stage;
use provision_adapters::{http::BaseUrl, sim::SimServer};
use provision_core::{
    EngineBuilder, Owned, OwnerMark, RunStatus, Saga, Secret, resolver::MapResolver,
    vault::LocalKeys,
};
use provision_testkit::{
    harness::{Harness, Leaping, Outside, Subject},
    skips::share,
};
use sqlx::{
    AssertSqlSafe, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tempfile::TempDir;
use tenant_projects::{
    cloud::{Cloud, SIMULATED_TOKEN, ServiceSim},
    input::{Project, Request},
    keys::Hashing,
    saga::{Ready, Tools, provisioning},
    server::{ANONYMOUS, PASSWORD, TenantServer},
    services::{Registration, Service, TOKEN},
    tables::migrate,
};
use tokio::runtime::{Builder, Runtime};

use crate::place::{Place, quick};

/// Every so manieth crash is played; all of them where there is time.
const PARTS: usize = 128;
/// How long what a crash has cut may be under way.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
const ADMIN_PASSWORD: &str = "of_this_test";

/// Where services live, and where the server is asked: who asks is inside a runtime of his own.
static BESIDE: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

fn beside<T: Send>(work: impl Future<Output = T> + Send) -> T {
    thread::scope(|scope| scope.spawn(|| BESIDE.block_on(work)).join().unwrap())
}

/// One project, and everything that there may be of it.
#[derive(Debug, Clone)]
struct Estate {
    cloud: Arc<Cloud>,
    project: Project,
    /// Asked from beside the runtime of the saga.
    outer: PgPool,
    /// Who administers the tenants' server, for this share alone.
    admin: String,
    _folder: Arc<TempDir>,
}

impl Estate {
    fn asked(&self, sql: &str) -> Vec<(String, String, String)> {
        let sql = sql.replace("$admin", &self.admin).replace("$slug", &self.project.slug);
        let sql = sql.replace("$project", &self.project.id.to_string());
        beside(async { sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.outer).await.unwrap() })
    }
}

impl Outside for Estate {
    /// Lets the server come to the end of what nobody waits for.
    fn settle(&self) {
        let working = "SELECT pid::text, '', '' FROM pg_stat_activity
            WHERE usename = '$admin' AND state = 'active'";
        let begun = Instant::now();
        while !self.asked(working).is_empty() {
            assert!(begun.elapsed() < SETTLES_WITHIN, "the server still works");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn resources(&self) -> Vec<Owned> {
        // A database that is not finished has no name of the project's yet.
        let there = "SELECT oid::text, datname::text,
                coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
                WHERE pg_get_userbyid(datdba) = '$admin'
            UNION ALL SELECT oid::text, rolname::text,
                coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles
                WHERE rolname LIKE 'project\\_$slug\\_%'";
        let on_server = self.asked(there).into_iter().map(|(id, name, comment)| {
            Owned::new(id).with_name(name).with_mark(OwnerMark::find_in(&comment))
        });
        let Cloud { auth, realtime, storage, .. } = &*self.cloud;
        let registered = [auth, realtime, storage].into_iter().flat_map(SimServer::inventory);
        let registered = registered.map(|item| {
            let mark = item.labels.values().find_map(|label| OwnerMark::find_in(label));
            Owned::new(item.id).with_name(item.name).with_mark(mark)
        });
        on_server.chain(registered).collect()
    }

    /// What the host's tables say of the project.
    fn effects(&self) -> Vec<String> {
        let rows = "SELECT 'reserved', '', '' FROM tenants.projects
                WHERE id = '$project' AND state IN ('provisioning', 'active')
            UNION ALL SELECT 'key', purpose, '' FROM tenants.api_keys
                WHERE project = '$project' AND revoked_at IS NULL
            UNION ALL SELECT 'resource', kind, name FROM tenants.project_resources
                WHERE project = '$project'
            UNION ALL SELECT 'service', service, '' FROM tenants.project_services
                WHERE project = '$project'
            UNION ALL SELECT 'usage', metric, '' FROM tenants.project_usage
                WHERE project = '$project'";
        let rows = self.asked(rows).into_iter();
        // Names are the same in every run but for the slug.
        rows.map(|(what, which, name)| {
            format!("{what} {which} {}", name.replace(&self.project.slug, "slug"))
        })
        .collect()
    }

    fn secrets(&self) -> Vec<String> {
        [ADMIN_PASSWORD, SIMULATED_TOKEN].map(str::to_owned).to_vec()
    }
}

/// Projects that come up and go.
struct Provisioning {
    pool: PgPool,
    /// A pool works in the runtime that has opened it.
    outer: PgPool,
    server: TenantServer,
    slug: String,
    /// The project of the world that was made last, and how many there were.
    project: Mutex<(usize, Option<Project>)>,
}

impl Provisioning {
    /// A server that is administered by somebody of this share's own: what he owns was made here.
    async fn new(place: &Place) -> Self {
        let pool = PgPoolOptions::new().max_connections(8).connect(&place.url).await.unwrap();
        let outer = PgPoolOptions::new().max_connections(2);
        let outer = beside(async { outer.connect(&place.url).await.unwrap() });
        let admin = format!("points_{}", place.slug);
        for sql in [
            format!("CREATE ROLE {admin} SUPERUSER LOGIN PASSWORD '{ADMIN_PASSWORD}'"),
            format!(
                "DO $$ BEGIN CREATE ROLE {ANONYMOUS} NOLOGIN;
                    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ),
        ] {
            pool.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        migrate(&pool, Some(&admin)).await.unwrap();
        let options: PgConnectOptions = place.url.parse().unwrap();
        let port = options.get_port().to_string();
        let named = [options.get_host(), port.as_str(), admin.as_str(), ADMIN_PASSWORD];
        let server = TenantServer::named(named.map(|value| Some(Secret::new(value))).to_vec());
        let (server, slug) = (server.unwrap(), place.slug.clone());
        Self { pool, outer, server, slug, project: Mutex::default() }
    }

    /// Drops what the last project has left: it was compared with what should be there.
    async fn clear(&self) {
        let left = "SELECT 'DROP DATABASE ' || quote_ident(datname) || ' WITH (FORCE)'
                FROM pg_database WHERE pg_get_userbyid(datdba) = $1
            UNION ALL SELECT 'DROP ROLE ' || quote_ident(rolname)
                FROM pg_roles WHERE rolname LIKE $2";
        let (admin, like) = (self.admin(), format!("project\\_{}x%", self.slug));
        let left = sqlx::query_scalar(left).bind(admin).bind(like);
        let left: Vec<String> = left.fetch_all(&self.outer).await.unwrap();
        for drop in left {
            self.outer.execute(AssertSqlSafe(drop)).await.unwrap();
        }
    }

    async fn end(&self) {
        self.pool.close().await;
        beside(async {
            self.clear().await;
            let admin = self.admin();
            let drop = format!("DROP OWNED BY {admin}; DROP ROLE {admin}");
            self.outer.execute(AssertSqlSafe(drop)).await.unwrap();
            self.outer.close().await;
        });
    }

    fn admin(&self) -> String {
        format!("points_{}", self.slug)
    }
}

fn at<S: Service>(server: &SimServer<ServiceSim>) -> Registration<S> {
    Registration::at(BaseUrl::parse(&server.url()).unwrap()).unwrap()
}

impl Subject for &'static Provisioning {
    type Input = Project;
    type Output = Ready;
    type World = Estate;

    fn world(&self) -> Estate {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let cloud = beside(async {
            self.clear().await;
            Cloud::start(folder.path(), 0.0).await.unwrap()
        });
        let mut last = self.project.lock().unwrap();
        last.0 += 1;
        let slug = format!("{}x{}", self.slug, last.0);
        let project = Request { slug, ..Request::default() }.project().unwrap();
        last.1 = Some(project.clone());
        let (outer, admin) = (self.outer.clone(), self.admin());
        Estate { cloud: Arc::new(cloud), project, outer, admin, _folder: Arc::new(folder) }
    }

    fn saga(&self, world: &Estate) -> Saga<Project, Ready> {
        let Cloud { auth, realtime, storage, .. } = &*world.cloud;
        let tools = Tools {
            pool: self.pool.clone(),
            server: self.server.server.clone(),
            auth: at(auth),
            realtime: at(realtime),
            storage: at(storage),
            hashing: Hashing::Argon2id,
            retry: quick(3),
            stage: Stage::served(0.0),
            real: Stage::served(1.0),
        };
        provisioning(&tools).unwrap()
    }

    fn input(&self) -> Project {
        self.project.lock().unwrap().1.clone().unwrap()
    }

    fn equip(&self, builder: EngineBuilder, _: &Estate) -> EngineBuilder {
        let resolver =
            MapResolver::new().with(PASSWORD, ADMIN_PASSWORD).with(TOKEN, SIMULATED_TOKEN);
        builder.resolver(resolver).keys(LocalKeys::new("test", [7; 32]).unwrap())
    }
}

// covers: S4, S8, S9, S14, S15
#[tokio::test]
async fn a_project_survives_crashes() {
    let Some(place) = Place::new().await else { return };
    let subject: &'static Provisioning = Box::leak(Box::new(Provisioning::new(&place).await));
    // One test alone: what is played of a share without a crash is most of it.
    let (part, of) = share(7, PARTS, 1);
    let places = || std::future::ready(Leaping::new());
    let report = Harness::new(subject, places).calls_in_turn().part(part, of).run().await;
    println!("tenant-projects, part {part} of {of}: {report}");
    subject.end().await;
    report.assert_flawless();
    assert!(report.ended(RunStatus::RolledBack) > 0 && report.ended(RunStatus::TornDown) > 0);
    assert!(report.ended(RunStatus::Succeeded) > 0, "{report}");
}
