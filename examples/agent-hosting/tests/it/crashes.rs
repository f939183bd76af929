//! The process dies, at chosen steps and at moments nobody chose.

use std::time::Duration;

use agent_hosting::saga::STEPS;

use crate::place::Place;

#[test]
fn a_crash_at_every_step_makes_nothing_twice() {
    for step in STEPS {
        let place = Place::new();
        let died = place.run(&["--crash-at", step]);
        assert_eq!(died.code, None, "{step}: {died:?}");
        place.done(&[]);
        let kinds = ["ssh_key", "firewall", "server", "device"].map(|kind| place.count(kind));
        assert_eq!(kinds, [1, 1, 1, 1], "{step}: {:?}", place.things());
    }
}

// covers: R2-01, R2-68
#[test]
fn twenty_at_once_agree_after_a_kill_and_leave_nothing_after_tear_down() {
    let place = Place::new();
    let fleet = ["--fleet", "20", "--subscription", "s"];
    let mut child = place.spawn(&fleet);
    // In the middle: some machines are there, and others are not.
    let began = std::time::Instant::now();
    while place.count("server") < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never gets there");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(25));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let running = place.rows().iter().filter(|row| row["state"] == "running").count();
    assert!(place.count("server") >= 3 && running < 20, "it met the middle: {running} run");
    let ran = place.done(&fleet);
    assert_eq!(ran["runs"].as_array().unwrap().len(), 20);
    let rows = place.rows();
    assert!(rows.iter().all(|row| row["state"] == "running"), "{rows:?}");
    for kind in ["ssh_key", "firewall", "server", "device"] {
        assert_eq!(place.count(kind), 20, "{kind}: {:?}", place.things());
    }
    let sweep = place.done(&["sweep"]);
    assert_eq!(
        (&sweep["strays"], &sweep["missing"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );

    place.done(&["--tear-down", "--fleet", "20", "--subscription", "s"]);
    assert!(place.things().is_empty(), "{:?}", place.things());
    assert!(place.rows().iter().all(|row| row["state"] == "gone"));
}

// covers: R2-26
#[test]
fn a_subscription_that_ends_is_removed_in_time_although_workers_die() {
    let place = Place::new();
    place.done(&[]);
    place.done(&["cancel", "--after", "1"]);
    assert_eq!(place.state(), "running", "paid for until then");
    for pause in [300, 900] {
        let mut worker = place.spawn(&["work"]);
        std::thread::sleep(Duration::from_millis(pause));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    place.done(&["work", "--until-idle"]);
    assert_eq!((place.state(), place.things()), ("gone".to_owned(), Vec::new()));
    // What nobody pays for cannot be started again.
    assert_eq!(place.run(&["start"]).code, Some(64));
}
