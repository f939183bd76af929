//! Terraform as a step, against a program that acts its part: workspaces are folders, a machine is
//! a file in one, and a lock is a folder.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use provision_adapters::tools::terraform::{
    Infrastructure, InfrastructureMade, InfrastructureSpec, State, Terraform, TerraformConfig,
};
use provision_core::{
    Effect, Engine, ExternalId, Found, MemoryStore, Outcome, Policy, Readiness, Resource, RunId,
    Saga, SagaId, SecretRef, StepContext, StepError, Verdict, WorkerConfig,
    executor::{Executor, HostDriven},
    resolver::MapResolver,
    store::{RunFilter, StateStore},
    vault::LocalKeys,
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::{harness::encodings, solo::SoloHost};
use uuid::Uuid;

use crate::{
    engine::{Build, End, NOTHING},
    stub::Stub,
};

mod harm;

const SAGA: SagaId<String, String> = SagaId::new("hosting", 1);
const TOKEN: &str = "canary-token-9b1f7c";
const KEY: &str = "canary-key-51ab0e\"$(touch stolen)";
const PASSWORD: &str = "canary-password-77d2c4";

/// What the program does. `act-*` files are run first, where a test wants something else.
const SCRIPT: &str = r#"#!/usr/bin/env -S --default-signal=INT /bin/sh
stub="$(dirname "$0")"
echo "$*" >> "$stub/calls"
env >> "$stub/environment"
# As the real one: the variable first, then what the folder says, which others may change.
here() {
  [ -n "$TF_WORKSPACE" ] && { echo "$TF_WORKSPACE"; return; }
  cat "$TF_DATA_DIR/environment" 2>/dev/null || echo default
}
over() { echo '{"type":"change_summary","changes":{"operation":"apply"}}'; }
lock() {
  # A folder `lock` is of a test, and holds every state.
  [ ! -d "$stub/lock" ] && mkdir "$stub/lock.$(here)" 2>/dev/null && return
  cat "$stub/locked"
  exit 1
}
act="act-$1"
case " $* " in
  " workspace "*) act="act-$1-$2" ;;
  *" -destroy "*) act="act-destroy" ;;
esac
[ -f "$stub/$act" ] && . "$stub/$act"
for last; do :; done
case "$1" in
  version) cat "$stub/version.json" ;;
  init)
    mkdir -p "$TF_DATA_DIR"
    cat "$stub/chosen.json" > "$TF_DATA_DIR/terraform.tfstate"
    cat "${last#-backend-config=}" > "$stub/backend" ;;
  workspace)
    case "$2" in
      list)
        echo "* default"
        for space in "$stub"/world/*; do [ -d "$space" ] && echo "  ${space##*/}"; done
        exit 0 ;;
      select)
        case " $* " in *" -or-create=true "*) mkdir -p "$stub/world/$last" ;; esac
        printf %s "$last" > "$TF_DATA_DIR/environment" ;;
      delete)
        rmdir "$stub/world/$last" || exit 1 ;;
    esac ;;
  plan)
    lock
    rmdir "$stub/lock.$(here)"
    for given; do
      case "$given" in
        -out=*) { here; echo "$TF_VAR_join_key"; } > "${given#-out=}" ;;
        -var-file=*) cat "${given#-var-file=}" > "$stub/variables" ;;
      esac
    done
    [ -e "$stub/world/$(here)/machine" ] && exit 0
    exit 2 ;;
  apply)
    lock
    case "$act" in
      act-destroy) rm -f "$stub/world/$(here)/machine" ;;
      *)
        [ "$(head -n 1 "$last")" = "$(here)" ] || exit 1
        echo made >> "$stub/made"
        [ -f "$stub/slow" ] && sleep "$(cat "$stub/slow")"
        while [ -f "$stub/held" ]; do sleep 0.05; done
        [ -f "$stub/dies" ] && kill -9 $$
        mkdir -p "$stub/world/$(here)"
        echo "$(here)" > "$stub/world/$(here)/machine" ;;
    esac
    rmdir "$stub/lock.$(here)"
    over ;;
  output) cat "$stub/output.json" ;;
esac
"#;

const LOCKED: &str = r#"{"@level":"error","diagnostic":{"severity":"error","summary":"Error acquiring the state lock","detail":"Error message: resource temporarily unavailable\nLock Info:\n  ID:        49105be0\n  Path:      x\n  Operation: OperationTypeApply\n  Who:       ada@worker-3\n  Version:   1.11.4\n  Created:   2026-11-22 16:11:27 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock"},"type":"diagnostic"}"#;

fn stub() -> Stub {
    let stub = Stub::new("terraform", SCRIPT);
    std::fs::create_dir(stub.path("world")).unwrap();
    std::fs::create_dir(stub.path("module")).unwrap();
    stub.write("locked", LOCKED);
    stub.write("chosen.json", r#"{"backend":{"type":"s3","config":{"workspace_dir":null}}}"#);
    versions(&stub, "1.11.4", "1.67.0");
    let output = format!(
        r#"{{"ip":{{"sensitive":false,"type":"string","value":"203.0.113.7"}},
            "root_password":{{"sensitive":true,"type":"string","value":"{PASSWORD}"}},
            "undeclared":{{"sensitive":true,"type":"string","value":"{PASSWORD}"}}}}"#
    );
    stub.write("output.json", &output);
    stub
}

fn versions(stub: &Stub, terraform: &str, hcloud: &str) {
    let selected = format!(r#"{{"registry.terraform.io/hetznercloud/hcloud":"{hcloud}"}}"#);
    let text = format!(r#"{{"terraform_version":"{terraform}","provider_selections":{selected}}}"#);
    stub.write("version.json", &text);
}

fn config(folder: &Path) -> TerraformConfig {
    let state = State::s3("acme-states", "eu-central-1", "agents");
    TerraformConfig::new(folder.join("module"), folder.join("work"), state)
        .with_program(folder.join("terraform"))
        .with_variables(["size", "join_key"])
        .with_secret_environment("HCLOUD_TOKEN", SecretRef::named("TOKEN"))
        .with_environment("TF_PLUGIN_CACHE_DIR", "/nowhere")
        .with_secret_output("root_password")
        .with_locked_again_in(Duration::from_millis(100))
}

fn spec(name: &str) -> InfrastructureSpec {
    InfrastructureSpec::new(name)
        .with("size", "cx22; touch stolen")
        .with_secret("join_key", SecretRef::named("KEY"))
}

fn resolver() -> MapResolver {
    MapResolver::new().with("TOKEN", TOKEN).with("KEY", KEY)
}

fn saga(config: TerraformConfig, build: Build) -> Saga<String, String> {
    let infrastructure = Infrastructure::new(&Terraform::new(config));
    Saga::define(SAGA, |s| {
        let made = s
            .resource("machine", infrastructure)
            .retry(Policy::attempts(100).fixed(Duration::from_millis(100)))
            .input((), |name, ()| spec(name));
        s.step("end", End(build), NOTHING)
            .input(made, |_, made: InfrastructureMade| made.outputs["ip"].to_string())
    })
    .unwrap()
}

async fn engine<B: provision_core::engine::Backend>(
    store: B,
    saga: Saga<String, String>,
) -> Engine {
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    let builder = Engine::builder(store).keys(keys).resolver(resolver());
    builder.register(saga).build().await.unwrap()
}

/// A step alone, without an engine.
struct Alone {
    host: SoloHost,
    infrastructure: Infrastructure,
    run: RunId,
}

impl Alone {
    fn new(config: TerraformConfig) -> Self {
        Self {
            host: SoloHost::new().with_secret("TOKEN", TOKEN).with_secret("KEY", KEY),
            infrastructure: Infrastructure::new(&Terraform::new(config)),
            run: RunId::from_uuid(Uuid::from_u128(7)),
        }
    }

    fn cx(&self) -> StepContext {
        self.host.context(self.run, "machine")
    }

    fn id(&self, name: &str) -> ExternalId {
        ExternalId::new(format!("{name}-{}", self.cx().mark().token()))
    }

    async fn create(&self) -> Result<ExternalId, StepError> {
        let (cx, spec) = (self.cx(), spec("agent-7"));
        let intent = self.host.intend(&cx, &self.infrastructure, &spec);
        self.infrastructure.create(&cx, &spec, &intent).await
    }

    async fn find(&self) -> Result<Found, StepError> {
        self.infrastructure.find(&self.cx(), &spec("agent-7")).await
    }

    async fn ready(&self, id: &ExternalId) -> Result<Readiness<InfrastructureMade>, StepError> {
        self.infrastructure.ready(&self.cx(), &spec("agent-7"), id).await
    }

    async fn delete(&self, id: &ExternalId) -> Result<(), StepError> {
        self.infrastructure.delete(&self.cx(), &spec("agent-7"), id).await
    }
}

/// What lies in the folder of commands.
fn listed(stub: &Stub) -> Vec<String> {
    let entries = std::fs::read_dir(stub.path("work")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the next command in the folder leaves there, too. A lock may be inherited for an instant
/// by a child that another test begins; then what goes at once goes with the next command.
async fn left(stub: &Stub) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let listed = listed(stub);
        if listed.is_empty() || begun.elapsed() > Duration::from_secs(30) {
            return listed;
        }
        let _ = Alone::new(config(stub.folder())).find().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All that is journaled of a run.
async fn journal(store: &MemoryStore, run: RunId) -> String {
    let loaded = store.load(&[run]).await.unwrap();
    let frames = loaded.into_iter().flatten().flat_map(|record| record.frames);
    frames.map(|frame| frame.body.to_string()).collect()
}

/// The first words of every call.
fn commands(stub: &Stub) -> Vec<String> {
    let words = |call: String| {
        let words: Vec<&str> = call.split(' ').filter(|word| !word.starts_with('-')).collect();
        let named = if words[0] == "workspace" { 2 } else { 1 };
        let destroys = if call.contains(" -destroy ") { " -destroy" } else { "" };
        format!("{}{destroys}", words[..named].join(" "))
    };
    stub.calls().into_iter().map(words).collect()
}

// covers: R1-19, R2-12, X8, X1
#[tokio::test]
async fn a_module_is_applied_in_a_workspace_and_state_of_its_own() {
    let stub = stub();
    let store = MemoryStore::new();
    let engine = engine(store.clone(), saga(config(stub.folder()), Build::GOES_WELL)).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "\"203.0.113.7\"");

    let rows = engine.ledger(&provision_core::LedgerQuery::default()).await.unwrap();
    let workspace = rows[0].external_id.as_ref().unwrap().to_string();
    assert!(workspace.starts_with("agent-7-") && workspace.len() == "agent-7-".len() + 12);
    assert_eq!(stub.read(&format!("world/{workspace}/machine")).trim(), workspace);
    // One object of the bucket for each instance: <prefix>/<workspace>/<key>.
    let backend = stub.read("backend");
    for line in ["workspace_key_prefix = \"agents\"", "use_lockfile = \"true\""] {
        assert!(backend.contains(line), "{backend}");
    }
    assert_eq!(stub.read("made").lines().count(), 1, "{:?}", stub.calls());
    assert_eq!(stub.read("variables"), r#"{"size":"cx22; touch stolen"}"#);
    assert!(!stub.path("module/stolen").exists());

    let expected = [
        "CHECKPOINT_DISABLE",
        "HCLOUD_TOKEN",
        "HOME",
        "PATH",
        "TF_DATA_DIR",
        "TF_INPUT",
        "TF_IN_AUTOMATION",
        "TF_PLUGIN_CACHE_DIR",
        "TF_VAR_join_key",
        "TF_WORKSPACE",
    ];
    assert_eq!(stub.variables().into_iter().collect::<Vec<_>>(), expected);
    let calls = stub.calls().join("\n");
    let record = format!("{:?}", store.list(&RunFilter::default()).await.unwrap());
    let journal = journal(&store, *run.id()).await;
    assert!(journal.contains("203.0.113.7"), "the journal is read");
    for secret in [TOKEN, KEY, PASSWORD] {
        for form in encodings(secret) {
            for text in [&calls, &record, &journal] {
                assert!(!text.contains(&form), "{text}");
            }
        }
    }
    assert!(!calls.contains("cx22"), "no value is an argument");
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");
}

// covers: R1-19, S12, S14, S15
#[tokio::test]
async fn undoing_destroys_the_infrastructure_and_removes_its_workspace() {
    let stub = stub();
    let saga = saga(config(stub.folder()), Build::FAILS_AT_THE_END);
    let engine = engine(MemoryStore::new(), saga).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert!(matches!(run.outcome().await.unwrap(), Outcome::RolledBack(_)));
    assert_eq!(std::fs::read_dir(stub.path("world")).unwrap().count(), 0);
    let at = commands(&stub).iter().position(|call| call == "apply -destroy").unwrap();
    assert_eq!(commands(&stub)[at..], ["apply -destroy", "workspace delete"]);
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");

    // Twice is once.
    let alone = Alone::new(config(stub.folder()));
    alone.delete(&alone.id("agent-7")).await.unwrap();
    assert_eq!(commands(&stub).last().unwrap(), "workspace list");
}

/// What a command is made to do, and what is to be told of it: effect, verdict, code.
type Case = (&'static str, &'static str, Effect, &'static str, &'static str);

// covers: R1-19, S9, X1
#[tokio::test]
async fn exit_codes_and_texts_are_sorted_into_what_happened_and_what_to_do() {
    let said = |summary: &str| {
        format!(
            "echo '{{\"diagnostic\":{{\"severity\":\"error\",\"summary\":\"{summary}\",\
             \"detail\":\"{TOKEN}\",\"address\":\"hcloud_server.vm[\\\"{TOKEN}\\\"]\"}}}}'; exit 1"
        )
    };
    let cases: [Case; 11] = [
        (
            "act-init",
            "Failed to query available provider packages",
            Effect::None,
            "retry",
            "registry",
        ),
        ("act-init", "Inconsistent dependency lock file", Effect::None, "permanent", "lock_file"),
        (
            "act-init",
            "Unsupported Terraform Core version",
            Effect::None,
            "permanent",
            "version_refused",
        ),
        (
            "act-plan",
            "No value for required variable",
            Effect::Applied,
            "permanent",
            "variable_missing",
        ),
        ("act-plan", "error reading the machine", Effect::Applied, "retry", "failed"),
        ("act-apply", "server limit exceeded", Effect::Unknown, "retry", "failed"),
        ("act-apply", "execution halted", Effect::Unknown, "retry", "interrupted"),
        ("act-apply", "Saved plan is stale", Effect::Applied, "retry", "plan_stale"),
        (
            "act-apply",
            "Saved plan does not match the given state",
            Effect::Applied,
            "retry",
            "plan_stale",
        ),
        (
            "act-apply",
            "Failed to persist state to backend",
            Effect::Unknown,
            "operator",
            "state_not_saved",
        ),
        ("act-plan", "", Effect::Applied, "retry", "killed"),
    ];
    for (act, summary, effect, verdict, code) in cases {
        let stub = stub();
        let text = if summary.is_empty() { "kill -9 $$".to_owned() } else { said(summary) };
        stub.write(act, &text);
        let error = Alone::new(config(stub.folder())).create().await.unwrap_err();
        let told = match error.verdict() {
            Verdict::Retry { .. } => "retry",
            Verdict::Permanent => "permanent",
            Verdict::Operator => "operator",
            _ => "other",
        };
        assert_eq!((error.effect(), told, error.code()), (effect, verdict, code), "{summary}");
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        if code == "failed" {
            assert_eq!(error.message(), Some("at hcloud_server.vm"));
        }
        // A plan holds the values of all variables.
        let left = left(&stub).await;
        assert!(left.is_empty(), "{summary}: {left:?}");
    }
}

// covers: R2-72, R1-19, L4
#[tokio::test]
async fn a_locked_state_is_tried_again_and_never_forced_open() {
    let stub = stub();
    std::fs::create_dir(stub.path("lock")).unwrap();
    let alone = Alone::new(config(stub.folder()));
    let id = alone.create().await.unwrap();
    let again_in = Duration::from_millis(100);
    assert_eq!(alone.ready(&id).await.unwrap(), Readiness::NotYet { again_in });
    let error = alone.delete(&id).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("state_locked", Effect::None));
    assert_eq!(error.verdict(), &Verdict::Retry { after: Some(again_in) });
    let message = error.message().unwrap();
    assert!(message.contains("ada@worker-3") && message.contains("2026-11-22"), "{message}");

    let engine = engine(MemoryStore::new(), saga(config(stub.folder()), Build::GOES_WELL)).await;
    let run = engine.start(SAGA, &"agent-8".to_owned()).await.unwrap();
    let worker = engine.spawn_worker(WorkerConfig::default());
    let begun = Instant::now();
    while commands(&stub).iter().filter(|call| *call == "plan").count() < 10 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", commands(&stub));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::remove_dir(stub.path("lock")).unwrap();
    assert_eq!(run.output().await.unwrap(), "\"203.0.113.7\"");
    worker.stop().await;
    assert!(engine.failures(run.id()).await.unwrap().is_empty(), "waiting costs no attempt");
    assert!(stub.calls().iter().all(|call| !call.contains("force-unlock")));
    assert!(stub.calls().iter().all(|call| !call.contains("-lock=false")));
}

// covers: R2-12
#[tokio::test]
async fn releases_that_are_too_old_are_refused_before_anything_else() {
    for (terraform, hcloud, old) in
        [("1.9.8", "1.67.0", "terraform is 1.9.8"), ("1.11.4", "1.59.0", "hcloud is 1.59.0")]
    {
        let stub = stub();
        versions(&stub, terraform, hcloud);
        let error = Alone::new(config(stub.folder())).find().await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("too_old", &Verdict::Operator));
        assert!(error.message().unwrap().contains(old), "{error}");
        assert_eq!(commands(&stub), ["version"]);
    }
}

// covers: R2-38, X8
#[tokio::test]
async fn what_the_configuration_does_not_allow_starts_no_command() {
    let stub = stub();
    let alone = Alone::new(config(stub.folder()));
    let bad = [
        (InfrastructureSpec::new("agent-7").with("source", "x"), "variable_not_allowed"),
        (InfrastructureSpec::new("-destroy"), "invalid_spec"),
        (InfrastructureSpec::new("../agent-8"), "invalid_spec"),
        (InfrastructureSpec::new("a".repeat(61)), "invalid_spec"),
    ];
    for (spec, code) in bad {
        let error = alone.infrastructure.find(&alone.cx(), &spec).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &Verdict::Permanent));
    }
    assert!(stub.calls().is_empty());
}

// covers: X8, S6, S7
#[tokio::test]
async fn at_the_deadline_it_may_write_down_what_it_did_and_is_then_killed() {
    let short = |folder: &Path| {
        let timeout = Duration::from_secs(6);
        config(folder).with_change_timeout(timeout).with_grace(Duration::from_secs(3))
    };
    // It hears the interrupt and ends by itself.
    let stub = stub();
    stub.write("act-apply", "trap 'echo saved > \"$stub/saved\"; exit 1' INT\nsleep 300 & wait");
    let alone = Alone::new(short(stub.folder()));
    let error = alone.create().await.unwrap_err();
    assert_eq!((error.effect(), error.code()), (Effect::Unknown, "failed"));
    assert_eq!(stub.read("saved").trim(), "saved");

    // It does not, and is killed with what it has started.
    let stub = self::stub();
    stub.write(
        "act-apply",
        "trap '' INT\nsh -c 'echo $$ > \"$0/child\"; sleep 300; :' \"$stub\" & sleep 300; sleep 300",
    );
    let alone = Alone::new(short(stub.folder()));
    let begun = Instant::now();
    let error = alone.create().await.unwrap_err();
    assert_eq!((error.effect(), error.code()), (Effect::Unknown, "state_may_lack"));
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    stub.is_gone("child").await;
    // Nobody knows what it did. When a person has looked, its workspace is completed.
    std::fs::remove_file(stub.path("act-apply")).unwrap();
    std::fs::remove_file(stub.path(&format!("work/{}.applying", alone.id("agent-7")))).unwrap();
    let Found::Ours(id) = alone.find().await.unwrap() else { panic!("not found") };
    assert!(matches!(alone.ready(&id).await.unwrap(), Readiness::Ready(_)));
    assert_eq!(stub.read("made").lines().count(), 1);
}

// covers: S7
#[tokio::test]
async fn a_workspace_that_is_gone_is_told_as_broken() {
    let stub = stub();
    let alone = Alone::new(config(stub.folder()));
    let id = alone.create().await.unwrap();
    assert_eq!(
        alone.infrastructure.list_owned(&alone.cx()).await.unwrap().complete().unwrap().len(),
        1
    );
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir_all(stub.path("world").join(id.as_str())).unwrap();
    let gone = alone.ready(&id).await.unwrap();
    assert_eq!(gone, Readiness::Broken { code: "workspace_gone".to_owned() });
}

/// Set in the child that is killed; its value is the folder of the stub.
const CHILD: &str = "PROVISION_TEST_TERRAFORM_FOLDER";

// Only does something in a child: drives a run until it is killed.
#[tokio::test]
async fn child_applies_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let store = SqliteStore::open(folder.join("runs.db")).await.unwrap();
    let engine = engine(store, saga(config(folder), Build::GOES_WELL)).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).key("agent-7").await.unwrap();
    let _worker = engine.spawn_worker(WorkerConfig::default());
    run.output().await.unwrap();
}

// covers: S7, S9, R1-19, R2-72
#[tokio::test]
async fn a_killed_engine_leaves_terraform_at_its_work_and_its_successor_waits_for_it() {
    let stub = stub();
    stub.write("slow", "3");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["terraform::child_applies_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, stub.folder())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while stub.read("made").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", stub.calls());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let store = SqliteStore::open(stub.path("runs.db")).await.unwrap();
    let engine = engine(store, saga(config(stub.folder()), Build::GOES_WELL)).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SAGA, &"agent-7".to_owned()).key("agent-7").await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(120), run.output()).await.unwrap();
    assert_eq!(output.unwrap(), "\"203.0.113.7\"");
    worker.stop().await;
    assert_eq!(stub.read("made").lines().count(), 1, "{:?}", stub.calls());
    assert_eq!(std::fs::read_dir(stub.path("world")).unwrap().count(), 1);
    // What the dead one left went with the first that came after it.
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");
}
