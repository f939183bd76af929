//! The views: what people and other programs read while the store is in use.

use std::{sync::Arc, time::Duration};

use provision_core::{
    error::{Failure, StepError},
    id::Timestamp,
    run::RunStatus,
    store::{Release, RunFilter, StateStore as _},
};
use provision_testkit::conformance::{
    Handle, acquire_any, append_of, ledger_row, new_worker, run_head,
};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::given::Schema;

async fn row(conn: &mut PgConnection, schema: &Schema, sql: &str) -> (String, String, String) {
    let sql = sql.replace("provision.", &format!("{}.", schema.name));
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn a_store_in_use_can_be_read_from_outside() {
    let Some(schema) = Schema::new() else { return };
    let store = schema.open().await;
    let handle = Handle::of(Arc::new(store.clone()));
    let mut head = run_head();
    head.tenant = Some("acme".to_owned());
    head.context.insert("client".to_owned(), "7".to_owned());
    let run = handle.started(head).await;
    let lease = acquire_any(new_worker(), Duration::from_secs(60));
    let leased = handle.lease(&lease).await.leased.remove(0);
    let mut append = append_of(&leased, 1);
    append.frame = Some(Arc::from(r#"[{"started":"vm"},{"noted":"42"}]"#));
    append.ledger = vec![ledger_row(run, "vm", "web-1")];
    handle.applied(append).await;
    let mut park = append_of(&leased, 2);
    park.status = RunStatus::Parked;
    let error = StepError::permanent("create server").with_code("no_more_servers");
    park.summary.failure = Some(Failure::of("vm", 1, &error));
    park.release = Some(Release { due: Timestamp::NEVER, polls: Default::default(), seen: 0 });
    handle.applied(park).await;

    let mut conn = schema.connect().await;
    let letter = "SELECT run::text, status, failed_code FROM provision.dead_letters \
                  WHERE due IS NULL";
    let letter = row(&mut conn, &schema, letter).await;
    assert_eq!(letter, (run.to_string(), "Parked".to_owned(), "no_more_servers".to_owned()));
    let listed = "SELECT namespace, tenant, context ->> 'client' FROM provision.runs_view";
    let listed = row(&mut conn, &schema, listed).await;
    assert_eq!(listed, ("default".to_owned(), "acme".to_owned(), "7".to_owned()));
    let noted = "SELECT run::text, record ->> 'noted', extract(epoch FROM at)::text \
                 FROM provision.journal_view WHERE position = 1";
    let noted = row(&mut conn, &schema, noted).await;
    assert_eq!(noted, (run.to_string(), "42".to_owned(), "0.001000".to_owned()));
    let thing = "SELECT run::text, name, cost::numeric(9, 2) || ' ' || currency \
                 FROM provision.ledger_view";
    let thing = row(&mut conn, &schema, thing).await;
    assert_eq!(thing, (run.to_string(), "web-1".to_owned(), "4.49 EUR".to_owned()));
    assert_eq!(schema.number("SELECT count(*) FROM provision.journal_view").await, 3);
}

// Every start of a program asks for the newest run of each version, and schedules for theirs by key.
#[tokio::test]
async fn what_programs_ask_for_at_their_start_reads_few_rows_beside_many_runs() {
    let Some(schema) = Schema::new() else { return };
    // One connection, so that what is read is told by the one that reads.
    let config = schema.config().with_connections_max(1).with_notify(false);
    let store = config.open().await.unwrap();
    let handle = Handle::of(Arc::new(store.clone()));
    let mut first = run_head();
    (first.saga.version, first.key) = (7, Some("schedule:1".to_owned()));
    let first = handle.started(first).await;
    let template = handle.started(run_head()).await;
    schema
        .execute(&format!(
            "INSERT INTO provision.runs
             SELECT ns, md5(n::text)::uuid, tenant, 'order:' || n, input, input_hash, parent_run,
                 parent_path, context, created_at
             FROM provision.runs, generate_series(1, 3000) AS n WHERE run = '{template}';
             CREATE TEMPORARY TABLE h AS SELECT * FROM provision.heads WHERE run = '{template}';
             ALTER TABLE h DROP COLUMN run;
             INSERT INTO provision.heads (ns, lane, run, priority, tenant_lane, epoch, nonce,
                 requests, consumed, due, place, poked, dead_letter, polls, seq, updated_at, deaths,
                 open, status, summary)
             SELECT h.ns, h.lane, md5(n::text)::uuid, h.priority, h.tenant_lane, 0, 0, 0, 0,
                 9223372036854775807, 0, false, false, h.polls, 0, h.updated_at, 0, false,
                 'Succeeded', h.summary
             FROM h, generate_series(1, 3000) AS n;
             ANALYZE provision.heads, provision.runs, provision.lanes"
        ))
        .await;
    let version = RunFilter {
        saga: Some(run_head().saga.name),
        version: Some(7),
        limit: 1,
        ..RunFilter::default()
    };
    let schedule =
        RunFilter { key_prefix: Some("schedule:".to_owned()), limit: 1, ..RunFilter::default() };
    let read = format!(
        "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
         WHERE schemaname = '{}' AND relname = 'heads'",
        schema.name
    );
    for filter in [version, schedule] {
        // What was read is told by the server a second later, at the end of a transaction.
        let told = async || {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            store.load(&[first]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            schema.number(&read).await
        };
        // Until nothing more is told: each look reads a row or two by itself.
        let settled = async || {
            let mut before = told().await;
            for _ in 0..20 {
                let now = told().await;
                if now - before < 5 {
                    return now;
                }
                before = now;
            }
            panic!("it is told of more and more")
        };
        let before = settled().await;
        let page = store.list(&filter).await.unwrap();
        assert_eq!(page.runs.iter().map(|head| head.id).collect::<Vec<_>>(), [first]);
        let rows = settled().await - before;
        assert!(rows < 100, "{rows} rows were read for {filter:?}");
    }
}
