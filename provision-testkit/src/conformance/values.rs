//! Big and odd values come back as they went in.

use std::sync::Arc;

use provision_core::{id::Payload, store::Frame};

use super::{Fixture, append_of, new_worker, run_head};

/// A frame of a megabyte and a run of many frames come back unchanged.
// covers: S25
pub async fn big_frames_and_long_journals_are_kept(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let big = format!("[\"{}\"]", "x".repeat(1 << 20));
    let mut append = append_of(&leased, 1);
    append.frame = Some(Arc::from(big.as_str()));
    f.main.applied(append).await;
    for seq in 2..=200 {
        f.main.applied(append_of(&leased, seq)).await;
    }
    let frames = f.again.record(leased.record.head.id).await.frames;
    assert_eq!(frames.len(), 200);
    assert!(*frames[0].body == *big);
    assert!(frames.iter().zip(1..).all(|(frame, seq): (&Frame, u64)| frame.seq == seq));
}

/// Inputs are kept as the text they were written as, however odd.
// covers: R1-22
pub async fn inputs_are_kept_as_written(f: Fixture) {
    let long = format!("\"{}\"", "ü".repeat(200_000));
    let texts = [
        r#"{"z":1,"a":1.10,"z":2}"#,
        "123456789012345678901234567890.5e-7",
        r#""\u0000 \ud83d\ude00 'quotes' \"and\" \\ more""#,
        "[[[[[[]]]]]]",
        long.as_str(),
    ];
    for text in texts {
        let mut head = run_head();
        head.input = Payload::from_json(text).unwrap();
        let id = f.main.started(head).await;
        assert_eq!(f.again.head(id).await.input.as_str(), text);
        f.main.request(id, text).await;
        assert_eq!(f.again.record(id).await.requests[0].body.as_str(), text);
    }
}

/// Names may hold quotes, patterns, other scripts and separators.
pub async fn names_are_text_and_nothing_more(f: Fixture) {
    let odd = "a'b\"c;--%_\\{}[]|:/ \u{1f600}\u{e9}e\u{301}";
    let mut head = run_head();
    head.tenant = Some(odd.to_owned());
    head.queue = odd.to_owned();
    head.key = Some(odd.to_owned());
    head.saga.name = odd.to_owned();
    head.context.insert(odd.to_owned(), odd.to_owned());
    let id = f.main.started(head.clone()).await;
    let stored = f.main.head(id).await;
    assert_eq!((&stored.tenant, &stored.queue), (&head.tenant, &head.queue));
    assert_eq!((&stored.key, &stored.context), (&head.key, &head.context));
    let mut request = super::acquire_any(new_worker(), f.ttl);
    let acquire = request.acquire.as_mut().unwrap();
    acquire.queues = vec![odd.to_owned()];
    acquire.code = vec![head.saga];
    assert_eq!(f.main.lease(&request).await.leased.len(), 1);
}
