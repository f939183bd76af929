//! Runs that start by the clock: which firings are due, as a pure function of the time.
//!
//! A schedule needs no state and no leader. Every worker computes the same moments and starts a
//! run under the key `schedule:<name>:<milliseconds>`; the start key lets only the first of them
//! begin one. Fixed intervals are counted from 1970, cron expressions (feature `cron`) are read in
//! UTC.

use std::{num::NonZeroU64, time::Duration};

use crate::{
    error::{Error, ErrorKind},
    id::Timestamp,
};

/// Most firings that are caught up at once.
pub const MOST_CAUGHT_UP: usize = 1_000;

/// What happens with firings whose time passed while no worker was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfire {
    /// The newest one is started, the others are left out. The default.
    Latest,
    /// All of them are started, oldest first, at most [`MOST_CAUGHT_UP`] at once. None is left out:
    /// while a start is refused, or its input panics, the later ones wait for it, and each look at
    /// the clock tells so in the log.
    All,
    /// None is started that is later than this.
    Skip {
        /// How late a firing may be.
        grace: Duration,
    },
}

/// One moment at which a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The planned moment.
    pub at: Timestamp,
    /// The start key of its run.
    pub key: String,
}

/// Fires again and again under one name.
#[derive(Debug, Clone)]
pub struct Schedule {
    name: String,
    when: When,
    misfire: Misfire,
}

#[derive(Debug, Clone)]
enum When {
    Every {
        period: NonZeroU64,
        offset: u64,
    },
    #[cfg(feature = "cron")]
    Cron(Box<croner::Cron>),
}

impl Schedule {
    /// Fires at every multiple of `period` since 1970, in whole milliseconds.
    ///
    /// # Errors
    /// Kind `Invalid`: an unusable name, or a period under a second or above ten years.
    pub fn every(name: impl Into<String>, period: Duration) -> Result<Self, Error> {
        let name = checked(name.into())?;
        let fits = (Duration::from_secs(1)..=Duration::from_hours(24 * 3_660)).contains(&period);
        let ms = u64::try_from(period.as_millis()).ok().and_then(NonZeroU64::new);
        match ms.filter(|_| fits) {
            Some(period) => {
                let when = When::Every { period, offset: 0 };
                Ok(Self { name, when, misfire: Misfire::Latest })
            }
            None => Err(invalid("schedule_period", &name)),
        }
    }

    /// Fires at the moments of a cron expression: 5 fields, or 6 with seconds in front; UTC.
    ///
    /// # Errors
    /// Kind `Invalid`: an unusable name, or no such expression.
    #[cfg(feature = "cron")]
    pub fn cron(name: impl Into<String>, expression: &str) -> Result<Self, Error> {
        let name = checked(name.into())?;
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Optional)
            .year(croner::parser::Year::Disallowed)
            .build();
        match parser.parse(expression) {
            Ok(cron) => {
                let when = When::Cron(Box::new(cron));
                Ok(Self { name, when, misfire: Misfire::Latest })
            }
            Err(error) => Err(invalid("schedule_expression", &name).with_source(error)),
        }
    }

    /// Moves the moments of a fixed interval, so that not everything fires on the hour. No effect
    /// on cron expressions.
    #[must_use]
    pub fn with_offset(mut self, by: Duration) -> Self {
        match &mut self.when {
            When::Every { period, offset } => {
                *offset = u64::try_from(by.as_millis()).unwrap_or(0) % period.get();
            }
            #[cfg(feature = "cron")]
            When::Cron(_) => {}
        }
        self
    }

    /// Changes what happens with firings that were missed.
    #[must_use]
    pub const fn with_misfire(mut self, misfire: Misfire) -> Self {
        self.misfire = misfire;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest moment at or before `now`; `None` if there was none.
    #[must_use]
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every { period, offset } => {
                let since = now.as_millis().checked_sub(*offset)?;
                Some(Timestamp::from_millis(since - since % period.get() + offset))
            }
            #[cfg(feature = "cron")]
            When::Cron(cron) => {
                let found = cron.find_previous_occurrence(&cron::read(now)?, true).ok()?;
                cron::write(found)
            }
        }
    }

    /// The first moment after `after`; `None` if there is none.
    #[must_use]
    pub fn next_due(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every { period, offset } => {
                let next = match self.last_due(after) {
                    Some(last) => last.as_millis().checked_add(period.get())?,
                    None => *offset,
                };
                Some(Timestamp::from_millis(next)).filter(|next| *next < Timestamp::NEVER)
            }
            #[cfg(feature = "cron")]
            When::Cron(cron) => {
                let found = cron.find_next_occurrence(&cron::read(after)?, false).ok()?;
                cron::write(found)
            }
        }
    }

    /// The firings to start now, oldest first.
    ///
    /// `since` is the last moment this caller has dealt with, exclusive; a process that has just
    /// started passes `None` and gets the newest one, which is a known start key if somebody was
    /// there in time.
    #[must_use]
    pub fn due(&self, since: Option<Timestamp>, now: Timestamp) -> Vec<Firing> {
        let Some(last) = self.last_due(now).filter(|last| since.is_none_or(|s| *last > s)) else {
            return Vec::new();
        };
        match self.misfire {
            Misfire::Latest => vec![self.firing(last)],
            Misfire::Skip { grace } if now.since(last) > grace => Vec::new(),
            Misfire::Skip { .. } => vec![self.firing(last)],
            Misfire::All => {
                let first = since.map_or(Some(last), |since| self.next_due(since));
                std::iter::successors(first, |at| self.next_due(*at))
                    .take_while(|at| *at <= last)
                    .take(MOST_CAUGHT_UP)
                    .map(|at| self.firing(at))
                    .collect()
            }
        }
    }

    /// Whether firings that nobody was there for are all started later.
    pub(crate) const fn catches_up(&self) -> bool {
        matches!(self.misfire, Misfire::All)
    }

    /// What the start keys of all its firings begin with.
    pub(crate) fn key_prefix(&self) -> String {
        format!("schedule:{}:", self.name)
    }

    /// The start key of the firing at a moment: the same for every worker.
    #[must_use]
    pub fn key(&self, at: Timestamp) -> String {
        format!("{}{}", self.key_prefix(), at.as_millis())
    }

    fn firing(&self, at: Timestamp) -> Firing {
        Firing { at, key: self.key(at) }
    }
}

/// Between our moments and the ones of the cron parser.
#[cfg(feature = "cron")]
mod cron {
    use chrono::{DateTime, Utc};

    use crate::id::Timestamp;

    pub(super) fn read(at: Timestamp) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(i64::try_from(at.as_millis()).ok()?)
    }

    pub(super) fn write(at: DateTime<Utc>) -> Option<Timestamp> {
        u64::try_from(at.timestamp_millis()).ok().map(Timestamp::from_millis)
    }
}

fn checked(name: String) -> Result<String, Error> {
    // A colon ends the name in its start keys: with one in it, `billing` could not tell its own
    // firings from those of `billing:eu`.
    let usable = |c: char| !c.is_control() && c != ':';
    let fits = !name.is_empty() && name.len() <= 200 && name.chars().all(usable);
    let rule = "1 to 200 bytes, no controls, no colons";
    if fits { Ok(name) } else { Err(invalid("schedule_name", rule)) }
}

fn invalid(code: &'static str, context: &str) -> Error {
    Error::new(ErrorKind::Invalid, code, "define schedule").with_context(context)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
    #[cfg(feature = "cron")]
    use proptest::prop_oneof;

    use super::{MOST_CAUGHT_UP, Misfire, Schedule, Timestamp};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn minutes(n: u64) -> Schedule {
        Schedule::every("sweep", Duration::from_mins(n)).unwrap()
    }

    fn moments(schedule: &Schedule, since: Option<u64>, now: u64) -> Vec<u64> {
        schedule.due(since.map(at), at(now)).iter().map(|f| f.at.as_millis()).collect()
    }

    // covers: R2-59
    #[test]
    fn several_workers_agree_on_one_start_key_per_firing() {
        let keys: BTreeSet<String> = (0..600)
            .flat_map(|s| minutes(1).due(None, at(600_000 + s * 100)))
            .map(|firing| firing.key)
            .collect();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["schedule:sweep:600000"]);
    }

    // covers: R2-59, R2-64
    #[test]
    fn missed_firings_follow_the_policy() {
        let latest = minutes(1);
        assert_eq!(moments(&latest, Some(60_000), 119_999), [0; 0]);
        assert_eq!(moments(&latest, Some(60_000), 120_000), [120_000]);
        assert_eq!(moments(&latest, Some(60_000), 300_500), [300_000]);
        let all = minutes(1).with_misfire(Misfire::All);
        assert_eq!(moments(&all, Some(60_000), 300_500), [120_000, 180_000, 240_000, 300_000]);
        assert_eq!(moments(&all, None, 300_500), [300_000]);
        assert_eq!(moments(&all, Some(0), 1_000_000_000_000).len(), MOST_CAUGHT_UP);
        let skip = minutes(1).with_misfire(Misfire::Skip { grace: Duration::from_secs(5) });
        assert_eq!(moments(&skip, Some(60_000), 305_000), [300_000]);
        assert_eq!(moments(&skip, Some(60_000), 305_001), [0; 0]);
    }

    #[test]
    fn an_offset_moves_every_moment() {
        let schedule = minutes(10).with_offset(Duration::from_mins(63));
        assert_eq!(schedule.last_due(at(100_000)), None);
        assert_eq!(schedule.next_due(at(100_000)), Some(at(180_000)));
        assert_eq!(schedule.next_due(at(180_000)), Some(at(780_000)));
        assert_eq!(schedule.last_due(at(779_999)), Some(at(180_000)));
        assert_eq!(minutes(10).next_due(Timestamp::NEVER), None);
    }

    #[test]
    fn unusable_schedules_are_refused() {
        let code =
            |name: &str, ms| Schedule::every(name, Duration::from_millis(ms)).unwrap_err().code();
        assert_eq!(code("", 60_000), "schedule_name");
        assert_eq!(code("a\n", 60_000), "schedule_name");
        assert_eq!(code("a:eu", 60_000), "schedule_name");
        assert_eq!(code("a", 999), "schedule_period");
        assert_eq!(code("a", u64::MAX), "schedule_period");
    }

    #[cfg(feature = "cron")]
    #[test]
    fn cron_expressions_are_read_in_utc() {
        // 2026-03-01 00:00:00 UTC, a Sunday.
        let start = 1_772_323_200_000;
        let next = |expression, after: u64| {
            let schedule = Schedule::cron("c", expression).unwrap();
            schedule.next_due(at(after)).map(|next| next.as_millis() - start)
        };
        let hour = 3_600_000;
        assert_eq!(next("*/5 * * * *", start), Some(300_000));
        assert_eq!(next("0 3 * * *", start), Some(3 * hour));
        assert_eq!(next("0 3 * * *", start + 3 * hour), Some(27 * hour));
        assert_eq!(next("30 0 * * MON", start), Some(24 * hour + 1_800_000));
        assert_eq!(next("15 * * * * *", start + 15_001), Some(75_000));
        assert_eq!(next("0 0 29 2 *", start), Some(730 * 24 * hour));
        for wrong in ["", "often", "61 * * * *", "* * * *", "* * * * * * 2030"] {
            let error = Schedule::cron("c", wrong).unwrap_err();
            assert_eq!(error.code(), "schedule_expression", "{wrong:?}");
        }
        let last = Schedule::cron("c", "0 3 * * *").unwrap().last_due(at(start + 3 * hour));
        assert_eq!(last, Some(at(start + 3 * hour)));
    }

    fn schedules() -> impl Strategy<Value = Schedule> {
        let every = (1_000u64..100_000_000, any::<u32>()).prop_map(|(period, offset)| {
            let schedule = Schedule::every("s", Duration::from_millis(period)).unwrap();
            schedule.with_offset(Duration::from_millis(offset.into()))
        });
        #[cfg(feature = "cron")]
        let every = {
            let cron = (0u8..60, 0u8..24, 1u8..29)
                .prop_map(|(m, h, d)| Schedule::cron("s", &format!("{m} {h} {d} * *")).unwrap());
            prop_oneof![every, cron]
        };
        every
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn next_and_last_are_each_others_neighbours(
            schedule in schedules(),
            now in 1_700_000_000_000u64..1_900_000_000_000,
        ) {
            let last = schedule.last_due(at(now)).unwrap();
            let next = schedule.next_due(at(now)).unwrap();
            prop_assert!(last <= at(now) && at(now) < next);
            prop_assert_eq!(schedule.next_due(last), Some(next));
            prop_assert_eq!(schedule.last_due(next), Some(next));
            prop_assert_eq!(schedule.last_due(at(next.as_millis() - 1)), Some(last));
        }

        #[test]
        fn looking_often_or_rarely_starts_the_same_firings(
            schedule in schedules(),
            start in 1_700_000_000_000u64..1_800_000_000_000,
            looks in proptest::collection::vec(1u64..200_000_000, 1..20),
        ) {
            let schedule = schedule.with_misfire(Misfire::All);
            let (mut seen, mut since, mut now) = (Vec::new(), at(start), start);
            for pause in looks {
                now += pause;
                loop {
                    let due = schedule.due(Some(since), at(now));
                    let Some(last) = due.last() else { break };
                    since = last.at;
                    seen.extend(due.iter().map(|f| f.at));
                }
            }
            let mut expected = Vec::new();
            let mut next = schedule.next_due(at(start));
            while let Some(at) = next.filter(|next| next.as_millis() <= now) {
                expected.push(at);
                next = schedule.next_due(at);
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
