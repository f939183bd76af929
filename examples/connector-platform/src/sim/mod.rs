//! The five platforms as simulators over real HTTP on loopback, for people without keys and for
//! tests: each answers in its platform's own routes and words, over one small world of consents,
//! tokens and posts.

mod routes;
mod world;

use std::{io, time::Duration};

use provision_adapters::{
    http::BaseUrl,
    sim::{InventoryItem, Provider, SimOptions, SimRequest, SimResponse, SimServer, SimTime},
};
use provision_core::Secret;

pub use world::{Token, World};

use crate::platform::{App, PlatformName};

/// Id of the service's app at every simulated platform.
const CLIENT_ID: &str = "connector-platform";
/// Its secret: everybody can read it here.
const CLIENT_SECRET: &str = "simulated-secret";
/// What whoever registers an address has typed at the platform.
const VERIFY_TOKEN: &str = "simulated-verify-token";

/// How fast a simulated platform is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long access tokens work.
    pub token_lifetime: Duration,
    /// How long TikTok and Mailchimp take to publish.
    pub publishing: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { token_lifetime: Duration::from_secs(3_600), publishing: Duration::from_millis(300) }
    }
}

/// One simulated platform.
#[derive(Debug)]
pub struct SocialSim {
    name: PlatformName,
    world: World,
}

impl SocialSim {
    /// A platform without posts, and with two accounts that a user may publish by.
    #[must_use]
    pub fn new(name: PlatformName, pace: Pace) -> Self {
        Self { name, world: World::new(name, pace) }
    }

    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// The port or the thread is refused.
    pub fn start(name: PlatformName, pace: Pace) -> io::Result<SimServer<Self>> {
        SimServer::start(Self::new(name, pace), SimOptions::default())
    }

    /// How the service is registered at it.
    #[must_use]
    pub fn app(base: BaseUrl) -> App {
        App {
            base,
            client_id: CLIENT_ID.to_owned(),
            client_secret: Secret::new(CLIENT_SECRET),
            verify_token: Some(Secret::new(VERIFY_TOKEN)),
        }
    }

    /// What is there.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Provider for SocialSim {
    fn name(&self) -> &'static str {
        self.name.as_str()
    }

    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse {
        routes::answer(self.name, &mut self.world, request, now)
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let item = |post: &world::Post| InventoryItem {
            provider: self.name.as_str().to_owned(),
            kind: "post".to_owned(),
            id: post.id.clone(),
            name: post.text.clone(),
            labels: Default::default(),
        };
        self.world.posts.iter().map(item).collect()
    }

    fn snapshot(&self) -> serde_json::Value {
        serde_json::to_value(&self.world).unwrap_or_default()
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), String> {
        self.world = serde_json::from_value(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn refuse(&self, status: u16) -> SimResponse {
        routes::refusal(self.name, status, "refused", status.into())
    }
}
