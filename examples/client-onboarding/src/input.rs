//! What a run is started with: the client, and the names that derive from its id.

use std::{fmt, str::FromStr};

use example_command::exit::Trouble;
use provision_adapters::supabase::{REGION_GROUPS, REGIONS};
use serde::{Deserialize, Serialize};

/// Longest client id, in characters; the names made of it then fit every provider.
pub const ID_MAX: usize = 40;
/// Longest display name, in characters.
pub const NAME_MAX: usize = 80;
/// Region of clients that name none.
pub const REGION_DEFAULT: &str = "eu-central-1";

/// What a client has booked; it selects the resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Database, repository and site.
    Starter,
    /// And a workflow behind a webhook.
    Professional,
    /// And a larger database and a domain of its own.
    Enterprise,
}

impl Tier {
    /// All tiers, from small to large.
    pub const ALL: [Self; 3] = [Self::Starter, Self::Professional, Self::Enterprise];

    /// The name it is written as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
        }
    }

    /// Whether it comes with a workflow.
    #[must_use]
    pub fn has_automation(self) -> bool {
        self >= Self::Professional
    }

    /// Whether it comes with a domain of its own.
    #[must_use]
    pub fn has_domain(self) -> bool {
        self == Self::Enterprise
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = Trouble;

    fn from_str(text: &str) -> Result<Self, Trouble> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == text).ok_or_else(|| {
            let valid = Self::ALL.map(Self::as_str).join(", ");
            Trouble::usage(
                "unknown_tier",
                format!("there is no tier `{text}`"),
                format!("valid tiers are {valid}"),
            )
        })
    }
}

/// The client to onboard; the input of the saga, stored with the run and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What everything is named after.
    pub id: String,
    /// What people call it; a label, never part of a name that has to be unique.
    pub name: String,
    /// What it has booked.
    pub tier: Tier,
    /// Where its database lives.
    pub region: String,
    /// Whether it lives with the real providers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
}

impl Client {
    /// Checks everything that can be checked before anything is stored or sent.
    ///
    /// # Errors
    /// The id, the name or the region cannot be used; says what would do.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        tier: Tier,
        region: impl Into<String>,
    ) -> Result<Self, Trouble> {
        let (id, name, region) = (id.into(), name.into(), region.into());
        check_id(&id)?;
        let fits = (1..=NAME_MAX).contains(&name.trim().chars().count());
        if !fits || name.chars().any(char::is_control) {
            let hint = format!("1 to {NAME_MAX} characters, without control characters");
            return Err(Trouble::usage("bad_name", "this name cannot be used", hint));
        }
        let mut known = REGIONS.iter().chain(&REGION_GROUPS);
        if !known.any(|one| *one == region) {
            let valid = [&REGIONS[..], &REGION_GROUPS[..]].concat().join(", ");
            return Err(Trouble::usage(
                "unknown_region",
                format!("there is no region `{region}`"),
                format!("valid regions are {valid}"),
            ));
        }
        Ok(Self { id, name, tier, region, live: false })
    }

    /// The name of everything that is made for this client: two clients called alike share none.
    #[must_use]
    pub fn app(&self) -> String {
        format!("client-{}-app", self.id)
    }

    /// Which of the things that may not change between two commands are different.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = [
            ("name", self.name.as_str(), other.name.as_str()),
            ("tier", self.tier.as_str(), other.tier.as_str()),
            ("region", self.region.as_str(), other.region.as_str()),
        ];
        let differ = pairs.into_iter().filter(|(_, own, others)| own != others);
        differ.map(|(what, own, others)| format!("{what} is `{own}`, not `{others}`")).collect()
    }
}

/// The key that one run of a client holds until nothing of it is left.
#[must_use]
pub fn business_key(id: &str) -> String {
    format!("client:{id}")
}

/// The queue of one client, so that a command drives the runs it was typed for and no others.
#[must_use]
pub fn queue(id: &str) -> String {
    format!("client-{id}")
}

/// Refuses ids that some provider would refuse or respell.
///
/// # Errors
/// The id cannot be used.
pub fn check_id(id: &str) -> Result<(), Trouble> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = !id.starts_with('-') && !id.ends_with('-') && !id.contains("--");
    if !id.is_empty() && id.len() <= ID_MAX && id.chars().all(plain) && edges {
        return Ok(());
    }
    Err(Trouble::usage(
        "bad_client_id",
        "this client id cannot be used",
        format!("1 to {ID_MAX} lower-case letters and digits, with single hyphens between them"),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Client, ID_MAX, Tier, check_id};

    // covers: R1-34
    #[test]
    fn ids_that_a_provider_would_respell_are_refused() {
        for id in ["a", "demo", "acme-7", "0", &"x".repeat(ID_MAX)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", "-a", "a-", "a--b", "A", "a_b", "a b", "ü", "a/b", &"x".repeat(ID_MAX + 1)]
        {
            assert_eq!(check_id(id).unwrap_err().code(), "bad_client_id", "{id}");
        }
    }

    // covers: R1-35, R1-91
    #[test]
    fn names_derive_from_the_id_and_never_from_the_display_name() {
        let client = |id| Client::new(id, "Acme", Tier::Starter, "eu-west-1").unwrap();
        assert_eq!(client("a1").app(), "client-a1-app");
        assert_ne!(client("a1").app(), client("a2").app());
    }

    // covers: R1-23, R1-26
    #[test]
    fn unknown_tiers_and_regions_are_refused_with_the_valid_ones() {
        let tier = "gold".parse::<Tier>().unwrap_err();
        assert!(format!("{tier:?}").contains("starter, professional, enterprise"));
        let region = Client::new("a", "A", Tier::Starter, "mars-1").unwrap_err();
        assert!(format!("{region:?}").contains("eu-central-1"), "{region:?}");
    }

    #[test]
    fn differences_are_named() {
        let old = Client::new("a", "A", Tier::Starter, "eu-west-1").unwrap();
        let new = Client { tier: Tier::Enterprise, name: "B".to_owned(), ..old.clone() };
        let differ = old.differences(&new);
        assert_eq!(differ, ["name is `A`, not `B`", "tier is `starter`, not `enterprise`"]);
        assert!(old.differences(&old).is_empty());
    }
}
