//! Feature flags: a share of tenants that only grows with the percentage, read from the database at
//! most once a minute, and frozen where a run starts.
//!
//! A flag differs from a setting in that a run must not see it change: what was judged at the start
//! is part of the run's input, so that a run that is resumed a week later takes the branch it began.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use provision_core::{
    Timestamp,
    clock::{Clock, SystemClock},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::{PgPool, query_as};

use crate::trouble::Trouble;

/// Names of all flags.
pub const ALL: [&str; 9] = [
    "integration_meta",
    "integration_linkedin",
    "integration_tiktok",
    "integration_gbp",
    "integration_mailchimp",
    "advanced_analytics",
    "custom_scheduling",
    "webhook_events",
    "bulk_publishing",
];
/// Figures of posts are collected.
pub const ADVANCED_ANALYTICS: &str = "advanced_analytics";
/// Posts go out at a chosen time.
pub const CUSTOM_SCHEDULING: &str = "custom_scheduling";
/// Events of platforms are taken in.
pub const WEBHOOK_EVENTS: &str = "webhook_events";
/// Many posts are started at once.
pub const BULK_PUBLISHING: &str = "bulk_publishing";

/// How old a reading may be; a flag that is switched is seen by every process within it.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// Into how many parts tenants are dealt: a hundredth of a percent each.
const PARTS: u32 = 10_000;

/// A flag as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its name.
    pub name: String,
    /// Whether it is on for anybody.
    pub enabled: bool,
    /// For how many percent of tenants, 0 to 100.
    pub rollout: u8,
    /// Tenants it is on for whatever the percentage.
    pub tenants: Vec<String>,
}

impl Flag {
    /// Whether it is on for this tenant: always the same answer for the same settings, and never
    /// taken back by a larger percentage.
    #[must_use]
    pub fn is_on_for(&self, tenant: &str) -> bool {
        let within = || part(&self.name, tenant) < u32::from(self.rollout.min(100)) * (PARTS / 100);
        self.enabled && (self.tenants.iter().any(|named| named == tenant) || within())
    }
}

/// The part a tenant is dealt into, 0 to 9,999; another one for each flag, so that the same tenants
/// are not the first of every rollout.
#[must_use]
pub fn part(flag: &str, tenant: &str) -> u32 {
    let digest = Sha256::new().chain_update(flag).chain_update([0]).chain_update(tenant).finalize();
    let number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    u32::try_from(number % u64::from(PARTS)).unwrap_or(0)
}

/// How all flags stood for a tenant when a run was started; stored with its input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frozen(BTreeMap<String, bool>);

impl Frozen {
    /// Judges every flag for a tenant.
    #[must_use]
    pub fn judge(flags: &[Flag], tenant: &str) -> Self {
        Self(flags.iter().map(|flag| (flag.name.clone(), flag.is_on_for(tenant))).collect())
    }

    /// Whether a flag was on; one that nobody has set was off.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }
}

/// The flags of the database, kept for [`LIFETIME`]. Cheap to clone; clones share what is kept.
#[derive(Debug, Clone)]
pub struct Flags {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    // A plain mutex: held to copy a pointer, never across an `.await`.
    kept: Arc<Mutex<Option<Kept>>>,
}

#[derive(Debug, Clone)]
struct Kept {
    read: Timestamp,
    flags: Arc<[Flag]>,
}

impl Flags {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, clock: Arc::new(SystemClock), kept: Arc::default() }
    }

    /// Replaces the clock by which readings grow old.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// All flags, as they stood within the last minute.
    ///
    /// # Errors
    /// What is kept is too old, and the database cannot be read.
    pub async fn all(&self) -> Result<Arc<[Flag]>, Trouble> {
        let now = self.clock.wall();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A clock that was set back makes a reading of the future: it is read anew.
        if let Some(kept) = kept.filter(|kept| kept.read <= now && now.since(kept.read) < LIFETIME)
        {
            return Ok(kept.flags);
        }
        let sql =
            "SELECT name, enabled, rollout, tenants FROM connectors.feature_flags ORDER BY name";
        let rows: Vec<(String, bool, i16, Vec<String>)> =
            query_as(sql).fetch_all(&self.pool).await?;
        let flag = |(name, enabled, rollout, tenants)| Flag {
            name,
            enabled,
            rollout: u8::try_from(rollout).unwrap_or(0),
            tenants,
        };
        let flags: Arc<[Flag]> = rows.into_iter().map(flag).collect();
        let kept = Kept { read: now, flags: Arc::clone(&flags) };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(flags)
    }

    /// Judges every flag for a tenant, to be frozen in the input of a run.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn freeze(&self, tenant: &str) -> Result<Frozen, Trouble> {
        Ok(Frozen::judge(&self.all().await?, tenant))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{ALL, Flag, Frozen, part};

    fn flag(name: &str, rollout: u8) -> Flag {
        Flag { name: name.to_owned(), enabled: true, rollout, tenants: Vec::new() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        // covers: R5-49
        #[test]
        fn a_larger_rollout_takes_nobody_out(tenant in any::<String>(), less in 0_u8..=100, more in 0_u8..=100) {
            let (less, more) = (less.min(more), less.max(more));
            for name in ALL {
                let (before, after) = (flag(name, less), flag(name, more));
                assert!(!before.is_on_for(&tenant) || after.is_on_for(&tenant), "{name} {less} {more}");
                assert!(!flag(name, 0).is_on_for(&tenant) && flag(name, 100).is_on_for(&tenant));
            }
        }
    }

    // covers: R5-49
    #[test]
    fn a_share_of_a_hundred_thousand_tenants_is_right_within_one_percent() {
        for (name, rollout) in [(ALL[0], 1), (ALL[5], 10), (ALL[5], 50), (ALL[8], 99)] {
            let flag = flag(name, rollout);
            let on = (0..100_000).filter(|n| flag.is_on_for(&format!("tenant-{n}"))).count();
            let wanted = usize::from(rollout) * 1_000;
            assert!(on.abs_diff(wanted) <= 1_000, "{name} at {rollout} %: {on}");
        }
    }

    // The part of a tenant is stored nowhere: another way to count it would move tenants.
    // covers: R5-49
    #[test]
    fn parts_are_the_same_in_every_release() {
        let parts = ["acme", "globex", ""].map(|tenant| part("advanced_analytics", tenant));
        assert_eq!(parts, [8_964, 5_954, 2_615]);
        assert_ne!(part("bulk_publishing", "acme"), part("advanced_analytics", "acme"));
    }

    // covers: R5-48
    #[test]
    fn named_tenants_come_first_and_what_is_off_is_off_for_all() {
        let named = Flag { tenants: vec!["acme".to_owned()], ..flag("bulk_publishing", 0) };
        assert!(named.is_on_for("acme") && !named.is_on_for("globex"));
        let off = Flag { enabled: false, rollout: 100, ..named };
        assert!(!off.is_on_for("acme"));
        let frozen = Frozen::judge(&[off, flag("webhook_events", 100)], "acme");
        assert!(frozen.has("webhook_events") && !frozen.has("bulk_publishing") && !frozen.has("x"));
    }
}
