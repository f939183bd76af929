//! Commands that pages tell people to type: they name packages and parts of this tool that exist.

use super::Report;
use crate::{USAGE, tree::Tree};

pub(super) fn exist(tree: &Tree, report: &mut Report) {
    let packages: Vec<&str> = tree
        .files
        .iter()
        .filter(|file| file.name() == "Cargo.toml")
        .flat_map(|file| file.text.lines())
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    for page in tree.files.iter().filter(|file| file.is("md")) {
        for (at, line) in page.lines() {
            for command in line.split("cargo ").skip(1) {
                if let Some(wrong) = wrong(command, &packages) {
                    report.refuse(&page.path, at, wrong);
                }
            }
        }
    }
}

fn wrong(command: &str, packages: &[&str]) -> Option<String> {
    let end = |c: char| c == '`' || c == '#' || c == '|' || c == ';' || c == ',';
    let command = command.split(end).next().unwrap_or_default();
    let mut words = command.split_whitespace();
    let first = words.next()?;
    if first == "xtask" {
        let name = words.next()?;
        let known = USAGE.lines().any(|line| line.starts_with(&format!("cargo xtask {name}")));
        return (!known).then(|| format!("there is no `cargo xtask {name}`"));
    }
    let after = |flag: &str| {
        let found = words.clone().skip_while(|word| *word != flag).nth(1);
        found.map(|name| name.trim_end_matches(['.', ')', ':']))
    };
    let package = after("-p").or_else(|| after("--package"))?;
    let known = packages.contains(&package) || package.chars().all(|c| c.is_ascii_uppercase());
    (!known).then(|| format!("there is no package `{package}`"))
}

#[cfg(test)]
mod tests {
    use super::wrong;

    #[test]
    fn commands_are_compared_with_what_is_there() {
        let packages = ["client-onboarding"];
        let good = [
            "run -p client-onboarding -- --plan",
            "xtask verify` is the one",
            "test -p CRATE",
            "check",
        ];
        for command in good {
            assert_eq!(wrong(command, &packages), None, "{command}");
        }
        assert!(wrong("run -p elsewhere", &packages).is_some());
        assert!(wrong("xtask dance --quick", &packages).is_some());
    }
}
