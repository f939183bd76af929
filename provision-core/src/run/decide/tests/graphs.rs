//! Random graphs, random ends, random interruptions.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    option, prop_oneof,
    strategy::{Just, Strategy},
    test_runner::{Config, TestRunner},
};

use super::{
    fixture::{Spec, What},
    walk::Walk,
};
use crate::run::{RunStatus, journal::Order};

fn plain() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => Just(What::Step),
        5 => Just(What::Resource),
        1 => Just(What::Value),
        1 => Just(What::Sleep),
        1 => Just(What::Signal),
        1 => Just(What::Child),
    ]
}

fn spec(what: impl Strategy<Value = What>) -> impl Strategy<Value = Spec> {
    let flags = (
        option::weighted(0.2, proptest::bool::weighted(0.6)),
        proptest::bool::weighted(0.25),
        proptest::bool::weighted(0.04),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
    );
    (what, 0_u16..64, 0_u16..8, flags, 1_u32..4).prop_map(|(what, deps, outer, flags, attempts)| {
        let (when, optional, pivot, irreversible, park) = flags;
        let free = matches!(what, What::Join(_) | What::Each { .. });
        let step = matches!(what, What::Step);
        Spec {
            deps,
            outer,
            when: when.filter(|_| !free),
            optional: optional && !free,
            pivot: pivot && !free,
            irreversible: irreversible && step,
            park: park && step,
            attempts,
            what,
        }
    })
}

fn nodes() -> impl Strategy<Value = Vec<Spec>> {
    let each = (0_usize..4, option::of(0_usize..3), vec(spec(plain()), 1..4))
        .prop_map(|(items, at_least, body)| What::Each { items, at_least, body });
    let join = (0_usize..2).prop_map(What::Join);
    vec(spec(prop_oneof![10 => plain(), 2 => each, 1 => join]), 1..8)
}

fn cases() -> Config {
    let config = Config::default();
    // `PROPTEST_CASES` asks for more, or for fewer.
    let cases = if config.cases == 256 { 2_000 } else { config.cases };
    Config { cases, failure_persistence: None, ..config }
}

/// Runs random cases; proptest prints the smallest one that fails.
fn check(test: impl Fn(&[Spec], Vec<u16>) -> RunStatus) -> BTreeMap<RunStatus, u32> {
    let ends = std::cell::RefCell::new(BTreeMap::new());
    let input = (nodes(), vec(0_u16..10_000, 0..120));
    let done = TestRunner::new(cases()).run(&input, |(specs, choices)| {
        let end = test(&specs, choices);
        *ends.borrow_mut().entry(end).or_insert(0) += 1;
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    ends.into_inner()
}

// covers: S3, S4, S8, S10, S12, S13, S15, S16, S17, L1, L5
#[test]
fn random_runs_come_to_a_clean_end() {
    let ends = check(|specs, choices| Walk::new(specs, choices).run());
    for end in [RunStatus::Succeeded, RunStatus::RolledBack, RunStatus::PartlySucceeded] {
        assert!(ends.get(&end).is_some_and(|count| *count > 50), "{ends:?}");
    }
    assert!(ends.contains_key(&RunStatus::RolledBackKeeping), "{ends:?}");
}

/// A step after a join waits for what the join was put together from.
// covers: S13, L5
#[test]
fn what_rests_on_a_step_that_is_made_again_waits_for_it() {
    let specs = [
        Spec { what: What::Resource, optional: true, ..Spec::default() },
        Spec { what: What::Join(0), deps: 1, ..Spec::default() },
        Spec { what: What::Step, deps: 2, ..Spec::default() },
    ];
    // Cancelled with the step open, undone, driven again: the resource's second end is unknown.
    let choices = [
        1190, 0, 895, 664, 3654, 0, 824, 820, 28, 0, 9330, 1596, 0, 267, 7962, 784, 0, 2383, 2436,
        0, 1101, 1248, 4480, 0, 6427, 6104, 6260, 8672, 1190, 2953, 7533, 182, 0, 1090,
    ];
    let mut walk = Walk::new(&specs, choices.to_vec());
    assert_eq!(walk.run(), RunStatus::RolledBack);
    walk.order(Order::Redrive);
    walk.run_on();
}

/// Nothing begins anew while a run unwinds: what was found to be gone is looked for once more.
// covers: S12
#[test]
fn a_step_that_would_be_renewed_while_it_unwinds_is_undone() {
    let specs = [Spec { what: What::Resource, attempts: 2, ..Spec::default() }];
    // Driven again, it ends unknown; cancelled while it looks, which finds that it must be renewed.
    let choices = [
        70, 0, 824, 8002, 560, 0, 2783, 1806, 0, 5457, 2450, 0, 5198, 2310, 0, 5176, 544, 3066, 0,
        5752, 960, 878, 2002, 0, 2576,
    ];
    let mut walk = Walk::new(&specs, choices.to_vec());
    assert_eq!(walk.run(), RunStatus::RolledBack);
    walk.order(Order::Redrive);
    assert_eq!(walk.run_on(), RunStatus::RolledBack);
}

/// A fan-out that closes begins the unwinding of the run in the same write: although the undo of
/// another branch has failed before, what stands elsewhere is undone before the run parks.
// covers: S13, L5
#[test]
fn an_unwinding_begins_before_the_run_parks_for_an_earlier_failed_undo() {
    let item = Spec { attempts: 2, ..Spec::default() };
    let items = What::Each { items: 3, at_least: Some(2), body: vec![item] };
    let specs = [
        Spec { park: true, ..Spec::default() },
        Spec { what: items, ..Spec::default() },
        Spec { what: What::Resource, optional: true, ..Spec::default() },
    ];
    // Driven again: the optional resource cannot be undone, then too few items succeed.
    let choices = [
        1554, 8736, 0, 1288, 5686, 299, 2418, 442, 2058, 0, 1697, 896, 0, 817, 672, 0, 2781, 4200,
        0, 6657, 168, 6062, 0, 3487, 5188, 546, 3844, 5, 0, 602, 1275, 0, 5526, 696, 7918, 2968,
        1321, 2305, 1526, 1682, 2188, 84, 0, 963, 0, 0, 1165, 2240, 2028, 266, 0, 0, 7420, 0, 649,
        0, 0, 46,
    ];
    let mut walk = Walk::new(&specs, choices.to_vec());
    assert_eq!(walk.run(), RunStatus::RolledBack);
    walk.order(Order::Redrive);
    walk.run_on();
}

// covers: S8, S10, S12, S13, S17, L5
#[test]
fn what_ended_can_be_torn_down_or_driven_again() {
    let ends = check(|specs, choices| {
        let mut walk = Walk::new(specs, choices);
        let end = walk.run();
        let frames = walk.journal.len();
        match end {
            RunStatus::Succeeded | RunStatus::PartlySucceeded => walk.order(Order::TearDown),
            _ => walk.order(Order::Redrive),
        }
        assert!(walk.journal.len() > frames, "the order was not taken");
        walk.run_on()
    });
    assert!(ends.get(&RunStatus::TornDown).is_some_and(|count| *count > 200), "{ends:?}");
    assert!(ends.get(&RunStatus::Succeeded).is_some_and(|count| *count > 200), "{ends:?}");
}
