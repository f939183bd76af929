//! Bans, licences and sources by `deny.toml`, and no unsafe code of our own.
//!
//! `cargo deny` does it where it is installed, advisories too. Where it is not, this small reader
//! of the same file checks all but the advisories, and that is said aloud.

use std::{fs, process::Stdio};

use super::{Verify, licence};
use crate::{Outcome, command, metadata::Package, tree::Tree};

const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A crate nobody may use, but for some.
#[derive(Debug, PartialEq, Eq)]
struct Ban {
    name: String,
    wrappers: Vec<String>,
}

/// What `deny.toml` says, as far as it is read here.
#[derive(Debug, Default)]
struct Policy {
    licences: Vec<String>,
    /// Licences of single crates.
    exceptions: Vec<(String, Vec<String>)>,
    bans: Vec<Ban>,
    /// Advisories that are known and let pass.
    ignored: Vec<String>,
}

pub(super) fn check(verify: &mut Verify) -> Outcome {
    rules(verify)?;
    if !is_installed(verify) {
        verify.notices.push("advisories (cargo-deny is not installed)".to_owned());
        return Ok(());
    }
    let args = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    verify.expect("deny", &mut verify.cargo(&args))?;
    advisories(verify)
}

/// X13: all that can be told without other programs and their data.
fn rules(verify: &Verify) -> Outcome {
    let path = verify.root.join("deny.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("deny.toml: {error}"))?;
    let policy = Policy::parse(&text);
    let packages = verify.metadata.packages.iter();
    let mut problems: Vec<String> = packages.flat_map(|package| policy.problems(package)).collect();
    for ban in &policy.bans {
        problems.extend(ban.broken_by(&users(verify, &ban.name)?));
    }
    problems.extend(unsafe_allowed(&Tree::read(&verify.root)?));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

/// What would let unsafe code in: the workspace does not forbid it, or a crate has other lints. What
/// is forbidden cannot be allowed again in a source.
fn unsafe_allowed(tree: &Tree) -> Vec<String> {
    let manifests = tree.files.iter().filter(|file| file.name() == "Cargo.toml");
    let lets_in = manifests.filter(|file| {
        let (section, line) = match file.path.as_str() {
            "Cargo.toml" => ("[workspace.lints.rust]", "unsafe_code = \"forbid\""),
            _ => ("[lints]", "workspace = true"),
        };
        let below = file.text.lines().skip_while(|line| line.trim() != section).skip(1);
        let mut own = below.take_while(|line| !line.trim_start().starts_with('['));
        !own.any(|own| own.trim() == line)
    });
    lets_in.map(|file| format!("{}: unsafe code is not forbidden there", file.path)).collect()
}

/// Who depends on a crate, in any way, on any platform, with all features.
///
/// Asked of `cargo tree`: the graph of `cargo metadata` also follows features that are weak and
/// off, and shows crates that no build has.
fn users(verify: &Verify, name: &str) -> Outcome<Vec<String>> {
    let mut command = verify.cargo(&["tree", "--locked", "--workspace", "--all-features"]);
    command.args(["--target", "all", "-e", "normal,build,dev", "--prefix", "none", "--depth", "1"]);
    let done = verify.finish(&format!("users-of-{name}"), command.args(["-i", name]))?;
    if !done.success {
        let absent = done.output.contains("did not match any packages");
        return if absent { Ok(Vec::new()) } else { Err(done.output) };
    }
    read_users(&done.output, name)
}

/// Reads the names below the first; a crate that is there without a user means that the form of
/// the output is not the one known here, and is no proof of anything.
fn read_users(output: &str, name: &str) -> Outcome<Vec<String>> {
    let lines = output.lines().filter_map(|line| line.split_once(' '));
    let named = lines.filter(|(_, rest)| rest.starts_with('v')).map(|(found, _)| found);
    let (own, users): (Vec<&str>, Vec<&str>) = named.partition(|found| *found == name);
    if !own.is_empty() && users.is_empty() {
        return Err(format!("{name} is there, and nobody seems to use it:\n{output}"));
    }
    Ok(users.into_iter().map(str::to_owned).collect())
}

fn is_installed(verify: &Verify) -> bool {
    let mut command = command::cargo(&verify.root);
    command.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn advisories(verify: &mut Verify) -> Outcome {
    let done = verify.finish("advisories", &mut verify.cargo(&["deny", "check", "advisories"]))?;
    // Without its database it cannot judge, which is no verdict on the tree.
    let unreachable = ["failed to fetch", "failed to load", "unable to fetch", "failed to open"];
    match (done.success, unreachable.iter().any(|words| done.output.contains(words))) {
        (true, _) => Ok(()),
        (false, true) => {
            verify.notices.push("advisories (their database cannot be reached)".to_owned());
            Ok(())
        }
        (false, false) => Err(done.output),
    }
}

impl Ban {
    fn broken_by(&self, users: &[String]) -> Vec<String> {
        let refused = users.iter().filter(|user| !self.wrappers.contains(user));
        refused.map(|user| format!("{} is banned, and {user} uses it", self.name)).collect()
    }
}

impl Policy {
    fn parse(text: &str) -> Self {
        let mut policy = Self::default();
        let (mut section, mut list) = (String::new(), String::new());
        for line in text.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                list.clear();
                continue;
            }
            if let Some((key, _)) = line.split_once(" = [").filter(|_| !line.starts_with('{')) {
                key.clone_into(&mut list);
            }
            policy.read(&section, &list, line);
        }
        policy
    }

    fn read(&mut self, section: &str, list: &str, line: &str) {
        let quoted: Vec<String> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        match (section, list, quoted.split_first()) {
            ("licenses", "allow", Some(_)) => self.licences.extend(quoted),
            ("licenses", "exceptions", Some((name, licences))) => {
                self.exceptions.push((name.clone(), licences.to_vec()));
            }
            ("bans", "deny", Some((name, wrappers))) => {
                self.bans.push(Ban { name: name.clone(), wrappers: wrappers.to_vec() });
            }
            ("advisories", "ignore", Some((id, _))) => self.ignored.push(id.clone()),
            _ => {}
        }
    }

    fn problems(&self, package: &Package) -> Vec<String> {
        let mut problems = Vec::new();
        let named = format!("{} {}", package.name, package.version);
        if package.source.as_ref().is_some_and(|source| source != PUBLIC_REGISTRY) {
            problems.push(format!("{named} comes from an unknown source"));
        }
        if package.source.is_none() && !package.member {
            problems.push(format!("{named} is a path outside the workspace"));
        }
        match &package.licence {
            Some(licence) if self.allows(&package.name, licence) => {}
            Some(licence) => problems.push(format!("{named} is licensed as {licence}")),
            None => problems.push(format!("{named} names no licence")),
        }
        problems
    }

    fn allows(&self, name: &str, expression: &str) -> bool {
        licence::holds(expression, &|licence| {
            let excepted = self.exceptions.iter().filter(|(package, _)| package == name);
            self.licences.iter().chain(excepted.flat_map(|(_, own)| own)).any(|one| one == licence)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::{Lane, Verify};
    use super::{Ban, PUBLIC_REGISTRY, Policy, read_users, rules, unsafe_allowed};
    use crate::{
        metadata::Package,
        tree::{Source, Tree},
    };

    const TEXT: &str = r#"
[licenses]
allow = [
    "MIT",
    "Apache-2.0", # both ours
]
exceptions = [
    { crate = "odd", allow = ["Zlib"] },
]

[bans]
deny = [
    { crate = "ring" },
    { crate = "backoff", wrappers = ["provision-core"] },
]
"#;

    fn problems(name: &str, licence: &str, source: &str) -> usize {
        let package = Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: Some(licence.to_owned()),
            source: Some(source.to_owned()),
            features: Vec::new(),
            member: false,
            has_library: true,
        };
        Policy::parse(TEXT).problems(&package).len()
    }

    #[test]
    fn licences_and_sources_are_refused_each_on_its_own() {
        assert_eq!(problems("serde", "MIT OR Apache-2.0", PUBLIC_REGISTRY), 0);
        assert_eq!(problems("odd", "Zlib", PUBLIC_REGISTRY), 0);
        assert_eq!(problems("serde", "Zlib", PUBLIC_REGISTRY), 1);
        assert_eq!(problems("serde", "MIT", "git+https://example.org/fork"), 1);
    }

    #[test]
    fn a_banned_crate_is_refused_but_for_its_wrappers() {
        let policy = Policy::parse(TEXT);
        let broken = |name: &str, user: &str| {
            let ban = policy.bans.iter().find(|ban| ban.name == name).unwrap();
            ban.broken_by(&[user.to_owned()]).len()
        };
        assert_eq!(broken("backoff", "provision-core"), 0);
        assert_eq!(broken("backoff", "provision-adapters"), 1);
        assert_eq!(broken("ring", "provision-core"), 1);
    }

    /// The workspace that this crate belongs to.
    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
    }

    // covers: X13
    #[test]
    fn this_workspace_is_safe_and_nothing_in_it_is_banned_or_from_elsewhere() {
        let verify = Verify::new(&root(), Lane::Quick, false).unwrap();
        rules(&verify).unwrap();
        assert!(verify.metadata.packages.iter().filter(|package| package.member).count() >= 16);
        let policy = Policy::parse(&std::fs::read_to_string(root().join("deny.toml")).unwrap());
        // Unmaintained: each behind the one feature alone, and no other is let pass.
        for (name, wrapper) in [("backoff", "provision-core"), ("instant", "backoff")] {
            let ban = Ban { name: name.to_owned(), wrappers: vec![wrapper.to_owned()] };
            assert!(policy.bans.contains(&ban), "{name}");
        }
        assert_eq!(policy.ignored, ["RUSTSEC-2025-0012", "RUSTSEC-2024-0384"]);
    }

    // covers: X13
    #[test]
    fn a_crate_that_takes_no_lints_and_a_workspace_that_forbids_less_are_told() {
        let tree = |root: &str, member: &str| {
            let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
            let files = vec![file("Cargo.toml", root), file("one/Cargo.toml", member)];
            Tree { root: PathBuf::new(), files }
        };
        let forbids = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
        let takes = "[package]\nname = \"one\"\n\n[lints]\nworkspace = true\n";
        assert!(unsafe_allowed(&tree(forbids, takes)).is_empty());
        let denies = "[workspace.lints.rust]\nunsafe_code = \"deny\"\n";
        assert_eq!(unsafe_allowed(&tree(denies, takes)).len(), 1);
        let other = "[lints.rust]\nmissing_docs = \"warn\"\n[workspace]\nworkspace = true\n";
        assert_eq!(unsafe_allowed(&tree(forbids, other)).len(), 1);
        assert_eq!(unsafe_allowed(&tree("[workspace]\n", "[package]\n")).len(), 2);
    }

    #[test]
    fn users_are_read_and_a_strange_output_is_no_proof() {
        let output = "ring v0.17.0\nrustls v0.23.0\nouter v0.1.0 (/somewhere)\n";
        assert_eq!(read_users(output, "ring").unwrap(), ["rustls", "outer"]);
        assert!(read_users("warning: nothing to print.\n", "ring").unwrap().is_empty());
        assert!(read_users("ring v0.17.0\nring feature \"std\"\n", "ring").is_err());
    }
}
