//! What only a queue can propose that is the store itself: runs of workers whose lease is over.

use std::time::Duration;

use provision_core::{id::RunId, queue::Claim};
use tokio::time::timeout;

use super::{Fixture, new_worker, proposing::claim, run_head};

/// Nothing should take as long as this; it ends a case that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn waiting(wait: Duration) -> Claim {
    Claim { limit: 9, queues: Vec::new(), except: Vec::new(), wait }
}

async fn held(f: &Fixture, queue: &str) -> RunId {
    let mut head = run_head();
    head.queue = queue.to_owned();
    f.leased(new_worker(), head).await.record.head.id
}

/// What a worker holds whose lease is over is proposed, by the queues asked for, until another one
/// has it.
// covers: L2
pub async fn a_dead_workers_runs_are_proposed(f: Fixture) {
    let (plain, bulk) = (held(&f, "default").await, held(&f, "bulk").await);
    assert!(claim(&f, 9).await.is_empty(), "both have owners");
    f.expire().await;
    let mut found = claim(&f, 9).await;
    found.sort_unstable();
    assert_eq!(found, [plain, bulk]);
    assert_eq!(claim(&f, 1).await.len(), 1);
    let named = |queues: &[&str], except: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Claim { queues: names(queues), except: names(except), ..waiting(Duration::ZERO) }
    };
    for (claim, wanted) in [
        (named(&["bulk"], &[]), vec![bulk]),
        (named(&[], &["bulk"]), vec![plain]),
        (named(&["bulk"], &["bulk"]), Vec::new()),
        (named(&["other"], &[]), Vec::new()),
    ] {
        assert_eq!(f.again.queue.claim(&claim).await.unwrap(), wanted, "{claim:?}");
    }
    assert_eq!(f.take(new_worker()).await.len(), 2);
    assert!(claim(&f, 9).await.is_empty());
}

/// A claim ends by itself when a lease does.
// covers: L2, L7
pub async fn the_end_of_a_lease_ends_the_wait(f: Fixture) {
    let run = held(&f, "default").await;
    let wait = waiting(PATIENCE * 2);
    let claim = timeout(PATIENCE, f.again.queue.claim(&wait));
    let (found, ()) = tokio::join!(claim, f.expire());
    assert_eq!(found.expect("it waits on").unwrap(), [run]);
}

/// A worker that dies and holds nothing is no reason to look for work.
pub async fn a_dead_worker_that_holds_nothing_ends_no_wait(f: Fixture) {
    assert!(f.renew(new_worker()).await.alive);
    f.expire().await;
    let wait = waiting(Duration::from_millis(30));
    let claim = f.main.queue.claim(&wait);
    assert!(timeout(PATIENCE, claim).await.expect("it ends").unwrap().is_empty());
}
