//! What belongs to machines at Hetzner: firewalls, networks, volumes, and what is put on machines.

use std::time::Duration;

use provision_adapters::hetzner::{
    Attached, Attachment, AttachmentSpec, Firewall, FirewallMade, FirewallSpec, Inbound, Network,
    NetworkMade, NetworkSpec, Server, ServerMade, Volume, VolumeMade, VolumeSpec,
};
use provision_core::{Effect, ExternalId, Found, Outcome, Readiness, Resource, Verdict};

use crate::{
    engine::{Build, Stage, ended, paused},
    hetzner::{World, agent, build, check, gone, settled},
    hetzner_faults::{loses_the_answer, never_absent},
    scenes_hetzner::OnMachine,
};

fn wall() -> FirewallSpec {
    FirewallSpec::new("acme-wall")
        .allowing(Inbound::tcp("22").from_only(["203.0.113.0/24", "2001:db8::/32"]))
        .allowing(Inbound::udp("41641"))
}

fn net() -> NetworkSpec {
    NetworkSpec::new("acme-net", "10.0.0.0/16").with_subnet("eu-central", "10.0.0.0/24")
}

fn disk() -> VolumeSpec {
    VolumeSpec::new("acme-disk", 50, "fsn1").with_format("ext4")
}

async fn made_wall(world: &World) -> (ExternalId, FirewallMade) {
    build(&world.host, &world.cx("wall"), &Firewall::new(&world.hetzner), &wall()).await
}

async fn made_net(world: &World) -> (ExternalId, NetworkMade) {
    build(&world.host, &world.cx("net"), &Network::new(&world.hetzner), &net()).await
}

async fn made_disk(world: &World) -> (ExternalId, VolumeMade) {
    build(&world.host, &world.cx("disk"), &Volume::new(&world.hetzner), &disk()).await
}

async fn machine(world: &World) -> ServerMade {
    build(&world.host, &world.cx("machine"), &Server::new(&world.hetzner), &agent()).await.1
}

// covers: R2-52
#[tokio::test]
async fn a_machine_has_its_key_firewall_network_and_labels_from_its_first_moment() {
    let world = World::start();
    let (key, (_, wall), (_, net)) =
        (world.key().await, made_wall(&world).await, made_net(&world).await);
    let spec = agent()
        .with_ssh_key(key.id)
        .with_firewall(wall.id)
        .with_network(net.id)
        .with_label("customer", "acme");
    let machines = Server::new(&world.hetzner);
    let (id, made) = build(&world.host, &world.cx("machine"), &machines, &spec).await;
    assert_eq!((made.location.as_str(), made.private_ips.len()), ("fsn1", 1));
    let names: Vec<_> = world.of("attachment").into_iter().map(|item| item.id).collect();
    let both = [format!("firewall/{}/{id}", wall.id), format!("network/{}/{id}", net.id)];
    assert_eq!(names.len(), 2);
    assert!(both.iter().all(|one| names.contains(one)), "{names:?}");
    let posts = world.changes();
    assert_eq!(posts, 4, "key, firewall, network, and one call for the machine with all its parts");
    check(&world);
}

#[tokio::test]
async fn a_machine_that_lacks_a_part_is_not_there() {
    // The create itself succeeds, and one of its parts does not.
    for command in ["apply_firewall", "attach_to_network"] {
        let world = World::start();
        let ((_, wall), (_, net)) = (made_wall(&world).await, made_net(&world).await);
        let spec = agent().with_firewall(wall.id).with_network(net.id);
        world.server.with(|sim| sim.fail_next(command, "server_error"));
        let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
        let intent = world.host.intend(&cx, &machines, &spec);
        let id = machines.create(&cx, &spec, &intent).await.unwrap();
        let look = machines.ready(&cx, &spec, &id).await.unwrap();
        assert_eq!(look, Readiness::Broken { code: "action_server_error".to_owned() });
        gone(&cx, &machines, &spec, &id).await;
    }
    // Taken off by somebody while it comes along: nothing says so but the machine itself.
    let world = World::start();
    let (_, wall) = made_wall(&world).await;
    let machines = Server::new(&world.hetzner);
    let (id, _) = build(&world.host, &world.cx("machine"), &machines, &agent()).await;
    let spec = agent().with_firewall(wall.id);
    let look = machines.ready(&world.late("machine"), &spec, &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "firewall_missing".to_owned() });
}

// covers: S9, S14, X1
#[tokio::test]
async fn parts_whose_answer_was_lost_are_found_again() {
    let world = World::start();
    let hetzner = &world.hetzner;
    loses_the_answer(&world, &Firewall::new(hetzner), &wall(), ("wall", "firewall")).await;
    loses_the_answer(&world, &Network::new(hetzner), &net(), ("net", "network")).await;
    loses_the_answer(&world, &Volume::new(hetzner), &disk(), ("disk", "volume")).await;
}

// covers: S7, S9, R1-36
#[tokio::test]
async fn a_failed_look_at_a_part_is_never_absent() {
    let world = World::start();
    let hetzner = &world.hetzner;
    never_absent(&world, &Firewall::new(hetzner), &wall()).await;
    never_absent(&world, &Network::new(hetzner), &net()).await;
    never_absent(&world, &Volume::new(hetzner), &disk()).await;
    let on = AttachmentSpec::new(Attached::Volume(7), 8);
    never_absent(&world, &Attachment::new(hetzner), &on).await;
    assert_eq!(world.changes(), 0);
}

#[tokio::test]
async fn rules_that_differ_are_set_again_while_the_step_is_under_way() {
    let world = World::start();
    let (id, _) = made_wall(&world).await;
    world.server.with(|sim| sim.set_rules("acme-wall", &[]));
    let (late, walls) = (world.late("wall"), Firewall::new(&world.hetzner));
    let before = world.changes();
    let look = walls.ready(&world.cx("wall"), &wall(), &id).await.unwrap();
    assert!(matches!(look, Readiness::NotYet { .. }), "they may be on their way");
    assert_eq!(world.changes(), before);
    settled(&late, &walls, &wall(), &id).await.unwrap();
    assert_eq!(world.changes(), before + 1);
    settled(&late, &walls, &wall(), &id).await.unwrap();
    assert_eq!(world.changes(), before + 1, "what is right is only read");
    check(&world);
}

#[tokio::test]
async fn everything_is_put_on_a_machine_and_taken_off_again() {
    let world = World::at_speed(0.01);
    let (wall, net, disk) =
        (made_wall(&world).await, made_net(&world).await, made_disk(&world).await);
    let server = machine(&world).await.id;
    let attachments = Attachment::new(&world.hetzner);
    let all =
        [Attached::Firewall(wall.1.id), Attached::Network(net.1.id), Attached::Volume(disk.1.id)];
    for (number, what) in all.into_iter().enumerate() {
        let (cx, spec) = (world.cx(&format!("on{number}")), AttachmentSpec::new(what, server));
        let (id, made) = build(&world.host, &cx, &attachments, &spec).await;
        assert_eq!(made.private_ip.is_some(), matches!(what, Attached::Network(_)));
        let Found::Foreign(found) = attachments.find(&cx, &spec).await.unwrap() else { panic!() };
        assert!(!found.markable && found.id == id);
        // A repeated call cannot attach it twice: it has done nothing, and asks for a look.
        let intent = world.host.intend(&cx, &attachments, &spec);
        let error = attachments.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("already_attached", Effect::None));
        assert_eq!(world.of("attachment").len(), 1);
        gone(&cx, &attachments, &spec, &id).await;
        assert_eq!(world.of("attachment"), []);
    }
    check(&world);
}

// covers: S12
#[tokio::test]
async fn what_is_still_being_put_on_a_machine_is_not_taken_for_off() {
    let world = World::start();
    let (wall, net, disk) =
        (made_wall(&world).await, made_net(&world).await, made_disk(&world).await);
    let server = machine(&world).await.id;
    let attachments = Attachment::new(&world.hetzner);
    let all = [
        (Attached::Firewall(wall.1.id), "apply_firewall"),
        (Attached::Network(net.1.id), "attach_to_network"),
        (Attached::Volume(disk.1.id), "attach_volume"),
    ];
    for (number, (what, command)) in all.into_iter().enumerate() {
        world.server.with(|sim| sim.set_time(command, Duration::from_secs(3_600)));
        world.server.with(|sim| sim.set_speed(1.0));
        let (cx, spec) = (world.cx(&format!("on{number}")), AttachmentSpec::new(what, server));
        let intent = world.host.intend(&cx, &attachments, &spec);
        let id = attachments.create(&cx, &spec, &intent).await.unwrap();
        world.server.with(|sim| sim.set_speed(0.0));
        assert_eq!(world.of("attachment"), [], "it is on its way");
        let error = attachments.delete(&cx, &spec, &id).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("attaching", Effect::Unknown));
        assert!(matches!(attachments.find(&cx, &spec).await.unwrap(), Found::Foreign(_)));
        world.server.with(|sim| sim.finish_actions());
        gone(&cx, &attachments, &spec, &id).await;
        assert_eq!(world.of("attachment"), []);
    }
}

#[tokio::test]
async fn what_something_is_attached_to_waits_until_that_is_detached() {
    let world = World::start();
    let (wall, net, disk) =
        (made_wall(&world).await, made_net(&world).await, made_disk(&world).await);
    let server = machine(&world).await.id;
    let attachments = Attachment::new(&world.hetzner);
    let all =
        [Attached::Firewall(wall.1.id), Attached::Network(net.1.id), Attached::Volume(disk.1.id)];
    for (number, what) in all.into_iter().enumerate() {
        let (cx, spec) = (world.cx(&format!("on{number}")), AttachmentSpec::new(what, server));
        build(&world.host, &cx, &attachments, &spec).await;
    }
    let hetzner = &world.hetzner;
    let errors = [
        Firewall::new(hetzner).delete(&world.cx("wall"), &self::wall(), &wall.0).await,
        Network::new(hetzner).delete(&world.cx("net"), &self::net(), &net.0).await,
        Volume::new(hetzner).delete(&world.cx("disk"), &self::disk(), &disk.0).await,
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!((error.code(), error.effect()), ("resource_in_use", Effect::None));
        let soon = Verdict::Retry { after: Some(Duration::from_secs(5)) };
        assert_eq!(error.verdict(), &soon);
        assert!(error.hint().is_some());
    }
    assert_eq!(world.of("attachment").len(), 3, "nobody's attachment was ended");
    check(&world);
}

// covers: S11
#[tokio::test]
async fn a_disk_that_is_on_another_machine_is_left_there() {
    let world = World::start();
    let (_, disk) = made_disk(&world).await;
    let server = machine(&world).await.id;
    let (cx, attachments) = (world.cx("on"), Attachment::new(&world.hetzner));
    let spec = AttachmentSpec::new(Attached::Volume(disk.id), server);
    let (id, _) = build(&world.host, &cx, &attachments, &spec).await;
    let theirs = world.server.with(|sim| sim.seed_server("theirs", &[]));
    world.server.with(|sim| sim.put_volume(disk.id, theirs));
    let before = world.changes();
    attachments.delete(&cx, &spec, &id).await.unwrap();
    assert_eq!(world.changes(), before);
    assert_eq!(world.of("attachment").len(), 1);
    // And it cannot be had as long as it is there.
    let intent = world.host.intend(&cx, &attachments, &spec);
    let error = attachments.create(&cx, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("already_attached", Effect::None));
    assert!(error.hint().unwrap().contains("another server"));
}

// covers: S11, S12
#[test]
fn a_disk_that_somebody_else_attached_a_moment_before_stays_attached() {
    paused(async {
        let stage = Stage::set(OnMachine, Build::GIVES_UP).await;
        stage.server.with(|sim| sim.outrun_next_volume());
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(!matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        let ends = |part: &str| stage.changes().iter().any(|line| line.path.ends_with(part));
        assert!(ends("/attach") && !ends("/detach"), "it is not this run's");
        stage.close().await;
    });
}

#[tokio::test]
async fn an_attachment_that_fails_is_broken_and_one_to_nothing_is_refused() {
    let world = World::start();
    let (_, disk) = made_disk(&world).await;
    let server = machine(&world).await.id;
    let (cx, attachments) = (world.cx("on"), Attachment::new(&world.hetzner));
    world.server.with(|sim| sim.fail_next("attach_volume", "no_space"));
    let spec = AttachmentSpec::new(Attached::Volume(disk.id), server);
    let intent = world.host.intend(&cx, &attachments, &spec);
    let id = attachments.create(&cx, &spec, &intent).await.unwrap();
    let look = attachments.ready(&world.after("on", &intent), &spec, &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "action_no_space".to_owned() });
    attachments.delete(&cx, &spec, &id).await.unwrap();
    for what in [Attached::Volume(7), Attached::Network(7), Attached::Firewall(7)] {
        let spec = AttachmentSpec::new(what, server);
        assert_eq!(attachments.find(&cx, &spec).await.unwrap(), Found::Absent);
        let intent = world.host.intend(&cx, &attachments, &spec);
        let error = attachments.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("not_found", &Verdict::Permanent));
    }
    check(&world);
}

#[tokio::test]
async fn parts_that_cannot_work_are_refused_before_anything_is_sent() {
    let world = World::start();
    let cx = world.cx("x");
    let nets = [NetworkSpec::new("", "10.0.0.0/8"), NetworkSpec::new("n", "10.0.0.1/8")];
    for spec in nets {
        let nets = Network::new(&world.hetzner);
        let intent = world.host.intend(&cx, &nets, &spec);
        let error = nets.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    let disks = [
        VolumeSpec::new("d", 9, "fsn1"),
        VolumeSpec::new("d", 10, ""),
        VolumeSpec::new("d", 10, "fsn1").with_format("ntfs"),
    ];
    for spec in disks {
        let disks = Volume::new(&world.hetzner);
        let intent = world.host.intend(&cx, &disks, &spec);
        let error = disks.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    let walls = Firewall::new(&world.hetzner);
    let spec = FirewallSpec::new("w").allowing(Inbound::tcp("ssh"));
    let intent = world.host.intend(&cx, &walls, &spec);
    assert_eq!(walls.create(&cx, &spec, &intent).await.unwrap_err().code(), "invalid_spec");
    assert_eq!(world.server.requests(), []);
}
