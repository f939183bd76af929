//! The programs that are used, each as one call.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use provision_core::{Call, Secret, StepContext, StepError, limit::Profile};
use serde_json::{Value as Json, json};

use super::{
    OUTPUT_BYTES_MAX,
    config::{AnsibleConfig, Playbook},
    error::{Seen, report, seen, unwatched},
    machine::{KEY_TYPES, Machine, is_key},
    model::Report,
};
use crate::tools::{
    folder::{self, Scratch},
    process::{Ended, Program},
    version::{Version, refuse_older},
};

const KEY_FILE: &str = "key";
const KNOWN_HOSTS_FILE: &str = "known_hosts";
const INVENTORY_FILE: &str = "inventory.json";
const VARIABLES_FILE: &str = "variables.yml";
const CONNECTION_FILE: &str = "connection.json";

/// X8: a shared connection stays open behind its command, outside of its group.
const SSH_ARGS: &str = "-o ControlMaster=no -o ControlPath=none";

/// How long `ssh` and `ssh-keyscan` wait for a connection, in seconds.
const CONNECT_SECONDS: &str = "10";

/// The programs and the key that machines are worked on with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ansible {
    config: Arc<AnsibleConfig>,
    limit: Profile,
}

impl Ansible {
    /// Works as `config` says. Nothing is looked at before a step does.
    #[must_use]
    pub fn new(config: AnsibleConfig) -> Self {
        let limit = Profile {
            bucket: format!("ansible/{}", config.account),
            rate: None,
            concurrency: Some(config.concurrency.into()),
        };
        Self { config: Arc::new(config), limit }
    }

    pub(crate) fn config(&self) -> &AnsibleConfig {
        &self.config
    }

    /// The best key that answers at an address; `None` while nothing does.
    pub(crate) async fn scan(
        &self,
        cx: &StepContext,
        address: &str,
        port: u16,
    ) -> Result<Option<String>, StepError> {
        let call = Call::read("ask a machine for its host key")
            .with_timeout(self.config.probe_timeout)
            .with_limit(self.limit.clone());
        let port = port.to_string();
        let scan = ["-T", CONNECT_SECONDS, "-p", &port, "-t", "ed25519,ecdsa,rsa", address];
        let ended = Program::new(&self.config.keyscan).arguments(scan).run(cx, &call).await?;
        let text = String::from_utf8_lossy(ended.output());
        let keys = text.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key.trim());
        let rank = |key: &str| KEY_TYPES.iter().position(|kind| key.starts_with(kind));
        Ok(keys.filter(|key| is_key(key)).min_by_key(|key| rank(key)).map(str::to_owned))
    }

    /// Looks whether a machine has booted, under its recorded key.
    pub(crate) async fn look(
        &self,
        cx: &StepContext,
        machine: &Machine,
    ) -> Result<Seen, StepError> {
        let files = self.files(cx, "look", std::slice::from_ref(machine)).await?;
        let call = Call::read("look whether a machine has booted")
            .with_timeout(self.config.probe_timeout)
            .with_limit(self.limit.clone());
        let (port, connect) =
            (machine.port.to_string(), format!("ConnectTimeout={CONNECT_SECONDS}"));
        let user = format!("{}@{}", machine.user, machine.address);
        let mut arguments: Vec<OsString> = ["-F", "/dev/null", "-o", "BatchMode=yes", "-o"]
            .into_iter()
            .map(OsString::from)
            .collect();
        arguments.push(connect.into());
        arguments.extend(files.trust().into_iter().map(OsString::from));
        arguments.extend(["-i".into(), files.path(KEY_FILE).into_os_string()]);
        arguments.extend(["-p", &port, "--", &user, &self.config.booted].map(OsString::from));
        let program = Program::new(&self.config.ssh).arguments(arguments);
        seen(&self.surrounded(cx, program, &files).await?.run(cx, &call).await?)
    }

    /// Runs a playbook on machines.
    pub(crate) async fn play(
        &self,
        cx: &StepContext,
        playbook: &Playbook,
        machines: &[Machine],
        given: &Given,
    ) -> Result<Report, StepError> {
        self.release(cx).await?;
        let files = self.files(cx, "play", machines).await?;
        files.write(INVENTORY_FILE, inventory(machines).to_string().as_bytes()).await?;
        files.write(VARIABLES_FILE, given.text.as_bytes()).await?;
        let connection = self.connection(&files).to_string();
        files.write(CONNECTION_FILE, connection.as_bytes()).await?;
        let mut variables = OsString::from("@");
        variables.push(files.path(VARIABLES_FILE));
        let mut connection = OsString::from("@");
        connection.push(files.path(CONNECTION_FILE));
        let file = tokio::fs::canonicalize(&playbook.file).await.map_err(|error| {
            StepError::permanent("run a playbook").with_code("playbook_missing").with_source(error)
        })?;
        let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
        let program = Program::new(&self.config.program)
            .arguments(["-i".into(), files.path(INVENTORY_FILE).into_os_string()])
            .arguments(["--extra-vars".into(), variables])
            // The last one wins, and wins over every other place a variable may be set in.
            .arguments([OsString::from("--extra-vars"), connection, file.into_os_string()])
            .in_folder(folder)
            .with_output_max(OUTPUT_BYTES_MAX);
        let call = Call::mutate("run a playbook")
            .with_timeout(self.config.play_timeout)
            .with_limit(self.limit.clone());
        let ended = self.surrounded(cx, program, &files).await?.run(cx, &call).await;
        report(&ended.map_err(unwatched)?, machines, &given.secrets)
    }

    /// How machines are spoken to, as variables. Given as options of the command or in the
    /// inventory, a `group_vars` of the playbook's would undo them.
    fn connection(&self, files: &Files) -> Json {
        // The shell is Ansible's own splitting of words: the paths have no blanks and no quotes.
        let trust = format!("-F /dev/null {}", files.trust().join(" "));
        json!({
            "ansible_connection": "ssh",
            "ansible_host_key_checking": true,
            "ansible_ssh_args": SSH_ARGS,
            "ansible_ssh_common_args": trust,
            "ansible_ssh_executable": self.config.ssh.to_string_lossy(),
            "ansible_ssh_extra_args": "",
            "ansible_ssh_host_key_checking": true,
            "ansible_ssh_private_key_file": files.path(KEY_FILE).to_string_lossy(),
            "ansible_ssh_retries": 0,
        })
    }

    async fn release(&self, cx: &StepContext) -> Result<(), StepError> {
        let call = Call::read("ask ansible for its release")
            .with_timeout(self.config.probe_timeout)
            .with_limit(self.limit.clone());
        let files = self.files(cx, "release", &[]).await?;
        let program = Program::new(&self.config.program).arguments(["--version"]);
        let ended = self.surrounded(cx, program, &files).await?.run(cx, &call).await?;
        refuse_older(&call, "ansible-core", core_release(&ended), self.config.oldest)
    }

    /// The environment of every program. Ansible works in UTF-8 or not at all.
    async fn surrounded(
        &self,
        cx: &StepContext,
        program: Program,
        files: &Files,
    ) -> Result<Program, StepError> {
        let mut program = program
            .with_variable("HOME", files.folder.path())
            .with_variable("LC_ALL", "C.UTF-8")
            .with_variable("ANSIBLE_SSH_ARGS", SSH_ARGS);
        for (name, value) in &self.config.environment {
            program = program.with_variable(name, value);
        }
        for (name, value) in &self.config.secret_environment {
            program = program.with_secret(name, &cx.reveal(value).await?);
        }
        Ok(program
            .with_variable("ANSIBLE_HOST_KEY_CHECKING", "True")
            .with_variable("ANSIBLE_LOCAL_TEMP", files.path("tmp"))
            .with_variable("ANSIBLE_NOCOLOR", "1")
            .with_variable("ANSIBLE_RETRY_FILES_ENABLED", "False")
            .with_variable("ANSIBLE_SHOW_CUSTOM_STATS", "True")
            // L4: connecting is repeated by the engine, and by nobody else.
            .with_variable("ANSIBLE_SSH_RETRIES", "0")
            .with_variable("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.json"))
    }

    /// A folder with the key and the known hosts, for one command.
    async fn files(
        &self,
        cx: &StepContext,
        what: &str,
        machines: &[Machine],
    ) -> Result<Files, StepError> {
        let name = format!("{}-{what}", cx.mark().token());
        let made = Scratch::make(&self.config.work, &name, |_| false).await;
        let files = Files { folder: made.map_err(unprepared)? };
        let unusual = |c: char| c.is_whitespace() || "'\"\\".contains(c);
        if files.folder.path().to_str().is_none_or(|path| path.contains(unusual)) {
            return Err(StepError::permanent("prepare a folder for ansible")
                .with_code("unusable_folder")
                .with_message("the path of the work folder has blanks or quotes"));
        }
        if machines.is_empty() {
            return Ok(files);
        }
        let known: String = machines.iter().map(Machine::known_hosts_line).collect();
        files.write(KNOWN_HOSTS_FILE, known.as_bytes()).await?;
        let key = cx.reveal(&self.config.key).await?;
        // `ssh` reads no key without a line break at its end.
        files.write(KEY_FILE, format!("{}\n", key.expose().trim_end()).as_bytes()).await?;
        Ok(files)
    }
}

/// Values of a playbook's variables, as the file that Ansible reads.
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) secrets: Vec<Secret>,
}

/// The files of one command. They go with it, also when it is cut.
#[derive(Debug)]
struct Files {
    folder: Scratch,
}

impl Files {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    async fn write(&self, file: &str, bytes: &[u8]) -> Result<(), StepError> {
        folder::write(&self.path(file), bytes).await.map_err(unprepared)
    }

    /// What lets `ssh` speak to machines under their recorded keys, and to nothing else.
    fn trust(&self) -> [String; 8] {
        let known = self.path(KNOWN_HOSTS_FILE);
        let option = || "-o".to_owned();
        [
            option(),
            "StrictHostKeyChecking=yes".to_owned(),
            option(),
            format!("UserKnownHostsFile={}", known.display()),
            option(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            option(),
            "IdentitiesOnly=yes".to_owned(),
        ]
    }
}

fn unprepared(error: io::Error) -> StepError {
    StepError::retry("prepare a folder for ansible").with_code("folder").with_source(error)
}

/// The inventory: exactly these machines, and no way to work on the worker's own.
fn inventory(machines: &[Machine]) -> Json {
    let hosts: BTreeMap<&str, Json> = machines
        .iter()
        .map(|machine| {
            let Machine { address, port, user, .. } = machine;
            let host = json!({
                "ansible_host": address,
                "ansible_port": port,
                "ansible_user": user,
            });
            (machine.name.as_str(), host)
        })
        .collect();
    json!({ "all": { "hosts": hosts } })
}

/// Reads `ansible-playbook [core 2.16.3]`.
fn core_release(ended: &Ended) -> Option<Version> {
    let text = String::from_utf8_lossy(ended.output()).into_owned();
    let (_, rest) = text.split_once("[core ")?;
    Version::parse(rest.split_once(']')?.0)
}
