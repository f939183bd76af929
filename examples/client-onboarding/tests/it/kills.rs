//! The process is killed from outside, again and again, at moments nobody chose.

use std::time::{Duration, Instant};

use provision_core::clock;
use serde_json::Value;

use crate::{
    crashes::required,
    place::{Place, Ran},
};

/// Moments that look random and are the same every time.
struct Moments(u64);

impl Moments {
    fn below(&mut self, most: u64) -> Duration {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % most)
    }
}

/// Types a command and kills it, so many times; stops early when the command was faster. Answers how
/// often it was killed.
fn killed(place: &Place, arguments: &[&str], times: usize, moments: &mut Moments) -> usize {
    for kills in 0..times {
        let mut child = place.spawn(arguments);
        std::thread::sleep(moments.below(400));
        child.kill().unwrap();
        if child.wait().unwrap().code().is_some() {
            return kills;
        }
    }
    times
}

/// A run that so many workers have died under in a row, with an attempt open, is left to a person.
const DEATHS_MAX: usize = 3;

/// Types a command again after so many kills. A run may be left to a person by it, where it was killed
/// often enough for that, and for no other reason; typed once more, it goes on.
fn again(place: &Place, arguments: &[&str], kills: usize) -> Ran {
    let ran = place.run(arguments);
    if ran.code != Some(3) {
        return ran;
    }
    assert!(kills >= DEATHS_MAX, "left to a person after {kills} kills: {ran:?}");
    let told = ran.json();
    assert_eq!((&told["status"], &told["error"]["code"]), (&"Parked".into(), &"crash_loop".into()));
    let next = place.run(arguments);
    assert_eq!(next.json()["run"], told["run"], "the same run goes on: {next:?}");
    next
}

fn one(ran: &Ran) -> [Value; 1] {
    [ran.json()]
}

// covers: R1-03, R1-53
#[test]
fn forty_kills_lose_nothing_and_make_nothing_twice() {
    let mut moments = Moments(1);
    for _ in 0..10 {
        let place = Place::new();
        let kills = killed(&place, &["--tier", "enterprise"], 4, &mut moments);
        let ran = again(&place, &["--tier", "enterprise"], kills);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        place.is_as_told(&one(&ran));
        assert_eq!(place.inventory().len(), 11, "{:?}", place.inventory());
    }
}

// covers: R1-05, R1-53
#[test]
fn kills_while_things_are_undone_leave_nothing() {
    let mut moments = Moments(2);
    for step in required() {
        let place = Place::new();
        let arguments = ["--tier", "enterprise", "--fail-at", step];
        let kills = killed(&place, &arguments, 3, &mut moments);
        let ran = again(&place, &arguments, kills);
        // A kill may come after the end; typed again, the next run begins and fails as well.
        assert_eq!((ran.code, &ran.json()["status"]), (Some(1), &"RolledBack".into()), "{step}");
        assert!(place.inventory().is_empty(), "{step}: {:?}", place.inventory());
        place.is_as_told(&one(&ran));
    }
}

// covers: R1-84
#[test]
fn a_killed_fleet_is_finished_by_typing_again() {
    let place = Place::new();
    let arguments = ["--fleet", "20", "--tier", "starter"];
    let kills = killed(&place, &arguments, 2, &mut Moments(3));
    let ran = again(&place, &arguments, kills);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 20);
    place.is_as_told(&runs);
    let projects = place.things().iter().filter(|thing| thing.starts_with("supabase")).count();
    assert_eq!(projects, 20);
}

// covers: S21, L5
#[tokio::test]
async fn a_run_that_killed_three_workers_is_left_to_a_person_and_goes_on_when_asked() {
    let place = Place::new();
    assert_eq!(place.run(&["--crash-at", "env"]).code, None, "killed by a signal");
    // As if it had killed two more in the same attempt.
    place.tamper("update provision_heads set deaths = 3").await;
    let parked = place.run(&[]);
    assert_eq!(parked.code, Some(3), "{parked:?}");
    let ran = again(&place, &[], 0);
    assert_eq!((ran.code, &ran.json()["run"]), (Some(0), &parked.json()["run"]), "{ran:?}");
    place.is_as_told(&one(&ran));
}

/// What is promised of the first write after a command is typed again; a lease is fifteen.
const FIRST_WRITE: Duration = Duration::from_secs(1);
/// How often it is tried: the machine may run other tests beside.
const TRIES: usize = 3;

/// Kills a command after so long, types it again, and says how long its first write took.
async fn goes_on_after(killed_after: Duration) -> Duration {
    let place = Place::new();
    let slow = ["--tier", "enterprise", "--speed", "0.04"];
    let mut child = place.spawn(&slow);
    clock::sleep(killed_after).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let before = place.frames().await;
    let typed = Instant::now();
    let mut child = place.spawn(&slow);
    while place.frames().await == before && typed.elapsed() < Duration::from_secs(30) {
        clock::sleep(Duration::from_millis(5)).await;
    }
    let took = typed.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

// covers: L2
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_goes_on_within_a_second_of_typing_again() {
    // While a lot happens, while only readiness is waited for, and while a limit is.
    for ms in [200, 600, 1_500, 2_500] {
        let mut took = Vec::new();
        while took.len() < TRIES && took.iter().all(|took| *took >= FIRST_WRITE) {
            took.push(goes_on_after(Duration::from_millis(ms)).await);
        }
        println!("killed after {ms} ms: {took:?}");
        assert!(took.iter().any(|took| *took < FIRST_WRITE), "killed after {ms} ms: {took:?}");
    }
}
