//! A private network with its subnet.

use std::collections::BTreeMap;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    broken, check_labels, check_name, find, firewall::is_network, id_of, in_use, invalid, labels,
    list_owned, may_lag, not_yet, number, timing, to_delete, vanished,
};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        Hetzner,
        model::{NetworkShown, NewNetwork, NewSubnet, Thing},
    },
};

/// A wanted network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkSpec {
    /// Name: unique per project.
    pub name: String,
    /// All of its addresses, such as `10.0.0.0/16`.
    pub ip_range: String,
    /// Its subnets: their zone (`eu-central`, `us-east`, ..) and their addresses.
    pub subnets: Vec<(String, String)>,
    /// Labels besides the owner mark.
    pub labels: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// Wants a network of these addresses, without a subnet so far.
    #[must_use]
    pub fn new(name: impl Into<String>, ip_range: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ip_range: ip_range.into(),
            subnets: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Adds a subnet in a zone; servers of that zone's locations can be attached.
    #[must_use]
    pub fn with_subnet(mut self, zone: impl Into<String>, ip_range: impl Into<String>) -> Self {
        self.subnets.push((zone.into(), ip_range.into()));
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
        let ranges = self.subnets.iter().map(|(_, range)| range).chain([&self.ip_range]);
        if ranges.into_iter().all(|range| is_network(range)) {
            Ok(())
        } else {
            Err("addresses are a network whose host bits are zero, such as 10.0.0.0/16")
        }
    }

    fn is_met_by(&self, network: &NetworkShown) -> bool {
        let has = |(zone, range): &(String, String)| {
            let same = |s: &crate::hetzner::model::SubnetShown| {
                s.network_zone == *zone && s.ip_range.as_ref() == Some(range)
            };
            network.subnets.iter().any(same)
        };
        network.ip_range == self.ip_range && self.subnets.iter().all(has)
    }
}

/// A network that is there, with its subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkMade {
    /// The provider's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// All of its addresses.
    pub ip_range: String,
}

/// Makes a network. It is deleted when no server is attached to it any more.
#[derive(Debug, Clone)]
pub struct Network {
    hetzner: Hetzner,
}

impl Network {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Resource for Network {
    const KIND: &'static str = "hetzner.network";
    type Spec = NetworkSpec;
    type Output = NetworkMade;

    fn identity(&self, spec: &NetworkSpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &NetworkSpec) -> Result<Found, StepError> {
        find::<NetworkShown>(&self.hetzner, cx, &spec.name).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &NetworkSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check().map_err(invalid(NetworkShown::CREATE))?;
        let subnet = |(zone, range): &(String, String)| NewSubnet {
            kind: "cloud",
            network_zone: zone.clone(),
            ip_range: range.clone(),
        };
        let wanted = NewNetwork {
            name: &spec.name,
            ip_range: &spec.ip_range,
            subnets: spec.subnets.iter().map(subnet).collect(),
            labels: labels(&spec.labels, intent.mark()),
        };
        let made: NetworkShown = self.hetzner.create(cx, &wanted).await?;
        let id = id_of(&made);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &NetworkSpec,
        id: &ExternalId,
    ) -> Result<Readiness<NetworkMade>, StepError> {
        let number = number(NetworkShown::FIND, id.as_str())?;
        let Some(network) = self.hetzner.by_id::<NetworkShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        if spec.is_met_by(&network) {
            let (id, name) = (network.head.id, network.head.name);
            return Ok(Readiness::Ready(NetworkMade { id, name, ip_range: network.ip_range }));
        }
        if cx.is_adopted(id) {
            return Err(adopted_incomplete(NetworkShown::FIND, "its addresses are others"));
        }
        Ok(if may_lag(cx) { not_yet(cx) } else { broken("subnet_missing") })
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &NetworkSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(network) = to_delete::<NetworkShown>(&self.hetzner, cx, id).await? else {
            return Ok(());
        };
        // The provider would detach what is attached, whoever it belongs to.
        if !network.servers.is_empty() {
            return Err(in_use::<NetworkShown>());
        }
        self.hetzner.delete::<NetworkShown>(cx, network.head.id).await.map(drop)
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        list_owned::<NetworkShown>(&self.hetzner, cx).await
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &NetworkSpec) -> Facts {
        Facts { name: Some(spec.name.clone()), ..Facts::default() }
    }
}
