//! Reads the schema of a template with `pg_dump`, which knows what depends on what.
//!
//! The dump is read whole before a byte of it is applied, and it is applied over a connection of this
//! process: a program in between would outlive a worker that is killed, and send the end of what it
//! has read already. `pg_dump` gets the password in its environment and no shell sees any name (X8):
//! a password file would stay behind when this process is killed.

use std::path::PathBuf;

use provision_core::{Call, Secret, StepContext, StepError};

use crate::tools::{
    migrations::checksum,
    postgres::{Identifier, Postgres},
    process::{Ended, Program},
};

const DUMP: &str = "dump template";
/// What a dump begins with, after its comments.
const NO_TIMES: &str = "SET statement_timeout = 0;\nSET lock_timeout = 0;\n";
/// What the last lines of a whole dump say.
const DUMP_END: &str = "-- PostgreSQL database dump complete";
/// The first version of the clients that knows the roots that the system trusts.
const KNOWS_SYSTEM_ROOTS: u32 = 16;

/// The schema of a template: what makes it, without owners, grants and rows.
pub(super) struct Dump {
    sql: String,
    /// Tells one schema from another.
    pub(super) checksum: String,
}

/// Reads the schema of a template as it is now.
pub(super) async fn dump(
    server: &Postgres,
    cx: &StepContext,
    template: &Identifier,
) -> Result<Dump, StepError> {
    let config = server.config();
    has_system_roots(server, cx).await?;
    let program = program(server, template, &server.password(cx).await?)
        .arguments(["--schema-only", "--no-owner", "--no-privileges", "--no-password"])
        .arguments(["--no-tablespaces", "--no-publications", "--no-subscriptions"])
        .arguments(["--no-security-labels", "--encoding=UTF8", "--lock-wait-timeout=10000"])
        // The template's own records are not the tenant's.
        .arguments(["--exclude-schema=provision"])
        .with_output_max(config.dump_bytes_max);
    let call = server.counted(Call::read(DUMP)).with_timeout(config.statement_timeout * 2);
    let ended = program.run(cx, &call).await?;
    if !ended.is_success() {
        return Err(undumped(&ended));
    }
    let sql = std::str::from_utf8(ended.output())
        .map_err(|_| StepError::permanent(DUMP).with_code("not_utf8"))?;
    // A program that was cut may end well all the same, when another stands before it.
    let end = sql.lines().rev().filter(|line| !line.is_empty()).take(4);
    if !end.into_iter().any(|line| line == DUMP_END) {
        return Err(StepError::retry(DUMP)
            .with_code("dump_cut")
            .with_message("the dump has no end"));
    }
    // These lines tell of the programs, or are drawn anew for each dump.
    let drawn = |line: &&str| {
        ["-- Dumped ", "\\restrict ", "\\unrestrict "].iter().any(|start| line.starts_with(start))
    };
    let lasting: Vec<&str> = sql.lines().filter(|line| !drawn(line)).collect();
    Ok(Dump { checksum: checksum(&lasting.join("\n")), sql: sql.to_owned() })
}

impl Dump {
    /// What makes the schema, without the commands of the terminal client around it, and without
    /// the lines at its beginning that let its statements take as long as they will.
    pub(super) fn statements(&self) -> String {
        let begins = |line: &&str| !line.is_empty() && !line.starts_with("--");
        let first = self.sql.lines().find(begins).unwrap_or_default();
        let sql = match first.strip_prefix("\\restrict ") {
            // The word behind it is drawn for this dump.
            Some(drawn) => {
                let (open, close) = (first, format!("\\unrestrict {drawn}"));
                let kept = self.sql.lines().filter(|line| *line != open && *line != close);
                kept.collect::<Vec<_>>().join("\n")
            }
            None => self.sql.clone(),
        };
        sql.replacen(NO_TIMES, "", 1)
    }
}

/// Whether the program finds the roots that the system trusts, where those are to be used: an older
/// one would look for a file of that name.
async fn has_system_roots(server: &Postgres, cx: &StepContext) -> Result<(), StepError> {
    let config = server.config();
    if !config.is_remote() || config.root_certificate.is_some() {
        return Ok(());
    }
    let program = Program::new(executable(server)).arguments(["--version"]);
    let ended = program.run(cx, &Call::read(DUMP)).await?;
    let said = String::from_utf8_lossy(ended.output());
    if major(&said).is_none_or(|major| major < KNOWS_SYSTEM_ROOTS) {
        return Err(StepError::permanent(DUMP)
            .with_code("program_too_old")
            .with_message(format!("pg_dump is older than {KNOWS_SYSTEM_ROOTS}"))
            .with_hint("name the file of the root certificate, or install newer clients"));
    }
    Ok(())
}

/// The version in `pg_dump (PostgreSQL) 16.3 (Debian 16.3-1)`.
fn major(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}

/// Where `pg_dump` is.
fn executable(server: &Postgres) -> PathBuf {
    const PROGRAM: &str = "pg_dump";
    server.config().programs.as_ref().map_or_else(|| PROGRAM.into(), |folder| folder.join(PROGRAM))
}

/// `pg_dump`, with the connection in its environment.
fn program(server: &Postgres, database: &Identifier, password: &Secret) -> Program {
    let config = server.config();
    let program = Program::new(executable(server))
        // A name is told apart from a connection string only here.
        .with_variable("PGDATABASE", database.as_str())
        .with_variable("PGHOST", &config.host)
        .with_variable("PGPORT", config.port.to_string())
        .with_variable("PGUSER", &config.user)
        .with_variable("PGAPPNAME", "provision")
        .with_variable("PGCONNECT_TIMEOUT", "10")
        .with_variable("PGCLIENTENCODING", "UTF8")
        // What it complains of is sorted by its words.
        .with_variable("LC_ALL", "C")
        .with_secret("PGPASSWORD", password);
    if !config.is_remote() {
        return program.with_variable("PGSSLMODE", "disable");
    }
    let program = program.with_variable("PGSSLMODE", "verify-full");
    match &config.root_certificate {
        Some(file) => program.with_variable("PGSSLROOTCERT", file),
        None => program.with_variable("PGSSLROOTCERT", "system"),
    }
}

/// Whether the server says that something of a kind is not there.
fn is_missing(complaint: &str, kind: &str) -> bool {
    complaint.lines().any(|line| {
        let (_, rest) = line.split_once("FATAL:").unwrap_or_default();
        rest.trim_start().starts_with(kind) && rest.ends_with("does not exist")
    })
}

fn undumped(ended: &Ended) -> StepError {
    let complaint = ended.complaint();
    if complaint.contains("server version mismatch") {
        return StepError::permanent(DUMP)
            .with_code("program_too_old")
            .with_message("pg_dump is older than the server")
            .with_hint("install a client of the server's version, and name its folder");
    }
    if ["database \"", "role \""].iter().any(|kind| is_missing(&complaint, kind)) {
        return StepError::permanent(DUMP)
            .with_code("no_template")
            .with_message("there is no such template, or no such role");
    }
    StepError::retry(DUMP)
        .with_code("dump_failed")
        .with_message(format!("pg_dump ended with {:?}", ended.code()))
}
