//! Keeps the test columns of `docs/requirements.md` and of the invariants in `ARCHITECTURE.md`
//! true: they are written from the `covers` comments in the sources, never by hand.
//!
//! A row is `| id | own words | test | note |` (invariants have no note). A row without a test
//! says `open`; its note says why, where there is a reason. A row that a page answers says
//! `page: docs/..`, one that is out of scope `none`; both are left as they are.

use std::path::Path;

use crate::{
    Outcome,
    covers::{self, Covers},
    tree::Tree,
};

/// The pages with such tables.
pub(crate) const PAGES: [&str; 2] = ["docs/requirements.md", "ARCHITECTURE.md"];
/// Tests named in a row; the others are counted.
const TESTS_SHOWN: usize = 2;
/// Where the tests are that show most about an invariant, in this order; the others follow by name.
const TELLING: [&str; 4] = [
    "provision-core/",
    "provision-testkit/src/conformance/",
    "provision-testkit/",
    "provision-store-",
];

/// One line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row<'t> {
    pub(crate) id: &'t str,
    pub(crate) words: &'t str,
    pub(crate) test: &'t str,
    pub(crate) note: Option<&'t str>,
}

impl<'t> Row<'t> {
    pub(crate) fn parse(line: &'t str) -> Option<Self> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = inner.split('|').map(str::trim);
        let row = Self {
            id: cells.next()?,
            words: cells.next()?,
            test: cells.next()?,
            note: cells.next(),
        };
        (covers::is_id(row.id) && cells.next().is_none()).then_some(row)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.test == "open"
    }

    /// Whether it is an invariant of the engine, and not a capability.
    fn is_invariant(&self) -> bool {
        !self.id.starts_with('R')
    }

    /// Whether tests show it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.is_open() && self.test != "none" && !self.test.starts_with("page:")
    }
}

/// Writes the columns anew.
pub(crate) fn write(root: &Path) -> Outcome {
    let tree = Tree::read(root)?;
    let covers = Covers::read(&tree);
    for page in PAGES {
        let Some(file) = tree.get(page) else { continue };
        let text = rewritten(&file.text, &covers);
        if text != file.text {
            let path = root.join(page);
            std::fs::write(&path, &text).map_err(|error| format!("{page}: {error}"))?;
        }
        println!("{page}: {}", count(&text));
    }
    Ok(())
}

/// Fails when a column is not what [`write()`] would write.
pub(crate) fn check(root: &Path) -> Outcome {
    let tree = Tree::read(root)?;
    let covers = Covers::read(&tree);
    let stale =
        |page: &&str| tree.get(page).is_none_or(|file| rewritten(&file.text, &covers) != file.text);
    match PAGES.into_iter().find(stale) {
        None => Ok(()),
        Some(page) => Err(format!("{page} is missing or stale: run `cargo xtask requirements`")),
    }
}

/// The page with its test cells as the sources have them.
pub(crate) fn rewritten(text: &str, covers: &Covers) -> String {
    let mut page = String::with_capacity(text.len());
    for line in text.lines() {
        match Row::parse(line) {
            Some(row) => page.push_str(&write_row(&row, covers)),
            None => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

fn write_row(row: &Row<'_>, covers: &Covers) -> String {
    let test = match covers.tests.get(row.id) {
        Some(tests) if row.is_invariant() => name_tests(tests, &TELLING),
        Some(tests) => name_tests(tests, &[]),
        None if row.test.starts_with("page:") || row.test == "none" => row.test.to_owned(),
        None => "open".to_owned(),
    };
    match row.note {
        Some(note) => format!("| {} | {} | {test} | {note} |", row.id, row.words),
        None => format!("| {} | {} | {test} |", row.id, row.words),
    }
}

fn name_tests(tests: &[String], first: &[&str]) -> String {
    let place = |test: &&String| {
        first.iter().position(|folder| test.starts_with(folder)).unwrap_or(first.len())
    };
    let mut named: Vec<&String> = tests.iter().collect();
    named.sort_by_key(place);
    let shown: Vec<String> =
        named.iter().take(TESTS_SHOWN).map(|test| format!("`{test}`")).collect();
    match tests.len().saturating_sub(TESTS_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How many rows there are of each kind, in words.
pub(crate) fn count(text: &str) -> String {
    let rows: Vec<Row<'_>> = text.lines().filter_map(Row::parse).collect();
    let open = rows.iter().filter(|row| row.is_open());
    let silent = open.clone().filter(|row| row.note.is_none_or(str::is_empty)).count();
    let pages = rows.iter().filter(|row| row.test.starts_with("page:")).count();
    let none = rows.iter().filter(|row| row.test == "none").count();
    let open = open.count();
    let shown = rows.len() - open - pages - none;
    format!(
        "{} rows, {shown} shown by tests, {pages} by pages, {none} out of scope, {open} open \
         ({silent} of them without a reason)",
        rows.len()
    )
}

#[cfg(test)]
mod tests {
    use super::{Row, count, rewritten};
    use crate::covers::Covers;

    fn covers(pairs: &[(&str, &[&str])]) -> Covers {
        let mut covers = Covers::default();
        for (id, tests) in pairs {
            covers.tests.insert((*id).to_owned(), tests.iter().map(|t| (*t).to_owned()).collect());
        }
        covers
    }

    #[test]
    fn a_tested_row_names_its_tests_and_keeps_words_and_note() {
        let page = "# Rows\n| R1-04 | waits longer | open | half |\n";
        let found = rewritten(page, &covers(&[("R1-04", &["a.rs:x", "b.rs:y", "c.rs:z"])]));
        assert_eq!(
            found,
            "# Rows\n| R1-04 | waits longer | `a.rs:x`, `b.rs:y` and 1 more | half |\n"
        );
    }

    #[test]
    fn the_engines_own_tests_are_named_before_those_of_its_users() {
        let tests = ["examples/a.rs:x", "provision-testkit/tests/b.rs:y", "provision-core/c.rs:z"];
        let found = rewritten("| S1 | holds | open |\n", &covers(&[("S1", &tests)]));
        let named = "`provision-core/c.rs:z`, `provision-testkit/tests/b.rs:y` and 1 more";
        assert_eq!(found, format!("| S1 | holds | {named} |\n"));
    }

    #[test]
    fn a_row_whose_test_is_gone_is_open_again() {
        let page = "| S1 | no lost run | `a.rs:x` |\n| S2 | one run | page: docs/x.md |\n";
        let found = rewritten(page, &covers(&[]));
        assert_eq!(found, "| S1 | no lost run | open |\n| S2 | one run | page: docs/x.md |\n");
    }

    #[test]
    fn other_tables_are_not_rows() {
        assert_eq!(Row::parse("| id | words | test |"), None);
        assert_eq!(Row::parse("|---|---|---|"), None);
        assert_eq!(Row::parse("| S1 | a | b | c | d |"), None);
    }

    #[test]
    fn rows_are_counted_by_kind() {
        let page = "| S1 | a | open | why |\n| S2 | a | open | |\n| S3 | a | none | x |\n\
                    | S4 | a | `a.rs:x` |\n";
        let said = count(page);
        assert!(said.starts_with("4 rows, 1 shown by tests, 0 by pages, 1 out of scope, 2 open"));
        assert!(said.ends_with("(1 of them without a reason)"), "{said}");
    }
}
