//! The front that all simulators share: real HTTP/1.1 over TCP on loopback, a seeded fault plan,
//! and state that survives being killed.
//!
//! A simulator differs from a mock in that it has no expectations: it is a small state machine
//! that behaves as its provider documents, and a test looks at the world it ends with. What a
//! network can do to a call (lose, cut, repeat or delay it) is done here, so that a provider's
//! room holds the provider's behaviour alone.

mod fault;
mod inventory;
mod message;
mod persist;
mod routes;
mod server;
mod state;
mod wire;

pub use fault::{Fault, FaultPlan, FaultRule, RetryAfterForm, RuleId};
pub use inventory::{Inventory, InventoryItem};
pub use message::{SimRequest, SimResponse};
pub use server::{SimOptions, SimServer};
pub use state::{Exchange, RequestLine};

use std::time::Duration;

/// Milliseconds since 1970 by the wall clock; absolute, so that a restarted cloud goes on.
pub type SimTime = Duration;

/// The state machine of one provider. Lives in `<provider>/sim.rs`.
pub trait Provider: Send + 'static {
    /// Short name, such as `"github"`.
    fn name(&self) -> &'static str;

    /// Answers one request, strictly: a route it does not know is [`SimResponse::unhandled`].
    ///
    /// A create honours [`SimRequest::hidden_for`]: what it makes stays out of listings so long.
    fn handle(&mut self, request: &SimRequest, now: SimTime) -> SimResponse;

    /// The routes that change something, as method and path, such as `"DELETE /repos/*/*"`: `*` is
    /// any one segment (or method), `**` any number of them at the end.
    ///
    /// What may change something and takes none of them is answered as a route that is not known, and
    /// never gets to [`Self::handle`]: so the list is whole, and a test can say which route no call of
    /// an adapter has taken. Default: one route that all take.
    fn changing_routes(&self) -> &'static [&'static str] {
        routes::ALL
    }

    /// What runs could have created and is there now; never the account's fixtures.
    fn inventory(&self) -> Vec<InventoryItem>;

    /// The whole state, for the disk.
    fn snapshot(&self) -> serde_json::Value;

    /// Takes a state back from the disk.
    ///
    /// # Errors
    /// The value is no state of this provider; says why.
    fn restore(&mut self, state: serde_json::Value) -> Result<(), String>;

    /// Called whenever the state is safe: on the disk, where there is one. What cannot be taken back
    /// with the state is done here and may be asked for again; that it was done is saved later.
    fn committed(&mut self) {}

    /// Takes note of the options the server was started with: speed of readiness, seed.
    fn configure(&mut self, _options: &SimOptions) {}

    /// How this provider words an error of its own making, such as a 500, a 429 or a 401.
    fn refuse(&self, status: u16) -> SimResponse {
        SimResponse::json(status, &serde_json::json!({ "message": format!("status {status}") }))
    }
}
