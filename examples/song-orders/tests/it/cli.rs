//! The program as one types it, over the simulated clouds of its own data folder.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use song_orders::{
    database::migrate,
    secret::{DEMO_SECRET, FILE, WEBHOOK_SECRET},
};

use crate::world::{WITHIN, database};

/// Types the program, over a database.
async fn typed(url: &str, folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    typed_with(url, folder, arguments, None).await
}

/// Types it where the environment names a secret, or none.
async fn typed_with(
    url: &str,
    folder: &Path,
    arguments: &[&str],
    secret: Option<&str>,
) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_song-orders"));
    command.args(arguments).arg("--data-dir").arg(folder).env("DATABASE_URL", url);
    for name in
        [WEBHOOK_SECRET, "ELEVENLABS_API_KEY", "SUPABASE_PROJECT_REF", "SUPABASE_SECRET_KEY"]
    {
        command.env_remove(name);
    }
    command.envs(secret.map(|secret| (WEBHOOK_SECRET, secret)));
    let ended = tokio::task::spawn_blocking(move || ended(&mut command)).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

fn ended(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, begun) = (command.spawn().unwrap(), std::time::Instant::now());
    while child.try_wait().unwrap().is_none() && begun.elapsed() < WITHIN {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Nothing comes of it where it has ended.
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

// covers: R3-23, R3-40
#[tokio::test]
async fn orders_are_bought_made_and_removed_by_typing() {
    let Some(url) = database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (code, said, error) = typed(&url, folder.path(), &["--orders", "2"]).await;
    assert_eq!(code, Some(0), "{said} {error}");
    assert!(said.contains("cs_1: paid, answered 200 and 200\n"), "{said}");
    let last = "2 orders completed, 0 failed, 0 removed, 0 open\n";
    assert!(said.ends_with(last), "each event was delivered twice: {said}");
    let secret = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    assert!(secret.starts_with("whsec_") && secret != DEMO_SECRET, "drawn for this folder");
    let (code, said, _) = typed(&url, folder.path(), &["--dead-letters"]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (code, said, error) = typed(&url, folder.path(), &["--tear-down"]).await;
    assert_eq!(code, Some(0), "{said} {error}");
    assert!(said.ends_with("0 orders completed, 0 failed, 2 removed, 0 open\n"), "{said}");
    let (code, _, error) = typed(&url, folder.path(), &["--note", "x", "a note"]).await;
    assert!(code == Some(69) && error.contains("error[song_database]"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (url, arguments, code, word) in [
        ("mysql://127.0.0.1/x", &[] as &[&str], 64, "error["),
        ("postgres://me:hunter2@127.0.0.1:1/x", &[], 69, "error[postgres_"),
        ("postgres://127.0.0.1/x", &["--orders", "many"], 64, "--orders"),
        ("postgres://127.0.0.1/x", &["--speed=-1"], 64, "--speed"),
        ("postgres://127.0.0.1/x", &["--live", "--orders", "3"], 64, "buys nothing"),
        ("postgres://127.0.0.1/x", &["--tear-down", "--orders", "3"], 64, "buys nothing"),
        ("postgres://127.0.0.1/x", &["--live", "inventory"], 64, "simulated"),
        ("postgres://127.0.0.1/x", &["--storage", "http://127.0.0.1:1"], 64, "required arguments"),
    ] {
        let (told, said, error) = typed(url, folder.path(), arguments).await;
        assert_eq!(told, Some(code), "{said} {error}");
        assert!(error.contains(word) && error.contains("\nhint: "), "{word}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

// covers: R3-23
#[tokio::test]
async fn programs_are_told_what_was_made_and_what_exists() {
    let Some(url) = database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let last =
        |said: &str| -> Value { serde_json::from_str(said.lines().last().unwrap()).unwrap() };
    let arguments = ["--json", "--orders", "1"];
    let (code, said, error) = typed(&url, folder.path(), &arguments).await;
    assert_eq!((code, said.lines().count()), (Some(0), 1), "{said} {error}");
    let told = last(&said);
    assert_eq!(told["orders"], json!({ "open": 0, "completed": 1, "failed": 0, "removed": 0 }));
    let [run] = told["runs"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(run["status"], "Succeeded");
    assert!(run["steps"].as_array().unwrap().iter().all(|step| step["status"] == "succeeded"));
    let things = run["resources"].as_array().unwrap();
    let songs: Vec<_> = things.iter().filter(|thing| thing["provider"] != "internal").collect();
    assert!(songs.len() == 3 && songs.iter().all(|song| song["state"] == "alive"), "{run}");
    let order = things.iter().find(|thing| thing["provider"] == "internal").unwrap();
    assert_eq!((&order["kind"], &order["id"]), (&json!("order"), &json!("cs_0")));

    let (code, said, error) = typed(&url, folder.path(), &["inventory", "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let listed = last(&said);
    let names = |list: Vec<&Value>, before: &str| {
        let name = |one: &Value| format!("{before}{}", one["name"].as_str().unwrap());
        let mut names: Vec<_> = list.into_iter().map(name).collect();
        names.sort();
        names
    };
    let exist = names(listed.as_array().unwrap().iter().collect(), "");
    assert_eq!(exist, names(songs, "songs/"), "the storage says the same");
    let (code, said, _) = typed(&url, folder.path(), &["--json", "--orders", "many"]).await;
    assert_eq!((code, &last(&said)["error"]["code"]), (Some(64), &json!("usage")));
}

// covers: R3-12, R3-49
#[tokio::test]
async fn money_that_is_due_is_shown_and_ticked_off_by_typing() {
    let Some(url) = database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let type_in = async |arguments: &[&str]| typed(&url, folder.path(), arguments).await;
    let (code, said, error) = type_in(&["--orders", "1", "--styles", "beatles"]).await;
    assert_eq!(code, Some(0), "{said} {error}");
    let (code, said, _) = type_in(&["--refunds"]).await;
    assert!(code == Some(3) && said.starts_with("cs_0 order_failed since "), "{said}");
    let (code, said, _) = type_in(&["--dead-letters", "--json"]).await;
    assert!(code == Some(3) && said.contains("\"key\":\"checkout/cs_0\""), "{said}");
    assert_eq!(type_in(&["--refunded", "cs_0"]).await.0, Some(0));
    let (code, said, _) = type_in(&["--refunds", "--json"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "{\"refunds\":[]}\n"));
    let (code, said, error) = type_in(&["--try-again", "--orders", "0"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(said.ends_with("0 orders completed, 1 failed, 0 removed, 0 open\n"), "{said}");
    let (code, _, error) = type_in(&["--refunded", "cs_9"]).await;
    assert!(code == Some(64) && error.contains("error[no_refund_due]"), "{error}");
}

#[tokio::test]
async fn variables_of_the_real_providers_are_named_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said, error) = typed("mysql://none", folder.path(), &["--live", "--json"]).await;
    assert_eq!(code, Some(64), "{said} {error}");
    assert!(
        error.contains("error[secrets_missing]") && said.contains("secrets_missing"),
        "{error}"
    );
    for part in [
        "ELEVENLABS_API_KEY",
        "SUPABASE_PROJECT_REF",
        "SUPABASE_SECRET_KEY",
        WEBHOOK_SECRET,
        "elevenlabs.io/app",
        "supabase.com/dashboard",
        "dashboard.stripe.com",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

// covers: X7
#[tokio::test]
async fn what_everybody_knows_is_not_believed_from_elsewhere() {
    let Some(url) = database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--orders", "0", "--listen", "0.0.0.0:0"];
    let told = typed_with(&url, folder.path(), &arguments, Some(DEMO_SECRET)).await;
    assert!(told.0 == Some(64) && told.2.contains("error[public_secret]"), "{told:?}");
    let told = typed_with(&url, folder.path(), &["--orders", "0"], Some(DEMO_SECRET)).await;
    assert_eq!(told.0, Some(0), "on this machine it is: {told:?}");
    assert!(!folder.path().join(FILE).exists(), "nothing was drawn");
}

#[tokio::test]
async fn a_database_is_of_the_real_providers_or_of_simulated_ones() {
    let Some(url) = database().await else { return };
    migrate(&url, true).await.unwrap();
    migrate(&url, true).await.unwrap();
    let refused = migrate(&url, false).await.unwrap_err();
    assert_eq!(refused.code(), "other_clouds");
    assert!(refused.message().contains("real"), "{}", refused.message());
}
