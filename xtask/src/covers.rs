//! Reads `// covers: S3, R1-29` comments: which test shows which invariant or requirement.
//!
//! The comment stands above a test's attributes or as its first line. Cases of the public suites
//! have no attribute of their own; there the function must be named in a suite macro. At the head
//! of a file of tests the comment speaks for the file as a whole. In an example of the
//! documentation, which is compiled and run or must not compile, it is a hidden line.

use std::collections::BTreeMap;

use crate::tree::{Source, Tree};

/// Written in two parts, so that this file names no test of its own.
const MARK: &str = concat!("// cov", "ers:");
/// Before the comment in an example of the documentation, where it is a hidden line.
const DOC_MARKS: [&str; 2] = ["//! # ", "/// # "];
/// Where cases stand that a macro turns into tests.
const SUITES: &str = "provision-testkit/src/";

/// Tests by the id they cover, and comments that cover nothing.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    /// `file:test`, sorted, without repeats.
    pub(crate) tests: BTreeMap<String, Vec<String>>,
    pub(crate) problems: Vec<(String, usize, String)>,
}

impl Covers {
    pub(crate) fn read(tree: &Tree) -> Self {
        let mut covers = Self::default();
        let cases = suite_cases(tree);
        for file in tree.files.iter().filter(|file| file.is("rs")) {
            covers.read_file(file, &cases);
        }
        for tests in covers.tests.values_mut() {
            tests.sort();
            tests.dedup();
        }
        covers
    }

    fn read_file(&mut self, file: &Source, cases: &str) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let line = line.trim_start();
            let hidden = DOC_MARKS.iter().find_map(|mark| line.strip_prefix(mark));
            let Some(ids) = hidden.unwrap_or(line).strip_prefix(MARK) else { continue };
            let shown = match hidden {
                Some(_) => Ok(format!("{}:doc test", file.path)),
                None => Self::shown_by(file, &lines, at, cases),
            };
            let shown = match shown {
                Ok(shown) => shown,
                Err(what) => {
                    self.problem(file, at, &what);
                    continue;
                }
            };
            for id in ids.split(',').map(str::trim) {
                if !is_id(id) {
                    self.problem(file, at, &format!("`{id}` is no id"));
                    continue;
                }
                let entry = self.tests.entry(id.to_owned()).or_default();
                entry.push(shown.clone());
            }
        }
    }

    /// The test that a comment stands at, as tables name it.
    fn shown_by(file: &Source, lines: &[&str], at: usize, cases: &str) -> Result<String, String> {
        let whole_file = is_ui_case(&file.path) || (is_head(lines, at) && has_tests(file));
        if whole_file {
            return Ok(file.path.clone());
        }
        let (test, attributed) = test_at(lines, at).ok_or("stands at no test")?;
        let in_suite = file.path.starts_with(SUITES) && names(cases, &test);
        if attributed || in_suite {
            Ok(format!("{}:{test}", file.path))
        } else {
            Err(format!("stands at `{test}`, which is no test and in no suite"))
        }
    }

    fn problem(&mut self, file: &Source, at: usize, what: &str) {
        let text = format!("the comment `covers` {what}");
        self.problems.push((file.path.clone(), at + 1, text));
    }
}

/// Files that a compile test feeds to the compiler whole.
fn is_ui_case(path: &str) -> bool {
    path.contains("/tests/ui/")
}

/// Whether only comments stand before a line and a gap follows it.
fn is_head(lines: &[&str], at: usize) -> bool {
    let before = lines.get(..at).unwrap_or_default();
    let comments = |line: &&str| line.trim().is_empty() || line.starts_with("//");
    before.iter().all(comments) && lines.get(at + 1).is_none_or(|next| next.trim().is_empty())
}

fn has_tests(file: &Source) -> bool {
    file.text.lines().any(|line| is_test_attribute(line) || line.contains("_suite!("))
}

/// The text of the suite macros, where each case must be named.
fn suite_cases(tree: &Tree) -> String {
    tree.under(SUITES)
        .filter(|file| file.text.contains("macro_rules!"))
        .map(|file| file.text.as_str())
        .collect()
}

fn names(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// The test a comment belongs to, and whether an attribute makes it one.
fn test_at(lines: &[&str], at: usize) -> Option<(String, bool)> {
    let is_quiet = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with("//") || line.starts_with("#[")
    };
    let below = (at + 1..lines.len()).find(|next| !lines.get(*next).is_some_and(|l| is_quiet(l)));
    let named = below.and_then(|next| Some((next, function(lines.get(next)?)?)));
    // Else it is the first line of the function around it.
    let (next, name) = named.or_else(|| {
        (0..at).rev().take(4).find_map(|before| Some((before, function(lines.get(before)?)?)))
    })?;
    let attributed = lines
        .get(..next)?
        .iter()
        .rev()
        .take_while(|line| is_quiet(line))
        .any(|line| is_test_attribute(line));
    Some((name, attributed))
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("#[test") || (line.starts_with("#[") && line.contains("::test"))
}

fn function(line: &str) -> Option<String> {
    let (before, rest) = line.split_once("fn ")?;
    if !before.is_empty() && !before.ends_with(' ') {
        return None;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    let name = rest.get(..end)?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether this is an invariant (`S3`, `L1`, `X12`) or a requirement (`R1-29`).
pub(crate) fn is_id(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut letters = text.chars();
    match (letters.next(), letters.as_str()) {
        (Some('S' | 'L' | 'X'), rest) => digits(rest),
        (Some('R'), rest) => {
            rest.split_once('-').is_some_and(|(system, row)| digits(system) && digits(row))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Covers, MARK, is_id};
    use crate::tree::{Source, Tree};
    use std::path::PathBuf;

    fn read(path: &str, body: &str) -> Covers {
        let text = body.replace("@", MARK);
        let files = vec![
            Source { path: path.to_owned(), text },
            Source {
                path: "provision-testkit/src/suite.rs".to_owned(),
                text: "macro_rules! suite { () => { a_case, } }".to_owned(),
            },
        ];
        Covers::read(&Tree { root: PathBuf::new(), files })
    }

    #[test]
    fn comments_above_and_inside_a_test_are_found() {
        let above = read("a.rs", "@ S1, R1-02\n#[test]\nfn holds() {\n}\n");
        assert_eq!(above.tests["R1-02"], ["a.rs:holds"]);
        let between = read("a.rs", "#[tokio::test]\n@ S1\nasync fn holds() {\n}\n");
        assert_eq!(between.tests["S1"], ["a.rs:holds"]);
        let inside = read("a.rs", "#[test]\nfn holds() {\n    @ S1\n    let a = 1;\n}\n");
        assert_eq!(inside.tests["S1"], ["a.rs:holds"]);
    }

    #[test]
    fn a_comment_at_the_head_speaks_for_the_file() {
        let covers = read("a.rs", "//! Cases.\n@ L1\n\nkit::store_suite!(memory);\n");
        assert_eq!(covers.tests["L1"], ["a.rs"]);
        let covers = read("a.rs", "//! ```\n//! # @ R1-92\n//! let one = 1;\n//! ```\n");
        assert_eq!(covers.tests["R1-92"], ["a.rs:doc test"]);
        assert_eq!(read("a.rs", "//! Cases.\n@ L1\n\nfn a() {\n}\n").problems.len(), 1);
    }

    #[test]
    fn a_comment_that_shows_nothing_is_a_problem() {
        for body in ["@ S1\nfn no_test() {\n}\n", "@ Q1\n#[test]\nfn holds() {\n}\n", "@ S1\n"] {
            let covers = read("a.rs", body);
            assert!(covers.tests.is_empty() && covers.problems.len() == 1, "{body}: {covers:?}");
        }
    }

    #[test]
    fn a_case_counts_only_when_a_suite_names_it() {
        let path = "provision-testkit/src/conformance/a.rs";
        assert_eq!(read(path, "@ S1\npub async fn a_case() {\n}\n").tests.len(), 1);
        assert!(read(path, "@ S1\npub async fn forgotten() {\n}\n").tests.is_empty());
    }

    #[test]
    fn ids_are_told_from_words() {
        assert!(is_id("S3") && is_id("X12") && is_id("R1-29"));
        assert!(!is_id("S") && !is_id("R1") && !is_id("Safety") && !is_id(""));
    }
}
