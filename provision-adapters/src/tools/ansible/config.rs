//! Options of the Ansible adapter.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use provision_core::SecretRef;

use super::{BOOTED_COMMAND, BOOTING_AGAIN_IN, CONCURRENCY, OLDEST};
use crate::tools::version::Version;

/// With which programs and key machines are worked on.
#[derive(Debug, Clone)]
pub struct AnsibleConfig {
    pub(crate) program: OsString,
    pub(crate) ssh: OsString,
    pub(crate) keyscan: OsString,
    pub(crate) work: PathBuf,
    pub(crate) key: SecretRef,
    pub(crate) account: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) secret_environment: BTreeMap<String, SecretRef>,
    pub(crate) oldest: Version,
    pub(crate) booted: String,
    pub(crate) booting_again_in: Duration,
    pub(crate) probe_timeout: Duration,
    pub(crate) play_timeout: Duration,
    pub(crate) concurrency: u32,
}

impl AnsibleConfig {
    /// Works with the private key `key`, in the form that `ssh` reads.
    ///
    /// `work` is a folder for files of commands under way, the key and the variables among them,
    /// so it is best kept in memory. It is made if it is not there; each command has a folder of
    /// its own in it, for this user alone, which goes with the command. Its path has no blanks and
    /// no quotes, since `ssh` would read them as more than one.
    #[must_use]
    pub fn new(work: impl Into<PathBuf>, key: SecretRef) -> Self {
        Self {
            program: "ansible-playbook".into(),
            ssh: "ssh".into(),
            keyscan: "ssh-keyscan".into(),
            work: work.into(),
            key,
            account: "default".to_owned(),
            environment: BTreeMap::new(),
            secret_environment: BTreeMap::new(),
            oldest: OLDEST,
            booted: BOOTED_COMMAND.to_owned(),
            booting_again_in: BOOTING_AGAIN_IN,
            probe_timeout: Duration::from_secs(20),
            play_timeout: Duration::from_mins(30),
            concurrency: CONCURRENCY,
        }
    }

    /// Sets the program. Default `ansible-playbook`, looked for on `PATH`.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Sets the programs that machines are looked at with. Default `ssh` and `ssh-keyscan`, looked
    /// for on `PATH`.
    #[must_use]
    pub fn with_ssh(mut self, ssh: impl Into<OsString>, keyscan: impl Into<OsString>) -> Self {
        self.ssh = ssh.into();
        self.keyscan = keyscan.into();
        self
    }

    /// Names the machines' network in the ledger and in limits. Default `"default"`.
    ///
    /// Needed where one process works in several, in which an address may mean another machine.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Sets a variable of the programs' environment, such as `ANSIBLE_ROLES_PATH`.
    ///
    /// Of this process's environment they see `PATH` and nothing else.
    #[must_use]
    pub fn with_environment(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets a variable of the programs' environment to a secret.
    #[must_use]
    pub fn with_secret_environment(mut self, name: impl Into<String>, value: SecretRef) -> Self {
        self.secret_environment.insert(name.into(), value);
        self
    }

    /// Refuses older releases of ansible-core. Default and least [`OLDEST`].
    #[must_use]
    pub fn with_oldest(mut self, oldest: Version) -> Self {
        self.oldest = oldest.max(OLDEST);
        self
    }

    /// Sets the command that a machine answers with exit code 0 once it has booted, and with 1
    /// before. Default [`BOOTED_COMMAND`].
    ///
    /// It is read by a shell on the machine; it comes from the host, never from a value.
    #[must_use]
    pub fn with_booted_command(mut self, command: impl Into<String>) -> Self {
        self.booted = command.into();
        self
    }

    /// Sets how long a machine is left alone that does not answer yet. Default
    /// [`BOOTING_AGAIN_IN`].
    #[must_use]
    pub fn with_booting_again_in(mut self, wait: Duration) -> Self {
        self.booting_again_in = wait;
        self
    }

    /// Sets the longest time of one look at a machine. Default 20 s.
    #[must_use]
    pub fn with_probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Sets the longest time of one playbook. Default 30 min; the worker's slot is taken as long.
    #[must_use]
    pub fn with_play_timeout(mut self, timeout: Duration) -> Self {
        self.play_timeout = timeout;
        self
    }

    /// Sets how many programs may run at a time, in all processes. Default [`CONCURRENCY`], at
    /// least 1.
    #[must_use]
    pub fn with_concurrency(mut self, programs: u32) -> Self {
        self.concurrency = programs.max(1);
        self
    }
}

/// What a variable may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableType {
    /// Text without control characters other than line breaks and tabs. Ansible reads no template
    /// in it.
    Text,
    /// Letters, digits, `.`, `-` and `_`, and at least one.
    Name,
    /// A whole number.
    Integer,
    /// Yes or no.
    Switch,
    /// Text that is opened at the call, and never journaled.
    Secret,
}

/// A playbook of the host's, and the variables that may be set for it.
///
/// Its plays should name `hosts: all`: they meet exactly the machines of the step's input.
#[derive(Debug, Clone)]
pub struct Playbook {
    pub(crate) file: PathBuf,
    pub(crate) variables: BTreeMap<String, VariableType>,
    pub(crate) outputs: Vec<String>,
}

impl Playbook {
    /// The playbook in a file. It runs in the file's folder.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), variables: BTreeMap::new(), outputs: Vec::new() }
    }

    /// Allows a variable to be set. Default: none; an input that sets another one is refused, and
    /// one that leaves an allowed one out is not.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, kind: VariableType) -> Self {
        self.variables.insert(name.into(), kind);
        self
    }

    /// Takes a value that the playbook sets with `set_stats` into the step's output. Default: none.
    ///
    /// It is journaled, so it must be no secret.
    #[must_use]
    pub fn with_output(mut self, name: impl Into<String>) -> Self {
        self.outputs.push(name.into());
        self
    }
}
