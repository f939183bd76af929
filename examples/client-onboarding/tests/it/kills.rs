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

/// Types a command and kills it, so many times; stops early when the command was faster.
fn killed(place: &Place, arguments: &[&str], times: usize, moments: &mut Moments) {
    for _ in 0..times {
        let mut child = place.spawn(arguments);
        std::thread::sleep(moments.below(400));
        child.kill().unwrap();
        if child.wait().unwrap().code().is_some() {
            return;
        }
    }
}

/// Types a command again, and once more where it left the run to a person: who is killed three times
/// in a row under one open attempt does.
fn again(place: &Place, arguments: &[&str]) -> Ran {
    let ran = place.run(arguments);
    match ran.code {
        Some(3) => place.run(arguments),
        _ => ran,
    }
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
        killed(&place, &["--tier", "enterprise"], 4, &mut moments);
        let ran = again(&place, &["--tier", "enterprise"]);
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
        killed(&place, &arguments, 3, &mut moments);
        let ran = again(&place, &arguments);
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
    killed(&place, &arguments, 2, &mut Moments(3));
    let ran = again(&place, &arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 20);
    place.is_as_told(&runs);
    let projects = place.things().iter().filter(|thing| thing.starts_with("supabase")).count();
    assert_eq!(projects, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_goes_on_soon_after_typing_again() {
    // While a lot happens, while only readiness is waited for, and while a limit is.
    for ms in [200, 600, 1_500, 2_500] {
        let place = Place::new();
        let slow = ["--tier", "enterprise", "--speed", "0.04"];
        let mut child = place.spawn(&slow);
        clock::sleep(Duration::from_millis(ms)).await;
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
        // A second is promised; three are allowed to a machine that runs other tests. A lease is
        // fifteen.
        assert!(took < Duration::from_secs(3), "killed after {ms} ms: {took:?}");
    }
}
