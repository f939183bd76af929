//! Columns and constraints of the tables, against the ones that a deployment makes.

use std::collections::BTreeSet;

use sqlx::{PgPool, query_as};

use super::{Finding, RESTORE, TABLES};
use crate::trouble::Trouble;

/// What `migrations/` make: a line for each column and each constraint, sorted.
const WANTED: &str = include_str!("shape.txt");

/// The same of a database, for the tables of the service alone.
///
/// # Errors
/// The database does not answer.
pub async fn shape_of(pool: &PgPool) -> Result<String, Trouble> {
    // Constraints that say "not null" are told by the columns, whatever the server makes of them.
    let sql = "SELECT c.relname::text, format('%s column %s %s%s%s%s', c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
            CASE WHEN a.attidentity <> '' THEN ' identity' ELSE '' END,
            coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
        FROM pg_attribute AS a INNER JOIN pg_class AS c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = to_regnamespace('connectors') AND c.relkind = 'r'
        AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT c.relname::text, format('%s constraint %s %s%s', c.relname, n.conname,
            pg_get_constraintdef(n.oid), CASE WHEN n.convalidated THEN '' ELSE ' NOT VALID' END)
        FROM pg_constraint AS n INNER JOIN pg_class AS c ON c.oid = n.conrelid
        WHERE c.relnamespace = to_regnamespace('connectors') AND n.contype <> 'n'";
    let lines: Vec<(String, String)> = query_as(sql).fetch_all(pool).await?;
    let ours = lines.into_iter().filter(|(table, _)| TABLES.contains(&&**table));
    let sorted: BTreeSet<String> = ours.map(|(_, line)| line).collect();
    Ok(sorted.into_iter().map(|line| line + "\n").collect())
}

/// Columns and constraints that are missing, and those that nobody has deployed.
pub(super) async fn shapes(pool: &PgPool) -> Result<Vec<Finding>, Trouble> {
    let there = shape_of(pool).await?;
    let (there, wanted): (BTreeSet<&str>, BTreeSet<&str>) =
        (there.lines().collect(), WANTED.lines().collect());
    let mut findings = Vec::new();
    for table in TABLES {
        let of_table = |line: &&&str| line.split(' ').next() == Some(table);
        // A table that is not there at all is told by another look.
        if !there.iter().any(|line| of_table(&line)) {
            continue;
        }
        let rest = |line: &&str| line.strip_prefix(table).unwrap_or(line).trim().to_owned();
        let missing = wanted.difference(&there).filter(of_table);
        let strays = there.difference(&wanted).filter(of_table);
        let wrong: Vec<String> = missing
            .map(|line| format!("no {}", rest(line)))
            .chain(strays.map(|line| format!("not meant: {}", rest(line))))
            .collect();
        if !wrong.is_empty() {
            findings.push(Finding::new("shapes", table, false, (wrong.join("; "), RESTORE)));
        }
    }
    if findings.is_empty() {
        let detail = format!("{} columns and constraints as deployed", wanted.len());
        findings.push(Finding::new("shapes", "all", true, (detail, "")));
    }
    Ok(findings)
}
