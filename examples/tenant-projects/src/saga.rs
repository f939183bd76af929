//! The sagas, in the order in which sagas are read: input, output, steps, definition, steps of our
//! own.
//!
//! Input: [`Project`], and [`Replacement`].

use example_command::stage::Stage;
use provision_adapters::tools::postgres::{
    ApplySchema, Database, DatabaseSpec, Identifier, Postgres, PostgresDatabase, PostgresRole,
    Role, RoleSpec, Schema, SchemaSpec,
};
use provision_core::{
    EngineBuilder, NothingToUndo, Saga, SagaError, SagaId, SecretRef, Step, StepContext, StepError,
    irreversible,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    input::Project,
    keys::{Hashing, Issue, Issued, KeysSpec, Purpose, Revoke},
    retry::Retry,
    server::ANONYMOUS,
    services::{Auth, Realtime, Registered, Registration, RegistrationSpec, Storage},
    tables::{Activate, Complete, Deactivate, Release, Reserve, refused_after},
};

/// Brings a project up. Runs are stored under name and version.
pub const PROVISION: SagaId<Project, Ready> = SagaId::new("provision-project", 1);
/// Replaces a key that was lost before anybody saw it.
pub const REPLACE: SagaId<Replacement, Vec<Issued>> = SagaId::new("replace-key", 1);

/// Schema of a project's own database.
const TENANT_SCHEMA: &str = include_str!("../sql/tenant.sql");
/// The schema that it works in.
const SCHEMA: &str = "app";

/// A key to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The project.
    pub project: Uuid,
    /// What the key is for.
    pub purpose: Purpose,
}

/// Output: how to reach a project. The password is a reference, and no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The project.
    pub project: Uuid,
    /// Its database.
    pub database: Identifier,
    /// The role that logs in.
    pub role: Identifier,
    /// The role's password.
    pub password: Option<SecretRef>,
    /// Its keys.
    pub keys: Vec<Issued>,
}

/// The stages that people see, in their order.
pub const STAGES: [&str; 8] =
    ["reserve", "owner", "database", "schema", "login", "services", "keys", "activate"];

/// Steps, in the order of the definition. Paths are stored and never change.
///
/// | Path | Makes | Needs |
/// |---|---|---|
/// | `reserve` | the project's row | |
/// | `owner` | a role without login that owns what is in the database | `reserve` |
/// | `database` | a database | `owner` |
/// | `schema` | its schema, tried as the anonymous role | `owner`, `database` |
/// | `login` | a role that logs in, with a drawn password | `schema` |
/// | `auth`, `realtime`, `storage` | registrations, side by side | `login` |
/// | `keys` | two API keys | all three |
/// | `activate` | the rows of what the project has and may use | `keys` |
pub const STEPS: [&str; 10] = [
    "reserve", "owner", "database", "schema", "login", "auth", "realtime", "storage", "keys",
    "activate",
];

/// What the sagas work with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The database with the host's tables.
    pub pool: PgPool,
    /// The server with the tenants' databases.
    pub server: Postgres,
    /// Authentication.
    pub auth: Registration<Auth>,
    /// Realtime.
    pub realtime: Registration<Realtime>,
    /// Files.
    pub storage: Registration<Storage>,
    /// How keys are hashed.
    pub hashing: Hashing,
    /// How both sagas repeat what went wrong.
    pub retry: Retry,
    /// Times of the simulated services, and the step that is refused.
    pub stage: Stage,
    /// The same for what is not simulated: its times are as they are.
    pub real: Stage,
}

/// Everything this host can do, as it is registered.
#[derive(Debug)]
pub struct Registry {
    provision: Saga<Project, Ready>,
    replace: Saga<Replacement, Vec<Issued>>,
}

impl Registry {
    /// Wires all sagas.
    ///
    /// # Errors
    /// Never for these graphs; a changed one is checked here.
    pub fn of(tools: &Tools) -> Result<Self, SagaError> {
        Ok(Self { provision: provisioning(tools)?, replace: replacing(tools)? })
    }

    /// The handlers by name, each with its steps.
    #[must_use]
    pub fn handlers(&self) -> Vec<(String, Vec<String>)> {
        let provision = (self.provision.saga_ref().name.to_string(), self.provision.paths());
        let replace = (self.replace.saga_ref().name.to_string(), self.replace.paths());
        vec![provision, replace]
    }

    /// Registers them.
    pub fn register(self, builder: EngineBuilder) -> EngineBuilder {
        builder.register(self.provision).register(self.replace)
    }
}

/// One policy for all steps of a saga: a step is given it here and nowhere else.
macro_rules! under {
    ($retry:expr, $node:expr) => {
        $node
            .retry($retry.forward.clone())
            .retry_undo($retry.undo.clone())
            .attempt_timeout($retry.attempt)
    };
}

/// Wires [`PROVISION`].
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn provisioning(tools: &Tools) -> Result<Saga<Project, Ready>, SagaError> {
    let Tools { pool, server, stage, real, retry, .. } = tools;
    Saga::define(PROVISION, |s| {
        s.validate(Project::check);

        s.phase("reserve");
        let reserve = Reserve { pool: pool.clone(), stage: stage.clone() };
        let reserved = under!(retry, s.step("reserve", reserve, Release(pool.clone())))
            .input((), |project, ()| project.clone());

        s.phase("owner");
        let owner = under!(retry, s.resource("owner", real.on(PostgresRole::new(server))))
            .after(reserved)
            .try_input((), |project, ()| Ok(RoleSpec::group(project.role("owner")?)));

        s.phase("database");
        let database =
            under!(retry, s.resource("database", real.on(PostgresDatabase::new(server))))
                .after(owner)
                .try_input((), |project, ()| {
                    let spec = DatabaseSpec::new(project.database()?);
                    Ok(spec.with_connections_max(project.connections))
                });

        s.phase("schema");
        let apply = SchemaOf { apply: ApplySchema::new(server), stage: stage.clone() };
        let schema = under!(retry, s.step("schema", apply, NothingToUndo))
            .try_input((database, owner), |_, (database, owner)| schema(database, owner));

        s.phase("login");
        let login = under!(retry, s.resource("login", real.on(PostgresRole::new(server))))
            .try_input((schema, owner), |project, (schema, owner)| login(project, schema, owner));

        s.phase("services");
        let auth = under!(retry, s.resource("auth", stage.on(tools.auth.clone())))
            .input((database, login), registration);
        let realtime = under!(retry, s.resource("realtime", stage.on(tools.realtime.clone())))
            .input((database, login), registration);
        let storage = under!(retry, s.resource("storage", stage.on(tools.storage.clone())))
            .input((database, login), registration);

        s.phase("keys");
        let keys = under!(retry, s.step(crate::keys::PATH, issue(tools), Revoke(pool.clone())))
            .after((auth, realtime, storage))
            .input((), |project, ()| KeysSpec {
                project: project.id,
                purposes: Purpose::ALL.to_vec(),
            });

        s.phase("activate");
        let activate = Activate { pool: pool.clone(), stage: stage.clone() };
        let active = under!(retry, s.step("activate", activate, Deactivate(pool.clone())))
            .after(keys)
            .input((owner, database, login, auth, realtime, storage), |project, made| {
                let (owner, database, login, auth, realtime, storage) = made;
                complete(project, (owner, database, login), vec![auth, realtime, storage])
            });
        s.value("ready").after(active).input((database, login, keys), ready)
    })
}

/// Wires [`REPLACE`].
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn replacing(tools: &Tools) -> Result<Saga<Replacement, Vec<Issued>>, SagaError> {
    Saga::define(REPLACE, |s| {
        let keep = irreversible("the key before it is revoked");
        under!(tools.retry, s.step(crate::keys::PATH, issue(tools), keep)).input(
            (),
            |wanted: &Replacement, ()| KeysSpec {
                project: wanted.project,
                purposes: vec![wanted.purpose],
            },
        )
    })
}

fn issue(tools: &Tools) -> Issue {
    let Tools { pool, hashing, stage, .. } = tools;
    Issue { pool: pool.clone(), hashing: *hashing, stage: stage.clone() }
}

fn registration(project: &Project, (database, _login): (Database, Role)) -> RegistrationSpec {
    RegistrationSpec {
        project: project.slug.clone(),
        database: database.name.to_string(),
        region: project.region.clone(),
    }
}

fn complete(
    project: &Project,
    (owner, database, login): (Role, Database, Role),
    services: Vec<Registered>,
) -> Complete {
    let resources = vec![
        ("owner".to_owned(), owner.name.to_string()),
        ("database".to_owned(), database.name.to_string()),
        ("login".to_owned(), login.name.to_string()),
    ];
    Complete { project: project.clone(), resources, services }
}

fn ready(project: &Project, (database, login, keys): (Database, Role, Vec<Issued>)) -> Ready {
    Ready {
        project: project.id,
        database: database.name,
        role: login.name,
        password: login.password,
        keys,
    }
}

fn schema(database: Database, owner: Role) -> Result<SchemaSpec, StepError> {
    let known = |name: &str| {
        Identifier::new(name).map_err(|error| StepError::permanent("name it").with_source(error))
    };
    Ok(SchemaSpec::new(database.name, known(ANONYMOUS)?)
        .with_owner(owner.name)
        .with_schema(known(SCHEMA)?)
        .with_migration("0001_notes", TENANT_SCHEMA))
}

fn login(project: &Project, schema: Schema, owner: Role) -> Result<RoleSpec, StepError> {
    let spec = RoleSpec::login(project.role("app")?).with_connect(schema.database);
    Ok(spec.with_membership(owner.name))
}

/// Applies the schema; then lets the run go on, or fails it where that was ordered.
#[derive(Debug)]
struct SchemaOf {
    apply: ApplySchema,
    stage: Stage,
}

impl Step for SchemaOf {
    const KIND: &'static str = "tenants.schema";
    type Input = SchemaSpec;
    type Output = Schema;

    async fn run(&self, cx: &StepContext, spec: SchemaSpec) -> Result<Schema, StepError> {
        let schema = self.apply.run(cx, spec).await?;
        refused_after(&self.stage, cx)?;
        Ok(schema)
    }
}
