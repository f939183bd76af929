//! A volume: a disk that outlives the servers it is attached to, and costs money until it is
//! deleted.

use std::collections::BTreeMap;

use provision_core::{
    Cost, ExternalId, Facts, Found, Identity, Intent, Listing, Readiness, Resource, StepContext,
    StepError, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    check_labels, check_name, find, id_of, in_use, invalid, labels, list_owned, not_yet, number,
    timing, to_delete, vanished,
};
use crate::{
    adopted::adopted_incomplete,
    hetzner::{
        Hetzner,
        model::{NewVolume, Thing, VolumeShown},
    },
};

/// A wanted volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeSpec {
    /// Name: unique per project.
    pub name: String,
    /// Size in GB, 10 to 10,240.
    pub size_gb: u32,
    /// Location by name, such as `fsn1`; only servers there can have it.
    pub location: String,
    /// File system it is formatted with: `ext4` or `xfs`. Default none.
    pub format: Option<String>,
    /// Labels besides the owner mark.
    pub labels: BTreeMap<String, String>,
    /// What it costs while it exists, for the ledger.
    pub price: Option<Cost>,
}

impl VolumeSpec {
    /// Wants a volume of this size at a location.
    #[must_use]
    pub fn new(name: impl Into<String>, size_gb: u32, location: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            size_gb,
            location: location.into(),
            format: None,
            labels: BTreeMap::new(),
            price: None,
        }
    }

    /// Has it formatted.
    #[must_use]
    pub fn with_format(mut self, format: impl Into<String>) -> Self {
        self.format = Some(format.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Says what it costs; `None` leaves that open.
    #[must_use]
    pub fn with_price(mut self, price: Option<Cost>) -> Self {
        self.price = price;
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        check_name(&self.name)?;
        check_labels(&self.labels)?;
        if !(10..=10_240).contains(&self.size_gb) {
            return Err("a volume has 10 to 10,240 GB");
        }
        if self.format.as_deref().is_some_and(|format| !matches!(format, "ext4" | "xfs")) {
            return Err("a volume is formatted with ext4 or xfs");
        }
        if self.location.is_empty() { Err("a location is needed") } else { Ok(()) }
    }

    /// In what a volume that is there is not the one that was ordered. Larger will do, and where
    /// no format was ordered any will; one without a format was never formatted by the provider.
    fn differs(&self, volume: &VolumeShown) -> Option<&'static str> {
        if volume.size < self.size_gb {
            return Some("it is smaller than what was ordered");
        }
        if volume.location.name != self.location {
            return Some("it is at another location");
        }
        let other = self.format.is_some() && self.format != volume.format;
        other.then_some("it is not formatted as ordered")
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeMade {
    /// The provider's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The device it shows up as on its server.
    pub linux_device: String,
}

/// Makes a volume. It is deleted, with all data on it, when it is attached to nothing.
#[derive(Debug, Clone)]
pub struct Volume {
    hetzner: Hetzner,
}

impl Volume {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Resource for Volume {
    const KIND: &'static str = "hetzner.volume";
    type Spec = VolumeSpec;
    type Output = VolumeMade;

    fn identity(&self, spec: &VolumeSpec) -> Identity {
        Identity::Named(spec.name.clone())
    }

    async fn find(&self, cx: &StepContext, spec: &VolumeSpec) -> Result<Found, StepError> {
        find::<VolumeShown>(&self.hetzner, cx, &spec.name).await
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &VolumeSpec,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        spec.check().map_err(invalid(VolumeShown::CREATE))?;
        let wanted = NewVolume {
            name: &spec.name,
            size: spec.size_gb,
            location: &spec.location,
            format: spec.format.as_deref(),
            labels: labels(&spec.labels, intent.mark()),
        };
        let made: VolumeShown = self.hetzner.create(cx, &wanted).await?;
        let id = id_of(&made);
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &VolumeSpec,
        id: &ExternalId,
    ) -> Result<Readiness<VolumeMade>, StepError> {
        let number = number(VolumeShown::FIND, id.as_str())?;
        let Some(volume) = self.hetzner.by_id::<VolumeShown>(cx, number).await? else {
            return Ok(vanished(cx));
        };
        if let Some(what) = spec.differs(&volume).filter(|_| cx.is_adopted(id)) {
            return Err(adopted_incomplete(VolumeShown::FIND, what));
        }
        if volume.status != "available" {
            return Ok(not_yet(cx));
        }
        Ok(Readiness::Ready(VolumeMade {
            id: volume.head.id,
            name: volume.head.name,
            linux_device: volume.linux_device,
        }))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        _: &VolumeSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        let Some(volume) = to_delete::<VolumeShown>(&self.hetzner, cx, id).await? else {
            return Ok(());
        };
        // Whose server that is, nobody knows: whoever has attached it detaches it.
        if volume.server.is_some() {
            return Err(in_use::<VolumeShown>());
        }
        self.hetzner.delete::<VolumeShown>(cx, volume.head.id).await.map(drop)
    }

    async fn list_owned(&self, cx: &StepContext) -> Result<Listing, StepError> {
        list_owned::<VolumeShown>(&self.hetzner, cx).await
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }

    fn facts(&self, spec: &VolumeSpec) -> Facts {
        Facts {
            name: Some(spec.name.clone()),
            region: Some(spec.location.clone()),
            cost: spec.price.clone(),
            ..Facts::default()
        }
    }
}
