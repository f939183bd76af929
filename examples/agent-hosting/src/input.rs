//! What a run is started with: the subscription, and the names that derive from its id.

use std::{fmt, str::FromStr};

use example_command::exit::Trouble;
use serde::{Deserialize, Serialize};

/// Longest id of a subscription, in characters; the names made of it then fit both providers.
pub const ID_MAX: usize = 40;
/// Where machines can be.
pub const REGIONS: [&str; 4] = ["fsn1", "nbg1", "hel1", "ash"];

/// What can be booked: a few sizes, and no free choice of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 2 cores, 4 GB of memory, 40 GB of disk.
    Small,
    /// 2 dedicated-class cores, 4 GB of memory, 80 GB of disk.
    Medium,
    /// 4 cores, 8 GB of memory, 80 GB of disk.
    Large,
}

impl Preset {
    /// All presets, from small to large.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The name it is written as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// The provider's name of the type.
    #[must_use]
    pub const fn server_type(self) -> &'static str {
        match self {
            Self::Small => "cx23",
            Self::Medium => "cpx22",
            Self::Large => "cx33",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = Trouble;

    fn from_str(text: &str) -> Result<Self, Trouble> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or_else(|| {
            let valid = Self::ALL.map(Self::as_str).join(", ");
            let message = format!("there is no preset `{text}`");
            Trouble::usage("unknown_preset", message, format!("valid presets are {valid}"))
        })
    }
}

/// Who makes the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// The saga, by calls to the provider.
    #[default]
    Direct,
    /// A workflow that the saga dispatches, and that reports what it does.
    Workflow,
}

impl MadeBy {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Workflow];

    /// The name it is written as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Workflow => "workflow",
        }
    }
}

impl FromStr for MadeBy {
    type Err = Trouble;

    fn from_str(text: &str) -> Result<Self, Trouble> {
        Self::ALL.into_iter().find(|path| path.as_str() == text).ok_or_else(|| {
            let message = format!("there is no path `{text}`");
            Trouble::usage("unknown_path", message, "valid paths are direct, workflow")
        })
    }
}

/// A subscription that was paid for; the input of the saga, stored with the run and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// What everything is named after.
    pub id: String,
    /// Who pays; costs are summed by customer.
    pub customer: String,
    /// The size of the machine.
    pub preset: Preset,
    /// Where the machine is.
    pub region: String,
    /// The customer's public key. Whoever has its private half is let in.
    pub ssh_key: String,
    /// Who makes the machine.
    #[serde(default)]
    pub made_by: MadeBy,
}

impl Subscription {
    /// Checks everything that can be checked before anything is stored or sent.
    ///
    /// # Errors
    /// The id, the customer or the region cannot be used; says what would do.
    pub fn new(
        id: impl Into<String>,
        customer: impl Into<String>,
        preset: Preset,
        region: impl Into<String>,
    ) -> Result<Self, Trouble> {
        let (id, customer, region) = (id.into(), customer.into(), region.into());
        check_name("subscription", &id)?;
        check_name("customer", &customer)?;
        if !REGIONS.contains(&region.as_str()) {
            return Err(Trouble::usage(
                "unknown_region",
                format!("there is no region `{region}`"),
                format!("valid regions are {}", REGIONS.join(", ")),
            ));
        }
        let ssh_key = public_key(&id);
        Ok(Self { id, customer, preset, region, ssh_key, made_by: MadeBy::Direct })
    }

    /// Sets who makes the machine. By default the saga itself.
    #[must_use]
    pub fn made_by(mut self, made_by: MadeBy) -> Self {
        self.made_by = made_by;
        self
    }

    /// The name of everything that is made for it, and of the machine.
    #[must_use]
    pub fn machine(&self) -> String {
        format!("agent-{}", self.id)
    }

    /// The queue of its region: a region that is full or away holds no other one up.
    #[must_use]
    pub fn queue(&self) -> String {
        queue(&self.region)
    }
}

/// The queue of a region.
#[must_use]
pub fn queue(region: &str) -> String {
    format!("agents-{region}")
}

/// The key that one run of a subscription holds until nothing of it is left: one machine for each.
#[must_use]
pub fn guard(id: &str) -> String {
    format!("subscription:{id}")
}

/// The key that a customer of the simulated cloud sends along: another one for each subscription,
/// because the provider takes the same key once.
fn public_key(id: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = usize::try_from(state >> 58).unwrap_or_default();
        ALPHABET.get(at).copied().map_or('A', char::from)
    };
    let drawn: String = (0..43).map(|_| draw()).collect();
    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{drawn} {id}")
}

/// Refuses names that some provider would refuse or respell.
fn check_name(what: &str, name: &str) -> Result<(), Trouble> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = !name.starts_with('-') && !name.ends_with('-') && !name.contains("--");
    if !name.is_empty() && name.len() <= ID_MAX && name.chars().all(plain) && edges {
        return Ok(());
    }
    Err(Trouble::usage(
        "bad_name",
        format!("this {what} cannot be used"),
        format!("1 to {ID_MAX} lower-case letters and digits, with single hyphens between them"),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Preset, REGIONS, Subscription};

    // covers: R2-36
    #[test]
    fn there_are_three_presets_and_no_free_choice_of_a_server() {
        assert_eq!(Preset::ALL.map(Preset::server_type), ["cx23", "cpx22", "cx33"]);
        for preset in Preset::ALL {
            assert_eq!(preset.as_str().parse::<Preset>().unwrap(), preset);
        }
        for unknown in ["cx23", "", "Small"] {
            assert_eq!(unknown.parse::<Preset>().unwrap_err().code(), "unknown_preset");
        }
    }

    #[test]
    fn what_a_provider_would_respell_is_refused() {
        for region in REGIONS {
            Subscription::new("a", "b", Preset::Small, region).unwrap();
        }
        let code = |id, customer, region| {
            Subscription::new(id, customer, Preset::Small, region).unwrap_err().code().to_owned()
        };
        assert_eq!(code("A", "b", "fsn1"), "bad_name");
        assert_eq!(code("a", "b b", "fsn1"), "bad_name");
        assert_eq!(code("a", "b", "mars-1"), "unknown_region");
    }

    #[test]
    fn two_customers_never_send_the_same_key() {
        let key = |id| Subscription::new(id, "b", Preset::Small, "fsn1").unwrap().ssh_key;
        assert_ne!(key("a-1"), key("a-2"));
        assert_eq!(key("a-1"), key("a-1"));
    }
}
