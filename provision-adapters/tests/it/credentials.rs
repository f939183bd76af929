//! What every client does with its token: opened for each call, trimmed, and tried once more when
//! it was replaced meanwhile.

use std::time::Duration;

use provision_adapters::{
    elevenlabs::{FindVoice, VoiceWanted},
    hetzner::Server,
    n8n::Workflow,
    sim::{Fault, FaultRule, Provider, SimServer},
    supabase::ProjectSpec,
    vercel::{SiteSpec, VercelProject},
};
use provision_core::{Resource, Step, StepContext, StepError, Verdict};
use provision_testkit::solo::SoloHost;

use crate::{elevenlabs, github, hetzner, n8n, supabase, tailscale, vercel};

/// A resource that looks, and the name and value of the token it looks with.
struct Case<'c, P: Provider, R: Resource> {
    server: &'c SimServer<P>,
    host: &'c SoloHost,
    cx: StepContext,
    token: (&'static str, &'c str),
    resource: R,
    spec: R::Spec,
}

impl<P: Provider, R: Resource> Case<'_, P, R> {
    async fn check(&self) {
        let look = async || self.resource.find(&self.cx, &self.spec).await.map(drop);
        is_tried_once(self.server, self.host, self.token, look).await;
    }
}

/// Looks with a token that is replaced meanwhile, then with one that stays wrong.
async fn is_tried_once<P: Provider>(
    server: &SimServer<P>,
    host: &SoloHost,
    (name, good): (&str, &str),
    look: impl AsyncFn() -> Result<(), StepError>,
) {
    // Replaced while the provider refuses the old one: one more call, and no error.
    host.set_secret(name, "stale-token-canary");
    let slow = Fault::SlowHeaders(Duration::from_secs(1));
    server.faults().add(FaultRule::new(slow).once());
    let fired = server.faults().fired().len();
    let replace = async {
        // It has been sent, and is not answered yet.
        while server.faults().fired().len() == fired {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        host.set_secret(name, &format!(" {good}\r\n"));
    };
    let before = server.requests().len();
    let (found, ()) = tokio::join!(look(), replace);
    found.unwrap();
    let lines = server.requests().split_off(before);
    let [first, second, ..] = lines.as_slice() else { panic!("{name}: {lines:?}") };
    assert_eq!((&first.method, &first.path), (&second.method, &second.path), "{name}");
    // The same token is not sent again.
    host.set_secret(name, "stale-token-canary");
    let before = server.requests().len();
    let error = look().await.unwrap_err();
    assert_eq!(error.verdict(), &Verdict::Permanent, "{name}: {error}");
    assert_eq!(server.requests().len(), before + 1, "{name}");
}

// covers: R1-12, X1
#[tokio::test]
async fn a_token_that_was_replaced_meanwhile_is_tried_once_by_every_client() {
    let world = github::World::new();
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("repo"),
        token: ("GITHUB_TOKEN", github::CANARY),
        resource: world.repos(),
        spec: github::spec(),
    }
    .check()
    .await;
    let world = supabase::World::start();
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("db"),
        token: ("TOKEN", supabase::CANARY),
        resource: world.projects.clone(),
        spec: ProjectSpec::new("client-a", "eu-central-1"),
    }
    .check()
    .await;
    let world = vercel::World::start();
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("project"),
        token: ("VERCEL_TOKEN", provision_adapters::vercel::sim::TOKEN),
        resource: VercelProject::new(&world.vercel),
        spec: SiteSpec::new("acme-site"),
    }
    .check()
    .await;
    let world = n8n::World::start();
    let (spec, _) = world.workflow().await;
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("workflow"),
        token: ("N8N_API_KEY", provision_adapters::n8n::sim::KEY),
        resource: Workflow::new(&world.n8n),
        spec,
    }
    .check()
    .await;
    let world = tailscale::World::start();
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("key"),
        token: ("TAILSCALE_SECRET", provision_adapters::tailscale::sim::CLIENT_SECRET),
        resource: world.keys(),
        spec: tailscale::wanted(),
    }
    .check()
    .await;
    let world = hetzner::World::start();
    Case {
        server: &world.server,
        host: &world.host,
        cx: world.cx("machine"),
        token: ("HCLOUD_TOKEN", provision_adapters::hetzner::sim::TOKEN),
        resource: Server::new(&world.hetzner),
        spec: hetzner::agent(),
    }
    .check()
    .await;
}

// covers: R1-12, X1
#[tokio::test]
async fn so_it_is_by_the_client_whose_looks_are_steps() {
    let world = elevenlabs::World::start();
    let voice = FindVoice::new(&world.elevenlabs);
    let cx = world.cx("voice");
    let look = async || {
        let wanted = VoiceWanted::Id(provision_adapters::elevenlabs::sim::VOICE.1.to_owned());
        voice.run(&cx, wanted).await.map(drop)
    };
    let token = ("ELEVENLABS_KEY", provision_adapters::elevenlabs::sim::KEY);
    is_tried_once(&world.server, &world.host, token, look).await;
}
