//! Pages: links lead somewhere, and examples show more than they hide.

use super::Report;
use crate::tree::{Source, Tree};

pub(super) fn links(tree: &Tree, report: &mut Report) {
    for page in tree.files.iter().filter(|file| file.is("md")) {
        for (at, line) in page.lines() {
            for target in targets(line) {
                let path = resolve(&page.path, target);
                if !tree.exists(&path) {
                    report.refuse(&page.path, at, format!("`{target}` leads nowhere"));
                } else if let Some(test) = named_test(line, target)
                    && !tree
                        .get(&path)
                        .is_some_and(|file| file.text.contains(&format!("fn {test}(")))
                {
                    report.refuse(&page.path, at, format!("`{path}` has no test `{test}`"));
                }
            }
        }
    }
}

/// Relative targets of the links in a line, without their anchors.
pub(super) fn targets(line: &str) -> impl Iterator<Item = &str> {
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    linked.map(|(target, _)| target.split('#').next().unwrap_or_default()).filter(|target| {
        !target.is_empty()
            && !target.contains("://")
            && !target.starts_with("mailto:")
            && !target.contains("::")
            && !target.starts_with("crate")
    })
}

/// A link whose text is a test's name in backticks promises that the test is in that file.
fn named_test<'l>(line: &'l str, target: &str) -> Option<&'l str> {
    let before = line.split(&format!("]({target}")).next()?;
    let (_, text) = before.rsplit_once('[')?;
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    let is_name = name.contains('_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    (is_name && target.ends_with(".rs")).then_some(name)
}

pub(super) fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

pub(super) fn code_blocks(tree: &Tree, report: &mut Report) {
    let compiled = |file: &&Source| file.is("md") && matches!(file.name(), "README.md" | "docs.md");
    for page in tree.files.iter().filter(compiled) {
        let mut block: Option<(usize, usize, usize)> = None;
        for (at, line) in page.lines() {
            match (&mut block, line.trim_start().starts_with("```")) {
                (None, true) if is_rust(line) => block = Some((at, 0, 0)),
                (None, _) => {}
                (Some((start, hidden, shown)), true) => {
                    if hidden > shown {
                        let text = format!("{hidden} lines are hidden, {shown} are shown");
                        report.refuse(&page.path, *start, text);
                    }
                    block = None;
                }
                (Some((_, hidden, shown)), false) => {
                    let is_hidden = line == "#" || line.starts_with("# ");
                    *(if is_hidden { hidden } else { shown }) += 1;
                }
            }
        }
    }
}

pub(super) fn is_rust(fence: &str) -> bool {
    let word = fence.trim_start().trim_start_matches('`');
    word.is_empty() || word.starts_with("rust")
}

#[cfg(test)]
mod tests {
    use super::{code_blocks, links, named_test, resolve, targets};
    use crate::tidy::testing::{apply, lines};

    #[test]
    fn targets_are_found_and_resolved() {
        let line = "see [a](../b.md#c), [d](https://e.f) and [g](h/i.rs)";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["../b.md", "h/i.rs"]);
        assert_eq!(resolve("docs/guide/x.md", "../b.md"), "docs/b.md");
        assert_eq!(lines(&apply(links, &[("a.md", "ok\n[x](nowhere.md)\n")])), [2]);
    }

    #[test]
    fn a_linked_test_must_be_in_its_file() {
        assert_eq!(named_test("[`it_holds`](a.rs)", "a.rs"), Some("it_holds"));
        assert_eq!(named_test("[it holds](a.rs)", "a.rs"), None);
        assert_eq!(named_test("[`Saga`](a.rs)", "a.rs"), None);
    }

    #[test]
    fn examples_show_more_than_they_hide() {
        let hidden = "text\n```rust\n# a\n# b\nc\n```\n";
        assert_eq!(lines(&apply(code_blocks, &[("README.md", hidden)])), [2]);
        let shown = "```\n# a\nb\n```\n```text\n# a\n```\n";
        assert!(apply(code_blocks, &[("README.md", shown)]).problems.is_empty());
    }
}
