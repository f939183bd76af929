//! A machine that is known by its key, and has booted.

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use crate::tools::ansible::{
    Ansible, BOOTED_WITHIN,
    error::Seen,
    machine::{Machine, is_key},
};

const MEET: &str = "meet a machine";

/// A machine that is to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MachineSpec {
    /// Name in the inventory: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// An address of either kind, or a name of the network.
    pub address: String,
    /// Port of its SSH server. Default 22.
    pub port: u16,
    /// Who logs in. Default `root`.
    pub user: String,
    /// Its public host key, as `ssh-ed25519 AAAA..`, where whoever made the machine knows it.
    /// Default: the key that it shows at the first meeting is believed and recorded.
    pub host_key: Option<String>,
}

impl MachineSpec {
    /// Wants to know the machine at an address.
    #[must_use]
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        let (name, address) = (name.into(), address.into());
        Self { name, address, port: 22, user: "root".to_owned(), host_key: None }
    }

    /// Sets the port of its SSH server.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets who logs in.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the key it must have from the first meeting on.
    #[must_use]
    pub fn with_host_key(mut self, key: impl Into<String>) -> Self {
        self.host_key = Some(key.into());
        self
    }

    fn known_by(&self, host_key: String) -> Result<Machine, StepError> {
        let machine = Machine {
            name: self.name.clone(),
            address: self.address.clone(),
            port: self.port,
            user: self.user.clone(),
            host_key,
        };
        if machine.is_sound() { Ok(machine) } else { Err(unsound()) }
    }

    /// The machine, if its key is given. Refuses what no program is started for.
    fn given(&self) -> Result<Option<Machine>, StepError> {
        let placeholder = format!("ssh-ed25519 {}", "A".repeat(68));
        let key = self.host_key.as_ref().map(|key| first_two_words(key));
        let machine = self.known_by(key.clone().unwrap_or(placeholder))?;
        Ok(key.is_some().then_some(machine))
    }
}

/// A key without the comment that files of keys have behind it.
fn first_two_words(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn unsound() -> StepError {
    StepError::permanent(MEET)
        .with_code("invalid_spec")
        .with_message("name, address, user or key have characters that they cannot have")
}

/// Records by which key a machine is known, and waits until it has booted.
///
/// The row of the ledger holds address, user and key, so that [`Machine::from_row`] is an inventory.
/// Nothing is made on the machine, and undoing only closes the row.
#[derive(Debug, Clone)]
pub struct KnownMachine {
    ansible: Ansible,
}

impl KnownMachine {
    /// Works through `ansible`.
    #[must_use]
    pub fn new(ansible: &Ansible) -> Self {
        Self { ansible: ansible.clone() }
    }
}

impl Resource for KnownMachine {
    const KIND: &'static str = "ansible.machine";
    type Spec = MachineSpec;
    type Output = Machine;

    fn identity(&self, spec: &MachineSpec) -> Identity {
        // Knowing twice is knowing once.
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &MachineSpec) -> Result<Found, StepError> {
        // What is known stands in the run's own journal. A machine that has just been ordered
        // does not answer yet: that is waited for before anything is recorded, and never on the
        // way back, when it may be gone.
        if spec.given()?.is_some() || cx.memory().intent.is_some() {
            return Ok(Found::Absent);
        }
        let config = self.ansible.config();
        Ok(match self.ansible.scan(cx, &spec.address, spec.port).await? {
            Some(_) => Found::Absent,
            None => Found::Going { again_in: config.booting_again_in },
        })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &MachineSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let machine = match spec.given()? {
            Some(machine) => machine,
            None => {
                let key = self.ansible.scan(cx, &spec.address, spec.port).await?;
                let unreachable = || StepError::retry(MEET).with_code("unreachable");
                spec.known_by(key.filter(|key| is_key(key)).ok_or_else(unreachable)?)?
            }
        };
        let id = machine.id();
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &MachineSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Machine>, StepError> {
        let machine = Machine::from_id(&spec.name, id).ok_or_else(unsound)?;
        Ok(match self.ansible.look(cx, &machine).await? {
            Seen::Booted => Readiness::Ready(machine),
            Seen::NotYet => Readiness::NotYet { again_in: self.ansible.config().booting_again_in },
        })
    }

    /// Nothing is there to delete; the machine goes with whoever made it.
    async fn delete(
        &self,
        _: &StepContext,
        _: &MachineSpec,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        Ok(())
    }

    /// What is known stands in the ledger alone: no provider lists it, and nothing carries a mark.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        Timing { ready_within: BOOTED_WITHIN, ..Timing::default() }
    }

    fn account(&self) -> &str {
        &self.ansible.config().account
    }

    fn facts(&self, spec: &MachineSpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}
