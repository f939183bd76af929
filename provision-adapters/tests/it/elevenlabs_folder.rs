//! Audio in a folder: whose a file is when attempts overlap, crash, and people put files there.

use std::path::{Path, PathBuf};

use provision_adapters::elevenlabs::{AudioSink, AudioUpload, FileSink, Stored};
use provision_core::{StepContext, context::Memory};
use provision_testkit::solo::SoloHost;

use crate::elevenlabs::{leftovers, receipt, run};

const OBJECT: &str = "a.mp3";

/// The contexts of two attempts of one step.
fn attempts(host: &SoloHost) -> (StepContext, StepContext) {
    let attempt = |number| host.attempt(run(1), "song", number, Memory::default());
    (attempt(1), attempt(2))
}

fn receipt_of(path: &Path) -> PathBuf {
    path.with_file_name("a.mp3.receipt.json")
}

// covers: S9, S11
#[tokio::test]
async fn a_stale_attempt_takes_nothing_from_its_successor() {
    let host = SoloHost::new();
    let (early, late) = attempts(&host);
    // The second pair has one number: an attempt that is repeated keeps its own.
    for (first, second) in [(&early, &late), (&early, &early)] {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::new(folder.path());
        let mut stale = sink.begin(first, OBJECT).await.unwrap();
        stale.write(b"stale").await.unwrap();
        let mut next = sink.begin(second, OBJECT).await.unwrap();
        next.write(b"audio!").await.unwrap();
        next.commit(&receipt(second, 6)).await.unwrap();
        assert_eq!(stale.commit(&receipt(first, 5)).await.unwrap_err().code(), "storage");
        assert_eq!(std::fs::read(sink.path(OBJECT).unwrap()).unwrap(), b"audio!");
        let stored = sink.stored(second, OBJECT).await.unwrap();
        assert_eq!(stored, Some(Stored::Audio(receipt(second, 6))));
        assert_eq!(leftovers(folder.path(), ""), 2, "the object and its receipt");
    }
}

// covers: S9, S11
#[tokio::test]
async fn a_stale_attempt_leaves_the_receipt_whose_object_is_about_to_come() {
    let folder = tempfile::tempdir().unwrap();
    let (host, sink) = (SoloHost::new(), FileSink::new(folder.path()));
    let (first, second) = attempts(&host);
    let mut stale = sink.begin(&first, OBJECT).await.unwrap();
    stale.write(b"stale").await.unwrap();
    let mut next = sink.begin(&second, OBJECT).await.unwrap();
    next.write(b"audio!").await.unwrap();
    // The successor has put its receipt, and not yet its object.
    let place = receipt_of(&sink.path(OBJECT).unwrap());
    let text = serde_json::to_vec(&receipt(&second, 6)).unwrap();
    std::fs::write(&place, &text).unwrap();
    assert_eq!(stale.commit(&receipt(&first, 5)).await.unwrap_err().code(), "storage");
    assert_eq!(std::fs::read(&place).unwrap(), text);
    next.commit(&receipt(&second, 6)).await.unwrap();
    let stored = sink.stored(&second, OBJECT).await.unwrap();
    assert_eq!(stored, Some(Stored::Audio(receipt(&second, 6))));
}

// covers: S9, S11
#[tokio::test]
async fn a_stale_attempt_claims_no_name_and_stores_nothing_after_an_undo() {
    let folder = tempfile::tempdir().unwrap();
    let (host, sink) = (SoloHost::new(), FileSink::new(folder.path()));
    let (first, second) = attempts(&host);
    let mut stale = sink.begin(&first, OBJECT).await.unwrap();
    stale.write(b"stale").await.unwrap();
    let next = sink.begin(&second, OBJECT).await.unwrap();
    assert_eq!(stale.commit(&receipt(&first, 5)).await.unwrap_err().code(), "storage");
    assert!(!receipt_of(&sink.path(OBJECT).unwrap()).exists());
    sink.remove(&second, OBJECT).await.unwrap();
    assert_eq!(next.commit(&receipt(&second, 0)).await.unwrap_err().code(), "storage");
    assert_eq!(leftovers(folder.path(), ""), 0);
}

// covers: S11
#[tokio::test]
async fn a_file_without_a_receipt_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (host, sink) = (SoloHost::new(), FileSink::new(folder.path()));
    let (cx, _) = attempts(&host);
    let path = sink.path(OBJECT).unwrap();
    std::fs::write(&path, b"mine").unwrap();
    let part = format!("a.mp3.part-{}-dead-1", cx.mark().token());
    std::fs::write(folder.path().join(part), b"half").unwrap();
    sink.remove(&cx, OBJECT).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    assert_eq!(leftovers(folder.path(), ""), 1, "what was left of an upload is gone");
}

// covers: S11
#[tokio::test]
async fn a_file_put_beside_a_receipt_that_a_crash_left_is_not_its_object() {
    let folder = tempfile::tempdir().unwrap();
    let (host, sink) = (SoloHost::new(), FileSink::new(folder.path()));
    let (cx, _) = attempts(&host);
    let path = sink.path(OBJECT).unwrap();
    std::fs::write(receipt_of(&path), serde_json::to_vec(&receipt(&cx, 6)).unwrap()).unwrap();
    assert_eq!(sink.stored(&cx, OBJECT).await.unwrap(), None, "the receipt alone is nothing");
    std::fs::write(&path, b"mine").unwrap();
    assert_eq!(sink.stored(&cx, OBJECT).await.unwrap(), Some(Stored::Other));
    for _ in 0..2 {
        sink.remove(&cx, OBJECT).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
    assert!(!receipt_of(&path).exists(), "the claim ends with the undo");
}

// covers: S9
#[tokio::test]
async fn what_tries_the_file_system_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (host, sink) = (SoloHost::new(), FileSink::new(folder.path()));
    let (cx, _) = attempts(&host);
    let upload = sink.begin(&cx, OBJECT).await.unwrap();
    assert_eq!(leftovers(folder.path(), ".probe"), 0);
    drop(upload);
    assert_eq!(leftovers(folder.path(), ""), 0);
}
