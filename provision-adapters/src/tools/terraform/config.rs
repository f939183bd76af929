//! Options of the Terraform adapter.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    time::Duration,
};

use provision_core::SecretRef;

use super::{CONCURRENCY, LOCKED_AGAIN_IN, OLDEST};
use crate::tools::version::Version;

/// Where states are kept: settings of the backend that the module declares.
///
/// The backend must know workspaces and locks. Every run works in a workspace of its own, so every
/// instance has a state of its own. No setting may be a secret: Terraform writes them into its
/// folder, and names that are those of secrets are refused; keys of the storage go through
/// [`TerraformConfig::with_secret_environment`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) kept: Option<PathBuf>,
}

/// Parts of the names of settings that hold secrets, in the backends that Terraform comes with.
const SECRET_PARTS: [&str; 7] =
    ["secret", "password", "access_key", "token", "sas_", "credentials", "conn_str"];

impl State {
    /// Settings of a backend that is not named here, none so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder of this machine, for a module with `backend "local" {}`; the state of an instance
    /// is `<folder>/<workspace>/terraform.tfstate`.
    ///
    /// Only workers of this machine can then take over from each other.
    #[must_use]
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        let folder: PathBuf = folder.into();
        // Terraform runs elsewhere, in a folder that goes with the command.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let unused = folder.join("default.tfstate");
        let state = Self::new()
            .with("path", unused.to_string_lossy())
            .with("workspace_dir", folder.to_string_lossy());
        Self { kept: Some(folder), ..state }
    }

    /// A bucket, for a module with `backend "s3" {}`; the state of an instance is
    /// `<prefix>/<workspace>/terraform.tfstate`, and its lock a file beside it.
    #[must_use]
    pub fn s3(
        bucket: impl Into<String>,
        region: impl Into<String>,
        prefix: impl Into<String>,
    ) -> Self {
        Self::new()
            .with("bucket", bucket)
            .with("region", region)
            .with("workspace_key_prefix", prefix)
            .with("key", "terraform.tfstate")
            .with("use_lockfile", "true")
    }

    /// Sets a setting of the backend.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Whether a setting is one that holds a secret.
    pub(crate) fn has_secret(&self) -> bool {
        let is_secret = |name: &String| SECRET_PARTS.iter().any(|part| name.contains(part));
        self.settings.keys().any(is_secret)
    }
}

/// Which module is applied, with which program, and what it may be given.
#[derive(Debug, Clone)]
pub struct TerraformConfig {
    pub(crate) program: OsString,
    pub(crate) module: PathBuf,
    pub(crate) module_root: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) kept: PathBuf,
    pub(crate) state: State,
    pub(crate) account: String,
    pub(crate) variables: BTreeSet<String>,
    pub(crate) secret_outputs: BTreeSet<&'static str>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) secret_environment: BTreeMap<String, SecretRef>,
    pub(crate) oldest: Version,
    pub(crate) look_timeout: Duration,
    pub(crate) change_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) locked_again_in: Duration,
    pub(crate) concurrency: u32,
}

impl TerraformConfig {
    /// Applies the module in the folder `module`, with the states in `state`.
    ///
    /// `work` is a folder for files of commands under way, plans among them: Terraform writes
    /// the values of variables into those, so it is best kept in memory. It is made if it is not
    /// there, and holds a folder of its own for each look and each change, for this user alone,
    /// which goes with it.
    ///
    /// Terraform does not run in the module's folder but in one with links to its files, so that
    /// what one command leaves there is not another one's. The module should write no files, and
    /// have no whole paths of its own (`abspath`, `path.cwd`) in what it makes.
    #[must_use]
    pub fn new(module: impl Into<PathBuf>, work: impl Into<PathBuf>, state: State) -> Self {
        let (module, work) = (module.into(), work.into());
        Self {
            program: "terraform".into(),
            module_root: module.clone(),
            module,
            kept: state.kept.clone().unwrap_or_else(|| work.clone()),
            work,
            state,
            account: "default".to_owned(),
            variables: BTreeSet::new(),
            secret_outputs: BTreeSet::new(),
            environment: BTreeMap::new(),
            secret_environment: BTreeMap::new(),
            oldest: OLDEST,
            look_timeout: Duration::from_mins(5),
            change_timeout: Duration::from_mins(60),
            grace: Duration::from_mins(5),
            locked_again_in: LOCKED_AGAIN_IN,
            concurrency: CONCURRENCY,
        }
    }

    /// Sets the program. Default `terraform`, looked for on `PATH`.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets the folder that holds all that the module names by `..`, such as modules beside it.
    /// Default: the module's own.
    #[must_use]
    pub fn with_module_root(mut self, folder: impl Into<PathBuf>) -> Self {
        self.module_root = folder.into();
        self
    }

    /// Sets the folder that says which apply has begun and not ended, and that takes states which
    /// could not be saved. Default: that of the states, where it is on this machine; else the work
    /// folder.
    ///
    /// It should be on a disk: what it holds is how a killed apply is told from one that ended, and
    /// a state in it may be all that names what was made.
    #[must_use]
    pub fn with_kept(mut self, folder: impl Into<PathBuf>) -> Self {
        self.kept = folder.into();
        self
    }

    /// Names the module and its states in the ledger and in limits. Default `"default"`.
    ///
    /// Needed where one process applies several modules, or keeps states in several places.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Allows variables to be set. Default: none; a spec that sets another one is refused.
    #[must_use]
    pub fn with_variables(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.variables.extend(names.into_iter().map(Into::into));
        self
    }

    /// Keeps an output that the module calls sensitive, sealed. Default: such outputs are left out.
    #[must_use]
    pub fn with_secret_output(mut self, name: &'static str) -> Self {
        self.secret_outputs.insert(name);
        self
    }

    /// Sets a variable of the program's environment, such as `TF_CLI_CONFIG_FILE`, whose file names
    /// a mirror of plug-ins.
    ///
    /// `TF_PLUGIN_CACHE_DIR` is safe only with a [concurrency](Self::with_concurrency) of one and
    /// one process: Terraform does not lock it.
    /// Of this process's environment it sees `PATH` and nothing else.
    #[must_use]
    pub fn with_environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets a variable of the program's environment to a secret, such as `HCLOUD_TOKEN`.
    #[must_use]
    pub fn with_secret_environment(mut self, name: impl Into<String>, value: SecretRef) -> Self {
        self.secret_environment.insert(name.into(), value);
        self
    }

    /// Refuses older releases of Terraform. Default and least [`OLDEST`].
    #[must_use]
    pub fn with_oldest(mut self, oldest: Version) -> Self {
        self.oldest = oldest.max(OLDEST);
        self
    }

    /// Sets the longest time of a command that changes nothing, planning among them. Default 5 min.
    #[must_use]
    pub fn with_look_timeout(mut self, timeout: Duration) -> Self {
        self.look_timeout = timeout;
        self
    }

    /// Sets the longest time of applying and of destroying. Default 60 min; the worker's slot is
    /// taken as long.
    ///
    /// The attempt ends it, too: with the node's `attempt_timeout` (15 min unless it is set)
    /// Terraform is interrupted and has the grace to end. Set that one longer than this one.
    #[must_use]
    pub fn with_change_timeout(mut self, timeout: Duration) -> Self {
        self.change_timeout = timeout;
        self
    }

    /// Sets the last part of each of these times, in which Terraform has been interrupted and
    /// writes down what it has done; it is killed afterwards. Default 5 min, at most half of each.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long a locked state is left alone before the next attempt. Default
    /// [`LOCKED_AGAIN_IN`].
    #[must_use]
    pub fn with_locked_again_in(mut self, wait: Duration) -> Self {
        self.locked_again_in = wait;
        self
    }

    /// Sets how many commands may run at a time, in all processes. Default [`CONCURRENCY`], at
    /// least 1.
    #[must_use]
    pub fn with_concurrency(mut self, commands: u32) -> Self {
        self.concurrency = commands.max(1);
        self
    }
}
