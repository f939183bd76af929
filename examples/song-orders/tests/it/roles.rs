//! What the database itself lets each role see and do, whatever a program asks.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use song_orders::{checkout::Checkout, database::migrate};

use crate::world::{WITHIN, World};

/// Two orders of two customers, one of them shared under `token-1`.
const ROWS: &str = "
    INSERT INTO songs.orders (id, checkout, run, customer, recipient, story, occasion_date,
        retained_until, payment) VALUES
        ('00000000-0000-0000-0000-000000000001', 'cs_1', gen_random_uuid(), 'ada', 'Bo', 'rain',
            '2099-01-01', '2099-04-01', 'paid'),
        ('00000000-0000-0000-0000-000000000002', 'cs_2', gen_random_uuid(), 'eve', 'Cy', 'snow',
            '2099-01-01', '2099-04-01', 'paid');
    INSERT INTO songs.variants
        (order_id, variant_number, status, object, bytes, duration_ms, completed_at)
        SELECT id, 1, 'ready', checkout || '/variant-1.mp3', 9, 3000, now() FROM songs.orders;
    INSERT INTO songs.shares SELECT id, sha256(convert_to('token-1', 'UTF8'))
        FROM songs.orders WHERE checkout = 'cs_1';
    INSERT INTO songs.dead_letter_notes (run, note) SELECT run, 'a note' FROM songs.orders;";

/// What a statement comes to as a role: rows that it shows or changes, or the code of a refusal.
async fn told(conn: &mut PgConnection, role: &str, sql: &str) -> Result<u64, String> {
    let mut tx = conn.begin().await.unwrap();
    tx.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
    let code = |error: sqlx::Error| {
        error.as_database_error().unwrap().code().unwrap_or_default().into_owned()
    };
    let end = if sql.starts_with("SELECT") {
        let rows = tx.fetch_all(AssertSqlSafe(sql.to_owned())).await;
        rows.map(|rows| u64::try_from(rows.len()).unwrap()).map_err(code)
    } else {
        let done = tx.execute(AssertSqlSafe(sql.to_owned())).await;
        done.map(|done| done.rows_affected()).map_err(code)
    };
    tx.rollback().await.unwrap();
    end
}

async fn filled() -> Option<(World, PgConnection)> {
    let world = World::open().await?;
    let mut conn = world.conn().await;
    conn.execute(ROWS).await.unwrap();
    Some((world, conn))
}

const DENIED: &str = "42501";
const CHECK: &str = "23514";
const UNIQUE: &str = "23505";

fn denied() -> Result<u64, String> {
    Err(DENIED.to_owned())
}

// covers: R3-04, R3-24
#[tokio::test]
async fn owners_see_their_own_holders_of_a_token_its_songs_and_nobody_a_list() {
    let Some((_world, mut conn)) = filled().await else { return };
    let conn = &mut conn;
    // Nobody in particular.
    for table in [
        "orders",
        "variants",
        "shares",
        "deliveries",
        "dead_letter_notes",
        "unusable_payments",
        "clouds",
    ] {
        let list = format!("SELECT * FROM songs.{table}");
        assert_eq!(told(conn, "song_anyone", &list).await, denied(), "{table}");
    }
    for (token, rows) in [("token-1", 1), ("token-2", 0), ("", 0), ("%", 0)] {
        let shared = format!("SELECT * FROM songs.shared(sha256('{token}'))");
        assert_eq!(told(conn, "song_anyone", &shared).await, Ok(rows), "{token}");
    }
    let row = conn.fetch_one("SELECT object FROM songs.shared(sha256('token-1'))").await.unwrap();
    assert_eq!(row.get::<String, _>(0), "cs_1/variant-1.mp3");
    conn.execute(
        "UPDATE songs.orders SET occasion_date = '2000-01-01', retained_until = '2000-01-02'
        WHERE checkout = 'cs_1'",
    )
    .await
    .unwrap();
    let over = "SELECT * FROM songs.shared(sha256('token-1'))";
    assert_eq!(told(conn, "song_anyone", over).await, Ok(0), "kept no longer, shared no longer");

    // Customers, by name.
    for (name, orders) in [("ada", 1), ("eve", 1), ("zoe", 0), ("", 0), ("reset", 0)] {
        let set = match name {
            "reset" => "RESET songs.customer".to_owned(),
            name => format!("SET songs.customer = '{name}'"),
        };
        conn.execute(AssertSqlSafe(set)).await.unwrap();
        for table in ["orders", "variants"] {
            let list = format!("SELECT * FROM songs.{table}");
            assert_eq!(told(conn, "song_customer", &list).await, Ok(orders), "{name}: {table}");
        }
        let choose = "UPDATE songs.variants SET selected = true";
        assert_eq!(
            told(conn, "song_customer", choose).await,
            Ok(orders),
            "{name}: their own alone"
        );
    }
    for statement in [
        "UPDATE songs.variants SET status = 'failed'",
        "UPDATE songs.orders SET payment = 'refund_due'",
        "DELETE FROM songs.orders",
        "SELECT * FROM songs.shares",
        "SELECT * FROM songs.deliveries",
    ] {
        assert_eq!(told(conn, "song_customer", statement).await, denied(), "{statement}");
    }
}

// covers: R3-25, X12
#[tokio::test]
async fn workers_have_a_role_of_their_own_that_can_do_its_work_alone() {
    let Some((_world, mut conn)) = filled().await else { return };
    let conn = &mut conn;
    assert_eq!(told(conn, "song_worker", "SELECT * FROM songs.orders").await, Ok(2));
    let begin = "UPDATE songs.orders SET progress = 'generating'";
    assert_eq!(told(conn, "song_worker", begin).await, Ok(2));
    for statement in [
        "DELETE FROM songs.orders",
        "UPDATE songs.orders SET customer = 'eve'",
        "UPDATE songs.orders SET retained_until = '2999-01-01'",
        "SELECT * FROM songs.deliveries",
        "DELETE FROM songs.variants",
        "SELECT * FROM songs.unusable_payments",
        "INSERT INTO songs.deliveries (event, order_id, body) SELECT 'e', id, '' FROM songs.orders",
        "SELECT * FROM songs.dead_letter_notes",
        "CREATE TABLE songs.mine (x int)",
        "DELETE FROM provision.frames",
        "UPDATE provision.frames SET seq = seq",
    ] {
        assert_eq!(told(conn, "song_worker", statement).await, denied(), "{statement}");
    }
    for statement in [
        "SELECT * FROM songs.variants",
        "SELECT customer FROM songs.orders",
        "UPDATE songs.orders SET progress = 'failed'",
        "DELETE FROM songs.deliveries",
        "SELECT body FROM songs.deliveries",
        "SELECT * FROM songs.unusable_payments",
        "SELECT * FROM provision.frames",
        "SELECT * FROM provision.secrets",
        "INSERT INTO provision.requests DEFAULT VALUES",
        "UPDATE provision.heads SET due = 0",
        "DELETE FROM provision.heads",
        // Nothing is ordered that was paid back before it began.
        "INSERT INTO songs.orders (id, checkout, run, customer, story, occasion_date,
            retained_until, payment) VALUES (gen_random_uuid(), 'cs_3', gen_random_uuid(), 'ada',
            'fog', '2099-01-01', '2099-04-01', 'refund_due')",
    ] {
        assert_eq!(told(conn, "song_intake", statement).await, denied(), "{statement}");
    }
    for role in ["song_intake", "song_admin", "song_customer", "song_anyone"] {
        let forget = "SELECT songs.forget(gen_random_uuid())";
        assert_eq!(told(conn, role, forget).await, denied(), "{role}");
    }
}

// covers: R3-24, R3-25, R3-38
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_superpowers_runs_the_shop_and_reads_nothing_of_it() {
    let Some((_world, mut conn)) = filled().await else { return };
    let forced = "SELECT relname FROM pg_class WHERE relnamespace = 'songs'::regnamespace
        AND relkind = 'r' AND relname <> 'clouds'
        AND NOT (relrowsecurity AND relforcerowsecurity)";
    assert_eq!(told(&mut conn, "NONE", forced).await, Ok(0), "every table");

    let name = format!("owner_{}", uuid::Uuid::new_v4().simple());
    for statement in [
        format!("CREATE ROLE {name} LOGIN PASSWORD 's3cret' NOSUPERUSER"),
        format!(
            "GRANT song_intake, song_worker, song_admin, song_customer, song_anyone, song_keeper
            TO {name}"
        ),
        format!("CREATE DATABASE {name} OWNER {name}"),
    ] {
        conn.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let server = std::env::var("PROVISION_TEST_POSTGRES_URL").unwrap();
    let server = server.rsplit_once('/').unwrap().0.rsplit_once('@').unwrap().1.to_owned();
    let world = World::at(format!("postgres://{name}:s3cret@{server}/{name}")).await;
    let worker = world.shop.worker();
    assert_eq!(world.deliver(&Checkout::new("cs_1", "ada").event("evt_1")).await, 200);
    world.until(|standing| standing.completed == 1).await;
    let mut owner = world.conn().await;
    for table in ["orders", "variants", "shares", "deliveries"] {
        let all = format!("SELECT * FROM songs.{table}");
        assert_eq!(told(&mut owner, &name, &all).await, Ok(0), "{table}");
    }
    let torn_down = world.shop.tear_down().await.unwrap();
    assert_eq!((torn_down.removed, torn_down.completed), (1, 0));
    assert!(world.clouds.paths().is_empty());
    worker.stop().await;
}

// covers: R3-49
#[tokio::test]
async fn administrators_alone_read_dead_letters() {
    let Some((_world, mut conn)) = filled().await else { return };
    let conn = &mut conn;
    let notes = "SELECT * FROM songs.dead_letter_notes";
    let runs = "SELECT * FROM provision.dead_letters";
    assert_eq!(told(conn, "song_admin", notes).await, Ok(2));
    assert_eq!(told(conn, "song_admin", runs).await, Ok(0));
    for role in ["song_customer", "song_anyone"] {
        for statement in [notes, runs] {
            assert_eq!(told(conn, role, statement).await, denied(), "{role}: {statement}");
        }
    }
    for role in ["song_worker", "song_intake"] {
        assert_eq!(told(conn, role, notes).await, denied(), "{role}");
    }
    // Of orders they see what is to be paid back, and can say that it was.
    let due = "SELECT checkout FROM songs.orders";
    assert_eq!(told(conn, "song_admin", due).await, Ok(0));
    conn.execute(
        "UPDATE songs.orders SET payment = 'refund_due', progress = 'failed'
        WHERE checkout = 'cs_1'",
    )
    .await
    .unwrap();
    assert_eq!(told(conn, "song_admin", due).await, Ok(1));
    let refunded = "UPDATE songs.orders SET payment = 'refunded'";
    assert_eq!(told(conn, "song_admin", refunded).await, Ok(1));
    for statement in [
        "UPDATE songs.orders SET payment = 'paid'",
        "UPDATE songs.orders SET progress = 'ordered'",
        "SELECT story FROM songs.orders",
    ] {
        assert_eq!(told(conn, "song_admin", statement).await, denied(), "{statement}");
    }
    let rewrite = "UPDATE songs.dead_letter_notes SET note = 'another'";
    assert_eq!(told(conn, "song_admin", rewrite).await, denied(), "notes are added, not changed");
}

// covers: R3-46, R3-47
#[tokio::test]
async fn variants_are_constrained_by_the_database() {
    let Some((_world, mut conn)) = filled().await else { return };
    let conn = &mut conn;
    let one = "'00000000-0000-0000-0000-000000000001'";
    let enter = |rest: &str| {
        format!(
            "INSERT INTO songs.variants (order_id, variant_number, duration_ms) VALUES ({one}, {rest})"
        )
    };
    let cases = [
        (enter("0, 3000"), CHECK),
        (enter("6, 3000"), CHECK),
        (enter("2, 2999"), CHECK),
        (enter("2, 600001"), CHECK),
        (enter("1, 3000"), UNIQUE),
        ("UPDATE songs.variants SET object = NULL".to_owned(), CHECK),
        ("UPDATE songs.variants SET status = 'failed'".to_owned(), CHECK),
        ("UPDATE songs.variants SET status = 'done'".to_owned(), CHECK),
        ("UPDATE songs.variants SET object = 'the same'".to_owned(), UNIQUE),
        ("UPDATE songs.orders SET retained_until = occasion_date - 1".to_owned(), CHECK),
        ("UPDATE songs.orders SET payment = 'generating'".to_owned(), CHECK),
        ("UPDATE songs.orders SET progress = 'paid'".to_owned(), CHECK),
        ("UPDATE songs.orders SET progress = 'completed'".to_owned(), CHECK),
        ("UPDATE songs.orders SET checkout = 'cs_1'".to_owned(), UNIQUE),
        ("UPDATE songs.orders SET customer = ''".to_owned(), CHECK),
        ("UPDATE songs.orders SET customer = NULL".to_owned(), CHECK),
        ("UPDATE songs.orders SET progress = 'removed'".to_owned(), CHECK),
        ("UPDATE songs.orders SET payment = 'refunded'".to_owned(), CHECK),
        ("UPDATE songs.orders SET retained_until = 'infinity'".to_owned(), CHECK),
        ("UPDATE songs.orders SET occasion_date = '-infinity'".to_owned(), CHECK),
    ];
    for (statement, code) in cases {
        let told = told(conn, "NONE", &statement).await;
        assert_eq!(told, Err(code.to_owned()), "{statement}");
    }
    let second = format!(
        "INSERT INTO songs.variants
        (order_id, variant_number, status, object, bytes, duration_ms, completed_at)
        VALUES ({one}, 2, 'ready', 'second', 9, 3000, now())"
    );
    conn.execute(AssertSqlSafe(second)).await.unwrap();
    let both = "UPDATE songs.variants SET selected = true";
    assert_eq!(told(conn, "NONE", both).await, Err(UNIQUE.to_owned()), "one is selected");
    conn.execute(AssertSqlSafe(format!("DELETE FROM songs.orders WHERE id = {one}")))
        .await
        .unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM songs.variants")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(left, 1, "variants go with their order");
}

#[tokio::test]
async fn to_open_what_is_made_already_waits_for_nobody() {
    let Some(world) = World::open().await else { return };
    let mut conn = world.conn().await;
    // As a dump of the database does, for as long as it takes.
    let mut tx = conn.begin().await.unwrap();
    tx.execute("SELECT FROM songs.orders, songs.deliveries, songs.variants, songs.shares")
        .await
        .unwrap();
    let looked = tokio::time::timeout(WITHIN, migrate(&world.url, false)).await;
    looked.expect("it waits for the dump").unwrap();
    assert_eq!(migrate(&world.url, true).await.unwrap_err().code(), "other_clouds");
    tx.rollback().await.unwrap();
    // What another version has made is made anew.
    conn.execute("UPDATE songs.clouds SET made_by = 'an older one'").await.unwrap();
    conn.execute("DROP POLICY worker ON songs.orders").await.unwrap();
    migrate(&world.url, false).await.unwrap();
    let policies = "SELECT count(*) FROM pg_policies WHERE policyname = 'worker'
        AND tablename = 'orders'";
    assert_eq!(world.number(policies).await, 1);
}
