//! Who runs the workflows of the simulated cloud: it does what a workflow with Terraform would, with
//! the provider's own API, and reports by callbacks. Like a real one it knows nothing of the saga but
//! what the dispatch has told it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use provision_adapters::{
    github::sim::{GitHubSim, Token, Workflow},
    hetzner::sim,
    sim::SimServer,
};
use provision_core::{
    SignalId,
    clock::{Clock, SystemClock},
};
use reqwest::Client;
use serde_json::{Value, json};

use crate::workflow::{BEGUN, Told, VM_CREATED};

/// Who owns the repository.
pub const OWNER: &str = "acme";
/// The repository with the workflow.
pub const REPOSITORY: &str = "acme/machines";
/// The workflow.
pub const FILE: &str = "machine.yml";
/// Token the simulated GitHub accepts.
pub const TOKEN: &str = "ghp_simulated_token_of_the_host";
/// Longer than a job may run: the runner ends it.
const OPEN: Duration = Duration::from_secs(6 * 3_600);

/// A GitHub with the repository.
#[must_use]
pub fn github() -> GitHubSim {
    let workflow = Workflow::new(FILE)
        .dispatched_with(&["provision_key", "machine", "join_secret", "mark", "callbacks"])
        .named("Machine ${{ inputs.provision_key }}")
        .working_for(OPEN);
    GitHubSim::new()
        .with_org(OWNER)
        .with_user("octo")
        .with_token(TOKEN, Token::classic("octo", &["repo", "workflow"]))
        .with_template(REPOSITORY, &[("main.tf", "")], &[workflow])
}

/// What a test decides of runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Temper {
    /// How often each report is delivered besides once.
    pub repeats: u32,
    /// Whether the later report is delivered first.
    pub backwards: bool,
    /// Whether runs that are cancelled make their machine all the same.
    pub deaf: bool,
    /// How it goes.
    pub goes: Goes,
}

/// How runs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goes {
    /// As their workflows say.
    #[default]
    Well,
    /// They do nothing for now.
    Nowhere,
    /// They end as failures before they have made anything.
    Wrong,
}

/// Runs workflows.
#[derive(Debug)]
pub struct Runner {
    client: Client,
    hetzner: String,
    /// Where reports go: a variable of the repository, since a host may move.
    host: Mutex<Option<String>>,
    temper: Mutex<Temper>,
    /// Runs that were seen, with what they were told.
    seen: Mutex<BTreeMap<u64, BTreeMap<String, String>>>,
}

/// What a run was told.
struct Order {
    machine: Value,
    tokens: Value,
}

impl Runner {
    /// A runner that makes machines at this address.
    #[must_use]
    pub fn new(hetzner: String) -> Self {
        let client = Client::builder().no_proxy().build().unwrap_or_default();
        let (host, temper, seen) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { client, hetzner, host, temper, seen }
    }

    /// Sets where reports go, such as `http://127.0.0.1:40123`.
    pub fn report_to(&self, host: &str) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.to_owned());
    }

    /// Sets what runs are like.
    pub fn set_temper(&self, temper: Temper) {
        *self.temper.lock().unwrap_or_else(PoisonError::into_inner) = temper;
    }

    /// Does for every open run what its workflow says. One that was cut off begins anew.
    pub async fn pass(&self, github: &SimServer<GitHubSim>) {
        let temper = *self.temper.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Duration::from_millis(SystemClock.wall().as_millis());
        let open = github.with(|sim| sim.open_runs(REPOSITORY, now));
        let open = self.with_deaf(open, temper.deaf);
        if temper.goes == Goes::Nowhere {
            return;
        }
        for (id, inputs) in open {
            let secret = inputs.get("join_secret").cloned().unwrap_or_default();
            let key = github.with(|sim| sim.secret_value(REPOSITORY, &secret));
            let over = match order(&inputs, key.as_deref()) {
                _ if temper.goes == Goes::Wrong => Some("failure"),
                Some(order) => self.execute(&order, temper).await,
                None => Some("failure"),
            };
            if let Some(conclusion) = over {
                github.with(|sim| sim.end_run(REPOSITORY, id, conclusion, now));
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
    }

    /// The open runs, and those that were open when they were last seen, if nobody listens to a
    /// cancel.
    fn with_deaf(
        &self,
        open: Vec<(u64, BTreeMap<String, String>)>,
        deaf: bool,
    ) -> BTreeMap<u64, BTreeMap<String, String>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !deaf {
            seen.clear();
        }
        seen.extend(open);
        seen.clone()
    }

    /// Makes the machine and says so; how the run ends, unless it goes on.
    async fn execute(&self, order: &Order, temper: Temper) -> Option<&'static str> {
        if !temper.backwards && !self.report(order, BEGUN, temper.repeats).await {
            return None;
        }
        let made = self
            .client
            .post(format!("{}/v1/servers", self.hetzner))
            .bearer_auth(sim::TOKEN)
            .header("content-type", "application/json")
            .header("user-agent", "terraform-provider-hcloud")
            .body(order.machine.to_string());
        match made.send().await.ok()?.status().as_u16() {
            // The name is taken by what this run has made before it was cut off.
            201 | 409 => {}
            // No room, or too much was asked for: it is tried again.
            412 | 429 | 500 | 502..=504 => return None,
            _ => return Some("failure"),
        }
        let told = self.report(order, VM_CREATED, temper.repeats).await;
        let told = told && (!temper.backwards || self.report(order, BEGUN, temper.repeats).await);
        told.then_some("success")
    }

    /// Reports, until the host has answered; whether it has.
    async fn report(&self, order: &Order, signal: SignalId<Told>, repeats: u32) -> bool {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let token = order.tokens.get(signal.name()).and_then(Value::as_str);
        let (Some(host), Some(token)) = (host, token) else { return false };
        let mut heard = false;
        for _ in 0..=repeats {
            let report = self
                .client
                .post(format!("{host}/callbacks/{}", signal.name()))
                .bearer_auth(token)
                .header("content-type", "application/json")
                .body(json!({ "machine": order.machine.get("name") }).to_string());
            // Whatever is not to be repeated is heard.
            heard |= match report.send().await {
                Ok(answer) => !matches!(answer.status().as_u16(), 429 | 500..),
                Err(_) => false,
            };
        }
        heard
    }
}

/// What a run was told; none where that is not what this workflow takes.
fn order(inputs: &BTreeMap<String, String>, key: Option<&str>) -> Option<Order> {
    let read = |name: &str| serde_json::from_str::<Value>(inputs.get(name)?).ok();
    let (mut machine, mark) = (read("machine")?, read("mark")?);
    let user_data = machine.get("user_data")?.as_str()?.replace("<<join>>", key?);
    let firewalls =
        machine.get("firewalls")?.as_array()?.iter().map(|id| json!({ "firewall": id }));
    let firewalls: Vec<_> = firewalls.collect();
    let fields = machine.as_object_mut()?;
    fields.insert("user_data".to_owned(), json!(user_data));
    fields.insert("firewalls".to_owned(), json!(firewalls));
    let labels = fields.get_mut("labels")?.as_object_mut()?;
    labels.extend(mark.as_object()?.clone());
    Some(Order { machine, tokens: read("callbacks")? })
}
