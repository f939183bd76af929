//! Ansible as a step, against programs that act its part and that of SSH.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use provision_adapters::tools::ansible::{
    Ansible, AnsibleConfig, Done, KnownMachine, Machine, MachineSpec, Playbook, PlaybookInput,
    RunPlaybook, UndoPlaybook, Value, VariableType,
};
use provision_core::{
    Compensator as _, Effect, Engine, Found, LedgerQuery, MemoryStore, Policy, Readiness, Resource,
    RunId, Saga, SagaId, SecretRef, Step, StepContext, StepError, Undo, Verdict, WorkerConfig,
    executor::{Executor, HostDriven},
    resolver::MapResolver,
    store::StateStore,
    vault::LocalKeys,
};
use provision_store_sqlite::SqliteStore;
use provision_testkit::{harness::encodings, solo::SoloHost};
use uuid::Uuid;

use crate::{
    engine::{Build, End, NOTHING},
    stub::Stub,
};

mod doubt;

const SAGA: SagaId<String, String> = SagaId::new("installing", 1);
const KEY: &str = "canary-private-key-31bb7e";
const JOIN: &str = "canary-join-a0c94d\"{{ lookup('pipe', 'touch stolen') }}";
const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGP1Qnpz9nA6r2a7dB0hYCmlqUuPc0Q0b0y6V0q1fZ3x";

/// Every program writes down its arguments. What `ssh` and `ssh-keyscan` do is the first line of a
/// file, which is then taken away; without one the machine is there and has booted.
const ANSIBLE: &str = r#"#!/bin/sh
stub="$(dirname "$0")"
if [ "$1" = --version ]; then
  echo "ansible-playbook [core $(cat "$stub/release")]"
  exit 0
fi
echo "ansible-playbook $*" >> "$stub/calls"
env >> "$stub/environment"
date +%s%3N >> "$stub/times"
cat "$2" > "$stub/inventory"
cat "${4#@}" > "$stub/variables"
cat "${6#@}" > "$stub/connection"
key="$(sed 's/.*"ansible_ssh_private_key_file":"//; s/".*//' "${6#@}")"
stat -c %a "$2" "${4#@}" "${6#@}" "$key" >> "$stub/modes"
known="$(sed 's/.*UserKnownHostsFile=//; s/ .*//' "${6#@}")"
cat "$known" > "$stub/known"
[ -f "$stub/act" ] && . "$stub/act"
if [ -s "$stub/answers-play" ]; then
  name="$(sed -n 1p "$stub/answers-play")"
  sed -i 1d "$stub/answers-play"
  cat "$stub/report-$name"
  exit "$(cat "$stub/code-$name")"
fi
cat "$stub/report"
"#;

const SSH: &str = r#"#!/bin/sh
stub="$(dirname "$0")"
program="$(basename "$0")"
echo "$program $*" >> "$stub/calls"
env >> "$stub/environment"
answer=0
if [ -s "$stub/answers-$program" ]; then
  answer="$(sed -n 1p "$stub/answers-$program")"
  sed -i 1d "$stub/answers-$program"
fi
case "$program $answer" in
  "ssh-keyscan 0")
    echo "x ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
    echo "x $(cat "$stub/host-key")"
    exit 0 ;;
  "ssh changed") echo "Host key verification failed." >&2; exit 255 ;;
  "ssh 255") echo "ssh: connect to host x port 22: Connection refused" >&2 ;;
esac
exit "$answer"
"#;

fn stub() -> Stub {
    let stub = Stub::new("ansible-playbook", ANSIBLE);
    stub.program("ssh", SSH);
    stub.program("ssh-keyscan", SSH);
    stub.write("release", "2.16.3");
    stub.write("host-key", HOST_KEY);
    stub.write("report", &report("agent-7", r#""ok":3,"changed":2"#));
    stub.write("site.yml", "- hosts: all\n");
    stub
}

fn report(machine: &str, stats: &str) -> String {
    let said = serde_json::to_string(JOIN).unwrap();
    format!(
        r#"{{"plays":[{{"tasks":[{{"task":{{"name":"install the agent"}},"hosts":{{"{machine}":
            {{"failed":true,"msg":{said}}}}}}}]}}],
            "global_custom_stats":{{"release":"1.4.2","other":"{KEY}"}},
            "stats":{{"{machine}":{{{stats}}}}}}}"#
    )
}

fn ansible(folder: &Path) -> Ansible {
    let config = AnsibleConfig::new(folder.join("work"), SecretRef::named("SSH_KEY"))
        .with_program(folder.join("ansible-playbook"))
        .with_ssh(folder.join("ssh"), folder.join("ssh-keyscan"))
        .with_environment("ANSIBLE_ROLES_PATH", "/nowhere")
        .with_booting_again_in(Duration::from_millis(50))
        .with_play_timeout(Duration::from_secs(20));
    Ansible::new(config)
}

fn playbook(folder: &Path) -> Playbook {
    Playbook::new(folder.join("site.yml"))
        .with_variable("plan", VariableType::Name)
        .with_variable("title", VariableType::Text)
        .with_variable("workers", VariableType::Integer)
        .with_variable("debug", VariableType::Switch)
        .with_variable("join_key", VariableType::Secret)
        .with_output("release")
}

fn spec(name: &str) -> MachineSpec {
    MachineSpec::new(name, "203.0.113.7").with_port(2222).with_user("deploy")
}

fn input(machine: Machine) -> PlaybookInput {
    PlaybookInput::on([machine])
        .with("plan", Value::Text("small".to_owned()))
        .with("title", Value::Text("$(touch stolen); {{ lookup('env', 'HOME') }}".to_owned()))
        .with("workers", Value::Integer(4))
        .with("debug", Value::Switch(false))
        .with("join_key", Value::Secret(SecretRef::named("JOIN")))
}

fn saga(folder: &Path) -> Saga<String, String> {
    let ansible = ansible(folder);
    let policy =
        || Policy::attempts(6).exponential(Duration::from_millis(100), 2, Duration::from_secs(2));
    Saga::define(SAGA, |s| {
        let machine = s
            .resource("machine", KnownMachine::new(&ansible))
            .retry(policy())
            .input((), |name: &String, ()| spec(name));
        let done = s
            .step("install", RunPlaybook::new(&ansible, playbook(folder)), NOTHING)
            .retry(policy().with_jitter(provision_core::retry::Jitter::None))
            .input(machine, |_, machine| input(machine));
        s.step("end", End(Build::GOES_WELL), NOTHING)
            .input(done, |_, done: Done| done.outputs["release"].to_string())
    })
    .unwrap()
}

async fn engine<B: provision_core::engine::Backend>(
    store: B,
    saga: Saga<String, String>,
) -> Engine {
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    let resolver = MapResolver::new().with("SSH_KEY", KEY).with("JOIN", JOIN);
    let builder = Engine::builder(store).keys(keys).resolver(resolver);
    builder.register(saga).build().await.unwrap()
}

/// Steps alone, without an engine.
struct Alone {
    host: SoloHost,
    known: KnownMachine,
    play: RunPlaybook,
}

impl Alone {
    fn new(folder: &Path) -> Self {
        let ansible = ansible(folder);
        Self {
            host: SoloHost::new().with_secret("SSH_KEY", KEY).with_secret("JOIN", JOIN),
            known: KnownMachine::new(&ansible),
            play: RunPlaybook::new(&ansible, playbook(folder)),
        }
    }

    fn cx(&self) -> StepContext {
        self.host.context(RunId::from_uuid(Uuid::from_u128(7)), "machine")
    }

    async fn met(&self) -> Machine {
        let (cx, spec) = (self.cx(), spec("agent-7"));
        let intent = self.host.intend(&cx, &self.known, &spec);
        let id = self.known.create(&cx, &spec, &intent).await.unwrap();
        match self.known.ready(&cx, &spec, &id).await.unwrap() {
            Readiness::Ready(machine) => machine,
            other => panic!("{other:?}"),
        }
    }

    async fn run(&self, input: PlaybookInput) -> Result<Done, StepError> {
        self.play.run(&self.cx(), input).await
    }
}

fn calls_of(stub: &Stub, program: &str) -> Vec<String> {
    let own = |call: &String| call.split(' ').next() == Some(program);
    stub.calls().into_iter().filter(own).collect()
}

// covers: R2-13, R2-46, R2-47, X8, X1
#[tokio::test]
async fn a_machine_is_waited_for_and_worked_on_under_its_recorded_key() {
    let stub = stub();
    // It does not answer, then has no shell yet, then has not booted.
    stub.write("answers-ssh-keyscan", "1\n1\n1\n");
    stub.write("answers-ssh", "255\n255\n1\n1\n");
    let store = MemoryStore::new();
    let engine = engine(store.clone(), saga(stub.folder())).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "\"1.4.2\"");
    assert_eq!(calls_of(&stub, "ssh").len(), 5);
    assert!(engine.failures(run.id()).await.unwrap().is_empty(), "waiting is no failure");

    let rows = engine.ledger(&LedgerQuery::default()).await.unwrap();
    let id = rows[0].external_id.as_ref().unwrap().to_string();
    assert_eq!(id, format!("deploy@[203.0.113.7]:2222 {HOST_KEY}"));
    assert_eq!(stub.read("known"), format!("[203.0.113.7]:2222 {HOST_KEY}\n"));
    let inventory: serde_json::Value = serde_json::from_str(&stub.read("inventory")).unwrap();
    let host = serde_json::json!({
        "ansible_host": "203.0.113.7",
        "ansible_port": 2222,
        "ansible_user": "deploy",
    });
    assert_eq!(inventory, serde_json::json!({"all": {"hosts": {"agent-7": host}}}));
    // A playbook's own `group_vars` come after options and inventory, and before these variables.
    let connection: serde_json::Value = serde_json::from_str(&stub.read("connection")).unwrap();
    let trust = connection["ansible_ssh_common_args"].as_str().unwrap().to_owned();
    for call in calls_of(&stub, "ssh").iter().chain([&trust]) {
        assert!(call.contains("-o StrictHostKeyChecking=yes"), "{call}");
        assert!(call.contains("-o GlobalKnownHostsFile=/dev/null"), "{call}");
    }
    assert_eq!(connection["ansible_connection"], "ssh");
    let ssh = stub.path("ssh").to_string_lossy().into_owned();
    assert_eq!(connection["ansible_ssh_executable"], ssh, "the program that looks");
    assert_eq!(stub.read("modes").lines().collect::<Vec<_>>(), ["600"; 4]);
    assert_clean(&stub, &store, *run.id()).await;
}

/// No value is an argument, nothing secret is journaled, and no file is left.
async fn assert_clean(stub: &Stub, store: &MemoryStore, run: RunId) {
    let loaded = store.load(&[run]).await.unwrap();
    let frames = loaded.into_iter().flatten().flat_map(|record| record.frames);
    let journal: String = frames.map(|frame| frame.body.to_string()).collect();
    assert!(journal.contains("1.4.2"), "the journal is read");
    let calls = stub.calls().join("\n");
    for secret in [KEY, JOIN, "touch stolen"] {
        for form in encodings(secret) {
            assert!(!calls.contains(&form), "{calls}");
            assert!(secret == "touch stolen" || !journal.contains(&form), "{journal}");
        }
    }
    assert_eq!(std::fs::read_dir(stub.path("work")).unwrap().count(), 0);
    let ours = |name: &String| !name.starts_with("ANSIBLE_");
    let others: Vec<_> = stub.variables().into_iter().filter(ours).collect();
    assert_eq!(others, ["HOME", "LC_ALL", "PATH"]);
}

// covers: R2-38
#[tokio::test]
async fn variables_are_allowed_typed_and_read_as_no_template() {
    let stub = stub();
    let alone = Alone::new(stub.folder());
    let machine = alone.met().await;
    alone.run(input(machine.clone())).await.unwrap();
    let written = stub.read("variables");
    let line = r#""title": !unsafe "$(touch stolen); {{ lookup('env', 'HOME') }}""#;
    assert!(written.lines().any(|written| written == line), "{written}");
    assert!(written.contains("\"workers\": 4\n") && written.contains("\"debug\": false\n"));
    let marked = written.lines().filter(|line| line.contains("!unsafe")).count();
    assert_eq!(marked, 3, "every text is marked: {written}");

    let plays = calls_of(&stub, "ansible-playbook").len();
    let on = || PlaybookInput::on([machine.clone()]);
    let mut other = machine.clone();
    other.port = 22;
    let mut elsewhere = machine.clone();
    elsewhere.address = "-oProxyCommand=touch stolen".to_owned();
    let bad = [
        (on().with("hosts", Value::Text("localhost".to_owned())), "variable_not_allowed"),
        (on().with("plan", Value::Text("a; touch stolen".to_owned())), "variable_refused"),
        (on().with("plan", Value::Integer(1)), "variable_refused"),
        (on().with("workers", Value::Text("4".to_owned())), "variable_refused"),
        (on().with("title", Value::Text("a\u{0}b".to_owned())), "variable_refused"),
        (on().with("join_key", Value::Text("in clear".to_owned())), "variable_refused"),
        (PlaybookInput::on([machine.clone(), other]), "ambiguous_machine"),
        (PlaybookInput::on([elsewhere]), "invalid_machine"),
        (PlaybookInput::on_ledger(), "no_machine"),
    ];
    for (input, code) in bad {
        let error = alone.run(input).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &Verdict::Permanent));
    }
    assert_eq!(calls_of(&stub, "ansible-playbook").len(), plays, "nothing was started");
}

/// Exit code, what the report says, and what is to be told of it.
type Case = (i32, Option<&'static str>, Effect, &'static str, &'static str);

// covers: R2-13, S9, X1
#[tokio::test]
async fn exit_codes_are_sorted_into_what_happened_and_what_to_do() {
    let cases: [Case; 13] = [
        (2, Some(r#""ok":3,"failures":1"#), Effect::Unknown, "retry", "task_failed"),
        // The very first task may have begun.
        (4, Some(r#""unreachable":1"#), Effect::Unknown, "retry", "unreachable"),
        (4, Some(r#""ok":2,"changed":1,"unreachable":1"#), Effect::Unknown, "retry", "unreachable"),
        (4, None, Effect::Unknown, "retry", "without_report"),
        (5, None, Effect::None, "permanent", "options_refused"),
        (1, None, Effect::Unknown, "retry", "failed"),
        (99, None, Effect::Unknown, "retry", "interrupted"),
        (250, None, Effect::Unknown, "retry", "unexpected"),
        (0, None, Effect::Unknown, "retry", "unreadable"),
        (0, Some(""), Effect::Unknown, "permanent", "other_machine"),
        (1, Some("callback"), Effect::None, "operator", "callback_missing"),
        (2, Some("callback"), Effect::Unknown, "retry", "failed"),
        (-9, None, Effect::Unknown, "retry", "killed"),
    ];
    for (exit, stats, effect, verdict, code) in cases {
        let stub = stub();
        let alone = Alone::new(stub.folder());
        let machine = alone.met().await;
        let text = match (code, stats) {
            ("other_machine", _) => {
                r#"{"stats":{"agent-7":{"ok":1},"localhost":{"ok":1}}}"#.to_owned()
            }
            (_, None | Some("callback")) => format!("no report, but {JOIN}"),
            (_, Some(stats)) => report("agent-7", stats),
        };
        stub.write("report", &text);
        let end = match (code, exit) {
            ("callback_missing", _) => {
                "echo 'ERROR! Invalid callback for stdout specified: ansible.posix.json' >&2; exit 1"
                    .to_owned()
            }
            // A task may say so as well, and then much was done.
            _ if stats == Some("callback") => {
                "echo \"Could not load 'ansible.posix.json' callback plugin.\" >&2; exit 2".to_owned()
            }
            (_, -9) => "kill -9 $$".to_owned(),
            _ => format!("cat \"$stub/report\"; exit {exit}"),
        };
        stub.write("act", &end);
        let error = alone.run(input(machine)).await.unwrap_err();
        let told = match error.verdict() {
            Verdict::Retry { .. } => "retry",
            Verdict::Permanent => "permanent",
            Verdict::Operator => "operator",
            _ => "other",
        };
        assert_eq!((error.effect(), told, error.code()), (effect, verdict, code), "{exit}");
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        if code == "task_failed" {
            assert_eq!(error.message(), Some("`install the agent` on agent-7"));
        }
    }
}

// covers: R2-13
#[tokio::test]
async fn a_play_that_meets_no_machine_is_no_success() {
    let stub = stub();
    let alone = Alone::new(stub.folder());
    let machine = alone.met().await;
    stub.write("report", r#"{"plays":[],"stats":{}}"#);
    let error = alone.run(input(machine)).await.unwrap_err();
    assert_eq!(error.code(), "machine_not_met");

    stub.write("release", "2.15.13");
    let error = alone.run(input(alone.met().await)).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("too_old", &Verdict::Operator));
}

// covers: R2-56, L4
#[tokio::test]
async fn connecting_is_repeated_with_the_backoff_of_the_step() {
    let stub = stub();
    stub.write("answers-play", "away\naway\naway\n");
    stub.write("report-away", &report("agent-7", r#""unreachable":1"#));
    stub.write("code-away", "4");
    let engine = engine(MemoryStore::new(), saga(stub.folder())).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), "\"1.4.2\"");
    let times: Vec<u64> = stub.read("times").lines().map(|time| time.parse().unwrap()).collect();
    let waits: Vec<u64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 3);
    assert!(waits[0] >= 100 && waits[1] >= 200 && waits[2] >= 400, "{waits:?}");
    let failures = engine.failures(run.id()).await.unwrap();
    assert!(failures.iter().all(|failure| format!("{failure:?}").contains("unreachable")));
    assert_eq!(failures.len(), 3);
    // And by nobody else.
    assert!(stub.read("environment").contains("ANSIBLE_SSH_RETRIES=0"));
}

// covers: R2-46, S7
#[tokio::test]
async fn a_machine_with_another_key_is_not_spoken_to() {
    let stub = stub();
    let alone = Alone::new(stub.folder());
    let machine = alone.met().await;
    assert_eq!(machine.host_key, HOST_KEY, "the best key of several");
    stub.write("answers-ssh", "changed\n");
    let (cx, spec) = (alone.cx(), spec("agent-7"));
    let id = provision_core::ExternalId::new(format!("deploy@[203.0.113.7]:2222 {HOST_KEY}"));
    let error = alone.known.ready(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("host_key_changed", &Verdict::Operator));

    // A key that is known beforehand is asked for nowhere.
    let asked = calls_of(&stub, "ssh-keyscan").len();
    let given = spec.clone().with_host_key(format!("{HOST_KEY} root@agent-7"));
    assert_eq!(alone.known.find(&cx, &given).await.unwrap(), Found::Absent);
    let intent = alone.host.intend(&cx, &alone.known, &given);
    assert_eq!(alone.known.create(&cx, &given, &intent).await.unwrap(), id);
    assert_eq!(calls_of(&stub, "ssh-keyscan").len(), asked);
    let bad = given.with_host_key("ssh-ed25519 AAAA");
    assert_eq!(alone.known.find(&cx, &bad).await.unwrap_err().code(), "invalid_spec");
}

// covers: R2-42
#[tokio::test]
async fn the_inventory_is_what_the_ledger_holds_when_the_attempt_begins() {
    const EVERYWHERE: SagaId<String, u64> = SagaId::new("everywhere", 1);
    let stub = stub();
    let reader: Arc<OnceLock<Engine>> = Arc::default();
    let rows = {
        let reader = Arc::clone(&reader);
        move || -> futures_util::future::BoxFuture<'static, _> {
            let engine = reader.get().unwrap().clone();
            Box::pin(async move {
                let query = LedgerQuery::default();
                engine
                    .ledger(&query)
                    .await
                    .map_err(|error| StepError::retry("read the ledger").with_source(error))
            })
        }
    };
    let everywhere = RunPlaybook::new(&ansible(stub.folder()), playbook(stub.folder()));
    let everywhere = everywhere.with_ledger(rows);
    let on_all = Saga::define(EVERYWHERE, |s| {
        let done = s
            .step("patch", everywhere, NOTHING)
            .input((), |_: &String, ()| PlaybookInput::on_ledger());
        s.value("machines").input(done, |_, done: Done| done.machines.len() as u64)
    })
    .unwrap();
    let keys = LocalKeys::new("test", [7; 32]).unwrap();
    let resolver = MapResolver::new().with("SSH_KEY", KEY).with("JOIN", JOIN);
    let engine = Engine::builder(MemoryStore::new()).keys(keys).resolver(resolver);
    let engine = engine.register(saga(stub.folder())).register(on_all).build().await.unwrap();
    reader.set(engine.clone()).unwrap_or_else(|_| panic!("set twice"));
    for name in ["agent-7", "agent-8", "agent-9"] {
        stub.write("report", &report(name, r#""ok":1"#));
        let run = engine.start(SAGA, &name.to_owned()).await.unwrap();
        HostDriven.drive(&engine, run.id()).await.unwrap();
        run.output().await.unwrap();
        if name == "agent-8" {
            let by = provision_core::By::new("ada", "cancelled");
            engine.tear_down(run.id(), by).await.unwrap();
            HostDriven.drive(&engine, run.id()).await.unwrap();
        }
    }
    stub.write("report", r#"{"stats":{"agent-7":{"ok":1},"agent-9":{"ok":1}}}"#);
    let run = engine.start(EVERYWHERE, &"all".to_owned()).await.unwrap();
    HostDriven.drive(&engine, run.id()).await.unwrap();
    assert_eq!(run.output().await.unwrap(), 2);
    let inventory: serde_json::Value = serde_json::from_str(&stub.read("inventory")).unwrap();
    let hosts = inventory["all"]["hosts"].as_object().unwrap();
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["agent-7", "agent-9"]);
    assert_eq!(stub.read("known").lines().count(), 2);
}

// covers: X8, S6
#[tokio::test]
async fn a_playbook_is_killed_at_its_deadline_and_its_files_go_with_it() {
    let stub = stub();
    stub.write("act", "sh -c 'echo $$ > \"$0/child\"; sleep 300; :' \"$stub\" & sleep 300");
    let alone = Alone::new(stub.folder());
    let machine = alone.met().await;
    let host = alone.host.clone().with_call_max(Duration::from_secs(4));
    let cx = host.context(RunId::from_uuid(Uuid::from_u128(7)), "machine");
    let error = alone.play.run(&cx, input(machine)).await.unwrap_err();
    assert_eq!((error.effect(), error.code()), (Effect::Unknown, "timeout"));
    assert_eq!(std::fs::read_dir(stub.path("work")).unwrap().count(), 0);
    stub.is_gone("child").await;
}

// covers: S14
#[tokio::test]
async fn a_playbook_is_undone_by_another_one() {
    let stub = stub();
    let alone = Alone::new(stub.folder());
    let input = input(alone.met().await);
    stub.write("gone.yml", "- hosts: all\n");
    let mut undo = Playbook::new(stub.path("gone.yml"));
    for (name, kind) in [("plan", VariableType::Name), ("title", VariableType::Text)] {
        undo = undo.with_variable(name, kind);
    }
    let undo = undo.with_variable("join_key", VariableType::Secret);
    let undo = undo
        .with_variable("workers", VariableType::Integer)
        .with_variable("debug", VariableType::Switch);
    let undo = UndoPlaybook::new(&ansible(stub.folder()), undo);
    undo.compensate(&alone.cx(), input, Undo::Unknown(Vec::new())).await.unwrap();
    assert!(calls_of(&stub, "ansible-playbook")[0].ends_with("gone.yml"));
}

// covers: R2-47
#[tokio::test]
async fn the_real_programs_say_of_a_closed_port_that_nobody_is_there_yet() {
    let there = Command::new("ssh").arg("-V").stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no ssh is installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let config = AnsibleConfig::new(folder.path().join("work"), SecretRef::named("SSH_KEY"));
    let known = KnownMachine::new(&Ansible::new(config));
    let host = SoloHost::new().with_secret("SSH_KEY", KEY);
    let cx = host.context(RunId::from_uuid(Uuid::from_u128(7)), "machine");
    let spec = MachineSpec::new("agent-7", "127.0.0.1").with_port(port);
    assert!(matches!(known.find(&cx, &spec).await.unwrap(), Found::Going { .. }));
    let id = provision_core::ExternalId::new(format!("root@[127.0.0.1]:{port} {HOST_KEY}"));
    let seen = known.ready(&cx, &spec, &id).await.unwrap();
    assert!(matches!(seen, Readiness::NotYet { .. }));
}

/// Set in the child that is killed; its value is the folder of the stub.
const CHILD: &str = "PROVISION_TEST_ANSIBLE_FOLDER";

// Only does something in a child: drives a run until it is killed.
#[tokio::test]
async fn child_plays_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = Path::new(&folder);
    let store = SqliteStore::open(folder.join("runs.db")).await.unwrap();
    let engine = engine(store, saga(folder)).await;
    let run = engine.start(SAGA, &"agent-7".to_owned()).key("agent-7").await.unwrap();
    let _worker = engine.spawn_worker(WorkerConfig::default());
    run.output().await.unwrap();
}

// covers: S8, R2-46
#[tokio::test]
async fn a_killed_engine_has_its_playbook_run_again_on_the_machine_that_is_known() {
    let stub = stub();
    stub.write("act", "[ -f \"$stub/begun\" ] || { : > \"$stub/begun\"; sleep 3; }");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["ansible::child_plays_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, stub.folder())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !stub.path("begun").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", stub.calls());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = calls_of(&stub, "ssh-keyscan").len();

    let store = SqliteStore::open(stub.path("runs.db")).await.unwrap();
    let engine = engine(store, saga(stub.folder())).await;
    let worker = engine.spawn_worker(WorkerConfig::default());
    let run = engine.start(SAGA, &"agent-7".to_owned()).key("agent-7").await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(120), run.output()).await.unwrap();
    assert_eq!(output.unwrap(), "\"1.4.2\"");
    worker.stop().await;
    assert_eq!(calls_of(&stub, "ansible-playbook").len(), 2);
    assert_eq!(calls_of(&stub, "ssh-keyscan").len(), asked, "it is known already");
    assert_eq!(std::fs::read_dir(stub.path("work")).unwrap().count(), 0);
}
