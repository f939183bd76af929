//! A firewall: its rules, and the servers it is on.

use std::{collections::BTreeMap, net::IpAddr};

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    check_labels, check_name, delete, find, id_of, invalid, labels, list_owned, may_lag, not_yet,
    number, timing, vanished,
};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        Hetzner,
        model::{FirewallShown, NewFirewall, Rule, Thing},
    },
};

/// Most rules of a firewall here; the provider documents 500.
const RULES_MAX: usize = 500;
const SET_RULES: &str = "set firewall rules";

/// What a rule lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP, with a port.
    Tcp,
    /// UDP, with a port.
    Udp,
    /// ICMP.
    Icmp,
}

impl Protocol {
    const fn wire(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// Lets something in from somewhere; all else that comes in is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Inbound {
    /// The protocol.
    pub protocol: Protocol,
    /// A port (`22`) or range of ports (`8000-8010`); none for ICMP.
    pub port: Option<String>,
    /// From where, as networks: `203.0.113.7/32`, `::/0`.
    pub sources: Vec<String>,
}

impl Inbound {
    /// Lets TCP in to a port or range of ports, from everywhere.
    #[must_use]
    pub fn tcp(port: impl Into<String>) -> Self {
        Self::new(Protocol::Tcp, Some(port.into()))
    }

    /// Lets UDP in to a port or range of ports, from everywhere. Tailscale's own is 41641.
    #[must_use]
    pub fn udp(port: impl Into<String>) -> Self {
        Self::new(Protocol::Udp, Some(port.into()))
    }

    /// Lets ICMP in, from everywhere.
    #[must_use]
    pub fn icmp() -> Self {
        Self::new(Protocol::Icmp, None)
    }

    fn new(protocol: Protocol, port: Option<String>) -> Self {
        Self { protocol, port, sources: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()] }
    }

    /// Replaces where it may come from.
    #[must_use]
    pub fn from_only<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Self {
        self.sources = sources.into_iter().map(Into::into).collect();
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        let with_port = self.protocol != Protocol::Icmp;
        if self.port.as_deref().is_some_and(|port| !is_port(port))
            || self.port.is_some() != with_port
        {
            return Err("TCP and UDP need a port (22) or a range of ports (8000-8010)");
        }
        if self.sources.is_empty() || !self.sources.iter().all(|source| is_network(source)) {
            return Err("a source is a network whose host bits are zero, such as 203.0.113.7/32");
        }
        Ok(())
    }

    fn rule(&self) -> Rule {
        Rule {
            direction: "in".to_owned(),
            protocol: self.protocol.wire().to_owned(),
            port: self.port.clone(),
            source_ips: self.sources.clone(),
            destination_ips: Vec::new(),
        }
    }
}

/// A wanted firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FirewallSpec {
    /// Name: unique per project.
    pub name: String,
    /// What is let in. Without any rule nothing is. What goes out is not held back.
    pub inbound: Vec<Inbound>,
    /// Labels besides the owner mark.
    pub labels: BTreeMap<String, String>,
}

impl FirewallSpec {
    /// Wants a firewall that lets nothing in so far.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), inbound: Vec::new(), labels: BTreeMap::new() }
    }

    /// Lets something in.
    #[must_use]
    pub fn allowing(mut self, rule: Inbound) -> Self {
        self.inbound.push(rule);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        check_name(&self.name)?;
        check_labels(&self.labels)?;
        if self.inbound.len() > RULES_MAX {
            return Err("a firewall has at most 500 rules");
        }
        self.inbound.iter().try_for_each(Inbound::check)
    }

    fn rules(&self) -> Vec<Rule> {
        self.inbound.iter().map(Inbound::rule).collect()
    }

    /// Whether a firewall lets in what is wanted, and nothing else; order is of no account.
    fn is_met_by(&self, firewall: &FirewallShown) -> bool {
        let sorted = |rules: &[Rule]| {
            let mut rules: Vec<Rule> = rules.iter().map(Rule::normal).collect();
            rules.sort();
            rules
        };
        sorted(&self.rules()) == sorted(&firewall.rules)
    }
}

/// A firewall that is there, with its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FirewallMade {
    /// The provider's id.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// Makes a firewall. Rules that somebody has changed since are set again while the step is under
/// way, and left alone afterwards.
#[derive(Debug, Clone)]
pub struct Firewall {
    hetzner: Hetzner,
}

impl Firewall {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Resource for Firewall {
    const KIND: &'static str = "hetzner.firewall";
    type Spec = FirewallSpec;
    type Output = FirewallMade;

    fn identity(&self, spec: &FirewallSpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &FirewallSpec) -> Result<Found, StepError> {
        find::<FirewallShown>(&self.hetzner, cx, &spec.name).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &FirewallSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check().map_err(invalid(FirewallShown::CREATE))?;
        let wanted = NewFirewall {
            name: &spec.name,
            rules: spec.rules(),
            labels: labels(&spec.labels, intent.mark()),
        };
        let made: FirewallShown = self.hetzner.create(cx, &wanted).await?;
        let id = id_of(&made);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &FirewallSpec,
        id: &ExternalId,
    ) -> Result<Readiness<FirewallMade>, StepError> {
        let number = number(FirewallShown::FIND, id.as_str())?;
        let Some(firewall) = self.hetzner.by_id::<FirewallShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        if !spec.is_met_by(&firewall) {
            if cx.is_adopted(id) {
                return Err(adopted_incomplete(FirewallShown::FIND, "its rules are others"));
            }
            // They come by an action of the create's own.
            if may_lag(cx) {
                return Ok(not_yet(cx));
            }
            let body = serde_json::json!({ "rules": spec.rules() });
            let act = (SET_RULES, "set_rules");
            self.hetzner.act::<FirewallShown>(cx, act, number, Some(&body)).await?;
            return Ok(not_yet(cx));
        }
        Ok(Readiness::Ready(FirewallMade { id: firewall.head.id, name: firewall.head.name }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &FirewallSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // While it is on a server the provider refuses, and it is tried again.
        delete::<FirewallShown>(&self.hetzner, cx, id).await
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        list_owned::<FirewallShown>(&self.hetzner, cx).await
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &FirewallSpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}

fn is_port(text: &str) -> bool {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-') {
        Some((from, to)) => port(from).zip(port(to)).is_some_and(|(from, to)| from <= to),
        None => port(text).is_some(),
    }
}

/// A network in CIDR form without host bits: written so, it comes back as it was sent.
pub(super) fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match address {
        IpAddr::V4(v4) => bits <= 32 && v4.to_bits().checked_shl(bits).unwrap_or(0) == 0,
        IpAddr::V6(v6) => bits <= 128 && v6.to_bits().checked_shl(bits).unwrap_or(0) == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{FirewallSpec, Inbound, is_network};

    #[test]
    fn rules_are_refused_that_would_not_come_back_as_they_were_sent() {
        let networks = [
            ("0.0.0.0/0", true),
            ("203.0.113.7/32", true),
            ("10.0.0.0/8", true),
            ("10.0.0.1/8", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0", false),
            ("::/0", true),
            ("2001:db8::1/128", true),
            ("2001:db8::1/64", false),
            ("everywhere", false),
        ];
        for (text, good) in networks {
            assert_eq!(is_network(text), good, "{text}");
        }
        let specs = [
            (FirewallSpec::new("f").allowing(Inbound::tcp("22")), true),
            (FirewallSpec::new("f").allowing(Inbound::udp("8000-8010")), true),
            (FirewallSpec::new("f").allowing(Inbound::icmp()), true),
            (FirewallSpec::new("f").allowing(Inbound::tcp("ssh")), false),
            (FirewallSpec::new("f").allowing(Inbound::tcp("0")), false),
            (FirewallSpec::new("f").allowing(Inbound::tcp("9-8")), false),
            (FirewallSpec::new("f").allowing(Inbound::tcp("22").from_only(["here"])), false),
            (FirewallSpec::new("f").allowing(Inbound::tcp("22").from_only::<&str>([])), false),
            (FirewallSpec::new(""), false),
        ];
        for (spec, good) in specs {
            assert_eq!(spec.check().is_ok(), good, "{spec:?}");
        }
    }
}
