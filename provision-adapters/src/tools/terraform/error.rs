//! The table from what Terraform says to our errors. Texts are compared here and nowhere else
//! (measured on Terraform 1.11.4, 2026-11-22; texts of `internal/backend/local/backend_apply.go`).

use std::time::Duration;

use provision_core::{Effect, StepError, Verdict};

use super::model::{Diagnostic, Line};
use crate::tools::process::Ended;

/// What a known text means.
enum Meaning {
    Again,
    Never,
    Person,
}

/// A text that begins a diagnostic, the word for it, what it means, and what a person can do.
struct Known(&'static str, &'static str, Meaning, &'static str);

/// The worst first: a command may say several.
const KNOWN: [Known; 23] = [
    Known("Failed to persist state", "state_not_saved", Meaning::Person, UNSAVED),
    Known("Failed to save state", "state_not_saved", Meaning::Person, UNSAVED),
    Known("Failed to create local state file", "state_not_saved", Meaning::Person, UNSAVED),
    Known("Failed to serialize state", "state_not_saved", Meaning::Person, UNSAVED),
    Known("Instance cannot be destroyed", "destroy_prevented", Meaning::Person, PREVENTED),
    Known("Unsupported Terraform Core version", "version_refused", Meaning::Never, VERSION),
    Known("Inconsistent dependency lock file", "lock_file", Meaning::Never, LOCK_FILE),
    Known("Provider dependency changes detected", "lock_file", Meaning::Never, LOCK_FILE),
    Known("No value for required variable", "variable_missing", Meaning::Never, VARIABLE),
    Known("Invalid value for variable", "variable_refused", Meaning::Never, VARIABLE),
    Known("Invalid value for input variable", "variable_refused", Meaning::Never, VARIABLE),
    Known("Backend type", "backend_refused", Meaning::Never, BACKEND),
    Known("Invalid backend configuration", "backend_refused", Meaning::Never, BACKEND),
    Known("Missing backend configuration", "backend_refused", Meaning::Never, BACKEND),
    Known("Missing required argument", "module_refused", Meaning::Never, MODULE),
    Known("Unsupported argument", "module_refused", Meaning::Never, MODULE),
    Known("Unsupported block type", "module_refused", Meaning::Never, MODULE),
    Known("Reference to undeclared", "module_refused", Meaning::Never, MODULE),
    Known("Invalid reference", "module_refused", Meaning::Never, MODULE),
    Known("Saved plan is stale", "plan_stale", Meaning::Again, ""),
    Known("Saved plan does not match the given state", "plan_stale", Meaning::Again, ""),
    Known("Failed to query available provider packages", "registry", Meaning::Again, REGISTRY),
    Known("Failed to install provider", "registry", Meaning::Again, REGISTRY),
];

const UNSAVED: &str = "resources exist that the state does not name";
const PREVENTED: &str = "the module forbids it with `prevent_destroy`";
const VERSION: &str = "install a release that the module allows";
const LOCK_FILE: &str = "run `terraform init` in the module and commit .terraform.lock.hcl";
const VARIABLE: &str = "compare the spec's variables with those that the module declares";
const BACKEND: &str = "compare the settings of the state with the backend that the module declares";
const MODULE: &str = "run `terraform validate` in the module";
const REGISTRY: &str = "provide the plug-ins by a mirror: `provider_installation` in the file of \
    TF_CLI_CONFIG_FILE";
const LOCKED: &str = "it is tried again by itself; a lock whose holder is dead is opened by a \
    person, with `terraform force-unlock`";

/// The word for a state that somebody else works on.
pub(crate) const STATE_LOCKED: &str = "state_locked";
const LOCK: &str = "Error acquiring the state lock";
/// Longest text that is taken over from a lock.
const FIELD_CHARACTERS_MAX: usize = 80;

/// Why a command failed. `cut` is what may have happened when nothing better is known; `again_in`
/// is how long a locked state is left alone.
pub(crate) fn failed(
    operation: &'static str,
    cut: Effect,
    ended: &Ended,
    again_in: Duration,
) -> StepError {
    let complaint = ended.complaint();
    let lines = ended.output().split(|byte| *byte == b'\n');
    let said = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let errors: Vec<Diagnostic> =
        said.filter_map(|line| line.diagnostic).filter(|d| d.severity == "error").collect();
    let begins = |text: &str| {
        errors.iter().any(|error| error.summary.starts_with(text)) || complaint.contains(text)
    };
    if let Some(known) = KNOWN.iter().find(|known| begins(known.0)) {
        return known.error(operation, cut);
    }
    if begins(LOCK) {
        let detail = errors.iter().find(|error| error.summary.starts_with(LOCK));
        let detail = detail.map_or(complaint.as_str(), |error| &error.detail);
        return locked(operation, detail, again_in);
    }
    let code = match ended.code() {
        None => "killed",
        Some(_) if begins("execution halted") || begins("operation canceled") => "interrupted",
        Some(_) => "failed",
    };
    let error = StepError::new(cut, Verdict::Retry { after: None }, operation).with_code(code);
    match errors.first().and_then(|error| error.address.as_deref()) {
        // X1: a text of a plug-in may hold anything; where it failed is said by the module.
        Some(address) => error.with_message(format!("at {}", without_keys(address))),
        None => error,
    }
}

impl Known {
    fn error(&self, operation: &'static str, cut: Effect) -> StepError {
        let Self(_, code, meaning, hint) = self;
        let (effect, verdict) = match meaning {
            // S9: a plan that is refused for its age has changed nothing.
            Meaning::Again if *code == "plan_stale" => {
                (Effect::None, Verdict::Retry { after: None })
            }
            Meaning::Again => (cut, Verdict::Retry { after: None }),
            Meaning::Never => (cut, Verdict::Permanent),
            Meaning::Person => (cut, Verdict::Operator),
        };
        let error = StepError::new(effect, verdict, operation).with_code(*code);
        if hint.is_empty() { error } else { error.with_hint(*hint) }
    }
}

/// S9: who does not get the lock has changed nothing. It is never forced open.
fn locked(operation: &'static str, detail: &str, again_in: Duration) -> StepError {
    let field = |name: &str| {
        // Lines of the lock, with the frame that is drawn around them where there is no JSON.
        let line = detail.lines().find_map(|line| {
            let line = line.trim_matches(|c: char| c.is_whitespace() || c == '│');
            line.strip_prefix(name)?.strip_prefix(':')
        })?;
        let line: String = line.trim().chars().filter(|c| !c.is_control()).collect();
        Some(line.chars().take(FIELD_CHARACTERS_MAX).collect::<String>())
    };
    let unknown = || "an unknown holder".to_owned();
    let who = field("Who").filter(|who| !who.is_empty()).unwrap_or_else(unknown);
    let mut message = format!("the state is locked by {who}");
    if let Some(what) = field("Operation") {
        message.push_str(&format!(" for {what}"));
    }
    if let Some(since) = field("Created") {
        message.push_str(&format!(" since {since}"));
    }
    StepError::new(Effect::None, Verdict::Retry { after: Some(again_in) }, operation)
        .with_code(STATE_LOCKED)
        .with_message(message)
        .with_hint(LOCKED)
}

/// S9: an apply of an earlier attempt is still at its work, and this one has begun nothing.
pub(crate) fn going(operation: &'static str, again_in: Duration) -> StepError {
    StepError::new(Effect::None, Verdict::Retry { after: Some(again_in) }, operation)
        .with_code(STATE_LOCKED)
        .with_message("an apply of an earlier attempt is still at its work")
}

/// S9: nobody knows what a killed apply has made, and the state does not name it. To apply again
/// could make it twice, and to destroy would leave it. `note` is the file that says so.
pub(crate) fn cut(operation: &'static str, note: &str) -> StepError {
    StepError::new(Effect::Unknown, Verdict::Operator, operation)
        .with_code("state_may_lack")
        .with_message("an apply was killed before it wrote down what it made")
        .with_hint(format!(
            "compare what exists with the state, `terraform import` what it lacks, and then remove \
             `{note}` from the folder of what is kept"
        ))
}

/// Resources exist that no state names, but a file does.
pub(crate) fn unsaved(operation: &'static str, file: &str) -> StepError {
    StepError::new(Effect::Unknown, Verdict::Operator, operation)
        .with_code("state_not_saved")
        .with_message("resources exist that the state does not name")
        .with_hint(format!(
            "give `{file}`, in the folder of what is kept, to `terraform state push` in the \
             workspace, and then remove it"
        ))
}

/// An address up to the key of its first instance. Keys are values, and may hold anything.
fn without_keys(address: &str) -> String {
    address.chars().take_while(|c| *c != '[').take(FIELD_CHARACTERS_MAX).collect()
}
