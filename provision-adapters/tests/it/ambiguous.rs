//! Every request that may change something, with every way in which its end can stay unknown: on
//! the way forward, on the way back, and where nobody tries again. Driven by the real engine.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use provision_adapters::{
    n8n::sim::Release,
    sim::{Fault, FaultRule, RequestLine},
};
use provision_core::{By, Outcome, RunHandle};

use crate::{
    engine::{Build, Scene, Stage, each_alone, ended, paused},
    scenes::{OnGitHub, OnGitHubEvents, OnN8n, OnSupabase, OnVercel},
    scenes_hetzner::{OnHetzner, OnMachine},
    scenes_storage::OnStorage,
    scenes_tailscale::OnTailscale,
};

/// The ways in which the end of a request stays unknown, within the times the adapter declares.
fn unknown_ends<S: Scene>(scene: &S) -> Vec<Fault> {
    // A little less than declared: the bound itself is the provider's last moment.
    let within = |time: Duration| time - Duration::from_millis(500);
    vec![
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::CutBody,
        Fault::LateLanding(within(scene.late())),
        Fault::LateVisible(within(scene.lag())),
        Fault::LostAndLateVisible(within(scene.lag())),
    ]
}

/// Method and path, with names and ids left out.
fn template(line: &RequestLine) -> String {
    let fixed = |part: &str| {
        let version = part.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        // Commands are joined by `_`, and longer than other words.
        let longest = if part.contains('_') { 24 } else { 15 };
        let word = part.len() <= longest
            && part.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
        version || (word && !part.starts_with("client"))
    };
    let parts = line.path.split('/').map(|part| if fixed(part) { part } else { "*" });
    format!("{} {}", line.method, parts.collect::<Vec<_>>().join("/"))
}

struct Case<S> {
    scene: S,
    build: Build,
    /// Which of the changing requests it happens to, from 1.
    nth: u64,
    fault: Fault,
    /// Kinds that stand when it succeeded.
    expected: Vec<String>,
}

impl<S: Scene> Case<S> {
    fn name(&self, hit: &str) -> String {
        let Build { fails, gives_up } = self.build;
        let (nth, fault) = (self.nth, &self.fault);
        format!("request {nth} ({hit}), {fault:?}, fails: {fails}, gives up: {gives_up}")
    }
}

/// What an undisturbed run asks for, in its order, and what it leaves.
fn undisturbed<S: Scene>(scene: &S, build: Build) -> (Vec<String>, Vec<String>) {
    paused(async {
        let stage = Stage::set(scene.clone(), build).await;
        let run = stage.start().await;
        let outcome = ended(&run).await;
        match build.fails {
            true => assert!(matches!(outcome, Outcome::RolledBack(Some(_))), "{outcome:?}"),
            false => assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}"),
        }
        stage.assert_ledger_is_the_world(run.id(), "undisturbed").await;
        assert_eq!(kinds(&stage).is_empty(), build.fails);
        let asked = stage.changes().iter().map(template).collect();
        let made = kinds(&stage);
        stage.close().await;
        (asked, made)
    })
}

fn kinds<S: Scene>(stage: &Stage<S>) -> Vec<String> {
    let mut kinds: Vec<String> = stage.made().into_iter().map(|item| item.kind).collect();
    kinds.sort();
    kinds.dedup_by(|a, b| a == b && stage.scene.may_repeat(a));
    kinds
}

async fn stands_and_is_torn_down<S: Scene>(
    stage: &Stage<S>,
    run: &RunHandle<String>,
    (expected, name): (&Vec<String>, &str),
) {
    stage.assert_ledger_is_the_world(run.id(), name).await;
    assert_eq!(&kinds(stage), expected, "{name}");
    // What lands late lands while the run's things stand.
    stage.pass(Duration::from_secs(300)).await;
    assert_eq!(&kinds(stage), expected, "{name}: later");
    stage.engine.tear_down(run.id(), By::default()).await.unwrap();
    stage.pass(Duration::from_secs(5)).await;
    assert_eq!(ended(run).await, Outcome::TornDown, "{name}");
}

/// One run with one fault: it recovers or is undone, and in the end nothing is left.
async fn disturbed<S: Scene>(case: &Case<S>) -> String {
    let stage = Stage::set(case.scene.clone(), case.build).await;
    let rule = FaultRule::new(case.fault.clone()).changing().nth(case.nth).once();
    stage.server.faults().add(rule);
    let run = stage.start().await;
    let outcome = ended(&run).await;
    let hit = stage.server.requests().iter().find(|line| line.fault.is_some()).map(template);
    let hit = hit.unwrap_or_else(|| "nothing".to_owned());
    let name = case.name(&hit);
    match (&outcome, case.build) {
        (Outcome::Succeeded(_), Build { fails: false, .. }) => {
            stands_and_is_torn_down(&stage, &run, (&case.expected, &name)).await;
        }
        (
            Outcome::RolledBack(Some(_)),
            Build { fails: true, .. } | Build { gives_up: true, .. },
        ) => {}
        _ => panic!("{name}: {outcome:?}"),
    }
    stage.assert_as_before(run.id(), &name).await;
    stage.pass(Duration::from_secs(300)).await;
    stage.assert_as_before(run.id(), &format!("{name}: later")).await;
    stage.close().await;
    hit
}

/// Which fault happened to which request, in which scene and build: another's says nothing.
type Hit = (String, String, String);

static HIT: Mutex<BTreeSet<Hit>> = Mutex::new(BTreeSet::new());

fn hit<S: Scene>(scene: &S, build: Build, fault: &Fault, request: String) -> Hit {
    (format!("{scene:?} {build:?}"), fault.name().to_owned(), request)
}

fn matrix<S: Scene>(scene: &S) {
    let mut cases = Vec::new();
    let mut wanted = BTreeSet::new();
    for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END, Build::GIVES_UP] {
        let (asked, made) = undisturbed(scene, build);
        for fault in unknown_ends(scene) {
            for (nth, request) in (1..).zip(&asked) {
                wanted.insert(hit(scene, build, &fault, request.clone()));
                let (fault, expected) = (fault.clone(), made.clone());
                cases.push(Case { scene: scene.clone(), build, nth, fault, expected });
            }
        }
    }
    each_alone(cases, |case| {
        let request = paused(disturbed(case));
        let mut hits = HIT.lock().unwrap_or_else(PoisonError::into_inner);
        hits.insert(hit(&case.scene, case.build, &case.fault, request));
    });
    let hits = HIT.lock().unwrap_or_else(PoisonError::into_inner);
    let missed: Vec<_> = wanted.difference(&hits).collect();
    assert!(missed.is_empty(), "never faulted: {missed:?}");
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_github_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnGitHub);
}

// covers: S7, S9, S12, S14
#[test]
fn on_github_no_unknown_end_of_an_event_leaves_anything_behind() {
    matrix(&OnGitHubEvents);
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_supabase_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnSupabase);
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_vercel_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnVercel);
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_n8n_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnN8n { release: Release::V2_8 });
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_an_n8n_that_publishes_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnN8n { release: Release::PublishOnly });
}

// covers: S7, S9, S11, S12, S14
#[test]
fn on_tailscale_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnTailscale);
}

// covers: S7, S9, S11, S12, S14, R2-09
#[test]
fn on_hetzner_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnHetzner { keyed: true });
}

// covers: S7, S9, S11, S12, S14, R2-24
#[test]
fn on_a_machine_no_unknown_end_leaves_anything_twice_or_behind() {
    matrix(&OnMachine);
}

// covers: S7, S9, S11, S12, S14, R3-20, R3-21
#[test]
fn in_a_storage_no_unknown_end_leaves_anything_twice_or_behind() {
    let scene = OnStorage::new();
    matrix(&scene);
    assert_eq!(scene.spooled(), [""; 0], "nothing stays on this machine");
}
