use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};

use super::{Backoff, Jitter, Next, Policy, Series, Why};
use crate::id::Timestamp;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// The waits of a whole series in which every attempt fails at once.
fn waits(policy: &Policy, draw: u64) -> (Vec<u64>, Why) {
    let (mut now, mut out) = (0, Vec::new());
    for made in 1..=2_000 {
        match policy.next(&Series::new(made, at(0), at(now), draw)) {
            Next::After(wait) => {
                let ms = u64::try_from(wait.as_millis()).unwrap();
                now += ms;
                out.push(ms);
            }
            Next::Exhausted(why) => return (out, why),
        }
    }
    panic!("the series did not end");
}

// covers: L4, R1-04, R1-31, R2-63, R3-16, R4-06, R4-07, R5-32, R5-33, R5-34
#[test]
fn presets_wait_as_specified() {
    let table: [(&str, Policy, &[u64], &[u64]); 6] = [
        ("onboarding", Policy::onboarding_default(), &[0; 4], &[1_000, 2_000, 4_000, 8_000]),
        ("default", Policy::default(), &[0; 4], &[1_000, 2_000, 4_000, 8_000]),
        ("orders", Policy::orders_default(), &[0; 4], &[1_000, 2_000, 4_000, 8_000]),
        (
            "hosting",
            Policy::hosting_default(),
            &[2_000, 4_000, 8_000, 16_000],
            &[2_000, 4_000, 8_000, 16_000],
        ),
        ("tenants", Policy::tenants_default(), &[300_000; 2], &[300_000; 2]),
        (
            "connector",
            Policy::connector_default().with_attempts(6),
            &[1_000, 3_000, 9_000, 27_000, 60_000],
            &[2_000, 4_000, 10_000, 28_000, 61_000],
        ),
    ];
    for (name, policy, shortest, longest) in table {
        policy.validate().unwrap();
        assert_eq!(waits(&policy, 0), (shortest.to_vec(), Why::Attempts), "{name}, shortest");
        assert_eq!(waits(&policy, u64::MAX), (longest.to_vec(), Why::Attempts), "{name}, longest");
    }
    assert_eq!(Policy::connector_default().max_attempts(), 4);
    assert_eq!(Policy::tenants_default().max_attempts(), 3);
    assert_eq!(Policy::once().next(&Series::new(1, at(0), at(0), 0)), exhausted(Why::Attempts));
}

fn exhausted(why: Why) -> Next {
    Next::Exhausted(why)
}

#[test]
fn undoing_goes_on_for_hours_and_then_stops() {
    let (list, why) = waits(&Policy::undo(), u64::MAX);
    assert_eq!(why, Why::Total);
    assert_eq!(list.iter().max(), Some(&300_000));
    let total: u64 = list.iter().sum();
    assert!((4 * 3_600_000 - 300_000..=4 * 3_600_000).contains(&total), "{total}");
    Policy::undo().validate().unwrap();
}

// covers: L4, R1-58
#[test]
fn what_the_provider_asks_for_is_never_shortened() {
    let policy = Policy::hosting_default();
    let asked = |ms| Series::new(1, at(0), at(0), 0).with_asked(Some(MS(ms)));
    assert_eq!(policy.next(&asked(1)), Next::After(MS(2_000)));
    assert_eq!(policy.next(&asked(90_000)), Next::After(MS(90_000)));
    assert_eq!(policy.next(&asked(900_000)), Next::After(MS(900_000)));
    assert_eq!(policy.next(&asked(900_001)), exhausted(Why::Total));
    assert_eq!(Policy::attempts(3).immediate().next(&asked(700)), Next::After(MS(700)));
}

// covers: L4, R3-43
#[test]
fn being_throttled_costs_time_and_no_attempt() {
    let policy = Policy::once().with_total(Duration::from_hours(3));
    let throttled = |now, asked| {
        Series::new(0, at(0), at(now), u64::MAX).with_throttled_since(Some(at(0))).with_asked(asked)
    };
    assert_eq!(policy.next(&throttled(0, None)), Next::After(Duration::from_mins(1)));
    assert_eq!(policy.next(&throttled(0, Some(MS(5)))), Next::After(MS(5)));
    assert_eq!(policy.next(&throttled(3_599_995, Some(MS(5)))), Next::After(MS(5)));
    assert_eq!(policy.next(&throttled(3_599_996, Some(MS(5)))), exhausted(Why::Throttled));
    let short = policy.with_total(MS(1_000));
    assert_eq!(short.next(&throttled(996, Some(MS(5)))), exhausted(Why::Total));
}

#[test]
fn a_clock_that_jumps_back_does_not_end_the_series() {
    let series = Series::new(1, at(9_000_000), at(0), 0);
    assert_eq!(Policy::hosting_default().next(&series), Next::After(MS(2_000)));
}

#[test]
fn values_outside_their_range_are_refused() {
    let minute = Duration::from_mins(1);
    let refused = [
        Policy::attempts(0),
        Policy::attempts(10_001),
        Policy::attempts(2).exponential(minute, 0, minute),
        Policy::attempts(2).exponential(minute, 11, minute),
        Policy::attempts(2).exponential(minute, 2, MS(1)),
        Policy::attempts(2).with_total(Duration::MAX),
    ];
    for policy in refused {
        assert!(policy.validate().is_err(), "{policy:?}");
    }
}

#[test]
fn the_stored_form_is_stable_and_in_milliseconds() {
    let text = serde_json::to_string(&Policy::connector_default()).unwrap();
    assert_eq!(
        text,
        r#"{"attempts":4,"backoff":{"kind":"exponential","first":1000,"factor":3,"cap":60000},"jitter":{"kind":"additive","max":1000},"total":900000,"max_throttled":3600000}"#
    );
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), Policy::connector_default());
}

// covers: R1-14
#[test]
fn a_thousand_series_that_fail_together_come_back_spread() {
    let policy = Policy::onboarding_default();
    let step = u64::MAX / 1_000;
    let waits: Vec<f64> = (0..1_000_u64)
        .map(|i| match policy.next(&Series::new(4, at(0), at(0), i * step)) {
            Next::After(wait) => wait.as_secs_f64(),
            Next::Exhausted(why) => panic!("{why:?}"),
        })
        .collect();
    let mean = waits.iter().sum::<f64>() / 1_000.0;
    let variance = waits.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 1_000.0;
    // An even spread over 0..=8 s has a mean of 4 s and a coefficient of variation of 1/sqrt(3).
    assert!((mean - 4.0).abs() < 0.05, "{mean}");
    assert!((variance.sqrt() / mean - 0.577).abs() < 0.02, "{variance}");
}

fn policies() -> impl Strategy<Value = Policy> {
    let backoff = prop_oneof![
        (0u64..100_000, 1u32..=10, 0u64..10_000_000).prop_map(|(first, factor, more)| {
            Backoff::Exponential { first: MS(first), factor, cap: MS(first + more) }
        }),
        (0u64..10_000_000).prop_map(|ms| Backoff::Fixed { every: MS(ms) }),
        Just(Backoff::None),
    ];
    let jitter = prop_oneof![
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::None),
        (0u64..10_000).prop_map(|ms| Jitter::Additive { max: MS(ms) }),
    ];
    (1u32..200, backoff, jitter, 0u64..100_000_000).prop_map(|(n, backoff, jitter, total)| Policy {
        attempts: n,
        backoff,
        jitter,
        total: MS(total),
        max_throttled: MS(total / 2),
    })
}

fn series() -> impl Strategy<Value = Series> {
    let moment = 0u64..200_000_000;
    let asked = proptest::option::of((0u64..90_000_000).prop_map(MS));
    let since = proptest::option::of(moment.clone().prop_map(at));
    (0u32..250, moment.clone(), moment, since, asked, any::<u64>()).prop_map(
        |(made, started, now, since, asked, draw)| {
            Series::new(made, at(started), at(now), draw)
                .with_throttled_since(since)
                .with_asked(asked)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // covers: L4
    #[test]
    fn every_wait_keeps_attempts_budget_cap_and_wish(policy in policies(), series in series()) {
        policy.validate().unwrap();
        if let Next::After(wait) = policy.next(&series) {
            prop_assert!(wait >= series.asked.unwrap_or_default());
            prop_assert!(series.now.since(series.started) + wait <= policy.total());
            match series.throttled_since {
                Some(since) => {
                    prop_assert!(series.now.since(since) + wait <= policy.max_throttled());
                }
                None => {
                    prop_assert!(series.attempts_made < policy.max_attempts());
                    let base = policy.base(series.attempts_made);
                    let more = match policy.jitter() {
                        Jitter::Additive { max } => max,
                        Jitter::Full | Jitter::Equal | Jitter::None => Duration::ZERO,
                    };
                    prop_assert!(wait <= (base + more).max(series.asked.unwrap_or_default()));
                }
            }
        }
    }

    #[test]
    fn waits_never_shrink_before_jitter(policy in policies(), n in 1u32..300) {
        prop_assert!(policy.base(n) <= policy.base(n + 1));
    }

    #[test]
    fn every_series_ends(policy in policies(), draw in any::<u64>()) {
        let (list, _) = waits(&policy, draw);
        prop_assert!(list.len() < 200);
    }

    #[test]
    fn a_policy_survives_being_stored(policy in policies()) {
        let text = serde_json::to_string(&policy).unwrap();
        prop_assert!(serde_json::from_str::<Policy>(&text).unwrap() == policy);
    }
}
