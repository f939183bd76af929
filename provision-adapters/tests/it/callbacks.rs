//! An outside executor: a workflow is dispatched and found again, reports its phases by callbacks
//! that come doubled, shuffled, late or forged, and is stopped when its run is undone.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use proptest::{prelude::*, test_runner::TestRunner};
use provision_adapters::{
    github::{
        Dispatch, DispatchSpec,
        sim::{GitHubSim, Workflow},
    },
    webhook::{Answer, CALLBACK_BODY_MAX, CALLBACK_KEY_MIN, Callbacks, Report, UnusableKey},
};
use provision_core::{
    By, Engine, MemoryStore, Outcome, RunHandle, Saga, Secret, SignalId, Step, StepContext,
    StepError, Timestamp,
    resolver::MapResolver,
    store::{RunFilter, StateStore as _},
};
use provision_testkit::{harness::encodings, solo::SoloHost};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    engine::{Build, NOTHING, SAGA, Scene, Stage, paused},
    github::run,
    scenes::{TOKEN, github, resolver},
};

/// What a phase reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Phase {
    note: String,
}

const TERRAFORM_INIT: SignalId<Phase> = SignalId::new("terraform_init");
const VM_CREATED: SignalId<Phase> = SignalId::new("vm_created");
const ANSIBLE_CONFIGURE: SignalId<Phase> = SignalId::new("ansible_configure");
const NETWORK_JOINED: SignalId<Phase> = SignalId::new("network_joined");
const RUNNING: SignalId<Phase> = SignalId::new("running");
/// Known, and waited for by nobody.
const ANSIBLE_COMPLETE: SignalId<Phase> = SignalId::new("ansible_complete");
const ALL: [SignalId<Phase>; 6] =
    [TERRAFORM_INIT, VM_CREATED, ANSIBLE_CONFIGURE, NETWORK_JOINED, RUNNING, ANSIBLE_COMPLETE];
const KEY: &str = "0123456789abcdef0123456789abcdef-first";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210-other";
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const UNTIL: Timestamp = Timestamp::from_millis(1_767_229_200_000);

fn callbacks(keys: &[&str]) -> Callbacks {
    let callbacks = Callbacks::new(keys.iter().map(|key| Secret::new(*key))).unwrap();
    ALL.into_iter().fold(callbacks, Callbacks::accept)
}

/// The tokens of one execution, as its workflow gets them: by name, in one input.
fn tokens(callbacks: &Callbacks, cx: &StepContext) -> Secret {
    let token = |signal: SignalId<Phase>| {
        let token = callbacks.token(cx, signal, UNTIL);
        (signal.name().to_owned(), json!(token.expose()))
    };
    Secret::new(Value::Object(ALL.map(token).into_iter().collect()).to_string())
}

/// Refuses what the phases say, when they say so.
struct Judge;

impl Step for Judge {
    const KIND: &'static str = "test.judge";
    type Input = String;
    type Output = String;

    async fn run(&self, _: &StepContext, notes: String) -> Result<String, StepError> {
        match notes.contains("bad") {
            true => Err(StepError::permanent("judge").with_code("bad_notes")),
            false => Ok(notes),
        }
    }
}

/// A workflow that is told its tokens, and a run that waits for what it says.
#[derive(Debug, Clone, Copy, Default)]
struct OnWorkflow {
    /// How it ends, and that the run waits for that.
    conclusion: Option<&'static str>,
}

impl Scene for OnWorkflow {
    type Sim = GitHubSim;

    fn sim(&self) -> GitHubSim {
        let workflow = Workflow::new("deploy.yml")
            .dispatched_with(&["provision_key", "callbacks"])
            .named("Deploy ${{ inputs.provision_key }}");
        let workflow = match self.conclusion {
            Some(conclusion) => workflow.ending_as(conclusion),
            // One that nothing but its undo ends.
            None => workflow.working_for(Duration::from_secs(24 * 3_600)),
        };
        GitHubSim::acme(TOKEN).with_template("acme/ops", &[("a", "b")], &[workflow])
    }

    fn saga(&self, url: &str, _: Build) -> Saga<String, String> {
        let (make, waits) = (callbacks(&[KEY]), self.conclusion.is_some());
        let dispatch = Dispatch::new(&github(url))
            .with_look_again(Duration::from_millis(200))
            .with_input_at_sending("callbacks", move |cx| tokens(&make, cx));
        let saga = Saga::define(SAGA, |s| {
            let started = s.resource("deploy", dispatch).input((), move |_, ()| {
                let spec = DispatchSpec::new("acme/ops", "deploy.yml", "main");
                let spec = spec.with_key_input("provision_key");
                if waits { spec.until_succeeded() } else { spec }
            });
            let mut before = s.value("started").input(started, |_, run| run.html_url);
            let mut notes = s.value("none").input((), |_, ()| String::new());
            for (number, signal) in ALL.into_iter().take(5).enumerate() {
                let limit = |_: &String, ()| Duration::from_secs(600);
                let heard = s.signal(signal).after(before).input((), limit);
                let name = format!("note-{number}");
                notes =
                    s.value(name).input((notes, heard), |_, (notes, heard)| notes + &heard.note);
                before = notes;
            }
            s.step("judge", Judge, NOTHING).input(notes, |_, notes| notes)
        });
        saga.unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, state: Value) -> Value {
        state
    }

    fn same_ids(&self, _: &str) -> Option<&'static str> {
        None
    }

    fn lag(&self) -> Duration {
        provision_adapters::github::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::github::LATE_WINDOW
    }
}

struct World {
    stage: Stage<OnWorkflow>,
    callbacks: Callbacks,
}

impl World {
    async fn start() -> Self {
        Self::of(OnWorkflow::default()).await
    }

    async fn of(scene: OnWorkflow) -> Self {
        Self { stage: Stage::set(scene, Build::GOES_WELL).await, callbacks: callbacks(&[KEY]) }
    }

    async fn begin(&self, key: &str) -> RunHandle<String> {
        self.stage.engine.start(SAGA, &key.to_owned()).key(key).await.unwrap()
    }

    /// The tokens of the n-th execution, when it is there.
    async fn executed(&self, nth: usize) -> BTreeMap<String, String> {
        for _ in 0..600 {
            let inputs = self.stage.server.with(|sim| sim.run_inputs("acme/ops"));
            if let Some(inputs) = inputs.get(nth) {
                return serde_json::from_str(&inputs["callbacks"]).unwrap();
            }
            self.stage.pass(Duration::from_millis(100)).await;
        }
        panic!("nothing was dispatched");
    }

    async fn tell(&self, name: &str, token: &str, note: &str) -> Answer {
        let body = json!({ "note": note }).to_string();
        let engine = &self.stage.engine;
        report(&self.callbacks, engine, (name, token), (body.as_bytes(), NOW)).await
    }
}

async fn report(
    callbacks: &Callbacks,
    engine: &Engine,
    (name, token): (&str, &str),
    (body, now): (&[u8], Timestamp),
) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers =
        [("content-type", &b"application/json"[..]), ("Authorization", bearer.as_bytes())];
    callbacks.receive(engine, Report { name, headers: &headers, body, now }).await
}

/// The same in another order, which the seed decides.
fn shuffled<T>(mut all: Vec<T>, seed: u64) -> Vec<T> {
    let mut random = seed;
    for last in (1..all.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let place = usize::try_from(random >> 33).unwrap() % (last + 1);
        all.swap(last, place);
    }
    all
}

// covers: R2-04, R2-43, R2-08, X1
#[test]
fn phases_are_heard_once_each_however_they_are_delivered() {
    paused(async {
        for seed in 0..6 {
            let world = World::start().await;
            let (run, other) = (world.begin("ours").await, world.begin("theirs").await);
            let both = [world.executed(0).await, world.executed(1).await];
            let is_ours = |tokens: &BTreeMap<String, String>| {
                claims(&tokens["running"]).contains(&run.id().to_string())
            };
            let [ours, theirs] = if is_ours(&both[0]) {
                both
            } else {
                let [a, b] = both;
                [b, a]
            };
            let mut deliveries = Vec::new();
            for signal in &ALL[..5] {
                let name = signal.name();
                let good = (name, ours[name].clone(), Answer::Taken);
                // For another run, for another name, under another key, and cut.
                let forged = callbacks(&[OTHER_KEY]);
                let cx = SoloHost::new().context(*run.id(), "deploy");
                let forged = forged.token(&cx, *signal, UNTIL).expose().to_owned();
                let wrong = ALL.iter().find(|other| other.name() != name).unwrap().name();
                deliveries.extend([good.clone(), good.clone(), good]);
                deliveries.push((wrong, ours[name].clone(), Answer::Refused));
                deliveries.push((name, forged, Answer::Refused));
                deliveries.push((name, ours[name][..40].to_owned(), Answer::Refused));
                deliveries.push((name, String::new(), Answer::Refused));
            }
            let deliveries = shuffled(deliveries, seed);
            let sent = deliveries.iter().map(|(name, token, _)| {
                let place = ALL.iter().position(|signal| signal.name() == *name).unwrap();
                let world = &world;
                async move { world.tell(name, token, &place.to_string()).await }
            });
            let answers = if seed % 2 == 0 {
                join_all(sent).await
            } else {
                let mut answers = Vec::new();
                for one in sent {
                    answers.push(one.await);
                }
                answers
            };
            for ((name, _, wanted), answer) in deliveries.iter().zip(answers) {
                assert_eq!(answer, *wanted, "{name}, seed {seed}");
            }
            assert_eq!(run.output().await.unwrap(), "01234", "seed {seed}");
            // A neighbour has heard nothing, and what comes now is late, or a repetition.
            assert_eq!(world.tell("running", &ours["running"], "9").await, Answer::Taken);
            let late = world.tell("ansible_complete", &ours["ansible_complete"], "5").await;
            assert_eq!(
                (late, late.status(), late.code()),
                (Answer::Late("run_over"), 410, "run_over")
            );
            assert_eq!(world.tell("running", &theirs["vm_created"], "9").await, Answer::Refused);
            world.stage.engine.cancel(other.id(), By::default()).await.unwrap();
            other.outcome().await.unwrap();
            nothing_is_journaled(&world, ours.values()).await;
            world.stage.close().await;
        }
    });
}

/// What a token says, which is no secret.
fn claims(token: &str) -> String {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn nothing_is_journaled(world: &World, tokens: impl Iterator<Item = &String>) {
    let runs = world.stage.store.list(&RunFilter::default()).await.unwrap().runs;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let records = world.stage.store.load(&ids).await.unwrap();
    let texts: Vec<String> =
        records.into_iter().flatten().flat_map(|r| r.frames).map(|f| f.body.to_string()).collect();
    assert!(texts.iter().any(|text| text.contains("terraform_init")), "the phases are there");
    for token in tokens {
        let signed = token.rsplit('.').next().unwrap();
        for form in encodings(signed) {
            assert!(texts.iter().all(|text| !text.contains(&form)), "a token is journaled");
        }
    }
}

// covers: R2-04, R2-08
#[test]
fn an_execution_that_was_undone_is_stopped_and_what_it_still_says_is_late() {
    paused(async {
        let world = World::start().await;
        let run = world.begin("ours").await;
        let first = world.executed(0).await;
        for signal in &ALL[..5] {
            let name = signal.name();
            assert_eq!(world.tell(name, &first[name], "bad").await, Answer::Taken);
        }
        assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(Some(_))));
        let ended = world.stage.server.with(|sim| sim.runs("acme/ops"));
        assert_eq!(ended[0].1.as_deref(), Some("cancelled"), "the undo has stopped it");

        world.stage.engine.redrive(run.id(), By::new("ann", "again")).await.unwrap();
        let second = world.executed(1).await;
        let late = world.tell("ansible_complete", &first["ansible_complete"], "x").await;
        assert_eq!((late, late.status()), (Answer::Late("source_gone"), 410));
        for signal in &ALL[..5] {
            let name = signal.name();
            // What the first has said is not said again by it.
            assert_eq!(world.tell(name, &first[name], "bad").await, Answer::Taken);
            assert_eq!(world.tell(name, &second[name], ".").await, Answer::Taken);
        }
        assert_eq!(run.output().await.unwrap(), ".....");
        world.stage.close().await;
    });
}

// covers: R2-08
#[test]
fn on_a_server_that_answers_nothing_each_finds_its_own_run_and_not_a_neighbours() {
    paused(async {
        let world = World::start().await;
        world.stage.server.with(|sim| sim.set_run_details(false));
        let runs = [world.begin("a").await, world.begin("b").await, world.begin("c").await];
        for nth in 0..3 {
            world.executed(nth).await;
        }
        let mut seen = std::collections::BTreeSet::new();
        for run in &runs {
            let mut looks = 0;
            let row = loop {
                let query =
                    provision_core::LedgerQuery { run: Some(*run.id()), ..Default::default() };
                let rows = world.stage.engine.ledger(&query).await.unwrap();
                if let Some(row) = rows.into_iter().find(|row| row.external_id.is_some()) {
                    break row;
                }
                looks += 1;
                assert!(looks < 600, "its run was not found");
                world.stage.pass(Duration::from_millis(100)).await;
            };
            let id = row.external_id.unwrap().as_str().to_owned();
            let key = provision_core::context::idempotency_key(run.id(), "deploy", 1, "run");
            let title = world.stage.server.with(|sim| sim.run_title("acme/ops", &id)).unwrap();
            assert!(title.contains(&key.to_string()), "{title}");
            assert!(seen.insert(id), "two runs have found the same one");
        }
        assert_eq!(
            world.stage.server.with(|sim| sim.runs("acme/ops")).len(),
            3,
            "none was sent twice"
        );
        world.stage.close().await;
    });
}

// covers: R2-08
#[test]
fn a_workflow_that_fails_says_where_its_log_is() {
    paused(async {
        let scene = OnWorkflow { conclusion: Some("failure") };
        let world = World::of(scene).await;
        let run = world.begin("ours").await;
        let mut looks = 0;
        let failure = loop {
            let failures = world.stage.engine.failures(run.id()).await.unwrap();
            if let Some(first) = failures.into_iter().next() {
                break first.failure;
            }
            looks += 1;
            assert!(looks < 600, "it has not failed");
            world.stage.pass(Duration::from_millis(100)).await;
        };
        assert_eq!((&*failure.path, &*failure.code), ("deploy", "run_failure"));
        let message = failure.message.unwrap();
        assert!(message.contains("https://github.com/acme/ops/actions/runs/"), "{message}");
        assert!(failure.hint.unwrap().contains("log"));
        world.stage.engine.cancel(run.id(), By::default()).await.unwrap();
        run.outcome().await.unwrap();
        world.stage.close().await;
    });
}

// covers: R2-04, S25
#[test]
fn a_key_is_replaced_without_a_gap_and_a_token_has_an_end() {
    paused(async {
        let world = World::start().await;
        let run = world.begin("ours").await;
        let tokens = world.executed(0).await;
        let token = |name: &'static str| (name, tokens[name].as_str());
        let good = (&br#"{"note":"x"}"#[..], NOW);
        let engine = &world.stage.engine;
        let (after, before) = (callbacks(&[OTHER_KEY]), callbacks(&[OTHER_KEY, KEY]));
        assert_eq!(report(&after, engine, token("running"), good).await, Answer::Refused);
        assert_eq!(report(&before, engine, token("running"), good).await, Answer::Taken);
        let fresh = before.token(&SoloHost::new().context(*run.id(), "deploy"), VM_CREATED, UNTIL);
        let fresh = ("vm_created", fresh.expose());
        assert_eq!(report(&after, engine, fresh, good).await, Answer::Taken);
        assert_eq!(report(&world.callbacks, engine, fresh, good).await, Answer::Refused);

        let at = |now| (good.0, now);
        let expired = report(&before, engine, token("terraform_init"), at(UNTIL)).await;
        assert_eq!((expired, expired.status()), (Answer::Late("expired"), 410));
        // What was taken in time is answered as it was then: the first answer may have been lost.
        let again = report(&before, engine, token("running"), at(UNTIL)).await;
        assert_eq!(again, Answer::Taken);
        let large = vec![b' '; CALLBACK_BODY_MAX + 1];
        let cases =
            [(&large[..], Answer::TooLarge), (b"[", Answer::Unreadable), (b"", Answer::Unreadable)];
        for (body, wanted) in cases {
            assert_eq!(report(&before, engine, token("terraform_init"), (body, NOW)).await, wanted);
        }
        let twice = format!("Bearer {}", tokens["terraform_init"]);
        let headers = [("authorization", twice.as_bytes()), ("Authorization", twice.as_bytes())];
        let report = Report { name: "terraform_init", headers: &headers, body: good.0, now: NOW };
        assert_eq!(before.receive(engine, report).await, Answer::Refused, "told twice");
        world.stage.close().await;
    });
}

#[test]
fn keys_that_are_none_are_refused() {
    assert_eq!(Callbacks::new([]).unwrap_err(), UnusableKey::None);
    let short = "x".repeat(CALLBACK_KEY_MIN - 1);
    let keys = [Secret::new(KEY), Secret::new(short)];
    assert_eq!(Callbacks::new(keys).unwrap_err(), UnusableKey::Short(1));
    assert!(!format!("{:?}", callbacks(&[KEY])).contains("0123456789"), "keys are not shown");
}

// covers: R2-04, X1
#[test]
fn whatever_is_changed_in_a_token_is_refused_in_one_way() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = runtime.block_on(Engine::builder(MemoryStore::new()).build()).unwrap();
    let callbacks = callbacks(&[KEY]);
    let cx = SoloHost::new().context(run(1), "deploy");
    let token = callbacks.token(&cx, RUNNING, UNTIL).expose().to_owned();
    let told = |token: &str| {
        let body = (&br#"{"note":"x"}"#[..], NOW);
        runtime.block_on(report(&callbacks, &engine, ("running", token), body))
    };
    // There is no such run here: that is told to whoever has a good token, and to nobody else.
    assert_eq!(told(&token), Answer::Late("run_over"));
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert_eq!(told(&changed), Answer::Refused, "{changed}");
        }
        assert_eq!(told(&token[..at]), Answer::Refused);
    }
    let anything = (".{0,80}", "[A-Za-z0-9_.-]{0,200}");
    TestRunner::default()
        .run(&anything, |(a, b)| {
            for text in [a.clone(), format!("pcb1.{b}"), format!("{token}{a}x")] {
                prop_assert_eq!(told(&text), Answer::Refused);
            }
            Ok(())
        })
        .unwrap();
}
