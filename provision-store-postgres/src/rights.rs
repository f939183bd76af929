//! What a role needs that runs sagas, and changes neither the schema nor the journal (X12).

use provision_core::error::{StoreError, StoreErrorKind};

use crate::sql::Schema;

/// What is in the schema, and the rights on it.
const RIGHTS: [(&str, &str); 15] = [
    ("namespaces", "SELECT, INSERT"),
    ("clock", "SELECT, UPDATE"),
    ("lanes", "SELECT, INSERT"),
    ("runs", "SELECT, INSERT"),
    ("heads", "SELECT, INSERT, UPDATE"),
    ("frames", "SELECT, INSERT"),
    ("requests", "SELECT, INSERT, DELETE"),
    ("incarnations", "SELECT, INSERT, UPDATE, DELETE"),
    ("ledger", "SELECT, INSERT, UPDATE"),
    ("sightings", "SELECT, INSERT"),
    ("secrets", "SELECT, INSERT, UPDATE, DELETE"),
    ("buckets", "SELECT, INSERT, UPDATE, DELETE"),
    ("migrations", "SELECT"),
    ("moment", "SELECT"),
    ("run_rows", "SELECT"),
];

/// What a role touches that starts runs in transactions of its own, and does nothing else.
const STARTING: [(&str, &str); 5] = [
    ("lanes", "SELECT, INSERT"),
    ("runs", "SELECT, INSERT"),
    ("heads", "SELECT, INSERT"),
    ("moment", "SELECT"),
    ("run_rows", "SELECT"),
];

/// What a role may call that removes runs, and what one that forgets their start keys may: the owner
/// does both for it.
const PRUNE: &str = "prune(integer, uuid, bigint, boolean, boolean, integer, integer, integer, \
                     bigint, boolean)";
const FORGET: &str = "forget(integer, bigint, bigint)";

/// Those of them that are views, and read the tables with the rights of their owner.
const VIEWS: [&str; 2] = ["moment", "run_rows"];

/// PostgreSQL cuts longer names.
const NAME_BYTES_MAX: usize = 63;

/// A role's name, quoted (X5).
fn quoted(role: &str) -> Result<String, StoreError> {
    if role.is_empty() || role.len() > NAME_BYTES_MAX || role.contains('\0') {
        let kind = StoreErrorKind::Unsuitable;
        return Err(StoreError::new(kind, "postgres_wrong_role_name", "grant the rights")
            .with_hint("use the name of a role: 1 to 63 bytes"));
    }
    Ok(format!("\"{}\"", role.replace('"', "\"\"")))
}

/// A script that gives a role what running sagas needs. With `row_security` the tables are closed
/// by row-level security to everybody else.
pub(crate) fn script(
    schema: &Schema,
    role: &str,
    row_security: bool,
) -> Result<String, StoreError> {
    let role = quoted(role)?;
    let mut script = String::from("BEGIN;\n");
    let mut add = |text: String| {
        script.push_str(&text);
        script.push_str(";\n");
    };
    let place = |name: &str| format!("\"{}\".{name}", schema.name());
    add(format!("GRANT USAGE ON SCHEMA \"{}\" TO {role}", schema.name()));
    for (name, rights) in RIGHTS {
        let on = place(name);
        add(format!("GRANT {rights} ON {on} TO {role}"));
        if !row_security || VIEWS.contains(&name) {
            continue;
        }
        add(format!("ALTER TABLE {on} ENABLE ROW LEVEL SECURITY"));
        add(format!("ALTER TABLE {on} FORCE ROW LEVEL SECURITY"));
        // The owner migrates, and the views read as the owner.
        for (policy, to) in [(role.as_str(), role.as_str()), ("provision_owner", "CURRENT_USER")] {
            add(format!("DROP POLICY IF EXISTS {policy} ON {on}"));
            add(format!("CREATE POLICY {policy} ON {on} TO {to} USING (true) WITH CHECK (true)"));
        }
    }
    add("COMMIT".to_owned());
    Ok(script)
}

/// A script that lets a role start runs and nothing else; it takes back what an earlier one has
/// granted beyond that.
pub(crate) fn starting(schema: &Schema, role: &str) -> Result<String, StoreError> {
    let role = quoted(role)?;
    let place = format!("\"{}\"", schema.name());
    let mut script = format!("BEGIN;\nREVOKE ALL ON ALL TABLES IN SCHEMA {place} FROM {role};\n");
    script.push_str(&format!("GRANT USAGE ON SCHEMA {place} TO {role};\n"));
    for (name, rights) in STARTING {
        script.push_str(&format!("GRANT {rights} ON {place}.{name} TO {role};\n"));
    }
    script.push_str("COMMIT;\n");
    Ok(script)
}

/// A script that lets a role remove runs that are over, and forget them where that is wanted; it
/// takes back what an earlier one has granted beyond that.
pub(crate) fn retention(schema: &Schema, role: &str, forget: bool) -> Result<String, StoreError> {
    let role = quoted(role)?;
    let place = |call: &str| format!("EXECUTE ON FUNCTION \"{}\".{call}", schema.name());
    let forgetting = match forget {
        true => format!("GRANT {} TO {role}", place(FORGET)),
        false => format!("REVOKE {} FROM {role}", place(FORGET)),
    };
    Ok(format!("BEGIN;\nGRANT {} TO {role};\n{forgetting};\nCOMMIT;\n", place(PRUNE)))
}

#[cfg(test)]
mod tests {
    use super::{FORGET, PRUNE, RIGHTS, STARTING, Schema, retention, script, starting};

    // What is granted, what is asked for when the store is opened, and what its page lists.
    #[test]
    fn the_rights_are_those_that_are_checked_and_those_that_are_written_down() {
        let check = include_str!("../sql/check.sql");
        for (name, rights) in RIGHTS {
            let line = format!("('{name}', '{}')", rights.replace(", ", " "));
            assert!(check.contains(&line), "{line}");
            let page = include_str!("docs.md");
            let row = page
                .lines()
                .find(|line| line.starts_with("| `") && line.contains(&format!("`{name}`")));
            assert!(row.is_some_and(|row| row.contains(&format!("| `{rights}` |"))), "{name}");
        }
        assert_eq!(check.matches("', 'SELECT").count(), RIGHTS.len());
    }

    // covers: X5
    #[test]
    fn a_role_is_quoted_and_no_name_ends_the_statement() {
        let schema = Schema::new("provision").unwrap();
        let text = script(&schema, "a\"; DROP SCHEMA x; --", true).unwrap();
        assert!(text.contains("TO \"a\"\"; DROP SCHEMA x; --\";"), "{text}");
        for name in ["", "a\0", &"a".repeat(64)] {
            let error = script(&schema, name, false).unwrap_err();
            assert_eq!(error.code(), "postgres_wrong_role_name");
        }
    }

    #[test]
    fn without_row_security_there_are_rights_alone() {
        let text = script(&Schema::new("provision").unwrap(), "runs", false).unwrap();
        assert_eq!(text.matches("GRANT ").count(), RIGHTS.len() + 1);
        assert!(!text.contains("POLICY") && !text.contains("ROW LEVEL"));
        assert!(!text.contains("FUNCTION"), "who runs sagas removes nothing");
    }

    // covers: X5, X12
    #[test]
    fn who_starts_runs_gets_a_part_of_what_running_them_needs() {
        let text = starting(&Schema::new("provision").unwrap(), "a\"b").unwrap();
        assert!(text.contains("FROM \"a\"\"b\";"), "{text}");
        for (name, rights) in STARTING {
            let all = RIGHTS.iter().find(|(known, _)| *known == name).unwrap().1;
            assert!(rights.split(", ").all(|right| all.contains(right)), "{name}");
        }
        assert!(starting(&Schema::new("provision").unwrap(), "").is_err());
    }

    // covers: X5, X12
    #[test]
    fn to_forget_start_keys_is_granted_on_request_alone() {
        let schema = Schema::new("provision").unwrap();
        let place = |call: &str| format!("EXECUTE ON FUNCTION \"provision\".{call}");
        for (forget, of_forget) in [(false, ("REVOKE", "FROM")), (true, ("GRANT", "TO"))] {
            let text = retention(&schema, "a\"b", forget).unwrap();
            assert!(text.contains(&format!("GRANT {} TO \"a\"\"b\";", place(PRUNE))), "{text}");
            let (verb, side) = of_forget;
            let line = format!("{verb} {} {side} \"a\"\"b\";", place(FORGET));
            assert!(text.contains(&line), "{text}");
        }
        assert!(retention(&schema, "", true).is_err());
    }
}
