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
    limit::{Admission, Ask, Concurrency, HeldBy, Observed, Turn},
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
/// Slots of a worker of which a store knows nothing are kept for so long after it was last heard
/// of; stores remember their dead as long at least.
pub const SLOTS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How long what was found out about a provider is kept after the last call.
pub const WIDTH_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// What is heard of a worker is noted so often: a refused call changes nothing in between.
const HEARD_STEP: Duration = Duration::from_secs(3_600);

/// What a store knows of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It holds a lease of its own, which no one has ended.
    Alive,
    /// It is over, and its slots are free.
    Dead,
    /// It was never seen, or is dead for so long that it was forgotten. Its slots are free when it
    /// has not been heard of for [`SLOTS_KEPT`].
    Unknown,
}

fn held(at: Timestamp, now: Timestamp, reason: HeldBy) -> Admission {
    Admission::At { at, wait: at.since(now), reason }
}

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
    slots: BTreeMap<Incarnation, Slots>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<Width>,
}

/// What was found out about how many calls a provider bears at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Width {
    open: u32,
    /// Good answers since it changed last.
    good: u32,
    heard: Timestamp,
}

impl Width {
    const fn narrowest(heard: Timestamp) -> Self {
        Self { open: 1, good: 0, heard }
    }

    fn good(self, now: Timestamp) -> Self {
        let good = self.good.saturating_add(1);
        match good >= self.open {
            true => Self { open: self.open.saturating_add(1), good: 0, heard: now },
            false => Self { good, heard: now, ..self },
        }
    }

    fn halved(self, now: Timestamp) -> Self {
        Self { open: (self.open / 2).max(1), good: 0, heard: now }
    }
}

/// Slots of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Slots {
    taken: u32,
    heard: Timestamp,
}

/// What the provider's own headers last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    left: u32,
    until: Timestamp,
}

impl Bucket {
    /// Admits calls or says when to ask again. `standing` is asked only when all slots are taken.
    ///
    /// Nothing is used up unless the answer is [`Admission::Now`], or names a turn that is kept.
    pub fn admit(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        standing: impl Fn(Incarnation) -> Standing,
    ) -> Admission {
        self.hear(ask.worker, now);
        match self.room(ask, now, standing) {
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
                if let Some(concurrency) = ask.profile.concurrency.filter(|_| ask.slot) {
                    if let Concurrency::Adaptive(_) = concurrency {
                        self.width.get_or_insert(Width::narrowest(now));
                    }
                    let none = Slots { taken: 0, heard: now };
                    let slots = self.slots.entry(ask.worker).or_insert(none);
                    slots.taken = slots.taken.saturating_add(1);
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
            return held(at, now, reason);
        };
        let by_rate = reason == HeldBy::Rate && self.window.is_none_or(|window| window.left > 0);
        if by_rate && ask.turn == Turn::Waits && at.since(now) <= TURNS_NEAR {
            self.rate = self.rate.take(rate, now, 1);
            return held(at, now, HeldBy::Turn);
        }
        self.line = self.line.turn_after(rate, at, TURNS_FAR);
        held(self.line.moment(), now, reason)
    }

    fn room(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        standing: impl Fn(Incarnation) -> Standing,
    ) -> Result<u32, (Timestamp, HeldBy)> {
        if now < self.pause_until {
            return Err((self.pause_until, HeldBy::Pause));
        }
        let mut calls = ask.calls.max(1);
        calls = calls.min(self.breaker.check(now).map_err(|at| (at, HeldBy::Breaker))?);
        let cap = ask.profile.concurrency.filter(|_| ask.slot).map(|cap| self.cap(cap));
        if cap.is_some_and(|cap| !self.has_slot(cap, now, standing)) {
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

    fn has_slot(
        &mut self,
        cap: u32,
        now: Timestamp,
        standing: impl Fn(Incarnation) -> Standing,
    ) -> bool {
        if self.slots_taken() < u64::from(cap) {
            return true;
        }
        self.slots.retain(|worker, slots| match standing(*worker) {
            Standing::Alive => true,
            Standing::Dead => false,
            Standing::Unknown => now.since(slots.heard) < SLOTS_KEPT,
        });
        self.slots_taken() < u64::from(cap)
    }

    fn cap(&self, concurrency: Concurrency) -> u32 {
        match concurrency {
            Concurrency::AtMost(most) => most,
            Concurrency::Adaptive(most) => self.width.map_or(1, |width| width.open).min(most),
        }
    }

    /// How many calls at the same time the provider seems to bear, where that is being found out
    /// ([`Concurrency::Adaptive`]); the profile's own cap still holds.
    #[must_use]
    pub fn width(&self) -> Option<u32> {
        self.width.map(|width| width.open)
    }

    /// Until when the provider has asked to be left alone.
    #[must_use]
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.pause_until).filter(|until| *until > now)
    }

    /// Calls that are open under a slot, in all processes.
    #[must_use]
    pub fn slots_taken(&self) -> u64 {
        self.slots.values().map(|slots| u64::from(slots.taken)).sum()
    }

    /// Who holds slots and was not heard of for so long: for a limiter that is not told who lives.
    pub fn silent(
        &self,
        now: Timestamp,
        silence: Duration,
    ) -> impl Iterator<Item = Incarnation> + '_ {
        let is_silent = move |heard: Timestamp| now.since(heard) >= silence;
        self.slots.iter().filter(move |(_, slots)| is_silent(slots.heard)).map(|(who, _)| *who)
    }

    /// Who holds slots, in no order.
    pub fn holders(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.slots.keys().copied()
    }

    fn hear(&mut self, worker: Incarnation, now: Timestamp) {
        self.heard(worker, now, HEARD_STEP);
    }

    /// Notes that a worker that holds slots was heard of, where that was so long ago: for a limiter
    /// that is not told who lives, and asks [`Self::silent`].
    pub fn heard(&mut self, worker: Incarnation, now: Timestamp, step: Duration) {
        if let Some(slots) = self.slots.get_mut(&worker)
            && now.since(slots.heard) >= step
        {
            slots.heard = now;
        }
    }

    /// Takes in what an answer said. Pauses only ever grow, and a provider's count only falls
    /// within its window, because answers arrive out of order.
    pub fn observe(&mut self, worker: Incarnation, seen: &Observed, now: Timestamp) {
        self.find_width(seen, now);
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
        self.hear(worker, now);
        if seen.slot_freed
            && let Some(slots) = self.slots.get_mut(&worker)
        {
            slots.taken = slots.taken.saturating_sub(1);
            if slots.taken == 0 {
                self.slots.remove(&worker);
            }
        }
    }

    /// Answers to calls that were open when a pause began tell nothing new about it.
    fn find_width(&mut self, seen: &Observed, now: Timestamp) {
        let Some(width) = self.width.filter(|_| self.pause_until <= now) else { return };
        self.width = Some(match (seen.pause, seen.healthy) {
            (Some(_), _) => width.halved(now),
            (None, Some(true)) => width.good(now),
            _ => return,
        });
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
            && self.width.is_none_or(|width| now.since(width.heard) >= WIDTH_KEPT)
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

    use super::{
        Bucket, SLOT_RECHECK, SLOTS_KEPT, Standing, TURN_KEPT, TURNS_FAR, TURNS_NEAR, WIDTH_KEPT,
        held,
    };
    use crate::{
        id::Timestamp,
        limit::{Admission, Ask, Concurrency, HeldBy, Observed, Profile, Rate, Turn},
        store::Incarnation,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn alive(_: Incarnation) -> Standing {
        Standing::Alive
    }

    fn worker(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    fn ask(calls: u32, rate: Option<Rate>, concurrency: Option<u32>) -> Ask {
        let concurrency = concurrency.map(Concurrency::AtMost);
        let profile = Profile { bucket: "p/a".to_owned(), rate, concurrency };
        Ask { profile, calls, worker: worker(1), slot: concurrency.is_some(), turn: Turn::Open }
    }

    #[test]
    fn a_pause_holds_everything_and_never_shrinks() {
        let mut bucket = Bucket::default();
        let pause = |s| Observed { pause: Some(Duration::from_secs(s)), ..Observed::default() };
        bucket.observe(worker(1), &pause(10), NOW);
        bucket.observe(worker(2), &pause(2), NOW);
        let until = NOW.plus(Duration::from_secs(10));
        assert_eq!(bucket.admit(&ask(1, None, None), NOW, alive), held(until, NOW, HeldBy::Pause));
        assert_eq!(bucket.admit(&ask(7, None, None), until, alive), Admission::Now { calls: 7 });
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
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, alive), Admission::Now { calls: 3 });
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, alive), Admission::Now { calls: 2 });
        let reset = NOW.plus(Duration::from_secs(60));
        assert_eq!(bucket.admit(&ask(3, None, None), NOW, alive), held(reset, NOW, HeldBy::Rate));
        assert_eq!(bucket.admit(&ask(3, None, None), reset, alive), Admission::Now { calls: 3 });
    }

    #[test]
    fn slots_are_counted_over_all_workers_and_die_with_theirs() {
        let mut bucket = Bucket::default();
        let cap = ask(1, None, Some(2));
        let other = Ask { worker: worker(2), ..cap.clone() };
        assert_eq!(bucket.admit(&cap, NOW, alive), Admission::Now { calls: 1 });
        assert_eq!(bucket.admit(&other, NOW, alive), Admission::Now { calls: 1 });
        let full = held(NOW.plus(SLOT_RECHECK), NOW, HeldBy::Concurrency);
        assert_eq!(bucket.admit(&cap, NOW, alive), full);
        let but_two = |w| if w == worker(2) { Standing::Dead } else { Standing::Alive };
        assert_eq!(bucket.admit(&cap, NOW, but_two), Admission::Now { calls: 1 });
        let freed = Observed { slot_freed: true, ..Observed::default() };
        bucket.observe(worker(1), &freed, NOW);
        assert_eq!(bucket.admit(&other, NOW, alive), Admission::Now { calls: 1 });
        bucket.bury(worker(1));
        bucket.bury(worker(2));
        assert!(bucket.is_idle(NOW));
    }

    // covers: R1-82
    #[test]
    fn an_unknown_width_grows_by_good_answers_and_is_halved_once_by_each_pause() {
        let mut bucket = Bucket::default();
        let mut asked = ask(1, None, None);
        asked.profile.concurrency = Some(Concurrency::Adaptive(5));
        asked.slot = true;
        let free = Observed { slot_freed: true, healthy: Some(true), ..Observed::default() };
        let mut widths = Vec::new();
        for _ in 0..12 {
            while let Admission::Now { .. } = bucket.admit(&asked, NOW, alive) {}
            widths.push(bucket.slots_taken());
            for _ in 0..bucket.slots_taken() {
                bucket.observe(asked.worker, &free, NOW);
            }
        }
        assert_eq!(widths, [1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5], "never above its own cap");
        let wide = bucket.width().unwrap();
        let pause = Some(Duration::from_secs(10));
        for _ in 0..3 {
            bucket.observe(asked.worker, &Observed { pause, ..Observed::default() }, NOW);
        }
        assert_eq!(bucket.width(), Some(wide / 2), "refusals of one moment count once");
        assert!(!bucket.is_idle(NOW.plus(Duration::from_secs(60))), "what was learnt is kept");
        assert!(bucket.is_idle(NOW.plus(WIDTH_KEPT).plus(Duration::from_secs(10))));
        for later in (1..9).map(|n| NOW.plus(Duration::from_secs(20 * n))) {
            bucket.observe(asked.worker, &Observed { pause, ..Observed::default() }, later);
        }
        assert_eq!(bucket.width(), Some(1), "one call is always tried");
    }

    #[test]
    fn slots_of_the_unknown_are_kept_for_a_day_after_they_were_heard_of() {
        let mut bucket = Bucket::default();
        let unknown = |_: Incarnation| Standing::Unknown;
        let cap = ask(1, None, Some(1));
        let other = Ask { worker: worker(2), ..cap.clone() };
        assert_eq!(bucket.admit(&cap, NOW, unknown), Admission::Now { calls: 1 });
        let later = NOW.plus(SLOTS_KEPT / 2);
        bucket.observe(worker(1), &Observed::default(), later);
        let is_held = |answer| matches!(answer, Admission::At { .. });
        assert!(is_held(bucket.admit(&other, NOW.plus(SLOTS_KEPT), unknown)));
        let over = later.plus(SLOTS_KEPT);
        assert!(is_held(bucket.admit(&other, over, alive)), "who is alive keeps its slots");
        assert_eq!(bucket.admit(&other, over, unknown), Admission::Now { calls: 1 });
    }

    fn named(answer: Admission) -> (Timestamp, HeldBy) {
        match answer {
            Admission::At { at, reason, .. } => (at, reason),
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
        assert_eq!(bucket.admit(&open, NOW, alive), Admission::Now { calls: 1 });
        for n in 1..=50 {
            let turn = named(bucket.admit(&waits, NOW, alive));
            assert_eq!(turn, (NOW.plus(every * n), HeldBy::Turn));
        }
        let far = named(bucket.admit(&waits, NOW, alive));
        assert_eq!(far, (NOW.plus(TURNS_NEAR + every), HeldBy::Rate), "later ones ask again");
        let next = named(bucket.admit(&waits, NOW, alive));
        assert_eq!(next, (far.0.plus(every), HeldBy::Rate), "each at another moment");
        let mut late = Duration::from_millis(7);
        for n in 1..=50 {
            let turn = NOW.plus(every * n);
            assert!(matches!(bucket.admit(&open, turn, alive), Admission::At { .. }));
            let came = Ask { turn: Turn::Came(turn), ..open.clone() };
            assert_eq!(bucket.admit(&came, turn.plus(late), alive), Admission::Now { calls: 1 });
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
            let _ = bucket.admit(&waits, NOW, alive);
        }
        let (at, _) = named(bucket.admit(&open, NOW, alive));
        assert!(at <= NOW.plus(TURNS_NEAR + TURNS_FAR + Duration::from_secs(2)), "{at:?}");
        let over = NOW.plus(TURNS_NEAR + Duration::from_secs(1));
        assert_eq!(bucket.admit(&open, over, alive), Admission::Now { calls: 1 });
        let gone = Ask { turn: Turn::Came(over), ..open.clone() };
        let late = over.plus(Duration::from_millis(900));
        assert_eq!(bucket.admit(&gone, late, alive), Admission::Now { calls: 1 });
        let (_, why) = named(bucket.admit(&Ask { turn: Turn::Came(NOW), ..open }, late, alive));
        assert_eq!(why, HeldBy::Rate, "a turn is good for {TURN_KEPT:?}");
    }

    #[test]
    fn a_refused_ask_uses_nothing_up() {
        let mut bucket = Bucket::default();
        let rate = Rate { calls: 1, per: Duration::from_secs(1), burst: 1 };
        assert_eq!(
            bucket.admit(&ask(1, Some(rate), Some(5)), NOW, alive),
            Admission::Now { calls: 1 }
        );
        let before = bucket.clone();
        assert!(matches!(
            bucket.admit(&ask(1, Some(rate), Some(5)), NOW, alive),
            Admission::At { reason: HeldBy::Rate, .. }
        ));
        assert_eq!((bucket.rate, &bucket.slots), (before.rate, &before.slots));
    }

    #[test]
    fn the_state_survives_json() {
        let mut bucket = Bucket::default();
        let _ = bucket.admit(&ask(1, None, Some(3)), NOW, alive);
        bucket.observe(worker(1), &Observed { healthy: Some(false), ..Observed::default() }, NOW);
        let text = serde_json::to_string(&bucket).unwrap();
        assert_eq!(serde_json::from_str::<Bucket>(&text).unwrap(), bucket);
    }
}
