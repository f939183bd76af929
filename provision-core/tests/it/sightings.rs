//! What a worker has created when its lease is lost is not forgotten with it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Engine, ExternalId, Found, Identity, Intent, Listing, MemoryStore, Outcome, Readiness,
    Resource, Saga, SagaId, StepContext, StepError, WorkerConfig,
    clock::sleep,
    ledger::{LedgerOp, LedgerReply, Sighting},
    store::StateStore,
};

use crate::leases::declare_dead;

const SINGLE: SagaId<u32, String> = SagaId::new("single", 1);

/// Makes things that cannot be looked up; the first creates lose their worker its lease.
#[derive(Debug, Clone)]
struct Press {
    store: MemoryStore,
    shop: Arc<Mutex<Shop>>,
}

#[derive(Debug, Default)]
struct Shop {
    made: u32,
    there: Vec<ExternalId>,
    losses: u32,
    broken: bool,
    /// So many deletes fail.
    refused: u32,
}

impl Press {
    fn losing(store: &MemoryStore, losses: u32) -> Self {
        let shop = Shop { losses, ..Shop::default() };
        Self { store: store.clone(), shop: Arc::new(Mutex::new(shop)) }
    }

    fn there(&self) -> Vec<ExternalId> {
        self.shop.lock().unwrap().there.clone()
    }
}

impl Resource for Press {
    const KIND: &'static str = "test.print";
    type Spec = u32;
    type Output = String;

    fn identity(&self, _: &u32) -> Identity {
        Identity::None
    }

    async fn find(&self, _: &StepContext, _: &u32) -> Result<Found, StepError> {
        Ok(Found::Absent)
    }

    async fn create(&self, cx: &StepContext, _: &u32, _: &Intent) -> Result<ExternalId, StepError> {
        let (id, lost) = {
            let mut shop = self.shop.lock().unwrap();
            shop.made += 1;
            let id = ExternalId::new(format!("print-{}", shop.made));
            shop.there.push(id.clone());
            let lost = shop.losses > 0;
            shop.losses = shop.losses.saturating_sub(1);
            (id, lost)
        };
        if lost {
            declare_dead(&self.store, cx.run_id()).await;
        }
        Ok(id)
    }

    async fn ready(
        &self,
        _: &StepContext,
        _: &u32,
        id: &ExternalId,
    ) -> Result<Readiness<String>, StepError> {
        if self.shop.lock().unwrap().broken {
            return Err(StepError::permanent("read the print"));
        }
        Ok(Readiness::Ready(id.as_str().to_owned()))
    }

    async fn delete(&self, _: &StepContext, _: &u32, id: &ExternalId) -> Result<(), StepError> {
        let mut shop = self.shop.lock().unwrap();
        if shop.refused > 0 {
            shop.refused -= 1;
            return Err(StepError::retry("delete"));
        }
        shop.there.retain(|there| there != id);
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }
}

async fn engine(store: &MemoryStore, press: &Press) -> Engine {
    let saga: Saga<u32, String> =
        Saga::define(SINGLE, |s| s.resource("print", press.clone()).input((), |n, ()| *n)).unwrap();
    Engine::builder(store.clone()).register(saga).build().await.unwrap()
}

async fn sightings(store: &MemoryStore) -> Vec<Sighting> {
    match store.ledger(&[LedgerOp::Sightings(None)]).await.unwrap().pop() {
        Some(LedgerReply::Sightings(sightings)) => sightings,
        reply => panic!("expected sightings, found {reply:?}"),
    }
}

// covers: S5, S7, S9
#[tokio::test(start_paused = true)]
async fn what_a_worker_made_while_it_lost_its_lease_is_used_by_the_next() {
    let store = MemoryStore::new();
    let press = Press::losing(&store, 1);
    let engine = engine(&store, &press).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SINGLE, &1).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "print-1", "found by what the first worker said");
    assert_eq!(press.there().len(), 1, "nothing was made twice");
    let seen = sightings(&store).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].run, &*seen[0].path, seen[0].generation), (*run.id(), "print", 1));
    assert_eq!((&*seen[0].provider, &*seen[0].kind, seen[0].epoch), ("test", "print", 1));
    worker.stop().await;
}

// covers: S5, S15
#[tokio::test(start_paused = true)]
async fn what_a_worker_made_while_it_lost_its_lease_is_undone() {
    let store = MemoryStore::new();
    let press = Press::losing(&store, 1);
    press.shop.lock().unwrap().broken = true;
    let engine = engine(&store, &press).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SINGLE, &1).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(press.there(), [], "what is known only by a sighting is deleted, too");
    worker.stop().await;
}

/// A run that has succeeded, and what a worker has seen of it too late.
async fn seen_late(store: &MemoryStore, press: &Press) -> (Engine, ExternalId) {
    let engine = engine(store, press).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SINGLE, &1).await.unwrap();
    run.output().await.unwrap();
    worker.stop().await;
    let late = ExternalId::new("print-late");
    press.shop.lock().unwrap().there.push(late.clone());
    let sighting = Sighting {
        run: *run.id(),
        path: "print".to_owned(),
        generation: 1,
        provider: "test".to_owned(),
        kind: "print".to_owned(),
        external_id: late.clone(),
        epoch: 1,
        at: store.now().await.unwrap(),
    };
    store.ledger(&[LedgerOp::Sight(sighting)]).await.unwrap();
    (engine, late)
}

// covers: S5, S15
#[tokio::test(start_paused = true)]
async fn what_cannot_be_listed_is_not_gone_because_it_is_not_listed() {
    let store = MemoryStore::new();
    let press = Press::losing(&store, 0);
    let (engine, late) = seen_late(&store, &press).await;
    press.shop.lock().unwrap().refused = 2;
    let swept = engine.sweep(true).await.unwrap().strays;
    assert_eq!((swept.len(), swept[0].deleted), (1, false));
    for there in [true, false] {
        sleep(Duration::from_secs(301)).await;
        assert_eq!(engine.watch_ledger(20).await.unwrap(), 1);
        assert_eq!(press.there().contains(&late), there);
    }
    sleep(Duration::from_secs(10_000)).await;
    assert_eq!(engine.watch_ledger(20).await.unwrap(), 0, "it is over");
    assert_eq!(engine.sweep(true).await.unwrap().strays, []);
    assert_eq!(press.there(), [ExternalId::new("print-1")]);
}

// covers: S5
#[tokio::test(start_paused = true)]
async fn the_sweep_removes_what_a_worker_saw_too_late() {
    let store = MemoryStore::new();
    let press = Press::losing(&store, 0);
    let (engine, late) = seen_late(&store, &press).await;
    let looked = engine.sweep(false).await.unwrap();
    let ids: Vec<_> = looked.strays.iter().map(|stray| (&stray.id, stray.deleted)).collect();
    assert_eq!(ids, [(&late, false)]);
    assert_eq!(engine.sweep(true).await.unwrap().strays.len(), 1);
    assert_eq!(press.there(), [ExternalId::new("print-1")], "what the run lives with stays");
    assert_eq!(engine.sweep(true).await.unwrap().strays, [], "what was removed is remembered");
}
