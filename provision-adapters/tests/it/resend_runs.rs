//! Mail in runs of the real engine: as a step, and about the end of a run, also when the process
//! is killed in the middle of it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use provision_adapters::{
    http::BaseUrl,
    resend::{
        Mail, NotifyByMail, Resend, ResendConfig, SENT, SendMail,
        sim::{Email, KEY, ResendSim},
    },
    sim::{Fault, FaultRule, SimOptions, SimServer},
};
use provision_core::{
    By, Engine, OnUnknown, Outcome, RunStatus, Saga, SagaId, SecretRef, StepError, WorkerConfig,
    resolver::MapResolver,
};
use provision_store_sqlite::SqliteStore;
use serde_json::Value;

use crate::{
    engine::{Build, End, NOTHING, SAGA, Scene, Stage, call_within, each_alone, ended, paused},
    scenes::{TOKEN, at, resolver, token, without},
};

/// Set in children: the folder of the store, and the address of the simulated provider.
const CHILD: &str = "PROVISION_RESEND_TEST_KILL";
const ORDER: SagaId<u32, u32> = SagaId::new("order", 1);

/// A mail, and a step that may fail after it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OnResend {
    /// Whether an unknown end parks at once.
    pub(crate) parks: bool,
}

impl Scene for OnResend {
    type Sim = ResendSim;

    fn sim(&self) -> ResendSim {
        let mut sim = ResendSim::new();
        sim.accept_key(TOKEN);
        sim
    }

    fn saga(&self, url: &str, build: Build) -> Saga<String, String> {
        let config = ResendConfig::at(at(url), token()).with_call_timeout(call_within());
        let resend = Resend::new(config).unwrap();
        Saga::define(SAGA, |s| {
            let mail = s
                .step("mail", SendMail::new(&resend), SENT)
                .retry(build.policy())
                .on_unknown(if self.parks { OnUnknown::Park } else { OnUnknown::Protocol })
                .input((), |name: &String, ()| {
                    let subject = format!("Welcome {name}");
                    Mail::new("ops@example.com", "ada@example.org", subject).with_text("Hello")
                });
            s.step("end", End(build), NOTHING).input(mail, |_, mail| mail.id)
        })
        .unwrap()
    }

    fn resolver(&self) -> MapResolver {
        resolver()
    }

    /// Nothing is undone: a mail cannot be recalled.
    fn lasting(&self, state: Value) -> Value {
        without(state, &["made", "emails", "keys"])
    }

    fn same_ids(&self, _: &str) -> Option<&'static str> {
        None
    }

    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    fn late(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A mail whose end is unknown in one of all ways, and what becomes of its run.
fn goes_out_once((build, fault): &(Build, Fault)) {
    paused(async {
        let stage = Stage::set(OnResend::default(), *build).await;
        stage.server.faults().add(FaultRule::new(fault.clone()).once());
        let run = stage.start().await;
        let outcome = ended(&run).await;
        stage.pass(Duration::from_secs(120)).await;
        // Whatever was still under way has landed.
        let _ = stage.server.inventory();
        let mails = stage.server.with(|sim| sim.mails().len());
        assert_eq!(mails, 1, "{fault:?} {build:?}: {outcome:?}");
        match (build.fails, build.gives_up) {
            (false, false) => assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}"),
            _ => assert!(
                matches!(outcome, Outcome::RolledBackKeeping(..)),
                "{fault:?} {build:?}: what may have gone out is told: {outcome:?}"
            ),
        }
        stage.close().await;
    });
}

// covers: R2-27, S7, S9, S10
#[test]
fn no_unknown_end_sends_a_mail_twice_or_not_at_all() {
    let mut cases = Vec::new();
    for build in [Build::GOES_WELL, Build::FAILS_AT_THE_END, Build::GIVES_UP] {
        for fault in [
            Fault::DropAfter,
            Fault::ResetAfter,
            Fault::StatusAfter(500),
            Fault::CutBody,
            Fault::Garbage200,
            Fault::Duplicate,
            Fault::LateLanding(Duration::from_secs(59)),
        ] {
            // A mail that went out twice on its way is one mail with one answer: nothing failed.
            if !(build.gives_up && fault == Fault::Duplicate) {
                cases.push((build, fault));
            }
        }
    }
    each_alone(cases, goes_out_once);
}

// covers: R2-27, S10
#[test]
fn a_mail_that_may_have_gone_out_a_day_ago_is_not_repeated_by_an_order_either() {
    paused(async {
        let stage = Stage::set(OnResend { parks: true }, Build::GOES_WELL).await;
        stage.server.faults().add(FaultRule::new(Fault::DropAfter).once());
        let run = stage.start().await;
        let Outcome::Parked(failure, _) = ended(&run).await else { panic!("not parked") };
        assert_eq!((&*failure.path, &*failure.code), ("mail", "no_answer"));
        stage.pass(Duration::from_secs(25 * 3_600)).await;
        stage.engine.retry(run.id(), By::new("ann", "again")).await.unwrap();
        stage.pass(Duration::from_secs(60)).await;
        let Outcome::Parked(failure, _) = ended(&run).await else { panic!("not parked") };
        assert_eq!((&*failure.path, &*failure.code), ("mail", "key_expired"));
        assert_eq!(stage.server.with(|sim| sim.mails().len()), 1);
        assert_eq!(stage.changes().len(), 1, "the second attempt sends nothing");
        stage.close().await;
    });
}

/// A saga whose only step is refused, and a mail about that.
async fn engine(folder: &Path, url: &str) -> Engine {
    let config = ResendConfig::at(BaseUrl::parse(url).unwrap(), SecretRef::named("KEY"));
    let resend = Resend::new(config).unwrap();
    let saga = Saga::define(ORDER, |s| {
        s.on_end("tell", NotifyByMail::new(&resend), |order, end| {
            let why = end.failure.as_ref()?.code.clone();
            let subject = format!("Order {order} failed");
            let mail = Mail::new("shop@example.com", "ops@example.com", subject);
            (end.status != RunStatus::Succeeded).then(|| mail.with_text(why))
        });
        s.value("pay").try_input((), |order, ()| match order {
            0 => Ok(0),
            _ => Err(StepError::permanent("pay").with_code("no_funds")),
        })
    });
    let store = SqliteStore::open(folder.join("provision.db")).await.unwrap();
    Engine::builder(store)
        .register(saga.unwrap())
        .resolver(MapResolver::new().with("KEY", KEY))
        .build()
        .await
        .unwrap()
}

fn worker() -> WorkerConfig {
    WorkerConfig::default().with_lease(Duration::from_secs(3))
}

// Only does something in a child: drives its run until it is killed.
#[tokio::test]
async fn child_drives_until_it_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (folder, url) = told.split_once('|').unwrap();
    let engine = engine(Path::new(folder), url).await;
    let _worker = engine.spawn_worker(worker());
    let run = engine.start(ORDER, &7).key("order-7").await.unwrap();
    let _ = run.outcome().await;
    std::future::pending::<()>().await;
}

fn child(folder: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["resend_runs::child_drives_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, format!("{}|{url}", folder.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a process while its mail is under way in this manner, and lets another one go on.
async fn killed_in(fault: Option<Fault>) -> Vec<Email> {
    let folder = tempfile::tempdir().unwrap();
    let server = SimServer::start(ResendSim::new(), SimOptions::default()).unwrap();
    if let Some(fault) = fault.clone() {
        server.faults().add(FaultRule::new(fault).once());
    }
    let mut process = child(folder.path(), &server.url());
    let limit = Instant::now() + Duration::from_secs(60);
    let reached = || match fault {
        Some(_) => !server.faults().fired().is_empty(),
        None => !server.requests().is_empty(),
    };
    while !reached() {
        assert!(Instant::now() < limit, "the child came to no mail");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.kill().unwrap();
    assert!(!process.wait().unwrap().success());

    let engine = engine(folder.path(), &server.url()).await;
    let worker = engine.spawn_worker(worker());
    let run = engine.start(ORDER, &7).key("order-7").await.unwrap();
    assert!(!run.is_new());
    let outcome = tokio::time::timeout(Duration::from_secs(120), run.outcome()).await.unwrap();
    let Outcome::RolledBack(Some(failure)) = outcome.unwrap() else { panic!() };
    assert_eq!(failure.code, "no_funds");
    // A request that the kill has overtaken may land after the one that came later.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    worker.stop().await;
    server.with(|sim| sim.mails())
}

// covers: R2-27, R3-27, S9, S10
#[tokio::test]
async fn the_mail_about_a_failure_goes_out_once_though_the_process_is_killed_in_it() {
    let slow = Duration::from_secs(1);
    for fault in [
        None,
        Some(Fault::Slow(slow)),
        Some(Fault::SlowHeaders(slow)),
        Some(Fault::LateLanding(slow)),
    ] {
        let mails = killed_in(fault.clone()).await;
        let [mail] = mails.as_slice() else { panic!("{fault:?}: {mails:?}") };
        assert_eq!((&*mail.subject, mail.text.as_deref()), ("Order 7 failed", Some("no_funds")));
    }
}

// covers: R2-27
#[tokio::test]
async fn a_run_that_ends_well_sends_no_mail() {
    let folder = tempfile::tempdir().unwrap();
    let server = SimServer::start(ResendSim::new(), SimOptions::default()).unwrap();
    let engine = engine(folder.path(), &server.url()).await;
    let worker = engine.spawn_worker(worker());
    assert_eq!(engine.start(ORDER, &0).await.unwrap().output().await.unwrap(), 0);
    worker.stop().await;
    assert!(server.requests().is_empty());
}
