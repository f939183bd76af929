//! `numeric`: exact decimals up to 38 digits.
//!
//! Money and quotas must not drift through a binary float. Division is left out, because its scale
//! rule is not modelled.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Digits after the point that a stored number may have.
const SCALE_MAX: u32 = 30;

/// A decimal number: `digits` divided by ten to the power of `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Decimal {
    digits: i128,
    scale: u32,
}

impl Decimal {
    pub(crate) fn from_int(value: i64) -> Self {
        Self { digits: i128::from(value), scale: 0 }
    }

    /// Reads `-12.340`, and answers nothing for anything else (exponents and NaN among them).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, body) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= SCALE_MAX)?;
        let digits: i128 = digits.parse().ok()?;
        Some(Self { digits: if negative { -digits } else { digits }, scale })
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match align(self, other) {
            Some((a, b, _)) => a.cmp(&b),
            // Too far apart to bring to one scale: the whole parts decide.
            None => self.truncated().cmp(&other.truncated()),
        }
    }

    pub(crate) fn add(&self, other: &Self) -> Option<Self> {
        let (a, b, scale) = align(self, other)?;
        Some(Self { digits: a.checked_add(b)?, scale })
    }

    pub(crate) fn subtract(&self, other: &Self) -> Option<Self> {
        let (a, b, scale) = align(self, other)?;
        Some(Self { digits: a.checked_sub(b)?, scale })
    }

    pub(crate) fn multiply(&self, other: &Self) -> Option<Self> {
        let scale = self.scale.checked_add(other.scale).filter(|scale| *scale <= SCALE_MAX)?;
        Some(Self { digits: self.digits.checked_mul(other.digits)?, scale })
    }

    /// Rounds half away from zero to `scale` digits after the point.
    pub(crate) fn round(&self, scale: u32) -> Option<Self> {
        if scale >= self.scale {
            let factor = 10_i128.checked_pow(scale.checked_sub(self.scale)?)?;
            return Some(Self { digits: self.digits.checked_mul(factor)?, scale });
        }
        let factor = 10_i128.checked_pow(self.scale.checked_sub(scale)?)?;
        let half = factor / 2;
        let shifted = if self.digits < 0 { self.digits - half } else { self.digits + half };
        Some(Self { digits: shifted / factor, scale })
    }

    /// Rounds to a whole number, or answers nothing when it does not fit 64 bits.
    pub(crate) fn to_int(&self) -> Option<i64> {
        i64::try_from(self.round(0)?.digits).ok()
    }

    /// Tells whether the number fits `precision` digits in total at its scale.
    pub(crate) fn fits(&self, precision: u32) -> bool {
        10_i128.checked_pow(precision).is_none_or(|limit| self.digits.abs() < limit)
    }

    fn truncated(&self) -> i128 {
        10_i128.checked_pow(self.scale).map_or(0, |factor| self.digits / factor)
    }
}

// Stored as text: JSON has no exact number of this size.
impl From<Decimal> for String {
    fn from(value: Decimal) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for Decimal {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a decimal number")
    }
}

fn align(left: &Decimal, right: &Decimal) -> Option<(i128, i128, u32)> {
    let scale = left.scale.max(right.scale);
    let lift = |value: &Decimal| {
        let factor = 10_i128.checked_pow(scale.checked_sub(value.scale)?)?;
        value.digits.checked_mul(factor)
    };
    Some((lift(left)?, lift(right)?, scale))
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let scale = usize::try_from(self.scale).unwrap_or(0);
        if scale == 0 {
            return write!(formatter, "{}", self.digits);
        }
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        write!(formatter, "{sign}{whole}.{fraction}")
    }
}
