//! A real PostgreSQL server that holds the databases of simulated projects.

mod value;

use std::{
    collections::BTreeSet,
    fmt, io,
    str::FromStr as _,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use provision_core::{
    clock,
    draw::{Entropy as _, SystemEntropy},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Either, Error, Executor as _,
    PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    database::NAME_PREFIX,
    server::{Failure, Home, SqlServer},
    sql::ResultSet,
};

/// How long the server may take for one call, connecting included.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long it may take for one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(50);

const ALONE: &str = include_str!("postgres/alone.sql");
const DATABASE: &str = include_str!("postgres/database.sql");
const EMPTY: &str = include_str!("postgres/empty.sql");
const EXTENSIONS: &str = include_str!("postgres/extensions.sql");
const JUDGE: &str = include_str!("postgres/judge.sql");
const MISSING: &str = include_str!("postgres/missing.sql");
const OPEN: &str = include_str!("sql/sql/open.sql");
const OWNER: &str = include_str!("postgres/owner.sql");
const PROJECT: &str = include_str!("sql/sql/project.sql");
const PUBLIC: &str = include_str!("postgres/public.sql");
const REMOVE_DATABASE: &str = include_str!("postgres/remove_database.sql");
const REMOVE_OWNER: &str = include_str!("postgres/remove_owner.sql");
const ROLES: &str = include_str!("postgres/roles.sql");

/// A PostgreSQL server for simulated projects: each of them gets a database and an owner of its own,
/// which go with it. The platform's roles (`anon` and so on) are made once and stay.
///
/// Where the model of the catalog refuses what it does not know, this takes what PostgreSQL takes. It
/// is stricter than the platform in one thing: a project makes and changes no roles, because they
/// belong to the whole server. The owner is not called `postgres` here.
pub struct PostgresServer {
    options: PgConnectOptions,
    /// Part of all names that this process gives.
    drawn: String,
    /// Databases that are whole.
    made: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresServer").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl PostgresServer {
    /// Connects to a server on this machine by `postgres://user:password@host:port/database`. The
    /// user is a superuser of it, the database any that is there and stays. Version 13 and newer.
    ///
    /// # Errors
    /// The URL cannot be used, the server is elsewhere or does not answer, or the user is no
    /// superuser. Nothing was changed, and no password is in what is said.
    pub fn connect(url: &str) -> Result<Self, String> {
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|s| url.starts_with(s));
        let options = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres);
        let options = options.ok_or("this is no URL of a PostgreSQL server")?;
        let host = options.get_host();
        let is_here = options.get_socket().is_some()
            || host.starts_with('/')
            || ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&host);
        if !is_here {
            // X2: connections are plain, and so stay on this machine.
            return Err("the server of simulated projects has to be on this machine".to_owned());
        }
        let mut bytes = [0; 8];
        SystemEntropy.fill(&mut bytes).map_err(|error| error.to_string())?;
        let options = options
            .ssl_mode(PgSslMode::Disable)
            .application_name("provision simulator")
            .options([("statement_timeout", STATEMENT_MAX.as_millis().to_string())])
            // X1: a statement may hold what belongs into no log.
            .disable_statement_logging();
        let drawn = format!("{:016x}", u64::from_be_bytes(bytes));
        let server = Self { options, drawn, made: Mutex::default() };
        match wait(server.is_superuser()).map_err(|failure| failure.to_string())? {
            true => Ok(server),
            false => Err("the role that was given is no superuser of the server".to_owned()),
        }
    }

    async fn is_superuser(&self) -> Result<bool, Failure> {
        let mut admin = PgConnection::connect_with(&self.options).await.map_err(unreachable)?;
        let found = admin.fetch_optional(sqlx::raw_sql(JUDGE)).await.map_err(unreachable)?;
        Ok(found.is_some())
    }

    /// A connection to a project's database as its owner.
    async fn enter(&self, home: Home<'_>) -> Result<PgConnection, Failure> {
        if !self.made().contains(home.name) {
            if !self.make(home).await.map_err(unreachable)? {
                let why = "the database of this project is not on the server that was given";
                return Err(Failure::Unreachable(why.to_owned()));
            }
            self.made().insert(home.name.to_owned());
        }
        let options = self.options.clone().database(home.name).username(home.name);
        let options = options.password(home.password);
        PgConnection::connect_with(&options).await.map_err(unreachable)
    }

    /// Makes what is not there yet, also what a killed process has left half done; says whether the
    /// database is there. One that was there before is not made anew: it would be another one.
    async fn make(&self, home: Home<'_>) -> Result<bool, Error> {
        let of = |sql: &str| AssertSqlSafe(filled(sql, home.name, home.password));
        let mut admin = PgConnection::connect_with(&self.options).await?;
        admin.execute(sqlx::raw_sql(ALONE)).await?;
        let missing = admin.fetch_optional(sqlx::raw_sql(of(MISSING))).await?.is_some();
        if missing && home.made {
            return Ok(false);
        }
        admin.execute(sqlx::raw_sql(ROLES)).await?;
        admin.execute(sqlx::raw_sql(of(OWNER))).await?;
        if missing {
            admin.execute(sqlx::raw_sql(of(DATABASE))).await?;
        }
        let inside = self.options.clone().database(home.name);
        let mut inside = PgConnection::connect_with(&inside).await?;
        if inside.fetch_optional(sqlx::raw_sql(EMPTY)).await?.is_some() {
            let whole = [PUBLIC, PROJECT, EXTENSIONS, OPEN].concat();
            inside.execute(sqlx::raw_sql(of(&whole))).await?;
        }
        inside.close().await?;
        admin.close().await?;
        Ok(true)
    }

    async fn removed(&self, name: &str) -> Result<(), Error> {
        let of = |sql: &str| AssertSqlSafe(filled(sql, name, ""));
        let mut admin = PgConnection::connect_with(&self.options).await?;
        admin.execute(sqlx::raw_sql(ALONE)).await?;
        admin.execute(sqlx::raw_sql(of(REMOVE_DATABASE))).await?;
        admin.execute(sqlx::raw_sql(of(REMOVE_OWNER))).await?;
        admin.close().await
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqlServer for PostgresServer {
    fn name_for(&self, project: &str) -> String {
        format!("{NAME_PREFIX}{}_{project}", self.drawn)
    }

    fn execute(&self, home: Home<'_>, sql: &str) -> Result<Vec<ResultSet>, Failure> {
        wait(async {
            let mut owner = self.enter(home).await?;
            let sets = answers(&mut owner, sql.to_owned()).await?;
            // What it has answered stands, whatever the farewell comes to.
            let _ = owner.close().await;
            Ok(sets)
        })
    }

    fn ask(&self, home: Home<'_>, role: &str, sql: &str) -> Result<ResultSet, Failure> {
        wait(async {
            let mut owner = self.enter(home).await?;
            answers(&mut owner, format!("begin; set local role {role}")).await?;
            let last = answers(&mut owner, sql.to_owned()).await?.pop();
            // A transaction that is left is rolled back.
            let _ = owner.close().await;
            Ok(last.unwrap_or_default())
        })
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        self.made().remove(name);
        wait(async { self.removed(name).await.map_err(unreachable) })
    }
}

/// A statement about one project. Names were drawn here, so they need no quotes.
fn filled(sql: &str, owner: &str, password: &str) -> String {
    let password = format!("'{}'", password.replace('\'', "''"));
    sql.replace("{owner}", owner).replace("{password}", &password)
}

/// Sends a batch and reads one result for each of its statements.
async fn answers(connection: &mut PgConnection, sql: String) -> Result<Vec<ResultSet>, Failure> {
    let mut parts = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql)));
    let (mut sets, mut open) = (Vec::new(), ResultSet::default());
    while let Some(part) = parts.try_next().await.map_err(refused)? {
        match part {
            Either::Left(_ended) => sets.push(std::mem::take(&mut open)),
            Either::Right(row) => {
                if open.columns.is_empty() {
                    open.columns = value::names(&row);
                }
                open.rows.push(value::values(&row).map_err(refused)?);
            }
        }
    }
    Ok(sets)
}

fn refused(error: Error) -> Failure {
    match error.as_database_error() {
        Some(said) => Failure::Refused {
            sqlstate: said.code().unwrap_or_default().into_owned(),
            message: said.message().to_owned(),
        },
        None => unreachable(error),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn unreachable(error: Error) -> Failure {
    Failure::Unreachable(format!("the server of simulated projects: {error}"))
}

/// Waits for the server on a thread of its own: a simulator answers one request at a time, and is
/// inside a runtime that must not wait within itself.
fn wait<T: Send>(work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
    let lost = |error: io::Error| Failure::Unreachable(format!("no thread for SQL: {error}"));
    thread::scope(|scope| {
        let waiting = thread::Builder::new().name("sim-sql".to_owned()).spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(lost)?.block_on(async {
                let late = "the server of simulated projects does not answer".to_owned();
                clock::within(CALL_MAX, work).await.unwrap_or(Err(Failure::Unreachable(late)))
            })
        });
        let panicked = |_| Err(Failure::Unreachable("the call of the server panicked".to_owned()));
        waiting.map_err(lost)?.join().unwrap_or_else(panicked)
    })
}
