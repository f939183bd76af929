//! The commands of Terraform that are used, each as one call; see
//! <https://developer.hashicorp.com/terraform/cli/commands> (read 2026-11-22).

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, sync::Arc};

use provision_core::{Call, CallKind, Effect, Secret, StepContext, StepError, limit::Profile};
use serde_json::Value;
use tokio::fs;

use super::{
    LOCK_WAIT, OLDEST_PLUGINS, OUTPUT_BYTES_MAX,
    config::TerraformConfig,
    error::failed,
    model::{Output, Versions},
};
use crate::tools::{
    folder,
    process::{Ended, Program},
    version::{Version, refuse_older},
};

/// Names of the files in an instance's folder.
const BACKEND_FILE: &str = "backend.tfbackend";
const VARIABLES_FILE: &str = "variables.tfvars.json";
const PLAN_FILE: &str = "plan";
const DATA_FOLDER: &str = "data";

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

    /// Prepares a folder for `workspace`, looks at releases, and connects it with the states.
    ///
    /// What stands in the folder stays until [`Session::close`]: what the last commands said, for
    /// people, and what the next attempt need not fetch again.
    pub(crate) async fn open<'a>(
        &'a self,
        cx: &'a StepContext,
        workspace: &'a str,
        given: Given,
    ) -> Result<Session<'a>, StepError> {
        let folder = prepare(&self.config, workspace, &given.plain)
            .await
            .map_err(|error| StepError::retry(FOLDER).with_code("folder").with_source(error))?;
        let mut secrets = given.secret;
        for (name, value) in &self.config.secret_environment {
            secrets.push((name.clone(), cx.reveal(value).await?));
        }
        let session = Session { terraform: self, cx, workspace, folder, secrets };
        session.releases().await?;
        session.init().await?;
        Ok(session)
    }
}

const FOLDER: &str = "prepare a folder for terraform";

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
    folder: PathBuf,
    secrets: Vec<(String, Secret)>,
}

impl Session<'_> {
    /// Whether the workspace is there. Only what ran in it can have made anything.
    pub(crate) async fn exists(&self) -> Result<bool, StepError> {
        Ok(self.workspaces().await?.iter().any(|name| name == self.workspace))
    }

    /// Every workspace of the module's backend.
    pub(crate) async fn workspaces(&self) -> Result<Vec<String>, StepError> {
        let call = self.look("terraform workspace list");
        let ended = self.succeeded(&call, &["workspace", "list", "-no-color"]).await?;
        let text = String::from_utf8_lossy(ended.output());
        let names = text.lines().map(|line| line.trim_start_matches('*').trim());
        Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Makes the workspace if it is not there, and works in it from now on.
    pub(crate) async fn make(&self) -> Result<(), StepError> {
        let call = self.change("terraform workspace select");
        let select = ["workspace", "select", "-no-color", "-or-create=true", self.workspace];
        self.succeeded(&call, &select).await.map(drop)
    }

    /// Works in the workspace from now on. It must be there.
    pub(crate) async fn enter(&self) -> Result<(), StepError> {
        let call = self.look("terraform workspace select");
        self.succeeded(&call, &["workspace", "select", "-no-color", self.workspace]).await.map(drop)
    }

    /// Plans, and applies the very plan if it changes anything.
    ///
    /// A plan whose state has moved on since is refused by Terraform, so that of two commands that
    /// were planned beside each other one changes nothing.
    pub(crate) async fn converge(&self) -> Result<(), StepError> {
        let planned = self.plan().await;
        let applied = match planned {
            Ok(true) => self.apply().await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        // A plan holds the values of all variables.
        let _ = folder::remove(&self.folder.join(PLAN_FILE)).await;
        applied
    }

    /// Whether the plan changes anything.
    async fn plan(&self) -> Result<bool, StepError> {
        let call = self.look("terraform plan");
        let (out, variables) = (self.path_argument("-out=", PLAN_FILE), self.variables());
        let lock = lock_timeout();
        let fixed = ["plan", "-input=false", "-json", "-detailed-exitcode", &lock];
        let ended =
            self.run(&call, fixed.iter().map(OsString::from).chain([out, variables])).await?;
        match ended.code() {
            Some(0) => Ok(false),
            Some(CHANGES) => Ok(true),
            _ => Err(self.failed(&call, &ended)),
        }
    }

    async fn apply(&self) -> Result<(), StepError> {
        let call = self.change("terraform apply");
        let (plan, lock) = (self.folder.join(PLAN_FILE).into_os_string(), lock_timeout());
        let fixed = ["apply", "-input=false", "-json", &lock];
        let ended = self.run(&call, fixed.iter().map(OsString::from).chain([plan])).await?;
        self.judged(&call, ended).map(drop)
    }

    /// The module's outputs as the state has them.
    pub(crate) async fn outputs(&self) -> Result<BTreeMap<String, Output>, StepError> {
        let call = self.look("terraform output");
        let ended = self.succeeded(&call, &["output", "-json"]).await?;
        read(&call, ended.output())
    }

    /// Destroys all that the state names, and removes the workspace.
    ///
    /// Terraform removes no workspace whose state still names something.
    pub(crate) async fn destroy(&self) -> Result<(), StepError> {
        let call = self.change("terraform destroy");
        let lock = lock_timeout();
        let fixed = ["apply", "-destroy", "-auto-approve", "-input=false", "-json", &lock];
        let variables = [self.variables()];
        let ended = self.run(&call, fixed.iter().map(OsString::from).chain(variables)).await?;
        self.judged(&call, ended)?;
        let call = self.look("terraform workspace select");
        self.succeeded(&call, &["workspace", "select", "-no-color", "default"]).await?;
        let call = self.change("terraform workspace delete");
        self.succeeded(&call, &["workspace", "delete", "-no-color", &lock, self.workspace])
            .await
            .map(drop)
    }

    /// Removes the folder. What cannot be removed is no trouble of the step's: it holds no plan,
    /// and the next attempt works in it.
    pub(crate) async fn close(self) {
        let _ = fs::remove_dir_all(&self.folder).await;
    }

    /// Refuses what is too old before it can change anything, or write a state that others
    /// cannot read.
    async fn releases(&self) -> Result<(), StepError> {
        let call = self.look("terraform version");
        let ended = self.succeeded(&call, &["version", "-json"]).await?;
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
        let ended = self.run(&call, fixed.iter().map(OsString::from).chain([backend])).await?;
        self.judged(&call, ended).map(drop)
    }

    async fn succeeded(&self, call: &Call, arguments: &[&str]) -> Result<Ended, StepError> {
        self.judged(call, self.run(call, arguments.iter().map(OsString::from)).await?)
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
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Ended, StepError> {
        let config = self.config();
        let said = call.operation.replace(' ', "-");
        let mut program = Program::new(&config.program)
            .arguments(arguments)
            .in_folder(&config.module)
            .with_output_file(self.folder.join(said))
            .with_output_max(OUTPUT_BYTES_MAX)
            .with_grace(config.grace.min(call.timeout / 2))
            .with_variable("HOME", &self.folder);
        for (name, value) in &config.environment {
            program = program.with_variable(name, value);
        }
        for (name, value) in &self.secrets {
            program = program.with_secret(name, value);
        }
        program
            .with_variable("CHECKPOINT_DISABLE", "1")
            .with_variable("TF_DATA_DIR", self.folder.join(DATA_FOLDER))
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
        argument.push(self.folder.join(file));
        argument
    }

    fn variables(&self) -> OsString {
        self.path_argument("-var-file=", VARIABLES_FILE)
    }
}

fn lock_timeout() -> String {
    format!("-lock-timeout={}s", LOCK_WAIT.as_secs())
}

fn read<T: serde::de::DeserializeOwned>(call: &Call, output: &[u8]) -> Result<T, StepError> {
    serde_json::from_slice(output).map_err(|_| {
        // X1: the reason may quote the output.
        StepError::retry(call.operation)
            .with_code("unreadable")
            .with_message("the program's output is not what its release promises")
    })
}

/// Makes the folder of a workspace, for this user alone, and writes what the commands read.
async fn prepare(
    config: &TerraformConfig,
    workspace: &str,
    variables: &BTreeMap<String, Value>,
) -> io::Result<PathBuf> {
    let work = folder::make(&config.work).await?;
    // Commands run in the module's folder, so every path they get is a whole one.
    let folder = folder::make(&work.join(workspace)).await?;
    // What an earlier attempt selected may be gone.
    folder::remove(&folder.join(DATA_FOLDER).join("environment")).await?;
    let settings: String = config.state.settings.iter().map(setting).collect();
    folder::write(&folder.join(BACKEND_FILE), settings.as_bytes()).await?;
    let variables = serde_json::to_vec(variables).map_err(io::Error::other)?;
    folder::write(&folder.join(VARIABLES_FILE), &variables).await?;
    Ok(folder)
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
