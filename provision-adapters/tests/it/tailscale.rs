//! Tailscale: how a machine comes to be a device of the tailnet, and how its token is kept.

use std::time::Duration;

use provision_adapters::{
    http::BaseUrl,
    sim::{Fault, FaultRule, InventoryItem, SimOptions, SimServer},
    tailscale::{
        DeviceSpec, Enrolled, KeyMade, KeySpec, Tailscale, TailscaleConfig, TailscaleDevice,
        TailscaleKey,
        sim::{CLIENT_ID, CLIENT_SECRET, TAG, TailscaleSim},
    },
};
use provision_core::{
    Effect, ExternalId, Found, Readiness, Resource, RunId, SecretRef, StepContext, Timestamp,
    Verdict, context::Memory,
};
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

use crate::{
    spec::{SpecSet, check_exchanges},
    vercel::{build, settled},
};

/// A simulated tailnet, a client of it, and a host for single resources.
pub(crate) struct World {
    pub(crate) server: SimServer<TailscaleSim>,
    pub(crate) tailscale: Tailscale,
    pub(crate) host: SoloHost,
}

impl World {
    pub(crate) fn start() -> Self {
        let options = SimOptions::default().with_recorded_exchanges();
        let server = SimServer::start(TailscaleSim::new(), options).unwrap();
        let tailscale = client(&server.url());
        let host = SoloHost::new().with_secret("TAILSCALE_SECRET", CLIENT_SECRET);
        Self { server, tailscale, host }
    }

    pub(crate) fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<InventoryItem> {
        self.server.inventory().into_iter().filter(|item| item.kind == kind).collect()
    }

    pub(crate) fn keys(&self) -> TailscaleKey {
        TailscaleKey::new(&self.tailscale)
    }

    pub(crate) fn devices(&self) -> TailscaleDevice {
        TailscaleDevice::new(&self.tailscale)
    }

    pub(crate) async fn key(&self, path: &str) -> KeyMade {
        build(&self.host, &self.cx(path), &self.keys(), &wanted()).await.1
    }

    /// A machine joins with a key, as the run would let it.
    pub(crate) async fn join(&self, cx: &StepContext, key: &KeyMade) -> String {
        let secret = key.open(cx).await.unwrap();
        self.join_as(&key.hostname, secret.expose()).unwrap()
    }

    fn join_as(&self, hostname: &str, key: &str) -> Result<String, &'static str> {
        let now = Timestamp::from_system(std::time::SystemTime::now()).as_millis();
        self.server.with(|sim| sim.join(hostname, key, now))
    }

    fn count(&self, method: &str, path: &str) -> usize {
        let lines = self.server.requests();
        lines.iter().filter(|line| line.method == method && line.path.contains(path)).count()
    }

    /// Every exchange with the API fits its document; machines are not the API's.
    pub(crate) fn check(&self) {
        let Some(spec) = SpecSet::load("tailscale") else { return };
        check_exchanges(&spec.exempt("/sim"), &self.server.exchanges());
    }
}

pub(crate) fn client(url: &str) -> Tailscale {
    let base = BaseUrl::parse(url).unwrap();
    let secret = SecretRef::named("TAILSCALE_SECRET");
    Tailscale::new(TailscaleConfig::at(base, CLIENT_ID, secret)).unwrap()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn wanted() -> KeySpec {
    KeySpec::new("agent-7", [TAG])
}

// covers: R2-10, R2-54, R2-60, R2-70
#[tokio::test]
async fn a_machine_joins_with_its_key_is_waited_for_and_removed() {
    let world = World::start();
    let (cx, keys) = (world.cx("key"), world.keys());
    let (key_id, key) = build(&world.host, &cx, &keys, &wanted()).await;
    assert_eq!((key.name.as_str(), key.tags.as_slice()), ("agent-7", [TAG.to_owned()].as_slice()));
    assert!(key.hostname.starts_with("agent-7-p") && key.hostname.len() == 21, "{}", key.hostname);
    assert_eq!(keys.find(&cx, &wanted()).await.unwrap(), Found::Ours(key_id.clone()));
    assert_eq!(keys.list_owned(&cx).await.unwrap().complete().unwrap()[0].id, key_id);

    let (at, devices, spec) = (world.cx("device"), world.devices(), DeviceSpec::of(key.clone()));
    assert_eq!(devices.find(&at, &spec).await.unwrap(), Found::Absent);
    let intent = world.host.intend(&at, &devices, &spec);
    let id = devices.create(&at, &spec, &intent).await.unwrap();
    let state = devices.ready(&at, &spec, &id).await.unwrap();
    assert!(matches!(state, Readiness::NotYet { .. }), "no machine has joined");

    let node = world.join(&cx, &key).await;
    let made: Enrolled = settled(&at, &devices, &spec, &id).await.unwrap();
    assert_eq!((made.id, made.hostname), (node, key.hostname.clone()));
    assert_eq!(made.name, "agent-7.tail1234.ts.net", "it has the ordered name");
    assert!(made.ipv4.unwrap().starts_with("100.") && made.addresses.len() == 2);
    assert_eq!(made.tags, [TAG]);
    assert_eq!(devices.find(&at, &spec).await.unwrap(), Found::Ours(id.clone()));
    assert_eq!(devices.list_owned(&at).await.unwrap().complete().unwrap()[0].id, id);
    assert!(keys.find(&cx, &wanted()).await.unwrap() == Found::Absent, "it was good once");

    for _ in 0..2 {
        devices.delete(&at, &spec, &id).await.unwrap();
        keys.delete(&cx, &wanted(), &key_id).await.unwrap();
    }
    assert_eq!(world.server.inventory(), []);
    world.check();
}

// covers: R2-10, S11
#[tokio::test]
async fn a_key_is_good_once_short_lived_tagged_and_never_asked_for_more() {
    let world = World::start();
    let key = world.key("key").await;
    let exchanges = world.server.exchanges();
    let create = exchanges.iter().find(|e| e.request.method == "POST" && e.request.path.len() == 5);
    let sent: serde_json::Value = create.unwrap().request.json().unwrap();
    assert_eq!(sent["expirySeconds"], 3_600);
    let rights = &sent["capabilities"]["devices"]["create"];
    let expected = serde_json::json!(
        { "reusable": false, "ephemeral": false, "preauthorized": true, "tags": [TAG] }
    );
    assert_eq!(rights, &expected);
    assert!(sent["description"].as_str().unwrap().ends_with(" agent-7"));
    // No scope is asked for: a narrower one loses the client's tags.
    let token = String::from_utf8(exchanges[0].request.body.clone()).unwrap();
    assert!(token.starts_with("grant_type=client_credentials&") && !token.contains("scope"));

    let cx = world.cx("key");
    world.join(&cx, &key).await;
    let secret = key.open(&cx).await.unwrap();
    assert!(world.join_as("thief", secret.expose()).is_err(), "a second machine joined with it");

    let spec = wanted().ephemeral().needing_approval().living_for(Duration::from_secs(120));
    build(&world.host, &world.cx("other"), &world.keys(), &spec).await;
    let sent = world.server.exchanges().into_iter().rfind(|e| e.request.method == "POST").unwrap();
    let sent: serde_json::Value = sent.request.json().unwrap();
    assert_eq!(sent["expirySeconds"], 120);
    let rights = &sent["capabilities"]["devices"]["create"];
    assert_eq!((&rights["ephemeral"], &rights["preauthorized"]), (&true.into(), &false.into()));
    world.check();
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_before_anything_is_sent() {
    let world = World::start();
    let cx = world.cx("key");
    let specs = [
        KeySpec::new("agent-7", Vec::<String>::new()),
        KeySpec::new("agent-7", ["agent"]),
        KeySpec::new("Agent 7", [TAG]),
        KeySpec::new("a".repeat(50), [TAG]),
        wanted().living_for(Duration::from_secs(59)),
        wanted().living_for(Duration::from_secs(91 * 24 * 3_600)),
    ];
    for spec in specs {
        let intent = world.host.intend(&cx, &world.keys(), &spec);
        let error = world.keys().create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{spec:?}");
        assert_eq!(error.verdict(), &Verdict::Permanent);
    }
    let mut device = DeviceSpec::of(world.key("made").await);
    device.hostname = "laptop".to_owned();
    let intent = world.host.intend(&cx, &world.devices(), &device);
    let error = world.devices().create(&cx, &device, &intent).await.unwrap_err();
    assert_eq!(error.code(), "invalid_spec", "a host name without a token may be anybody's");
    assert_eq!(world.count("POST", "/keys"), 1);
}

// covers: R2-11
#[tokio::test]
async fn a_key_past_its_end_is_never_handed_out_and_what_waits_for_it_ends() {
    let world = World::start();
    let key = world.key("key").await;
    let quarter = world.cx("key").now().plus(Duration::from_secs(91 * 24 * 3_600));
    let later = world.host.clone().with_now(quarter);
    let cx = later.context(run(1), "vm");
    let error = key.open(&cx).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("enrolment_key_expired", &Verdict::Permanent));
    assert!(error.hint().is_some());
    let spec = DeviceSpec::of(key.clone());
    let id = ExternalId::new(key.hostname.as_str());
    let error = world.devices().ready(&cx, &spec, &id).await.unwrap_err();
    assert_eq!(error.code(), "enrolment_key_expired");
    // A run that stood still for as long, between the key and its record, does not use it either.
    let id = ExternalId::new(key.id.as_str());
    let memory = Memory { polling_since: Some(Timestamp::ZERO), ..Memory::default() };
    let cx = later.attempt(run(1), "key", 2, memory);
    let state = world.keys().ready(&cx, &wanted(), &id).await.unwrap();
    assert!(matches!(state, Readiness::Broken { ref code } if code == "expired"), "{state:?}");
}

// covers: R2-73, S11
#[tokio::test]
async fn a_name_can_be_used_again_and_a_number_behind_it_is_never_overlooked() {
    let world = World::start();
    let devices = world.devices();
    let enrol = async |path: &str| {
        let key = world.key(path).await;
        world.join(&world.cx(path), &key).await;
        let spec = DeviceSpec::of(key);
        let id = ExternalId::new(spec.hostname.as_str());
        (devices.ready(&world.cx("device"), &spec, &id).await, spec, id)
    };
    let (first, spec, id) = enrol("first").await;
    assert!(matches!(first, Ok(Readiness::Ready(ref d)) if d.name.starts_with("agent-7.")));
    devices.delete(&world.cx("device"), &spec, &id).await.unwrap();
    let (second, ..) = enrol("second").await;
    assert!(matches!(second, Ok(Readiness::Ready(ref d)) if d.name.starts_with("agent-7.")));
    // The second one is still there when a third comes.
    let (third, spec, id) = enrol("third").await;
    let error = third.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("name_taken", &Verdict::Permanent));
    world.server.with(|sim| sim.refuse_taken_names(true));
    let error = devices.ready(&world.cx("device"), &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("name_refused", Effect::None));
    // Under the host name it joined with, it is alone.
    let own = spec.clone().keeping_hostname();
    let state = devices.ready(&world.cx("device"), &own, &id).await.unwrap();
    assert!(matches!(state, Readiness::Ready(ref d) if d.hostname == spec.hostname), "{state:?}");
    devices.delete(&world.cx("device"), &spec, &id).await.unwrap();
    let names: Vec<_> = world.of("device").into_iter().map(|item| item.name).collect();
    assert_eq!(names.len(), 1, "the second one was not touched: {names:?}");
    world.check();
}

#[tokio::test]
async fn a_device_that_needs_approval_is_waited_for() {
    let world = World::start();
    let spec = wanted().needing_approval();
    let (_, key) = build(&world.host, &world.cx("key"), &world.keys(), &spec).await;
    world.join(&world.cx("key"), &key).await;
    let (cx, device) = (world.cx("device"), DeviceSpec::of(key));
    let id = ExternalId::new(device.hostname.as_str());
    let state = world.devices().ready(&cx, &device, &id).await.unwrap();
    assert!(matches!(state, Readiness::NotYet { .. }), "{state:?}");
    world.server.with(|sim| sim.approve(&device.hostname));
    let state = world.devices().ready(&cx, &device, &id).await.unwrap();
    assert!(matches!(state, Readiness::Ready(_)), "{state:?}");
}

// covers: S12, R2-61
#[tokio::test]
async fn the_undo_of_a_key_removes_what_joined_with_it_and_nothing_else() {
    let world = World::start();
    let (cx, keys) = (world.cx("key"), world.keys());
    world.server.with(|sim| sim.seed_device("agent-7"));
    let (id, key) = build(&world.host, &cx, &keys, &wanted()).await;
    let theirs = world.key("theirs").await;
    world.join(&cx, &key).await;
    world.join(&cx, &theirs).await;
    // A duplicate that the watch finds long after: the device of the live one stays.
    let watch = world.host.context(run(1), "key");
    keys.delete(&watch, &wanted(), &ExternalId::new("kLateCNTRL")).await.unwrap();
    assert_eq!(world.of("device").len(), 2);
    for _ in 0..2 {
        keys.delete(&cx, &wanted(), &id).await.unwrap();
    }
    let left: Vec<_> = world.of("device").into_iter().map(|item| item.name).collect();
    assert_eq!(left, [theirs.hostname], "only what joined with this key is removed");
    assert_eq!(world.server.with(|sim| sim.hostnames().len()), 2, "and not what others made");
    let (at, spec) = (world.cx("device"), DeviceSpec::of(key.clone()));
    world.devices().delete(&at, &spec, &ExternalId::new("agent-7")).await.unwrap();
    assert_eq!(world.server.with(|sim| sim.hostnames().len()), 2, "a name without our token");
}

// covers: S7, S9
#[tokio::test]
async fn a_repeated_mint_leaves_one_key_and_a_lost_value_is_replaced() {
    let world = World::start();
    let (cx, keys) = (world.cx("key"), world.keys());
    world.server.faults().add(FaultRule::new(Fault::Duplicate).path_contains("/keys").once());
    let (id, made) = build(&world.host, &cx, &keys, &wanted()).await;
    let left = world.of("auth_key");
    assert_eq!(left.len(), 1, "a proxy that repeats leaves no second key");
    assert_eq!((left[0].id.as_str(), made.id.as_str()), (id.as_str(), id.as_str()));
    world.join(&cx, &made).await;

    // Minted, and the answer lost: the key is found, and said to be broken, so that it is replaced.
    let cx = world.cx("lost");
    world.server.faults().add(FaultRule::new(Fault::DropAfter).path_contains("/keys").once());
    let intent = world.host.intend(&cx, &keys, &wanted());
    let error = keys.create(&cx, &wanted(), &intent).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    let Found::Ours(id) = keys.find(&cx, &wanted()).await.unwrap() else { panic!("not found") };
    cx.note(&id).await.unwrap();
    let state = keys.ready(&cx, &wanted(), &id).await.unwrap();
    assert!(matches!(state, Readiness::Broken { ref code } if code == "key_lost"), "{state:?}");
    keys.delete(&cx, &wanted(), &id).await.unwrap();
    assert_eq!(keys.find(&cx, &wanted()).await.unwrap(), Found::Absent);
}

// covers: R1-12, R2-10
#[tokio::test]
async fn one_token_serves_all_callers_and_is_replaced_before_its_end() {
    let world = World::start();
    let minted = || world.server.with(|sim| sim.tokens_minted());
    let slow = Fault::SlowHeaders(Duration::from_millis(200));
    world.server.faults().add(FaultRule::new(slow).path_contains("/oauth").once());
    let finds = (0..6).map(|n| {
        let (cx, keys) = (world.cx(&format!("key-{n}")), world.keys());
        async move { keys.find(&cx, &wanted()).await.map(drop) }
    });
    for found in futures_util::future::join_all(finds).await {
        found.unwrap();
    }
    assert_eq!(minted(), 1, "one flight for all");
    // Within a minute of its end it is not used any more: a short one, for half of its life.
    world.server.with(|sim| {
        sim.end_tokens();
        sim.set_token_seconds(6);
    });
    let (cx, keys) = (world.cx("key"), world.keys());
    keys.find(&cx, &wanted()).await.unwrap();
    assert_eq!(minted(), 2);
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let refused = || world.server.requests().iter().filter(|line| line.status == 401).count();
    let before = refused();
    keys.find(&cx, &wanted()).await.unwrap();
    assert_eq!((minted(), refused()), (3, before), "replaced before it was refused");
}

// covers: R1-12, R2-10, S9
#[tokio::test]
async fn a_refused_token_is_replaced_once_and_by_one_caller() {
    let world = World::start();
    let minted = || world.server.with(|sim| sim.tokens_minted());
    let cx = world.cx("key");
    world.keys().find(&cx, &wanted()).await.unwrap();
    world.server.with(TailscaleSim::end_tokens);
    let finds = (0..6).map(|n| {
        let (cx, keys) = (world.cx(&format!("key-{n}")), world.keys());
        async move { keys.find(&cx, &wanted()).await.map(drop) }
    });
    for found in futures_util::future::join_all(finds).await {
        found.unwrap();
    }
    assert_eq!(minted(), 2, "all were refused, one got the new token");
    // A provider that refuses every token is believed after the second.
    world.server.faults().add(FaultRule::new(Fault::TokenRevoked).path_contains("/tailnet"));
    let before = world.server.requests().len();
    let error = world.keys().find(&cx, &wanted()).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("unauthorized", &Verdict::Permanent));
    assert_eq!(world.server.requests().len(), before + 3, "call, token, call");
}

// covers: S9
#[tokio::test]
async fn a_token_endpoint_that_fails_costs_one_call_for_all_who_wait() {
    let world = World::start();
    world.server.faults().add(FaultRule::new(Fault::Status(503)).path_contains("/oauth"));
    let finds = (0..6).map(|n| {
        let (cx, keys) = (world.cx(&format!("key-{n}")), world.keys());
        async move { keys.find(&cx, &wanted()).await.map(drop) }
    });
    let ends = futures_util::future::join_all(finds).await;
    for end in ends {
        let error = end.unwrap_err();
        assert_eq!(error.effect(), Effect::None);
        assert!(matches!(error.verdict(), Verdict::Retry { .. }), "{error}");
        assert!(["server_error", "token_unavailable"].contains(&error.code()), "{error}");
    }
    assert_eq!(world.count("POST", "/oauth"), 1);
    world.server.faults().clear();
    world.keys().find(&world.cx("key"), &wanted()).await.unwrap();
}
