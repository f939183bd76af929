//! The device that a machine becomes when it joins.

use std::time::Duration;

use provision_core::{
    ExternalId, Facts, Found, Identity, Intent, Listing, Owned, Readiness, Resource, StepContext,
    StepError, Timestamp, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    is_hostname,
    key::{KeyMade, expired},
};
use crate::{
    http::parse_rfc3339,
    tailscale::{
        DEVICE_POLL, ENROLLED_WITHIN, LATE_WINDOW, LISTING_LAG, Tailscale, error::RENAME_DEVICE,
        model::Device,
    },
};

/// How far the provider's clock may be from the store's.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// The device that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceSpec {
    /// Host name that the machine joins under.
    pub hostname: String,
    /// Name that it gets in the tailnet's DNS; none keeps the host name.
    pub name: Option<String>,
    /// When the key that it joins with can be used no more.
    pub key_expires_at: Timestamp,
}

impl DeviceSpec {
    /// Waits for the machine that joins with this key, and gives the device the ordered name.
    #[must_use]
    pub fn of(key: KeyMade) -> Self {
        Self { hostname: key.hostname, name: Some(key.name), key_expires_at: key.expires_at }
    }

    /// Leaves the device under the host name it joined with, which is this run's alone.
    #[must_use]
    pub fn keeping_hostname(mut self) -> Self {
        self.name = None;
        self
    }
}

/// A device that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Enrolled {
    /// The provider's id (`nodeId`).
    pub id: String,
    /// Its whole name in the tailnet's DNS.
    pub name: String,
    /// The host name that it joined under.
    pub hostname: String,
    /// Its addresses in the tailnet.
    pub addresses: Vec<String>,
    /// The first IPv4 address among them.
    pub ipv4: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it joined, if the provider says.
    pub joined_at: Option<Timestamp>,
}

/// Waits until a machine has joined; its undo removes the device, so it goes before the machine.
///
/// The step depends on the one that starts the machine. Nothing is created by it: its id is the
/// host name, which no other run has.
#[derive(Debug, Clone)]
pub struct TailscaleDevice {
    tailscale: Tailscale,
    within: Duration,
}

impl TailscaleDevice {
    /// Works through `tailscale`, and waits 15 min at most.
    #[must_use]
    pub fn new(tailscale: &Tailscale) -> Self {
        Self { tailscale: tailscale.clone(), within: ENROLLED_WITHIN }
    }

    /// Sets how long a machine may take to join.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    async fn ours(&self, cx: &StepContext, hostname: &str) -> Result<Vec<Device>, StepError> {
        self.tailscale.devices(cx, Some(hostname)).await
    }

    /// Gives the device its ordered name, and looks whether it has it.
    ///
    /// Where another device has the name, the provider adds a number: that is never overlooked.
    async fn named(
        &self,
        cx: &StepContext,
        device: Device,
        name: &str,
    ) -> Result<Option<Device>, StepError> {
        if label(&device) == name {
            return Ok(Some(device));
        }
        self.tailscale.rename_device(cx, &device.node_id, name).await?;
        match self.tailscale.device(cx, &device.node_id).await? {
            None => Ok(None),
            Some(device) if label(&device) == name => Ok(Some(device)),
            Some(_) => Err(StepError::permanent(RENAME_DEVICE)
                .with_code("name_taken")
                .with_message("another device of the tailnet has this name")
                .with_hint("remove the device that has it, or choose another name")),
        }
    }
}

impl Resource for TailscaleDevice {
    const KIND: &'static str = "tailscale.device";
    type Spec = DeviceSpec;
    type Output = Enrolled;

    fn identity(&self, spec: &DeviceSpec) -> Identity {
        Identity::Named(spec.hostname.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &DeviceSpec) -> Result<Found, StepError> {
        let joined = self.ours(cx, &spec.hostname).await?;
        Ok(match joined.is_empty() {
            true => Found::Absent,
            false => Found::Ours(ExternalId::new(spec.hostname.as_str())),
        })
    }

    /// Sends nothing: the machine joins by itself.
    async fn create(
        &self,
        _: &StepContext,
        spec: &DeviceSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        if is_hostname(&spec.hostname) {
            return Ok(ExternalId::new(spec.hostname.as_str()));
        }
        // S11: a host name without a run's token may be anybody's.
        Err(StepError::permanent("wait for device")
            .with_code("invalid_spec")
            .with_message("the host name carries no token of a run"))
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &DeviceSpec,
        _: &ExternalId,
    ) -> Result<Readiness<Enrolled>, StepError> {
        let mut joined = self.ours(cx, &spec.hostname).await?;
        if joined.is_empty() && cx.now() > spec.key_expires_at.plus(CLOCK_SKEW) {
            return Err(expired("wait for device"));
        }
        // A machine that joined anew leaves its former self behind: the newest one is it.
        joined.sort_by(|a, b| (joined_at(a), &a.node_id).cmp(&(joined_at(b), &b.node_id)));
        let Some(device) = joined.pop().filter(|d| d.authorized && !d.addresses.is_empty()) else {
            return Ok(Readiness::NotYet { again_in: DEVICE_POLL });
        };
        let device = match &spec.name {
            Some(name) => self.named(cx, device, name).await?,
            None => Some(device),
        };
        let Some(device) = device else {
            return Ok(Readiness::NotYet { again_in: DEVICE_POLL });
        };
        Ok(Readiness::Ready(Enrolled {
            joined_at: joined_at(&device),
            ipv4: device.addresses.iter().find(|address| address.contains('.')).cloned(),
            id: device.node_id,
            name: device.name,
            hostname: device.hostname,
            addresses: device.addresses,
            tags: device.tags,
        }))
    }

    /// Removes every device of this host name; none is done.
    async fn delete(
        &self,
        cx: &StepContext,
        _: &DeviceSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        // S11: the id is the host name; one without a run's token was never ours.
        if !is_hostname(id.as_str()) {
            return Ok(());
        }
        for device in self.ours(cx, id.as_str()).await? {
            self.tailscale.delete_device(cx, &device.node_id).await?;
        }
        Ok(())
    }

    /// Lists by host name; there is no place for the whole mark, so the owner is a token only. It
    /// is that of the step that minted the key: whoever revokes the key removes the device.
    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        let devices = self.tailscale.devices(cx, None).await?;
        let owned = devices.into_iter().filter(|device| is_hostname(&device.hostname)).map(|d| {
            let created = joined_at(&d);
            Owned::new(d.hostname).with_name(d.name).with_created_at(created)
        });
        Ok(owned.collect())
    }

    fn timing(&self) -> Timing {
        Timing {
            late_window: LATE_WINDOW,
            listing_lag: LISTING_LAG,
            ready_within: self.within,
            clock_skew: CLOCK_SKEW,
            ..Timing::default()
        }
    }

    fn account(&self) -> &str {
        self.tailscale.account()
    }

    fn facts(&self, spec: &DeviceSpec) -> Facts {
        Facts {
            name: spec.name.clone().or_else(|| Some(spec.hostname.clone())),
            ..Facts::default()
        }
    }
}

fn joined_at(device: &Device) -> Option<Timestamp> {
    device.created.as_deref().and_then(parse_rfc3339)
}

/// The part of a DNS name that names the device.
fn label(device: &Device) -> &str {
    device.name.split('.').next().unwrap_or_default()
}
