//! A machine that joins a tailnet: key, machine, device.

use std::time::Duration;

use provision_adapters::{
    http::{Http, HttpConfig, Request},
    tailscale::{
        DeviceSpec, KeyMade, KeySpec, Tailscale, TailscaleConfig, TailscaleDevice, TailscaleKey,
        sim::{CLIENT_ID, TAG, TailscaleSim},
    },
};
use provision_core::{
    Call, Compensator, Saga, Step, StepContext, StepError, Undo, limit::Profile,
    resolver::MapResolver,
};
use serde_json::Value;

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, call_within},
    scenes::{TOKEN, at, other, resolver, token, without},
};

/// A machine of the simulated tailnet, started with a key and destroyed again.
#[derive(Debug, Clone)]
pub(crate) struct Machine(Http);

impl Machine {
    pub(crate) fn new(url: &str) -> Self {
        let bucket = Profile { bucket: "machines".to_owned(), rate: None, concurrency: None };
        let config = HttpConfig::new("machines", at(url), bucket);
        Self(Http::new(config.with_call_timeout(Some(call_within()))).unwrap())
    }

    async fn send(
        &self,
        cx: &StepContext,
        operation: &'static str,
        request: Request,
    ) -> Result<(), StepError> {
        let answer = self.0.send(cx, Call::mutate(operation), request).await?;
        match answer.status {
            200 | 204 => Ok(()),
            400..500 => Err(StepError::permanent(operation)),
            _ => Err(StepError::unknown(operation)),
        }
    }
}

impl Step for Machine {
    const KIND: &'static str = "scene.machine";
    type Input = KeyMade;
    type Output = KeyMade;

    async fn run(&self, cx: &StepContext, key: KeyMade) -> Result<KeyMade, StepError> {
        let secret = key.open(cx).await?;
        let body = serde_json::json!({ "hostname": key.hostname, "key": secret.expose() });
        let request = Request::post(&["sim", "machines"]).json(&body);
        self.send(cx, "start machine", request).await?;
        Ok(key)
    }
}

impl Compensator<Self> for Machine {
    async fn compensate(
        &self,
        cx: &StepContext,
        key: KeyMade,
        _: Undo<KeyMade>,
    ) -> Result<(), StepError> {
        let request = Request::delete(&["sim", "machines", &key.hostname]);
        self.send(cx, "destroy machine", request).await
    }
}

/// A key, a machine that joins with it, its device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnTailscale;

impl Scene for OnTailscale {
    type Sim = TailscaleSim;

    fn sim(&self) -> TailscaleSim {
        let mut sim = TailscaleSim::new();
        sim.set_client_secret(TOKEN);
        sim.seed_device("laptop");
        // The same name, joined by another run's machine.
        sim.seed_device(&format!("client-a-p{}", other("key").token()));
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let config = TailscaleConfig::at(at(url), CLIENT_ID, token());
        let tailscale = Tailscale::new(config.with_call_timeout(call_within())).unwrap();
        let machine = Machine::new(url);
        Saga::define(SAGA, |s| {
            let key = s
                .resource("key", TailscaleKey::new(&tailscale))
                .retry(build.policy())
                .input((), |name: &String, ()| KeySpec::new(name.as_str(), [TAG]));
            let machine = s
                .step("machine", machine.clone(), machine)
                .retry(build.policy())
                .input(key, |_, key| key);
            let device = s
                .resource("device", TailscaleDevice::new(&tailscale))
                .retry(build.policy())
                .input(machine, |_, key| DeviceSpec::of(key));
            s.step("end", End(build), NOTHING).input(device, |_, device| device.name)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    fn lasting(&self, mut state: Value) -> Value {
        if let Some(keys) = state.get_mut("keys").and_then(Value::as_array_mut) {
            keys.retain(|key| key["ended"].is_null());
        }
        without(state, &["made", "minted", "tokens"])
    }

    fn same_ids(&self, _: &str) -> Option<&'static str> {
        // A used key is gone from the tailnet while its row stands, and a device's id in the ledger
        // is its host name.
        None
    }

    fn lag(&self) -> Duration {
        provision_adapters::tailscale::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::tailscale::LATE_WINDOW
    }
}
