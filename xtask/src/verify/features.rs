//! Every feature of every library alone, none, and all together.
//!
//! By clippy, which builds what `cargo check` builds and keeps our own warnings out; the calls
//! share one target folder, so only what a feature changes is built again.

use super::Verify;
use crate::{Outcome, metadata::Metadata};

pub(super) fn check(verify: &mut Verify) -> Outcome {
    let mut combinations: Vec<(String, String)> = Vec::new();
    let libraries = verify.metadata.members().filter(|member| member.has_library);
    // Examples have features too, which only pass on those of the libraries.
    for library in libraries.filter(|member| member.name.starts_with("provision-")) {
        let named: Vec<&str> = named(&library.features).collect();
        if named.is_empty() {
            continue;
        }
        combinations.push((library.name.clone(), String::new()));
        combinations.extend(named.iter().map(|one| (library.name.clone(), (*one).to_owned())));
        combinations.push((library.name.clone(), named.join(",")));
    }
    let mut failures = String::new();
    for (library, features) in combinations {
        let args = ["clippy", "-p", &library, "--lib", "--locked", "--no-default-features"];
        let mut command = verify.cargo(&args);
        command.args(["--features", &features, "--", "-D", "warnings"]);
        let name = format!("features-{library}-{}", features.replace(',', "-"));
        if let Err(output) = verify.expect(&name, &mut command) {
            failures.push_str(&format!("{library} with features [{features}]:\n{output}\n"));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn named(features: &[String]) -> impl Iterator<Item = &str> {
    features.iter().map(String::as_str).filter(|name| *name != "default")
}

/// All features of all members, as one value of `--features`, but for some.
pub(super) fn every(metadata: &Metadata, but: &[&str]) -> String {
    let all = metadata.members().flat_map(|member| {
        named(&member.features).map(move |feature| format!("{}/{feature}", member.name))
    });
    all.filter(|feature| !but.contains(&feature.as_str())).collect::<Vec<_>>().join(",")
}
