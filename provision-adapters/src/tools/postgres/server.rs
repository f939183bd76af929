//! The way to a server: one connection for each call, ended with it.

use std::sync::Arc;

use provision_core::{
    Call, CallKind, Effect, Secret, StepContext, StepError, Verdict, limit::Profile,
};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Error, Executor as _,
    PgConnection, Row as _, ValueRef as _,
    postgres::{PgConnectOptions, PgRow, PgSslMode},
};

use super::{
    END_WITHIN, Identifier, LOCK_TIMEOUT, PostgresConfig,
    error::{self, Stage, classify},
};
use crate::tools::row_security::{Answer, Row};

/// The first version that ends a statement whose connection is gone.
const NOTICES_LOST_CONNECTIONS: u32 = 140_000;

/// Where names without a schema are looked up by statements that have all rights: a name that is
/// looked up in `public` too may be that of a tenant's function.
const PATH: &[(&str, &str)] = &[("search_path", "pg_catalog,pg_temp")];
const BACKEND: &str = include_str!("sql/backend.sql");
const END_BACKEND: &str = include_str!("sql/end_backend.sql");
const END_LABELLED: &str = include_str!("sql/end_labelled.sql");

/// A server that is administered. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Postgres {
    config: Arc<PostgresConfig>,
    account: Arc<str>,
}

impl Postgres {
    /// Describes a server; nothing is sent.
    #[must_use]
    pub fn new(config: PostgresConfig) -> Self {
        let account = format!("{}:{}", config.host, config.port).into();
        Self { config: Arc::new(config), account }
    }

    pub(super) fn config(&self) -> &PostgresConfig {
        &self.config
    }

    /// The server as the ledger names it.
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) async fn password(&self, cx: &StepContext) -> Result<Secret, StepError> {
        Ok(Secret::new(cx.reveal(&self.config.password).await?.expose().trim()))
    }

    /// A call that counts against this server.
    pub(super) fn counted(&self, call: Call) -> Call {
        let concurrency = Some(self.config.concurrency.into());
        let bucket = format!("postgres/{}", self.account);
        call.with_limit(Profile { bucket, rate: None, concurrency })
    }

    /// Asks one question of the maintenance database, with its values bound; every column is text.
    pub(super) async fn ask(
        &self,
        cx: &StepContext,
        operation: &'static str,
        question: &'static str,
        values: &[&str],
    ) -> Result<Vec<Row>, StepError> {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        let work = Work::Question(question, values);
        match self.call(cx, Call::read(operation), &self.config.database, (work, PATH)).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Refused { sqlstate } => Err(error::refused(operation, &sqlstate)),
        }
    }

    /// Sends one statement, which may be one that cannot be part of a transaction.
    pub(super) async fn execute(
        &self,
        cx: &StepContext,
        operation: &'static str,
        database: &str,
        batch: String,
    ) -> Result<Vec<Row>, StepError> {
        match self.batch(cx, Call::mutate(operation), database, batch).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Refused { sqlstate } => Err(error::refused(operation, &sqlstate)),
        }
    }

    /// Sends statements as one transaction; see [`Work::Transaction`].
    pub(super) async fn transact(
        &self,
        cx: &StepContext,
        operation: &'static str,
        database: &str,
        statements: String,
    ) -> Result<Vec<Row>, StepError> {
        match self.transaction(cx, Call::mutate(operation), database, statements).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::Refused { sqlstate } => Err(error::refused(operation, &sqlstate)),
        }
    }

    /// As [`Self::transact`]; a refusal is an answer.
    pub(super) async fn transaction(
        &self,
        cx: &StepContext,
        call: Call,
        database: &str,
        statements: String,
    ) -> Result<Answer, StepError> {
        self.call(cx, call, database, (Work::Transaction(statements), PATH)).await
    }

    /// Runs SQL directly in a database, with the rights of the role that administers the server:
    /// all statements of a batch are one transaction, unless it says otherwise itself. Values
    /// belong into it only when they are quoted. It is one message, committed at its end, whether
    /// or not its client is still there by then.
    ///
    /// Names without a schema are looked up where the database says, and functions and triggers of a
    /// tenant that the batch meets run with all rights: name schemas, and call nothing of a tenant's.
    ///
    /// # Errors
    /// No connection (`connect`, effect `None`), or no answer: unknown for a mutating call. A
    /// refusal is an answer, and the batch had no effect.
    pub async fn query(
        &self,
        cx: &StepContext,
        call: Call,
        database: &Identifier,
        batch: impl Into<String>,
    ) -> Result<Answer, StepError> {
        self.call(cx, call, database.as_str(), (Work::Batch(batch.into()), &[])).await
    }

    /// As [`Self::execute`]; a refusal is an answer. Names without a schema are the server's own.
    pub(super) async fn batch(
        &self,
        cx: &StepContext,
        call: Call,
        database: &str,
        batch: String,
    ) -> Result<Answer, StepError> {
        self.call(cx, call, database, (Work::Batch(batch), PATH)).await
    }

    /// Connects, does the work, and leaves. Dropping the future closes the connection, at which
    /// the server gives up what it was doing, unless that is code which sees to it that it does not:
    /// a connection that was cut by time is ended by another one.
    async fn call(
        &self,
        cx: &StepContext,
        call: Call,
        database: &str,
        (work, settings): (Work, &[(&str, &str)]),
    ) -> Result<Answer, StepError> {
        // Connecting and settling have their own time.
        let call = self.counted(call).with_timeout(self.config.statement_timeout * 2);
        let options = self.options(database, &self.password(cx).await?, call.operation)?;
        let options = options.options(settings.iter().copied());
        let mut open = None;
        // Boxed: steps hold this future within their own.
        let end = Box::pin(cx.call(&call, send(&call, &options, work, &mut open))).await;
        if let Some(Backend { pid, since }) = open {
            Box::pin(self.end(cx, END_BACKEND, vec![pid, since])).await;
        }
        end
    }

    /// Ends what still runs of the labelled statements of this step: of a program that was cut, or of
    /// an attempt that died.
    pub(super) async fn end_labelled(&self, cx: &StepContext) {
        self.end(cx, END_LABELLED, vec![label(cx)]).await;
    }

    /// Ends connections that nobody waits for. What they did is not committed, so nothing is wrong
    /// where they cannot be ended: they only hold on to what they hold.
    async fn end(&self, cx: &StepContext, question: &'static str, values: Vec<String>) {
        const END: &str = "end connection";
        // It takes no turn among the calls of this server: where these are many, what they left
        // behind would hold up those that wait.
        let call = Call::read(END).with_timeout(END_WITHIN);
        let Ok(password) = self.password(cx).await else { return };
        let Ok(options) = self.options(&self.config.database, &password, END) else { return };
        let options = options.options(PATH.iter().copied());
        let work = Work::Question(question, values);
        // What it comes to changes nothing of how the call has ended.
        let _ = cx.call(&call, send(&call, &options, work, &mut None)).await;
    }

    fn options(
        &self,
        database: &str,
        password: &Secret,
        operation: &'static str,
    ) -> Result<PgConnectOptions, StepError> {
        let config = &self.config;
        let options = PgConnectOptions::new_without_pgpass();
        if !is_plain(&options, config.is_remote()) {
            return Err(StepError::new(Effect::None, Verdict::Operator, operation)
                .with_code("bad_environment")
                .with_message("PGOPTIONS, PGSSLROOTCERT, PGSSLCERT or PGSSLKEY is set")
                .with_hint("start the process without them; the configuration says all of it"));
        }
        let options = options
            .port(config.port)
            .username(&config.user)
            .password(password.expose())
            .database(database)
            .application_name("provision")
            .options([
                ("statement_timeout", config.statement_timeout.as_millis().to_string()),
                ("lock_timeout", LOCK_TIMEOUT.as_millis().to_string()),
            ])
            // X1: a statement may hold what belongs into no log.
            .disable_statement_logging();
        if config.host.starts_with('/') {
            return Ok(options.socket(&config.host));
        }
        let options = options.host(&config.host);
        // X2: plain connections stay on this machine.
        Ok(match (config.is_remote(), &config.root_certificate) {
            (false, _) => options.ssl_mode(PgSslMode::Disable),
            (true, None) => options.ssl_mode(PgSslMode::VerifyFull),
            (true, Some(file)) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(file),
        })
    }
}

/// Whether new options hold nothing of the process's environment that is not replaced: what a
/// connection is set to, and which certificates are believed and shown.
fn is_plain(options: &PgConnectOptions, encrypted: bool) -> bool {
    // The client reads them by itself, and neither takes them back nor tells them but in this form.
    let written = format!("{options:?}");
    let none = |field: &str| written.contains(&format!("{field}: None"));
    let certificates = ["ssl_root_cert", "ssl_client_cert", "ssl_client_key"];
    options.get_options().is_none() && (!encrypted || certificates.into_iter().all(none))
}

/// What the statements of a step that run code of others are known by at the server.
pub(super) fn label(cx: &StepContext) -> String {
    format!("/* provision step {} */", cx.mark().token())
}

/// The process that serves a connection.
struct Backend {
    pid: String,
    /// When it began: its number is given again.
    since: String,
}

/// Connects, does the work, and leaves; `open` names the connection until it has answered.
async fn send(
    call: &Call,
    options: &PgConnectOptions,
    work: Work,
    open: &mut Option<Backend>,
) -> Result<Answer, StepError> {
    let connecting = connect(options).await;
    let (mut connection, backend) =
        connecting.map_err(|error| classify(call, Stage::Connecting, &error))?;
    *open = Some(backend);
    let answer = match work.run(&mut connection).await {
        Ok(rows) => Answer::Rows(read(call, &rows)?),
        Err((stage, error)) => match error::sqlstate(&error) {
            Some(sqlstate) if error::is_refusal(&sqlstate) => Answer::Refused { sqlstate },
            _ => return Err(classify(call, stage, &error)),
        },
    };
    *open = None;
    // The answer stands, whatever the farewell comes to.
    let _ = connection.close().await;
    Ok(answer)
}

async fn connect(options: &PgConnectOptions) -> Result<(PgConnection, Backend), Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    if connection.server_version_num().is_some_and(|version| version >= NOTICES_LOST_CONNECTIONS) {
        const SETTLE: &str = "set client_connection_check_interval = '1s'";
        connection.execute(sqlx::raw_sql(SETTLE)).await?;
    }
    let row = connection.fetch_one(sqlx::raw_sql(BACKEND)).await?;
    let backend = Backend { pid: row.try_get("pid")?, since: row.try_get("since")? };
    Ok((connection, backend))
}

/// What is done on a connection.
enum Work {
    /// One question, with values to bind.
    Question(&'static str, Vec<String>),
    /// Statements without values, as one message.
    Batch(String),
    /// Statements without values that are committed together, by a message of its own. It is sent by
    /// who has heard that they went well: nothing that outlives its client is ever committed.
    Transaction(String),
}

impl Work {
    /// The rows, or how far it had come.
    async fn run(self, connection: &mut PgConnection) -> Result<Vec<PgRow>, (Stage, Error)> {
        match self {
            Self::Question(question, values) => {
                let query = values.into_iter().fold(sqlx::query(question), |q, v| q.bind(v));
                query.fetch_all(connection).await.map_err(|error| (Stage::Asking, error))
            }
            Self::Batch(batch) => {
                let batch = sqlx::raw_sql(AssertSqlSafe(batch));
                connection.fetch_all(batch).await.map_err(|error| (Stage::Asking, error))
            }
            Self::Transaction(statements) => {
                let statements = sqlx::raw_sql(AssertSqlSafe(format!("begin;\n{statements}")));
                let done = connection.fetch_all(statements).await;
                let rows = done.map_err(|error| (Stage::Uncommitted, error))?;
                let commit = connection.execute(sqlx::raw_sql("commit")).await;
                commit.map_err(|error| (Stage::Asking, error))?;
                Ok(rows)
            }
        }
    }
}

/// Rows as text: batches are answered in text, and questions have no other columns.
fn read(call: &Call, rows: &[PgRow]) -> Result<Vec<Row>, StepError> {
    let value = |row: &PgRow, place: usize| {
        let value = row.try_get_raw(place).ok()?;
        match value.is_null() {
            true => Some(None),
            false => value.as_str().ok().map(|text| Some(text.to_owned())),
        }
    };
    let read_row = |row: &PgRow| {
        let columns = row.columns().iter();
        columns
            .map(|column| Some((column.name().to_owned(), value(row, column.ordinal())?)))
            .collect::<Option<Row>>()
    };
    let rows: Option<Vec<Row>> = rows.iter().map(read_row).collect();
    let effect = match call.kind {
        CallKind::Read => Effect::None,
        CallKind::Mutate => Effect::Applied,
    };
    rows.ok_or_else(|| {
        StepError::new(effect, Verdict::Retry { after: None }, call.operation).with_code("garbage")
    })
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::is_plain;

    // covers: X2
    #[test]
    fn what_the_environment_says_of_a_connection_is_noticed() {
        // These tests run without such variables; a setter stands for what one would do.
        let plain = PgConnectOptions::new_without_pgpass;
        assert!(is_plain(&plain(), true) && is_plain(&plain(), false));
        let set = plain().options([("role", "somebody")]);
        assert!(!is_plain(&set, true) && !is_plain(&set, false));
        let certificates = [
            plain().ssl_root_cert("root.pem"),
            plain().ssl_client_cert("client.pem"),
            plain().ssl_client_key("client.key"),
        ];
        assert!(certificates.iter().all(|set| !is_plain(set, true) && is_plain(set, false)));
    }
}
