//! Nothing of another namespace can be read or changed.

use std::time::Duration;

use provision_core::{
    id::{ExternalId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, Sighting},
    limit::{Admission, Ask, Observed, Profile, Turn},
    queue::Claim,
    secret::{Sealed, SecretKey},
    store::{Appended, Guard, GuardUntil, LeaseRequest, RunFilter, Submission, Submitted},
};

use super::{
    Fixture, append_of,
    given::{acquire_any, held_for, resting, until},
    ledger_row, new_worker, run_head,
};

/// Runs cannot be read, asked, leased, written or proposed from elsewhere.
// covers: S24, R2-06
pub async fn runs_are_out_of_reach_elsewhere(f: Fixture) {
    let run = f.main.started(run_head()).await;
    let other = &f.elsewhere;
    assert!(other.state.load(&[run]).await.unwrap()[0].is_none());
    assert!(other.state.list(&RunFilter::default()).await.unwrap().runs.is_empty());
    let body = provision_core::Payload::null();
    let asked = other.submit(Submission::Request { run, body }).await;
    assert!(matches!(asked, Submitted::NoSuchRun));
    let grant = other.lease(&acquire_any(new_worker(), f.ttl)).await;
    assert_eq!((grant.leased.len(), grant.next_due), (0, None));
    let claim = Claim { limit: 9, queues: Vec::new(), except: Vec::new(), wait: Duration::ZERO };
    assert!(other.queue.claim(&claim).await.unwrap().is_empty());
    assert_eq!(other.queue.stats().await.unwrap().ready, 0);
    let leased = f.take(new_worker()).await.remove(0);
    assert_eq!(other.append(append_of(&leased, 1)).await, Appended::Stale);
    f.main.applied(append_of(&leased, 1)).await;
}

/// Start keys, business keys and run ids mean nothing elsewhere.
// covers: S24
pub async fn keys_and_ids_mean_nothing_elsewhere(f: Fixture) {
    let mut head = run_head();
    head.key = Some("order:1".to_owned());
    head.guard = Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Gone });
    f.main.started(head.clone()).await;
    head.input_hash = "input-2".to_owned();
    let there = f.elsewhere.started(head).await;
    assert_eq!(f.main.head(there).await.input_hash, "input-1");
    assert_eq!(f.elsewhere.head(there).await.input_hash, "input-2");
    f.elsewhere.request(there, "1").await;
    assert_eq!(f.main.head(there).await.requests, 0);
}

/// Wakes of an append stay inside the namespace.
// covers: S24
pub async fn wakes_stay_inside(f: Fixture) {
    let mut head = run_head();
    head.due = Timestamp::NEVER;
    let sleeper = f.elsewhere.started(head).await;
    let leased = f.leased_run(new_worker()).await;
    let mut append = append_of(&leased, 1);
    append.wakes = vec![sleeper];
    append.release = Some(until(Timestamp::NEVER));
    f.main.applied(append).await;
    assert_eq!(f.elsewhere.head(sleeper).await.due, Timestamp::NEVER);
}

/// Incarnations are known, and die, inside one namespace.
// covers: S24
pub async fn incarnations_belong_to_one_namespace(f: Fixture) {
    let worker = new_worker();
    f.leased_run(worker).await;
    let request = LeaseRequest { dead: vec![worker], ..held_for(new_worker(), f.ttl) };
    assert!(f.elsewhere.lease(&request).await.peers.is_empty());
    let grant = f.renew(worker).await;
    assert!(grant.alive);
    assert_eq!((grant.held.len(), grant.peers.len()), (1, 0));
}

/// Ledger rows, names, sightings and watches stay inside the namespace.
// covers: S24
pub async fn the_ledger_is_out_of_reach_elsewhere(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    let mut append = append_of(&leased, 1);
    let mut row = ledger_row(run, "vm", "web-1");
    row.watch_at = Some(Timestamp::ZERO);
    append.ledger = vec![row.clone()];
    f.main.applied(append).await;
    let sighting = Sighting {
        run,
        path: "vm".to_owned(),
        generation: 2,
        provider: "hetzner".to_owned(),
        kind: "server".to_owned(),
        external_id: ExternalId::new("42"),
        epoch: 1,
        at: Timestamp::ZERO,
    };
    assert!(f.main.changes(LedgerOp::Sight(sighting)).await);
    let other = &f.elsewhere;
    assert!(other.rows(LedgerQuery::default()).await.is_empty());
    let claim = LedgerOp::ClaimWatch { worker: new_worker(), hold: f.ttl, limit: 9 };
    for op in [LedgerOp::Sightings(None), claim] {
        match other.ledger(op).await {
            LedgerReply::Sightings(found) => assert!(found.is_empty()),
            LedgerReply::Rows(found) => assert!(found.is_empty()),
            LedgerReply::Changed(_) => panic!("nothing was to be changed"),
        }
    }
    let end = LedgerOp::EndWatch { row: Box::new(row.clone()), next: None };
    assert!(!other.changes(end).await);
    let mut same_name = row.clone();
    same_name.run = other.started(resting()).await;
    assert!(other.changes(LedgerOp::Enter(Box::new(same_name))).await);
    assert_eq!(f.main.rows(LedgerQuery::default()).await, [row]);
}

/// Sealed values stay inside the namespace.
// covers: S24, X1
pub async fn sealed_values_are_out_of_reach_elsewhere(f: Fixture) {
    let key = SecretKey {
        scope: "vault/acme".to_owned(),
        generation: 0,
        name: "token".to_owned(),
        path: "github".to_owned(),
    };
    let sealed = |byte| Sealed { format: 1, key_id: "k".to_owned(), bytes: vec![byte] };
    f.main.secrets.put(&key, &sealed(1)).await.unwrap();
    let other = &f.elsewhere.secrets;
    assert_eq!(other.get(&key).await.unwrap(), None);
    assert!(other.keys(None).await.unwrap().is_empty());
    assert!(!other.replace(&key, &sealed(1), &sealed(2)).await.unwrap());
    other.erase(&key).await.unwrap();
    assert_eq!(f.main.secrets.get(&key).await.unwrap(), Some(sealed(1)));
}

/// Buckets of the same name have nothing to do with each other.
// covers: S24
pub async fn buckets_belong_to_one_namespace(f: Fixture) {
    let worker = new_worker();
    let pause = Observed { pause: Some(f.ttl * 100), ..Observed::default() };
    f.main.limiter.observe("hetzner/main", worker, &pause).await.unwrap();
    let profile = Profile { bucket: "hetzner/main".to_owned(), rate: None, concurrency: None };
    let ask = Ask { profile, calls: 2, worker, slot: false, turn: Turn::Open };
    let there = f.elsewhere.limiter.admit(&ask).await.unwrap();
    assert_eq!(there, Admission::Now { calls: 2 });
    assert!(matches!(f.main.limiter.admit(&ask).await.unwrap(), Admission::At { .. }));
}
