//! GitHub as an installation of an App: its tokens are bought once, replaced in time, and shown to
//! nobody.

use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use futures_util::future::join_all;
use provision_adapters::{
    github::{
        Account, AppInstallation, GitHub, GitHubConfig, RepoFromTemplate, RepoSpec,
        sim::{AppKey, GitHubSim},
    },
    http::BaseUrl,
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    Effect, Found, Resource, Saga, SecretRef, StepContext, StepError, Verdict,
    resolver::MapResolver,
};
use provision_testkit::solo::SoloHost;
use serde_json::{Value, json};

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, Stage, ended, paused},
    github::{all_texts, run},
    scenes::at,
    spec::{SpecSet, check_exchanges},
};

const CLIENT: &str = "Iv23simulated";
const INSTALLATION: u64 = 4_711;

/// One key for all tests: drawing one takes a while.
fn key() -> &'static AppKey {
    static KEY: std::sync::OnceLock<AppKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| AppKey::draw().unwrap())
}

fn sim() -> GitHubSim {
    GitHubSim::acme("none").with_app(CLIENT, INSTALLATION, key())
}

fn of_app(url: &str) -> GitHub {
    let app = AppInstallation::new(CLIENT, INSTALLATION, SecretRef::named("APP_KEY"));
    let config = GitHubConfig::of_app(Account::Organization("acme".to_owned()), app);
    GitHub::new(config.with_base(BaseUrl::parse(url).unwrap())).unwrap()
}

struct World {
    server: SimServer<GitHubSim>,
    host: SoloHost,
    github: GitHub,
}

impl World {
    fn start() -> Self {
        let options = SimOptions::default().with_speed(0.0).with_recorded_exchanges();
        let server = SimServer::start(sim(), options).unwrap();
        let host = SoloHost::new().with_secret("APP_KEY", key().pem());
        let github = of_app(&server.url());
        Self { server, host, github }
    }

    fn cx(&self, path: &str) -> StepContext {
        self.host.context(run(1), path)
    }

    async fn look(&self) -> Result<Found, StepError> {
        RepoFromTemplate::new(&self.github).find(&self.cx("repo"), &spec()).await
    }

    fn given(&self) -> usize {
        self.server.with(|sim| sim.app_tokens_given())
    }
}

fn spec() -> RepoSpec {
    RepoSpec::from_template("acme/template", "site").with_sentinel("README.md")
}

// covers: R1-12
#[tokio::test]
async fn an_installation_makes_repositories_with_one_token_for_all_callers() {
    let world = World::start();
    let looks = join_all((0..20).map(|_| world.look())).await;
    assert!(looks.into_iter().all(|found| found.unwrap() == Found::Absent));
    assert_eq!(world.given(), 1, "twenty callers at once buy one token");
    let repos = RepoFromTemplate::new(&world.github);
    let cx = world.cx("repo");
    let intent = world.host.intend(&cx, &repos, &spec());
    let id = repos.create(&cx, &spec(), &intent).await.unwrap();
    assert_eq!(world.look().await.unwrap(), Found::Ours(id.clone()));
    repos.delete(&cx, &spec(), &id).await.unwrap();
    assert_eq!(world.given(), 1);
    let Some(spec) = SpecSet::load("github") else { return };
    check_exchanges(&spec, &world.server.exchanges());
}

// covers: R1-12
#[tokio::test]
async fn a_token_that_was_taken_back_is_replaced_once_and_a_short_one_in_time() {
    let world = World::start();
    world.look().await.unwrap();
    world.server.with(|sim| sim.revoke_app_tokens());
    let looks = join_all((0..10).map(|_| world.look())).await;
    assert!(looks.into_iter().all(|found| found.is_ok()));
    assert_eq!(world.given(), 2, "ten refused callers buy one new token");
    // One that nothing accepts is not bought again and again.
    world.server.faults().add(FaultRule::new(Fault::TokenRevoked).path_prefix("/orgs"));
    let error = world.look().await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("unauthorized", Effect::None));
    assert_eq!(world.given(), 3);
    world.server.faults().clear();

    let short = World::start();
    short.server.with(|sim| sim.set_app_token_life(Duration::from_secs(8)));
    short.look().await.unwrap();
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    short.look().await.unwrap();
    assert_eq!(short.given(), 2, "a token of eight seconds is used for four");
    let refused = short.server.exchanges().into_iter().filter(|e| e.response.status == 401).count();
    assert_eq!(refused, 0, "it is replaced before it is refused");
}

/// A repository as an installation.
#[derive(Debug, Clone, Copy)]
struct OnGitHubApp;

impl Scene for OnGitHubApp {
    type Sim = GitHubSim;

    fn sim(&self) -> GitHubSim {
        sim()
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let app = AppInstallation::new(CLIENT, INSTALLATION, SecretRef::named("APP_KEY"));
        let config = GitHubConfig::of_app(Account::Organization("acme".to_owned()), app);
        let github = GitHub::new(config.with_base(at(url))).unwrap();
        Saga::define(SAGA, |s| {
            let repo = |name: &String| {
                RepoSpec::from_template("acme/template", name).with_sentinel("README.md")
            };
            let first = s
                .resource("repo", RepoFromTemplate::new(&github))
                .retry(build.policy())
                .input((), move |name, ()| repo(name));
            let night = s.sleep("night").after(first).input((), |_, ()| Duration::from_secs(7_200));
            let second = s
                .resource("other", RepoFromTemplate::new(&github))
                .retry(build.policy())
                .after(night)
                .input((), move |name, ()| repo(&format!("{name}-two")));
            s.step("end", End(build), NOTHING).input(second, |_, repo| repo.full_name)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        MapResolver::new().with("APP_KEY", key().pem())
    }

    fn lasting(&self, state: Value) -> Value {
        crate::scenes::without(state, &["next_id"])
    }

    fn same_ids(&self, kind: &str) -> Option<&'static str> {
        (kind == "repo").then_some("repo")
    }

    fn lag(&self) -> Duration {
        provision_adapters::github::LISTING_LAG
    }

    fn late(&self) -> Duration {
        provision_adapters::github::LATE_WINDOW
    }
}

// covers: R1-12, X1
#[test]
fn a_token_that_ends_in_the_middle_of_a_saga_is_refreshed_exactly_once() {
    paused(async {
        let stage = Stage::set(OnGitHubApp, Build::GOES_WELL).await;
        let run = stage.start().await;
        let outcome = ended(&run).await;
        assert!(matches!(outcome, provision_core::Outcome::Succeeded(_)), "{outcome:?}");
        assert_eq!(stage.server.with(|sim| sim.app_tokens_given()), 2);
        let refused = stage.server.exchanges().into_iter().filter(|e| e.response.status == 401);
        assert_eq!(refused.count(), 0, "before its end, not after a refusal");
        stage.close().await;
    });
}

// covers: R1-12, X1
#[tokio::test]
async fn a_wrong_app_is_refused_with_what_to_do_and_shows_nothing() {
    let world = World::start();
    let other = AppKey::draw().unwrap();
    let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cases = [
        (other.pem(), "unauthorized", "clock"),
        (short, "bad_app_key", "file"),
        ("canary-no-pem-at-all", "bad_app_key", "file"),
    ];
    for (pem, code, hint) in cases {
        world.host.set_secret("APP_KEY", pem);
        let error = world.look().await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &Verdict::Permanent));
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
        let shown = all_texts(&error);
        assert!(!shown.contains("canary") && !shown.contains("BEGIN"), "{shown}");
    }
    assert_eq!(world.given(), 0);
    // A key that was replaced meanwhile is another key: it gets a token of its own.
    world.host.set_secret("APP_KEY", key().pem());
    world.look().await.unwrap();

    let app = AppInstallation::new(CLIENT, 1, SecretRef::named("APP_KEY"));
    let config = GitHubConfig::of_app(Account::Organization("acme".to_owned()), app);
    let base = BaseUrl::parse(&world.server.url()).unwrap();
    let github = GitHub::new(config.with_base(base)).unwrap();
    let gone = RepoFromTemplate::new(&github).find(&world.cx("repo"), &spec()).await.unwrap_err();
    assert!(gone.hint().unwrap().contains("installation"), "{gone:?}");
}

// covers: R1-12
#[tokio::test]
async fn a_key_is_read_in_both_forms_that_are_given_out() {
    let world = World::start();
    let der = inside(key().pem());
    // The head of PKCS#8 for 2,048 bits; what follows is PKCS#1, as GitHub gives it out.
    let text = STANDARD.encode(&der[26..]);
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{text}\n-----END RSA PRIVATE KEY-----\n");
    world.host.set_secret("APP_KEY", &pem);
    world.look().await.unwrap();
    assert_eq!(world.given(), 1);
}

fn inside(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    STANDARD.decode(text).unwrap()
}

// covers: R1-12, R2-70
#[tokio::test]
async fn the_simulator_believes_a_signed_app_alone_and_for_ten_minutes_at_most() {
    let world = World::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = |iat: u64, exp: u64| json!({ "iat": iat, "exp": exp, "iss": CLIENT });
    let good = claims(now - 60, now + 540);
    let none = json!({ "alg": "none" });
    let usual = json!({ "alg": "RS256", "typ": "JWT" });
    let cases = [
        (&usual, good.clone(), 201, "ghs_"),
        (&usual, claims(now + 120, now + 540), 401, "'Issued at'"),
        (&usual, claims(now - 60, now + 700), 401, "too far in the future"),
        (&usual, claims(now - 120, now - 60), 401, "'Expiration time'"),
        (&usual, json!({ "iat": now - 60, "iss": CLIENT }), 401, "'Expiration time'"),
        (&usual, json!({ "iat": now - 60, "exp": now + 1, "iss": "other" }), 401, "Integration"),
        (&none, good.clone(), 401, "could not be decoded"),
    ];
    let pair = RsaKeyPair::from_pkcs8(&inside(key().pem())).unwrap();
    let http = reqwest::Client::builder().no_proxy().user_agent("raw").build().unwrap();
    let base = world.server.url();
    let url = format!("{base}/app/installations/{INSTALLATION}/access_tokens");
    let ask = async |url: &str, token: &str| {
        let answer = http.post(url).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
    };
    let mut last = String::new();
    for (header, claims, status, words) in cases {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(&claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let (got, text) = ask(&url, &token).await;
        assert_eq!(got, status, "{claims}: {text}");
        assert!(text.contains(words), "{claims}: {text}");
        if status == 201 {
            last = token;
        }
    }
    let (status, _) = ask(&format!("{base}/app/installations/1/access_tokens"), &last).await;
    assert_eq!(status, 404, "another app's installation");
    assert_eq!(ask(&url, "ghs_none").await.0, 401);
    let answer = http.get(format!("{base}/orgs/acme")).bearer_auth(&last).send().await.unwrap();
    assert_eq!(answer.status(), 401, "a JWT is no token");
}
