//! The host's table by itself.

use agent_hosting::{
    input::{Preset, Subscription},
    saga::{END, Ending, ending},
    table::{Asked, Desired, Notice, State, Table, What},
};
use provision_core::{
    Engine, Timestamp,
    clock::{Clock, SystemClock},
};
use provision_store_sqlite::SqliteStore;

fn order(id: &str) -> Subscription {
    Subscription::new(id, "acme", Preset::Small, "fsn1").unwrap()
}

// covers: R2-41
#[tokio::test]
async fn a_change_that_is_not_legal_is_refused_by_the_code_and_by_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    table.pay("e1", &order("a")).await.unwrap();
    let set = async |state: State| {
        let set = "update subscriptions set state = ?1";
        store.execute_host(move |tx| tx.execute(set, [state.as_str()])).await.is_ok()
    };
    for was in State::ALL {
        for next in State::ALL {
            // The state to begin with, past all checks.
            let force = format!(
                "drop trigger if exists no_illegal_change; update subscriptions set state = '{}'",
                was.as_str()
            );
            store.execute_host(move |tx| tx.execute_batch(&force)).await.unwrap();
            let table = Table::open(&store).await.unwrap();
            let legal = was == next || was.may_become(next);
            assert_eq!(set(next).await, legal, "database: {was:?} to {next:?}");
            let force = format!(
                "drop trigger if exists no_illegal_change; update subscriptions set state = '{}'",
                was.as_str()
            );
            store.execute_host(move |tx| tx.execute_batch(&force)).await.unwrap();
            let row = table.get("a").await.unwrap().unwrap();
            assert_eq!(
                table.turn(&row, next).await.is_ok(),
                was.may_become(next),
                "{was:?} {next:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_payment_counts_once_and_a_late_repetition_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    let mut new = 0;
    for _ in 0..100 {
        new += u32::from(table.pay("e1", &order("a")).await.unwrap());
    }
    let row = table.get("a").await.unwrap().unwrap();
    assert_eq!((new, row.payments, row.state), (1, 1, State::Pending));
    table.want(&["a"], Desired::Gone).await.unwrap();
    table.turn(&row, State::Gone).await.unwrap();
    assert!(!table.pay("e1", &order("a")).await.unwrap());
    assert_eq!(table.get("a").await.unwrap().unwrap().state, State::Gone);
    assert!(table.pay("e2", &order("a")).await.unwrap());
    assert_eq!(table.get("a").await.unwrap().unwrap().state, State::Pending);
}

#[tokio::test]
async fn an_end_that_was_said_before_a_payment_does_not_end_what_was_paid_for_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    table.pay("e1", &order("a")).await.unwrap();
    let before = Ending { subscription: "a".to_owned(), payments: 1 };
    table.pay("e2", &order("a")).await.unwrap();
    assert!(!table.end(&before).await.unwrap());
    assert_eq!(table.get("a").await.unwrap().unwrap().desired, Desired::Running);
    assert!(table.end(&Ending { payments: 2, ..before }).await.unwrap());
    assert_eq!(table.get("a").await.unwrap().unwrap().desired, Desired::Gone);
}

#[tokio::test]
async fn a_renewal_starts_nothing_that_is_stopped_and_one_of_another_kind_takes_no_payment() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    table.pay("e1", &order("a")).await.unwrap();
    table.want(&["a"], Desired::Stopped).await.unwrap();
    assert!(table.pay("e2", &order("a")).await.unwrap());
    let large = Subscription::new("a", "acme", Preset::Large, "fsn1").unwrap();
    assert_eq!(table.pay("e3", &large).await.unwrap_err().code(), "other_options");
    let row = table.get("a").await.unwrap().unwrap();
    assert_eq!((row.desired, row.payments), (Desired::Stopped, 2));
    assert_eq!(row.subscription, order("a"));
    // Of several, all or none.
    table.pay("b1", &order("b")).await.unwrap();
    let refused = table.want(&["b", "c"], Desired::Gone).await.unwrap_err();
    assert_eq!(refused.code(), "no_such_subscription");
    assert_eq!(table.get("b").await.unwrap().unwrap().desired, Desired::Running);
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn paid(event: &str, second: u64, provider: &str) -> Notice {
    let (event, provider) = (event.to_owned(), provider.to_owned());
    Notice { event, at: at(second * 1_000), what: What::Paid { order: order("a"), provider } }
}

fn ended(event: &str, second: u64, provider: &str) -> Notice {
    let (event, provider) = (event.to_owned(), provider.to_owned());
    let what = What::Ended { provider, subscription: Some("a".to_owned()) };
    Notice { event, at: at(second * 1_000), what }
}

async fn fresh() -> (tempfile::TempDir, SqliteStore, Table) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    (dir, store, table)
}

async fn is_wanted(table: &Table) -> bool {
    table.get("a").await.unwrap().is_some_and(|row| row.desired == Desired::Running)
}

// covers: R2-05
#[tokio::test]
async fn payments_and_ends_come_to_the_same_in_whatever_order_they_come() {
    // The clocks say nothing: the end of the first is told after the payment of the second.
    let notices = [
        paid("p1", 1, "sub_1"),
        ended("e1", 4, "sub_1"),
        paid("p2", 3, "sub_2"),
        ended("e2", 3, "sub_2"),
    ];
    let orders = (0..4).flat_map(|a| (0..4).flat_map(move |b| (0..4).map(move |c| [a, b, c])));
    for [a, b, c] in orders.filter(|[a, b, c]| a != b && b != c && a != c) {
        let d = 6 - a - b - c;
        let (_dir, _store, table) = fresh().await;
        for (known, next) in [a, b, c, d].into_iter().enumerate() {
            table.heed(&notices[next]).await.unwrap();
            assert!(!table.heed(&notices[next]).await.unwrap(), "twice is once");
            let seen = &[a, b, c, d][..=known];
            // It is wanted as long as one of them is paid for and not over.
            let is_live = |paid: usize| seen.contains(&paid) && !seen.contains(&(paid + 1));
            assert_eq!(is_wanted(&table).await, is_live(0) || is_live(2), "{seen:?}");
        }
        // What is paid for here is later than every end that is known.
        assert!(table.pay("p4", &order("a")).await.unwrap());
        assert!(is_wanted(&table).await);
    }
}

// covers: R2-05, R2-26
#[tokio::test]
async fn an_end_is_that_of_what_was_paid_for_under_its_id() {
    let (_dir, _store, table) = fresh().await;
    table.heed(&paid("p1", 1, "sub_1")).await.unwrap();
    table.want(&["a"], Desired::Gone).await.unwrap();
    assert!(!table.heed(&paid("p1-again", 2, "sub_1")).await.unwrap(), "one purchase");
    assert!(!is_wanted(&table).await, "what people have ended is paid for anew");
    table.heed(&paid("p2", 3, "sub_2")).await.unwrap();
    assert_eq!(table.provider_id("a").await.unwrap().as_deref(), Some("sub_2"));
    assert!(!table.heed(&ended("e1", 9, "sub_1")).await.unwrap(), "late, and of the old one");
    assert!(is_wanted(&table).await);
    assert!(table.heed(&ended("e2", 3, "sub_2")).await.unwrap());
    assert!(!is_wanted(&table).await);
    assert_eq!(table.provider_id("a").await.unwrap(), None);
    // A late event of what is over is taken without a word, also where something else is there now.
    let row = table.get("a").await.unwrap().unwrap();
    assert!(table.turn(&row, State::Gone).await.unwrap());
    let large = Subscription::new("a", "acme", Preset::Large, "fsn1").unwrap();
    assert!(table.pay("p3", &large).await.unwrap());
    assert!(!table.heed(&paid("p2-again", 4, "sub_2")).await.unwrap());
    assert!(!table.heed(&paid("p1", 1, "sub_1")).await.unwrap());
    assert_eq!(table.heed(&paid("p4", 4, "sub_4")).await.unwrap_err().code(), "other_options");
}

#[tokio::test]
async fn what_is_paid_by_hand_is_ended_at_its_second_and_not_by_the_end_of_something_else() {
    let (_dir, _store, table) = fresh().await;
    table.heed(&paid("p1", 1, "sub_1")).await.unwrap();
    table.want(&["a"], Desired::Gone).await.unwrap();
    assert!(table.pay("p2", &order("a")).await.unwrap());
    let now = SystemClock.wall().as_millis() / 1_000;
    assert!(!table.heed(&ended("e1", now + 60, "sub_1")).await.unwrap(), "of something else");
    assert!(!table.heed(&ended("e0", now - 60, "sub_0")).await.unwrap(), "from before it");
    assert!(is_wanted(&table).await);
    // The provider tells the second alone, and the payment may be some milliseconds into it.
    assert!(table.heed(&ended("e2", now, "sub_2")).await.unwrap());
    assert!(!is_wanted(&table).await);
}

// covers: R2-26
#[tokio::test]
async fn a_payment_that_comes_after_its_own_end_keeps_nothing_that_is_to_end() {
    let (_dir, _store, table) = fresh().await;
    table.heed(&paid("p1", 1, "sub_1")).await.unwrap();
    let row = table.get("a").await.unwrap().unwrap();
    let ending = Ending { subscription: "a".to_owned(), payments: row.payments };
    assert!(!table.heed(&ended("e2", 5, "sub_2")).await.unwrap());
    assert!(!table.heed(&paid("p2", 3, "sub_2")).await.unwrap(), "it is over");
    assert!(!table.heed(&ended("e2-again", 5, "sub_2")).await.unwrap());
    assert_eq!(table.get("a").await.unwrap().unwrap().payments, 1);
    // What is paid for anew is another matter.
    table.heed(&paid("p3", 4, "sub_3")).await.unwrap();
    assert!(!table.end(&ending).await.unwrap());
    assert!(table.end(&Ending { payments: 2, ..ending }).await.unwrap());
    assert!(!is_wanted(&table).await);
}

#[tokio::test]
async fn what_was_ordered_to_end_ends_although_a_payment_comes_after_its_own_end() {
    let (_dir, _store, table) = fresh().await;
    table.heed(&paid("p1", 1, "sub_1")).await.unwrap();
    table.heed(&ended("e2", 5, "sub_2")).await.unwrap();
    table.heed(&paid("p2", 3, "sub_2")).await.unwrap();
    let ordered = Ending { subscription: "a".to_owned(), payments: 1 };
    assert!(table.end(&ordered).await.unwrap());
    assert!(!is_wanted(&table).await);
}

// covers: R2-05
#[tokio::test]
async fn the_end_of_what_was_refused_or_never_paid_ends_nothing_else() {
    let (_dir, _store, table) = fresh().await;
    assert!(table.pay("p1", &order("a")).await.unwrap());
    let now = SystemClock.wall().as_millis() / 1_000;
    let mut other = paid("p2", now, "sub_2");
    let larger = Subscription::new("a", "acme", Preset::Large, "fsn1").unwrap();
    other.what = What::Paid { order: larger, provider: "sub_2".to_owned() };
    assert_eq!(table.heed(&other).await.unwrap_err().code(), "other_options");
    table.set_aside("sub_3").await.unwrap();
    for (event, provider) in [("e2", "sub_2"), ("e3", "sub_3")] {
        assert!(!table.heed(&ended(event, now + 60, provider)).await.unwrap(), "{provider}");
    }
    assert!(is_wanted(&table).await);
    assert!(table.heed(&ended("e4", now + 60, "sub_4")).await.unwrap());
}

#[tokio::test]
async fn a_table_without_ids_goes_on_and_what_was_over_stays_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let before = "create table payments (
            event text primary key, subscription text not null, at integer not null) strict;
        create table ends (
            event text primary key, subscription text not null, at integer not null) strict;
        insert into payments values ('p1', 'a', 1000), ('p2', 'b', 1000), ('p3', 'b', 3000);
        insert into ends values ('e1', 'a', 2000), ('e2', 'b', 2000), ('e3', 'c', 2000)";
    store.execute_host(move |tx| tx.execute_batch(before)).await.unwrap();
    for _ in 0..2 {
        let table = Table::open(&store).await.unwrap();
        let over = |conn: &rusqlite::Connection| {
            let mut query = conn.prepare(
                "select event from payments where over and event <> 'p4'
                    order by event",
            )?;
            let events = query.query_map([], |row| row.get::<_, String>(0))?;
            events.collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(store.query_host(over).await.unwrap(), ["p1", "p2"]);
        // An end that an earlier program has noted is told by time.
        let late = Notice {
            what: What::Paid {
                order: Subscription::new("c", "acme", Preset::Small, "fsn1").unwrap(),
                provider: "sub_c".to_owned(),
            },
            ..paid("p4", 2, "")
        };
        assert!(!table.heed(&late).await.unwrap());
        assert!(table.get("c").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_lost_race_and_a_write_that_the_guard_refuses_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    let saga = ending(&table).unwrap();
    let engine = Engine::builder(store.clone()).register(saga).build().await.unwrap();
    let ending = Ending { subscription: "a".to_owned(), payments: 1 };
    let run = || async { engine.start(END, &ending).prepare().await.unwrap() };
    table.pay("e1", &order("a")).await.unwrap();
    let pending = table.get("a").await.unwrap().unwrap();
    // No pending subscription becomes one that is off.
    let refused = table.begin(&pending, State::Stopped, run().await).await.unwrap_err();
    assert_eq!(refused.code(), "host_write_failed");
    assert!(table.begin(&pending, State::Provisioning, run().await).await.unwrap());
    assert!(!table.begin(&pending, State::Provisioning, run().await).await.unwrap(), "lost");
    let runs = engine.runs(&Default::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1, "what was refused has left no run: {runs:?}");
}

// covers: R2-59
#[tokio::test]
async fn beats_are_counted_once_each_and_for_the_machine_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("provision.db")).await.unwrap();
    let table = Table::open(&store).await.unwrap();
    table.pay("e1", &order("a")).await.unwrap();
    let run = "0197b000-0000-7000-8000-000000000001";
    let other = "0197b000-0000-7000-8000-000000000002";
    let set = |run: &'static str| {
        store.execute_host(move |tx| {
            tx.execute_batch("drop trigger if exists no_illegal_change")?;
            tx.execute("update subscriptions set state = 'running', run = ?1", [run])
        })
    };
    set(run).await.unwrap();
    let asked = |run: &str, answered| Asked {
        subscription: "a".to_owned(),
        run: run.parse().unwrap(),
        answered,
    };
    let noted =
        async |beat, one| table.note_heard(at(beat), vec![one], "ops@example.com").await.unwrap();
    let heard = async || table.get("a").await.unwrap().unwrap().heard;
    let none: [String; 0] = [];
    assert_eq!(noted(60, asked(run, true)).await, none);
    assert_eq!(noted(120, asked(run, false)).await, none, "one is no alarm");
    assert!(heard().await.unwrap().is_well());
    // The mail is written with the beat. Written again for the same beat, as after a crash, it
    // counts nothing and tells nothing again, whatever has come between.
    let told = async || table.queued().await.unwrap();
    assert_eq!(told().await, []);
    assert_eq!(noted(180, asked(run, false)).await, ["a"]);
    let mail = told().await;
    assert_eq!((mail.len(), mail[0].1.text.as_deref()), (1, Some("a\n")));
    assert_eq!(noted(180, asked(run, false)).await, none);
    let two = heard().await.unwrap();
    assert_eq!((two.missed, two.seen_at, two.is_well()), (2, Some(at(60)), false));
    assert_eq!(noted(240, asked(run, false)).await, none, "it was told");
    assert_eq!(noted(180, asked(run, false)).await, none, "too late to count");
    assert_eq!(told().await, mail);
    assert_eq!(noted(120, asked(run, true)).await, none, "too late to count");
    assert_eq!(heard().await.unwrap().missed, 3);
    // Of a machine that is not this subscription's any more nothing is said.
    set(other).await.unwrap();
    assert_eq!(heard().await, None);
    assert_eq!(noted(300, asked(run, false)).await, none);
    assert_eq!(noted(360, asked(other, false)).await, none);
    assert_eq!(heard().await.unwrap().missed, 1);
}
