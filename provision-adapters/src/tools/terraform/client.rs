//! The commands of Terraform that are used, each as one call; see
//! <https://developer.hashicorp.com/terraform/cli/commands> (read 2026-11-22).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use provision_core::{Call, CallKind, Effect, Secret, StepContext, StepError, limit::Profile};
use serde_json::Value;

use super::{
    LOCK_WAIT, OLDEST_PLUGINS, OUTPUT_BYTES_MAX,
    config::TerraformConfig,
    error::{cut, failed, going, unsaved},
    kept::{Kept, Standing},
    model::{Chosen, Output, Versions},
};
use crate::tools::{
    folder::{self, Scratch},
    process::{Ended, Program},
    version::{Version, refuse_older},
};

/// Names of the files in the folder of a `Session`.
const BACKEND_FILE: &str = "backend.tfbackend";
const VARIABLES_FILE: &str = "variables.tfvars.json";
const PLAN_FILE: &str = "plan";
const DATA_FOLDER: &str = "data";
/// Where `init` writes down which backend it has connected with, in [`DATA_FOLDER`].
const BACKEND_CHOSEN_FILE: &str = "terraform.tfstate";
const MODULE_FOLDER: &str = "module";
/// What the module's folder may hold of somebody else's commands.
const NOT_OF_THE_MODULE: [&str; 4] =
    [".terraform", ".git", "errored.tfstate", "terraform.tfstate.d"];

/// Commands that make and remove infrastructure, and the files that they write into.
const APPLY: &str = "terraform apply";
const DESTROY: &str = "terraform destroy";

/// Exit code of a plan, with `-detailed-exitcode`, that has something to change.
const CHANGES: i32 = 2;

/// A module and the program that applies it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Terraform {
    config: Arc<TerraformConfig>,
    limit: Profile,
}

impl Terraform {
    /// Works as `config` says. Nothing is looked at before a step does.
    #[must_use]
    pub fn new(config: TerraformConfig) -> Self {
        let limit = Profile {
            bucket: format!("terraform/{}", config.account),
            rate: None,
            concurrency: Some(config.concurrency.into()),
        };
        Self { config: Arc::new(config), limit }
    }

    pub(crate) fn config(&self) -> &TerraformConfig {
        &self.config
    }

    /// Prepares a folder for work on `workspace`, looks at releases, and connects the folder with
    /// the states.
    ///
    /// The folder is its own alone: Terraform keeps in it which workspace it works in, and
    /// two that share it would work in each other's. It goes with what is answered.
    pub(crate) async fn open<'a>(
        &'a self,
        cx: &'a StepContext,
        workspace: &'a str,
        given: Given,
    ) -> Result<Session<'a>, StepError> {
        if self.config.state.has_secret() {
            return Err(StepError::permanent(FOLDER)
                .with_code("secret_in_settings")
                .with_message("a setting of the state is one that holds a secret")
                .with_hint("give it by `with_secret_environment`"));
        }
        let prepared = prepare(&self.config, workspace, &given.plain).await;
        let (scratch, kept) = prepared.map_err(unprepared)?;
        let mut secrets = given.secret;
        for (name, value) in &self.config.secret_environment {
            secrets.push((name.clone(), cx.reveal(value).await?));
        }
        let session = Session { terraform: self, cx, workspace, scratch, kept, secrets };
        session.releases().await?;
        session.init().await?;
        session.backend().await?;
        Ok(session)
    }
}

const FOLDER: &str = "prepare a folder for terraform";

fn unprepared(error: io::Error) -> StepError {
    StepError::retry(FOLDER).with_code("folder").with_source(error)
}

/// Values of a module's variables: plain ones by file, secret ones by environment.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) plain: BTreeMap<String, Value>,
    pub(crate) secret: Vec<(String, Secret)>,
}

/// One workspace under work.
pub(crate) struct Session<'a> {
    terraform: &'a Terraform,
    cx: &'a StepContext,
    workspace: &'a str,
    scratch: Scratch,
    kept: Kept,
    secrets: Vec<(String, Secret)>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // A command that still works keeps the folder for a while. Both hold values of variables.
        for file in [PLAN_FILE, VARIABLES_FILE] {
            let _ = std::fs::remove_file(self.scratch.path().join(file));
        }
    }
}

/// In which workspace a command works, and where its output goes to.
#[derive(Clone, Copy)]
enum Manner {
    /// In none, and read by us: it changes nothing, and is killed when its time is over.
    Look,
    /// In its own, and read by us.
    LookInside,
    /// In none, and into a file: it comes to its end although we may die.
    Change,
    /// In its own, and into a file.
    ChangeInside,
}

impl Session<'_> {
    /// Whether the workspace is there. Only what ran in it can have made anything.
    pub(crate) async fn exists(&self) -> Result<bool, StepError> {
        Ok(self.workspaces().await?.iter().any(|name| name == self.workspace))
    }

    /// Every workspace of the module's backend.
    ///
    /// No workspace is named to this command: one that is would be listed, whether there or not.
    pub(crate) async fn workspaces(&self) -> Result<Vec<String>, StepError> {
        let call = self.look("terraform workspace list");
        let list = ["workspace", "list", "-no-color"];
        let ended = self.succeeded(&call, Manner::Look, &list).await?;
        let text = String::from_utf8_lossy(ended.output());
        let names = text.lines().map(|line| line.trim_start_matches('*').trim());
        let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        // S9: it is in every list. Without it this is none, and nothing follows from it.
        if names.iter().any(|name| name == "default") { Ok(names) } else { Err(unreadable(&call)) }
    }

    /// Makes the workspace if it is not there.
    pub(crate) async fn make(&self) -> Result<(), StepError> {
        let call = self.change("terraform workspace select");
        let select = ["workspace", "select", "-no-color", "-or-create=true", self.workspace];
        self.succeeded(&call, Manner::Change, &select).await.map(drop)
    }

    /// Plans, and applies the very plan if it changes anything.
    ///
    /// A plan whose state has moved on since is refused by Terraform, so that of two commands that
    /// were planned beside each other one changes nothing.
    pub(crate) async fn converge(&self) -> Result<(), StepError> {
        self.settled().await?;
        if self.plan().await? { self.apply().await } else { Ok(()) }
    }

    /// Whether the plan changes anything.
    async fn plan(&self) -> Result<bool, StepError> {
        let call = self.look("terraform plan");
        let (out, variables) = (self.path_argument("-out=", PLAN_FILE), self.variables());
        let lock = lock_timeout();
        let fixed = ["plan", "-input=false", "-json", "-detailed-exitcode", &lock];
        let arguments = fixed.iter().map(OsString::from).chain([out, variables]);
        let ended = self.run(&call, Manner::ChangeInside, arguments).await?;
        match ended.code() {
            Some(0) => Ok(false),
            Some(CHANGES) => Ok(true),
            _ => Err(self.failed(&call, &ended)),
        }
    }

    async fn apply(&self) -> Result<(), StepError> {
        let (plan, lock) = (self.scratch.path().join(PLAN_FILE).into_os_string(), lock_timeout());
        let fixed = ["apply", "-input=false", "-json", &lock];
        self.alter(APPLY, fixed.iter().map(OsString::from).chain([plan])).await
    }

    /// The module's outputs as the state has them.
    pub(crate) async fn outputs(&self) -> Result<BTreeMap<String, Output>, StepError> {
        let call = self.look("terraform output");
        let ended = self.succeeded(&call, Manner::LookInside, &["output", "-json"]).await?;
        read(&call, ended.output())
    }

    /// Destroys all that the state names, and removes the workspace.
    ///
    /// Terraform removes no workspace whose state still names something.
    pub(crate) async fn destroy(&self) -> Result<(), StepError> {
        self.settled().await?;
        let lock = lock_timeout();
        let fixed = ["apply", "-destroy", "-auto-approve", "-input=false", "-json", &lock];
        self.alter(DESTROY, fixed.iter().map(OsString::from).chain([self.variables()])).await?;
        let call = self.change("terraform workspace delete");
        let delete = ["workspace", "delete", "-no-color", &lock, self.workspace];
        self.succeeded(&call, Manner::Change, &delete).await.map(drop)
    }

    /// Refuses to go on from a state of which it is not known that it names all there is.
    async fn settled(&self) -> Result<(), StepError> {
        let operation = "look at the last apply";
        let kept = self.kept.clone();
        let standing = folder::blocking(move || kept.standing(&[&said(APPLY), &said(DESTROY)]));
        match standing.await.map_err(unprepared)? {
            Standing::Settled => Ok(()),
            Standing::Going => Err(going(operation, self.config().locked_again_in)),
            Standing::Cut => Err(cut(operation, &self.kept.note())),
            Standing::Unsaved => Err(unsaved(operation, &self.kept.unsaved())),
        }
    }

    /// Runs what makes or removes infrastructure, and notes for as long that it does.
    async fn alter(
        &self,
        operation: &'static str,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<(), StepError> {
        let call = self.change(operation);
        let (kept, name) = (self.kept.clone(), self.scratch.name().to_owned());
        let begun = folder::blocking(move || kept.begin(&name)).await.map_err(unprepared)?;
        if !begun {
            return Err(going(operation, self.config().locked_again_in));
        }
        let ended = match self.run(&call, Manner::ChangeInside, arguments).await {
            Ok(ended) => ended,
            Err(error) => {
                // Nothing was started; else the note stays, and the next attempt finds out.
                if error.effect() == Effect::None {
                    self.kept.settle().map_err(unprepared)?;
                }
                return Err(error);
            }
        };
        let told = |error: io::Error| unprepared(error).with_effect(Effect::Unknown);
        if self.kept.rescue(self.scratch.path()).map_err(told)? {
            return Err(unsaved(operation, &self.kept.unsaved()));
        }
        // A program that dies of its own fault has another code, and may not have got to its state.
        if !matches!(ended.code(), Some(0 | 1)) {
            return Err(cut(operation, &self.kept.note()));
        }
        self.kept.settle().map_err(told)?;
        self.judged(&call, ended).map(drop)
    }

    /// Refuses what is too old before it can change anything, or write a state that others
    /// cannot read.
    async fn releases(&self) -> Result<(), StepError> {
        let call = self.look("terraform version");
        let ended = self.succeeded(&call, Manner::Look, &["version", "-json"]).await?;
        let versions: Versions = read(&call, ended.output())?;
        let found = Version::parse(&versions.terraform_version);
        refuse_older(&call, "terraform", found, self.config().oldest)?;
        for (source, found) in &versions.provider_selections {
            let known = OLDEST_PLUGINS.iter().find(|(name, _)| source.ends_with(name));
            if let Some((name, oldest)) = known {
                refuse_older(&call, name, Version::parse(found), *oldest)?;
            }
        }
        Ok(())
    }

    /// Connects the folder with the backend, with the plug-ins that the lock file names.
    async fn init(&self) -> Result<(), StepError> {
        let call = self.look("terraform init");
        let backend = self.path_argument("-backend-config=", BACKEND_FILE);
        let fixed = ["init", "-input=false", "-json", "-reconfigure", "-lockfile=readonly"];
        let arguments = fixed.iter().map(OsString::from).chain([backend]);
        let ended = self.run(&call, Manner::Look, arguments).await?;
        self.judged(&call, ended).map(drop)
    }

    /// Refuses states that would lie in the folder of the work, and go with it: those of a module
    /// that declares no backend, or a local one whose folder is not given as a whole path.
    async fn backend(&self) -> Result<(), StepError> {
        let file = self.scratch.path().join(DATA_FOLDER).join(BACKEND_CHOSEN_FILE);
        let chosen = match tokio::fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice::<Chosen>(&bytes).ok().and_then(|c| c.backend),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unprepared(error)),
        };
        match chosen.is_some_and(|backend| backend.outlives_the_folder()) {
            true => Ok(()),
            false => Err(StepError::permanent("terraform init")
                .with_code("backend_refused")
                .with_message("the module's states would be in a folder that is removed")
                .with_hint("declare a backend, and use `State::local` for one of this machine")),
        }
    }

    async fn succeeded(
        &self,
        call: &Call,
        manner: Manner,
        arguments: &[&str],
    ) -> Result<Ended, StepError> {
        self.judged(call, self.run(call, manner, arguments.iter().map(OsString::from)).await?)
    }

    fn judged(&self, call: &Call, ended: Ended) -> Result<Ended, StepError> {
        if ended.is_success() { Ok(ended) } else { Err(self.failed(call, &ended)) }
    }

    fn failed(&self, call: &Call, ended: &Ended) -> StepError {
        let cut = match call.kind {
            CallKind::Read => Effect::None,
            CallKind::Mutate => Effect::Unknown,
        };
        failed(call.operation, cut, ended, self.config().locked_again_in)
    }

    /// Runs one command. X8: it gets paths and names, and no value, as arguments.
    async fn run(
        &self,
        call: &Call,
        manner: Manner,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Ended, StepError> {
        let (config, folder) = (self.config(), self.scratch.path());
        let mut program = Program::new(&config.program)
            .arguments(arguments)
            .in_folder(folder.join(&self.kept.module))
            .with_output_max(OUTPUT_BYTES_MAX)
            .with_variable("HOME", folder);
        if let Manner::Change | Manner::ChangeInside = manner {
            program = program
                .with_output_file(folder.join(said(call.operation)))
                .with_grace(config.grace.min(call.timeout / 2));
        }
        for (name, value) in &config.environment {
            program = program.with_variable(name, value);
        }
        for (name, value) in &self.secrets {
            program = program.with_secret(name, value);
        }
        if let Manner::LookInside | Manner::ChangeInside = manner {
            program = program.with_variable("TF_WORKSPACE", self.workspace);
        }
        program
            .with_variable("CHECKPOINT_DISABLE", "1")
            .with_variable("TF_DATA_DIR", folder.join(DATA_FOLDER))
            .with_variable("TF_IN_AUTOMATION", "1")
            .with_variable("TF_INPUT", "0")
            .run(self.cx, call)
            .await
    }

    fn config(&self) -> &TerraformConfig {
        &self.terraform.config
    }

    fn look(&self, operation: &'static str) -> Call {
        let call = Call::read(operation).with_timeout(self.config().look_timeout);
        call.with_limit(self.terraform.limit.clone())
    }

    fn change(&self, operation: &'static str) -> Call {
        let call = Call::mutate(operation).with_timeout(self.config().change_timeout);
        call.with_limit(self.terraform.limit.clone())
    }

    fn path_argument(&self, option: &str, file: &str) -> OsString {
        let mut argument = OsString::from(option);
        argument.push(self.scratch.path().join(file));
        argument
    }

    fn variables(&self) -> OsString {
        self.path_argument("-var-file=", VARIABLES_FILE)
    }
}

fn lock_timeout() -> String {
    format!("-lock-timeout={}s", LOCK_WAIT.as_secs())
}

/// Name of the file that a command writes into.
fn said(operation: &str) -> String {
    operation.replace(' ', "-")
}

fn read<T: serde::de::DeserializeOwned>(call: &Call, output: &[u8]) -> Result<T, StepError> {
    // X1: the reason may quote the output.
    serde_json::from_slice(output).map_err(|_| unreadable(call))
}

fn unreadable(call: &Call) -> StepError {
    StepError::retry(call.operation)
        .with_code("unreadable")
        .with_message("the program's output is not what its release promises")
}

/// Makes the folder of a `Session`, for this user alone, and writes what the commands read.
async fn prepare(
    config: &TerraformConfig,
    workspace: &str,
    variables: &BTreeMap<String, Value>,
) -> io::Result<(Scratch, Kept)> {
    let kept = config.kept.clone();
    let noted = move |name: &str| Kept::is_noted(&kept, name);
    let scratch = Scratch::make(&config.work, workspace, noted).await?;
    let folder = scratch.path();
    let work = folder.parent().unwrap_or(folder).to_path_buf();
    let module = mirror(config, &work, folder).await?;
    let settings: String = config.state.settings.iter().map(setting).collect();
    folder::write(&folder.join(BACKEND_FILE), settings.as_bytes()).await?;
    let variables = serde_json::to_vec(variables).map_err(io::Error::other)?;
    folder::write(&folder.join(VARIABLES_FILE), &variables).await?;
    let workspace = workspace.to_owned();
    Ok((scratch, Kept { folder: config.kept.clone(), work, workspace, module }))
}

/// Rebuilds the module in the folder of a `Session`. Answers where it is in there.
///
/// Terraform writes a state that it cannot save into the folder it runs in: with a shared one, the
/// states of several instances would overwrite each other.
async fn mirror(config: &TerraformConfig, work: &Path, folder: &Path) -> io::Result<PathBuf> {
    let (module, root) = (config.module.clone(), config.module_root.clone());
    let (work, to) = (work.to_path_buf(), folder.join(MODULE_FOLDER));
    folder::blocking(move || {
        let (module, root) = (std::fs::canonicalize(module)?, std::fs::canonicalize(root)?);
        let inside = module.strip_prefix(&root).map_err(io::Error::other)?;
        folder::mirror(&root, &to, &NOT_OF_THE_MODULE, &work)?;
        Ok(Path::new(MODULE_FOLDER).join(inside))
    })
    .await
}

/// One line of a backend's settings, in Terraform's language.
fn setting((name, value): (&String, &String)) -> String {
    let mut quoted = String::with_capacity(value.len());
    let mut signs = value.chars().peekable();
    while let Some(c) = signs.next() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            // Here a template would begin; it is escaped by doubling its first sign.
            '$' | '%' if signs.peek() == Some(&'{') => quoted.extend([c, c]),
            _ => quoted.push(c),
        }
    }
    format!("{name} = \"{quoted}\"\n")
}

#[cfg(test)]
mod tests {
    use super::setting;

    #[test]
    fn a_setting_is_a_text_and_never_a_template() {
        let written = |value: &str| setting((&"key".to_owned(), &value.to_owned()));
        assert_eq!(written("a/b c"), "key = \"a/b c\"\n");
        assert_eq!(written("${x} %{y} $z 5%"), "key = \"$${x} %%{y} $z 5%\"\n");
        assert_eq!(written("\"\\\n"), "key = \"\\\"\\\\\\n\"\n");
    }
}
