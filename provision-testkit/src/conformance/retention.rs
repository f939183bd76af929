//! Runs that are over: which may be removed, what goes with them, and what stays known.

use provision_core::{
    error::{Failure, StepError},
    id::{ExternalId, Payload, RunId, Timestamp},
    ledger::{LedgerOp, LedgerQuery, LedgerReply, LedgerRow, Origin, ResourceState, Sighting},
    retention::{Prune, PruneStep, Tombstone, TombstoneQuery},
    run::{RunStatus, RunSummary},
    secret::{Sealed, SecretKey},
    store::{
        Append, Appended, Guard, GuardUntil, NewRun, Parent, RunFilter, RunHead, Submission,
        Submitted,
    },
};

use super::{Fixture, Handle, append_of, given::until, ledger_row, new_worker, run_head};

/// The append that ends a run, and gives its lease back.
fn end_of(append: Append, status: RunStatus) -> Append {
    Append { status, open: false, release: Some(until(Timestamp::NEVER)), ..append }
}

/// A run that has ended so long ago.
fn over(status: RunStatus) -> RunHead {
    RunHead { status, due: Timestamp::NEVER, ..run_head() }
}

fn child_of(parent: RunId, head: RunHead) -> RunHead {
    RunHead { parent: Some(Parent { run: parent, path: "sub".to_owned() }), ..head }
}

fn sighting(run: RunId, id: &str) -> Sighting {
    Sighting {
        run,
        path: "vm".to_owned(),
        generation: 1,
        provider: "hetzner".to_owned(),
        kind: "server".to_owned(),
        external_id: ExternalId::new(id),
        epoch: 1,
        at: Timestamp::from_millis(7),
    }
}

fn gone(run: RunId) -> LedgerRow {
    LedgerRow {
        state: ResourceState::Gone,
        until: Some(Timestamp::from_millis(9)),
        ..ledger_row(run, "vm", "web")
    }
}

/// A run that succeeded, with these rows in the ledger.
async fn ended(f: &Fixture, head: RunHead, rows: Vec<LedgerRow>) -> RunId {
    let run = head.id;
    let leased = f.leased(new_worker(), head).await;
    let append = Append { ledger: rows, ..append_of(&leased, 1) };
    f.main.applied(end_of(append, RunStatus::Succeeded)).await;
    run
}

/// One step of a walk over everything that is over by now.
async fn step(f: &Fixture) -> Prune {
    Prune { succeeded: true, ..Prune::before(f.later(f.ttl).await) }
}

async fn pruned(handle: &Handle, prune: &Prune) -> PruneStep {
    handle.retention.prune(prune).await.expect("prune answers")
}

/// What one walk over all runs removes.
async fn removed(f: &Fixture) -> Vec<RunId> {
    pruned(&f.main, &step(f).await).await.runs
}

async fn tombstone(handle: &Handle, run: RunId) -> Option<Tombstone> {
    let query = TombstoneQuery::Runs(vec![run]);
    handle.retention.tombstones(&query).await.expect("tombstones are read").pop()
}

async fn is_there(handle: &Handle, run: RunId) -> bool {
    handle.state.load(&[run]).await.expect("load answers").remove(0).is_some()
}

/// Runs under way, parked, paused, leased and due ones stay; so do those that ended too late.
// covers: S1, S17, L5
pub async fn only_runs_that_are_over_and_rest_are_removed(f: Fixture) {
    let mut stay = vec![f.main.started(run_head()).await];
    for status in RunStatus::ALL {
        let leased = f.leased_run(new_worker()).await;
        f.main.applied(end_of(append_of(&leased, 1), status)).await;
        if !status.is_end() {
            stay.push(leased.record.head.id);
        }
    }
    // Over, and still held.
    let leased = f.leased_run(new_worker()).await;
    f.main
        .applied(Append { status: RunStatus::Succeeded, open: false, ..append_of(&leased, 1) })
        .await;
    stay.push(leased.record.head.id);
    // Over, and asked for something that nobody has looked at yet.
    let asked = ended(&f, run_head(), Vec::new()).await;
    f.main.request(asked, "1").await;
    stay.push(asked);
    let early = Prune { ended_before: Timestamp::from_millis(2), ..step(&f).await };
    assert_eq!(pruned(&f.main, &early).await, PruneStep::default(), "they ended after that");
    let gone = removed(&f).await;
    assert_eq!(gone.len(), RunStatus::ALL.into_iter().filter(|status| status.is_end()).count());
    for run in stay {
        assert!(is_there(&f.main, run).await, "{run} was removed");
        assert!(tombstone(&f.main, run).await.is_none());
    }
}

/// A run of which anything exists, may exist, is watched, or holds its business key, stays.
// covers: S1, S15
pub async fn nothing_that_may_exist_is_forgotten(f: Fixture) {
    let rows = |run: RunId| {
        let plain = ledger_row(run, "vm", &format!("web-{run}"));
        [
            LedgerRow { state: ResourceState::Unknown, external_id: None, ..plain.clone() },
            LedgerRow { state: ResourceState::LeftBehind, ..plain.clone() },
            LedgerRow { origin: Origin::Adopted, ..plain.clone() },
            LedgerRow { watch_at: Some(Timestamp::ZERO), ..gone(run) },
            // What the watch has found and removes.
            LedgerRow { index: 1, ..plain.clone() },
            plain,
        ]
    };
    let mut held = Vec::new();
    for n in 0..rows(run_head().id).len() {
        let head = run_head();
        let row = rows(head.id)[n].clone();
        let other = LedgerRow { path: "other".to_owned(), ..gone(head.id) };
        held.push(ended(&f, head, vec![other, row]).await);
    }
    let guarded = RunHead {
        guard: Some(Guard { key: "client:7".to_owned(), until: GuardUntil::Gone }),
        ..run_head()
    };
    held.push(ended(&f, guarded, Vec::new()).await);
    let free = {
        let head = run_head();
        let row = gone(head.id);
        ended(&f, head, vec![row]).await
    };
    assert_eq!(removed(&f).await, [free]);
    for run in held {
        assert!(is_there(&f.main, run).await, "{run} was removed");
    }
}

/// What a worker without a lease has seen keeps its run until the ledger says what became of it.
// covers: S1, S5
pub async fn what_a_worker_saw_too_late_keeps_its_run(f: Fixture) {
    let head = run_head();
    let row = gone(head.id);
    let run = ended(&f, head, vec![row.clone()]).await;
    let seen = |id: &str| sighting(run, id);
    assert!(f.main.changes(LedgerOp::Sight(seen("id-web"))).await);
    assert!(f.main.changes(LedgerOp::Sight(seen("id-late"))).await);
    assert!(removed(&f).await.is_empty(), "nobody knows what became of one of them");
    let id = Some(ExternalId::new("id-late"));
    let late = LedgerRow { index: 1, external_id: id, ..row };
    assert!(f.main.changes(LedgerOp::Enter(Box::new(late))).await);
    assert_eq!(removed(&f).await, [run]);
    match f.main.ledger(LedgerOp::Sightings(Some(run))).await {
        LedgerReply::Sightings(left) => assert!(left.is_empty(), "found {left:?}"),
        other => panic!("expected sightings, found {other:?}"),
    }
}

/// Row, journal, requests, ledger and sealed values go; those of others stay.
// covers: S1
pub async fn everything_of_a_run_goes_with_it(f: Fixture) {
    let key = |scope: String| SecretKey {
        scope,
        generation: 1,
        name: "password".to_owned(),
        path: "vm".to_owned(),
    };
    let sealed = Sealed { format: 1, key_id: "k1".to_owned(), bytes: vec![7] };
    let (head, other) = (run_head(), run_head());
    let (run, stays) = (head.id, other.id);
    for (head, row) in [(head, gone(run)), (other, ledger_row(stays, "vm", "live"))] {
        let scope = head.id.to_string();
        let leased = f.leased(new_worker(), head).await;
        let mut append = append_of(&leased, 1);
        append.ledger = vec![row];
        append.sealed = vec![(key(scope), sealed.clone())];
        f.main.applied(end_of(append, RunStatus::Succeeded)).await;
    }
    let vault = key("vault/acme".to_owned());
    f.main.secrets.put(&vault, &sealed).await.unwrap();
    assert_eq!(removed(&f).await, [run]);
    assert!(!is_there(&f.again, run).await);
    let listed = f.again.state.list(&RunFilter::default()).await.unwrap().runs;
    assert_eq!(listed.into_iter().map(|head| head.id).collect::<Vec<_>>(), [stays]);
    let rows = f.again.rows(LedgerQuery::default()).await;
    assert_eq!(rows.into_iter().map(|row| row.run).collect::<Vec<_>>(), [stays]);
    let left = f.again.secrets.keys(None).await.unwrap();
    assert_eq!(left.len(), 2, "found {left:?}");
    assert!(left.contains(&vault) && left.contains(&key(stays.to_string())));
    assert!(f.take(new_worker()).await.is_empty());
}

/// The key answers with what is left, to the same start and to another; both change nothing.
// covers: S1, S2
pub async fn the_key_of_a_removed_run_stays_known(f: Fixture) {
    let head = RunHead { key: Some("order:1".to_owned()), ..run_head() };
    let run = ended(&f, head.clone(), Vec::new()).await;
    let last = f.main.head(run).await;
    assert_eq!(removed(&f).await, [run]);
    let left = tombstone(&f.again, run).await.expect("a tombstone is left");
    assert_eq!(
        left,
        Tombstone { pruned_at: left.pruned_at, ..Tombstone::of(&last, left.pruned_at) }
    );
    assert_eq!((left.status, left.ended_at), (RunStatus::Succeeded, last.updated_at));
    assert!(left.pruned_at >= left.ended_at);
    let known = f.again.retention.tombstones(&TombstoneQuery::Key("order:1".to_owned())).await;
    assert_eq!(known.unwrap(), std::slice::from_ref(&left));
    let start = |input_hash: &str| RunHead {
        key: Some("order:1".to_owned()),
        input_hash: input_hash.to_owned(),
        ..run_head()
    };
    for (input_hash, same) in [("input-1", true), ("input-2", false)] {
        let head = start(input_hash);
        let saga = head.saga.name.clone();
        match f.again.start(head).await {
            Submitted::Pruned(found) => {
                assert_eq!(*found, left);
                assert_eq!(found.is_of(&saga, input_hash), same);
            }
            other => panic!("expected what is left, found {other:?}"),
        }
    }
    // A start whose answer was lost, sent again after all that.
    assert!(matches!(f.main.start(head).await, Submitted::Pruned(found) if found.run == run));
    assert!(f.main.state.list(&RunFilter::default()).await.unwrap().runs.is_empty());
}

/// Requests, also such as would open it again, are answered with what it was; appends are stale.
// covers: S1, S17
pub async fn orders_to_a_removed_run_learn_what_it_was(f: Fixture) {
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    f.main.applied(end_of(append_of(&leased, 1), RunStatus::RolledBack)).await;
    assert_eq!(removed(&f).await, [run]);
    let body = Payload::null();
    for asked in [Submission::Request { run, body: body.clone() }, Submission::Reopen { run, body }]
    {
        match f.main.submit(asked).await {
            Submitted::Pruned(found) => {
                assert_eq!((found.run, found.status), (run, RunStatus::RolledBack));
            }
            other => panic!("expected what is left, found {other:?}"),
        }
    }
    assert_eq!(f.main.append(append_of(&leased, 2)).await, Appended::Stale);
    let unknown = Submission::Request { run: run_head().id, body: Payload::null() };
    assert!(matches!(f.main.submit(unknown).await, Submitted::NoSuchRun));
    assert!(f.take(new_worker()).await.is_empty());
}

/// What needs a person is kept, unless the host says otherwise.
// covers: L5
pub async fn a_dead_letter_stays_until_somebody_says_so(f: Fixture) {
    let failure = Some(Failure::of("vm", 1, &StepError::permanent("create")));
    let summary = RunSummary { failure, ..RunSummary::default() };
    assert!(summary.is_dead_letter(RunStatus::RolledBack));
    let leased = f.leased_run(new_worker()).await;
    let run = leased.record.head.id;
    let append = Append { summary, ..append_of(&leased, 1) };
    f.main.applied(end_of(append, RunStatus::RolledBack)).await;
    assert!(removed(&f).await.is_empty());
    let all = Prune { dead_letters: true, ..step(&f).await };
    assert_eq!(pruned(&f.main, &all).await.runs, [run]);
    let letters = RunFilter { dead_letters: true, ..RunFilter::default() };
    assert!(f.main.state.list(&letters).await.unwrap().runs.is_empty());
}

/// A step removes no more than it was told, the oldest first, and the next one goes on behind it.
// covers: S25
pub async fn steps_are_bounded_and_go_on_where_they_stopped(f: Fixture) {
    let mut runs = Vec::new();
    for n in 0..7 {
        let head = run_head();
        let row = ledger_row(head.id, "vm", &format!("live-{n}"));
        let rows = if n == 2 { vec![row] } else { Vec::new() };
        runs.push(ended(&f, head, rows).await);
    }
    let kept = runs.remove(2);
    let mut prune = Prune { limit: 2, ..step(&f).await };
    let mut steps = Vec::new();
    loop {
        let pruned = pruned(&f.main, &prune).await;
        assert!(pruned.runs.len() <= 2, "found {pruned:?}");
        steps.extend(pruned.runs);
        prune.after = pruned.next;
        if prune.after.is_none() {
            break;
        }
    }
    assert_eq!(steps, runs);
    assert!(is_there(&f.main, kept).await);
    assert_eq!(
        pruned(&f.main, &step(&f).await).await,
        PruneStep::default(),
        "the walk is at its end"
    );
}

/// A step that has removed long journals removes nothing more.
// covers: S25
pub async fn a_long_journal_ends_a_step(f: Fixture) {
    let frames = Prune::FRAMES_MAX / 3 + 1;
    let (worker, mut heads) = (new_worker(), Vec::new());
    for _ in 0..4 {
        heads.push(f.leased(worker, run_head()).await);
    }
    for seq in 1..=frames {
        // Renewed now and then: so many appends take longer than a lease.
        if seq.is_multiple_of(100) {
            f.renew(worker).await;
        }
        let next = |leased| match seq {
            seq if seq < frames => append_of(leased, seq),
            last => end_of(append_of(leased, last), RunStatus::Succeeded),
        };
        let batch: Vec<_> = heads.iter().map(next).collect();
        let answers = f.main.state.append(&batch).await.expect("append answers");
        let applied = |answer: &Appended| matches!(answer, Appended::Applied { .. });
        assert!(answers.iter().all(applied), "found {answers:?}");
    }
    let runs: Vec<_> = heads.into_iter().map(|leased| leased.record.head.id).collect();
    let first = pruned(&f.main, &step(&f).await).await;
    assert_eq!(first, PruneStep { runs: runs[..3].to_vec(), next: Some(runs[2]) });
    assert_eq!(removed(&f).await, runs[3..]);
}

/// A parent stays as long as something below it must; its children stay as long as it does.
// covers: S1, L5
pub async fn a_parent_goes_before_its_children_and_not_without_them(f: Fixture) {
    let parent = ended(&f, run_head(), Vec::new()).await;
    let child = ended(&f, child_of(parent, run_head()), Vec::new()).await;
    let below = child_of(child, run_head());
    let row = ledger_row(below.id, "vm", "below");
    let grandchild = ended(&f, below, vec![row.clone()]).await;
    assert!(removed(&f).await.is_empty(), "what is below could not be torn down any more");
    let gone = LedgerRow { state: ResourceState::Gone, ..row };
    assert!(f.main.changes(LedgerOp::Enter(Box::new(gone))).await);
    let one = Prune { limit: 1, ..step(&f).await };
    assert_eq!(pruned(&f.main, &one).await.runs, [parent]);
    // Their ids are later than their parents', so one walk takes all of them.
    assert_eq!(removed(&f).await, [child, grandchild]);
    let children = RunFilter { parent: Some(parent), ..RunFilter::default() };
    assert!(f.main.state.list(&children).await.unwrap().runs.is_empty());
}

/// What succeeded may still stand, whatever the ledger says: it stays unless the host says so.
// covers: S1
pub async fn what_may_stand_is_removed_on_request_only(f: Fixture) {
    let mut standing = Vec::new();
    let mut undone = Vec::new();
    for status in RunStatus::ALL.into_iter().filter(|status| status.is_end()) {
        let run = f.main.started(over(status)).await;
        match status {
            RunStatus::RolledBack | RunStatus::TornDown => undone.push(run),
            _ => standing.push(run),
        }
    }
    // One that was undone stays as long as something below it stands.
    let parent = f.main.started(over(RunStatus::RolledBack)).await;
    let child = child_of(parent, over(RunStatus::RolledBackKeeping));
    let child = f.main.started(child).await;
    let plain = Prune { succeeded: false, ..step(&f).await };
    assert_eq!(pruned(&f.main, &plain).await.runs, undone);
    standing.extend([parent, child]);
    for run in &standing {
        assert!(is_there(&f.main, *run).await, "{run} was removed");
    }
    assert_eq!(removed(&f).await, standing);
}

/// A child that ended a moment ago, or that nobody has looked at, keeps its parent.
// covers: S1, L5
pub async fn a_child_keeps_its_parent_as_it_keeps_itself(f: Fixture) {
    let parent = f.main.started(over(RunStatus::RolledBack)).await;
    let leased = f.leased(new_worker(), child_of(parent, run_head())).await;
    let child = leased.record.head.id;
    let failure = Some(Failure::of("vm", 1, &StepError::permanent("create")));
    let summary = RunSummary { failure, ..RunSummary::default() };
    let append = Append { summary, ..append_of(&leased, 1) };
    f.main.applied(end_of(append, RunStatus::RolledBack)).await;
    let ended_before = f.main.head(child).await.updated_at;
    assert!(f.main.head(parent).await.updated_at < ended_before);
    let letters = Prune { dead_letters: true, ..step(&f).await };
    let young = Prune { ended_before, ..letters.clone() };
    assert_eq!(pruned(&f.main, &young).await, PruneStep::default(), "the child is too young");
    assert!(removed(&f).await.is_empty(), "nobody has looked at the child");
    assert_eq!(pruned(&f.main, &letters).await.runs, [parent, child]);
}

/// Nobody could end a removal that was begun for a run that is not there any more.
// covers: S1, S15
pub async fn nothing_is_entered_for_a_removed_run(f: Fixture) {
    let run = f.main.started(over(RunStatus::TornDown)).await;
    let watch_at = Some(f.later(f.ttl).await);
    let late = LedgerRow { index: 7, watch_at, ..ledger_row(run, "vm", "late") };
    assert_eq!(removed(&f).await, [run]);
    for row in [late.clone(), LedgerRow { index: 0, ..late }, gone(run)] {
        assert!(!f.main.changes(LedgerOp::Enter(Box::new(row))).await);
    }
    assert!(f.again.rows(LedgerQuery::default()).await.is_empty());
    f.advance(f.ttl * 2).await;
    let claim = LedgerOp::ClaimWatch { worker: new_worker(), hold: f.ttl, limit: 10 };
    match f.main.ledger(claim).await {
        LedgerReply::Rows(rows) => assert!(rows.is_empty(), "found {rows:?}"),
        other => panic!("expected rows, found {other:?}"),
    }
}

/// What is seen after its run was removed stays to be told.
// covers: S1, S5
pub async fn a_sighting_outlives_its_run(f: Fixture) {
    let run = f.main.started(over(RunStatus::TornDown)).await;
    assert_eq!(removed(&f).await, [run]);
    let seen = sighting(run, "id-late");
    assert!(f.main.changes(LedgerOp::Sight(seen.clone())).await);
    match f.again.ledger(LedgerOp::Sightings(None)).await {
        LedgerReply::Sightings(found) => assert_eq!(found, [seen]),
        other => panic!("expected sightings, found {other:?}"),
    }
    assert_eq!(tombstone(&f.main, run).await.map(|left| left.run), Some(run));
}

/// Starts runs that are over, all at once.
async fn many(f: &Fixture, heads: impl Iterator<Item = RunHead>) -> Vec<RunId> {
    let heads: Vec<_> = heads.collect();
    let runs = heads.iter().map(|head| head.id).collect();
    let starts: Vec<_> = heads
        .into_iter()
        .map(|head| Submission::Run(Box::new(NewRun { head, lease_to: None })))
        .collect();
    let answers = f.main.state.submit(&starts).await.expect("submit answers");
    assert!(answers.iter().all(|answer| matches!(answer, Submitted::Created(None))));
    runs
}

/// A step looks at so many runs, whether or not they may go, and the next one goes on behind them.
// covers: S25
pub async fn a_step_ends_after_so_many_looks(f: Fixture) {
    let looks = Prune::LOOKS_MAX;
    let stay = many(&f, (0..looks + 10).map(|_| over(RunStatus::Parked))).await;
    let run = f.main.started(over(RunStatus::RolledBack)).await;
    let first = pruned(&f.main, &step(&f).await).await;
    assert_eq!(first, PruneStep { runs: Vec::new(), next: Some(stay[looks - 1]) });
    let second = Prune { after: first.next, ..step(&f).await };
    assert_eq!(pruned(&f.main, &second).await, PruneStep { runs: vec![run], next: None });
}

/// Those below a run are looked at, too; one with too many below it stays.
// covers: S25
pub async fn a_family_is_looked_at_as_a_whole_and_may_be_too_large(f: Fixture) {
    let family = Prune::FAMILY_MAX;
    let large = f.main.started(over(RunStatus::RolledBack)).await;
    many(&f, (0..family).map(|_| child_of(large, over(RunStatus::RolledBack)))).await;
    let next = pruned(&f.main, &step(&f).await).await;
    assert_eq!(next, PruneStep { runs: Vec::new(), next: Some(large) }, "it is too large");
    let fits = f.main.started(over(RunStatus::RolledBack)).await;
    many(&f, (1..family).map(|_| child_of(fits, over(RunStatus::RolledBack)))).await;
    let mut prune = Prune { after: next.next, ..step(&f).await };
    prune.after = pruned(&f.main, &prune).await.next;
    assert!(prune.after < Some(fits), "children of the large one are looked at one by one");
    assert_eq!(
        pruned(&f.main, &prune).await,
        PruneStep { runs: vec![fits], next: Some(fits) },
        "it has used up the looks of its step",
    );
}

/// A dry run names what would go, and everything is still there.
pub async fn a_dry_run_changes_nothing(f: Fixture) {
    let head = RunHead { key: Some("order:1".to_owned()), ..run_head() };
    let run = ended(&f, head, Vec::new()).await;
    let before = f.main.head(run).await;
    let dry = Prune { dry_run: true, ..step(&f).await };
    assert_eq!(pruned(&f.main, &dry).await.runs, [run]);
    assert_eq!(f.main.head(run).await, before);
    assert_eq!(f.main.record(run).await.frames.len(), 1);
    assert!(tombstone(&f.main, run).await.is_none());
    assert_eq!(removed(&f).await, [run]);
}

/// A step that is repeated because its answer was lost removes nothing twice.
// covers: S19
pub async fn a_removed_run_is_removed_once(f: Fixture) {
    let run = ended(&f, run_head(), Vec::new()).await;
    let prune = step(&f).await;
    assert_eq!(pruned(&f.main, &prune).await.runs, [run]);
    let left = tombstone(&f.main, run).await;
    assert_eq!(pruned(&f.again, &prune).await, PruneStep::default());
    assert_eq!(tombstone(&f.again, run).await, left);
}

/// Tombstones go when the host says so, oldest ends first; the key then names a new run.
// covers: S1, S25
pub async fn a_forgotten_key_starts_anew(f: Fixture) {
    let keyed = |key: &str| RunHead { key: Some(key.to_owned()), ..run_head() };
    // Started after the other one, and over before it.
    let later = f.leased(new_worker(), keyed("order:2")).await;
    let run = ended(&f, keyed("order:1"), Vec::new()).await;
    f.advance(std::time::Duration::from_millis(20)).await;
    let other = later.record.head.id;
    f.main.applied(end_of(append_of(&later, 1), RunStatus::Succeeded)).await;
    assert_eq!(removed(&f).await, [other, run]);
    let by = f.later(f.ttl).await;
    let forget = |before, limit| f.main.retention.forget(before, limit);
    assert_eq!(forget(Timestamp::from_millis(2), 10).await.unwrap(), 0);
    assert_eq!(forget(by, 1).await.unwrap(), 1);
    assert!(tombstone(&f.main, run).await.is_none(), "it ended first");
    assert!(matches!(f.main.start(keyed("order:2")).await, Submitted::Pruned(_)));
    assert_eq!(forget(by, 10).await.unwrap(), 1);
    assert_eq!(forget(by, 10).await.unwrap(), 0);
    assert!(tombstone(&f.main, run).await.is_none());
    let again = f.main.started(keyed("order:1")).await;
    assert_ne!(again, run);
    // A run that is there is never forgotten.
    assert_eq!(f.main.retention.forget(f.later(f.ttl).await, 10).await.unwrap(), 0);
    assert!(matches!(f.main.start(keyed("order:1")).await, Submitted::Known(_)));
}

/// Of a schedule's firings that were removed, the one with the last key is told, whenever it ended.
pub async fn the_last_key_of_a_range_is_told(f: Fixture) {
    for key in ["tick:2", "tick:1", "tock:3", "tick", "tick:1:7", "tick:x"] {
        let head = RunHead { key: Some(key.to_owned()), ..run_head() };
        ended(&f, head, Vec::new()).await;
        f.advance(std::time::Duration::from_millis(20)).await;
    }
    let there = RunHead { key: Some("tick:3".to_owned()), ..run_head() };
    let leased = f.leased(new_worker(), there).await;
    assert_eq!(removed(&f).await.len(), 6);
    let last = async |from: &str, below: &str| {
        let query = TombstoneQuery::LastKey { from: from.to_owned(), below: below.to_owned() };
        let found = f.main.retention.tombstones(&query).await.expect("tombstones are read");
        assert!(found.len() <= 1, "found {found:?}");
        found.into_iter().find_map(|left| left.key)
    };
    assert_eq!(last("tick:0", "tick::").await.as_deref(), Some("tick:2"));
    assert_eq!(last("tick:0", "tick:2").await.as_deref(), Some("tick:1:7"));
    assert_eq!(last("tock:0", "tock::").await.as_deref(), Some("tock:3"));
    assert_eq!(last("tack:0", "tack::").await, None);
    // Runs that are there are listed, and what was removed is not among them.
    let filter = RunFilter { key_prefix: Some("tick:".to_owned()), ..RunFilter::default() };
    let listed = f.main.state.list(&filter).await.expect("list answers").runs;
    let listed: Vec<_> = listed.into_iter().map(|head| head.id).collect();
    assert_eq!(listed, [leased.record.head.id]);
}

/// Another namespace removes nothing here, knows nothing of it, and has the key to itself.
// covers: S24
pub async fn retention_stays_inside_its_namespace(f: Fixture) {
    let head = RunHead { key: Some("order:1".to_owned()), ..run_head() };
    let run = ended(&f, head.clone(), Vec::new()).await;
    let prune = step(&f).await;
    assert_eq!(pruned(&f.elsewhere, &prune).await, PruneStep::default());
    assert_eq!(pruned(&f.main, &prune).await.runs, [run]);
    assert!(tombstone(&f.elsewhere, run).await.is_none());
    assert_eq!(f.elsewhere.retention.forget(f.later(f.ttl).await, 10).await.unwrap(), 0);
    let there = Submission::Run(Box::new(NewRun { head, lease_to: None }));
    assert!(matches!(f.elsewhere.submit(there).await, Submitted::Created(None)));
    assert!(tombstone(&f.main, run).await.is_some());
}
