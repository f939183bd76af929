//! Whether a server runs: a resource of its own, so that a run can stop and start what another
//! one has made, and its state is kept.

use std::time::Duration;

use provision_core::{
    ExternalId, Found, Identity, Intent, Listing, Readiness, Resource, StepContext, StepError,
    Timestamp, Timing,
};
use serde::{Deserialize, Serialize};

use super::{
    KEPT, broken, failure, not_yet, server_of, since_intent, taken_over, timing, vanished, waited,
};
use crate::{
    hetzner::{
        GOING_POLL, Hetzner, SHUTDOWN_GRACE,
        error::under_way,
        model::{ServerShown, ServerStatus},
    },
    http::parse_rfc3339,
};

const SWITCH: &str = "switch server";
const UNDO: &str = "switch server back";

/// Whether a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It runs.
    On,
    /// It is off. It is billed all the same: only deleting it ends that.
    Off,
}

impl Power {
    const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }

    const fn status(self) -> ServerStatus {
        match self {
            Self::On => ServerStatus::Running,
            Self::Off => ServerStatus::Off,
        }
    }

    /// Commands of the actions that lead there.
    const fn commands(self) -> &'static [&'static str] {
        match self {
            Self::On => &["start_server"],
            Self::Off => &["stop_server", "shutdown_server"],
        }
    }
}

/// A server that is to run, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PowerSpec {
    /// The server.
    pub server: u64,
    /// Whether it is to run.
    pub power: Power,
    /// How long it may take to shut down by itself before its power is cut. Default 60 s; zero
    /// cuts it at once.
    pub grace: Duration,
}

impl PowerSpec {
    /// Wants a server to run.
    #[must_use]
    pub fn on(server: u64) -> Self {
        Self { server, power: Power::On, grace: SHUTDOWN_GRACE }
    }

    /// Wants a server to be off.
    #[must_use]
    pub fn off(server: u64) -> Self {
        Self { power: Power::Off, ..Self::on(server) }
    }

    /// Sets how long it may take to shut down by itself.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// A server that runs, or is off, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Powered {
    /// The server.
    pub server: u64,
    /// Whether it runs.
    pub power: Power,
    /// Whether it was so before.
    pub was_so: bool,
}

/// Starts or stops a server. What is so already stays so, and undoing it changes nothing; what
/// this step has switched is switched back.
#[derive(Debug, Clone)]
pub struct ServerPower {
    hetzner: Hetzner,
}

impl ServerPower {
    /// Works through `hetzner`.
    #[must_use]
    pub fn new(hetzner: &Hetzner) -> Self {
        Self { hetzner: hetzner.clone() }
    }

    async fn send(
        &self,
        cx: &StepContext,
        (operation, command): (&'static str, &str),
        server: u64,
    ) -> Result<bool, StepError> {
        let taken = self.hetzner.act::<ServerShown>(cx, (operation, command), server, None).await?;
        Ok(taken.is_some())
    }
}

impl Resource for ServerPower {
    const KIND: &'static str = "hetzner.power";
    type Spec = PowerSpec;
    type Output = Powered;

    fn identity(&self, _: &PowerSpec) -> Identity {
        // No name: many runs switch the same server, one after the other.
        Identity::Label
    }

    async fn find(&self, cx: &StepContext, spec: &PowerSpec) -> Result<Found, StepError> {
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(Found::Absent);
        };
        let id = format!("{}/{}", spec.server, spec.power.word());
        match server.status {
            status if status == spec.power.status() => return Ok(taken_over(cx, id)),
            ServerStatus::Running | ServerStatus::Off => {}
            _ => return Ok(Found::Going { again_in: GOING_POLL }),
        }
        if cx.memory().intent.is_none() || !cx.memory().may_exist {
            return Ok(Found::Absent);
        }
        // S7: asked to shut down, a machine takes its time; that it was asked is what is found.
        let actions = since_intent(cx, self.hetzner.server_actions(cx, spec.server).await?);
        let commands = spec.power.commands();
        let switched = actions.iter().any(|action| commands.contains(&action.command.as_str()));
        Ok(if switched { Found::Ours(ExternalId::new(id)) } else { Found::Absent })
    }

    async fn create(
        &self,
        cx: &StepContext,
        spec: &PowerSpec,
        _: &Intent,
    ) -> Result<ExternalId, StepError> {
        let command = match spec.power {
            Power::On => "poweron",
            Power::Off if spec.grace.is_zero() => "poweroff",
            Power::Off => "shutdown",
        };
        if !self.send(cx, (SWITCH, command), spec.server).await? {
            return Err(StepError::permanent(SWITCH).with_code("not_found"));
        }
        let id = ExternalId::new(format!("{}/{}", spec.server, spec.power.word()));
        cx.note(&id).await?;
        Ok(id)
    }

    async fn ready(
        &self,
        cx: &StepContext,
        spec: &PowerSpec,
        id: &ExternalId,
    ) -> Result<Readiness<Powered>, StepError> {
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, spec.server).await? else {
            return Ok(vanished(cx));
        };
        if server.locked {
            return Ok(not_yet(cx));
        }
        if server.status == spec.power.status() {
            let was_so = id.as_str().ends_with(KEPT);
            return Ok(Readiness::Ready(Powered {
                server: spec.server,
                power: spec.power,
                was_so,
            }));
        }
        let actions = since_intent(cx, self.hetzner.server_actions(cx, spec.server).await?);
        if let Some(code) = failure(&actions, spec.power.commands()) {
            return Ok(broken(code));
        }
        // A shutdown only asks the machine: its action succeeds although the machine may not listen.
        let deaf = spec.power == Power::Off && waited(cx) >= spec.grace;
        if deaf && server.status == ServerStatus::Running {
            self.send(cx, (SWITCH, "poweroff"), spec.server).await?;
        }
        Ok(not_yet(cx))
    }

    async fn delete(
        &self,
        cx: &StepContext,
        spec: &PowerSpec,
        id: &ExternalId,
    ) -> Result<(), StepError> {
        if id.as_str().ends_with(KEPT) {
            return Ok(());
        }
        let (number, word) = server_of(UNDO, id)?;
        let Some(server) = self.hetzner.by_id::<ServerShown>(cx, number).await? else {
            return Ok(());
        };
        let back = if word == Power::Off.word() { Power::On } else { Power::Off };
        let settled = matches!(server.status, ServerStatus::Running | ServerStatus::Off);
        if server.locked || !settled {
            return Err(under_way(UNDO, "switching", GOING_POLL));
        }
        let asked = self.asked(cx, number).await?;
        let left = |grace: Duration| {
            let over = asked?.plus(grace);
            (over > cx.now()).then(|| over.since(cx.now()))
        };
        if server.status == back.status() {
            // Asked to shut down a moment ago, it runs and may be off in a moment.
            let going = back == Power::On && left(spec.grace.max(SHUTDOWN_GRACE)).is_some();
            return match going {
                true => Err(under_way(UNDO, "switching", GOING_POLL)),
                false => Ok(()),
            };
        }
        let (command, again) = match (back, left(spec.grace)) {
            (Power::On, _) => ("poweron", GOING_POLL),
            // It has been asked, and still has time.
            (Power::Off, Some(left)) => return Err(under_way(UNDO, "switching", left)),
            (Power::Off, None) if asked.is_some() || spec.grace.is_zero() => {
                ("poweroff", GOING_POLL)
            }
            (Power::Off, None) => ("shutdown", spec.grace),
        };
        match self.send(cx, (UNDO, command), number).await? {
            true => Err(under_way(UNDO, "switching", again)),
            false => Ok(()),
        }
    }

    /// "On" and "off" have no place for a mark: whoever switched it later cannot be told.
    async fn list_owned(&self, _: &StepContext) -> Result<Listing, StepError> {
        Ok(Listing::Unmarked)
    }

    fn timing(&self) -> Timing {
        timing()
    }

    fn account(&self) -> &str {
        self.hetzner.account()
    }
}

impl ServerPower {
    /// When it was asked to shut down, if that was the last thing that was done about its power.
    async fn asked(&self, cx: &StepContext, server: u64) -> Result<Option<Timestamp>, StepError> {
        const SWITCHES: [&str; 3] = ["start_server", "stop_server", "shutdown_server"];
        let actions = self.hetzner.server_actions(cx, server).await?;
        let last = actions.iter().find(|action| SWITCHES.contains(&action.command.as_str()));
        let asked = last.filter(|action| action.command == "shutdown_server");
        Ok(asked.map(|action| {
            let at = action.started.as_deref().and_then(parse_rfc3339);
            at.unwrap_or(Timestamp::ZERO)
        }))
    }
}
