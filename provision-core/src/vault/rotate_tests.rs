use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

use super::{Bindings, Reseal};
use crate::{
    error::Error,
    secret::{Secret, SecretKey},
    vault::{
        Binding, LocalKeys, MemoryAudit, Operation, TokenName, TokenVault, Vault, testing::Shelf,
    },
};

struct Room {
    keys: LocalKeys,
    shelf: Arc<Shelf>,
    audit: Arc<MemoryAudit>,
    sealer: Vault,
    tokens: TokenVault,
}

fn room() -> Room {
    let keys = LocalKeys::new("k1", [1; 32]).unwrap();
    let (shelf, audit) = (Arc::<Shelf>::default(), Arc::<MemoryAudit>::default());
    let sealer = Vault::new(Arc::new(keys.clone()));
    let (store, sink) = (Arc::<Shelf>::clone(&shelf), Arc::<MemoryAudit>::clone(&audit));
    let tokens = TokenVault::new("main", store, sealer.clone(), sink);
    Room { keys, shelf, audit, sealer, tokens }
}

impl Room {
    fn job(&self) -> Reseal {
        let (store, sink) =
            (Arc::<Shelf>::clone(&self.shelf), Arc::<MemoryAudit>::clone(&self.audit));
        Reseal::new("main", store, self.sealer.clone(), sink)
    }

    async fn fill(&self, count: u32) -> Vec<TokenName> {
        let mut names = Vec::new();
        for n in 0..count {
            let name = TokenName::new("acme", "crm", &format!("t{n:03}")).unwrap();
            let value = Secret::new(format!("value {n}"));
            let expires = Some(crate::Timestamp::from_millis(7_000));
            self.tokens.put(&name, &value, expires).await.unwrap();
            names.push(name);
        }
        names
    }

    fn under(&self, id: &str) -> usize {
        self.shelf.0.lock().unwrap().values().filter(|s| s.key_id == id).count()
    }
}

// covers: X9, R5-24, R2-45
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_and_no_write_is_lost_while_values_move_to_a_new_key() {
    let room = room();
    let names = room.fill(60).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (tokens, names, stop) = (room.tokens.clone(), names.clone(), Arc::clone(&stop));
        readers.spawn(async move {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) || reads == 0 {
                for (n, name) in names.iter().enumerate() {
                    let token = tokens.get(name).await.unwrap().unwrap();
                    let (value, renewed) = (format!("value {n}"), format!("renewed {n}"));
                    assert!([value, renewed].contains(&token.value.expose().to_owned()));
                    reads += 1;
                }
            }
            reads
        });
    }
    let (tokens, renewed) = (room.tokens.clone(), names.clone());
    readers.spawn(async move {
        for (n, name) in renewed.iter().enumerate().filter(|(n, _)| n % 3 == 0) {
            let value = Secret::new(format!("renewed {n}"));
            tokens.put(name, &value, None).await.unwrap();
        }
        1
    });
    room.keys.add("k2", [2; 32]).unwrap();
    room.keys.promote("k2").unwrap();
    let report = room.job().run(None).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(readers.join_all().await.iter().all(|reads| *reads > 0));
    assert_eq!(report.seen, 60);
    assert_eq!(report.resealed + report.current + report.changed, 60);
    // A put that sealed just before the promotion can land after the job: a second run is cheap.
    room.job().run(Some("k1")).await.unwrap();
    assert_eq!((room.under("k1"), room.under("k2")), (0, 60));
    room.keys.retire("k1").unwrap();
    for (n, name) in names.iter().enumerate() {
        let expected = if n % 3 == 0 { format!("renewed {n}") } else { format!("value {n}") };
        let token = room.tokens.get(name).await.unwrap().unwrap();
        assert_eq!(token.value.expose(), expected);
        assert_eq!(token.expires.is_some(), n % 3 != 0, "the expiry moves along");
    }
}

#[tokio::test]
async fn a_job_names_what_it_could_not_move_and_leaves_it_as_it_is() {
    let room = room();
    let names = room.fill(5).await;
    room.shelf.0.lock().unwrap().get_mut(&names[1].key()).unwrap().bytes[40] ^= 1;
    let before = room.shelf.0.lock().unwrap()[&names[1].key()].clone();
    let run = run_key();
    let sealed = room.sealer.seal(&run_binding(&run), &Secret::new("v")).await.unwrap();
    room.shelf.0.lock().unwrap().insert(run.clone(), sealed);
    let id = room.keys.rotate().unwrap();
    let report = room.job().run(None).await.unwrap();
    assert_eq!((report.seen, report.resealed), (6, 4));
    assert_eq!(
        (report.unopenable.clone(), report.unknown.clone()),
        (vec![names[1].key()], vec![run])
    );
    assert!(!report.is_complete());
    assert_eq!(room.shelf.0.lock().unwrap()[&names[1].key()], before);
    assert_eq!(room.under(&id), 4);
    let moved = room.audit.records().iter().filter(|r| r.operation == Operation::Reseal).count();
    assert_eq!(moved, 2 * 4 + 1, "begun and done for each, failed for the damaged one");

    let again = room.job().run(Some("k9")).await.unwrap();
    assert_eq!((again.resealed, again.current), (0, 6), "nothing is under that key");
}

fn run_key() -> SecretKey {
    SecretKey {
        scope: "0190".to_owned(),
        generation: 1,
        name: "db".to_owned(),
        path: "supabase".to_owned(),
    }
}

fn run_binding(key: &SecretKey) -> Binding {
    Binding::new("main", Some("acme"), key)
}

#[derive(Debug)]
struct Runs;

#[async_trait]
impl Bindings for Runs {
    async fn binding(&self, key: &SecretKey) -> Result<Option<Binding>, Error> {
        Ok(Some(run_binding(key)))
    }
}

#[tokio::test]
async fn values_of_runs_move_when_their_places_are_known() {
    let room = room();
    let key = run_key();
    let sealed = room.sealer.seal(&run_binding(&key), &Secret::new("v")).await.unwrap();
    room.shelf.0.lock().unwrap().insert(key.clone(), sealed);
    let id = room.keys.rotate().unwrap();
    let report = room.job().with_bindings(Arc::new(Runs)).run(None).await.unwrap();
    assert!(report.is_complete() && report.resealed == 1);
    room.keys.retire("k1").unwrap();
    let moved = room.shelf.0.lock().unwrap()[&key].clone();
    assert_eq!(moved.key_id, id);
    assert_eq!(room.sealer.open(&run_binding(&key), &moved).await.unwrap().expose(), "v");
}
