//! Wire types: only the fields that are used. What a create answers besides, such as a root
//! password, is not read at all.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// What all kinds have.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) protection: Protection,
}

/// Whether the provider refuses to delete it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Protection {
    #[serde(default)]
    pub(crate) delete: bool,
}

/// A kind with names that are unique in its project, and with labels.
pub(crate) trait Thing: DeserializeOwned + Send + Sync {
    /// Its place below `/v1`.
    const PATH: &'static str;
    /// Names of the calls, for errors and metrics.
    const FIND: &'static str;
    const LIST: &'static str;
    const CREATE: &'static str;
    const DELETE: &'static str;

    fn head(&self) -> &Head;

    /// Whether it is being deleted; its name is taken until it is gone.
    fn is_going(&self) -> bool {
        false
    }
}

/// One thing, under the name of its kind.
#[derive(Debug, Deserialize)]
pub(crate) struct One<T> {
    #[serde(
        alias = "server",
        alias = "ssh_key",
        alias = "firewall",
        alias = "network",
        alias = "volume",
        alias = "pricing"
    )]
    pub(crate) one: T,
}

/// One page of things, under the plural of their kind.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    #[serde(
        alias = "servers",
        alias = "ssh_keys",
        alias = "firewalls",
        alias = "networks",
        alias = "volumes",
        alias = "actions"
    )]
    pub(crate) all: Vec<T>,
    #[serde(default)]
    pub(crate) meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Meta {
    #[serde(default)]
    pub(crate) pagination: Option<Pagination>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Pagination {
    /// Null on the last page.
    pub(crate) next_page: Option<u32>,
}

/// What the provider does about a request, in its own time.
#[derive(Debug, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: u64,
    pub(crate) command: String,
    pub(crate) status: ActionStatus,
    #[serde(default)]
    pub(crate) error: Option<ErrorDetail>,
    #[serde(default)]
    pub(crate) started: Option<String>,
    #[serde(default)]
    pub(crate) resources: Vec<ActionOn>,
}

impl Action {
    /// Whether it is about this thing, among others.
    pub(crate) fn is_about(&self, kind: &str, id: u64) -> bool {
        self.resources.iter().any(|on| on.kind == kind && on.id == id)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ActionOn {
    pub(crate) id: u64,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// What a command has set off, or an action that was asked for; a password that comes with it is not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Taken {
    #[serde(default)]
    pub(crate) action: Option<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionStatus {
    Success,
    Error,
    /// A word that is not known says of no end.
    #[serde(other)]
    Running,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorDetail {
    pub(crate) code: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SshKeyShown {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) fingerprint: String,
    pub(crate) public_key: String,
}

impl Thing for SshKeyShown {
    const PATH: &'static str = "ssh_keys";
    const FIND: &'static str = "find ssh key";
    const LIST: &'static str = "list ssh keys";
    const CREATE: &'static str = "create ssh key";
    const DELETE: &'static str = "delete ssh key";

    fn head(&self) -> &Head {
        &self.head
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct NewSshKey<'a> {
    pub(crate) name: &'a str,
    pub(crate) public_key: &'a str,
    pub(crate) labels: Labels,
}

/// Where a server is in its life; what is not known is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerStatus {
    Running,
    Off,
    Deleting,
    Initializing,
    Starting,
    Stopping,
    Migrating,
    Rebuilding,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ServerShown {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) status: ServerStatus,
    #[serde(default)]
    pub(crate) locked: bool,
    pub(crate) public_net: PublicNet,
    #[serde(default)]
    pub(crate) private_net: Vec<PrivateNet>,
    pub(crate) server_type: Named,
    /// Datacenters are gone from the API since 2026-07-01.
    pub(crate) location: Named,
    /// Gone where the provider has removed the image since.
    #[serde(default)]
    pub(crate) image: Option<ImageShown>,
}

impl Thing for ServerShown {
    const PATH: &'static str = "servers";
    const FIND: &'static str = "find server";
    const LIST: &'static str = "list servers";
    const CREATE: &'static str = "create server";
    const DELETE: &'static str = "delete server";

    fn head(&self) -> &Head {
        &self.head
    }

    fn is_going(&self) -> bool {
        self.status == ServerStatus::Deleting
    }
}

/// Images of the provider's have names; those that were taken of servers have an id only.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageShown {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) name: Option<String>,
}

impl ImageShown {
    /// Whether it is the image that was ordered, by name or by id.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        self.name.as_deref() == Some(wanted) || self.id.to_string() == wanted
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PublicNet {
    #[serde(default)]
    pub(crate) ipv4: Option<Address>,
    #[serde(default)]
    pub(crate) ipv6: Option<Address>,
    #[serde(default)]
    pub(crate) firewalls: Vec<FirewallUse>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Address {
    pub(crate) ip: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FirewallUse {
    #[serde(default)]
    pub(crate) id: Option<u64>,
    #[serde(default)]
    pub(crate) status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PrivateNet {
    #[serde(default)]
    pub(crate) network: Option<u64>,
    #[serde(default)]
    pub(crate) ip: Option<String>,
}

/// Carries opened secrets in its user data, so it has no `Debug`.
#[derive(Serialize)]
pub(crate) struct NewServer<'a> {
    pub(crate) name: &'a str,
    pub(crate) server_type: &'a str,
    pub(crate) image: &'a str,
    pub(crate) location: &'a str,
    pub(crate) labels: Labels,
    pub(crate) start_after_create: bool,
    pub(crate) public_net: NewPublicNet,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    pub(crate) ssh_keys: &'a [u64],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) firewalls: Vec<NewFirewallUse>,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    pub(crate) networks: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_data: Option<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct NewPublicNet {
    pub(crate) enable_ipv4: bool,
    pub(crate) enable_ipv6: bool,
}

#[derive(Serialize)]
pub(crate) struct NewFirewallUse {
    pub(crate) firewall: u64,
}

/// A rule of a firewall, as it is sent and shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) direction: String,
    pub(crate) protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    #[serde(default)]
    pub(crate) source_ips: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_ips: Vec<String>,
}

impl Rule {
    /// The same rule as any other way of writing it: its addresses in their shortest form and in
    /// order, each once, and a range of one port as that port.
    pub(crate) fn normal(&self) -> Self {
        let mut rule = self.clone();
        rule.port = rule.port.as_deref().map(normal_port);
        for list in [&mut rule.source_ips, &mut rule.destination_ips] {
            list.iter_mut().for_each(|network| *network = normal_network(network));
            list.sort();
            list.dedup();
        }
        rule
    }
}

/// What cannot be read stays as it is.
fn normal_network(text: &str) -> String {
    let read = || {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        Some(format!("{address}/{bits}"))
    };
    read().unwrap_or_else(|| text.to_owned())
}

fn normal_port(text: &str) -> String {
    let read = || {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
        Some(if from == to { from.to_string() } else { format!("{from}-{to}") })
    };
    read().unwrap_or_else(|| text.to_owned())
}

#[derive(Debug, Deserialize)]
pub(crate) struct FirewallShown {
    #[serde(flatten)]
    pub(crate) head: Head,
    #[serde(default)]
    pub(crate) rules: Vec<Rule>,
}

impl Thing for FirewallShown {
    const PATH: &'static str = "firewalls";
    const FIND: &'static str = "find firewall";
    const LIST: &'static str = "list firewalls";
    const CREATE: &'static str = "create firewall";
    const DELETE: &'static str = "delete firewall";

    fn head(&self) -> &Head {
        &self.head
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct NewFirewall<'a> {
    pub(crate) name: &'a str,
    pub(crate) rules: Vec<Rule>,
    pub(crate) labels: Labels,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NetworkShown {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) ip_range: String,
    #[serde(default)]
    pub(crate) subnets: Vec<SubnetShown>,
    #[serde(default)]
    pub(crate) servers: Vec<u64>,
}

impl Thing for NetworkShown {
    const PATH: &'static str = "networks";
    const FIND: &'static str = "find network";
    const LIST: &'static str = "list networks";
    const CREATE: &'static str = "create network";
    const DELETE: &'static str = "delete network";

    fn head(&self) -> &Head {
        &self.head
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct SubnetShown {
    pub(crate) network_zone: String,
    #[serde(default)]
    pub(crate) ip_range: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewNetwork<'a> {
    pub(crate) name: &'a str,
    pub(crate) ip_range: &'a str,
    pub(crate) subnets: Vec<NewSubnet>,
    pub(crate) labels: Labels,
}

#[derive(Debug, Serialize)]
pub(crate) struct NewSubnet {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) network_zone: String,
    pub(crate) ip_range: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VolumeShown {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) status: String,
    pub(crate) linux_device: String,
    pub(crate) size: u32,
    pub(crate) location: Named,
    #[serde(default)]
    pub(crate) format: Option<String>,
    #[serde(default)]
    pub(crate) server: Option<u64>,
}

impl Thing for VolumeShown {
    const PATH: &'static str = "volumes";
    const FIND: &'static str = "find volume";
    const LIST: &'static str = "list volumes";
    const CREATE: &'static str = "create volume";
    const DELETE: &'static str = "delete volume";

    fn head(&self) -> &Head {
        &self.head
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct NewVolume<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: u32,
    pub(crate) location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<&'a str>,
    pub(crate) labels: Labels,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PricingShown {
    pub(crate) currency: String,
    pub(crate) server_types: Vec<TypePrices>,
    pub(crate) volume: VolumePrice,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TypePrices {
    pub(crate) name: String,
    pub(crate) prices: Vec<PriceAt>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PriceAt {
    pub(crate) location: String,
    pub(crate) price_monthly: Price,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VolumePrice {
    pub(crate) price_per_gb_month: Price,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Price {
    pub(crate) net: String,
}

#[cfg(test)]
mod tests {
    use super::{Action, ActionStatus, ImageShown, Rule};

    #[test]
    fn rules_are_the_same_however_they_are_written() {
        let rule = |port: &str, sources: &[&str]| Rule {
            direction: "in".to_owned(),
            protocol: "tcp".to_owned(),
            port: Some(port.to_owned()),
            source_ips: sources.iter().map(|source| (*source).to_owned()).collect(),
            destination_ips: Vec::new(),
        };
        let plain = rule("22", &["10.0.0.0/8", "2001:db8::/32"]).normal();
        let same = rule("022-22", &["2001:0DB8:0:0::/32", "10.0.0.0/08", "10.0.0.0/8"]).normal();
        assert_eq!(plain, same);
        assert_ne!(plain, rule("22-23", &["10.0.0.0/8", "2001:db8::/32"]).normal());
        assert_eq!(rule("any", &["x"]).normal(), rule("any", &["x"]));
    }

    #[test]
    fn an_action_with_a_word_that_is_not_known_goes_on() {
        for (word, status) in [
            ("running", ActionStatus::Running),
            ("success", ActionStatus::Success),
            ("error", ActionStatus::Error),
            ("queued", ActionStatus::Running),
        ] {
            let text = format!(r#"{{"id":1,"command":"x","status":"{word}"}}"#);
            let action: Action = serde_json::from_str(&text).unwrap();
            assert_eq!(action.status, status, "{word}");
        }
    }

    #[test]
    fn an_image_is_known_by_its_name_or_its_id() {
        let named = ImageShown { id: 7, name: Some("debian-13".to_owned()) };
        let taken = ImageShown { id: 8, name: None };
        assert!(named.is("debian-13") && named.is("7") && !named.is("8"));
        assert!(taken.is("8") && !taken.is("debian-13"));
    }
}
