//! A disk that is full, and a file that was damaged.

use crate::place::Place;

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    for kib in [60, 100, 150] {
        let place = Place::new();
        let full = place.run_within(kib, &["--tier", "enterprise"]);
        assert_eq!(full.code, Some(69), "{kib} KiB: {full:?}");
        assert!(full.stderr.contains("error[sqlite_"), "{kib} KiB: {full:?}");
        assert!(full.stderr.lines().last().unwrap().starts_with("hint: "), "{full:?}");
        let ran = place.run(&["--tier", "enterprise"]);
        assert_eq!(ran.code, Some(0), "{kib} KiB: {ran:?}");
        place.is_as_told(&[ran.json()]);
    }
}

// covers: R3-36
#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_and_loses_nothing() {
    let place = Place::new();
    assert_eq!(place.run(&["--crash-at", "env"]).code, None);
    let aside = place.store_set_aside();
    place.tamper("insert into provision_migrations values (99, 'later', 'x')").await;
    place.run(&[]).refused(69, "schema_newer");
    aside.put_back(&place);
    let ran = place.run(&[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    place.is_as_told(&[ran.json()]);
}

#[tokio::test]
async fn a_run_that_kills_its_workers_is_parked_and_goes_on_when_it_is_typed_again() {
    let place = Place::new();
    assert_eq!(place.run(&["--crash-at", "env"]).code, None);
    place.tamper("update provision_heads set deaths = 3").await;
    let parked = place.run(&[]);
    assert_eq!((parked.code, &parked.json()["status"]), (Some(3), &"Parked".into()), "{parked:?}");
    let ran = place.run(&[]);
    assert_eq!((ran.code, &ran.json()["run"]), (Some(0), &parked.json()["run"]), "{ran:?}");
    place.is_as_told(&[ran.json()]);
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_nothing_is_done_on_a_guess() {
    let place = Place::new();
    assert_eq!(place.run(&["--crash-at", "env"]).code, None);
    let things = place.inventory();
    place.tamper("update provision_frames set body = '{' where seq = 3").await;
    for arguments in [&[][..], &["--tear-down"], &["--plan"]] {
        place.run(arguments).refused(69, "damaged_journal");
        assert_eq!(place.inventory(), things, "{arguments:?}");
    }
}
