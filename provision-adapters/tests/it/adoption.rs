//! Sets that somebody else made and a run uses: they are read, and never written.

use provision_adapters::{
    github::{RepoSecrets, RepoVariables, SecretsSpec, VariablesSpec},
    hetzner::{Server, ServerSpec, SshKey, SshKeySpec, Volume, VolumeSpec},
    n8n::{ActivationSpec, WorkflowActivation},
    sim::{Provider, RequestLine, SimServer},
    vercel::{DomainSpec, EnvSpec, EnvVar, VercelDomain, VercelEnv},
};
use provision_core::{
    Effect, ExternalId, Found, Origin, Readiness, Resource, SecretRef, StepContext, Verdict,
};

use crate::{github, hetzner, n8n, vercel};

/// Takes what others made, as the engine does where the policy says so.
async fn adopt<R: Resource>(cx: &StepContext, resource: &R, spec: &R::Spec) -> ExternalId {
    let Found::Foreign(foreign) = resource.find(cx, spec).await.unwrap() else {
        panic!("it is not somebody else's")
    };
    cx.note_as(&foreign.id, Origin::Adopted).await.unwrap();
    foreign.id
}

/// An adopted set that lacks something ends the step for good.
async fn is_incomplete<R: Resource>(
    cx: &StepContext,
    resource: &R,
    spec: &R::Spec,
    id: &ExternalId,
) {
    let Err(error) = resource.ready(cx, spec, id).await else { panic!("it was completed") };
    assert_eq!((error.code(), error.verdict()), ("adopted_incomplete", &Verdict::Permanent));
    assert_eq!(error.effect(), Effect::None);
    assert!(error.hint().is_some());
}

async fn is_used<R: Resource>(cx: &StepContext, resource: &R, spec: &R::Spec, id: &ExternalId) {
    let state = resource.ready(cx, spec, id).await;
    assert!(matches!(state, Ok(Readiness::Ready(_))), "a whole set is used as it is");
}

fn changes<P: Provider>(server: &SimServer<P>) -> Vec<RequestLine> {
    let mut lines = server.requests();
    lines.retain(|line| !matches!(&*line.method, "GET" | "HEAD" | "OPTIONS"));
    lines
}

// covers: S11
#[tokio::test]
async fn adopted_secrets_are_used_whole_and_never_completed() {
    let world = github::World::new();
    let site = github::number(&world.site().await);
    let secrets = RepoSecrets::new(&world.github);
    let one =
        |name: &str| SecretsSpec::new(site, "acme/site").with(name, SecretRef::named("DB_URL"));
    let wanted = one("A").with("B", SecretRef::named("DB_URL"));
    let (theirs, cx) = (world.host.context(github::run(2), "x"), world.cx("secrets"));
    let make = async |name: &str| {
        let intent = world.host.intend(&theirs, &secrets, &one(name));
        secrets.create(&theirs, &one(name), &intent).await.unwrap();
    };
    make("A").await;
    let id = adopt(&cx, &secrets, &wanted).await;
    let before = changes(&world.server);
    is_incomplete(&cx, &secrets, &wanted, &id).await;
    assert_eq!(changes(&world.server), before);
    make("B").await;
    is_used(&cx, &secrets, &wanted, &id).await;
    assert_eq!(changes(&world.server).len(), before.len() + 1);
}

// covers: S11
#[tokio::test]
async fn adopted_variables_are_used_whole_and_never_completed_or_changed() {
    let world = github::World::new();
    let site = github::number(&world.site().await);
    let variables = RepoVariables::new(&world.github);
    let one = |name: &str, value: &str| VariablesSpec::new(site, "acme/site").with(name, value);
    let wanted = one("A", "1").with("B", "2");
    let (theirs, cx) = (world.host.context(github::run(2), "x"), world.cx("variables"));
    let make = async |name: &str, value: &str| {
        let intent = world.host.intend(&theirs, &variables, &one(name, value));
        variables.create(&theirs, &one(name, value), &intent).await.unwrap();
    };
    make("A", "1").await;
    let id = adopt(&cx, &variables, &wanted).await;
    let before = changes(&world.server);
    is_incomplete(&cx, &variables, &wanted, &id).await;
    is_incomplete(&cx, &variables, &one("A", "other"), &id).await;
    assert_eq!(changes(&world.server), before);
    make("B", "2").await;
    is_used(&cx, &variables, &wanted, &id).await;
    assert_eq!(changes(&world.server).len(), before.len() + 1);
}

// covers: S11
#[tokio::test]
async fn adopted_site_variables_are_used_whole_and_never_completed() {
    let world = vercel::World::start();
    let project = world.project().await;
    let env = VercelEnv::new(&world.vercel);
    let one = |key: &str| EnvSpec::new(project.clone(), [EnvVar::plain(key, "1")]);
    let wanted = EnvSpec::new(project.clone(), [EnvVar::plain("A", "1"), EnvVar::plain("B", "1")]);
    let cx = world.cx("env");
    vercel::build(&world.host, &world.host.context(vercel::run(2), "x"), &env, &one("A")).await;
    let id = adopt(&cx, &env, &wanted).await;
    let before = changes(&world.server);
    is_incomplete(&cx, &env, &wanted, &id).await;
    assert_eq!(changes(&world.server), before);
    vercel::build(&world.host, &world.host.context(vercel::run(2), "y"), &env, &one("B")).await;
    is_used(&cx, &env, &wanted, &id).await;
    assert_eq!(changes(&world.server).len(), before.len() + 1);
}

// covers: S11
#[tokio::test]
async fn an_adopted_domain_is_verified_by_those_who_own_it() {
    let world = vercel::World::start();
    let spec = DomainSpec::new(world.project().await, "app.acme.example");
    let domain = VercelDomain::new(&world.vercel);
    let (theirs, cx) = (world.host.context(vercel::run(2), "x"), world.cx("domain"));
    let intent = world.host.intend(&theirs, &domain, &spec);
    let made = domain.create(&theirs, &spec, &intent).await.unwrap();
    let id = adopt(&cx, &domain, &spec).await;
    world.server.with(|sim| sim.set_dns("app.acme.example"));
    let before = changes(&world.server);
    is_incomplete(&cx, &domain, &spec, &id).await;
    assert_eq!(changes(&world.server), before);
    is_used(&theirs, &domain, &spec, &made).await;
    is_used(&cx, &domain, &spec, &id).await;
}

// covers: S11
#[tokio::test]
async fn an_adopted_activation_is_used_whole_and_never_switched() {
    let world = n8n::World::start();
    let (_, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    let (theirs, cx) = (world.host.context(n8n::run(2), "x"), world.cx("activation"));
    let active = ActivationSpec::new(made);
    world.server.with(|sim| sim.forget_webhooks(1));
    let intent = world.host.intend(&theirs, &activation, &active);
    let own = activation.create(&theirs, &active, &intent).await.unwrap();
    let id = adopt(&cx, &activation, &active).await;
    let switches = |lines: Vec<RequestLine>| {
        lines.into_iter().filter(|line| line.path.contains("activate")).count()
    };
    let before = switches(changes(&world.server));
    is_incomplete(&cx, &activation, &active, &id).await;
    assert_eq!(switches(changes(&world.server)), before);
    is_used(&theirs, &activation, &active, &own).await;
    is_used(&cx, &activation, &active, &id).await;
    // Switched off meanwhile by those who own it.
    activation.delete(&theirs, &active, &own).await.unwrap();
    let memory = provision_core::context::Memory {
        noted: vec![(id.clone(), Origin::Adopted)],
        polling_since: Some(provision_core::Timestamp::ZERO),
        ..Default::default()
    };
    let late = world.host.attempt(n8n::run(1), "activation", 2, memory);
    is_incomplete(&late, &activation, &active, &id).await;
}

// covers: S11
#[tokio::test]
async fn an_adopted_machine_is_used_as_it_is_and_never_switched_or_completed() {
    let world = hetzner::World::start();
    let theirs = world.host.context(hetzner::run(2), "machine");
    let machines = Server::new(&world.hetzner);
    let off = hetzner::agent().stopped();
    let (made, _) = hetzner::build(&world.host, &theirs, &machines, &off).await;
    let hidden = ServerSpec::new("agent-8", "cx23", "debian-13", "fsn1").with_public(false, true);
    let hidden = hidden.stopped();
    let bare = world.host.context(hetzner::run(2), "hidden");
    hetzner::build(&world.host, &bare, &machines, &hidden).await;
    let cx = world.cx("machine");
    let id = adopt(&cx, &machines, &hetzner::agent()).await;
    let before = changes(&world.server);
    is_incomplete(&cx, &machines, &hetzner::agent(), &id).await;
    is_incomplete(&cx, &machines, &off.clone().with_firewall(7), &id).await;
    for (kind, image, place) in [
        ("cx33", "debian-13", "fsn1"),
        ("cx23", "debian-13", "nbg1"),
        ("cx23", "ubuntu-24.04", "fsn1"),
    ] {
        let other = ServerSpec::new("agent-7", kind, image, place).stopped();
        is_incomplete(&cx, &machines, &other, &id).await;
    }
    // It may be reached from where nobody wants it to be, or not from where somebody does.
    for (ipv4, ipv6) in [(false, true), (true, false)] {
        is_incomplete(&cx, &machines, &off.clone().with_public(ipv4, ipv6), &id).await;
    }
    is_used(&cx, &machines, &off, &id).await;
    let other = world.cx("hidden");
    let lonely = adopt(&other, &machines, &hidden).await;
    is_incomplete(&other, &machines, &hidden.clone().with_public(true, true), &lonely).await;
    is_used(&other, &machines, &hidden, &lonely).await;
    assert_eq!(changes(&world.server), before);
    // While it goes by those who own it, it is not used either.
    world.server.with(|sim| sim.fail_next("delete_server", "locked"));
    machines.delete(&theirs, &off, &made).await.unwrap_err();
    is_incomplete(&cx, &machines, &off, &id).await;
}

// covers: S11
#[tokio::test]
async fn an_adopted_key_is_the_ordered_one_and_an_adopted_disk_holds_what_was_ordered() {
    let world = hetzner::World::start();
    world.server.with(|sim| sim.seed_key("acme-ops", "ssh-ed25519 AAAAtheirs me@home"));
    world.server.with(|sim| sim.seed_key("laptop", hetzner::PUBLIC_KEY));
    let keys = SshKey::new(&world.hetzner);
    let wanted = |name: &str| SshKeySpec::new(name, hetzner::PUBLIC_KEY);
    // Their key under the ordered name would let them into every machine.
    let cx = world.cx("key");
    let id = adopt(&cx, &keys, &wanted("acme-ops")).await;
    is_incomplete(&cx, &keys, &wanted("acme-ops"), &id).await;
    // The ordered key under a name of theirs is what was ordered.
    let cx = world.cx("same");
    let id = adopt(&cx, &keys, &wanted("another")).await;
    is_used(&cx, &keys, &wanted("another"), &id).await;

    let disks = Volume::new(&world.hetzner);
    let theirs = world.host.context(hetzner::run(2), "disk");
    let disk = |size, place: &str| VolumeSpec::new("acme-disk", size, place);
    let made = disk(50, "fsn1").with_format("ext4");
    hetzner::build(&world.host, &theirs, &disks, &made).await;
    let raw = VolumeSpec::new("acme-raw", 50, "fsn1");
    let bare = world.host.context(hetzner::run(2), "raw");
    hetzner::build(&world.host, &bare, &disks, &raw).await;
    let cx = world.cx("disk");
    let id = adopt(&cx, &disks, &made).await;
    let before = changes(&world.server);
    for other in [disk(51, "fsn1"), disk(50, "nbg1"), disk(50, "fsn1").with_format("xfs")] {
        is_incomplete(&cx, &disks, &other, &id).await;
    }
    is_used(&cx, &disks, &disk(20, "fsn1"), &id).await;
    // One that was never formatted is not what was ordered with a file system on it.
    let cx = world.cx("raw");
    let id = adopt(&cx, &disks, &raw).await;
    is_incomplete(&cx, &disks, &raw.clone().with_format("ext4"), &id).await;
    is_used(&cx, &disks, &raw, &id).await;
    assert_eq!(changes(&world.server), before);
}
