//! The host's own tables: made in one transaction, written by steps that may be repeated, and ended
//! in the transaction that ends the run.

use example_command::{
    exit::Trouble,
    stage::Stage,
    tables::{self, alone},
};
use provision_core::{Compensator, Effect, RunStatus, Step, StepContext, StepError, Undo};
use provision_store_postgres::PostgresStore;
use serde::{Deserialize, Serialize};
use sqlx::{
    Executor as _, PgPool, Postgres, Transaction, postgres::PgArguments, query, query::Query,
    query_scalar,
};
use uuid::Uuid;

use crate::{input::Project, services::Registered};

const SCHEMA: &str = include_str!("../sql/schema.sql");
/// Logins of tenants are roles of the server, and a new database lets every role in. Who administers
/// their server may have come in by this right alone, and goes on.
const CLOSE: &str = "DO $$ DECLARE
        admin text := current_setting('tenants.admin');
        enters boolean := coalesce((
            SELECT has_database_privilege(oid, current_database(), 'CONNECT')
            FROM pg_roles WHERE rolname = admin
        ), false);
    BEGIN
        IF has_database_privilege('public', current_database(), 'CONNECT')
            OR has_database_privilege('public', current_database(), 'TEMPORARY') THEN
            EXECUTE format(
                'REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
            IF enters AND NOT has_database_privilege(admin, current_database(), 'CONNECT') THEN
                EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), admin);
            END IF;
        END IF;
    END $$";
const NAME_ADMIN: &str = "SELECT set_config('tenants.admin', $1, true)";
const IS_CLOSED: &str =
    "SELECT NOT has_database_privilege('public', current_database(), 'CONNECT')";
const BYTES_OF_A_MIB: i64 = 1 << 20;
/// Database, two roles, three registrations.
const RESOURCES_MAX: i64 = 6;

/// Makes the tables, all or none. Where logins of tenants are on the same server, which is administered
/// by the user `beside`, it first takes everybody's right to connect to the host's database; that user
/// and who is granted it by name keep it.
///
/// # Errors
/// Code `open_database`: everybody may connect, and only its owner can change that. Or the server
/// refuses, or does not answer.
pub async fn migrate(pool: &PgPool, beside: Option<&str>) -> Result<(), Trouble> {
    let script = async {
        let mut tx = pool.begin().await?;
        alone(&mut tx, "tenant-projects").await?;
        let mut closed = true;
        if let Some(admin) = beside {
            query(NAME_ADMIN).bind(admin).execute(&mut *tx).await?;
            tx.execute(CLOSE).await?;
            // Who may not do it is warned, and not refused.
            closed = query_scalar(IS_CLOSED).fetch_one(&mut *tx).await?;
        }
        if closed {
            tx.execute(SCHEMA).await?;
        }
        tx.commit().await?;
        Ok(closed)
    };
    match script.await.map_err(unread)? {
        true => Ok(()),
        false => Err(Trouble::unavailable(
            "open_database",
            "every login of the server may connect to the host's database, those of tenants too",
            "as its owner: REVOKE CONNECT, TEMPORARY ON DATABASE .. FROM PUBLIC; or name another \
             server for the tenants by the four variables TENANTS_PG..",
        )),
    }
}

/// The project ends in the transaction that ends its run.
pub fn write_ends(store: &PostgresStore) {
    store.on_end(|tx, append| {
        Box::pin(async move {
            let state = match append.status {
                RunStatus::Succeeded | RunStatus::PartlySucceeded => "active",
                RunStatus::TornDown => "removed",
                _ => "failed",
            };
            // Runs of other sagas have no project of their own.
            let end = "UPDATE tenants.projects SET state = $2,
                ended_at = CASE WHEN $2 <> 'active' THEN now() END WHERE run = $1";
            query(end).bind(*append.run.as_uuid()).bind(state).execute(&mut *tx).await?;
            Ok(())
        })
    });
}

/// Begins a transaction. Nothing was changed where it cannot be begun.
pub(crate) async fn begin(
    pool: &PgPool,
    operation: &'static str,
) -> Result<Transaction<'static, Postgres>, StepError> {
    pool.begin()
        .await
        .map_err(|error| StepError::retry(operation).with_code("host_tables").with_source(error))
}

/// What a statement inside a transaction came to: whatever it was, nothing is changed yet.
pub(crate) fn answered<T>(
    operation: &'static str,
    end: Result<T, sqlx::Error>,
) -> Result<T, StepError> {
    end.map_err(|error| {
        let failed = match tables::is_refused(&error) {
            true => StepError::permanent(operation),
            false => StepError::retry(operation),
        };
        failed.with_code("host_tables").with_source(error)
    })
}

/// Commits. Without an answer it may have happened.
pub(crate) async fn commit(
    tx: Transaction<'static, Postgres>,
    operation: &'static str,
) -> Result<(), StepError> {
    tx.commit()
        .await
        .map_err(|error| StepError::unknown(operation).with_code("host_tables").with_source(error))
}

/// Fails a step that was chosen to fail. It comes after the step's effect, so that is undone.
pub(crate) fn refused_after(stage: &Stage, cx: &StepContext) -> Result<(), StepError> {
    stage.allow(cx).map_err(|error| error.with_effect(Effect::Applied))
}

/// Holds a project until the transaction ends: whoever changes its keys or its rows waits here.
pub(crate) async fn hold(
    tx: &mut Transaction<'static, Postgres>,
    project: Uuid,
    operation: &'static str,
) -> Result<String, StepError> {
    let hold = "SELECT state FROM tenants.projects WHERE id = $1 FOR UPDATE";
    let state: Option<(String,)> =
        answered(operation, sqlx::query_as(hold).bind(project).fetch_optional(&mut **tx).await)?;
    state.map(|(state,)| state).ok_or_else(|| {
        StepError::permanent(operation).with_code("no_such_project").with_message("it has no row")
    })
}

fn gone(operation: &'static str, state: &str) -> StepError {
    let message = format!("the project is {state}");
    StepError::permanent(operation).with_code("project_gone").with_message(message)
}

/// Enters the project.
#[derive(Debug)]
pub struct Reserve {
    /// The database.
    pub pool: PgPool,
    /// Whether the step is refused.
    pub stage: Stage,
}

impl Step for Reserve {
    const KIND: &'static str = "tenants.reserve";
    type Input = Project;
    type Output = ();

    async fn run(&self, cx: &StepContext, project: Project) -> Result<(), StepError> {
        const OPERATION: &str = "reserve the project";
        let mut tx = begin(&self.pool, OPERATION).await?;
        // A run that is driven again after it was undone has the row of its earlier life. What that
        // life has sent may come as late as it likes: it does not open a row that was closed.
        let enter = "INSERT INTO tenants.projects
            (id, slug, name, owner_id, organization_id, region, contact, run, generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (id) DO UPDATE
                SET state = 'provisioning', ended_at = NULL, generation = excluded.generation
                WHERE projects.state = 'provisioning'
                    OR projects.generation < excluded.generation";
        let entered = entry(enter, &project, cx).execute(&mut *tx).await;
        if answered(OPERATION, entered)?.rows_affected() == 0 {
            return Err(gone(OPERATION, "released"));
        }
        commit(tx, OPERATION).await?;
        refused_after(&self.stage, cx)
    }
}

/// A project's row, as a statement enters it.
fn entry(
    sql: &'static str,
    project: &Project,
    cx: &StepContext,
) -> Query<'static, Postgres, PgArguments> {
    let Project { id, slug, name, owner_id, organization_id, region, contact, .. } = project;
    let entry = query(sql).bind(*id).bind(slug.clone()).bind(name.clone());
    let entry = entry.bind(*owner_id).bind(*organization_id).bind(region.clone());
    entry.bind(contact.clone()).bind(*cx.run_id().as_uuid()).bind(i64::from(cx.generation()))
}

/// What a reservation leaves when it is taken back: the row stays, and says how it ended.
#[derive(Debug)]
pub struct Release(
    /// The database.
    pub PgPool,
);

impl Compensator<Reserve> for Release {
    async fn compensate(
        &self,
        cx: &StepContext,
        project: Project,
        _: Undo<()>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "release the project";
        let mut tx = begin(&self.0, OPERATION).await?;
        // The name stays taken until the run's last transaction, which says how it ended. Where
        // there is no row, a reservation may be under way: it meets this one, and changes nothing.
        let leave = "INSERT INTO tenants.projects (id, slug, name, owner_id, organization_id,
                region, contact, run, generation, state, ended_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'failed', now())
            ON CONFLICT (id) DO UPDATE SET state = 'removing'
                WHERE projects.state IN ('provisioning', 'active')";
        answered(OPERATION, entry(leave, &project, cx).execute(&mut *tx).await)?;
        commit(tx, OPERATION).await
    }
}

/// What a project has once it is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// The project.
    pub project: Project,
    /// Kind and name of what it has on the tenants' server.
    pub resources: Vec<(String, String)>,
    /// Where it is registered.
    pub services: Vec<Registered>,
}

/// Enters what the project has, and what it may use.
#[derive(Debug)]
pub struct Activate {
    /// The database.
    pub pool: PgPool,
    /// Whether the step is refused.
    pub stage: Stage,
}

impl Step for Activate {
    const KIND: &'static str = "tenants.activate";
    type Input = Complete;
    type Output = ();

    async fn run(&self, cx: &StepContext, complete: Complete) -> Result<(), StepError> {
        const OPERATION: &str = "activate the project";
        let Complete { project, resources, services } = complete;
        let mut tx = begin(&self.pool, OPERATION).await?;
        let state = hold(&mut tx, project.id, OPERATION).await?;
        if state != "provisioning" {
            return Err(gone(OPERATION, &state));
        }
        for (kind, name) in resources {
            let enter = "INSERT INTO tenants.project_resources (project, kind, name)
                VALUES ($1, $2, $3) ON CONFLICT (project, kind) DO UPDATE SET name = $3";
            let enter = query(enter).bind(project.id).bind(kind).bind(name);
            answered(OPERATION, enter.execute(&mut *tx).await)?;
        }
        for Registered { service, id } in services {
            let enter = "INSERT INTO tenants.project_services (project, service, registration)
                VALUES ($1, $2, $3) ON CONFLICT (project, service) DO UPDATE SET registration = $3";
            let enter = query(enter).bind(project.id).bind(service).bind(id);
            answered(OPERATION, enter.execute(&mut *tx).await)?;
        }
        let quotas = [
            ("database_bytes", i64::from(project.database_mib) * BYTES_OF_A_MIB),
            ("connections", i64::from(project.connections)),
            ("resources", RESOURCES_MAX),
        ];
        for (metric, quota) in quotas {
            let enter = "INSERT INTO tenants.project_usage (project, metric, quota)
                VALUES ($1, $2, $3) ON CONFLICT (project, metric) DO UPDATE SET quota = $3";
            let enter = query(enter).bind(project.id).bind(metric).bind(quota);
            answered(OPERATION, enter.execute(&mut *tx).await)?;
        }
        commit(tx, OPERATION).await?;
        refused_after(&self.stage, cx)
    }
}

/// Removes what [`Activate`] has entered.
#[derive(Debug)]
pub struct Deactivate(
    /// The database.
    pub PgPool,
);

impl Compensator<Activate> for Deactivate {
    async fn compensate(
        &self,
        _: &StepContext,
        complete: Complete,
        _: Undo<()>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "deactivate the project";
        let mut tx = begin(&self.0, OPERATION).await?;
        // A commit that is under way comes before, and one that comes after is refused.
        hold(&mut tx, complete.project.id, OPERATION).await?;
        for change in [
            "UPDATE tenants.projects SET state = 'removing' WHERE id = $1
                AND state IN ('provisioning', 'active')",
            "DELETE FROM tenants.project_usage WHERE project = $1",
            "DELETE FROM tenants.project_services WHERE project = $1",
            "DELETE FROM tenants.project_resources WHERE project = $1",
        ] {
            answered(OPERATION, query(change).bind(complete.project.id).execute(&mut *tx).await)?;
        }
        commit(tx, OPERATION).await
    }
}

/// Tells that the host's tables cannot be read or written.
pub(crate) fn unread(error: sqlx::Error) -> Trouble {
    tables::unread("host_tables")(error)
}
