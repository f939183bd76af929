//! Bans, licences and sources by `deny.toml`.
//!
//! `cargo deny` does it where it is installed, advisories too. Where it is not, this small reader
//! of the same file checks all but the advisories, and that is said aloud.

use std::{fs, process::Stdio};

use super::{Verify, licence};
use crate::{Outcome, command, metadata::Package};

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
}

pub(super) fn check(verify: &mut Verify) -> Outcome {
    let path = verify.root.join("deny.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("deny.toml: {error}"))?;
    let policy = Policy::parse(&text);
    let packages = verify.metadata.packages.iter();
    let mut problems: Vec<String> = packages.flat_map(|package| policy.problems(package)).collect();
    for ban in &policy.bans {
        problems.extend(ban.broken_by(&users(verify, &ban.name)?));
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    if !is_installed(verify) {
        verify.notices.push("advisories (cargo-deny is not installed)".to_owned());
        return Ok(());
    }
    let args = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    verify.expect("deny", &mut verify.cargo(&args))?;
    advisories(verify)
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
    use super::{PUBLIC_REGISTRY, Policy, read_users};
    use crate::metadata::Package;

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

    #[test]
    fn users_are_read_and_a_strange_output_is_no_proof() {
        let output = "ring v0.17.0\nrustls v0.23.0\nouter v0.1.0 (/somewhere)\n";
        assert_eq!(read_users(output, "ring").unwrap(), ["rustls", "outer"]);
        assert!(read_users("warning: nothing to print.\n", "ring").unwrap().is_empty());
        assert!(read_users("ring v0.17.0\nring feature \"std\"\n", "ring").is_err());
    }
}
