//! A connection that is cut after COMMIT was forwarded and before its reply came back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use provision_core::store::{Appended, StateStore as _, Submission, Submitted};
use provision_core::store::{NewRun, RunFilter};
use provision_store_postgres::{PostgresConfig, PostgresStore};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::given::Schema;

/// A way to the server that can lose answers.
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// The next answer is read from the server and thrown away, and its connection is cut.
    pub(crate) cut: Arc<AtomicBool>,
    /// So many answers inside a transaction are left: the last one is kept back, and its connection
    /// stands still.
    left: Arc<AtomicU32>,
}

impl Proxy {
    pub(crate) async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (head, at) = url.rsplit_once('@').unwrap();
        let (server, database) = at.split_once('/').unwrap();
        let (server, cut) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
        let left = Arc::new(AtomicU32::new(u32::MAX));
        let orders = (Arc::clone(&cut), Arc::clone(&left));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // While the server is away, so is the way to it.
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(carry(client, server, orders.clone()));
            }
        });
        Self { url: format!("{head}@127.0.0.1:{port}/{database}"), cut, left }
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    (cut, left): (Arc<AtomicBool>, Arc<AtomicU32>),
) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                if server.write_all(&up[..read]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                // `ReadyForQuery`, outside a transaction: something was committed, or nothing was
                // to be.
                let ready = down[..read].ends_with(b"Z\0\0\0\x05I");
                if ready && cut.swap(false, SeqCst) { return }
                let inside = down[..read].ends_with(b"Z\0\0\0\x05T");
                if inside && left.fetch_sub(1, SeqCst) == 1 {
                    std::future::pending::<()>().await;
                }
                if client.write_all(&down[..read]).await.is_err() { return }
            }
        }
    }
}

async fn through(schema: &Schema, proxy: &Proxy) -> PostgresStore {
    let config = PostgresConfig::new(&proxy.url).with_schema(&schema.name);
    let config = config.with_unsafe_settings(true).with_notify(false).with_connections_max(4);
    config.with_connect_timeout(Duration::from_secs(5)).open().await.unwrap()
}

/// Calls until the answer is not lost any more; how often it was.
async fn repeated(
    store: &PostgresStore,
    append: &provision_core::store::Append,
) -> (Appended, u32) {
    for lost in 0..5 {
        match store.append(std::slice::from_ref(append)).await {
            Ok(mut answers) => return (answers.remove(0), lost),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    panic!("no answer in five tries");
}

// covers: S19
#[tokio::test]
async fn an_append_whose_answer_was_lost_finds_itself() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::before(&schema.url).await;
    let store = through(&schema, &proxy).await;
    let handle = Handle::of(Arc::new(store.clone()));
    handle.started(run_head()).await;
    let lease = acquire_any(new_worker(), Duration::from_secs(600));
    let leased = handle.lease(&lease).await.leased.remove(0);
    let mut lost = 0;
    for seq in 1..=40 {
        let mut append = append_of(&leased, seq);
        if seq % 3 == 0 {
            append.ledger = vec![ledger_row(append.run, "vm", &format!("web-{seq}"))];
        }
        proxy.cut.store(seq % 2 == 0, SeqCst);
        let (answer, times) = repeated(&store, &append).await;
        assert_eq!(answer, Appended::Applied { requests: 0, lease_lost: false }, "{seq}");
        lost += times;
    }
    assert!(lost >= 10, "only {lost} answers were lost");
    let record = handle.record(leased.record.head.id).await;
    assert_eq!((record.head.seq, record.frames.len()), (40, 40), "each once");
}

// A process that is stopped between two statements of a transaction holds what that one locked.
// covers: L2
#[tokio::test]
async fn a_process_that_freezes_inside_a_transaction_is_taken_over() {
    // A connection that has rested is looked at first: one answer more, and nothing is locked.
    for _ in 0..4 {
        let Some(schema) = Schema::new() else { return };
        if is_held_up_by_a_frozen_append(&schema).await {
            return;
        }
    }
    panic!("its rows were not locked");
}

/// Freezes a process in an append; whether its run could not be taken over for a second or more.
async fn is_held_up_by_a_frozen_append(schema: &Schema) -> bool {
    let proxy = Proxy::before(&schema.url).await;
    let (frozen, other) = (through(schema, &proxy).await, schema.open().await);
    let handle = Handle::of(Arc::new(frozen.clone()));
    let run = handle.started(run_head()).await;
    let ttl = Duration::from_secs(15);
    let leased = handle.lease(&acquire_any(new_worker(), ttl)).await.leased.remove(0);
    let mut append = append_of(&leased, 1);
    append.ledger = vec![ledger_row(run, "vm", "web-1")];
    // The answer to the lock of its rows is the fifth, or another one before it.
    let hung = tokio::spawn(async move { frozen.append(&[append]).await });
    let handle = Handle::of(Arc::new(other));
    proxy.left.store(5, SeqCst);
    schema.pass(ttl * 2).await;
    let (begun, worker) = (std::time::Instant::now(), new_worker());
    let mut tries = 0;
    while handle.lease(&acquire_any(worker, ttl * 100)).await.leased.is_empty() {
        tries += 1;
        assert!(begun.elapsed() < Duration::from_secs(60), "its rows are locked for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hung.abort();
    tries > 10
}

// covers: S1, S2, S19
#[tokio::test]
async fn a_start_whose_answer_was_lost_finds_its_own_run() {
    let Some(schema) = Schema::new() else { return };
    let proxy = Proxy::before(&schema.url).await;
    let store = through(&schema, &proxy).await;
    let mut lost = 0;
    for number in 0..10 {
        let mut head = run_head();
        head.key = Some(format!("order:{number}"));
        let start = [Submission::Run(Box::new(NewRun { head, lease_to: None }))];
        proxy.cut.store(true, SeqCst);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            assert!(tries < 5, "no answer");
            match store.submit(&start).await {
                Ok(mut answers) => break answers.remove(0),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            lost += 1;
        };
        assert!(matches!(answer, Submitted::Created(_) | Submitted::Known(_)), "{answer:?}");
    }
    assert!(lost >= 5, "only {lost} answers were lost");
    let direct = schema.open().await;
    assert_eq!(direct.list(&RunFilter::default()).await.unwrap().runs.len(), 10);
}

// covers: S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_ends_at_random_lose_and_double_nothing() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    for _ in 0..8 {
        handle.started(run_head()).await;
    }
    let lease = acquire_any(new_worker(), Duration::from_secs(600));
    let runs = handle.lease(&lease).await.leased;
    let mut tasks = tokio::task::JoinSet::new();
    for leased in runs {
        let store = store.clone();
        tasks.spawn(async move {
            let mut lost = 0_u32;
            for seq in 1..=60 {
                let append = append_of(&leased, seq);
                let answer = loop {
                    match store.append(std::slice::from_ref(&append)).await {
                        Ok(mut answers) => break answers.remove(0),
                        Err(error) => assert!(error.is_transient(), "{error}"),
                    }
                    lost += 1;
                    assert!(lost < 10_000, "no answer any more");
                };
                assert_eq!(answer, Appended::Applied { requests: 0, lease_lost: false });
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (leased.record.head.id, lost)
        });
    }
    let mut conn = schema.connect().await;
    // Backends whose last statement names this schema are this store's.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE query LIKE '%\"' || $1 || '\".%' AND pid <> pg_backend_pid()";
    let (mut ended, mut done) = (0, Vec::new());
    while !tasks.is_empty() {
        let count: i64 =
            sqlx::query_scalar(end).bind(&schema.name).fetch_one(&mut conn).await.unwrap();
        ended += count;
        tokio::time::sleep(Duration::from_millis(30)).await;
        while let Some(joined) = tasks.try_join_next() {
            done.push(joined.unwrap());
        }
    }
    assert!(ended >= 3, "only {ended} connections were ended");
    let quiet = schema.open().await;
    for (run, _) in done {
        let record = quiet.load(&[run]).await.unwrap().remove(0).unwrap();
        assert_eq!((record.head.seq, record.frames.len()), (60, 60), "each once");
    }
}
