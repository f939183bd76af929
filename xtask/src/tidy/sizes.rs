//! Sizes of files: long ones hide two responsibilities.

use super::Report;
use crate::tree::{Source, Tree};

const WARN: usize = 400;
const STOP: usize = 600;
/// The map must be read in one sitting.
const MAP: (&str, usize) = ("ARCHITECTURE.md", 250);

pub(super) fn files(tree: &Tree, report: &mut Report) {
    let mut warned = 0;
    for file in &tree.files {
        let lines = file.text.lines().count();
        let limit = if file.path == MAP.0 { MAP.1 } else { STOP };
        if !(is_code(file) || file.path == MAP.0) {
            continue;
        }
        if lines > limit {
            report.refuse(&file.path, 0, format!("{lines} lines; split it, {limit} is the limit"));
        } else if lines > WARN {
            warned += 1;
            report.warn(&file.path, 0, format!("{lines} lines; {limit} is the limit"));
        }
    }
    let code = tree.files.iter().filter(|file| is_code(file)).count();
    report.notes.push(format!("{code} code files, {warned} longer than {WARN} lines"));
}

fn is_code(file: &Source) -> bool {
    file.is("rs") || file.is("sql") || file.is("lua") || file.is("sh")
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::tidy::testing::apply;

    #[test]
    fn limits_are_kept() {
        let (long, warned) = ("a\n".repeat(601), "a\n".repeat(600));
        let found = apply(files, &[("a.rs", &long), ("b.rs", &warned), ("c.md", &long)]);
        assert_eq!((found.problems.len(), found.warnings.len()), (1, 1));
    }
}
