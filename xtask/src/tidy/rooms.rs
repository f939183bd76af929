//! The shape of crates: the same rooms in every adapter and store, one place for versions, one
//! binary of integration tests.

use std::collections::BTreeSet;

use super::Report;
use crate::tree::Tree;

const ADAPTERS: &str = "provision-adapters/src/";
/// Folders beside the providers that are no provider.
const NO_PROVIDER: [&str; 4] = ["http", "sim", "tools", "webhook"];
/// Each room, under any of its names.
const ADAPTER_ROOMS: [&[&str]; 8] = [
    &["mod.rs"],
    &["config.rs"],
    &["client.rs", "client/mod.rs"],
    &["model.rs"],
    &["error.rs"],
    &["steps.rs", "steps/mod.rs"],
    &["sim.rs", "sim/mod.rs"],
    &["docs.md"],
];
const STORE_ROOMS: [&str; 6] =
    ["src/lib.rs", "src/config.rs", "src/store.rs", "src/queue.rs", "src/rows.rs", "src/docs.md"];

pub(super) fn adapters(tree: &Tree, report: &mut Report) {
    let providers: BTreeSet<&str> = tree
        .under(ADAPTERS)
        .filter_map(|file| file.path.strip_prefix(ADAPTERS)?.split_once('/'))
        .map(|(folder, _)| folder)
        .filter(|folder| !NO_PROVIDER.contains(folder))
        .collect();
    for provider in providers {
        let folder = format!("{ADAPTERS}{provider}/");
        for room in ADAPTER_ROOMS {
            if !room.iter().any(|name| tree.get(&format!("{folder}{name}")).is_some()) {
                report.refuse(&folder, 0, format!("the adapter has no {}", room.join(" or ")));
            }
        }
        no_waiting(tree, &folder, report);
    }
}

/// An adapter never sleeps and never repeats: both belong to the engine.
fn no_waiting(tree: &Tree, folder: &str, report: &mut Report) {
    let simulator = format!("{folder}sim");
    let own = tree.under(folder).filter(|file| file.is("rs") && !file.path.starts_with(&simulator));
    for file in own {
        for (at, line) in file.lines() {
            if line.contains("sleep(") || line.contains("tokio::time::interval") {
                report.refuse(&file.path, at, "an adapter never waits: answer `NotYet`");
            }
        }
    }
}

pub(super) fn stores(tree: &Tree, report: &mut Report) {
    let stores: BTreeSet<&str> = tree
        .files
        .iter()
        .filter_map(|file| file.path.split_once('/'))
        .map(|(folder, _)| folder)
        .filter(|folder| folder.starts_with("provision-store-"))
        .collect();
    for store in stores {
        for room in STORE_ROOMS {
            if tree.get(&format!("{store}/{room}")).is_none() {
                report.refuse(store, 0, format!("the store has no {room}"));
            }
        }
        // A store speaks SQL, with migrations, or it sends scripts.
        let keeps = |kind: &str, folder: &str| {
            tree.under(store).any(|file| file.is(kind) && file.path.contains(folder))
        };
        if keeps("lua", "lua/") {
            continue;
        }
        for folder in ["sql/", "migrations/"] {
            if !keeps("sql", folder) {
                report.refuse(store, 0, format!("the store keeps no .sql files in {folder}"));
            }
        }
    }
}

pub(super) fn manifests(tree: &Tree, report: &mut Report) {
    let manifests = tree.files.iter().filter(|file| file.name() == "Cargo.toml");
    for file in manifests.filter(|file| file.path != "Cargo.toml") {
        for (at, line) in file.lines() {
            if names_a_version(line) {
                report.refuse(&file.path, at, "versions are written in the root manifest only");
            }
        }
        if !file.text.contains("[lints]\nworkspace = true") {
            report.refuse(&file.path, 0, "does not take the workspace's lints");
        }
        let folder = file.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let listed =
            tree.get("Cargo.toml").is_some_and(|root| root.text.contains(&format!("\"{folder}\"")));
        if !listed {
            report.refuse(&file.path, 0, "is no member of the workspace");
        }
    }
}

fn names_a_version(line: &str) -> bool {
    let line = line.trim();
    let digit = |text: &str| {
        let text = text.trim_start_matches(['^', '=', '>', '<', '~', ' ']);
        text.starts_with(|c: char| c.is_ascii_digit())
    };
    let values = line.split("version = \"").skip(1).any(digit);
    // `name = "1.0"`, the short form of a dependency.
    let short = line.split_once(" = \"").is_some_and(|(key, value)| {
        !key.contains([' ', '{', '[']) && key != "version" && digit(value)
    });
    !line.starts_with('#') && (values || short)
}

pub(super) fn test_binaries(tree: &Tree, report: &mut Report) {
    for file in tree.files.iter().filter(|file| file.is("rs")) {
        let Some((_, rest)) = file.path.split_once("/tests/") else { continue };
        if !file.path.contains("/src/") && !rest.contains('/') {
            report.refuse(&file.path, 0, "one test binary a crate: move it to tests/it/");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADAPTER_ROOMS, adapters, manifests, names_a_version, stores, test_binaries};
    use crate::tidy::testing::{apply, lines};

    #[test]
    fn an_adapter_without_a_room_is_refused() {
        let files: Vec<String> = ADAPTER_ROOMS
            .iter()
            .map(|room| format!("provision-adapters/src/cloud/{}", room.last().unwrap()))
            .collect();
        let all: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "")).collect();
        assert!(apply(adapters, &all).problems.is_empty());
        assert_eq!(apply(adapters, &all[1..]).problems.len(), 1);
        assert!(apply(adapters, &[("provision-adapters/src/http/a.rs", "")]).problems.is_empty());
    }

    #[test]
    fn an_adapter_that_waits_is_refused() {
        let text = "a\ntokio::time::sleep(d).await;\n";
        let found = apply(adapters, &[("provision-adapters/src/cloud/client.rs", text)]);
        assert!(lines(&found).contains(&2));
        let found = apply(adapters, &[("provision-adapters/src/cloud/sim/mod.rs", text)]);
        assert!(!lines(&found).contains(&2));
    }

    #[test]
    fn a_store_needs_all_its_rooms() {
        let found = apply(stores, &[("provision-store-x/src/lib.rs", "")]);
        assert_eq!(found.problems.len(), 7);
    }

    #[test]
    fn versions_are_told_from_other_values() {
        let refused = ["serde = \"1\"", "a = { version = \"^0.4\" }", "version = \"0.1.0\""];
        assert!(refused.iter().all(|line| names_a_version(line)));
        let kept = ["version.workspace = true", "name = \"n8n\"", "a = { workspace = true }"];
        assert!(kept.iter().all(|line| !names_a_version(line)));
        let file = ("a/Cargo.toml", "a = \"2\"\n[lints]\nworkspace = true\n");
        let found = apply(manifests, &[("Cargo.toml", "members = [\"a\"]"), file]);
        assert_eq!(lines(&found), [1]);
    }

    #[test]
    fn a_second_test_binary_is_refused() {
        let files = [("a/tests/it/main.rs", ""), ("a/tests/other.rs", ""), ("a/tests/ui/x.rs", "")];
        assert_eq!(apply(test_binaries, &files).problems.len(), 1);
    }
}
