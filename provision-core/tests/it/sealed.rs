//! Secrets of a run: drawn once, sealed before they are used, and readable nowhere else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use provision_core::{
    Call, Engine, ExternalId, Found, Identity, Intent, LedgerQuery, Listing, MemoryStore,
    NothingToUndo, OrFail, Readiness, Resource, RunId, Saga, SagaId, Secret, SecretRef, SecretSpec,
    Step, StepContext, StepError, WorkerConfig,
    clock::sleep,
    draw::{SystemEntropy, uuid_v4},
    secret::SecretStore,
    store::StateStore,
    vault::LocalKeys,
};

const DATABASE: SagaId<String, Access> = SagaId::new("database", 1);

type Access = (SecretRef, bool);

/// A provider of databases, by name, with the password it was given.
#[derive(Debug, Clone, Default)]
struct Databases {
    passwords: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Resource for Databases {
    const KIND: &'static str = "test.database";
    type Spec = String;
    type Output = SecretRef;

    fn identity(&self, name: &String) -> Identity {
        Identity::Named(name.clone())
    }

    fn secrets(&self, _: &String) -> Vec<SecretSpec> {
        vec![SecretSpec::password("password")]
    }

    async fn find(&self, _: &StepContext, name: &String) -> Result<Found, StepError> {
        let made = self.passwords.lock().unwrap();
        let there = made.get(name).is_some_and(|given| given.len() > 1);
        Ok(if there { Found::Ours(ExternalId::new(name)) } else { Found::Absent })
    }

    async fn create(
        &self,
        cx: &StepContext,
        name: &String,
        intent: &Intent,
    ) -> Result<ExternalId, StepError> {
        let password = intent.secret("password").unwrap().expose().to_owned();
        cx.call(&Call::mutate("create"), async {
            let given = {
                let mut made = self.passwords.lock().unwrap();
                let given = made.entry(name.clone()).or_default();
                given.push(password);
                given.len()
            };
            // The first call gets through to nobody; the process dies while the second is open.
            match given {
                1 => Err(StepError::unknown("create")),
                2 => {
                    sleep(Duration::from_secs(3600)).await;
                    Err(StepError::unknown("create"))
                }
                _ => Ok(ExternalId::new(name)),
            }
        })
        .await
    }

    async fn ready(
        &self,
        cx: &StepContext,
        _: &String,
        _: &ExternalId,
    ) -> Result<Readiness<SecretRef>, StepError> {
        Ok(Readiness::Ready(cx.sealed("password")))
    }

    async fn delete(
        &self,
        _: &StepContext,
        name: &String,
        _: &ExternalId,
    ) -> Result<(), StepError> {
        self.passwords.lock().unwrap().remove(name);
        Ok(())
    }

    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }
}

/// Uses the password, as a later step would.
#[derive(Debug, Clone)]
struct Connect(Databases);

impl Step for Connect {
    const KIND: &'static str = "test.connect";
    type Input = (String, SecretRef);
    type Output = Access;

    async fn run(&self, cx: &StepContext, input: Self::Input) -> Result<Access, StepError> {
        let password = cx.reveal(&input.1).await?;
        let made = self.0.passwords.lock().unwrap();
        let right = made[&input.0].last().is_some_and(|live| live == password.expose());
        Ok((input.1, right))
    }
}

fn keys() -> LocalKeys {
    LocalKeys::new("test", [7; 32]).unwrap()
}

// covers: R1-28
#[tokio::test(start_paused = true)]
async fn a_killed_create_goes_on_with_the_very_password_it_had_sent() {
    let databases = Databases::default();
    let saga = Saga::define(DATABASE, |s| {
        let db = s.resource("db", databases.clone()).input((), |name: &String, ()| name.clone());
        s.step("connect", Connect(databases.clone()), NothingToUndo)
            .input(db, |name, password| (name.clone(), password))
    });
    let store = MemoryStore::new();
    let engine = Engine::builder(store).register(saga.unwrap()).keys(keys()).build().await.unwrap();
    let first = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(DATABASE, &"acme".into()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    first.kill();
    let second = engine.spawn_worker(WorkerConfig::default());
    let (_, right) = run.output().await.unwrap();
    assert!(right, "the sealed password is the one that the provider got");
    let given = databases.passwords.lock().unwrap()["acme"].clone();
    assert!(given.len() >= 2 && given.iter().all(|one| *one == given[0]), "drawn once: {given:?}");
    second.stop().await;
}

/// Makes a key pair and a share token; gives the public half and references.
#[derive(Debug, Clone, Default)]
struct KeyPair {
    token: Arc<Mutex<String>>,
}

const PRIVATE: &str = "-----CANARY PRIVATE KEY c2VjcmV0-----";

impl Step for KeyPair {
    const KIND: &'static str = "test.key-pair";
    type Input = String;
    type Output = (String, SecretRef, SecretRef);

    async fn run(&self, cx: &StepContext, _: String) -> Result<Self::Output, StepError> {
        let private = cx.seal("private-key", || Secret::new(PRIVATE)).await?;
        let token = uuid_v4(&SystemEntropy).or_retry("draw a token")?.to_string();
        self.token.lock().unwrap().clone_from(&token);
        Ok(("ssh-ed25519 PUBLIC".to_owned(), private, cx.keep("share-token", Secret::new(token))))
    }
}

/// Everything the store holds, as the bytes it would write.
async fn dump(store: &MemoryStore, engine: &Engine, run: &RunId) -> String {
    let record = store.load(&[*run]).await.unwrap().pop().flatten().unwrap();
    let mut text = serde_json::to_string(&record.head).unwrap();
    text.extend(record.frames.iter().map(|frame| frame.body.to_string()));
    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    text.push_str(&serde_json::to_string(&rows).unwrap());
    for key in store.keys(None).await.unwrap() {
        let sealed = store.get(&key).await.unwrap().unwrap();
        text.push_str(&format!("{key:?} {sealed:?} {}", String::from_utf8_lossy(&sealed.bytes)));
    }
    text
}

// covers: R2-53, R3-39, R4-15
#[tokio::test(start_paused = true)]
async fn private_keys_and_tokens_are_in_the_secret_store_and_nowhere_in_clear() {
    const PAIR: SagaId<String, (String, SecretRef, SecretRef)> = SagaId::new("pair", 1);
    let pair = KeyPair::default();
    let saga = Saga::define(PAIR, |s| {
        s.step("pair", pair.clone(), NothingToUndo).input((), |name: &String, ()| name.clone())
    });
    let store = MemoryStore::new();
    let builder = Engine::builder(store.clone()).register(saga.unwrap()).keys(keys());
    let engine = builder.build().await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(PAIR, &"x".into()).await.unwrap();
    let output = run.output().await.unwrap();
    let printed = serde_json::to_string(&output).unwrap();
    assert!(printed.contains("PUBLIC") && printed.contains("sealed:"), "{printed}");
    let kept = store.keys(None).await.unwrap();
    let names: Vec<_> = kept.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["private-key", "share-token"]);
    let everything = dump(&store, &engine, run.id()).await;
    assert!(everything.contains("PUBLIC"), "the dump sees what is there");
    let token = pair.token.lock().unwrap().clone();
    assert_eq!(token.len(), 36);
    for canary in ["CANARY", "c2VjcmV0", PRIVATE, &token] {
        assert!(!everything.contains(canary), "{canary}");
        assert!(!printed.contains(canary));
    }
    assert_eq!(format!("{:?} {}", Secret::new(PRIVATE), Secret::new(PRIVATE)), "*** ***");
    worker.stop().await;
}
