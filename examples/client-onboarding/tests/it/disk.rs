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
