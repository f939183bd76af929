//! Code in pages is code that is compiled: as an example of the documentation, or as the quote of a
//! file that is.

use std::collections::BTreeSet;

use super::{
    Report,
    pages::{is_rust, resolve},
};
use crate::tree::{Source, Tree};

/// Stands before a quote in a page, with the path of the quoted file.
const QUOTED: &str = "<!-- quoted from ";
/// Stand around what is quoted in that file.
const BEGIN: &str = "// [quoted: begin]\n";
const END: &str = "// [quoted: end]\n";
/// What lines of code begin with, whatever their block is called.
const CODE: [&str; 6] = ["fn ", "async fn ", "pub fn ", "use ", "impl ", "let "];

/// A block of code in a page.
struct Block<'t> {
    line: usize,
    fence: &'t str,
    /// The path in the comment before it.
    quoted: Option<&'t str>,
    text: String,
}

impl Block<'_> {
    fn is_code(&self) -> bool {
        is_rust(self.fence)
            || self.text.lines().any(|line| CODE.iter().any(|word| line.starts_with(word)))
    }
}

pub(super) fn compiled(tree: &Tree, report: &mut Report) {
    let examples = examples(tree);
    for page in tree.files.iter().filter(|file| file.is("md")) {
        for block in blocks(page) {
            match block.quoted {
                Some(path) => quote(tree, page, &block, path, report),
                None if block.is_code()
                    && !(examples.contains(&page.path) && is_rust(block.fence)) =>
                {
                    let text = format!("nothing compiles this code: quote a file (`{QUOTED}..`)");
                    report.refuse(&page.path, block.line, text);
                }
                None => {}
            }
        }
    }
}

/// Pages whose code the tests of the documentation compile.
fn examples(tree: &Tree) -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    for file in tree.files.iter().filter(|file| file.is("rs")) {
        for line in file.text.lines().filter(|line| line.trim_start().starts_with('#')) {
            let named =
                line.split_once("doc = include_str!(\"").and_then(|(_, rest)| rest.split_once('"'));
            if let Some((path, _)) = named {
                pages.insert(resolve(&file.path, path));
            }
        }
    }
    pages
}

fn blocks(page: &Source) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut before = "";
    for (at, line) in page.lines() {
        match (open.take(), line.trim_start().starts_with("```")) {
            (None, true) => {
                let path = before.strip_prefix(QUOTED).and_then(|rest| rest.strip_suffix(" -->"));
                open = Some(Block { line: at, fence: line, quoted: path, text: String::new() });
            }
            (None, false) => before = line,
            (Some(block), true) => {
                blocks.push(block);
                before = line;
            }
            (Some(mut block), false) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
        }
    }
    blocks
}

/// A quote says what its file says between two marks.
fn quote(tree: &Tree, page: &Source, block: &Block<'_>, path: &str, report: &mut Report) {
    let path = resolve(&page.path, path);
    let Some(file) = tree.get(&path) else {
        return report.refuse(
            &page.path,
            block.line,
            format!("`{path}` is not there to be quoted"),
        );
    };
    let marked = file.text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    // The closing mark may be indented.
    let marked = marked.map(|(text, rest)| (text.trim_end_matches(' '), rest));
    match marked {
        None => report.refuse(&path, 0, format!("{} quotes it, and no marks are in it", page.path)),
        Some((text, _)) if text == block.text => {}
        Some((text, _)) => {
            let differs = text.lines().zip(block.text.lines()).position(|(a, b)| a != b);
            let at =
                differs.unwrap_or_else(|| text.lines().count().min(block.text.lines().count()));
            let line = block.line + 1 + at;
            report.refuse(&page.path, line, format!("`{path}` says something else from here on"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compiled;
    use crate::tidy::testing::{apply, lines};

    const PAGE: &str = "see\n<!-- quoted from tests/a.rs -->\n```rust\nfn a() {}\nfn b() {}\n```\n";

    #[test]
    fn a_quote_is_what_its_file_says() {
        let file = "x\n// [quoted: begin]\nfn a() {}\nfn b() {}\n  // [quoted: end]\ny\n";
        let files = [("b/README.md", PAGE), ("b/tests/a.rs", file)];
        assert!(apply(compiled, &files).problems.is_empty());
        let other = file.replace("fn b", "fn c");
        let report = apply(compiled, &[("b/README.md", PAGE), ("b/tests/a.rs", &other)]);
        assert_eq!(lines(&report), [5]);
        let more = file.replace("  // [quoted: end]", "fn d() {}\n// [quoted: end]");
        let report = apply(compiled, &[("b/README.md", PAGE), ("b/tests/a.rs", &more)]);
        assert_eq!(lines(&report), [6]);
        assert_eq!(lines(&apply(compiled, &[("b/README.md", PAGE)])), [3]);
        let bare = [("b/README.md", PAGE), ("b/tests/a.rs", "fn a() {}\n")];
        assert_eq!(lines(&apply(compiled, &bare)), [0]);
    }

    #[test]
    fn code_that_nothing_compiles_is_refused_by_whatever_name() {
        let page = "```rust\nlet a = 1;\n```\n\n```text\nuse a;\n```\n\n```text\ncargo x\n```\n";
        assert_eq!(lines(&apply(compiled, &[("docs/a.md", page)])), [1, 5]);
        let library = ("src/lib.rs", "#![doc = include_str!(\"../docs/a.md\")]\n");
        assert_eq!(lines(&apply(compiled, &[("docs/a.md", page), library])), [5]);
    }
}
