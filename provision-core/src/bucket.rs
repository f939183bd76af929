//! Everything shared about one bucket: pause, breaker, slots, window and rate, in one state that
//! any store can keep as JSON.
//!
//! [`crate::gcra`] and [`crate::breaker`] are the two parts with arithmetic of their own; here is
//! the order in which they are asked, so that all stores admit alike.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    breaker::Breaker,
    gcra::Gcra,
    id::Timestamp,
    limit::{Admission, Ask, HeldBy, Observed, Turn},
    store::Incarnation,
};

/// Turns of the rate are given to waiting callers so far ahead; who comes later is told a moment
/// to ask again, distinct from that of others, and nothing is counted for it.
pub const TURNS_NEAR: Duration = Duration::from_secs(5);
/// Moments to ask again are spread over so long at most.
const TURNS_FAR: Duration = Duration::from_secs(60);
/// A turn that was given is good for so long.
const TURN_KEPT: Duration = Duration::from_secs(2);

/// How soon to ask again when all slots are taken: nothing tells when one is given back.
pub const SLOT_RECHECK: Duration = Duration::from_millis(250);

/// State of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    rate: Gcra,
    /// The last moment to ask again that was named.
    line: Gcra,
    pause_until: Timestamp,
    window: Option<Window>,
    breaker: Breaker,
    slots: BTreeMap<Incarnation, u32>,
}

/// What the provider's own headers last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    left: u32,
    until: Timestamp,
}

impl Bucket {
    /// Admits calls or says when to ask again. `alive` is asked only when all slots are taken.
    ///
    /// Nothing is used up unless the answer is [`Admission::Now`], or names a turn that is kept.
    pub fn admit(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        alive: impl Fn(Incarnation) -> bool,
    ) -> Admission {
        match self.room(ask, now, alive) {
            Ok(calls) => {
                self.breaker.pass(now);
                if let Some(rate) = ask.profile.rate
                    && !has_turn(ask, now)
                {
                    self.rate = self.rate.take(rate, now, calls);
                }
                if let Some(window) = &mut self.window {
                    window.left = window.left.saturating_sub(calls);
                }
                if ask.slot && ask.profile.concurrency.is_some() {
                    let slots = self.slots.entry(ask.worker).or_default();
                    *slots = slots.saturating_add(1);
                }
                Admission::Now { calls }
            }
            Err((at, reason)) => self.stand_in_line(ask, now, at, reason),
        }
    }

    /// Tells a caller that is held back when to come: each another moment.
    fn stand_in_line(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        at: Timestamp,
        reason: HeldBy,
    ) -> Admission {
        let (Some(rate), true) = (ask.profile.rate, reason != HeldBy::Concurrency) else {
            return Admission::At { at, reason };
        };
        let by_rate = reason == HeldBy::Rate && self.window.is_none_or(|window| window.left > 0);
        if by_rate && ask.turn == Turn::Waits && at.since(now) <= TURNS_NEAR {
            self.rate = self.rate.take(rate, now, 1);
            return Admission::At { at, reason: HeldBy::Turn };
        }
        self.line = self.line.turn_after(rate, at, TURNS_FAR);
        Admission::At { at: self.line.moment(), reason }
    }

    fn room(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        alive: impl Fn(Incarnation) -> bool,
    ) -> Result<u32, (Timestamp, HeldBy)> {
        if now < self.pause_until {
            return Err((self.pause_until, HeldBy::Pause));
        }
        let mut calls = ask.calls.max(1);
        calls = calls.min(self.breaker.check(now).map_err(|at| (at, HeldBy::Breaker))?);
        if ask.slot && ask.profile.concurrency.is_some_and(|cap| !self.has_slot(cap, alive)) {
            return Err((now.plus(SLOT_RECHECK), HeldBy::Concurrency));
        }
        if self.window.is_some_and(|window| window.until <= now) {
            self.window = None;
        }
        if let Some(window) = self.window {
            if window.left == 0 {
                return Err((window.until, HeldBy::Rate));
            }
            calls = calls.min(window.left);
        }
        if has_turn(ask, now) {
            calls = 1;
        } else if let Some(rate) = ask.profile.rate {
            let found = self.rate.available(rate, now).map_err(|at| (at, HeldBy::Rate))?;
            calls = calls.min(found);
        }
        Ok(calls)
    }

    fn has_slot(&mut self, cap: u32, alive: impl Fn(Incarnation) -> bool) -> bool {
        if self.slots_taken() < u64::from(cap) {
            return true;
        }
        self.slots.retain(|worker, _| alive(*worker));
        self.slots_taken() < u64::from(cap)
    }

    fn slots_taken(&self) -> u64 {
        self.slots.values().map(|slots| u64::from(*slots)).sum()
    }

    /// Takes in what an answer said. Pauses only ever grow, and a provider's count only falls
    /// within its window, because answers arrive out of order.
    pub fn observe(&mut self, worker: Incarnation, seen: &Observed, now: Timestamp) {
        if let Some(pause) = seen.pause {
            self.pause_until = self.pause_until.max(now.plus(pause));
        }
        if let Some((left, reset)) = seen.remaining {
            let open = self.window.filter(|window| window.until > now);
            self.window = Some(match open {
                Some(known) => Window { left: known.left.min(left), until: known.until },
                None => Window { left, until: now.plus(reset) },
            });
        }
        if let Some(healthy) = seen.healthy {
            self.breaker.record(healthy, now);
        }
        if seen.slot_freed
            && let Some(slots) = self.slots.get_mut(&worker)
        {
            *slots = slots.saturating_sub(1);
            if *slots == 0 {
                self.slots.remove(&worker);
            }
        }
    }

    /// Gives back all slots of an incarnation that died.
    pub fn bury(&mut self, worker: Incarnation) {
        self.slots.remove(&worker);
    }

    /// Whether the state equals that of a bucket never used, so that it need not be kept.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.slots.is_empty()
            && self.pause_until <= now
            && self.window.is_none_or(|window| window.until <= now)
            && self.rate.is_idle(now)
            && self.line.is_idle(now)
            && self.breaker.is_idle(now)
    }
}

/// Whether the caller comes in time for a turn for which its call is counted.
fn has_turn(ask: &Ask, now: Timestamp) -> bool {
    matches!(ask.turn, Turn::Came(at) if at <= now && now <= at.plus(TURN_KEPT))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::{Bucket, SLOT_RECHECK, TURN_KEPT, TURNS_FAR, TURNS_NEAR};
    use crate::{
        id::Timestamp,
        limit::{Admission, Ask, HeldBy, Observed, Profile, Rate, Turn},
        store::Incarnation,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn worker(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    fn ask(calls: u32, rate: Option<Rate>, concurrency: Option<u32>) -> Ask {
        let profile = Profile { bucket: "p/a".to_owned(), rate, concurrency };
        Ask { profile, calls, worker: worker(1), slot: concurrency.is_some(), turn: Turn::Open }
    }

    fn held(at: Timestamp, reason: HeldBy) -> Admission {
        Admission::At { at, reason }
    }

    #[test]
    fn a_pause_holds_everything_and_never_shrinks() {
        let mut bucket = Bucket::default();
        let pause = |s| Observed { pause: Some(Duration::from_secs(s)), ..Observed::default() };
        bucket.observe(worker(1), &pause(10), NOW);
        bucket.observe(worker(2), &pause(2), NOW);
        let until = NOW.plus(Duration::from_secs(10));
        assert_eq!(bucket.admit(&ask(1, None, None), NOW, |_| true), held(until, HeldBy::Pause));
        assert_eq!(bucket.admit(&ask(7, None, None), until, |_| true), Admission::Now { calls: 7 });
        assert!(bucket.is_idle(until));
    }

    // covers: R1-60
    #[test]
    fn a_window_counts_down_and_is_forgotten_at_its_reset() {
        let mut bucket = Bucket::default();
        let seen = |left| Observed {
            remaining: Some((left, Duration::from_secs(60))),
            ..Observed::default()
        };
        bucket.observe(worker(1), &seen(5), NOW);
        bucket.observe(worker(1), &seen(9), NOW);
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, |_| true), Admission::Now { calls: 3 });
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, |_| true), Admission::Now { calls: 2 });
        let reset = NOW.plus(Duration::from_secs(60));
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, |_| true), held(reset, HeldBy::Rate));
        assert_eq!(bucket.admit(&ask(3, None, None), reset, |_| true), Admission::Now { calls: 3 });
    }

    #[test]
    fn slots_are_counted_over_all_workers_and_die_with_theirs() {
        let mut bucket = Bucket::default();
        let cap = ask(1, None, Some(2));
        let other = Ask { worker: worker(2), ..cap.clone() };
        assert_eq!(bucket.admit(&cap, NOW, |_| true), Admission::Now { calls: 1 });
        assert_eq!(bucket.admit(&other, NOW, |_| true), Admission::Now { calls: 1 });
        let full = held(NOW.plus(SLOT_RECHECK), HeldBy::Concurrency);
        assert_eq!(bucket.admit(&cap, NOW, |_| true), full);
        assert_eq!(bucket.admit(&cap, NOW, |w| w != worker(2)), Admission::Now { calls: 1 });
        let freed = Observed { slot_freed: true, ..Observed::default() };
        bucket.observe(worker(1), &freed, NOW);
        assert_eq!(bucket.admit(&other, NOW, |_| true), Admission::Now { calls: 1 });
        bucket.bury(worker(1));
        bucket.bury(worker(2));
        assert!(bucket.is_idle(NOW));
    }

    fn named(answer: Admission) -> (Timestamp, HeldBy) {
        match answer {
            Admission::At { at, reason } => (at, reason),
            Admission::Now { .. } => panic!("it is held back"),
        }
    }

    // covers: L3, R1-60
    #[test]
    fn those_who_wait_get_turns_one_interval_apart_that_nobody_takes_from_them() {
        let rate = Rate { calls: 10, per: Duration::from_secs(1), burst: 1 };
        let (mut bucket, every) = (Bucket::default(), Duration::from_millis(100));
        let open = ask(1, Some(rate), None);
        let waits = Ask { turn: Turn::Waits, ..open.clone() };
        assert_eq!(bucket.admit(&open, NOW, |_| true), Admission::Now { calls: 1 });
        for n in 1..=50 {
            let turn = named(bucket.admit(&waits, NOW, |_| true));
            assert_eq!(turn, (NOW.plus(every * n), HeldBy::Turn));
        }
        let far = named(bucket.admit(&waits, NOW, |_| true));
        assert_eq!(far, (NOW.plus(TURNS_NEAR + every), HeldBy::Rate), "later ones ask again");
        let next = named(bucket.admit(&waits, NOW, |_| true));
        assert_eq!(next, (far.0.plus(every), HeldBy::Rate), "each at another moment");
        let mut late = Duration::from_millis(7);
        for n in 1..=50 {
            let turn = NOW.plus(every * n);
            assert!(matches!(bucket.admit(&open, turn, |_| true), Admission::At { .. }));
            let came = Ask { turn: Turn::Came(turn), ..open.clone() };
            assert_eq!(bucket.admit(&came, turn.plus(late), |_| true), Admission::Now { calls: 1 });
            late = Duration::from_millis(20) - late;
        }
    }

    #[test]
    fn turns_that_nobody_comes_for_cost_little() {
        let rate = Rate { calls: 1, per: Duration::from_secs(1), burst: 1 };
        let mut bucket = Bucket::default();
        let open = ask(1, Some(rate), None);
        let waits = Ask { turn: Turn::Waits, ..open.clone() };
        for _ in 0..1_000 {
            let _ = bucket.admit(&waits, NOW, |_| true);
        }
        let (at, _) = named(bucket.admit(&open, NOW, |_| true));
        assert!(at <= NOW.plus(TURNS_NEAR + TURNS_FAR + Duration::from_secs(2)), "{at:?}");
        let over = NOW.plus(TURNS_NEAR + Duration::from_secs(1));
        assert_eq!(bucket.admit(&open, over, |_| true), Admission::Now { calls: 1 });
        let gone = Ask { turn: Turn::Came(over), ..open.clone() };
        let late = over.plus(Duration::from_millis(900));
        assert_eq!(bucket.admit(&gone, late, |_| true), Admission::Now { calls: 1 });
        let (_, why) = named(bucket.admit(&Ask { turn: Turn::Came(NOW), ..open }, late, |_| true));
        assert_eq!(why, HeldBy::Rate, "a turn is good for {TURN_KEPT:?}");
    }

    #[test]
    fn a_refused_ask_uses_nothing_up() {
        let mut bucket = Bucket::default();
        let rate = Rate { calls: 1, per: Duration::from_secs(1), burst: 1 };
        assert_eq!(
            bucket.admit(&ask(1, Some(rate), Some(5)), NOW, |_| true),
            Admission::Now { calls: 1 }
        );
        let before = bucket.clone();
        assert!(matches!(
            bucket.admit(&ask(1, Some(rate), Some(5)), NOW, |_| true),
            Admission::At { reason: HeldBy::Rate, .. }
        ));
        assert_eq!((bucket.rate, &bucket.slots), (before.rate, &before.slots));
    }

    #[test]
    fn the_state_survives_json() {
        let mut bucket = Bucket::default();
        let _ = bucket.admit(&ask(1, None, Some(3)), NOW, |_| true);
        bucket.observe(worker(1), &Observed { healthy: Some(false), ..Observed::default() }, NOW);
        let text = serde_json::to_string(&bucket).unwrap();
        assert_eq!(serde_json::from_str::<Bucket>(&text).unwrap(), bucket);
    }
}
