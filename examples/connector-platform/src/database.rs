//! The pool of the service: it works as the role of workers, whoever logs in, and looks as a tenant
//! where it looks for a tenant.

use std::time::Duration;

use provision_store_postgres::{PostgresConfig, PostgresStore};
use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
    query,
};

use crate::trouble::Trouble;

/// Connections of the pool, for the service and for the engine's store.
const CONNECTIONS_MAX: u32 = 12;
/// How long a connection is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The role that drives runs for all tenants.
pub const WORKER_ROLE: &str = "connector_worker";

/// The address of a database.
///
/// # Errors
/// It is none of a PostgreSQL server. It is not quoted: it holds a password.
pub fn options(url: &str) -> Result<PgConnectOptions, Trouble> {
    let schemes = ["postgres://", "postgresql://"];
    let known = schemes.iter().any(|scheme| url.starts_with(scheme));
    known.then(|| url.parse().ok()).flatten().ok_or_else(|| {
        Trouble::new(
            "database_wrong_url",
            "this is no address of a PostgreSQL database",
            "write it as postgres://user:password@host:5432/database",
        )
    })
}

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
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy_with(options);
        Ok(Self { pool })
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
