//! What exists for whom, what that costs, and who has more than was expected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::{
    error::Error,
    ledger::{Cost, CostPer, LedgerQuery, LedgerRow, ResourceState},
};

/// Hours that a month counts for.
const HOURS: u64 = 730;

/// What exists, or may, for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Usage {
    /// Resources by durable kind, such as `hetzner.server`: those that exist and those that may.
    pub resources: BTreeMap<String, u64>,
    /// What they cost per month, by currency, in thousandths. An hour counts 730 times; what is paid
    /// once does not count.
    pub monthly: BTreeMap<String, u64>,
}

/// How much one tenant is expected to have. What is not named is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct UsageLimits {
    /// Resources by durable kind.
    pub resources: BTreeMap<String, u64>,
    /// Cost per month by currency, in thousandths.
    pub monthly: BTreeMap<String, u64>,
}

/// One figure of a tenant that is above its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// The tenant; `None` for what was made for none.
    pub tenant: Option<String>,
    /// A kind of resource, or a currency.
    pub of: String,
    /// What there is.
    pub is: u64,
    /// What was expected at most.
    pub at_most: u64,
}

impl Usage {
    fn count(&mut self, row: &LedgerRow) {
        *self.resources.entry(row.full_kind()).or_default() += 1;
        if let Some((currency, month)) = row.cost.as_ref().and_then(monthly) {
            let sum = self.monthly.entry(currency.to_owned()).or_default();
            *sum = sum.saturating_add(month);
        }
    }

    /// The figures that are above `limits`: kinds first, then currencies.
    #[must_use]
    pub fn above(&self, tenant: Option<&str>, limits: &UsageLimits) -> Vec<Excess> {
        let kinds = compared(&self.resources, &limits.resources);
        let costs = compared(&self.monthly, &limits.monthly);
        let told = |(of, is, at_most): (&String, u64, u64)| Excess {
            tenant: tenant.map(str::to_owned),
            of: of.clone(),
            is,
            at_most,
        };
        kinds.chain(costs).map(told).collect()
    }
}

fn compared<'a>(
    there: &'a BTreeMap<String, u64>,
    limits: &'a BTreeMap<String, u64>,
) -> impl Iterator<Item = (&'a String, u64, u64)> {
    let both = limits.iter().filter_map(|(of, most)| Some((of, *there.get(of)?, *most)));
    both.filter(|(_, is, most)| is > most)
}

/// What it costs in a month, in thousandths, and the currency.
fn monthly(cost: &Cost) -> Option<(&str, u64)> {
    let month = match cost.per {
        CostPer::Hour => cost.milli.saturating_mul(HOURS),
        CostPer::Month => cost.milli,
        CostPer::Once => return None,
    };
    Some((&cost.currency, month))
}

impl Engine {
    /// Counts what exists, or may, for each tenant, and what that costs; with a tenant, only its.
    ///
    /// Reads the rows of what is alive, unknown or left behind, in pages: meant for a report, or for
    /// a scheduled check, and not for each request.
    ///
    /// ```
    /// use provision_core::{
    ///     Cost, CostPer, Engine, MemoryStore, Saga, SagaId, engine::UsageLimits,
    ///     executor::{Executor, HostDriven},
    /// };
    /// use provision_testkit::harness::{World, world::Thing};
    ///
    /// const DISK: SagaId<String, String> = SagaId::new("disk", 1);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cents = Cost { milli: 10, currency: "EUR".to_owned(), per: CostPer::Hour };
    /// let disk = Thing::named(&World::new()).with_cost(cents);
    /// let saga = Saga::define(DISK, |s| s.resource("disk", disk).input((), |name, ()| name.clone()))?;
    /// let engine = Engine::builder(MemoryStore::new()).register(saga).build().await?;
    /// for (name, tenant) in [("red", "acme"), ("blue", "acme"), ("green", "other")] {
    ///     let run = engine.start(DISK, &name.to_owned()).tenant(tenant).await?;
    ///     HostDriven.drive(&engine, run.id()).await?;
    /// }
    /// let all = engine.usage(None).await?;
    /// assert_eq!(all[&Some("acme".to_owned())].monthly["EUR"], 2 * 7_300);
    ///
    /// let limits = UsageLimits { monthly: [("EUR".to_owned(), 10_000)].into(), ..Default::default() };
    /// let above = engine.usage_above(&limits).await?;
    /// assert_eq!((above.len(), above[0].tenant.as_deref(), above[0].is), (1, Some("acme"), 14_600));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage(
        &self,
        tenant: Option<&str>,
    ) -> Result<BTreeMap<Option<String>, Usage>, Error> {
        let query = LedgerQuery {
            tenant: tenant.map(str::to_owned),
            states: vec![ResourceState::Alive, ResourceState::Unknown, ResourceState::LeftBehind],
            ..LedgerQuery::default()
        };
        let mut all: BTreeMap<Option<String>, Usage> = BTreeMap::new();
        for row in self.all_rows(query).await? {
            all.entry(row.tenant.clone()).or_default().count(&row);
        }
        Ok(all)
    }

    /// The figures of all tenants that are above `limits`: what an alert tells. A host asks from a
    /// schedule of its own, whose run then sends the message once.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage_above(&self, limits: &UsageLimits) -> Result<Vec<Excess>, Error> {
        let all = self.usage(None).await?;
        Ok(all.iter().flat_map(|(tenant, usage)| usage.above(tenant.as_deref(), limits)).collect())
    }
}
