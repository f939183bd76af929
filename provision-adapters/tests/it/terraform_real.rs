//! Terraform itself, where it is installed: a module without plug-ins, and states in a folder.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use provision_adapters::tools::terraform::{
    Infrastructure, InfrastructureMade, InfrastructureSpec, State, Terraform, TerraformConfig,
};
use provision_core::{
    Engine, ExternalId, Found, Policy, Readiness, Resource, RunId, Saga, SagaId, SecretRef,
    StepContext, StepError, WorkerConfig, resolver::MapResolver, vault::LocalKeys,
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::solo::SoloHost;
use uuid::Uuid;

const SAGA: SagaId<PathBuf, String> = SagaId::new("real-hosting", 1);
const SECRET: &str = "canary-key-\"${1 + 1}%{if true}";

/// Two things, one after the other; the second one takes its time, and writes down that it is made.
const MODULE: &str = r#"
terraform {
  backend "local" {}
}
variable "size" { type = string }
variable "made" { type = string }
variable "seconds" {
  type    = number
  default = 0
}
variable "join_key" {
  type      = string
  sensitive = true
}
resource "terraform_data" "network" {
  input = var.size
}
resource "terraform_data" "machine" {
  input = terraform_data.network.output
  provisioner "local-exec" {
    command = "echo made >> ${var.made}; sleep ${var.seconds}"
  }
}
output "size" { value = terraform_data.machine.output }
output "join_key" {
  value     = var.join_key
  sensitive = true
}
"#;

/// Whether there is a Terraform to drive.
fn is_installed() -> bool {
    let ended = Command::new("terraform")
        .arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = ended.is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: no terraform is installed");
    }
    there
}

fn config(folder: &Path) -> TerraformConfig {
    let module = folder.join("module");
    std::fs::create_dir_all(&module).unwrap();
    std::fs::write(module.join("main.tf"), MODULE).unwrap();
    // A folder whose name is a template must stay a name.
    let state = State::local(folder.join("states ${1 + 1}"));
    TerraformConfig::new(module, folder.join("work"), state)
        .with_variables(["size", "made", "seconds", "join_key"])
        .with_secret_output("join_key")
        .with_locked_again_in(Duration::from_millis(300))
}

fn spec(folder: &Path, size: &str, seconds: u32) -> InfrastructureSpec {
    InfrastructureSpec::new("agent-7")
        .with("size", size)
        .with("made", folder.join("made").to_string_lossy())
        .with("seconds", seconds)
        .with_secret("join_key", SecretRef::named("KEY"))
}

fn made(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("made")).unwrap_or_default().lines().count()
}

struct Alone {
    host: SoloHost,
    infrastructure: Infrastructure,
}

impl Alone {
    fn new(config: TerraformConfig) -> Self {
        let host = SoloHost::new().with_secret("KEY", SECRET);
        Self { host, infrastructure: Infrastructure::new(&Terraform::new(config)) }
    }

    fn cx(&self) -> StepContext {
        self.host.context(RunId::from_uuid(Uuid::from_u128(7)), "machine")
    }

    async fn create(&self, spec: &InfrastructureSpec) -> Result<ExternalId, StepError> {
        let cx = self.cx();
        let intent = self.host.intend(&cx, &self.infrastructure, spec);
        self.infrastructure.create(&cx, spec, &intent).await
    }

    async fn ready(&self, spec: &InfrastructureSpec, id: &ExternalId) -> InfrastructureMade {
        match self.infrastructure.ready(&self.cx(), spec, id).await.unwrap() {
            Readiness::Ready(made) => made,
            other => panic!("{other:?}"),
        }
    }
}

// covers: R1-19, R2-12, S14
#[tokio::test]
async fn infrastructure_is_found_made_kept_and_destroyed() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let alone = Alone::new(config(folder));
    let spec = spec(folder, "cx22; ${1 + 1}", 0);
    let cx = alone.cx();
    assert_eq!(alone.infrastructure.find(&cx, &spec).await.unwrap(), Found::Absent);
    let id = alone.create(&spec).await.unwrap();
    assert_eq!(alone.infrastructure.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    let made_first = alone.ready(&spec, &id).await;
    assert_eq!(made_first.outputs["size"], "cx22; ${1 + 1}");
    let sealed = cx.reveal(&made_first.secrets["join_key"]).await.unwrap();
    assert_eq!(sealed.expose(), SECRET);

    // What stands is left as it is, and a second create is the first one.
    assert_eq!(alone.create(&spec).await.unwrap(), id);
    assert_eq!(made(folder), 1);
    let state = folder.join("states ${1 + 1}").join(id.as_str()).join("terraform.tfstate");
    assert!(state.exists());

    for _ in 0..2 {
        alone.infrastructure.delete(&cx, &spec, &id).await.unwrap();
        assert_eq!(alone.infrastructure.find(&cx, &spec).await.unwrap(), Found::Absent);
        assert!(!state.exists());
    }
}

// covers: R2-72, X8, S7
#[tokio::test]
async fn a_stopped_apply_writes_down_what_it_made_and_is_completed() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let alone = Alone::new(config(folder));
    let slow = spec(folder, "cx22", 20);
    let mut created = Box::pin(alone.create(&slow));
    let begun = Instant::now();
    while made(folder) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        let turn = tokio::time::timeout(Duration::from_millis(50), &mut created).await;
        assert!(turn.is_err(), "{turn:?}");
    }
    // The step is cut, as when a lease is lost.
    drop(created);
    let quick = spec(folder, "cx22", 0);
    let Found::Ours(id) = alone.infrastructure.find(&alone.cx(), &quick).await.unwrap() else {
        panic!("the workspace is lost")
    };
    let state = folder.join("states ${1 + 1}").join(id.as_str()).join("terraform.tfstate");
    let begun = Instant::now();
    let said = loop {
        assert!(begun.elapsed() < Duration::from_secs(60));
        match alone.infrastructure.ready(&alone.cx(), &quick, &id).await.unwrap() {
            Readiness::NotYet { .. } => {}
            ready => break ready,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(matches!(said, Readiness::Ready(_)));
    let state = std::fs::read_to_string(state).unwrap();
    assert_eq!(state.matches("\"name\": \"network\"").count(), 1, "{state}");
    assert_eq!(state.matches("\"name\": \"machine\"").count(), 1, "{state}");
    alone.infrastructure.delete(&alone.cx(), &quick, &id).await.unwrap();
}

fn saga(folder: &Path) -> Saga<PathBuf, String> {
    let infrastructure = Infrastructure::new(&Terraform::new(config(folder)));
    Saga::define(SAGA, |s| {
        let made = s
            .resource("machine", infrastructure)
            .retry(Policy::attempts(100).fixed(Duration::from_millis(200)))
            .input((), |folder, ()| spec(folder, "cx22", 4));
        s.value("size").input(made, |_, made: InfrastructureMade| made.outputs["size"].to_string())
    })
    .unwrap()
}

async fn engine(folder: &Path) -> Engine {
    let store = SqliteStore::open(folder.join("runs.db")).await.unwrap();
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    let resolver = MapResolver::new().with("KEY", SECRET);
    let builder = Engine::builder(store).keys(keys).resolver(resolver);
    builder.register(saga(folder)).build().await.unwrap()
}

/// Set in the child that is killed; its value is the folder.
const CHILD: &str = "PROVISION_TEST_REAL_TERRAFORM_FOLDER";

// Only does something in a child: drives a run until it is killed.
#[tokio::test]
async fn child_applies_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = PathBuf::from(folder);
    let engine = engine(&folder).await;
    let run = engine.start(SAGA, &folder).key("agent-7").await.unwrap();
    let _worker = engine.spawn_worker(WorkerConfig::default());
    run.output().await.unwrap();
}

// covers: S7, S9, R1-19, R2-72
#[tokio::test]
async fn a_killed_engine_leaves_nothing_that_the_state_does_not_name() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_path_buf();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["terraform_real::child_applies_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, &folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while made(&folder) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let engine = engine(&folder).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SAGA, &folder).key("agent-7").await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(120), run.output()).await.unwrap();
    assert_eq!(output.unwrap(), "\"cx22\"");
    worker.stop().await;
    // The first apply came to its end; nothing was made a second time.
    assert_eq!(made(&folder), 1);
}

// covers: S9, S12
#[tokio::test]
async fn a_terraform_that_was_killed_makes_nothing_twice() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The state goes with the kill, and the lock with it: a plan alone would make it all again.
    let killer = folder.join("terraform");
    let text = "#!/bin/sh\nterraform \"$@\" &\nchild=$!\ncase \"$1\" in apply)\n  sleep 2; kill -9 $child $$ ;;\nesac\nwait $child\n";
    std::fs::write(folder.join("script"), text).unwrap();
    let copied = Command::new("/bin/sh")
        .args(["-c", "cp \"$0\" \"$1\" && chmod 700 \"$1\""])
        .args([folder.join("script"), killer.clone()])
        .status();
    assert!(copied.unwrap().success());
    let killed = Alone::new(config(folder).with_program(&killer));
    let slow = spec(folder, "cx22", 20);
    let error = killed.create(&slow).await.unwrap_err();
    assert_eq!(error.code(), "state_may_lack", "{error}");
    assert_eq!(made(folder), 1);
    let alone = Alone::new(config(folder));
    let quick = spec(folder, "cx22", 0);
    let Found::Ours(id) = alone.infrastructure.find(&alone.cx(), &quick).await.unwrap() else {
        panic!("the workspace is lost")
    };
    let error = alone.infrastructure.ready(&alone.cx(), &quick, &id).await.unwrap_err();
    assert_eq!(error.code(), "state_may_lack", "{error}");
    assert_eq!(made(folder), 1);
}
