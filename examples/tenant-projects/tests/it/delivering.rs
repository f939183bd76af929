//! Keys on their way to whoever asked for them: lost, replaced, and never shown to nobody.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::json;
use tenant_projects::keys::owner_of;

use crate::place::{Place, ended, ran};

const VALID: &str = "SELECT count(*) FROM tenants.api_keys WHERE revoked_at IS NULL";
const SHOWN: &str = "SELECT count(*) FROM tenants.api_keys WHERE shown_at IS NOT NULL";
const TAKEN: &str = "SELECT count(*) FROM tenants.api_keys WHERE taken_at IS NOT NULL";
/// Statements of a command that was killed may wait on.
const END_STATEMENTS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";
const FAST: [&str; 2] = ["--key-hash", "argon2id"];

fn with(arguments: &[&'static str]) -> Vec<&'static str> {
    [&FAST[..], arguments].concat()
}

/// Both keys of the project are valid at the end, and each opens it.
async fn whole(place: &Place, keys: &[String]) {
    assert_eq!(place.number(VALID).await, 2);
    let host = place.host().await;
    for key in keys {
        assert!(owner_of(host.pool(), key).await.unwrap().is_some(), "it opens nothing");
    }
}

/// The secret key is lost, as by a command that died with it in its hand.
async fn lose(place: &Place) -> String {
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    place.execute("UPDATE tenants.api_keys SET shown_at = NULL WHERE purpose = 'secret'").await;
    ran.shown()[1]["id"].as_str().unwrap().to_owned()
}

// covers: R4-21
#[cfg(target_os = "linux")]
#[tokio::test]
async fn where_stdout_takes_nothing_no_key_is_taken() {
    let Some(place) = Place::new().await else { return };
    let mut command = place.command_in(place.path(), &FAST);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let failed = ran(command).await;
    assert_eq!(failed.code, Some(69), "{failed:?}");
    assert!(failed.error.contains("error[not_shown]"), "{failed:?}");
    assert_eq!((place.number(TAKEN).await, place.number(SHOWN).await), (0, 0));
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    assert!(ran.shown().iter().all(|key| key["replaces"] == json!([])), "{ran:?}");
    whole(&place, &ran.keys()).await;
}

// covers: R4-21
#[tokio::test]
async fn a_key_that_was_written_to_nobody_is_replaced_and_the_other_one_is_not_touched() {
    let Some(place) = Place::new().await else { return };
    let mut child = place.command(&FAST).spawn().unwrap();
    // The reader goes away before anything is said.
    drop(child.stdout.take());
    let (status, _, error) = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
    assert_eq!(status.code(), Some(69), "{error}");
    assert!(error.contains("error[not_shown]"), "{error}");
    assert_eq!((place.number(TAKEN).await, place.number(SHOWN).await), (1, 0));
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    let replaces = ran.shown().iter().map(|key| key["replaces"].as_array().unwrap().len()).sum();
    assert_eq!((replaces, place.number(SHOWN).await), (1_usize, 2), "{ran:?}");
    whole(&place, &ran.keys()).await;
}

/// A statement of the command waits here until the test ends it.
async fn stop_at(place: &Place, column: &str) {
    let trigger = match column {
        "taken_at" => {
            "CREATE TRIGGER stop_here BEFORE UPDATE OF taken_at ON tenants.api_keys
            FOR EACH ROW EXECUTE FUNCTION stop_here()"
        }
        _ => {
            "CREATE TRIGGER stop_here BEFORE UPDATE OF shown_at ON tenants.api_keys
            FOR EACH ROW EXECUTE FUNCTION stop_here()"
        }
    };
    place
        .execute(
            "CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(600); RETURN new; END'",
        )
        .await;
    place.execute(trigger).await;
}

async fn killed(place: &Place, mut child: Child) {
    let stopped = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    place.until(stopped, 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    place.execute(END_STATEMENTS).await;
    place.execute("DROP FUNCTION stop_here CASCADE").await;
}

// covers: R4-21
#[tokio::test]
async fn a_kill_before_the_key_is_taken_loses_nothing() {
    let Some(place) = Place::new().await else { return };
    // The tables are there before the trigger is.
    drop(place.host().await);
    stop_at(&place, "taken_at").await;
    killed(&place, place.spawn(&FAST)).await;
    let ids = "SELECT count(DISTINCT id) FROM tenants.api_keys";
    assert_eq!((place.number(ids).await, place.number(TAKEN).await), (2, 0));
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    assert_eq!(place.number(ids).await, 2, "nothing was replaced");
    whole(&place, &ran.keys()).await;
}

// covers: R4-21
#[tokio::test]
async fn a_kill_between_the_taking_of_a_key_and_its_mark_gets_it_replaced() {
    let Some(place) = Place::new().await else { return };
    drop(place.host().await);
    stop_at(&place, "shown_at").await;
    let mut child = place.command(&FAST).stderr(Stdio::null()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let seen: serde_json::Value = serde_json::from_str(&line).unwrap();
    killed(&place, child).await;
    assert_eq!((place.number(TAKEN).await, place.number(SHOWN).await), (1, 0));
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 2), "{ran:?}");
    assert_eq!(ran.shown()[0]["replaces"], json!([seen["id"]]), "whoever saw it is told");
    let host = place.host().await;
    let lost = seen["key"].as_str().unwrap();
    assert_eq!(owner_of(host.pool(), lost).await.unwrap(), None, "it opens nothing any more");
    drop(host);
    whole(&place, &ran.keys()).await;
}

// covers: R4-21, L1
#[tokio::test]
async fn a_replacement_that_was_killed_is_gone_on_with() {
    let Some(place) = Place::new().await else { return };
    lose(&place).await;
    let killed = place.run(&with(&["--crash-at", "keys"])).await;
    assert_eq!(killed.code, None, "{killed:?}");
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 1), "{ran:?}");
    let runs = "SELECT count(*) FROM provision.runs";
    assert_eq!(place.number(runs).await, 2, "one project, and one replacement");
    whole(&place, &ran.keys()).await;
    assert!(place.run(&FAST).await.keys().is_empty(), "each key is shown once");
}

// covers: R4-21
#[tokio::test]
async fn a_replacement_that_failed_is_begun_anew() {
    let Some(place) = Place::new().await else { return };
    let lost = lose(&place).await;
    let failed = place.run(&with(&["--fail-at", "keys"])).await;
    assert_eq!((failed.code, failed.keys().len()), (Some(1), 0), "{failed:?}");
    assert!(failed.error.contains("the key was not replaced: "), "{failed:?}");
    assert_eq!(failed.json()["status"], "Succeeded", "the project is as it was");
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 1), "{ran:?}");
    assert!(ran.shown()[0]["replaces"].as_array().unwrap().contains(&lost.into()), "{ran:?}");
    whole(&place, &ran.keys()).await;
}

// covers: R4-21
#[tokio::test]
async fn a_replacement_that_waits_can_be_interrupted_and_goes_on_later() {
    let Some(place) = Place::new().await else { return };
    lose(&place).await;
    place
        .execute(
            "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION USING ERRCODE = ''55P03'', MESSAGE = ''busy''; END'",
        )
        .await;
    place
        .execute(
            "CREATE TRIGGER busy BEFORE INSERT ON tenants.api_keys
            FOR EACH ROW EXECUTE FUNCTION busy()",
        )
        .await;
    let slow = with(&["--retry-every-ms", "15000"]);
    let child = place.command(&slow).spawn().unwrap();
    let pid = child.id().to_string();
    let failed = "SELECT count(*) FROM provision.runs_view WHERE status = 'Waiting'";
    place.until(failed, 1).await;
    let told = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(told.success());
    let (status, said, error) = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
    assert_eq!(status.code(), Some(5), "{said}{error}");
    assert!(error.contains(" is lost: run ") && error.contains("interrupted"), "{error}");
    place.execute("DROP FUNCTION busy CASCADE").await;
    let ran = place.run(&FAST).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 1), "{ran:?}");
    whole(&place, &ran.keys()).await;
}

// covers: R4-21
#[tokio::test]
async fn trouble_with_one_project_loses_no_key_of_the_others() {
    let Some(place) = Place::new().await else { return };
    drop(place.host().await);
    place
        .execute(
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF (SELECT slug LIKE ''%-2'' FROM tenants.projects WHERE id = new.project)
                THEN RAISE EXCEPTION ''broken''; END IF; RETURN new; END'",
        )
        .await;
    place
        .execute(
            "CREATE TRIGGER broken BEFORE UPDATE OF taken_at ON tenants.api_keys
            FOR EACH ROW EXECUTE FUNCTION broken()",
        )
        .await;
    let fleet = with(&["--fleet", "3"]);
    let failed = place.run(&fleet).await;
    assert_eq!((failed.code, failed.keys().len()), (Some(69), 2), "{failed:?}");
    assert_eq!(failed.json()["error"]["code"], "host_tables", "{failed:?}");
    let report = failed.said.lines().rev().nth(1).unwrap();
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 3, "the report is there: {failed:?}");
    place.execute("DROP FUNCTION broken CASCADE").await;
    let ran = place.run(&fleet).await;
    assert_eq!((ran.code, ran.keys().len()), (Some(0), 4), "{ran:?}");
    assert_eq!((place.number(VALID).await, place.number(SHOWN).await), (6, 6));
    let all = "SELECT count(*) FROM tenants.api_keys";
    assert_eq!(place.number(all).await, 6, "nothing had to be replaced");
}
