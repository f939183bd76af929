//! Dates, moments and intervals, read and printed as the server does in time zone UTC.
//!
//! The clock is an argument of the catalog, so nothing here asks for the time.

use serde::{Deserialize, Serialize};

const DAY_MICROS: i64 = 86_400_000_000;

/// A span of time in the three parts PostgreSQL keeps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) months: i64,
    pub(crate) days: i64,
    pub(crate) micros: i64,
}

impl Interval {
    /// Length for comparisons, with 30 days to the month as the server counts there.
    pub(crate) fn span(&self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY_MICROS) + i128::from(self.micros)
    }

    pub(crate) fn negate(&self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }

    /// Reads `1 day`, `2 hours 30 minutes`, `-1 month` and `01:30:00`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut total = Self { months: 0, days: 0, micros: 0 };
        let mut words = text.split_whitespace().peekable();
        words.peek()?;
        while let Some(word) = words.next() {
            if word.contains(':') {
                total.micros = total.micros.checked_add(parse_clock(word)?)?;
                continue;
            }
            let count: i64 = word.parse().ok()?;
            total.add_unit(count, &words.next()?.to_ascii_lowercase())?;
        }
        Some(total)
    }

    fn add_unit(&mut self, count: i64, unit: &str) -> Option<()> {
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        let micros = match unit {
            "year" => return add(&mut self.months, count.checked_mul(12)?),
            "month" | "mon" => return add(&mut self.months, count),
            "week" => return add(&mut self.days, count.checked_mul(7)?),
            "day" => return add(&mut self.days, count),
            "hour" => 3_600_000_000,
            "minute" | "min" => 60_000_000,
            "second" | "sec" => 1_000_000,
            "millisecond" => 1_000,
            "microsecond" => 1,
            _ => return None,
        };
        add(&mut self.micros, count.checked_mul(micros)?)
    }

    pub(crate) fn print(&self) -> String {
        let mut parts = Vec::new();
        let unit =
            |count: i64, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        if self.months / 12 != 0 {
            parts.push(unit(self.months / 12, "year"));
        }
        if self.months % 12 != 0 {
            parts.push(unit(self.months % 12, "mon"));
        }
        if self.days != 0 {
            parts.push(unit(self.days, "day"));
        }
        if self.micros != 0 || parts.is_empty() {
            let sign = if self.micros < 0 { "-" } else { "" };
            parts.push(format!("{sign}{}", print_clock(self.micros.saturating_abs())));
        }
        parts.join(" ")
    }
}

fn add(slot: &mut i64, value: i64) -> Option<()> {
    *slot = slot.checked_add(value)?;
    Some(())
}

/// Adds an interval to a moment: months first, then days, then the clock.
pub(crate) fn shift(micros: i64, interval: &Interval) -> Option<i64> {
    let days = micros.div_euclid(DAY_MICROS);
    let clock = micros.rem_euclid(DAY_MICROS);
    let (year, month, day) = civil_from_days(days);
    let months = year.checked_mul(12)?.checked_add(month - 1)?.checked_add(interval.months)?;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let day = day.min(month_length(year, month));
    let days = days_from_civil(year, month, day).checked_add(interval.days)?;
    days.checked_mul(DAY_MICROS)?.checked_add(clock)?.checked_add(interval.micros)
}

pub(crate) fn date_of(micros: i64) -> i64 {
    micros.div_euclid(DAY_MICROS)
}

pub(crate) fn midnight(days: i64) -> Option<i64> {
    days.checked_mul(DAY_MICROS)
}

pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.trim().splitn(3, '-');
    let year = fixed(parts.next()?, 4)?;
    let month = fixed(parts.next()?, 2)?;
    let day = fixed(parts.next()?, 2)?;
    let real = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    real.then(|| days_from_civil(year, month, day))
}

fn fixed(text: &str, width: usize) -> Option<i64> {
    let digits = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Reads `2026-05-01 12:30:00.5+02`, with the time and the zone optional; no zone means UTC.
pub(crate) fn parse_moment(text: &str) -> Option<i64> {
    let text = text.trim();
    let Some((date, rest)) = text.split_once([' ', 'T']) else {
        return midnight(parse_date(text)?);
    };
    let rest = rest.trim();
    let zone_at = rest.find(['Z', 'z', '+', '-']);
    let (clock, zone) = zone_at.map_or((rest, ""), |at| rest.split_at(at));
    let moment = midnight(parse_date(date)?)?.checked_add(parse_clock(clock.trim())?)?;
    moment.checked_sub(parse_zone(zone)?)
}

fn parse_zone(text: &str) -> Option<i64> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = match body.split_once(':') {
        Some((hours, minutes)) => (fixed(hours, 2)?, fixed(minutes, 2)?),
        None => (fixed(body, 2)?, 0),
    };
    let valid = hours <= 15 && minutes <= 59;
    valid.then(|| sign * (hours * 3_600 + minutes * 60) * 1_000_000)
}

fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let hours = fixed(parts.next()?, 2)?;
    let minutes = fixed(parts.next()?, 2)?;
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let padded = format!("{fraction:0<6}");
            (fixed(whole, 2)?, fixed(&padded, 6)?)
        }
    };
    let valid = hours <= 23 && minutes <= 59 && seconds <= 59;
    valid.then(|| ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction)
}

fn print_clock(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let clock = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction == 0 {
        return clock;
    }
    format!("{clock}.{}", format!("{fraction:06}").trim_end_matches('0'))
}

pub(crate) fn print_date(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

pub(crate) fn print_moment(micros: i64, with_zone: bool) -> String {
    let zone = if with_zone { "+00" } else { "" };
    let date = print_date(micros.div_euclid(DAY_MICROS));
    format!("{date} {}{zone}", print_clock(micros.rem_euclid(DAY_MICROS)))
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts days since 1970-01-01 in the proleptic Gregorian calendar.
///
/// Years are shifted to begin in March, so that the leap day is the last of its year; 400 years are
/// always 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
