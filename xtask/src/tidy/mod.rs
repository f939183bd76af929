//! The house rules that no compiler knows, each a small function over the files.

mod claims;
mod commands;
mod pages;
mod quotes;
mod rooms;
mod sizes;
mod words;

use std::{fmt, path::Path};

use crate::{Outcome, tree::Tree};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    /// From 1; 0 means the file as a whole.
    line: usize,
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// What all rules found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    notes: Vec<String>,
}

impl Report {
    fn refuse(&mut self, path: &str, line: usize, text: impl Into<String>) {
        self.problems.push(Problem::new(path, line, text));
    }

    fn warn(&mut self, path: &str, line: usize, text: impl Into<String>) {
        self.warnings.push(Problem::new(path, line, text));
    }

    /// Prints what does not stop a landing.
    pub(crate) fn print_warnings(&self) {
        for warning in &self.warnings {
            println!("        warning: {warning}");
        }
        for note in &self.notes {
            println!("        {note}");
        }
    }

    /// Turns the problems, if any, into one failure.
    pub(crate) fn into_outcome(mut self) -> Outcome {
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort();
        self.problems.dedup();
        let lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        Err(format!("{}\ntidy: {} problems", lines.join("\n"), lines.len()))
    }
}

type Rule = fn(&Tree, &mut Report);

const RULES: [Rule; 15] = [
    sizes::files,
    words::forbidden,
    words::names,
    words::ignored_tests,
    rooms::adapters,
    rooms::stores,
    rooms::manifests,
    rooms::test_binaries,
    pages::links,
    pages::code_blocks,
    quotes::compiled,
    commands::exist,
    claims::tables,
    claims::promises,
    claims::states,
];

/// Applies every rule.
pub(crate) fn report(root: &Path) -> Outcome<Report> {
    let tree = Tree::read(root)?;
    let mut report = Report::default();
    for rule in RULES {
        rule(&tree, &mut report);
    }
    Ok(report)
}

/// Prints everything and fails when a rule is broken.
pub(crate) fn run(root: &Path) -> Outcome {
    let report = report(root)?;
    report.print_warnings();
    report.into_outcome()?;
    println!("tidy: {} rules are kept", RULES.len());
    Ok(())
}

#[cfg(test)]
mod testing {
    use super::{Report, Rule};
    use crate::tree::{Source, Tree};
    use std::path::PathBuf;

    /// Applies one rule to files that exist only here.
    pub(super) fn apply(rule: Rule, files: &[(&str, &str)]) -> Report {
        let files = files
            .iter()
            .map(|(path, text)| Source { path: (*path).to_owned(), text: (*text).to_owned() });
        let tree = Tree { root: PathBuf::from("/nonexistent"), files: files.collect() };
        let mut report = Report::default();
        rule(&tree, &mut report);
        report
    }

    /// The lines of the problems.
    pub(super) fn lines(report: &Report) -> Vec<usize> {
        report.problems.iter().map(|problem| problem.line).collect()
    }
}
