//! The program as one types it, over the simulated clouds of its own data folder.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::world::{WITHIN, database};

/// Types the program, over a database.
async fn typed(url: &str, folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_song-orders"));
    command.args(arguments).arg("--data-dir").arg(folder).env("DATABASE_URL", url);
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
    let (code, said, _) = typed(&url, folder.path(), &["--dead-letters"]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let arguments = ["--tear-down", "--orders", "0"];
    let (code, said, error) = typed(&url, folder.path(), &arguments).await;
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
        ("postgres://127.0.0.1/x", &["--storage", "http://127.0.0.1:1"], 64, "required arguments"),
    ] {
        let (told, said, error) = typed(url, folder.path(), arguments).await;
        assert_eq!(told, Some(code), "{said} {error}");
        assert!(error.contains(word) && error.contains("\nhint: "), "{word}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
