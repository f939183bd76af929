//! A data folder and the program that works in it.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Fast, and still with times that can be interrupted.
pub(crate) const SPEED: &str = "0.004";

/// A data folder of its own.
pub(crate) struct Place {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON object on the last line of stdout.
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Begins a command.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-hosting"));
        command.args(["--json", "--speed", SPEED, "--data-dir"]).arg(self.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.spawn(arguments).wait_with_output().unwrap().into()
    }

    /// Runs a command that has to end well.
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran.json()
    }

    /// The rows of the host's table.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.done(&["status"])["subscriptions"].as_array().unwrap().clone()
    }

    /// What is so, of the one subscription that there is.
    pub(crate) fn state(&self) -> String {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0]["state"].as_str().unwrap().to_owned()
    }

    /// What the simulated cloud holds, as `provider kind name`; doubles show.
    pub(crate) fn things(&self) -> Vec<String> {
        let items = self.done(&["inventory"]).as_array().unwrap().clone();
        let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
        let thing = |item: &Value| {
            let (provider, kind, name) =
                (text(item, "provider"), text(item, "kind"), text(item, "name"));
            // A device joins under the name of its machine and a token of its run.
            let name = name.split("-p").next().unwrap().to_owned();
            format!("{provider} {kind} {name}")
        };
        let mut things: Vec<_> = items.iter().map(thing).collect();
        things.sort();
        things
    }

    /// The mails that went out.
    pub(crate) fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path().join("cloud/resend.json")).unwrap();
        let cloud: Value = serde_json::from_str(&text).unwrap();
        cloud["state"]["emails"].as_array().cloned().unwrap_or_default()
    }

    /// The join keys that machines were told at their first boot, as far as they are there.
    pub(crate) fn join_keys(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("cloud/tailscale.json")).unwrap();
        let text = text + &std::fs::read_to_string(self.path().join("cloud/hetzner.json")).unwrap();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let found = text.match_indices("tskey-auth-").map(|(at, _)| &text[at..]);
        let found = found.map(|rest| rest.split(|c: char| !word(c)).next().unwrap().to_owned());
        found.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// How many of a kind there are.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.things().iter().filter(|thing| thing.contains(kind)).count()
    }
}
