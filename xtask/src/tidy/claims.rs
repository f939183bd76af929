//! What pages claim: tests that exist, invariants that are shown, states as the code has them.

use super::{Report, pages::targets};
use crate::{
    covers::Covers,
    requirements::{PAGES, Row, count, rewritten},
    tree::Tree,
};

const MAP: &str = "ARCHITECTURE.md";
const README: &str = "README.md";
/// Opens the table of promises in it.
const PROMISES: &str = "| promise | ids |";
const GAPS: &str = "docs/decisions/gaps.md";
const DIAGRAM: &str = "docs/state-machine.md";
const STATES: &str = "provision-core/src/run/mod.rs";
/// The engine's own list of invariants, once it has one.
const INVARIANTS: &str = "provision-core/src/invariant.rs";

/// Test columns are fresh, ids are known, and what is open is said to be.
pub(super) fn tables(tree: &Tree, report: &mut Report) {
    let covers = Covers::read(tree);
    for (path, line, text) in &covers.problems {
        report.refuse(path, *line, text.clone());
    }
    let mut known: Vec<&str> = Vec::new();
    for page in PAGES {
        let Some(file) = tree.get(page) else {
            report.refuse(page, 0, "is missing");
            continue;
        };
        if rewritten(&file.text, &covers) != file.text {
            report.refuse(page, 0, "its test column is stale: run `cargo xtask requirements`");
        }
        report.notes.push(format!("{page}: {}", count(&file.text)));
        for (at, row) in file.lines().filter_map(|(at, line)| Some((at, Row::parse(line)?))) {
            if known.contains(&row.id) {
                report.refuse(page, at, format!("{} stands here twice", row.id));
            }
            known.push(row.id);
            check_row(tree, page, at, &row, report);
        }
    }
    for (id, tests) in covers.tests.iter().filter(|(id, _)| !known.contains(&id.as_str())) {
        let path = tests.first().and_then(|test| test.split(':').next()).unwrap_or_default();
        report.refuse(path, 0, format!("covers {id}, which no table has"));
    }
    own_invariants(tree, &known, report);
}

fn check_row(tree: &Tree, page: &str, at: usize, row: &Row<'_>, report: &mut Report) {
    if let Some(target) = row.test.strip_prefix("page:").map(str::trim)
        && !tree.exists(target)
    {
        report.refuse(page, at, format!("there is no page `{target}`"));
    }
    if row.is_shown() && row.note.is_some_and(tells_of_a_lack) {
        report.refuse(
            page,
            at,
            format!("{} has tests: say what is left, not what it needs", row.id),
        );
    }
    if page != MAP {
        return;
    }
    let listed = tree.get(GAPS).is_some_and(|gaps| has_entry(&gaps.text, row.id));
    match (row.is_open(), listed) {
        (true, false) => {
            report.refuse(page, at, format!("{} has no test and no line in {GAPS}", row.id));
        }
        (false, true) => {
            report.refuse(GAPS, 0, format!("{} has tests now: take its line out", row.id));
        }
        _ => {}
    }
}

/// Whether a note says that something is still to come.
fn tells_of_a_lack(note: &str) -> bool {
    ["needs", "does not exist", "do not exist"].iter().any(|words| note.contains(words))
}

/// What the first page promises is shown by the files that it links: each of them covers one of
/// the row's ids, and each id is covered by one of them.
pub(super) fn promises(tree: &Tree, report: &mut Report) {
    let Some(page) = tree.get(README) else { return };
    let covers = Covers::read(tree);
    let covered = |id: &str, file: &str| {
        let tests = covers.tests.get(id).into_iter().flatten();
        tests.into_iter().any(|test| test.split(':').next() == Some(file))
    };
    let table = page.lines().skip_while(|(_, line)| !line.starts_with(PROMISES));
    for (at, row) in table.skip(2).take_while(|(_, line)| line.starts_with('|')) {
        let ids: Vec<&str> = row.split('|').nth(2).unwrap_or_default().split(',').collect();
        let ids: Vec<&str> = ids.into_iter().map(str::trim).collect();
        let files: Vec<&str> = targets(row).collect();
        for id in ids.iter().filter(|id| !files.iter().any(|file| covered(id, file))) {
            report.refuse(README, at, format!("no linked file covers {id}"));
        }
        for file in files.iter().filter(|file| !ids.iter().any(|id| covered(id, file))) {
            report.refuse(README, at, format!("`{file}` covers none of this row"));
        }
    }
}

/// A gap is a list entry that opens with its ids: `- S12, L3: why`.
fn has_entry(gaps: &str, id: &str) -> bool {
    let entries = gaps.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(':'));
    entries.into_iter().any(|(ids, _)| ids.split(',').any(|one| one.trim() == id))
}

/// Each id of the engine's own list stands in the map.
fn own_invariants(tree: &Tree, known: &[&str], report: &mut Report) {
    let Some(file) = tree.get(INVARIANTS) else { return };
    for (at, line) in file.lines() {
        let variant = line.trim().trim_end_matches(',');
        if crate::covers::is_id(variant) && !known.contains(&variant) {
            report.refuse(INVARIANTS, at, format!("{variant} is not in {MAP}"));
        }
    }
}

/// The diagram of run states names exactly the states of the code.
pub(super) fn states(tree: &Tree, report: &mut Report) {
    let Some(code) = tree.get(STATES) else { return };
    let Some(page) = tree.get(DIAGRAM) else {
        report.refuse(DIAGRAM, 0, "is missing");
        return;
    };
    let states: Vec<&str> = code.text.lines().filter_map(stored_name).collect();
    if states.is_empty() {
        report.refuse(STATES, 0, "no state names were found here; the rule must be mended");
    }
    for state in states.iter().filter(|state| !is_drawn(&page.text, state)) {
        report.refuse(DIAGRAM, 0, format!("the state {state} is not drawn"));
    }
    for (at, line) in page.lines() {
        let Some((from, to)) = line.trim().split_once(" --> ") else { continue };
        let to = to.split(':').next().unwrap_or_default();
        for name in [from, to].map(str::trim) {
            if name != "[*]" && !states.contains(&name) {
                report.refuse(DIAGRAM, at, format!("`{name}` is no state of a run"));
            }
        }
    }
}

/// The name in `Self::Parked => "Parked",`.
fn stored_name(line: &str) -> Option<&str> {
    let (variant, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
    let name = name.strip_suffix("\",")?;
    (variant == name).then_some(name)
}

fn is_drawn(page: &str, state: &str) -> bool {
    let arrows = page.lines().filter_map(|line| line.trim().split_once(" --> "));
    let mut ends = arrows.flat_map(|(from, to)| [from, to.split(':').next().unwrap_or_default()]);
    ends.any(|end| end.trim() == state)
}

#[cfg(test)]
mod tests {
    use super::{promises, states, tables};
    use crate::tidy::testing::apply;

    const CODE: &str = "    Self::Running => \"Running\",\n    Self::Parked => \"Parked\",\n";

    #[test]
    fn a_state_that_is_not_drawn_or_not_there_is_refused() {
        let run = "provision-core/src/run/mod.rs";
        let page = "docs/state-machine.md";
        let good = "[*] --> Running\nRunning --> Parked : needs a person\n";
        assert!(apply(states, &[(run, CODE), (page, good)]).problems.is_empty());
        let missing = "[*] --> Running\n";
        assert_eq!(apply(states, &[(run, CODE), (page, missing)]).problems.len(), 1);
        let invented = "[*] --> Running\nRunning --> Parked\nParked --> Lost\n";
        assert_eq!(apply(states, &[(run, CODE), (page, invented)]).problems.len(), 1);
    }

    fn problems(map: &str, gaps: &str, code: &str) -> Vec<String> {
        let files = [
            ("ARCHITECTURE.md", map),
            ("docs/requirements.md", ""),
            ("docs/decisions/gaps.md", gaps),
            ("a.rs", code),
        ];
        apply(tables, &files).problems.into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn an_invariant_without_a_test_must_be_a_known_gap() {
        let row = "| S1 | no lost run | open |\n";
        assert_eq!(problems(row, "", "").len(), 1);
        assert!(problems(row, "- S1: needs a crash test\n", "").is_empty());
    }

    #[test]
    fn a_row_with_tests_does_not_say_that_it_waits_for_something() {
        let code = concat!("// cov", "ers: R1-01\n#[test]\nfn holds() {\n}\n");
        let check = |page: &str| {
            let files = [
                ("ARCHITECTURE.md", ""),
                ("docs/requirements.md", page),
                ("docs/decisions/gaps.md", ""),
                ("a.rs", code),
            ];
            apply(tables, &files).problems.len()
        };
        assert_eq!(check("| R1-01 | a step | `a.rs:holds` | needs the adapter |\n"), 1);
        assert_eq!(check("| R1-01 | a step | `a.rs:holds` | on one server |\n"), 0);
        let open = "| R1-01 | a | `a.rs:holds` | x |\n| R1-02 | b | open | needs the adapter |\n";
        assert_eq!(check(open), 0);
    }

    #[test]
    fn a_promise_links_what_shows_it() {
        let code = concat!("// cov", "ers: S1\n#[test]\nfn holds() {\n}\n");
        let other = concat!("// cov", "ers: S9\n#[test]\nfn looks() {\n}\n");
        let head = "| promise | ids | shown by |\n|---|---|---|\n";
        let check = |row: &str| {
            let page = format!("{head}{row}\n");
            let files = [("README.md", page.as_str()), ("a.rs", code), ("b.rs", other)];
            apply(promises, &files).problems.len()
        };
        assert_eq!(check("| kept | S1 | [a](a.rs) |"), 0);
        assert_eq!(check("| kept | S1, S9 | [a](a.rs), [b](b.rs) |"), 0);
        assert_eq!(check("| kept | S1, S2 | [a](a.rs) |"), 1, "S2 is shown by nothing");
        assert_eq!(check("| kept | S1 | [a](a.rs), [b](b.rs) |"), 1, "b shows nothing of it");
    }

    #[test]
    fn claims_follow_the_sources() {
        let code = concat!("// cov", "ers: S1\n#[test]\nfn holds() {\n}\n");
        let fresh = "| S1 | no lost run | `a.rs:holds` |\n";
        assert!(problems(fresh, "", code).is_empty());
        assert_eq!(problems(fresh, "- S1: old\n", code).len(), 1, "a gap that is closed");
        assert_eq!(problems("| S1 | no lost run | open |\n", "- S1: x\n", code).len(), 1, "stale");
        assert_eq!(problems("", "", code).len(), 1, "an id no table has");
    }
}
