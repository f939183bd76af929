//! What `cargo metadata` says about the workspace, as far as the checks need it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::{Outcome, command};

/// One package of the graph.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression, where the package names one.
    pub(crate) licence: Option<String>,
    /// Where it comes from; none is a path.
    pub(crate) source: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) member: bool,
    pub(crate) has_library: bool,
}

/// The graph with all features.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target: PathBuf,
}

impl Metadata {
    pub(crate) fn read(root: &Path) -> Outcome<Self> {
        let output = command::cargo(root)
            .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cargo did not start: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let value: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        Ok(Self::from_value(&value))
    }

    fn from_value(value: &Value) -> Self {
        let members: BTreeSet<&str> =
            list(value, "workspace_members").iter().filter_map(Value::as_str).collect();
        let packages = list(value, "packages")
            .iter()
            .map(|package| {
                let id = package["id"].as_str().unwrap_or_default();
                read_package(package, members.contains(id))
            })
            .collect();
        let target = PathBuf::from(value["target_directory"].as_str().unwrap_or("target"));
        Self { packages, target }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }
}

fn read_package(value: &Value, member: bool) -> Package {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let features = value["features"].as_object().map(|map| map.keys().cloned().collect());
    let kinds = list(value, "targets").iter().flat_map(|target| list(target, "kind"));
    Package {
        name: text("name").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        licence: text("license"),
        source: text("source"),
        features: features.unwrap_or_default(),
        member,
        has_library: kinds.filter_map(Value::as_str).any(|kind| kind == "lib"),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::Metadata;
    use serde_json::json;

    #[test]
    fn features_and_members_are_read() {
        let value = json!({
            "packages": [
                {"id": "a", "name": "ours", "version": "1.0.0", "license": "MIT",
                 "source": null, "features": {"x": []}, "targets": [{"kind": ["lib"]}]},
                {"id": "b", "name": "theirs", "version": "2.0.0", "license": null,
                 "source": "registry+https://example.org", "features": {}, "targets": []},
            ],
            "workspace_members": ["a"],
            "target_directory": "/elsewhere",
        });
        let metadata = Metadata::from_value(&value);
        let ours = metadata.members().next().unwrap();
        assert!(ours.has_library && ours.features == ["x"]);
        assert_eq!(metadata.members().count(), 1);
    }
}
