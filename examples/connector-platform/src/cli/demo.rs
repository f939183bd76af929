//! One command that shows it all: five simulated platforms, a tenant, a post on each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use example_command::exit::Exit;
use provision_adapters::{http::BaseUrl, sim::SimServer};
use provision_core::{
    Secret,
    clock::{self, Clock as _, SystemClock},
    vault::DevKeys,
};
use sqlx::query_as;

use super::say;
use crate::{
    database::Database,
    platform::{PlatformName, Platforms},
    saga::connect::Connection,
    schema,
    service::{NewJob, Service},
    shared::Settings,
    sim::{Pace, SocialSim},
    trouble::Trouble,
};

const TENANT: &str = "acme";
const USER: &str = "ada";
/// Where platforms send users back to; nobody listens there.
const REDIRECT: &str = "http://127.0.0.1/welcome";
/// How long everything may take.
const WITHIN: Duration = Duration::from_secs(60);

type Sims = BTreeMap<PlatformName, SimServer<SocialSim>>;

/// Deploys, connects, publishes, and prints what is there. Typed again it does so beside what it
/// did before.
pub(super) async fn show(url: &str, keys: DevKeys) -> Result<Exit, Trouble> {
    schema::deploy(url).await?;
    let (sims, platforms) = start()?;
    let settings = Settings::simulated();
    let service = Service::open(Database::new(url)?, Arc::new(keys), platforms, settings).await?;
    let worker = service.worker(Duration::from_secs(5));
    let ended = clock::within(WITHIN, tour(&service, &sims)).await;
    worker.stop().await;
    match ended {
        Some(ended) => ended.map(|()| Exit::Done),
        None => {
            let hint = "type `connector-platform check --environment dev`";
            Err(Trouble::new("demo_too_slow", "not everything was out within a minute", hint))
        }
    }
}

/// Starts the five platforms on loopback.
fn start() -> Result<(Sims, Platforms), Trouble> {
    let wrong = |error: String| Trouble::new("simulator", error, "free a port of 127.0.0.1");
    let (mut sims, mut apps) = (BTreeMap::new(), BTreeMap::new());
    for name in PlatformName::ALL {
        let sim = SocialSim::start(name, Pace::default()).map_err(|e| wrong(e.to_string()))?;
        let base = BaseUrl::parse(&sim.url()).map_err(|error| wrong(error.to_string()))?;
        apps.insert(name, SocialSim::app(base));
        sims.insert(name, sim);
    }
    let platforms = Platforms::new(apps).map_err(|error| wrong(error.to_string()))?;
    Ok((sims, platforms))
}

async fn tour(service: &Service, sims: &Sims) -> Result<(), Trouble> {
    // A tenant of its own each time: an account is connected to a tenant once.
    let tenant = format!("{TENANT}-{}", SystemClock.wall().as_millis());
    for (name, sim) in sims {
        let invitation = service.invite(&tenant, USER, *name, REDIRECT).await?;
        // What a person does in a browser.
        let now = Duration::from_millis(SystemClock.wall().as_millis());
        let code = Secret::new(sim.with(|sim| sim.world().consent(REDIRECT, now)));
        let run = service.welcome((&tenant, USER), *name, &invitation.state, &code).await?;
        let connection = service.engine().handle::<Connection>(run).output().await?;
        say(&format!("{name}: connected to {}", connection.account.name));
        let job = NewJob {
            connection: invitation.connection,
            request_key: format!("hello/{name}"),
            body: "Hello from a saga".to_owned(),
            link: "https://acme.example/news".to_owned(),
            delay: None,
        };
        service.publish(&tenant, &job).await?;
    }
    loop {
        let mut tx = service.shared().db.as_tenant(&tenant).await?;
        let sql =
            "SELECT c.platform, j.state, coalesce(j.post_id, '') FROM connectors.publish_jobs AS j
            INNER JOIN connectors.connections AS c ON c.id = j.connection_id ORDER BY c.platform";
        let jobs: Vec<(String, String, String)> = query_as(sql).fetch_all(&mut *tx).await?;
        drop(tx);
        if jobs.iter().all(|(_, state, _)| state != "queued") {
            for (platform, state, post) in jobs {
                say(&format!("{platform}: {state} {post}"));
            }
            return Ok(());
        }
        clock::sleep(Duration::from_millis(100)).await;
    }
}
