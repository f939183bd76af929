//! How heavy the trees are, and what must never be in them.

use std::collections::BTreeSet;

use super::{Verify, features};
use crate::Outcome;

/// Crates in the normal tree of the core, itself included.
const CORE_CRATES_MAX: usize = 60;
/// Never in any normal tree: other TLS stacks, and crates with open advisories.
const NEVER: [&str; 6] = ["ring", "openssl-sys", "native-tls", "rsa", "instant", "backoff"];
/// The core opens no socket and speaks no SQL.
const NEVER_IN_CORE: [&str; 6] = ["reqwest", "hyper", "rusqlite", "sqlx", "redis", "socket2"];
/// The one feature that may bring what is unmaintained.
const INTEROP: &str = "provision-core/backoff";

pub(super) fn check(verify: &mut Verify) -> Outcome {
    let core = tree(verify, "tree-core", &["-p", "provision-core"])?;
    println!("        provision-core: {} crates, at most {CORE_CRATES_MAX}", core.len());
    let mut problems = Vec::new();
    if core.len() > CORE_CRATES_MAX {
        let names = core.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        problems.push(format!("provision-core has {} crates in its tree: {names}", core.len()));
    }
    for name in NEVER_IN_CORE.iter().filter(|name| core.contains(**name)) {
        problems.push(format!("provision-core depends on {name}"));
    }
    let features = features::every(&verify.metadata, &[INTEROP]);
    let all = tree(verify, "tree-all", &["--workspace", "--features", &features])?;
    for name in NEVER.iter().filter(|name| all.contains(**name)) {
        problems
            .push(format!("{name} is in the workspace: see `cargo tree --workspace -i {name}`"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn tree(verify: &Verify, name: &str, which: &[&str]) -> Outcome<BTreeSet<String>> {
    let mut command = verify.cargo(&["tree", "--locked", "-e", "normal", "--prefix", "none"]);
    let output = verify.expect(name, command.args(which).args(["--format", "{p}"]))?;
    let found = names(&output);
    // An output in another form must not pass for a tree without anything bad in it.
    if found.contains("provision-core") { Ok(found) } else { Err(output) }
}

/// The names in lines like `serde v1.0.0 (*)`.
fn names(output: &str) -> BTreeSet<String> {
    let named = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        rest.starts_with('v').then(|| name.to_owned())
    };
    output.lines().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn repeats_count_once_and_other_lines_not_at_all() {
        let output = "serde v1.0.0\nserde v1.0.0 (*)\nwarning: something\n\nuuid v1.2.3\n";
        assert_eq!(names(output).into_iter().collect::<Vec<_>>(), ["serde", "uuid"]);
    }
}
