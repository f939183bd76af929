//! What lands long after anybody waits for it: the watch finds it by its mark, and removes it.

use std::time::Duration;

use provision_adapters::{
    n8n::sim::Release,
    sim::{Fault, FaultRule},
};
use provision_core::Outcome;

use crate::{
    engine::{Build, Scene, Stage, ended, paused},
    scenes::OnN8n,
    scenes_storage::OnStorage,
    scenes_tailscale::OnTailscale,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A create lands half an hour late, beside what the run has made instead.
fn late<S: Scene>(scene: &S, path: &str, kind: &str) {
    paused(async {
        let stage = Stage::set(scene.clone(), Build::GOES_WELL).await;
        let rule = FaultRule::new(Fault::LateLanding(30 * MINUTE));
        stage.server.faults().add(rule.method("POST").path_contains(path).once());
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        let count = || stage.made().iter().filter(|item| item.kind == kind).count();
        let standing = count();
        stage.pass(35 * MINUTE).await;
        assert_eq!(count(), standing + 1, "it has landed");
        // The watch comes an hour after the last moment at which it should have.
        stage.pass(45 * MINUTE).await;
        assert_eq!(count(), standing, "it is removed, and nothing else");
        stage.close().await;
    });
}

// covers: S15, S11
#[test]
fn a_join_key_that_was_minted_too_late_is_revoked() {
    late(&OnTailscale, "/keys", "auth_key");
}

// covers: S15, S11
#[test]
fn a_credential_that_was_made_too_late_is_deleted() {
    late(&OnN8n { release: Release::V2_8 }, "/credentials", "credential");
}

/// An upload whose answer was lost lands long after the run was undone. Nothing lists objects by
/// their marks: the watch looks for it under its name.
fn landed_after_its_run(file: &str) {
    paused(async {
        let scene = OnStorage::new();
        let stage = Stage::set(scene.clone(), Build::GIVES_UP).await;
        let rule = FaultRule::new(Fault::LateLanding(30 * MINUTE));
        stage.server.faults().add(rule.method("POST").path_contains(file).once());
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(matches!(outcome, Outcome::RolledBack(Some(_))), "{outcome:?}");
        assert_eq!((stage.made(), scene.spooled()), (Vec::new(), Vec::new()));
        stage.pass(35 * MINUTE).await;
        assert_eq!(stage.made().len(), 1, "it has landed");
        let report = stage.engine.sweep(true).await.unwrap();
        assert_eq!(report.unverified.len(), 1, "{report:?}");
        // A look or a delete without an answer is repeated within the hour.
        stage.pass(200 * MINUTE).await;
        assert_eq!(stage.made(), [], "it is removed");
        assert_eq!(stage.engine.sweep(true).await.unwrap().unverified, []);
        stage.close().await;
    });
}

// covers: S15, S11
#[test]
fn an_object_that_landed_after_its_run_is_removed() {
    landed_after_its_run("note.txt");
}

// covers: S15, S11
#[test]
fn a_song_that_landed_after_its_run_is_removed() {
    landed_after_its_run("song.mp3");
}
