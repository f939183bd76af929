//! What the functions that remove and forget runs lock, and whose bounds they take.

use std::{borrow::Cow, sync::Arc, time::Duration};

use provision_core::{
    id::Timestamp,
    ledger::LedgerOp,
    retention::{Prune, RetentionStore as _},
    run::RunStatus,
    store::{NewRun, RunHead, StateStore as _, Submission, Submitted},
};
use provision_store_postgres::PostgresStore;
use provision_testkit::conformance::{Handle, ledger_row, run_head};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::given::Schema;

/// Starts runs that are over, with a start key each.
async fn over(store: &PostgresStore, count: u64) -> Vec<RunHead> {
    let head = |n| RunHead {
        key: Some(format!("order:{n}")),
        status: RunStatus::TornDown,
        due: Timestamp::NEVER,
        updated_at: Timestamp::from_millis(n + 1),
        ..run_head()
    };
    let heads: Vec<_> = (0..count).map(head).collect();
    let start = |head: &RunHead| NewRun { head: head.clone(), lease_to: None };
    let starts: Vec<_> = heads.iter().map(|head| Submission::Run(Box::new(start(head)))).collect();
    for part in starts.chunks(200) {
        store.submit(part).await.unwrap();
    }
    heads
}

/// Calls the function with bounds of the caller's own, in a transaction that stays open.
fn call(schema: &Schema, dry: bool) -> String {
    format!(
        "SELECT cardinality(removed)::bigint FROM {}.prune((SELECT ns FROM {}.namespaces \
         WHERE name = 'default'), '00000000-0000-0000-0000-000000000000', 9000000000000, true, \
         true, 1000000, 1000000, 1000000, 1000000, {dry})",
        schema.name, schema.name
    )
}

async fn number(conn: &mut PgConnection, sql: String) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap()
}

// covers: S25
#[tokio::test]
async fn runs_that_stay_are_not_locked() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    let heads = over(&store, 40).await;
    // All but the last have something left.
    for (n, head) in heads.iter().enumerate().skip(1) {
        let row = ledger_row(head.id, "vm", &format!("web-{n}"));
        assert!(handle.changes(LedgerOp::Enter(Box::new(row))).await);
    }
    let mut conn = schema.connect().await;
    conn.execute("BEGIN").await.unwrap();
    assert_eq!(number(&mut conn, call(&schema, false)).await, 1);
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = \
                 'advisory'";
    assert_eq!(number(&mut conn, locks.to_owned()).await, 1, "of the key of the one that goes");
    let free = "SELECT count(*) FROM (SELECT FROM provision.heads FOR UPDATE SKIP LOCKED) AS x";
    assert_eq!(schema.number(free).await, 39);
    conn.execute("ROLLBACK").await.unwrap();
    conn.close().await.unwrap();
}

// covers: X12, S25
#[tokio::test]
async fn bounds_and_isolation_are_not_the_callers_to_choose() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    over(&store, 1_010).await;
    let mut conn = schema.connect().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        conn.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await.unwrap();
        let refused = sqlx::query(AssertSqlSafe(call(&schema, false))).execute(&mut conn).await;
        let error = refused.unwrap_err();
        let code = error.as_database_error().unwrap().code().map(Cow::into_owned);
        assert_eq!(code.as_deref(), Some("25000"), "{level}");
        conn.execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(number(&mut conn, call(&schema, true)).await, 1_000);
    conn.close().await.unwrap();
}

// covers: S1, L3
#[tokio::test]
async fn no_start_waits_while_keys_are_forgotten() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let heads = over(&store, 3).await;
    let later = store.now().await.unwrap().plus(Duration::from_secs(60));
    assert_eq!(store.prune(&Prune::before(later)).await.unwrap().runs.len(), 3);
    let mut conn = schema.connect().await;
    conn.execute("BEGIN").await.unwrap();
    let forget = format!(
        "SELECT {0}.forget((SELECT ns FROM {0}.namespaces WHERE name = 'default'), \
         9000000000000, 1)",
        schema.name
    );
    assert_eq!(number(&mut conn, forget).await, 1);
    // Until that is committed the key is known as before; nobody waits for it.
    let start = async |head: &RunHead| {
        let head = RunHead { id: run_head().id, ..head.clone() };
        let start = [Submission::Run(Box::new(NewRun { head, lease_to: None }))];
        let answer = tokio::time::timeout(Duration::from_secs(30), store.submit(&start)).await;
        answer.expect("nobody waits").unwrap().remove(0)
    };
    for (head, n) in heads.iter().zip(0..) {
        assert!(matches!(start(head).await, Submitted::Pruned(_)), "key {n}");
    }
    conn.execute("COMMIT").await.unwrap();
    assert!(matches!(start(&heads[0]).await, Submitted::Created(None)));
    assert!(matches!(start(&heads[1]).await, Submitted::Pruned(_)));
    conn.close().await.unwrap();
}
