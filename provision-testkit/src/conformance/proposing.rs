//! What a queue proposes: due runs, as a hint.

use std::time::Duration;

use provision_core::{
    id::{RunId, Timestamp},
    queue::{Claim, Offer, QueueStats},
    store::{LeaseRequest, RunHead},
};

use super::{
    Fixture, acquire_any, append_of,
    given::{held_for, until},
    new_worker, run_head,
};

/// Starts a run and offers it, as an engine does whose queue is not its state store.
pub(super) async fn offered(f: &Fixture, head: RunHead) -> RunId {
    let offer = offer_of(&head);
    let run = f.main.started(head).await;
    f.main.queue.offer(&[offer]).await.expect("offer answers");
    run
}

fn offer_of(head: &RunHead) -> Offer {
    Offer {
        run: head.id,
        queue: head.queue.clone(),
        priority: head.priority,
        tenant: head.tenant.clone(),
        due: head.due,
    }
}

/// Claims without waiting.
pub(super) async fn claim(f: &Fixture, limit: usize) -> Vec<RunId> {
    let claim = Claim { limit, queues: Vec::new(), except: Vec::new(), wait: Duration::ZERO };
    f.main.queue.claim(&claim).await.expect("claim answers")
}

/// A due run is proposed.
pub async fn a_due_run_is_proposed(f: Fixture) {
    let run = offered(&f, run_head()).await;
    assert_eq!(claim(&f, 9).await, [run]);
}

/// A run that is due later is not proposed before.
pub async fn a_later_run_is_not_proposed_before(f: Fixture) {
    let mut head = run_head();
    head.due = f.later(f.ttl).await;
    let run = offered(&f, head).await;
    assert!(claim(&f, 9).await.is_empty());
    f.advance(f.ttl).await;
    assert_eq!(claim(&f, 9).await, [run]);
}

/// No more runs are proposed than asked for.
pub async fn proposals_keep_the_limit(f: Fixture) {
    for _ in 0..4 {
        offered(&f, run_head()).await;
    }
    assert_eq!(claim(&f, 3).await.len(), 3);
}

/// Only runs of the named queues are proposed.
// covers: R1-24
pub async fn proposals_keep_to_the_named_queues(f: Fixture) {
    offered(&f, run_head()).await;
    let mut head = run_head();
    head.queue = "bulk".to_owned();
    let run = offered(&f, head).await;
    let claim = Claim {
        limit: 9,
        queues: vec!["bulk".to_owned(), "none".to_owned()],
        except: Vec::new(),
        wait: Duration::ZERO,
    };
    assert_eq!(f.main.queue.claim(&claim).await.unwrap(), [run]);
}

/// Higher priorities are proposed first.
// covers: R1-11
pub async fn proposals_come_by_priority(f: Fixture) {
    let mut ids = Vec::new();
    for priority in [0, 7, -7] {
        let mut head = run_head();
        head.priority = priority;
        ids.push(offered(&f, head).await);
    }
    assert_eq!(claim(&f, 1).await, [ids[1]]);
}

/// A proposal decides nothing: delivered three times, the run is leased once.
// covers: S23
pub async fn a_run_proposed_three_times_is_leased_once(f: Fixture) {
    let run = offered(&f, run_head()).await;
    let mut leased = 0;
    for _ in 0..3 {
        let mut request = acquire_any(new_worker(), f.ttl);
        request.acquire.as_mut().unwrap().runs = Some(vec![run, run]);
        leased += f.main.lease(&request).await.leased.len();
    }
    assert_eq!(leased, 1);
}

/// A proposal that was lost is found by the store's own scan.
// covers: S23
pub async fn a_lost_proposal_is_found_by_the_store(f: Fixture) {
    let run = offered(&f, run_head()).await;
    claim(&f, 9).await;
    f.main.queue.ack(&[run]).await.unwrap();
    assert_eq!(f.take(new_worker()).await[0].record.head.id, run);
}

/// An entry that was claimed but not leased comes again, at the latest after a lease's time.
// covers: S23
pub async fn an_unleased_proposal_comes_again(f: Fixture) {
    let run = offered(&f, run_head()).await;
    assert_eq!(claim(&f, 9).await, [run]);
    f.expire().await;
    f.main.queue.offer(&[offer_of(&f.main.head(run).await)]).await.unwrap();
    assert_eq!(claim(&f, 9).await, [run]);
}

/// After the record that ends a run and its ack, the run is not proposed any more.
pub async fn an_ended_run_is_not_proposed(f: Fixture) {
    let run = offered(&f, run_head()).await;
    let leased = f.take(new_worker()).await.remove(0);
    let mut end = append_of(&leased, 1);
    end.release = Some(until(Timestamp::NEVER));
    f.main.applied(end).await;
    f.main.queue.ack(&[run]).await.unwrap();
    f.expire().await;
    assert!(claim(&f, 9).await.is_empty());
}

/// Offering a known run again moves its due time.
pub async fn an_offer_moves_the_due_time(f: Fixture) {
    let head = run_head();
    let run = offered(&f, head.clone()).await;
    let mut offer = offer_of(&head);
    offer.due = f.later(f.ttl * 50).await;
    f.main.queue.offer(&[offer.clone()]).await.unwrap();
    assert!(claim(&f, 9).await.is_empty());
    offer.due = Timestamp::ZERO;
    f.again.queue.offer(&[offer]).await.unwrap();
    assert_eq!(claim(&f, 9).await, [run]);
}

/// Offers and acks of unknown runs, and empty ones, are no trouble.
pub async fn unknown_runs_are_no_trouble(f: Fixture) {
    f.main.queue.offer(&[]).await.unwrap();
    f.main.queue.ack(&[]).await.unwrap();
    f.main.queue.wake(&[]).await.unwrap();
    f.main.queue.ack(&[run_head().id]).await.unwrap();
    f.main.queue.wake(&[run_head().id]).await.unwrap();
    assert_eq!(claim(&f, 0).await, []);
}

/// The figures count what is due, what is later, and the age of the oldest.
// covers: R5-12
pub async fn figures_count_ready_and_delayed_runs(f: Fixture) {
    assert_eq!(f.main.queue.stats().await.unwrap(), QueueStats::default());
    let mut now = run_head();
    now.due = f.main.state.now().await.unwrap();
    offered(&f, now).await;
    let mut later = run_head();
    later.due = f.later(f.ttl * 50).await;
    offered(&f, later).await;
    f.advance(f.ttl).await;
    let stats = f.again.queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.delayed), (1, 1));
    let ttl_ms = u64::try_from(f.ttl.as_millis()).unwrap();
    assert!(stats.oldest_ms >= ttl_ms, "{stats:?}");
}

/// What is named as an exception is not proposed, and does not end a wait.
// covers: L3
pub async fn a_queue_that_is_excepted_is_passed_over(f: Fixture) {
    let mut head = run_head();
    head.queue = "full".to_owned();
    head.priority = 9;
    offered(&f, head).await;
    let mut claim = Claim {
        limit: 9,
        queues: Vec::new(),
        except: vec!["full".to_owned(), "none".to_owned()],
        wait: Duration::from_millis(30),
    };
    assert!(f.main.queue.claim(&claim).await.unwrap().is_empty());
    let run = offered(&f, run_head()).await;
    assert_eq!(f.main.queue.claim(&claim).await.unwrap(), [run]);
    claim.queues = vec!["full".to_owned()];
    assert!(f.main.queue.claim(&claim).await.unwrap().is_empty());
}

/// A run given back until later is proposed then.
pub async fn a_released_run_is_proposed_when_it_is_due(f: Fixture) {
    let run = offered(&f, run_head()).await;
    let worker = new_worker();
    let leased = f.take(worker).await.remove(0);
    assert!(claim(&f, 9).await.is_empty() || f.take(new_worker()).await.is_empty());
    let due = f.later(f.ttl).await;
    let release = vec![(run, leased.fence, until(due))];
    f.main.lease(&LeaseRequest { release, ..held_for(worker, f.ttl) }).await;
    let mut offer = offer_of(&leased.record.head);
    offer.due = due;
    f.main.queue.offer(&[offer]).await.unwrap();
    assert!(claim(&f, 9).await.is_empty());
    f.advance(f.ttl).await;
    assert_eq!(claim(&f, 9).await, [run]);
}
