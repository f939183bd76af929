//! Schemas that let anonymous readers in, and schemas that do not, as data in `schemas/*.sql`:
//! the verification must tell them apart in the simulator's database and in a real one.
//!
//! A file is called `bad_*` or `good_*`. Its comments say what must be found (`-- finds: rule
//! subject`) or what is open on purpose (`-- opens: read|insert|call name`). A schema that only a
//! superuser can make says with which SQLSTATE others are refused (`-- or refused: 42501`).

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use provision_adapters::supabase::{
    Openings,
    sim::sql::Catalog,
    verify::{Answer, Executor, Finding, Row, Scope, verify},
};
use serde_json::Value;

/// Held by who works with the roles of these schemas, which belong to the whole server.
pub(crate) static ROLES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// One schema and what is known of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) finds: Vec<String>,
    pub(crate) openings: Openings,
    pub(crate) refused: Option<String>,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/schemas")
}

/// All schemas whose name begins with `prefix`, by name.
pub(crate) fn cases(prefix: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            name.starts_with(prefix).then(|| case(name, fs::read_to_string(&path).unwrap()))
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn case(name: String, sql: String) -> Case {
    let said = |what: &str| -> Vec<String> {
        sql.lines().filter_map(|line| line.strip_prefix(what)).map(str::to_owned).collect()
    };
    let mut openings = Openings::none();
    for line in said("-- opens: ") {
        openings = match line.split_once(' ').unwrap() {
            ("read", name) => openings.read(name),
            ("insert", name) => openings.insert(name),
            ("call", name) => openings.call(name),
            other => panic!("{name}: {other:?}"),
        };
    }
    let refused = said("-- or refused: ").pop();
    Case { finds: said("-- finds: "), openings, refused, name, sql }
}

/// What is wrong with the findings of one case; nothing when they are as the file says.
pub(crate) fn complaint(case: &Case, findings: &[Finding]) -> Option<String> {
    let got: Vec<String> =
        findings.iter().map(|f| format!("{} {}", f.rule.code(), f.subject)).collect();
    let good = case.name.starts_with("good_");
    let missing: Vec<_> = case.finds.iter().filter(|find| !got.contains(find)).collect();
    match (good, got.is_empty()) {
        (true, true) => None,
        (false, false) if missing.is_empty() && !case.finds.is_empty() => None,
        _ => Some(format!("{}: missing {missing:?}, found {got:?}", case.name)),
    }
}

/// Looks at every case with one executor per case.
async fn look<E: Executor<Error = String>>(make: impl Fn(&Case) -> Result<E, String>) {
    look_at(&[cases("bad_"), cases("good_")].into_iter().flatten().collect::<Vec<_>>(), make).await;
}

/// Looks at these cases with one executor per case: at least twelve bad ones and four good ones.
pub(crate) async fn look_at<E: Executor<Error = String>>(
    cases: &[Case],
    make: impl Fn(&Case) -> Result<E, String>,
) {
    let good = cases.iter().filter(|case| case.name.starts_with("good_")).count();
    let bad = cases.len() - good;
    assert!(bad >= 12 && good >= 4, "{bad} bad, {good} good");
    let mut wrong = Vec::new();
    for case in cases {
        let findings = match make(case) {
            Ok(executor) => {
                let found = verify(&executor, &Scope::supabase(), &case.openings).await;
                found.map_err(|trouble| format!("{trouble:?}"))
            }
            Err(error) if case.refused.as_ref().is_some_and(|state| error.starts_with(state)) => {
                continue;
            }
            Err(error) => Err(error),
        };
        match findings {
            Ok(findings) => wrong.extend(complaint(case, &findings)),
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A database of the simulator.
struct Model(Mutex<Catalog>);

impl Model {
    fn new(case: &Case) -> Result<Self, String> {
        let mut catalog = Catalog::supabase_without_default_grants();
        catalog.execute(&case.sql).map_err(|error| error.to_string())?;
        Ok(Self(Mutex::new(catalog)))
    }
}

impl Executor for Model {
    type Error = String;

    async fn run(&self, batch: String) -> Result<Answer, String> {
        let sets = match self.0.lock().unwrap().execute(&batch) {
            Ok(sets) => sets,
            Err(error) => return Ok(Answer::Refused { sqlstate: error.sqlstate.to_owned() }),
        };
        let set = sets.into_iter().rfind(|set| !set.columns.is_empty()).unwrap_or_default();
        let text = |value: Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        let row = |row: Vec<Value>| set.columns.iter().cloned().zip(row.into_iter().map(text));
        Ok(Answer::Rows(set.rows.iter().cloned().map(|values| row(values).collect()).collect()))
    }
}

/// A database of a real server, dropped at the end.
pub(crate) struct Psql {
    server: Vec<(&'static str, String)>,
    database: String,
}

impl Psql {
    /// The server's own database, which stays.
    pub(crate) fn server(url: &str) -> Self {
        let server = server(url).expect("a postgres url");
        Self { server, database: "postgres".to_owned() }
    }

    /// Makes a database that looks like a new project, with the case's schema in it.
    fn new(server: &[(&'static str, String)], case: &Case) -> Result<Self, String> {
        let base = Self { server: server.to_vec(), database: "postgres".to_owned() };
        let database = format!("provision_{}_{}", std::process::id(), case.name);
        base.sql(&format!("create database {database}"))?;
        let made = Self { server: server.to_vec(), database };
        made.sql(&fs::read_to_string(folder().join("baseline.sql")).unwrap())?;
        made.sql(&case.sql)?;
        Ok(made)
    }

    /// One batch as one transaction; the output as comma-separated values.
    pub(crate) fn sql(&self, batch: &str) -> Result<String, String> {
        // No shell, nothing secret among the arguments, an environment of its own (X8).
        let mut command = Command::new("psql");
        command
            .args(["-X", "-q", "--csv", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate"])
            .args(["-c", batch])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PGCONNECT_TIMEOUT", "10")
            .envs(self.server.iter().cloned())
            .env("PGDATABASE", &self.database)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let output = command.spawn().and_then(|child| child.wait_with_output());
        let output = output.map_err(|error| format!("psql: {error}"))?;
        assert!(started.elapsed() < Duration::from_secs(60), "psql took too long");
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        if self.database == "postgres" {
            return;
        }
        let base = Self { server: self.server.clone(), database: "postgres".to_owned() };
        // Roles belong to the server: what a case did to them would reach the next one.
        let undo = [
            format!("drop database if exists {} with (force)", self.database),
            "alter role anon nobypassrls".to_owned(),
            "drop role if exists note_reader".to_owned(),
        ];
        for statement in undo {
            if let Err(error) = base.sql(&statement) {
                eprintln!("left behind: {statement}: {error}");
            }
        }
    }
}

impl Executor for Psql {
    type Error = String;

    async fn run(&self, batch: String) -> Result<Answer, String> {
        match self.sql(&batch) {
            Ok(csv) => Ok(Answer::Rows(rows(&csv))),
            Err(error) => match error.split_once("ERROR:") {
                Some((_, state)) => {
                    let sqlstate = state.trim().chars().take(5).collect();
                    Ok(Answer::Refused { sqlstate })
                }
                None => Err(error),
            },
        }
    }
}

/// Reads comma-separated values with a header; an empty value is null.
fn rows(csv: &str) -> Vec<Row> {
    let mut records = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = csv.chars().peekable();
    while let Some(c) = characters.next() {
        let record = records.last_mut().unwrap();
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                record.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            c => record.last_mut().unwrap().push(c),
        }
    }
    records.retain(|record| record.len() > 1 || !record[0].is_empty());
    let Some((header, values)) = records.split_first() else { return Vec::new() };
    let value = |text: &String| (!text.is_empty()).then(|| text.clone());
    values
        .iter()
        .map(|record| header.iter().cloned().zip(record.iter().map(value)).collect())
        .collect()
}

/// The parts of `postgres://user:password@host:port/..` as the client's environment.
pub(crate) fn server(url: &str) -> Option<Vec<(&'static str, String)>> {
    let (_, rest) = url.split_once("://")?;
    let (rest, _) = rest.split_once(['/', '?']).unwrap_or((rest, ""));
    let (login, address) = rest.rsplit_once('@').unwrap_or(("postgres", rest));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
    let parts = [("PGUSER", user), ("PGPASSWORD", password), ("PGHOST", host), ("PGPORT", port)];
    Some(parts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

// covers: X11, R1-07, R1-51, R5-18
#[tokio::test]
async fn the_simulated_database_tells_good_schemas_from_bad_ones() {
    look(Model::new).await;
}

/// The server's address; `None`, said aloud, where there is none.
pub(crate) fn server_url() -> Option<String> {
    let url = std::env::var("PROVISION_TEST_POSTGRES_URL").ok();
    if url.is_none() {
        provision_testkit::skips::refused_in_ci("PROVISION_TEST_POSTGRES_URL is not set");
        eprintln!("skipped: PROVISION_TEST_POSTGRES_URL is not set");
    }
    url
}

// covers: X11, R1-07, R1-51, R5-18
#[tokio::test]
async fn a_real_database_tells_good_schemas_from_bad_ones() {
    let Some(url) = server_url() else { return };
    let server = server(&url).expect("a postgres url");
    let _alone = ROLES.lock().await;
    look(|case| Psql::new(&server, case)).await;
}

#[test]
fn the_output_of_the_client_is_read_back() {
    let read = rows("a,b\n\"x, \"\"y\"\"\nz\",\n1,2\n");
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(read.len(), 2);
    assert_eq!(read[0], [("a".to_owned(), text("x, \"y\"\nz")), ("b".to_owned(), None)]);
    assert_eq!(read[1], [("a".to_owned(), text("1")), ("b".to_owned(), text("2"))]);
}
