//! The pool of the service: it works as the role of workers, whoever logs in, and looks as a tenant
//! where it looks for a tenant.

use example_command::tables::{options, pool};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use sqlx::{PgPool, Postgres, Transaction, query};

use crate::trouble::Trouble;

/// Connections of the pool, for the service and for the engine's store.
const CONNECTIONS_MAX: u32 = 12;
/// The role that drives runs for all tenants.
pub const WORKER_ROLE: &str = "connector_worker";

/// The database as the service uses it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
}

impl Database {
    /// Makes the pool; nothing is sent yet. Every connection takes the role of workers first, so
    /// what a login may do beyond that is not used.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(url: &str) -> Result<Self, Trouble> {
        let options = options(url)?.options([("role", WORKER_ROLE)]);
        Ok(Self { pool: pool(options, CONNECTIONS_MAX) })
    }

    /// The pool, in the role of workers.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens the engine's store over the same pool. It changes no schema: a deployment does.
    ///
    /// # Errors
    /// The server cannot be reached, or nothing was deployed yet.
    pub async fn store(&self) -> Result<PostgresStore, Trouble> {
        let config = PostgresConfig::with_pool(self.pool.clone()).with_migrate(false);
        Ok(config.open().await?)
    }

    /// Begins a transaction that sees what one tenant may see, and changes nothing.
    ///
    /// # Errors
    /// The server does not answer, or the login may not take the role of tenants.
    pub async fn as_tenant(&self, tenant: &str) -> Result<Transaction<'static, Postgres>, Trouble> {
        let mut tx = self.pool.begin().await?;
        query("SET LOCAL ROLE connector_tenant").execute(&mut *tx).await?;
        let name = query("SELECT set_config('connectors.tenant', $1, true)").bind(tenant);
        name.execute(&mut *tx).await?;
        Ok(tx)
    }
}
