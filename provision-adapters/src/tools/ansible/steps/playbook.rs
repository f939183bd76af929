//! A playbook as a step, and as what undoes it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use provision_core::{Compensator, LedgerRow, SecretRef, Step, StepContext, StepError, Undo};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::tools::ansible::{
    Ansible, MACHINES_MAX, Playbook, VALUE_BYTES_MAX, VariableType, client::Given,
    machine::Machine, model::Report,
};

const GIVE: &str = "give a playbook its variables";

/// The value of a playbook's variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// For [`VariableType::Text`] and [`VariableType::Name`].
    Text(String),
    /// For [`VariableType::Integer`].
    Integer(i64),
    /// For [`VariableType::Switch`].
    Switch(bool),
    /// For [`VariableType::Secret`].
    Secret(SecretRef),
}

/// What a playbook is run on, and with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlaybookInput {
    /// The machines. None where the step takes them from the ledger.
    pub machines: Vec<Machine>,
    /// Values of the variables that the playbook allows.
    pub variables: BTreeMap<String, Value>,
}

impl PlaybookInput {
    /// Runs it on these machines, with no variable set so far.
    #[must_use]
    pub fn on(machines: impl IntoIterator<Item = Machine>) -> Self {
        Self { machines: machines.into_iter().collect(), variables: BTreeMap::new() }
    }

    /// Runs it on the machines of the ledger, for a step made with
    /// [`RunPlaybook::with_ledger`].
    #[must_use]
    pub fn on_ledger() -> Self {
        Self::default()
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Value) -> Self {
        self.variables.insert(name.into(), value);
        self
    }
}

/// A playbook that has gone well on all its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Done {
    /// Every machine, by its name.
    pub machines: BTreeMap<String, Recap>,
    /// Values that the playbook has set, of those that [`Playbook::with_output`] names.
    pub outputs: BTreeMap<String, Json>,
}

/// How many tasks went how on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recap {
    /// Tasks that went well, those that changed something among them.
    pub ok: u64,
    /// Tasks that changed something.
    pub changed: u64,
}

type Rows = dyn Fn() -> BoxFuture<'static, Result<Vec<LedgerRow>, StepError>> + Send + Sync;

/// Runs a playbook on machines.
///
/// Called again after a crash or an unknown end, on the same machines and with the same values: the
/// playbook must be one that may be repeated, as Ansible's modules are. A killed worker leaves a
/// playbook at its work for as long as it lasts; the successor's run of it may then meet it.
#[derive(Clone)]
pub struct RunPlaybook {
    ansible: Ansible,
    playbook: Playbook,
    rows: Option<Arc<Rows>>,
}

impl fmt::Debug for RunPlaybook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunPlaybook").field("playbook", &self.playbook).finish_non_exhaustive()
    }
}

impl RunPlaybook {
    /// Runs `playbook` through `ansible`.
    #[must_use]
    pub fn new(ansible: &Ansible, playbook: Playbook) -> Self {
        Self { ansible: ansible.clone(), playbook, rows: None }
    }

    /// Takes the machines from the ledger, as it stands when an attempt begins: the rows that
    /// `rows` gives, as far as they are machines that are there and of the account of this
    /// [`Ansible`]. `Engine::ledger` reads rows.
    ///
    /// A machine that the input and the ledger name alike counts once. Two machines of one name are
    /// refused (`ambiguous_machine`): which one is meant is not known.
    #[must_use]
    pub fn with_ledger(
        mut self,
        rows: impl Fn() -> BoxFuture<'static, Result<Vec<LedgerRow>, StepError>> + Send + Sync + 'static,
    ) -> Self {
        self.rows = Some(Arc::new(rows));
        self
    }

    async fn play(&self, cx: &StepContext, input: PlaybookInput) -> Result<Report, StepError> {
        let given = given(cx, &self.playbook, &input.variables).await?;
        let machines = self.machines(input.machines).await?;
        self.ansible.play(cx, &self.playbook, &machines, &given).await
    }

    /// Every machine once, by name.
    async fn machines(&self, given: Vec<Machine>) -> Result<Vec<Machine>, StepError> {
        let rows = match &self.rows {
            Some(rows) => rows().await?,
            None => Vec::new(),
        };
        let mut known: BTreeMap<String, Machine> = BTreeMap::new();
        let account = &self.ansible.config().account;
        let rows = rows.iter().filter(|row| row.account == *account);
        for machine in given.into_iter().chain(rows.filter_map(Machine::from_row)) {
            if !machine.is_sound() {
                return Err(refused("invalid_machine", "a machine has characters it cannot have"));
            }
            let same = known.entry(machine.name.clone()).or_insert_with(|| machine.clone());
            if *same != machine {
                return Err(refused("ambiguous_machine", "two machines have the same name"));
            }
        }
        match known.len() {
            0 => Err(refused("no_machine", "there is no machine to run the playbook on")),
            1..=MACHINES_MAX => Ok(known.into_values().collect()),
            _ => Err(refused("too_many_machines", "more machines than one playbook may have")),
        }
    }
}

fn refused(code: &'static str, message: &'static str) -> StepError {
    StepError::permanent(GIVE).with_code(code).with_message(message)
}

/// Writes the values of variables as Ansible reads them.
async fn given(
    cx: &StepContext,
    playbook: &Playbook,
    variables: &BTreeMap<String, Value>,
) -> Result<Given, StepError> {
    let mut given = Given { text: "---\n".to_owned(), secrets: Vec::new() };
    for (name, value) in variables {
        let Some(kind) = playbook.variables.get(name) else {
            return Err(refused(
                "variable_not_allowed",
                "a variable is set that the playbook does not allow",
            ));
        };
        let value = match (kind, value) {
            (VariableType::Text, Value::Text(text)) => inert(text)?,
            (VariableType::Name, Value::Text(text)) if is_name(text) => inert(text)?,
            (VariableType::Integer, Value::Integer(number)) => number.to_string(),
            (VariableType::Switch, Value::Switch(switch)) => switch.to_string(),
            (VariableType::Secret, Value::Secret(reference)) => {
                let secret = cx.reveal(reference).await?;
                let text = inert(secret.expose())?;
                given.secrets.push(secret);
                text
            }
            _ => return Err(refused("variable_refused", "a value is not of its variable's type")),
        };
        let name = quoted(name)?;
        given.text.push_str(&format!("{name}: {value}\n"));
    }
    if variables.is_empty() {
        given.text.push_str("{}\n");
    }
    Ok(given)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

/// A text in which Ansible reads no template: `{{ lookup('pipe', ..) }}` would run a program of the
/// worker's.
fn inert(text: &str) -> Result<String, StepError> {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.len() > VALUE_BYTES_MAX || text.contains(control) {
        return Err(refused("variable_refused", "a text is too long or has control characters"));
    }
    Ok(format!("!unsafe {}", quoted(text)?))
}

/// A text in double quotes, in which JSON and YAML agree.
fn quoted(text: &str) -> Result<String, StepError> {
    serde_json::to_string(text)
        .map_err(|_| refused("variable_refused", "a text cannot be written as JSON"))
}

impl Step for RunPlaybook {
    const KIND: &'static str = "ansible.playbook";
    type Input = PlaybookInput;
    type Output = Done;

    async fn run(&self, cx: &StepContext, input: PlaybookInput) -> Result<Done, StepError> {
        let mut report = self.play(cx, input).await?;
        let recap = |stats: &crate::tools::ansible::model::Stats| Recap {
            ok: stats.ok,
            changed: stats.changed,
        };
        let machines = report.stats.iter().map(|(name, stats)| (name.clone(), recap(stats)));
        let machines = machines.collect();
        let mut outputs = BTreeMap::new();
        for name in &self.playbook.outputs {
            if let Some(value) = report.global_custom_stats.remove(name) {
                outputs.insert(name.clone(), value);
            }
        }
        Ok(Done { machines, outputs })
    }
}

/// Undoes a playbook with another one, on the same machines and with the same values.
///
/// It is run whenever the first one may have begun. Not needed where the machines themselves are
/// removed: use `NothingToUndo` there.
#[derive(Debug, Clone)]
pub struct UndoPlaybook {
    undo: RunPlaybook,
}

impl UndoPlaybook {
    /// Runs `playbook` through `ansible`. It has to allow the variables of the one it undoes.
    #[must_use]
    pub fn new(ansible: &Ansible, playbook: Playbook) -> Self {
        Self { undo: RunPlaybook::new(ansible, playbook) }
    }
}

impl Compensator<RunPlaybook> for UndoPlaybook {
    async fn compensate(
        &self,
        cx: &StepContext,
        input: PlaybookInput,
        _: Undo<Done>,
    ) -> Result<(), StepError> {
        self.undo.play(cx, input).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{inert, is_name};

    // covers: R2-38
    #[test]
    fn a_text_is_written_so_that_nothing_in_it_means_anything() {
        assert_eq!(inert("a\"b: {{ x }}\n# y").unwrap(), r#"!unsafe "a\"b: {{ x }}\n# y""#);
        for text in ["\u{7}", "\u{85}", "\u{0}", &"x".repeat(super::VALUE_BYTES_MAX + 1)] {
            assert_eq!(inert(text).unwrap_err().code(), "variable_refused");
        }
        assert!(is_name("agent-7.example") && !is_name("a b") && !is_name("") && !is_name("a;b"));
    }
}
