//! The sagas, in the order in which sagas are read: input, output, steps, definition, steps of our
//! own.
//!
//! Input: [`Subscription`].

use std::time::Duration;

use example_command::stage::Stage;
use provision_adapters::{
    hetzner::{
        Firewall, FirewallMade, FirewallSpec, Inbound, PowerSpec, Powered, Prices, ReadPrices,
        Server, ServerMade, ServerPower, ServerSpec, SshKey, SshKeyMade, SshKeySpec, UserData,
    },
    http::{Http, Request},
    resend::NotifyByMail,
    tailscale::{DeviceSpec, Enrolled, KeyMade, KeySpec, TailscaleDevice, TailscaleKey},
};
use provision_core::{
    Call, Cost, Handle, NothingToUndo, Policy, Saga, SagaBuilder, SagaError, SagaId, Step,
    StepContext, StepError,
};
use serde::{Deserialize, Serialize};

use crate::{
    input::{MadeBy, Subscription},
    mails::{self, QueueMail},
    providers::Providers,
    table::Table,
    watch::away,
    workflow::{self, HOST_BY_WORKFLOW},
};

/// Hosts an agent until its run is torn down.
pub const HOST: SagaId<Subscription, Agent> = SagaId::new("agent-hosting", 3);
/// The same as earlier programs have begun it: their runs go on in the shape that they have, and
/// mail by themselves.
pub const HOST_2: SagaId<Subscription, Agent> = SagaId::new("agent-hosting", 2);
/// Stops a machine; tearing it down starts the machine again.
pub const STOP: SagaId<Machine, Powered> = SagaId::new("agent-stopping", 1);
/// Ends a subscription when its time has come.
pub const END: SagaId<Ending, ()> = SagaId::new("subscription-end", 2);

/// What machines are made from.
const IMAGE: &str = "debian-13";
/// What machines of the tailnet are; the OAuth client has to own it.
const TAG: &str = "tag:agent";
/// Port on which `WireGuard`, and so Tailscale, is reached.
const WIREGUARD: &str = "41641";
/// How often an agent is asked before its machine is given up.
const ASKED_MAX: u32 = 60;

/// Output: where the agent is. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The subscription it was made for.
    pub subscription: Subscription,
    /// The provider's id of its machine.
    pub server: u64,
    /// The provider's type of its machine.
    pub server_type: String,
    /// Where its machine is.
    pub location: String,
    /// Public address, on which nothing but the tailnet answers.
    pub ipv4: Option<String>,
    /// Host name of its machine, under which the agent is asked.
    #[serde(default)]
    pub hostname: String,
    /// Name in the tailnet.
    pub tailnet_name: String,
    /// Address in the tailnet.
    pub tailnet_ipv4: Option<String>,
    /// What the machine costs, on or off.
    pub price: Option<Cost>,
}

/// A machine that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The subscription it is for.
    pub subscription: String,
    /// The provider's id.
    pub server: u64,
}

/// A subscription that is to end, as it was when that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The subscription.
    pub subscription: String,
    /// How many payments had been taken: what is paid for later does not end.
    pub payments: u32,
}

/// Steps, in the order of the definition. Paths are stored and never change.
///
/// | Path | Makes | Needs | Phase |
/// |---|---|---|---|
/// | `prices` | nothing: reads what machines cost | | `terraform_init` |
/// | `ssh-key` | the customer's public key at the provider | | `terraform_init` |
/// | `firewall` | lets `WireGuard` in and nothing else: SSH comes through the tailnet | | `terraform_init` |
/// | `join-key` | a key with which one machine joins once | | `terraform_init` |
/// | `server` | the machine, with what it does at its first boot | all before | `vm_created` |
/// | `device` | nothing: waits until the machine has joined | `server`, `join-key` | `network_joined` |
/// | `agent` | nothing: asks the agent whether it was set up | `device` | `ansible_configure` |
/// | `finalize` | nothing: gathers what the run's last transaction writes | all | `running` |
pub const STEPS: [&str; 8] =
    ["prices", "ssh-key", "firewall", "join-key", "server", "device", "agent", "finalize"];

/// What runs at every end: it writes the mail that says why there is no agent, if there is none.
pub const NOTE: &str = "note";

/// The steps that change nothing outside of the run.
pub const PURE: [&str; 3] = ["prices", "agent", "finalize"];

/// Wires the hosting saga over the given providers, in the shape of one of its versions.
///
/// # Errors
/// Never for this graph; a changed one is checked here.
pub fn hosting(
    version: SagaId<Subscription, Agent>,
    providers: &Providers,
    table: &Table,
    stage: &Stage,
) -> Result<Saga<Subscription, Agent>, SagaError> {
    Saga::define(version, |s| {
        match version.version() == HOST_2.version() {
            true => told(s, providers),
            false => noted(s, providers, table),
        }
        let prepared = prepared(s, providers, stage);
        let Prepared { prices, key, wall, join } = prepared;
        s.phase("vm_created");
        let server = s
            .resource("server", stage.on(Server::new(&providers.hetzner)))
            .input((prices, key, wall, join), |order, (prices, key, wall, join)| {
                machine(order, &prices, (&key, &wall), join)
            });
        set_up(s, (providers, stage), &prepared, server)
    })
}

/// The saga that makes the machine of a subscription.
#[must_use]
pub const fn host_of(order: &Subscription) -> SagaId<Subscription, Agent> {
    match order.made_by {
        MadeBy::Direct => HOST,
        MadeBy::Workflow => HOST_BY_WORKFLOW,
    }
}

/// The steps of a path.
#[must_use]
pub const fn steps(made_by: MadeBy) -> &'static [&'static str] {
    match made_by {
        MadeBy::Direct => &STEPS,
        MadeBy::Workflow => &workflow::STEPS,
    }
}

/// What both paths make before the machine.
pub(crate) struct Prepared<'s> {
    pub(crate) prices: Handle<'s, Prices>,
    pub(crate) key: Handle<'s, SshKeyMade>,
    pub(crate) wall: Handle<'s, FirewallMade>,
    pub(crate) join: Handle<'s, KeyMade>,
}

/// Writes the mail about a failure, at the end of a run of either path.
pub(crate) fn noted(s: &mut SagaBuilder<'_, Subscription>, providers: &Providers, table: &Table) {
    let (note, to) = (QueueMail(table.clone()), providers.alerts_to.clone());
    s.on_end(NOTE, note, move |order, end| mails::failure(&to, order, end));
}

/// Sends the mail about a failure at once, as runs of version 2 do.
fn told(s: &mut SagaBuilder<'_, Subscription>, providers: &Providers) {
    let (tell, to) = (NotifyByMail::new(&providers.resend), providers.alerts_to.clone());
    s.on_end(mails::TELL, tell, move |order, end| mails::failure(&to, order, end));
}

/// The first phase.
pub(crate) fn prepared<'s>(
    s: &mut SagaBuilder<'s, Subscription>,
    providers: &Providers,
    stage: &Stage,
) -> Prepared<'s> {
    let Providers { hetzner, tailscale, .. } = providers;
    s.phase("terraform_init");
    let prices = s.step("prices", ReadPrices::new(hetzner), NothingToUndo).input((), |_, ()| ());
    let key = s
        .resource("ssh-key", stage.on(SshKey::new(hetzner)))
        .input((), |order, ()| SshKeySpec::new(order.machine(), order.ssh_key.as_str()));
    let wall = s
        .resource("firewall", stage.on(Firewall::new(hetzner)))
        .input((), |order, ()| firewall(order));
    let join = s
        .resource("join-key", stage.on(TailscaleKey::new(tailscale)))
        .input((), |order, ()| KeySpec::new(order.machine(), [TAG]));
    Prepared { prices, key, wall, join }
}

/// What both paths wait for once the machine is there.
pub(crate) fn set_up<'s>(
    s: &mut SagaBuilder<'s, Subscription>,
    (providers, stage): (&Providers, &Stage),
    prepared: &Prepared<'s>,
    server: Handle<'s, ServerMade>,
) -> Handle<'s, Agent> {
    let joining = TailscaleDevice::new(&providers.tailscale).within(providers.join_within);
    let asking = AskAgent { agents: providers.agents.clone(), stage: stage.clone() };
    let patience = Policy::attempts(ASKED_MAX).fixed(providers.ask_every);

    // The device leaves the tailnet before its machine goes: what depends is undone first.
    s.phase("network_joined");
    let device = s
        .resource("device", stage.on(joining))
        .after(server)
        .input(prepared.join, |_, join| DeviceSpec::of(join));

    s.phase("ansible_configure");
    let asked = s
        .step("agent", asking, NothingToUndo)
        .retry(patience)
        .input(device, |_, device: Enrolled| device.hostname);

    s.phase("running");
    s.step("finalize", Finalize(stage.clone()), NothingToUndo)
        .after(asked)
        .input((server, device, prepared.prices), |order, (server, device, prices)| {
            gathered(order, server, device, &prices)
        })
}

/// Everything else, SSH as well, comes through the tailnet.
fn firewall(order: &Subscription) -> FirewallSpec {
    FirewallSpec::new(order.machine()).allowing(Inbound::udp(WIREGUARD))
}

pub(crate) fn machine(
    order: &Subscription,
    prices: &Prices,
    (key, wall): (&SshKeyMade, &FirewallMade),
    join: KeyMade,
) -> ServerSpec {
    let kind = order.preset.server_type();
    let boot = UserData::new(cloud_init(&join.hostname)).with_secret_until(
        "join",
        join.key,
        join.expires_at,
    );
    ServerSpec::new(order.machine(), kind, IMAGE, order.region.as_str())
        .with_ssh_key(key.id)
        .with_firewall(wall.id)
        .with_user_data(boot)
        .with_label("customer", order.customer.as_str())
        .with_price(prices.server(kind, &order.region))
}

/// What the machine does at its first boot. The one secret in it is good for one use.
///
/// It joins last: what has joined has been set up.
#[must_use]
pub fn cloud_init(hostname: &str) -> String {
    include_str!("cloud-init.yaml").replace("HOSTNAME", hostname)
}

fn gathered(order: &Subscription, server: ServerMade, device: Enrolled, prices: &Prices) -> Agent {
    Agent {
        subscription: order.clone(),
        price: prices.server(&server.server_type, &server.location),
        server: server.id,
        server_type: server.server_type,
        location: server.location,
        ipv4: server.ipv4,
        hostname: device.hostname,
        tailnet_name: device.name,
        tailnet_ipv4: device.ipv4,
    }
}

/// Wires the saga that stops a machine.
///
/// # Errors
/// Never for this graph.
pub fn stopping(providers: &Providers, stage: &Stage) -> Result<Saga<Machine, Powered>, SagaError> {
    let power = stage.on(ServerPower::new(&providers.hetzner));
    Saga::define(STOP, |s| {
        s.resource("power", power).input((), |machine, ()| PowerSpec::off(machine.server))
    })
}

/// Wires the saga that ends a subscription; who starts it says when.
///
/// # Errors
/// Never for this graph.
pub fn ending(table: &Table) -> Result<Saga<Ending, ()>, SagaError> {
    let end = EndSubscription(table.clone());
    Saga::define(END, |s| s.step("end", end, NothingToUndo).input((), |ending, ()| ending.clone()))
}

/// What an agent says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether containers can be run.
    pub docker: bool,
    /// State of the agent's unit, as systemd words it.
    pub unit: String,
    /// Whether the agent itself is well.
    pub agent: bool,
}

impl Health {
    /// Whether everything on the machine runs.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.docker && self.agent && self.unit == "active"
    }
}

/// Asks the agent until its machine was set up.
struct AskAgent {
    agents: Http,
    stage: Stage,
}

impl Step for AskAgent {
    const KIND: &'static str = "agents.ask";
    type Input = String;
    type Output = Health;

    async fn run(&self, cx: &StepContext, hostname: String) -> Result<Health, StepError> {
        self.stage.allow(cx)?;
        let health = ask(&self.agents, cx, &hostname).await?;
        match health.is_set_up() {
            true => Ok(health),
            false => Err(StepError::retry(ASK.operation).with_code("agent_not_set_up")),
        }
    }
}

const ASK: Call = Call::read("ask agent").with_timeout(Duration::from_secs(5));

/// Asks one agent how it is.
///
/// # Errors
/// It does not answer.
pub async fn ask(agents: &Http, cx: &StepContext, hostname: &str) -> Result<Health, StepError> {
    let answer = agents.send(cx, ASK, Request::get(&[hostname, "health"])).await?;
    if !answer.is_success() {
        return Err(StepError::retry(ASK.operation).with_code("agent_silent"));
    }
    answer.json(ASK.operation)
}

/// Gathers what the transaction that ends the run writes into the host's table.
struct Finalize(Stage);

impl Step for Finalize {
    const KIND: &'static str = "internal.finalize";
    type Input = Agent;
    type Output = Agent;

    async fn run(&self, cx: &StepContext, agent: Agent) -> Result<Agent, StepError> {
        self.0.allow(cx)?;
        Ok(agent)
    }
}

/// Says in the host's table that nobody pays any more, unless somebody has paid since. Said twice,
/// it is said once.
struct EndSubscription(Table);

impl Step for EndSubscription {
    const KIND: &'static str = "internal.end_subscription";
    type Input = Ending;
    type Output = ();

    async fn run(&self, _: &StepContext, ending: Ending) -> Result<(), StepError> {
        self.0.end(&ending).await.map(drop).map_err(|trouble| away(&trouble))
    }
}
