//! What is done to a machine at Hetzner that is there: power, type, a new start, and what it costs.

use std::time::Duration;

use provision_adapters::hetzner::{
    ChangeTypeSpec, Power, PowerSpec, ReadPrices, Rebuild, RebuildSpec, Server, ServerMade,
    ServerPower, ServerType, UserData, sim::TOKEN,
};
use provision_core::{
    CostPer, Effect, ExternalId, Found, Outcome, Readiness, Resource, ResourceState, SecretRef,
    Step, Timestamp, Verdict,
};

use provision_adapters::sim::{Fault, FaultRule};
use provision_testkit::solo::SoloHost;

use crate::{
    engine::{Build, Stage, ended, paused},
    hetzner::{World, agent, build, check, gone, settled},
    scenes_hetzner::OnMachine,
};

async fn machine(world: &World) -> ServerMade {
    build(&world.host, &world.cx("machine"), &Server::new(&world.hetzner), &agent()).await.1
}

fn status(world: &World) -> String {
    world.server.with(|sim| sim.status("agent-7")).unwrap()
}

// covers: R2-24
#[tokio::test]
async fn a_machine_is_stopped_and_started_with_everything_it_had() {
    let world = World::at_speed(0.01);
    let made = machine(&world).await;
    let switch = ServerPower::new(&world.hetzner);
    let off = PowerSpec::off(made.id);
    let (id, stopped) = build(&world.host, &world.cx("off"), &switch, &off).await;
    assert_eq!(
        (stopped.power, stopped.was_so, status(&world).as_str()),
        (Power::Off, false, "off")
    );
    // Stopping it again does nothing, and undoing that does not start it.
    let (cx, before) = (world.cx("again"), world.changes());
    let Found::Ours(again) = switch.find(&cx, &off).await.unwrap() else { panic!() };
    assert!(settled(&cx, &switch, &off, &again).await.unwrap().was_so);
    switch.delete(&cx, &off, &again).await.unwrap();
    assert_eq!((world.changes(), status(&world).as_str()), (before, "off"));
    // Started by a run of its own; the machine is the one that was stopped.
    let on = PowerSpec::on(made.id);
    build(&world.host, &world.cx("on"), &switch, &on).await;
    let machines = Server::new(&world.hetzner);
    let same = ExternalId::new(made.id.to_string());
    let kept = settled(&world.cx("machine"), &machines, &agent(), &same).await.unwrap();
    assert_eq!(kept, made);
    // What this step has stopped is started again when it is undone, once.
    build(&world.host, &world.cx("off2"), &switch, &off).await;
    gone(&world.cx("off"), &switch, &off, &id).await;
    assert_eq!(status(&world), "running");
    check(&world);
}

#[tokio::test]
async fn a_machine_that_does_not_listen_gets_its_power_cut_after_its_grace() {
    let world = World::start();
    let made = machine(&world).await;
    world.server.with(|sim| sim.set_deaf("agent-7"));
    let switch = ServerPower::new(&world.hetzner);
    let off = PowerSpec::off(made.id);
    let cx = world.cx("off");
    let intent = world.host.intend(&cx, &switch, &off);
    let id = switch.create(&cx, &off, &intent).await.unwrap();
    let before = world.changes();
    assert!(matches!(switch.ready(&cx, &off, &id).await.unwrap(), Readiness::NotYet { .. }));
    assert_eq!((world.changes(), status(&world).as_str()), (before, "running"), "it has a minute");
    settled(&world.late("off"), &switch, &off, &id).await.unwrap();
    assert_eq!((world.changes(), status(&world).as_str()), (before + 1, "off"));
    // Undoing a start asks first, and cuts the power of what does not listen.
    let on = PowerSpec::on(made.id);
    let (id, _) = build(&world.host, &world.cx("on"), &switch, &on).await;
    let on = on.with_grace(Duration::from_secs(90));
    let asked = switch.delete(&world.cx("on"), &on, &id).await.unwrap_err();
    assert_eq!(asked.verdict(), &Verdict::Retry { after: Some(Duration::from_secs(90)) });
    // It has the time that this step gives it, also where somebody asks earlier.
    let before = world.changes();
    let cx = |secs| later(&world, secs).context(crate::hetzner::run(1), "on");
    let early = switch.delete(&cx(80), &on, &id).await.unwrap_err();
    assert_eq!((early.code(), early.effect()), ("switching", Effect::Unknown));
    let Verdict::Retry { after: Some(left) } = early.verdict() else { panic!("{early}") };
    assert!((8..=10).contains(&left.as_secs()), "{left:?}");
    assert_eq!((world.changes(), status(&world).as_str()), (before, "running"));
    gone(&cx(100), &switch, &on, &id).await;
    assert_eq!((world.changes(), status(&world).as_str()), (before + 1, "off"));
    check(&world);
}

#[tokio::test]
async fn a_machine_that_may_still_go_down_is_not_taken_for_running() {
    let world = World::start();
    let made = machine(&world).await;
    world.server.with(|sim| sim.set_deaf("agent-7"));
    let switch = ServerPower::new(&world.hetzner);
    let (cx, off) = (world.cx("off"), PowerSpec::off(made.id));
    let intent = world.host.intend(&cx, &switch, &off);
    let id = switch.create(&cx, &off, &intent).await.unwrap();
    // Asked to shut down a moment ago: it runs, and may be off in a moment.
    let error = switch.delete(&cx, &off, &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("switching", Effect::Unknown));
    let at = |secs| later(&world, secs).context(crate::hetzner::run(1), "off");
    let patient = off.with_grace(Duration::from_secs(300));
    let error = switch.delete(&at(120), &patient, &id).await.unwrap_err();
    assert_eq!(error.code(), "switching", "it was given more time than is usual");
    switch.delete(&at(120), &off, &id).await.unwrap();
    assert_eq!(status(&world), "running");
}

/// The host, so many seconds later.
fn later(world: &World, seconds: u64) -> SoloHost {
    let now = provision_core::clock::Clock::wall(&provision_core::clock::SystemClock);
    world.host.clone().with_now(now.plus(Duration::from_secs(seconds)))
}

// covers: S7, S12
#[tokio::test]
async fn a_machine_that_was_asked_to_go_down_is_this_steps_doing_before_it_is_off() {
    let world = World::start();
    let made = machine(&world).await;
    world.server.with(|sim| sim.set_deaf("agent-7"));
    let switch = ServerPower::new(&world.hetzner);
    let (cx, off) = (world.cx("off"), PowerSpec::off(made.id));
    let intent = world.host.intend(&cx, &switch, &off);
    let again = world.after("off", &intent);
    assert_eq!(switch.find(&again, &off).await.unwrap(), Found::Absent, "nothing was sent");
    world.server.faults().add(FaultRule::new(Fault::DropAfter).path_contains("shutdown").once());
    switch.create(&cx, &off, &intent).await.unwrap_err();
    let ours = Found::Ours(ExternalId::new(format!("{}/off", made.id)));
    assert_eq!(switch.find(&again, &off).await.unwrap(), ours, "asked, and still running");
    // Another step, which has asked for nothing, finds a machine that runs.
    assert_eq!(switch.find(&world.cx("other"), &off).await.unwrap(), Found::Absent);
}

#[tokio::test]
async fn a_switch_whose_action_fails_is_broken() {
    let world = World::start();
    let made = machine(&world).await;
    let switch = ServerPower::new(&world.hetzner);
    let off = PowerSpec::off(made.id).with_grace(Duration::ZERO);
    world.server.with(|sim| sim.fail_next("stop_server", "timeout"));
    let cx = world.cx("off");
    let intent = world.host.intend(&cx, &switch, &off);
    let id = switch.create(&cx, &off, &intent).await.unwrap();
    let look = switch.ready(&world.after("off", &intent), &off, &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "action_timeout".to_owned() });
    // What failed before this step meant to act is not its failure.
    let later = later(&world, 60).intend(&cx, &switch, &off);
    let look = switch.ready(&world.after("off", &later), &off, &id).await.unwrap();
    assert!(matches!(look, Readiness::NotYet { .. }), "{look:?}");
    let nobody = PowerSpec::on(7);
    let intent = world.host.intend(&cx, &switch, &nobody);
    let error = switch.create(&cx, &nobody, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("not_found", &Verdict::Permanent));
}

#[tokio::test]
async fn a_type_is_changed_while_the_machine_is_off_and_goes_back() {
    let world = World::at_speed(0.01);
    let made = machine(&world).await;
    let (types, cx) = (ServerType::new(&world.hetzner), world.cx("type"));
    let spec = ChangeTypeSpec::new(made.id, "cx23", "cx33");
    let intent = world.host.intend(&cx, &types, &spec);
    let error = types.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("server_not_stopped", &Verdict::Permanent));
    assert!(error.hint().unwrap().contains("power"));
    let switch = ServerPower::new(&world.hetzner);
    build(&world.host, &world.cx("off"), &switch, &PowerSpec::off(made.id)).await;
    let (id, changed) = build(&world.host, &cx, &types, &spec).await;
    assert_eq!(changed.server_type, "cx33");
    // A change that ends between the two looks of one poll is seen as done.
    let before = world.server.requests().len();
    settled(&cx, &types, &spec, &id).await.unwrap();
    let looks: Vec<String> =
        world.server.requests().into_iter().skip(before).map(|line| line.path).collect();
    let server = format!("/v1/servers/{}", made.id);
    assert_eq!(looks, [format!("{server}/actions"), server]);
    gone(&cx, &types, &spec, &id).await;
    // With its disk it cannot go back: a person has to say what then.
    let grown = spec.clone().with_disk();
    let (id, _) = build(&world.host, &cx, &types, &grown).await;
    let error = types.delete(&cx, &grown, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("invalid_server_type", &Verdict::Permanent));
    check(&world);
}

#[tokio::test]
async fn a_machine_is_made_anew_once() {
    let world = World::at_speed(0.01);
    let made = machine(&world).await;
    let (rebuild, cx) = (Rebuild::new(&world.hetzner), world.cx("anew"));
    let spec = RebuildSpec::new(made.id, "ubuntu-24.04");
    let (id, _) = build(&world.host, &cx, &rebuild, &spec).await;
    // A later attempt that does not know how the call ended finds it, and no other step does.
    let intent = world.host.intend(&cx, &rebuild, &spec);
    let memory = provision_core::context::Memory {
        intent: Some(provision_core::resource::IntentRecord {
            at: provision_core::Timestamp::from_millis(intent.record().at.as_millis() - 2_000),
            ..intent.record().clone()
        }),
        unknown: true,
        may_exist: true,
        ..Default::default()
    };
    let again = world.host.attempt(crate::hetzner::run(1), "anew", 2, memory);
    assert_eq!(rebuild.find(&again, &spec).await.unwrap(), Found::Ours(id.clone()));
    assert_eq!(rebuild.find(&world.cx("other"), &spec).await.unwrap(), Found::Absent);
    // Its own action ended, and the machine has another image since: it is not what was ordered.
    let theirs = RebuildSpec::new(made.id, "debian-12");
    build(&world.host, &world.cx("theirs"), &rebuild, &theirs).await;
    let look = rebuild.ready(&world.late("anew"), &spec, &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "other_image".to_owned() });
    let before = world.changes();
    rebuild.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.changes(), before, "nothing brings a disk back");
    check(&world);
}

// covers: R2-11
#[tokio::test]
async fn a_machine_is_told_its_join_key_while_it_can_boot_before_its_end_and_never_later() {
    let (world, tailnet) = (World::start(), crate::tailscale::World::start());
    let key = tailnet.key("key").await;
    let host = tailnet.host.clone().with_secret("HCLOUD_TOKEN", TOKEN);
    let told = UserData::new("#cloud-config\n# <<join>>\n");
    let told = told.with_secret_until("join", key.key.clone(), key.expires_at);
    let (machines, spec) = (Server::new(&world.hetzner), agent().with_user_data(told));
    let cx = host.context(crate::hetzner::run(1), "machine");
    let secret = key.open(&cx).await.unwrap();
    build(&host, &cx, &machines, &spec).await;
    let told = world.server.with(|sim| sim.user_data("agent-7")).unwrap();
    assert_eq!(told, format!("#cloud-config\n# {}\n", secret.expose()));
    // Right before the first boot would come too late, and then.
    let left = |seconds: u64| {
        let at = Timestamp::from_millis(key.expires_at.as_millis() - seconds * 1_000);
        host.clone().with_now(at).context(crate::hetzner::run(1), &format!("left-{seconds}"))
    };
    let early = left(300);
    let mut another = spec.clone();
    another.name = "agent-8".to_owned();
    let intent = host.intend(&early, &machines, &another);
    machines.create(&early, &another, &intent).await.unwrap();
    let before = world.server.requests().len();
    for seconds in [299, 0] {
        let late = left(seconds);
        let intent = host.intend(&late, &machines, &spec);
        let error = machines.create(&late, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("secret_expired", &Verdict::Permanent));
        assert!(error.effect() == Effect::None && error.hint().is_some());
    }
    assert_eq!(world.server.requests().len(), before, "nothing was sent");
}

#[test]
fn a_secret_without_an_end_replaces_one_that_ends() {
    let key = || SecretRef::named("JOIN");
    let plain = UserData::new("<<join>>").with_secret("join", key());
    let ending = |end| UserData::new("<<join>>").with_secret_until("join", key(), end);
    assert_eq!(ending(Timestamp::ZERO).with_secret("join", key()), plain);
    let (first, second) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
    assert_eq!(ending(first).with_secret_until("join", key(), second), ending(second));
}

#[tokio::test]
async fn prices_are_the_providers() {
    let world = World::start();
    let prices = ReadPrices::new(&world.hetzner).run(&world.cx("prices"), ()).await.unwrap();
    let cost = prices.server("cx23", "fsn1").unwrap();
    assert_eq!((cost.milli, cost.currency.as_str(), cost.per), (3_490, "EUR", CostPer::Month));
    assert_eq!(prices.volume(50).milli, 2_200);
    assert_eq!(prices.server("cx23", "moon"), None);
    check(&world);
}

// covers: R2-25
#[test]
fn a_machine_that_is_off_costs_as_much_and_the_ledger_says_so() {
    paused(async {
        let stage = Stage::set(OnMachine, Build::GOES_WELL).await;
        let run = stage.start().await;
        assert!(matches!(ended(&run).await, Outcome::Succeeded(_)));
        assert_eq!(stage.server.with(|sim| sim.status("client-a")).as_deref(), Some("off"));
        let rows = stage.alive(run.id()).await;
        let cost = |kind: &str| {
            let row = rows.iter().find(|row| row.kind == kind).unwrap();
            assert_eq!((row.state, row.until), (ResourceState::Alive, None), "{kind}");
            row.cost.as_ref().map(|cost| cost.milli)
        };
        assert_eq!((cost("server"), cost("volume")), (Some(3_490), Some(2_200)));
        stage.close().await;
    });
}
