//! A machine as it is known: where it is, and by which key.

use provision_core::{ExternalId, LedgerRow, ResourceState};
use serde::{Deserialize, Serialize};

/// Kind of the ledger's rows, without the provider.
const PROVIDER: &str = "ansible";
const KIND: &str = "machine";

/// A machine that is reached over SSH, and the key it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Machine {
    /// Name in the inventory: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// An address of either kind, or a name of the network.
    pub address: String,
    /// Port of its SSH server.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// Its public host key, as `ssh-ed25519 AAAA..`.
    pub host_key: String,
}

impl Machine {
    /// How it stands in the ledger: everything but its name, so that the ledger is enough to find
    /// and to recognise it.
    pub(crate) fn id(&self) -> ExternalId {
        let Self { address, port, user, host_key, .. } = self;
        ExternalId::new(format!("{user}@[{address}]:{port} {host_key}"))
    }

    /// Reads it back.
    pub(crate) fn from_id(name: &str, id: &ExternalId) -> Option<Self> {
        let (place, host_key) = id.as_str().split_once(' ')?;
        let (user, place) = place.split_once("@[")?;
        let (address, port) = place.rsplit_once("]:")?;
        let machine = Self {
            name: name.to_owned(),
            address: address.to_owned(),
            port: port.parse().ok()?,
            user: user.to_owned(),
            host_key: host_key.to_owned(),
        };
        machine.is_sound().then_some(machine)
    }

    /// The machine of a row of the ledger, if the row is that of a machine that is there. Its
    /// account, which says what network its address is of, is for the caller to look at.
    #[must_use]
    pub fn from_row(row: &LedgerRow) -> Option<Self> {
        let known = row.provider == PROVIDER && row.kind == KIND;
        let there = known && row.state == ResourceState::Alive;
        Self::from_id(row.name.as_deref()?, row.external_id.as_ref().filter(|_| there)?)
    }

    /// Whether nothing in it could be read as more than it is, by `ssh` or by Ansible.
    pub(crate) fn is_sound(&self) -> bool {
        let word = |text: &str, more: &str, most: usize| {
            (1..=most).contains(&text.len())
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        word(&self.name, ".-_", 253)
            && word(&self.address, ".-:", 253)
            && word(&self.user, ".-_", 64)
            && self.port > 0
            && is_key(&self.host_key)
    }

    /// Its line in a file of known hosts.
    pub(crate) fn known_hosts_line(&self) -> String {
        let Self { address, port, host_key, .. } = self;
        match port {
            22 => format!("{address} {host_key}\n"),
            _ => format!("[{address}]:{port} {host_key}\n"),
        }
    }
}

/// Whether it is one public key: its type and its bytes.
pub(crate) fn is_key(text: &str) -> bool {
    let Some((kind, bytes)) = text.split_once(' ') else { return false };
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    KEY_TYPES.contains(&kind) && (40..=2_000).contains(&bytes.len()) && bytes.chars().all(base64)
}

/// Types of host keys, the best first.
pub(crate) const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

#[cfg(test)]
mod tests {
    use super::{Machine, is_key};

    fn machine(address: &str, user: &str) -> Machine {
        Machine {
            name: "agent-7".to_owned(),
            address: address.to_owned(),
            port: 2222,
            user: user.to_owned(),
            host_key: format!("ssh-ed25519 {}", "A".repeat(68)),
        }
    }

    // covers: R2-46
    #[test]
    fn what_the_ledger_holds_is_enough_to_recognise_a_machine() {
        for address in ["203.0.113.7", "2001:db8::7", "agent-7.example.com"] {
            let machine = machine(address, "root");
            assert_eq!(Machine::from_id("agent-7", &machine.id()), Some(machine.clone()));
            let line = machine.known_hosts_line();
            assert!(line.starts_with(&format!("[{address}]:2222 ssh-ed25519 AAAA")), "{line}");
        }
    }

    // covers: R2-38
    #[test]
    fn nothing_in_a_machine_is_read_as_more_than_it_is() {
        assert!(machine("203.0.113.7", "root").is_sound());
        for address in ["", "-oProxyCommand=x", "a b", "{{ lookup }}", "a\nb", "a,b", "[a]"] {
            assert!(!machine(address, "root").is_sound(), "{address}");
        }
        for user in ["", "-l", "root@other", "a b", "{{x}}"] {
            assert!(!machine("203.0.113.7", user).is_sound(), "{user}");
        }
        assert!(!is_key("ssh-ed25519 AAAA") && !is_key("ssh-dss AAAA"));
        assert!(!is_key(&format!("ssh-ed25519 {}\nevil", "A".repeat(68))));
    }
}
