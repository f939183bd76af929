//! Answers that get lost: a way in between that cuts where it is told to.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use provision_core::store::{Appended, NewRun, StateStore as _, Submission, Submitted};
use provision_store_redis::{RedisConfig, RedisStore};
use provision_testkit::conformance::{append_of, new_worker, run_head};

use crate::{everything::everything, server::Server, way::Way};

async fn through(way: &Way) -> RedisStore {
    let config = RedisConfig::new(&way.url).with_polling_only();
    config.with_response_timeout(Duration::from_secs(2)).open().await.unwrap()
}

// covers: S19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_answer_is_lost_is_found_by_its_repeat() {
    let Some(server) = Server::start("") else { return };
    let way = Way::to(server.port()).await;
    let store = through(&way).await;
    // The server knows the scripts now: else the lost answer were that it does not.
    everything(&store).await;
    let mut head = run_head();
    head.key = Some("order-1".to_owned());
    let id = head.id;
    let start = [Submission::Run(Box::new(NewRun { head, lease_to: None }))];
    way.deaf.store(true, Relaxed);
    let error = store.submit(&start).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    way.deaf.store(false, Relaxed);
    let Submitted::Known(found) = again(&store, &start).await else { panic!("not known") };
    assert_eq!(found.id, id);

    let new =
        NewRun { head: run_head(), lease_to: Some((new_worker(), Duration::from_secs(60)).into()) };
    let Submitted::Created(Some(leased)) = again(&store, &[Submission::Run(Box::new(new))]).await
    else {
        panic!("not created")
    };
    for seq in 1..=20 {
        way.deaf.store(true, Relaxed);
        let error = store.append(&[append_of(&leased, seq)]).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        way.deaf.store(false, Relaxed);
        let begun = Instant::now();
        let answers = loop {
            match store.append(&[append_of(&leased, seq)]).await {
                Ok(answers) => break answers,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
        };
        assert_eq!(answers, [Appended::Applied { requests: 0, lease_lost: false }]);
    }
    let record = store.load(&[leased.record.head.id]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.frames.len(), 20);
}

async fn again(store: &RedisStore, batch: &[Submission]) -> Submitted {
    let begun = Instant::now();
    loop {
        match store.submit(batch).await {
            Ok(mut answers) => return answers.remove(0),
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}
