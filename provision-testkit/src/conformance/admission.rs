//! Rates, pauses and breakers of one bucket.

use std::time::Duration;

use provision_core::{
    id::Timestamp,
    limit::{Admission, Ask, HeldBy, Observed, Profile, Rate, Turn},
};

use super::{Fixture, new_worker};

fn ask(bucket: &str, calls: u32, rate: Option<Rate>) -> Ask {
    let profile = Profile { bucket: bucket.to_owned(), rate, concurrency: None };
    Ask { profile, calls, worker: new_worker(), slot: false, turn: Turn::Open }
}

/// So slow that nothing comes back while a case runs, unless time is made to pass.
fn slow(f: &Fixture, burst: u32) -> Rate {
    Rate { calls: 1, per: f.ttl * 4, burst }
}

pub(super) async fn admit(f: &Fixture, ask: &Ask) -> Admission {
    f.main.limiter.admit(ask).await.expect("admit answers")
}

async fn observe(f: &Fixture, bucket: &str, seen: Observed) {
    f.main.limiter.observe(bucket, new_worker(), &seen).await.expect("observe answers");
}

pub(super) fn held(answer: Admission, why: HeldBy) -> Timestamp {
    match answer {
        Admission::At { at, reason, .. } if reason == why => at,
        other => panic!("expected to be held by {why:?}, found {other:?}"),
    }
}

/// A bucket without limits grants what is asked.
pub async fn a_bucket_without_limits_grants_all(f: Fixture) {
    for calls in [1, 100, 10_000] {
        assert_eq!(admit(&f, &ask("free", calls, None)).await, Admission::Now { calls });
    }
}

/// The burst is granted at once, in blocks, and then a moment is named.
pub async fn a_burst_is_granted_and_then_a_moment_named(f: Fixture) {
    let rate = Some(slow(&f, 5));
    assert_eq!(admit(&f, &ask("b", 3, rate)).await, Admission::Now { calls: 3 });
    assert_eq!(admit(&f, &ask("b", 3, rate)).await, Admission::Now { calls: 2 });
    let at = held(admit(&f, &ask("b", 1, rate)).await, HeldBy::Rate);
    assert!(at > f.main.state.now().await.unwrap());
}

/// At the moment named, the call is granted.
pub async fn the_named_moment_is_kept(f: Fixture) {
    let rate = Some(Rate { calls: 1, per: f.ttl, burst: 1 });
    assert_eq!(admit(&f, &ask("b", 1, rate)).await, Admission::Now { calls: 1 });
    let at = held(admit(&f, &ask("b", 1, rate)).await, HeldBy::Rate);
    let wait = at.since(f.main.state.now().await.unwrap());
    assert!(wait <= f.ttl, "{wait:?}");
    f.advance(wait + Duration::from_millis(1)).await;
    assert_eq!(admit(&f, &ask("b", 9, rate)).await, Admission::Now { calls: 1 });
}

/// A pause holds every call until it is over, and a shorter one does not shrink it.
// covers: L4
pub async fn a_pause_is_kept_and_never_shortened(f: Fixture) {
    let pause = |time| Observed { pause: Some(time), ..Observed::default() };
    observe(&f, "b", pause(f.ttl)).await;
    observe(&f, "b", pause(f.ttl / 8)).await;
    let answer = admit(&f, &ask("b", 1, None)).await;
    let left = held(answer, HeldBy::Pause).since(f.main.state.now().await.unwrap());
    assert!(left > f.ttl / 4 && left <= f.ttl, "{left:?}");
    let Admission::At { wait, .. } = answer else { panic!("{answer:?}") };
    assert!(wait > f.ttl / 4 && wait <= f.ttl, "{wait:?} by the limiter's own clock");
    f.advance(f.ttl + Duration::from_millis(1)).await;
    assert_eq!(admit(&f, &ask("b", 1, None)).await, Admission::Now { calls: 1 });
}

/// What the provider says is left is not exceeded before its window resets.
// covers: R1-60
pub async fn the_providers_own_count_is_kept(f: Fixture) {
    let seen = Observed { remaining: Some((2, f.ttl)), ..Observed::default() };
    observe(&f, "b", seen).await;
    assert_eq!(admit(&f, &ask("b", 9, None)).await, Admission::Now { calls: 2 });
    held(admit(&f, &ask("b", 1, None)).await, HeldBy::Rate);
    f.advance(f.ttl + Duration::from_millis(1)).await;
    assert_eq!(admit(&f, &ask("b", 9, None)).await, Admission::Now { calls: 9 });
}

/// Failing calls open the breaker; healthy ones among them keep it closed.
// covers: R4-28
pub async fn failing_calls_open_the_breaker(f: Fixture) {
    let ended = |healthy| Observed { healthy: Some(healthy), ..Observed::default() };
    for _ in 0..20 {
        observe(&f, "fine", ended(false)).await;
        observe(&f, "fine", ended(true)).await;
    }
    assert_eq!(admit(&f, &ask("fine", 3, None)).await, Admission::Now { calls: 3 });
    for _ in 0..5 {
        assert_eq!(admit(&f, &ask("ill", 1, None)).await, Admission::Now { calls: 1 });
        observe(&f, "ill", ended(false)).await;
    }
    let at = held(admit(&f, &ask("ill", 1, None)).await, HeldBy::Breaker);
    assert!(at > f.main.state.now().await.unwrap());
}

/// Buckets do not influence each other.
pub async fn buckets_are_independent(f: Fixture) {
    let rate = Some(slow(&f, 1));
    for bucket in ["hetzner/a", "hetzner/b", "github/a", "hetzner/a "] {
        assert_eq!(admit(&f, &ask(bucket, 1, rate)).await, Admission::Now { calls: 1 });
        held(admit(&f, &ask(bucket, 1, rate)).await, HeldBy::Rate);
    }
}
