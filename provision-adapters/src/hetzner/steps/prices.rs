//! What things cost, for the ledger.

use provision_core::{Cost, CostPer, Step, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::hetzner::{Hetzner, model::PricingShown};

/// Digits behind the point that are counted.
const DIGITS: usize = 9;
const NANO_PER_MILLI: u64 = 1_000_000;

/// Prices without value-added tax, as the provider had them when they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Prices {
    /// ISO 4217 code.
    pub currency: String,
    /// Price of a volume per GB and month, in billionths of the currency's unit.
    pub volume_gb_nano: u64,
    /// Prices of servers.
    pub servers: Vec<ServerPrice>,
}

/// What a server of a type costs at a location, in billionths of the currency's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerPrice {
    /// The type.
    pub server_type: String,
    /// The location.
    pub location: String,
    /// Per month, the most that a month's hours come to.
    pub monthly_nano: u64,
}

impl Prices {
    /// What a server costs, without its IPv4 address: as long as it exists, on or off.
    #[must_use]
    pub fn server(&self, server_type: &str, location: &str) -> Option<Cost> {
        let of =
            |price: &&ServerPrice| price.server_type == server_type && price.location == location;
        self.servers.iter().find(of).map(|price| self.monthly(price.monthly_nano))
    }

    /// What a volume costs, attached or not.
    #[must_use]
    pub fn volume(&self, size_gb: u32) -> Cost {
        self.monthly(self.volume_gb_nano.saturating_mul(u64::from(size_gb)))
    }

    fn monthly(&self, nano: u64) -> Cost {
        let milli = nano.div_ceil(NANO_PER_MILLI);
        Cost { milli, currency: self.currency.clone(), per: CostPer::Month }
    }

    fn read(shown: PricingShown) -> Option<Self> {
        let mut servers = Vec::new();
        for kind in shown.server_types {
            for price in kind.prices {
                servers.push(ServerPrice {
                    server_type: kind.name.clone(),
                    location: price.location,
                    monthly_nano: nano(&price.price_monthly.net)?,
                });
            }
        }
        let volume_gb_nano = nano(&shown.volume.price_per_gb_month.net)?;
        Some(Self { currency: shown.currency, volume_gb_nano, servers })
    }
}

/// Reads what the provider's things cost. It changes nothing, and there is nothing to undo.
#[derive(Debug, Clone)]
pub struct ReadPrices {
    hetzner: Hetzner,
}

impl ReadPrices {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }
}

impl Step for ReadPrices {
    const KIND: &'static str = "hetzner.read_prices";
    type Input = ();
    type Output = Prices;

    async fn run(&self, cx: &StepContext, (): ()) -> Result<Prices, StepError> {
        let shown = self.hetzner.pricing(cx).await?;
        Prices::read(shown).ok_or_else(|| {
            StepError::retry("read prices")
                .with_code("garbage")
                .with_message("a price is no number")
        })
    }
}

/// Reads a decimal number as billionths; smaller parts are rounded up.
fn nano(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let counted: String = part.chars().chain("000000000".chars()).take(DIGITS).collect();
    let more = part.bytes().skip(DIGITS).any(|b| b != b'0');
    let whole = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    whole.checked_add(counted.parse::<u64>().ok()?)?.checked_add(u64::from(more))
}

#[cfg(test)]
mod tests {
    use provision_core::CostPer;

    use super::{Prices, nano};

    #[test]
    fn prices_are_read_to_the_last_digit_and_rounded_up() {
        let cases = [
            ("3.7900000000", Some(3_790_000_000)),
            ("0.0440000000", Some(44_000_000)),
            ("0.0000000001", Some(1)),
            ("12", Some(12_000_000_000)),
            ("", None),
            ("-1.0", None),
            ("1e9", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nano(text), expected, "{text}");
        }
        let prices =
            Prices { currency: "EUR".to_owned(), volume_gb_nano: 44_000_001, servers: Vec::new() };
        let cost = prices.volume(50);
        assert_eq!((cost.milli, cost.currency.as_str(), cost.per), (2_201, "EUR", CostPer::Month));
        assert_eq!(prices.server("cx23", "fsn1"), None);
    }
}
