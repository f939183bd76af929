//! The host's table by itself.

use agent_hosting::{
    input::{Preset, Subscription},
    saga::Ending,
    table::{Desired, State, Table},
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
