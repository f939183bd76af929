//! What a network does to calls: 24 behaviours, and five answers that quote what was sent, on the
//! requests of every adapter, driven by the real engine.
//!
//! Of each it is asserted that the call is classed right, that it ends by its deadline, that no secret
//! shows anywhere, and that in the end nothing is there twice or left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::OnceLock,
    time::Duration,
};

use provision_adapters::{
    n8n::sim::Release,
    sim::{Fault, FaultRule, Provider, RequestLine, RetryAfterForm, SimServer},
};
use provision_core::{
    CallKind, Effect, Outcome, RunId, StepError, Verdict, store::StateStore as _,
};
use provision_testkit::{harness::encodings, skips::is_long};
use serde_json::Value;

use crate::{
    canary::{assert_nothing_shows, drawn, shown, texts},
    engine::{Build, CALL_WITHIN, Over, Scene, Stage, each_alone, ended, hastily, paused},
    github::all_texts,
    resend_runs::OnResend,
    scenes::{OnGitHub, OnGitHubEvents, OnN8n, OnSupabase, OnVercel, TOKEN},
    scenes_elevenlabs::OnElevenLabs,
    scenes_hetzner::{OnHetzner, OnMachine},
    scenes_storage::OnStorage,
    scenes_tailscale::OnTailscale,
};

/// What the failure of a call that changes something has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It may have landed; a look comes first.
    Unknown,
    /// It may have landed, and repeating it does not help.
    Misled,
    /// It did nothing, and is repeated after a wait.
    Waits,
    /// It did nothing, and repeating it does not help.
    Refused,
    /// As the provider's own table says.
    Any,
}

struct Behaviour {
    name: &'static str,
    fault: Fault,
    class: Class,
    /// Whether some calls may take no harm from it: their answer has no body, or they come again at
    /// once with another token.
    may_pass: bool,
}

/// Nobody listens to it: who is sent there must not go.
fn elsewhere() -> &'static TcpListener {
    static ELSEWHERE: OnceLock<TcpListener> = OnceLock::new();
    ELSEWHERE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    })
}

/// The 24 behaviours, and the five answers of a careless gateway that says again what it was sent.
fn behaviours() -> Vec<Behaviour> {
    use Class::{Any, Misled, Refused, Unknown, Waits};
    let long = Duration::from_secs(600);
    let other = format!("http://{}/", elsewhere().local_addr().unwrap());
    let limited = |retry_after| Fault::RateLimited { retry_after };
    let all = [
        ("refused", Fault::RefuseBefore, Unknown),
        ("reset", Fault::ResetAfter, Unknown),
        ("dropped after the effect", Fault::DropAfter, Unknown),
        ("a kept connection closed under it", Fault::ResetBefore, Unknown),
        ("half open", Fault::HalfOpen, Unknown),
        ("bad TLS", Fault::TlsAlert, Unknown),
        ("a cut body", Fault::CutBody, Unknown),
        ("an endless body", Fault::EndlessBody { bytes: 64 << 20 }, Unknown),
        ("a body byte by byte", Fault::Trickle(Duration::from_millis(5)), Unknown),
        ("slow headers", Fault::SlowHeaders(long), Unknown),
        ("a length too large", Fault::LyingLength, Unknown),
        ("a length too small", Fault::ShortLength, Unknown),
        ("a page with 200", Fault::Html200, Unknown),
        ("garbage with 200", Fault::Garbage200, Unknown),
        ("a gzip bomb", Fault::GzipBomb { bytes: 64 << 20 }, Unknown),
        ("500 after the effect", Fault::StatusAfter(500), Unknown),
        ("a redirect loop", Fault::RedirectLoop, Misled),
        ("a redirect to another host", Fault::Redirect(other), Refused),
        ("a token revoked in the middle", Fault::TokenRevoked, Refused),
        ("429 with seconds", limited(RetryAfterForm::Seconds(1)), Waits),
        ("429 with a date", limited(RetryAfterForm::Date(2)), Waits),
        ("429 with a reset", limited(RetryAfterForm::Reset(2)), Waits),
        ("429 without a word", limited(RetryAfterForm::Absent), Waits),
        ("429 with a page", limited(RetryAfterForm::Page(1)), Waits),
        ("400 that quotes", Fault::Echo(400), Any),
        ("403 that quotes", Fault::Echo(403), Any),
        ("409 that quotes", Fault::Echo(409), Any),
        ("422 that quotes", Fault::Echo(422), Any),
        ("500 that quotes", Fault::Echo(500), Any),
    ];
    let passes = ["a length too small", "a token revoked in the middle"];
    all.into_iter()
        .map(|(name, fault, class)| Behaviour {
            name,
            fault,
            class,
            may_pass: class == Any || passes.contains(&name),
        })
        .collect()
}

struct Case<S> {
    scene: S,
    build: Build,
    nth: u64,
    behaviour: Option<usize>,
    expected: BTreeMap<String, usize>,
}

impl<S: Scene> Case<S> {
    fn name(&self) -> String {
        let told = self.behaviour.map(|at| behaviours().swap_remove(at).name);
        format!("{:?}, request {}, {told:?}, {:?}", self.scene, self.nth, self.build)
    }
}

/// How many of each kind a run has made.
fn counted<S: Scene>(stage: &Stage<S>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for item in stage.made() {
        *kinds.entry(item.kind).or_default() += 1;
    }
    kinds
}

/// Nothing is there twice; all of it where the run says so, and nothing where it says that.
fn assert_no_duplicate<S: Scene>(case: &Case<S>, stage: &Stage<S>, outcome: &Outcome<String>) {
    let (name, made) = (case.name(), counted(stage));
    for (kind, count) in &made {
        let most = case.expected.get(kind).copied().unwrap_or_default();
        let repeated = case.scene.may_repeat(kind);
        assert!(repeated || *count <= most, "{name}: {count} of {kind}: {outcome:?}");
    }
    match outcome {
        Outcome::Succeeded(_) => {
            // An event that comes before the workflows are known starts none of them.
            let sure = |kinds: &BTreeMap<String, usize>| -> Vec<String> {
                kinds.keys().filter(|kind| !case.scene.may_repeat(kind)).cloned().collect()
            };
            assert_eq!(sure(&made), sure(&case.expected), "{name}: {outcome:?}");
        }
        Outcome::RolledBack(_) => assert!(made.is_empty(), "{name}: left {made:?}"),
        _ => {}
    }
}

/// Class and code of a failure, as the journal has them.
///
/// Of a step that has paid before the call, the effect is that of what it paid for.
fn class_of(failed: &Value, paid: bool) -> (Option<Class>, String) {
    let verdict = &failed["verdict"];
    let kind = verdict.as_str().or_else(|| verdict.as_object()?.keys().next().map(String::as_str));
    let class = match (failed["failure"]["effect"].as_str(), kind) {
        (Some("unknown" | "applied"), Some("retry")) => Some(Class::Unknown),
        (Some(_), Some("throttled")) if paid => Some(Class::Waits),
        (Some(_), Some(_)) if paid => Some(Class::Refused),
        (Some("unknown" | "applied"), Some(_)) => Some(Class::Misled),
        (Some("none"), Some("throttled")) => Some(Class::Waits),
        (Some("none"), Some("permanent" | "operator")) => Some(Class::Refused),
        _ => None,
    };
    (class, failed["failure"].to_string())
}

/// The failure of a call, by what the journal says of the time after it.
async fn failure_of<S: Scene>(stage: &Stage<S>, run: &RunId, call: &Over) -> Option<Value> {
    let record = stage.store.load(&[*run]).await.unwrap().into_iter().next()??;
    for frame in record.frames.iter().filter(|frame| frame.at >= call.at) {
        let records: Vec<Value> = serde_json::from_str(&frame.body).unwrap();
        for record in records {
            let failed = &record["failed"];
            if failed["failure"]["operation"] == call.operation {
                return Some(failed.clone());
            }
        }
    }
    None
}

/// The class of the disturbed call is the right one.
async fn assert_class<S: Scene>(case: &Case<S>, stage: &Stage<S>, run: &RunId) {
    let Some(behaviour) = case.behaviour.map(|at| behaviours().swap_remove(at)) else { return };
    let line = stage.server.requests().into_iter().find(|line| line.fault.is_some());
    let call = stage.calls().into_iter().find(|call| call.disturbed);
    let (Some(line), Some(call)) = (line, call) else {
        panic!("{}: nothing was disturbed", case.name())
    };
    let what = format!("{} ({} {})", case.name(), call.operation, line.path);
    // A call that only looks has no class to get wrong but this: it did nothing.
    if call.kind == CallKind::Read || is_exempt(&line) {
        return;
    }
    let paid = line.path.ends_with("/song.mp3");
    let failure = failure_of(stage, run, &call).await;
    match (failure.map(|failed| class_of(&failed, paid)), behaviour.class) {
        (None, _) => assert!(behaviour.may_pass, "{what}: taken for a success"),
        (Some(_), Class::Any) => {}
        (Some((class, failure)), wanted) => {
            let misled = paid && wanted == Class::Misled && class == Some(Class::Refused);
            let fits = class == Some(wanted) || misled;
            assert!(fits, "{what}: {class:?} and not {wanted:?}: {failure}");
        }
    }
}

/// A machine that joins a tailnet is no call of an adapter: its step is the tests' own.
fn is_exempt(line: &RequestLine) -> bool {
    line.path.starts_with("/sim/")
}

/// Runs one case; tells how many secrets of its own it had.
fn check<S: Scene>(case: &Case<S>) -> usize {
    let name = case.name();
    let run = || {
        paused(async {
            let stage = Stage::set(case.scene.clone(), case.build).await;
            if let Some(at) = case.behaviour {
                let fault = behaviours().swap_remove(at).fault;
                stage.server.faults().add(FaultRule::new(fault).nth(case.nth).once());
            }
            let run = stage.start().await;
            let outcome = ended(&run).await;
            stage.pass(Duration::from_secs(300)).await;
            assert_no_duplicate(case, &stage, &outcome);
            assert_class(case, &stage, run.id()).await;
            for call in stage.calls() {
                let most = CALL_WITHIN + Duration::from_millis(5);
                assert!(call.took <= most, "{name}: {call:?} went on after its deadline");
            }
            let mut texts = texts(&stage).await;
            texts.push(("the outcome", format!("{outcome:?}")));
            let secrets = drawn(&stage);
            stage.close().await;
            (texts, secrets)
        })
    };
    let ((texts, secrets), seen) = shown(|| hastily(run));
    let went = elsewhere().accept();
    assert!(went.is_err(), "{name}: somebody went where a redirect led");
    assert_nothing_shows(&name, &secrets, (&seen, &texts));
    secrets.len()
}

/// Plays every behaviour on one call of an adapter whose time-out is [`CALL_WITHIN`], without an
/// engine: for calls that a whole run makes only after a long time.
pub(crate) async fn plays_alone<P: Provider>(
    server: &SimServer<P>,
    (method, path): (&str, &str),
    call: impl AsyncFn() -> Result<(), StepError>,
) {
    for behaviour in behaviours() {
        let name = behaviour.name;
        let rule = FaultRule::new(behaviour.fault.clone()).method(method).path_contains(path);
        server.faults().add(rule.once());
        let before = server.faults().fired().len();
        // Other calls come before it, each of which has its own time.
        let ended = tokio::time::timeout(Duration::from_secs(60), call()).await.expect(name);
        assert_eq!(server.faults().fired().len(), before + 1, "{name}: nothing was disturbed");
        server.faults().clear();
        let Err(error) = ended else {
            assert!(behaviour.may_pass, "{name}: taken for a success");
            continue;
        };
        let class = match (error.effect(), error.verdict()) {
            (Effect::None, Verdict::Throttled { .. }) => Class::Waits,
            (Effect::None, _) => Class::Refused,
            (_, Verdict::Retry { .. }) => Class::Unknown,
            _ => Class::Misled,
        };
        let fits = class == behaviour.class || behaviour.may_pass;
        assert!(fits, "{name}: {class:?} and not {:?}: {error}", behaviour.class);
        let told = all_texts(&error);
        for form in encodings(TOKEN) {
            assert!(!told.contains(&form), "{name}: {form} in {told}");
        }
    }
    assert!(elsewhere().accept().is_err(), "somebody went where a redirect led");
}

/// The requests of a run that nothing disturbs, and what it leaves when it goes well.
fn undisturbed<S: Scene>(scene: &S, build: Build) -> (Vec<RequestLine>, BTreeMap<String, usize>) {
    paused(async {
        let stage = Stage::set(scene.clone(), build).await;
        ended(&stage.start().await).await;
        let out = (stage.server.requests(), counted(&stage));
        stage.close().await;
        out
    })
}

fn changes(line: &RequestLine) -> bool {
    !matches!(&*line.method, "GET" | "HEAD")
}

/// Which requests meet which behaviours: in the long lane all of them all. Else each request that
/// changes something meets every twelfth, the next one those beside them, so that every behaviour falls
/// on requests from everywhere; and a few requests that only look meet every third. The way back is
/// included.
fn disturbed(requests: &[RequestLine]) -> Vec<(u64, usize)> {
    let long = is_long();
    let every = requests.len().div_ceil(6).max(1);
    let mut all = Vec::new();
    for (at, line) in requests.iter().enumerate() {
        for number in 0..behaviours().len() {
            let chosen = match changes(line) {
                true => (at + number) % 12 == 0,
                false => at % every == 0 && (at + number) % 3 == 0,
            };
            if long || chosen {
                all.push((at as u64 + 1, number));
            }
        }
    }
    all
}

fn matrix<S: Scene>(scene: &S, own: usize) {
    let (_, expected) = undisturbed(scene, Build::GOES_WELL);
    let mut cases = Vec::new();
    for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END] {
        let (requests, _) = undisturbed(scene, build);
        for (nth, behaviour) in disturbed(&requests) {
            let (scene, expected) = (scene.clone(), expected.clone());
            cases.push(Case { scene, build, nth, behaviour: Some(behaviour), expected });
        }
    }
    let (build, expected) = (Build::GOES_WELL, expected);
    let nothing = Case { scene: scene.clone(), build, nth: 0, behaviour: None, expected };
    assert!(check(&nothing) >= own, "the search has nothing to look for");
    each_alone(cases, |case| {
        check(case);
    });
}

// covers: X6, L4
#[test]
fn there_are_24_behaviours_and_429_comes_in_five_forms() {
    let all = behaviours();
    let names: BTreeSet<_> = all.iter().map(|one| one.name).collect();
    assert_eq!(names.len(), all.len());
    assert_eq!(all.iter().filter(|one| one.class != Class::Any).count(), 24);
    assert_eq!(all.iter().filter(|one| one.class == Class::Waits).count(), 5);
}

// covers: X1, X2, X6, S9, R1-61, R1-15
#[test]
fn on_github_no_network_misleads_a_call() {
    matrix(&OnGitHub, 0);
}

// covers: X1, X2, X6, S9
#[test]
fn on_github_no_network_misleads_an_event() {
    matrix(&OnGitHubEvents, 0);
}

// covers: X1, X2, X6, S9, R1-61, R1-15
#[test]
fn on_supabase_no_network_misleads_a_call() {
    matrix(&OnSupabase, 2);
}

// covers: X1, X2, X6, S9, R1-61, R1-15
#[test]
fn on_vercel_no_network_misleads_a_call() {
    matrix(&OnVercel, 0);
}

// covers: X1, X2, X6, S9, R1-61, R1-15
#[test]
fn on_n8n_no_network_misleads_a_call() {
    matrix(&OnN8n { release: Release::V2_8 }, 1);
}

// covers: X1, X2, X6, S9, R1-61, R2-10
#[test]
fn on_tailscale_no_network_misleads_a_call() {
    matrix(&OnTailscale, 2);
}

// covers: X1, X2, X6, S9, R1-61, R1-15, R2-09
#[test]
fn on_hetzner_no_network_misleads_a_call() {
    // Without a key the provider draws a password, and shows it once.
    matrix(&OnHetzner { keyed: false }, 1);
}

// covers: X1, X2, X6, S9, R1-61
#[test]
fn on_a_machine_no_network_misleads_a_call() {
    // One password is drawn when it is made, and one when it is made anew.
    matrix(&OnMachine, 2);
}

// covers: X1, X2, X6, S9, R1-61
#[test]
fn in_a_storage_no_network_misleads_a_call() {
    matrix(&OnStorage::new(), 0);
}

// covers: X1, X2, X6, S9, R1-61
#[test]
fn on_elevenlabs_no_network_misleads_a_call() {
    matrix(&OnElevenLabs::default(), 0);
}

// covers: X1, X2, X6, S9, R1-61
#[test]
fn on_resend_no_network_misleads_a_call() {
    matrix(&OnResend::default(), 0);
}

/// The reason of routes that only people take, and tests that act their part.
const PEOPLE: &str = "no call of an adapter";

/// Routes that the matrix leaves out, each with the reason.
const LEFT_OUT: [(&str, &str); 24] = [
    ("* /api/v1/projects/**", PEOPLE),
    ("* /api/v1/variables/**", PEOPLE),
    ("* /webhook-test/**", PEOPLE),
    ("* /webhook/**", "a look, with a method that the webhook does not take"),
    ("DELETE /api/v1/executions/*", PEOPLE),
    ("DELETE /api/v1/tags/*", PEOPLE),
    ("DELETE /storage/v1/object/*", "`supabase_storage` plays it alone"),
    ("PATCH /*/deployments/*/cancel", PEOPLE),
    ("PATCH /repos/*/*", PEOPLE),
    ("PATCH /repos/*/*/actions/variables/*", PEOPLE),
    ("POST /*/files", PEOPLE),
    ("POST /api/v1/audit", PEOPLE),
    ("POST /api/v1/tags", PEOPLE),
    ("POST /api/v2/device/*/authorized", PEOPLE),
    ("POST /api/v2/device/*/tags", PEOPLE),
    (
        "POST /app/installations/*/access_tokens",
        "buys a token that ends by itself: a call that only looks",
    ),
    ("POST /orgs/*/repos", PEOPLE),
    ("POST /p/*/rest/v1/rpc/*", "a look of the anonymous role, where a schema has functions"),
    (
        "POST /repos/*/*/actions/runs/*/force-cancel",
        "`github_ends` plays it alone: it comes after ten looks",
    ),
    ("POST /storage/v1/object/list-v2/*", "a call that only looks"),
    (
        "POST /storage/v1/object/sign/**",
        "signs an address that ends by itself: a call that only looks",
    ),
    ("POST /user/repos", PEOPLE),
    ("PUT /api/v1/workflows/*/tags", PEOPLE),
    ("PUT /repos/*/*/contents/**", PEOPLE),
];

/// The routes of a provider that no scene of it takes.
fn untaken<S: Scene>(scenes: &[S]) -> BTreeSet<&'static str> {
    let mut left = BTreeSet::new();
    for scene in scenes {
        left.extend(scene.sim().changing_routes());
    }
    for scene in scenes {
        for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END] {
            let (requests, _) = undisturbed(scene, build);
            let taken = disturbed(&requests);
            let taken = taken
                .iter()
                .filter_map(|(nth, _)| requests.get(usize::try_from(*nth).ok()? - 1)?.route);
            for route in taken {
                left.remove(route);
            }
        }
    }
    left
}

// covers: X1, S9
#[test]
fn no_route_that_changes_something_is_left_out_of_the_matrix() {
    let github = &untaken(&[OnGitHub]) & &untaken(&[OnGitHubEvents]);
    let hetzner = &untaken(&[OnHetzner { keyed: true }]) & &untaken(&[OnMachine]);
    let n8n = [OnN8n { release: Release::V2_8 }, OnN8n { release: Release::PublishOnly }];
    let mut left = [github, hetzner, untaken(&n8n), untaken(&[OnSupabase]), untaken(&[OnVercel])];
    let mut left: BTreeSet<_> = left.iter_mut().flat_map(std::mem::take).collect();
    left.append(&mut untaken(&[OnTailscale]));
    left.append(&mut untaken(&[OnStorage::new()]));
    left.append(&mut untaken(&[OnElevenLabs::default()]));
    left.append(&mut untaken(&[OnResend::default()]));
    let told: BTreeSet<_> = LEFT_OUT.iter().map(|(route, _)| *route).collect();
    let unsaid: Vec<_> = left.difference(&told).collect();
    assert!(unsaid.is_empty(), "no case takes {unsaid:#?}");
    let stale: Vec<_> = told.difference(&left).collect();
    assert!(stale.is_empty(), "a case takes {stale:#?}");
    assert!(LEFT_OUT.iter().all(|(_, why)| !why.is_empty()));
}
