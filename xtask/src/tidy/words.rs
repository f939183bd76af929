//! Words that have no place here: unfinished work, somebody's machine, how the code came to be.

use super::Report;
use crate::tree::{Source, Tree};

/// A word, why it is refused, and where it means something else.
struct Forbidden {
    word: &'static str,
    why: &'static str,
    /// Parts of paths where it is a word of the trade, reviewed.
    except: &'static [&'static str],
}

const UNFINISHED: &str = "finish it, or write it into docs/decisions/gaps.md";
const MACHINE: &str = "a path of somebody's machine";
const STORY: &str = "the project speaks of itself alone";

const FORBIDDEN: [Forbidden; 16] = [
    Forbidden { word: "TODO", why: UNFINISHED, except: &[] },
    Forbidden { word: "FIXME", why: UNFINISHED, except: &[] },
    Forbidden { word: "XXX", why: UNFINISHED, except: &[] },
    Forbidden { word: "HACK", why: UNFINISHED, except: &[] },
    Forbidden { word: "/work/", why: MACHINE, except: &[] },
    Forbidden { word: "/root/", why: MACHINE, except: &[] },
    // The store reads tables of mounts, and its tests hold one.
    Forbidden { word: "/home/", why: MACHINE, except: &["provision-store-sqlite/src/place.rs"] },
    Forbidden { word: "/Users/", why: MACHINE, except: &[] },
    Forbidden { word: "C:\\", why: MACHINE, except: &[] },
    Forbidden { word: "/tmp/", why: MACHINE, except: &[] },
    // A word of PostgreSQL, so it stays where SQL is spoken.
    Forbidden { word: "session", why: STORY, except: &["/supabase/", ".sql", "store-postgres"] },
    Forbidden { word: "sessions", why: STORY, except: &["/supabase/", ".sql", "store-postgres"] },
    Forbidden { word: "chatbot", why: STORY, except: &[] },
    Forbidden { word: "LLM", why: STORY, except: &[] },
    Forbidden { word: "subagent", why: STORY, except: &[] },
    Forbidden { word: "the brief", why: STORY, except: &[] },
];

/// Numbered references to places outside the project, as in "issue 2".
const NUMBERED: [&str; 3] = ["issue", "ticket", "milestone"];

const NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "types", "misc"];

/// This file has to name what it refuses.
const SELF: &str = "xtask/src/tidy/words.rs";

pub(super) fn forbidden(tree: &Tree, report: &mut Report) {
    for file in tree.files.iter().filter(|file| file.path != SELF && !is_data(file)) {
        for (at, line) in file.lines() {
            for rule in &FORBIDDEN {
                let excepted = rule.except.iter().any(|part| file.path.contains(part));
                let found = if rule.why == STORY {
                    told(file, line).any(|part| holds(part, rule.word))
                } else {
                    holds(line, rule.word)
                };
                if found && !excepted {
                    report.refuse(&file.path, at, format!("`{}`: {}", rule.word, rule.why));
                }
            }
            if let Some(word) = NUMBERED.iter().find(|word| numbered(line, word)) {
                report.refuse(&file.path, at, format!("a numbered `{word}`: {STORY}"));
            }
        }
    }
}

/// What a line tells a reader: in code its comment, elsewhere all of it, without what stands
/// between backticks. A variable may be called what it likes.
fn told<'l>(file: &Source, line: &'l str) -> impl Iterator<Item = &'l str> {
    let text =
        if file.is("rs") { line.split_once("//").map_or("", |(_, told)| told) } else { line };
    text.split('`').step_by(2)
}

/// Recorded provider data and notices of law are not our words.
fn is_data(file: &Source) -> bool {
    file.is("json") || file.path.contains("/golden/") || file.path.starts_with("LICENSE")
}

/// Whether a line holds the word by itself; identifiers that contain it do not count.
fn holds(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (opens, closes) = (part(word.chars().next()), part(word.chars().last()));
    line.match_indices(word).any(|(at, found)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + found.len()..).and_then(|text| text.chars().next());
        !(opens && part(before) || closes && part(after))
    })
}

fn numbered(line: &str, word: &str) -> bool {
    let line = line.to_lowercase();
    line.match_indices(word).any(|(at, found)| {
        let rest = line.get(at + found.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(' ').map(|rest| rest.strip_prefix('#').unwrap_or(rest));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

pub(super) fn names(tree: &Tree, report: &mut Report) {
    for file in &tree.files {
        let mut parts = file.path.split('/');
        let found = parts.find(|part| {
            let stem = part.split_once('.').map_or(*part, |(stem, _)| stem);
            NAMES.contains(&stem)
        });
        // In a model of SQL, types are a subject and not a drawer.
        let found = found.filter(|name| *name != "types.rs" || !file.path.contains("/sql/"));
        if let Some(name) = found {
            report.refuse(&file.path, 0, format!("`{name}` says nothing about what it holds"));
        }
    }
}

pub(super) fn ignored_tests(tree: &Tree, report: &mut Report) {
    let marks = [concat!("#[ig", "nore"), concat!("```ig", "nore"), concat!("```rust,ig", "nore")];
    for file in &tree.files {
        for (at, line) in file.lines() {
            if marks.iter().any(|mark| line.contains(mark)) {
                report.refuse(&file.path, at, "every test and every example runs");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{forbidden, ignored_tests, names};
    use crate::tidy::testing::{apply, lines};

    #[test]
    fn words_are_refused_and_identifiers_are_not() {
        let text = "// TODO\nlet session = 1;\n// this session\n/home/me/x\nAMQP://homes/\n";
        assert_eq!(lines(&apply(forbidden, &[("a.rs", text)])), [1, 3, 4]);
        assert_eq!(
            lines(&apply(
                forbidden,
                &[("a.md", "session_user\nthis session\n`session.rs` here\n")]
            )),
            [2]
        );
        assert!(apply(forbidden, &[("a/supabase/b.rs", "// a session")]).problems.is_empty());
    }

    #[test]
    fn numbered_references_are_refused() {
        let text = "see issue 2\nan issue with 2\nIssue #14\nissued 3\n";
        assert_eq!(lines(&apply(forbidden, &[("a.md", text)])), [1, 3]);
    }

    #[test]
    fn empty_names_are_refused_for_files_and_folders() {
        let files = [("src/util.rs", ""), ("src/common/a.rs", ""), ("src/utility.rs", "")];
        assert_eq!(apply(names, &files).problems.len(), 2);
    }

    #[test]
    fn tests_that_do_not_run_are_refused() {
        let text = concat!("#[ig", "nore = \"slow\"]\n/// ```ig", "nore\n/// ```\n");
        assert_eq!(lines(&apply(ignored_tests, &[("a.rs", text)])), [1, 2]);
    }
}
