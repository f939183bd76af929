//! Runs that are ended, as the undo of a dispatch or of an event: over is what is over, and a run of
//! an event is known however long ago it was.

use std::time::Duration;

use provision_adapters::{
    github::{
        Account, CALL_TIMEOUT, Dispatch, DispatchSpec, Event, GitHub, GitHubConfig, SendEvent,
        StopRuns,
        sim::{GitHubSim, Token, Workflow},
    },
    http::BaseUrl,
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    Compensator, Effect, Readiness, Resource, SecretRef, Step, StepContext, Timestamp, Undo,
    Verdict, context::Memory,
};
use provision_testkit::solo::SoloHost;

use crate::{
    engine::CALL_WITHIN,
    github::{World, ready, run},
    network::plays_alone,
    scenes::TOKEN,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A repository whose workflow runs for an hour, and how it takes a cancel.
struct Ops {
    server: SimServer<GitHubSim>,
    host: SoloHost,
    github: GitHub,
}

impl Ops {
    fn with(workflow: Workflow) -> Self {
        Self::hasty(workflow, CALL_TIMEOUT)
    }

    /// One whose calls end so soon.
    fn hasty(workflow: Workflow, within: Duration) -> Self {
        let workflow = workflow.working_for(HOUR).listening_for("provisioned");
        let workflow = workflow
            .dispatched_with(&["provision_key"])
            .named("Deploy ${{ inputs.provision_key }}${{ client_payload.provision.key }}");
        let sim = GitHubSim::new()
            .with_org("acme")
            .with_user("octo")
            .with_token(TOKEN, Token::classic("octo", &["repo", "workflow"]))
            .with_template("acme/ops", &[("README.md", "# Ops\n")], &[workflow]);
        let server = SimServer::start(sim, SimOptions::default().with_speed(0.0)).unwrap();
        let account = Account::Organization("acme".to_owned());
        let config = GitHubConfig::new(account, SecretRef::named("GITHUB_TOKEN"))
            .with_base(BaseUrl::parse(&server.url()).unwrap())
            .with_call_timeout(within);
        let host = SoloHost::new().with_secret("GITHUB_TOKEN", TOKEN);
        Self { server, host, github: GitHub::new(config).unwrap() }
    }

    /// The n-th attempt of an undo.
    fn attempt(&self, number: u32) -> StepContext {
        self.host.attempt(run(1), "deploy", number, Memory::default())
    }

    fn asked(&self, how: &str) -> usize {
        let lines = self.server.requests();
        lines.iter().filter(|line| line.path.ends_with(how)).count()
    }
}

fn wanted() -> DispatchSpec {
    DispatchSpec::new("acme/ops", "ops.yml", "main").with_key_input("provision_key")
}

// covers: S12, S14
#[tokio::test]
async fn a_run_that_winds_down_is_not_over_before_it_has_ended() {
    let winds = Duration::from_secs(2);
    let ops = Ops::with(Workflow::new("ops.yml").winding_down_for(winds));
    let again = Duration::from_millis(50);
    let dispatch = Dispatch::new(&ops.github).with_look_again(again);
    let cx = ops.attempt(1);
    let intent = ops.host.intend(&cx, &dispatch, &wanted());
    let id = dispatch.create(&cx, &wanted(), &intent).await.unwrap();
    let error = dispatch.delete(&cx, &wanted(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("run_goes_on", Effect::Unknown));
    assert_eq!(error.verdict(), &Verdict::Retry { after: Some(again) });
    // Any worker looks again, until it has ended.
    for _ in 0..600 {
        if dispatch.delete(&ops.attempt(2), &wanted(), &id).await.is_ok() {
            let until = wanted().until_succeeded();
            let error = dispatch.ready(&cx, &until, &id).await.unwrap_err();
            assert_eq!(error.code(), "run_cancelled");
            assert_eq!(ops.asked("/force-cancel"), 0);
            return;
        }
        tokio::time::sleep(again).await;
    }
    panic!("it never ended");
}

// covers: S14
#[tokio::test]
async fn a_run_that_does_not_respond_is_forced_after_ten_looks_and_not_before() {
    let ops = Ops::with(Workflow::new("ops.yml").deaf());
    let dispatch = Dispatch::new(&ops.github);
    let cx = ops.attempt(1);
    let intent = ops.host.intend(&cx, &dispatch, &wanted());
    let id = dispatch.create(&cx, &wanted(), &intent).await.unwrap();
    for number in [1, 2, 9] {
        let error = dispatch.delete(&ops.attempt(number), &wanted(), &id).await.unwrap_err();
        assert_eq!(error.code(), "run_goes_on");
    }
    assert_eq!((ops.asked("/cancel"), ops.asked("/force-cancel")), (3, 0));
    dispatch.delete(&ops.attempt(10), &wanted(), &id).await.unwrap();
    assert_eq!((ops.asked("/cancel"), ops.asked("/force-cancel")), (4, 1));
    dispatch.delete(&ops.attempt(10), &wanted(), &id).await.unwrap();
    assert_eq!(ops.asked("/force-cancel"), 1, "what is over is not forced");
}

// covers: S14
#[tokio::test]
async fn the_undo_of_a_run_that_is_over_is_done_at_once() {
    let world = World::with(SimOptions::default().with_speed(5.0));
    let (cx, dispatch) = (world.cx("deploy"), Dispatch::new(&world.github));
    let template = DispatchSpec::new("acme/template", "deploy.yml", "main");
    let intent = world.host.intend(&cx, &dispatch, &template);
    let id = dispatch.create(&cx, &template, &intent).await.unwrap();
    let until = template.clone().until_succeeded();
    let state = dispatch.ready(&cx, &until, &id).await.unwrap();
    assert!(matches!(state, Readiness::NotYet { .. }));
    assert_eq!(ready(&dispatch, &cx, &template, &id).await.conclusion, None, "started is enough");
    dispatch.delete(&cx, &template, &id).await.unwrap();
    dispatch.delete(&cx, &template, &id).await.unwrap();
    let error = dispatch.ready(&cx, &until, &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("run_cancelled", Effect::Applied));
    assert!(error.is_broken(), "a retry undoes it first: {error:?}");
}

/// An attempt of the event's step, whose first one was so long ago.
fn days_later(ops: &Ops, number: u32) -> StepContext {
    let now = ops.attempt(1).now().as_millis();
    let begun = Timestamp::from_millis(now.saturating_sub(72 * 3_600_000));
    let memory = Memory { begun_at: Some(begun), ..Memory::default() };
    ops.host.attempt(run(1), "event", number, memory)
}

// covers: S9, S12
#[tokio::test]
async fn the_runs_of_an_event_are_known_days_after_it() {
    let ops = Ops::with(Workflow::new("ops.yml"));
    let event = Event::new("acme/ops", "provisioned");
    let (send, stop) = (SendEvent::new(&ops.github), StopRuns::new(&ops.github));
    let lost = FaultRule::new(Fault::DropAfter).method("POST").once();
    ops.server.faults().add(lost);
    let error = send.run(&days_later(&ops, 1), event.clone()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    // As if it had been then, when the step began.
    ops.server.with(|sim| sim.set_back_runs("acme/ops", Duration::from_secs(71 * 3_600)));
    send.run(&days_later(&ops, 2), event.clone()).await.unwrap();
    assert_eq!(ops.server.with(|sim| sim.runs("acme/ops")).len(), 1, "sent twice");
    stop.compensate(&days_later(&ops, 1), event, Undo::Unknown(Vec::new())).await.unwrap();
    let runs = ops.server.with(|sim| sim.runs("acme/ops"));
    assert_eq!(runs[0].1.as_deref(), Some("cancelled"), "left running");
}

// covers: S12
#[tokio::test]
async fn an_event_is_undone_once_all_of_its_runs_are_over() {
    let ops = Ops::with(Workflow::new("ops.yml").deaf());
    let event = Event::new("acme/ops", "provisioned");
    let (send, stop) = (SendEvent::new(&ops.github), StopRuns::new(&ops.github));
    send.run(&days_later(&ops, 1), event.clone()).await.unwrap();
    let undo = || Undo::Unknown(Vec::new());
    let error = stop.compensate(&days_later(&ops, 1), event.clone(), undo()).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("run_goes_on", Effect::Unknown));
    stop.compensate(&days_later(&ops, 30), event, undo()).await.unwrap();
    assert_eq!(ops.asked("/force-cancel"), 1);
}

// covers: S9
#[tokio::test]
async fn a_search_that_shows_less_than_there_is_proves_nothing() {
    let ops = Ops::with(Workflow::new("ops.yml"));
    let (event, send) = (Event::new("acme/ops", "provisioned"), SendEvent::new(&ops.github));
    for number in 0..4 {
        let cx = ops.host.context(run(100 + number), "event");
        send.run(&cx, event.clone()).await.unwrap();
    }
    ops.server.with(|sim| sim.set_search_max(2));
    let error = send.run(&days_later(&ops, 2), event).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("listing_cut", Effect::None));
    assert_eq!(ops.server.with(|sim| sim.runs("acme/ops")).len(), 4);
}

// covers: S9, X1, X2
#[tokio::test]
async fn no_network_misleads_a_forced_end() {
    let ops = Ops::hasty(Workflow::new("ops.yml").deaf(), CALL_WITHIN);
    let dispatch = Dispatch::new(&ops.github);
    plays_alone(&ops.server, ("POST", "/force-cancel"), async || {
        let cx = ops.attempt(10);
        let intent = ops.host.intend(&cx, &dispatch, &wanted());
        let id = dispatch.create(&cx, &wanted(), &intent).await.unwrap();
        dispatch.delete(&cx, &wanted(), &id).await
    })
    .await;
}
