use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;

use super::{TokenName, TokenVault};
use crate::{
    error::ErrorKind,
    id::Timestamp,
    secret::{Secret, SecretKey},
    vault::{
        AuditError, AuditRecord, AuditSink, LocalKeys, MemoryAudit, Operation, Outcome, Vault,
        testing::{Hand, Shelf},
    },
};

struct Room {
    shelf: Arc<Shelf>,
    audit: Arc<MemoryAudit>,
    clock: Arc<Hand>,
    vault: TokenVault,
}

fn room() -> Room {
    let (shelf, audit) = (Arc::<Shelf>::default(), Arc::<MemoryAudit>::default());
    let clock = Arc::<Hand>::default();
    clock.0.store(1_000, Ordering::Relaxed);
    let sealer = Vault::new(Arc::new(LocalKeys::new("k1", [1; 32]).unwrap()));
    let vault = TokenVault::new(
        "main",
        Arc::<Shelf>::clone(&shelf),
        sealer,
        Arc::<MemoryAudit>::clone(&audit),
    )
    .with_clock(Arc::<Hand>::clone(&clock));
    Room { shelf, audit, clock, vault }
}

fn named(tenant: &str, connection: &str, name: &str) -> TokenName {
    TokenName::new(tenant, connection, name).unwrap()
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

// covers: R5-28
#[tokio::test]
async fn values_are_kept_by_tenant_connection_and_name() {
    let room = room();
    let names = [named("a", "x", "t"), named("a", "y", "t"), named("b", "x", "t")];
    for (name, value) in names.iter().zip(["1", "2", "3"]) {
        room.vault.put(name, &Secret::new(value), None).await.unwrap();
    }
    for (name, value) in names.iter().zip(["1", "2", "3"]) {
        let token = room.vault.get(name).await.unwrap().unwrap();
        assert_eq!((token.value.expose(), token.expires, token.stored), (value, None, at(1_000)));
    }
    room.vault.put(&names[0], &Secret::new("4"), Some(at(9_000))).await.unwrap();
    let token = room.vault.get(&names[0]).await.unwrap().unwrap();
    assert_eq!((token.value.expose(), token.expires), ("4", Some(at(9_000))));
    room.vault.delete(&names[0]).await.unwrap();
    room.vault.delete(&names[0]).await.unwrap();
    assert!(room.vault.get(&names[0]).await.unwrap().is_none());
    assert!(room.vault.get(&names[1]).await.unwrap().is_some());
}

// covers: R5-21, X9, R5-19
#[tokio::test]
async fn a_row_moved_to_another_tenant_does_not_open() {
    let room = room();
    let (a, b) = (named("a", "x", "t"), named("b", "x", "t"));
    room.vault.put(&a, &Secret::new("1"), None).await.unwrap();
    let sealed = room.shelf.0.lock().unwrap()[&a.key()].clone();
    room.shelf.0.lock().unwrap().insert(b.key(), sealed);
    let error = room.vault.get(&b).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Secret, "secret_unopenable"));
    assert_eq!(room.audit.records().last().unwrap().outcome, Outcome::Failed);
}

// covers: R5-25, X1
#[tokio::test]
async fn every_operation_leaves_records_without_the_value() {
    let room = room();
    let vault = room.vault.acting_for("user:7");
    let (name, canary) = (named("a", "x", "t"), "CANARY-9431");
    vault.put(&name, &Secret::new(canary), None).await.unwrap();
    let token = vault.get(&name).await.unwrap().unwrap();
    vault.rotate(&name, &token, &Secret::new(canary), None).await.unwrap();
    vault.rotate(&name, &token, &Secret::new(canary), None).await.unwrap_err();
    vault.delete(&name).await.unwrap();
    vault.get(&name).await.unwrap();
    let trail: Vec<_> = room.audit.records().iter().map(|r| (r.operation, r.outcome)).collect();
    assert_eq!(
        trail,
        [
            (Operation::Put, Outcome::Begun),
            (Operation::Put, Outcome::Done),
            (Operation::Get, Outcome::Done),
            (Operation::Rotate, Outcome::Begun),
            (Operation::Rotate, Outcome::Done),
            (Operation::Rotate, Outcome::Begun),
            (Operation::Rotate, Outcome::Changed),
            (Operation::Delete, Outcome::Begun),
            (Operation::Delete, Outcome::Done),
            (Operation::Get, Outcome::Absent),
        ]
    );
    let records = room.audit.records();
    assert!(records.iter().all(|r| r.actor == "user:7" && r.key == name.key()));
    let text = serde_json::to_string(&records).unwrap() + &format!("{records:?} {token:?}");
    assert!(!text.contains("CANARY"), "{text}");
}

#[derive(Debug)]
struct Full;

#[async_trait]
impl AuditSink for Full {
    async fn record(&self, _: &AuditRecord) -> Result<(), AuditError> {
        Err(AuditError)
    }
}

// covers: R5-25
#[tokio::test]
async fn without_a_trail_nothing_is_handed_out_or_changed() {
    let mut room = room();
    let name = named("a", "x", "t");
    room.vault.put(&name, &Secret::new("1"), None).await.unwrap();
    let token = room.vault.get(&name).await.unwrap().unwrap();
    let before = room.shelf.0.lock().unwrap().clone();
    room.vault.audit = Arc::new(Full);
    let vault = &room.vault;
    assert_eq!(vault.get(&name).await.unwrap_err().code(), "audit_unavailable");
    assert!(vault.put(&name, &Secret::new("2"), None).await.is_err());
    assert!(vault.rotate(&name, &token, &Secret::new("2"), None).await.is_err());
    assert!(vault.delete(&name).await.is_err());
    assert_eq!(*room.shelf.0.lock().unwrap(), before);
}

// covers: R5-24
#[tokio::test]
async fn of_many_refreshes_at_the_same_time_one_is_kept() {
    let room = room();
    let name = named("a", "x", "refresh");
    room.vault.put(&name, &Secret::new("0"), None).await.unwrap();
    let seen = room.vault.get(&name).await.unwrap().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=20 {
        let (vault, name, seen) = (room.vault.clone(), name.clone(), seen.clone());
        tasks.spawn(async move {
            let value = Secret::new(n.to_string());
            vault.rotate(&name, &seen, &value, None).await.map(|()| n.to_string())
        });
    }
    let results = tasks.join_all().await;
    let won: Vec<_> = results.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    let lost = results.iter().filter_map(|r| r.as_ref().err());
    assert!(lost.clone().all(|e| e.code() == "token_changed") && lost.count() == 19);
    let kept = room.vault.get(&name).await.unwrap().unwrap();
    assert_eq!(kept.value.expose(), won[0]);
}

// covers: R5-46
#[tokio::test]
async fn values_that_expire_soon_are_found_in_every_page() {
    let room = room();
    for n in 0..10_u64 {
        let expires = (n != 5).then(|| at(100_000 - n * 10_000));
        let name = named("a", "x", &format!("t{n}"));
        room.vault.put(&name, &Secret::new("v"), expires).await.unwrap();
    }
    let run = SecretKey {
        scope: "0190".to_owned(),
        generation: 1,
        name: "n".to_owned(),
        path: "p".to_owned(),
    };
    let any = room.shelf.0.lock().unwrap().values().next().unwrap().clone();
    room.shelf.0.lock().unwrap().insert(run, any);
    room.clock.0.store(20_000, Ordering::Relaxed);
    let records = room.audit.records().len();
    let found = room.vault.expiring_within(Duration::from_secs(20)).await.unwrap();
    let found: Vec<_> = found.iter().map(|e| (e.name.name(), e.expires.as_millis())).collect();
    assert_eq!(found, [("t9", 10_000), ("t8", 20_000), ("t7", 30_000), ("t6", 40_000)]);
    assert_eq!(room.audit.records().len(), records, "nothing was opened");
}

#[test]
fn names_that_could_be_mistaken_for_others_are_refused() {
    for (tenant, connection, name) in
        [("", "x", "t"), ("a", "", "t"), ("a", "x", ""), ("a|0", "x", "t"), ("a", "x\n", "t")]
    {
        assert!(TokenName::new(tenant, connection, name).is_err());
    }
    assert!(TokenName::new(&"x".repeat(201), "x", "t").is_err());
    let name = named("a/b", "x", "t");
    assert_eq!(TokenName::of(&name.key()), Some(name.clone()));
    assert_eq!(name.to_string(), "a/b/x/t");
}
