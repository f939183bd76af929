//! Hetzner Cloud: how a machine is made with its parts, and what every answer of the provider means.

use std::{collections::BTreeMap, time::Duration};

use provision_adapters::{
    hetzner::{
        Hetzner, HetznerConfig, Server, ServerSpec, SshKey, SshKeyMade, SshKeySpec, UserData,
        sim::{HetznerSim, TOKEN},
    },
    http::BaseUrl,
    sim::{Exchange, InventoryItem, SimOptions, SimServer},
};
use provision_core::{
    Effect, ExternalId, Found, Intent, Readiness, Resource, RunId, SecretRef, StepContext,
    StepError, Verdict,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::spec::{SpecSet, check_exchanges};

pub(crate) const CANARY: &str = "canary-join-key-51c2";
pub(crate) const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIacme ops@acme";

/// A simulated Hetzner, a client of it, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<HetznerSim>,
    pub(crate) hetzner: Hetzner,
    pub(crate) host: SoloHost,
}

impl World {
    /// Actions take no time here.
    pub(crate) fn start() -> Self {
        Self::at_speed(0.0)
    }

    pub(crate) fn at_speed(speed: f64) -> Self {
        let options = SimOptions::default().with_speed(speed).with_recorded_exchanges();
        let server = SimServer::start(HetznerSim::new(), options).unwrap();
        let hetzner = client(&server.url());
        let host = SoloHost::new().with_secret("HCLOUD_TOKEN", TOKEN).with_secret("JOIN", CANARY);
        Self { server, hetzner, host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    /// The context of an attempt so late that no look-up lags any more.
    pub(crate) fn late(&self, path: &str) -> StepContext {
        let memory = provision_core::context::Memory {
            polling_since: Some(provision_core::Timestamp::ZERO),
            ..Default::default()
        };
        self.host.attempt(run(1), path, 2, memory)
    }

    /// The context of a later attempt, which remembers what this step meant to do.
    pub(crate) fn after(&self, path: &str, intent: &Intent) -> StepContext {
        let memory = provision_core::context::Memory {
            intent: Some(intent.record().clone()),
            unknown: true,
            may_exist: true,
            ..Default::default()
        };
        self.host.attempt(run(1), path, 2, memory)
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<InventoryItem> {
        self.server.inventory().into_iter().filter(|item| item.kind == kind).collect()
    }

    pub(crate) async fn key(&self) -> SshKeyMade {
        let spec = SshKeySpec::new("acme-ops", PUBLIC_KEY);
        build(&self.host, &self.cx("key"), &SshKey::new(&self.hetzner), &spec).await.1
    }

    /// How many requests were made that may change something.
    pub(crate) fn changes(&self) -> usize {
        self.server.requests().iter().filter(|line| line.method != "GET").count()
    }
}

pub(crate) fn client(url: &str) -> Hetzner {
    let base = BaseUrl::parse(url).unwrap();
    Hetzner::new(HetznerConfig::at(base, SecretRef::named("HCLOUD_TOKEN"))).unwrap()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn agent() -> ServerSpec {
    ServerSpec::new("agent-7", "cx23", "debian-13", "fsn1")
}

/// Finds nothing, creates, and asks until it is ready; bounded.
pub(crate) async fn build<R: Resource>(
    host: &SoloHost,
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
) -> (ExternalId, R::Output) {
    assert_eq!(resource.find(cx, spec).await.unwrap(), Found::Absent);
    let intent = host.intend(cx, resource, spec);
    let id = resource.create(cx, spec, &intent).await.unwrap();
    assert!(cx.noted().contains(&id), "the id is noted before anything is waited for");
    let output = settled(cx, resource, spec, &id).await.unwrap();
    (id, output)
}

/// Asks until it is ready or fails; bounded by 500 looks of 10 ms.
pub(crate) async fn settled<R: Resource>(
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
    id: &ExternalId,
) -> Result<R::Output, StepError> {
    for _ in 0..3_000 {
        match resource.ready(cx, spec, id).await? {
            Readiness::Ready(output) => return Ok(output),
            Readiness::NotYet { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            Readiness::Broken { code } => panic!("broken: {code}"),
        }
    }
    panic!("not ready in time");
}

/// Deletes until it is gone, and once more; bounded.
pub(crate) async fn gone<R: Resource>(
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
    id: &ExternalId,
) {
    for _ in 0..3_000 {
        match resource.delete(cx, spec, id).await {
            Ok(()) => return resource.delete(cx, spec, id).await.unwrap(),
            Err(error) => {
                // Taken and not done yet, or refused while another action goes on.
                let refused = error.code() == "locked" && error.effect() == Effect::None;
                assert!(refused || error.effect() == Effect::Unknown, "{error}");
                assert!(matches!(error.verdict(), Verdict::Retry { after: Some(_) }), "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    panic!("not gone in time");
}

/// Every exchange fits the provider's document.
pub(crate) fn check(world: &World) {
    let Some(spec) = SpecSet::load("hetzner") else { return };
    // Two of a kind are enough: a schema takes a while to compile.
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut fresh = |e: &Exchange| {
        let fixed = |part: &&String| part.parse::<u64>().is_err();
        let words: Vec<&String> = e.request.path.iter().filter(fixed).collect();
        let kind = format!("{} {words:?} {}", e.request.method, e.response.status);
        let count = seen.entry(kind).or_default();
        *count += 1;
        *count <= 2
    };
    let exchanges: Vec<_> = world.server.exchanges().into_iter().filter(&mut fresh).collect();
    check_exchanges(&spec, &exchanges);
}

// covers: R2-09, R2-16
#[tokio::test]
async fn a_machine_is_made_with_its_key_and_labels_and_goes_without_a_trace() {
    let world = World::at_speed(0.01);
    let key = world.key().await;
    assert_eq!(key.fingerprint.len(), 47);
    let data = UserData::new("#cloud-config\nruncmd:\n  - join <<key>> <<EOF>>\n")
        .with_secret("key", SecretRef::named("JOIN"));
    let spec = agent().with_ssh_key(key.id).with_label("customer", "acme").with_user_data(data);
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let (id, made) = build(&world.host, &cx, &machines, &spec).await;
    assert_eq!((made.name.as_str(), made.location.as_str()), ("agent-7", "fsn1"));
    assert_eq!((made.server_type.as_str(), made.id.to_string().as_str()), ("cx23", id.as_str()));
    assert!(made.ipv4.is_some() && made.ipv6.is_some());
    let listed = world.of("server").remove(0);
    assert_eq!(listed.labels["customer"], "acme");
    assert_eq!(listed.labels["provision-run"], run(1).to_string());
    let told = world.server.with(|sim| sim.user_data("agent-7")).unwrap();
    assert_eq!(told, format!("#cloud-config\nruncmd:\n  - join {CANARY} <<EOF>>\n"));
    // The datacenter is gone from the API: the location is what is sent.
    let mut exchanges = world.server.exchanges();
    exchanges.retain(|e| e.request.method == "POST" && e.request.path == ["v1", "servers"]);
    let body: serde_json::Value = exchanges[0].request.json().unwrap();
    assert_eq!((&body["location"], body.get("datacenter")), (&serde_json::json!("fsn1"), None));
    assert_eq!(machines.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));

    gone(&cx, &machines, &spec, &id).await;
    let keys = SshKey::new(&world.hetzner);
    let key_id = ExternalId::new(key.id.to_string());
    gone(&world.cx("key"), &keys, &SshKeySpec::new("acme-ops", PUBLIC_KEY), &key_id).await;
    assert_eq!(world.server.inventory(), []);
    check(&world);
}

#[tokio::test]
async fn a_machine_is_not_there_before_its_actions_are_done() {
    let world = World::at_speed(1.0);
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let intent = world.host.intend(&cx, &machines, &agent());
    let id = machines.create(&cx, &agent(), &intent).await.unwrap();
    let look = machines.ready(&cx, &agent(), &id).await.unwrap();
    assert_eq!(look, Readiness::NotYet { again_in: Duration::from_secs(1) });
    // Later it is looked at less often: the project's calls are counted.
    let look = machines.ready(&world.late("machine"), &agent(), &id).await.unwrap();
    assert_eq!(look, Readiness::NotYet { again_in: Duration::from_secs(15) });
    // An action holds it: nothing else may be done to it, not even deleting it.
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("locked", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Retry { after: Some(Duration::from_secs(5)) });
    check(&world);
}

// covers: R2-09
#[tokio::test]
async fn an_action_that_fails_after_the_machine_is_there_leaves_it_broken_and_removable() {
    for command in ["create_server", "start_server"] {
        let world = World::start();
        world.server.with(|sim| sim.fail_next(command, "placement_error"));
        let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
        let intent = world.host.intend(&cx, &machines, &agent());
        let id = machines.create(&cx, &agent(), &intent).await.unwrap();
        let look = machines.ready(&cx, &agent(), &id).await.unwrap();
        assert_eq!(look, Readiness::Broken { code: "action_placement_error".to_owned() });
        assert_eq!(world.of("server").len(), 1, "the failed create left a machine");
        gone(&cx, &machines, &agent(), &id).await;
        assert_eq!(world.of("server"), []);
        check(&world);
    }
}

#[tokio::test]
async fn a_machine_that_goes_is_waited_for_and_its_name_is_taken_until_then() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let (id, _) = build(&world.host, &cx, &machines, &agent()).await;
    world.server.with(|sim| sim.fail_next("delete_server", "locked"));
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("deleting", Effect::Unknown));
    let found = machines.find(&cx, &agent()).await.unwrap();
    assert_eq!(found, Found::Going { again_in: Duration::from_secs(3) });
    // For another run's step, too: the name is free soon.
    let theirs = world.host.context(run(2), "machine");
    assert_eq!(machines.find(&theirs, &agent()).await.unwrap(), found);
    let look = machines.ready(&cx, &agent(), &id).await.unwrap();
    assert_eq!(look, Readiness::Broken { code: "deleting".to_owned() });
    assert_eq!(machines.list_owned(&cx).await.unwrap().complete().unwrap(), []);
}

// covers: S11
#[tokio::test]
async fn what_is_protected_or_has_got_another_owner_waits_for_a_person() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let (id, _) = build(&world.host, &cx, &machines, &agent()).await;
    let before = world.changes();
    world.server.with(|sim| sim.set_protected("agent-7", true));
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("protected", &Verdict::Operator));
    assert!(error.hint().unwrap().contains("console"));
    let theirs = world.host.context(run(2), "machine").mark().labels();
    world.server.with(|sim| {
        sim.set_protected("agent-7", false);
        sim.set_labels("agent-7", &theirs);
    });
    let error = machines.delete(&cx, &agent(), &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("owner_changed", &Verdict::Operator));
    assert_eq!(world.changes(), before, "nothing was sent");
    // Labels that a person has removed name nobody else: it is still what this run has made.
    world.server.with(|sim| sim.set_labels("agent-7", &[]));
    gone(&cx, &machines, &agent(), &id).await;
    assert_eq!(world.of("server"), []);
}

// covers: S11, R5-38
#[tokio::test]
async fn what_is_not_ours_is_named_and_what_a_person_renamed_is_found() {
    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    world.server.with(|sim| sim.seed_server("agent-7", &[]));
    let Found::Foreign(foreign) = machines.find(&cx, &agent()).await.unwrap() else {
        panic!("a machine without a mark is foreign")
    };
    assert!(foreign.markable && foreign.owner.is_none() && foreign.created_at.is_some());

    let world = World::start();
    let (cx, machines) = (world.cx("machine"), Server::new(&world.hetzner));
    let (id, _) = build(&world.host, &cx, &machines, &agent()).await;
    for (number, path) in [(2, "machine"), (1, "other")] {
        let theirs = world.host.context(run(number), path);
        let Found::Foreign(foreign) = machines.find(&theirs, &agent()).await.unwrap() else {
            panic!("another mark is foreign")
        };
        assert_eq!(foreign.owner, Some(cx.mark()));
    }
    world.server.with(|sim| sim.rename("agent-7", "agent-renamed"));
    assert_eq!(machines.find(&cx, &agent()).await.unwrap(), Found::Ours(id.clone()));
    // Also where somebody else has the name meanwhile.
    world.server.with(|sim| sim.seed_server("agent-7", &[]));
    assert_eq!(machines.find(&cx, &agent()).await.unwrap(), Found::Ours(id));
    check(&world);
}

// covers: S11
#[tokio::test]
async fn the_same_public_key_under_another_name_is_somebody_elses() {
    let world = World::start();
    let theirs = world.server.with(|sim| sim.seed_key("laptop", "ssh-ed25519 AAAAshared me@home"));
    let keys = SshKey::new(&world.hetzner);
    let spec = SshKeySpec::new("acme-ops", "ssh-ed25519 AAAAshared ops@acme");
    let Found::Foreign(foreign) = keys.find(&world.cx("key"), &spec).await.unwrap() else {
        panic!("the provider takes a public key once")
    };
    assert_eq!(foreign.id.as_str(), theirs.to_string());
    // Where another one is faster, the refusal asks for a look.
    let intent = world.host.intend(&world.cx("key"), &keys, &spec);
    let error = keys.create(&world.cx("key"), &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_taken", Effect::Unknown));
    check(&world);
}

#[tokio::test]
async fn everything_that_carries_a_mark_is_listed_over_all_pages() {
    let world = World::start();
    let other = world.host.context(run(3), "machine").mark();
    world.server.with(|sim| {
        for number in 0..120 {
            sim.seed_server(&format!("theirs-{number}"), &[]);
            sim.seed_server(&format!("ours-{number}"), &other.labels());
        }
    });
    let cx = world.host.context(run(9), "sweep");
    let owned = Server::new(&world.hetzner).list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 120);
    assert!(owned.iter().all(|one| one.mark.as_ref() == Some(&other) && one.created_at.is_some()));
    check(&world);
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_refused_before_anything_is_sent() {
    let world = World::start();
    let cx = world.cx("x");
    let machines = Server::new(&world.hetzner);
    let servers = [
        ServerSpec::new("agent_7", "cx23", "debian-13", "fsn1"),
        ServerSpec::new("", "cx23", "debian-13", "fsn1"),
        ServerSpec::new("agent", "", "debian-13", "fsn1"),
        agent().with_label("provision-run", "x"),
        agent().with_label("site", "https://acme.example"),
        agent().with_public(false, false),
        agent().with_public(false, false).with_network(1).with_firewall(2),
        agent().with_user_data(UserData::new("x".repeat(40_000))),
        agent().with_user_data(UserData::new("x").with_secret("a", SecretRef::named("JOIN"))),
        agent().with_user_data(
            UserData::new(format!("{}<<a>>", "x".repeat(32_760)))
                .with_secret("a", SecretRef::named("JOIN")),
        ),
    ];
    for spec in servers {
        let intent = world.host.intend(&cx, &machines, &spec);
        let error = machines.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    let keys = SshKey::new(&world.hetzner);
    for spec in [SshKeySpec::new("", PUBLIC_KEY), SshKeySpec::new("a", "no key")] {
        let intent = world.host.intend(&cx, &keys, &spec);
        let error = keys.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
    }
    assert_eq!(world.server.requests(), []);
}
