//! Data folders beside each other over one database: another one, one that was moved, one that is
//! gone.

use std::fs;

use crate::place::{Place, ended, ran};

const FAST: [&str; 3] = ["--key-hash", "argon2id", "--json"];

// covers: R4-21, R4-33
#[tokio::test]
async fn a_run_belongs_to_its_folder_wherever_that_is() {
    let Some(place) = Place::new().await else { return };
    let [first, second, third] = ["first", "second", "third"].map(|name| place.path().join(name));
    let made = ran(place.command_in(&first, &FAST)).await;
    assert_eq!((made.code, made.keys().len()), (Some(0), 2), "{made:?}");
    // Another folder is told whose it is, and waits for nobody.
    for arguments in [&FAST[..], &["--tear-down", "--json"]] {
        let other = ran(place.command_in(&second, arguments)).await;
        assert_eq!(other.code, Some(64), "{other:?}");
        let told = other.json()["error"]["message"].to_string();
        assert!(other.error.contains("error[other_folder]"), "{other:?}");
        assert!(told.contains(first.canonicalize().unwrap().to_str().unwrap()), "{told}");
    }
    // Moved, it is the same.
    fs::rename(&first, &third).unwrap();
    let again = ran(place.command_in(&third, &FAST)).await;
    assert_eq!((again.code, &again.json()["run"]), (Some(0), &made.json()["run"]), "{again:?}");
    let other = ran(place.command_in(&second, &FAST)).await;
    assert!(other.error.contains("/third"), "the new place is named: {other:?}");
    let gone = ran(place.command_in(&third, &["--tear-down"])).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(place.catalog().await.is_empty());
    // The name is free, for every folder.
    let made = ran(place.command_in(&second, &FAST)).await;
    assert_eq!((made.code, made.keys().len()), (Some(0), 2), "{made:?}");
    let gone = ran(place.command_in(&second, &["--tear-down"])).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
}

// covers: R4-21, R4-33
#[tokio::test]
async fn keys_that_were_sealed_in_a_folder_that_is_gone_are_replaced() {
    let Some(place) = Place::new().await else { return };
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    // Nobody reads it: both keys stay sealed, or are lost.
    let mut child = place.command_in(&first, &FAST).spawn().unwrap();
    drop(child.stdout.take());
    let (status, _, error) = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
    assert_eq!(status.code(), Some(69), "{error}");
    let token = fs::read_to_string(first.join("token")).unwrap();
    fs::remove_dir_all(&first).unwrap();
    let other = ran(place.command_in(&second, &FAST)).await;
    assert!(other.code == Some(64) && other.error.contains(&token.replace('-', "")), "{other:?}");
    // As the hint says.
    fs::write(second.join("token"), &token).unwrap();
    let taken = ran(place.command_in(&second, &FAST)).await;
    assert_eq!((taken.code, taken.keys().len()), (Some(0), 2), "{taken:?}");
    let valid = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
    assert_eq!(place.number(valid).await, 2);
    // New registrations do not meet the rows of those that are gone.
    let next = [&FAST[..], &["--fleet", "1"]].concat();
    let made = ran(place.command_in(&second, &next)).await;
    assert_eq!((made.code, made.keys().len()), (Some(0), 2), "{made:?}");
    for arguments in [&["--tear-down"][..], &["--tear-down", "--fleet", "1"]] {
        let gone = ran(place.command_in(&second, arguments)).await;
        assert_eq!(gone.code, Some(0), "{gone:?}");
    }
    assert!(place.catalog().await.is_empty(), "{:?}", place.catalog().await);
}

#[tokio::test]
async fn a_look_where_nothing_was_begun_says_so_and_makes_nothing() {
    let Some(place) = Place::new().await else { return };
    let folder = place.path().join("none");
    for (arguments, said) in [
        (["inventory", "--json"].as_slice(), "[]\n"),
        (&["usage", "--json"], "[]\n"),
        (&["inventory"], "there is nothing: no project was begun here\n"),
    ] {
        let mut command = place.command_in(&folder, arguments);
        command.env_remove("DATABASE_URL");
        let ran = ran(command).await;
        assert_eq!((ran.code, ran.said.as_str()), (Some(0), said), "{arguments:?} {ran:?}");
    }
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_look_that_is_not_told_the_database_does_not_say_that_there_is_nothing() {
    let Some(place) = Place::new().await else { return };
    let up = place.run(&["--key-hash", "argon2id"]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let unnamed = |folder: &std::path::Path, look: &str| {
        let mut command = place.command_in(folder, &[look, "--json"]);
        command.env_remove("DATABASE_URL");
        command
    };
    for look in ["inventory", "usage"] {
        let ran = ran(unnamed(place.path(), look)).await;
        assert_eq!(ran.code, Some(69), "{look}: {ran:?}");
        assert_eq!(ran.json()["error"]["code"], "no_database", "{look}: {ran:?}");
    }
    // A server of tenants alone may have something, too.
    let none = place.path().join("none");
    let mut command = unnamed(&none, "inventory");
    command.env("TENANTS_PGHOST", "127.0.0.1");
    let ran = ran(command).await;
    assert_eq!((ran.code, none.exists()), (Some(69), false), "{ran:?}");
    let down = place.run(&["--tear-down"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");
}
