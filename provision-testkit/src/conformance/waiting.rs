//! How long a claim waits, and what ends the wait.

use std::time::Duration;

use provision_core::queue::Claim;
use tokio::time::{Instant, timeout};

use super::{Fixture, proposing::offered, run_head};

/// Nothing should take as long as this; it ends a case that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn waiting(wait: Duration) -> Claim {
    Claim { limit: 9, queues: Vec::new(), except: Vec::new(), wait }
}

/// A claim that finds nothing answers with nothing when its wait is over.
pub async fn a_claim_ends_with_its_wait(f: Fixture) {
    let wait = Duration::from_millis(60);
    let start = Instant::now();
    let found = timeout(PATIENCE, f.main.queue.claim(&waiting(wait))).await.unwrap().unwrap();
    assert!(found.is_empty());
    let waited = start.elapsed();
    assert!(waited >= wait - Duration::from_millis(5) && waited < PATIENCE, "{waited:?}");
}

/// A claim that finds something does not wait.
pub async fn a_claim_that_finds_something_does_not_wait(f: Fixture) {
    let run = offered(&f, run_head()).await;
    let wait = waiting(PATIENCE * 10);
    let found = f.main.queue.claim(&wait);
    assert_eq!(timeout(PATIENCE, found).await.unwrap().unwrap(), [run]);
}

/// A run that is offered while a claim waits ends the wait, through whichever handle it came.
// covers: L7, R3-10
pub async fn an_offer_ends_the_wait(f: Fixture) {
    let wait = waiting(PATIENCE);
    let claim = timeout(PATIENCE, f.again.queue.claim(&wait));
    let offer = async {
        f.advance(Duration::from_millis(20)).await;
        offered(&f, run_head()).await
    };
    let (found, run) = tokio::join!(claim, offer);
    assert_eq!(found.unwrap().unwrap(), [run]);
}

/// A claim ends by itself when a run becomes due.
// covers: L7
pub async fn a_due_time_ends_the_wait(f: Fixture) {
    let mut head = run_head();
    head.due = f.later(f.ttl / 4).await;
    let run = offered(&f, head).await;
    let wait = waiting(PATIENCE);
    let claim = timeout(PATIENCE, f.main.queue.claim(&wait));
    let (found, ()) = tokio::join!(claim, f.advance(f.ttl / 2));
    assert_eq!(found.unwrap().unwrap(), [run]);
}

/// A wait that is given up loses nothing.
pub async fn a_cancelled_claim_loses_nothing(f: Fixture) {
    for _ in 0..5 {
        let claim = waiting(PATIENCE);
        let cut = timeout(Duration::from_millis(3), f.main.queue.claim(&claim)).await;
        assert!(cut.is_err(), "nothing was there to find");
    }
    let run = offered(&f, run_head()).await;
    let found = timeout(PATIENCE, f.main.queue.claim(&waiting(PATIENCE))).await;
    assert_eq!(found.unwrap().unwrap(), [run]);
}
