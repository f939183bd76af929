//! Names of things in a database, and those that are open on purpose.

use serde::{Deserialize, Serialize};

/// A relation or function with its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relation {
    /// The schema.
    pub schema: String,
    /// The name within it.
    pub name: String,
}

impl Relation {
    /// Names something in a schema.
    #[must_use]
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// As it is written into a statement.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What the anonymous role may do on purpose; nothing by default.
///
/// A name without a schema is one of `public`. Names are taken as they are, without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Openings {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Relation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inserts: Vec<Relation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    functions: Vec<Relation>,
}

impl Openings {
    /// Opens nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets anonymous readers see rows of a table, view or materialized view. A table still needs
    /// row-level security and a policy.
    #[must_use]
    pub fn read(mut self, relation: &str) -> Self {
        self.reads.push(parse(relation));
        self
    }

    /// Lets anonymous visitors add rows to a table without a condition on who they are.
    #[must_use]
    pub fn insert(mut self, table: &str) -> Self {
        self.inserts.push(parse(table));
        self
    }

    /// Lets anonymous visitors call a function that runs with its owner's rights or returns rows.
    #[must_use]
    pub fn call(mut self, function: &str) -> Self {
        self.functions.push(parse(function));
        self
    }

    pub(super) fn reads(&self, relation: &Relation) -> bool {
        self.reads.contains(relation)
    }

    pub(super) fn inserts(&self, relation: &Relation) -> bool {
        self.inserts.contains(relation)
    }

    pub(super) fn calls(&self, function: &Relation) -> bool {
        self.functions.contains(function)
    }
}

fn parse(name: &str) -> Relation {
    match name.split_once('.') {
        Some((schema, name)) => Relation::new(schema, name),
        None => Relation::new("public", name),
    }
}

/// Quotes an identifier that came from the catalog, whatever it holds.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text value; backslashes have no meaning in it.
pub(crate) fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if value.contains('\\') {
        // The E form gives a backslash one meaning whatever the server's settings are.
        return format!("E'{}'", quoted.replace('\\', "\\\\"));
    }
    format!("'{quoted}'")
}

#[cfg(test)]
mod tests {
    use super::{Openings, Relation, quote_identifier, quote_literal};

    // covers: X5
    #[test]
    fn quoted_names_cannot_end_early() {
        assert_eq!(quote_identifier("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(Relation::new("s", "T\"x").quoted(), "\"s\".\"T\"\"x\"");
    }

    #[test]
    fn a_name_without_a_schema_is_public() {
        let openings = Openings::none().read("posts").read("app.news");
        assert!(openings.reads(&Relation::new("public", "posts")));
        assert!(openings.reads(&Relation::new("app", "news")));
        assert!(!openings.reads(&Relation::new("app", "posts")));
    }
}
