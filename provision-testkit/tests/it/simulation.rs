//! Seeds: a sound system breaks nothing, and every planted bug is found.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use provision_testkit::{
    simulation::{Plant, Report, Search, Simulation, search},
    skips::is_long,
};

const SEEDS: u64 = 2_000;
/// How long they may take on a machine without other work.
const SEEDS_WITHIN: Duration = Duration::from_secs(60);
/// Seeds that follow those where there is time.
const MORE_SEEDS: u64 = 200_000;
/// Ends what does not come to an end.
const LONG: Duration = Duration::from_secs(3 * 3_600);
/// Seeds for one planted bug.
const PLANTED: u64 = 500;
/// Seeds that have found a bug once: of the engine, or of the simulation itself.
const REMEMBERED: [u64; 4] = [174, 238, 42, 701];

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn assert_sound(report: &Report) {
    assert!(report.violations.is_empty(), "{report}");
}

// covers: S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12, S15, S17, S18, S20, L1, L4
#[test]
fn two_thousand_seeds_break_no_invariant() {
    if let Some(seed) = given("PROVISION_SEED") {
        let report = Simulation::new(seed).run();
        println!("{report}");
        return assert_sound(&report);
    }
    let (first, count) = (given("PROVISION_FIRST_SEED"), given("PROVISION_SEEDS"));
    if first.is_some() || count.is_some() {
        played(first.unwrap_or(0), count.unwrap_or(SEEDS), LONG);
        return;
    }
    let begun = Instant::now();
    let found = played(0, SEEDS, LONG);
    let (wall, threads) = (begun.elapsed(), u32::try_from(threads()).unwrap());
    // Other tests run beside, and their time is not that of the seeds.
    let alone = if found.busy.is_zero() { wall } else { found.busy / threads };
    println!("{SEEDS} seeds took {wall:?}, and {alone:?} of {threads} processors");
    assert!(alone <= SEEDS_WITHIN, "{alone:?} of {threads} processors, {wall:?} in all");
    let ends: BTreeSet<&str> = found.ends.keys().map(String::as_str).collect();
    let all = ["Succeeded", "PartlySucceeded", "RolledBack", "RolledBackKeeping", "TornDown"];
    let missed: Vec<_> = all.iter().filter(|end| !ends.contains(*end)).collect();
    assert!(missed.is_empty(), "no seed came to {missed:?}");
    if is_long() {
        played(SEEDS, MORE_SEEDS, LONG);
    }
}

/// Plays seeds, all of which must be sound, and be over within a time.
fn played(first: u64, count: u64, within: Duration) -> Search {
    let found = search(first..first + count, None, threads(), within);
    if let Some(report) = &found.failed {
        assert_sound(report);
    }
    println!("{} seeds, {} calls, {:?}", found.tried, found.calls, found.ends);
    assert_eq!(found.tried, count, "all of them within {within:?}");
    found
}

#[test]
fn seeds_that_found_something_once_find_nothing_now() {
    for seed in REMEMBERED {
        assert_sound(&Simulation::new(seed).run());
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..50 {
        let (first, second) = (Simulation::new(seed).run(), Simulation::new(seed).run());
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for plant in Plant::ALL {
        if plant == Plant::QueueLosesAll {
            continue;
        }
        let found = search(0..PLANTED, Some(plant), threads(), Duration::from_secs(120));
        let report = found.failed.as_ref();
        let first = report.and_then(|report| report.violations.first());
        assert!(first.is_some(), "{plant:?} is not found by {} seeds", found.tried);
        println!("{plant:?}: {} seeds, {}", found.tried, first.unwrap());
    }
}

// covers: L2
#[test]
fn a_queue_that_loses_everything_harms_nobody() {
    let found = search(0..PLANTED, Some(Plant::QueueLosesAll), threads(), Duration::from_secs(120));
    if let Some(report) = &found.failed {
        assert_sound(report);
    }
    assert_eq!(found.tried, PLANTED);
}
