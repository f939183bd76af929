//! What a run does on a server.

pub(crate) mod clone;
pub(crate) mod database;
pub(crate) mod role;
pub(crate) mod schema;
pub(crate) mod tenants;

use provision_core::OwnerMark;

use crate::tools::row_security::{Row, quote_literal};

const JOIN: &str = include_str!("../sql/join.sql");

/// Statements that see to it that the administering role can give what it makes to a role.
fn join(role: &str) -> String {
    block(&JOIN.replace("$role", &quote_literal(role)))
}

/// A block of code as one statement. Its text may hold names that the server has told: quoted as a
/// whole, nothing of it is taken for its end (X5).
fn block(body: &str) -> String {
    format!("do {};\n", quote_literal(body))
}

/// The value of a column; `None` where it is null.
fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.iter().find(|(name, _)| name == column).and_then(|(_, value)| value.as_deref())
}

/// A database or role as the catalog shows it.
struct Shown {
    id: String,
    name: String,
    mark: Option<OwnerMark>,
}

impl Shown {
    /// Reads the columns `id`, `name` and `comment`.
    fn of(row: &Row) -> Option<Self> {
        Some(Self {
            id: text(row, "id")?.to_owned(),
            name: text(row, "name")?.to_owned(),
            mark: text(row, "comment").and_then(OwnerMark::find_in),
        })
    }

    fn all(rows: &[Row]) -> Vec<Self> {
        rows.iter().filter_map(Self::of).collect()
    }
}
