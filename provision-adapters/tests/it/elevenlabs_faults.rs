//! ElevenLabs when calls fail: what is paid again, what parks, and how refusals are told apart.

use std::{error::Error, time::Duration};

use provision_adapters::{
    elevenlabs::{MusicSpec, sim::KEY},
    sim::{Fault, FaultRule, RetryAfterForm},
};
use provision_core::{By, Effect, Outcome, Resolution, Resource, RunHandle, StepError, Verdict};
use serde_json::{Value, json};

use crate::{
    elevenlabs::{World, song},
    engine::{Build, Stage, each_alone, ended, paused},
    scenes_elevenlabs::{OnElevenLabs, WORDS},
};

/// X1: neither the key nor a text is in anything an error can print.
fn assert_clean(error: &StepError) {
    let mut told = format!("{error} {error:?} {:?} {:?}", error.message(), error.hint());
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        told.push_str(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for secret in [KEY, "calm piano"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

async fn fails(world: &World, spec: &MusicSpec) -> StepError {
    let (cx, music) = (world.cx("song"), world.music());
    let intent = world.host.intend(&cx, &music, spec);
    let error = music.create(&cx, spec, &intent).await.unwrap_err();
    assert_clean(&error);
    error
}

// covers: S9, X1, R5-38
#[tokio::test]
async fn an_end_without_an_answer_may_have_been_paid_and_a_refusal_was_not() {
    let world = World::start();
    let unknown = [
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Garbage200,
        Fault::Html200,
        Fault::EndlessBody { bytes: 256 << 20 },
    ];
    for fault in unknown {
        let name = fault.name();
        world.server.faults().add(FaultRule::new(fault).once());
        let before = world.paid();
        let error = fails(&world, &song("a")).await;
        assert_eq!(error.effect(), Effect::Unknown, "{name}: {error}");
        assert_eq!(world.paid(), before + 1, "{name}");
        assert_eq!(world.shelf.names(), Vec::<String>::new(), "{name}");
        world.server.faults().clear();
    }
    let before = world.paid();
    for status in [400, 401, 403, 404, 422, 429] {
        world.server.faults().add(FaultRule::new(Fault::Status(status)).once());
        assert_eq!(fails(&world, &song("a")).await.effect(), Effect::None, "{status}");
    }
    assert_eq!(world.paid(), before);
}

// covers: R1-02, L4
#[tokio::test]
async fn quota_slots_and_content_are_classes_of_their_own_in_both_forms() {
    for old in [false, true] {
        let world = World::start();
        world.server.with(|sim| {
            sim.set_old_errors(old);
            sim.set_credits(10);
        });
        let error = fails(&world, &song("a")).await;
        assert_eq!((error.code(), error.verdict()), ("quota_exceeded", &Verdict::Operator));
        assert_eq!(error.effect(), Effect::None, "although it was answered 401");
        world.server.with(|sim| {
            sim.set_credits(100_000);
            sim.take_slots(2);
        });
        let error = fails(&world, &song("a")).await;
        let Verdict::Throttled { bucket, after } = error.verdict() else { panic!("{error}") };
        assert_eq!(
            (bucket.as_str(), error.code()),
            ("elevenlabs/default/music", "concurrent_limit")
        );
        assert_eq!(*after, Duration::from_secs(2), "a semaphore, and no clock");
        let pause = world.host.told().observed.last().unwrap().1.pause;
        assert_eq!(pause, Some(Duration::from_secs(2)));
        world.server.with(|sim| sim.take_slots(0));

        let error = fails(&world, &MusicSpec::prompt("a", "like the Beatles")).await;
        assert_eq!((error.code(), error.verdict()), ("bad_prompt", &Verdict::Permanent));
        assert!(error.hint().is_some());
        let plan = json!({ "chunks": [{ "text": "beatles", "duration_ms": 3_000 }] });
        let error = fails(&world, &MusicSpec::plan("a", plan)).await;
        assert_eq!((error.code(), error.verdict()), ("bad_composition_plan", &Verdict::Permanent));
        assert_eq!(world.paid(), 0);
    }
}

// covers: L4
#[tokio::test]
async fn a_wait_that_is_asked_for_is_passed_on() {
    let world = World::start();
    for form in [RetryAfterForm::Seconds(90), RetryAfterForm::Date(90)] {
        world.server.faults().add(FaultRule::new(Fault::RateLimited { retry_after: form }).once());
        let error = fails(&world, &song("a")).await;
        let Verdict::Retry { after: Some(after) } = error.verdict() else { panic!("{error}") };
        assert!((88..=91).contains(&after.as_secs()), "{form:?}: {after:?}");
        let pause = world.host.told().observed.last().unwrap().1.pause.unwrap();
        assert!((88..=91).contains(&pause.as_secs()), "{form:?}: {pause:?}");
    }
}

/// Asks the simulated account without our client.
async fn ask(world: &World, path: &str, body: Value) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{path}", world.server.url());
    let answer = http.post(url).header("xi-api-key", KEY).json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned())
}

// covers: R2-70
#[tokio::test]
async fn the_account_refuses_what_the_real_one_refuses() {
    let world = World::start();
    let plan = json!({ "chunks": [] });
    let cases = [
        ("/v1/music", json!({}), "exactly one"),
        ("/v1/music", json!({ "prompt": "x", "composition_plan": plan }), "exactly one"),
        ("/v1/music", json!({ "prompt": "x", "music_length_ms": 1_000 }), "3000"),
        ("/v1/music", json!({ "prompt": "x", "zzz": 1 }), "Extra inputs"),
        ("/v1/music", json!({ "composition_plan": plan }), "Invalid type of composition_plan"),
        ("/v1/sound-generation", json!({ "duration_seconds": 3 }), "Field required"),
        ("/v1/sound-generation", json!({ "text": "x", "duration_seconds": 31 }), "between 0.5"),
        ("/v1/sound-generation?output_format=mp3_48000_192", json!({ "text": "x" }), "format"),
        ("/v1/text-to-speech/v", json!({ "text": "" }), "Field required"),
    ];
    for (path, body, text) in cases {
        let (status, answer) = ask(&world, path, body.clone()).await;
        assert!(status == 422 && answer.contains(text), "{path} {body}: {status} {answer}");
    }
    let (status, answer) = ask(&world, "/v1/text-to-speech/v", json!({ "text": "x" })).await;
    assert!(status == 404 && answer.contains("voice_not_found"));
    let (status, _) = ask(&world, "/v1/music/stream", json!({ "prompt": "x" })).await;
    assert_eq!((status, world.paid()), (501, 0), "said aloud, and nothing was paid");
    // A call counts as open for as long as it takes; two at a time.
    world.server.with(|sim| sim.set_making_ms(60_000));
    for status in [200, 200, 429] {
        assert_eq!(ask(&world, "/v1/music", json!({ "prompt": "x" })).await.0, status);
    }
    // The same order twice is paid twice, and never the same bytes.
    world.server.with(|sim| sim.set_slots(9));
    let (_, first) = ask(&world, "/v1/sound-generation", json!({ "text": "x" })).await;
    let (_, second) = ask(&world, "/v1/sound-generation", json!({ "text": "x" })).await;
    assert_ne!(first, second);
    assert_eq!(world.paid(), 4);
}

/// Which of the three paid calls, how its end stays unknown, and what its author declared.
#[derive(Debug, Clone)]
struct Case {
    nth: u64,
    fault: Fault,
    build: Build,
    again: Option<u32>,
    /// Whether it is stored in a folder.
    folder: bool,
}

/// How often each of the three calls was paid.
fn paid(stage: &Stage<OnElevenLabs>) -> [usize; 3] {
    WORDS.map(|words| stage.server.with(|sim| sim.paid_for(words)))
}

impl Case {
    /// Which of the three calls it is, from 0.
    fn at(&self) -> usize {
        usize::try_from(self.nth).unwrap() - 1
    }

    /// What was paid is what was asked for; a request that lands late may come too late for all.
    fn assert_paid(&self, stage: &Stage<OnElevenLabs>, expected: [usize; 3]) {
        let (settled, mut less) = (paid(stage), expected);
        less[self.at()] -= 1;
        let lands_late = matches!(self.fault, Fault::LateLanding(_));
        assert!(settled == expected || (lands_late && settled == less), "{self:?}: {settled:?}");
    }

    /// Nobody declared that it may be paid again, or no attempt is left: a person is asked.
    async fn parks(&self, stage: &Stage<OnElevenLabs>, run: &RunHandle<String>) {
        let outcome = ended(run).await;
        let Outcome::Parked(failure, _) = &outcome else { panic!("{self:?}: {outcome:?}") };
        assert_eq!(&*failure.path, ["speech", "music", "sound"][self.at()], "{self:?}");
        stage.pass(Duration::from_secs(300)).await;
        let mut expected = [0; 3];
        expected[..=self.at()].fill(1);
        self.assert_paid(stage, expected);
        assert!(!stage.alive(run.id()).await.is_empty(), "{self:?}: shown in the ledger");
    }

    /// It is paid once more, that is shown, and in the end nothing is stored.
    async fn pays_again(&self, stage: &Stage<OnElevenLabs>, run: &RunHandle<String>) {
        let outcome = ended(run).await;
        stage.pass(Duration::from_secs(300)).await;
        let mut expected = [1; 3];
        expected[self.at()] = 2;
        self.assert_paid(stage, expected);
        let failures = stage.engine.failures(run.id()).await.unwrap();
        assert_eq!(failures[0].failure.effect, Effect::Unknown, "{self:?}: the lost call is shown");
        if self.build.fails {
            assert!(matches!(outcome, Outcome::RolledBack(Some(_))), "{self:?}: {outcome:?}");
            return;
        }
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{self:?}: {outcome:?}");
        assert_eq!(stage.scene.names().len(), 3, "{self:?}");
        stage.engine.tear_down(run.id(), By::default()).await.unwrap();
        stage.pass(Duration::from_secs(30)).await;
        assert_eq!(ended(run).await, Outcome::TornDown, "{self:?}");
    }
}

async fn unknown_end(case: &Case) {
    let scene = OnElevenLabs { again: case.again, ..OnElevenLabs::default() };
    let scene = if case.folder { scene.in_a_folder() } else { scene };
    let stage = Stage::set(scene, case.build).await;
    let rule = FaultRule::new(case.fault.clone()).changing().nth(case.nth).once();
    stage.server.faults().add(rule);
    let run = stage.start().await;
    if case.again.is_none() || case.build.gives_up {
        case.parks(&stage, &run).await;
    } else {
        case.pays_again(&stage, &run).await;
        assert_eq!(stage.scene.names(), Vec::<String>::new(), "{case:?}");
    }
    assert_eq!(stage.server.faults().fired().len(), 1, "{case:?}");
    stage.close().await;
}

// covers: S7, S9, S12, R3-19
#[test]
fn a_paid_call_whose_answer_may_be_lost_parks_or_is_paid_again_only_as_declared() {
    let faults = [
        Fault::DropAfter,
        Fault::ResetAfter,
        Fault::StatusAfter(500),
        Fault::CutBody,
        Fault::LyingLength,
        Fault::Html200,
        Fault::LateLanding(Duration::from_secs(59)),
    ];
    let mut cases = Vec::new();
    for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END, Build::GIVES_UP] {
        for again in [None, Some(1)] {
            for fault in &faults {
                for (nth, folder) in (1..=3).flat_map(|nth| [(nth, false), (nth, true)]) {
                    cases.push(Case { nth, fault: fault.clone(), build, again, folder });
                }
            }
        }
    }
    each_alone(cases, |case| paused(unknown_end(case)));
}

// covers: S9
#[test]
fn a_declared_number_of_repetitions_is_never_passed() {
    paused(async {
        let scene = OnElevenLabs { again: Some(2), ..OnElevenLabs::default() };
        let stage = Stage::set(scene, Build::GOES_WELL).await;
        stage.server.faults().add(FaultRule::new(Fault::DropAfter).path_contains("/music"));
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(matches!(outcome, Outcome::Parked(..)), "{outcome:?}");
        assert_eq!(paid(&stage), [1, 3, 0], "once, and twice again");
        stage.close().await;
    });
}

// covers: S9, R1-02
#[test]
fn a_person_says_that_nothing_came_and_only_then_it_is_paid_again() {
    paused(async {
        let scene = OnElevenLabs::default();
        let shelf = scene.shelf.clone();
        let stage = Stage::set(scene, Build::GOES_WELL).await;
        stage.server.faults().add(FaultRule::new(Fault::DropAfter).path_contains("/music").once());
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(matches!(outcome, Outcome::Parked(..)), "{outcome:?}");
        assert_eq!(paid(&stage), [1, 1, 0]);
        let letters = stage.engine.dead_letters().await.unwrap();
        assert_eq!(letters.runs.len(), 1, "a person is told");
        let absent = Resolution::Absent { path: "music".to_owned() };
        stage.engine.resolve(run.id(), absent, By::default()).await.unwrap();
        stage.pass(Duration::from_secs(120)).await;
        assert!(matches!(ended(&run).await, Outcome::Succeeded(_)));
        assert_eq!((paid(&stage), shelf.names().len()), ([1, 2, 1], 3));
        stage.close().await;
    });
}

// covers: S8, S9
#[test]
fn slots_that_others_hold_are_waited_for_and_a_used_up_quota_parks() {
    paused(async {
        let stage = Stage::set(OnElevenLabs::default(), Build::GOES_WELL).await;
        stage.server.with(|sim| sim.take_slots(2));
        let run = stage.start().await;
        stage.pass(Duration::from_secs(60)).await;
        assert_eq!(paid(&stage), [0, 0, 0]);
        stage.server.with(|sim| {
            sim.take_slots(0);
            sim.set_credits(10);
        });
        let outcome = ended(&run).await;
        let Outcome::Parked(failure, _) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.code, "quota_exceeded");
        assert_eq!(paid(&stage), [1, 0, 0], "what fitted was paid once");
        stage.close().await;
    });
}
