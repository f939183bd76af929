//! What could do harm: the wrong workspace, a killed apply, a state that is not saved.

use std::time::{Duration, Instant};

use provision_adapters::tools::terraform::{State, TerraformConfig};
use provision_core::{Effect, ExternalId, Found, Readiness, Resource, Verdict};

use super::{Alone, KEY, commands, config, left, listed, spec, stub};

// covers: S7, S14
#[tokio::test]
async fn a_workspace_of_somebody_else_is_never_worked_on() {
    let stub = stub();
    let alone = Alone::new(config(stub.folder()));
    let token = alone.cx().mark().token();
    let bad = [
        "default",
        "/srv/states",
        "../x",
        "",
        "agent-7",
        "agent-7-0123456789ab",
        &token,
        &format!("-{token}"),
        &format!("../x-{token}"),
        &format!("agent-7-{token}/"),
    ];
    for id in bad.map(ExternalId::new) {
        let error = alone.ready(&id).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("invalid_id", &Verdict::Permanent), "{id}");
        assert_eq!(alone.delete(&id).await.unwrap_err().code(), "invalid_id", "{id}");
    }
    assert!(stub.calls().is_empty() && !stub.path("work").exists());
}

// covers: S7, S9, S14
#[tokio::test]
async fn nothing_that_others_do_to_the_folders_has_it_work_in_another_workspace() {
    let stub = stub();
    let alone = Alone::new(config(stub.folder()));
    let id = alone.create().await.unwrap();
    std::fs::create_dir(stub.path("world/default")).unwrap();
    stub.write("world/default/machine", "of somebody else");
    // Whatever a folder says is selected is of no matter: it is named to the command.
    let unselected = "printf default > \"$TF_DATA_DIR/environment\"";
    for act in ["act-plan", "act-apply", "act-destroy", "act-output"] {
        stub.write(act, unselected);
    }
    assert!(matches!(alone.ready(&id).await.unwrap(), Readiness::Ready(_)));
    alone.delete(&id).await.unwrap();
    assert!(!stub.path("world").join(id.as_str()).exists());
    assert_eq!(stub.read("world/default/machine"), "of somebody else");

    // A list that is cut is none.
    stub.write("act-workspace-list", "exit 0");
    assert_eq!(alone.find().await.unwrap_err().code(), "unreadable");
    assert_eq!(alone.delete(&id).await.unwrap_err().code(), "unreadable");
}

// covers: S7, S6
#[tokio::test]
async fn one_that_only_looks_does_not_disturb_one_at_work() {
    let stub = stub();
    // It is at its work until the other one has looked.
    stub.write("held", "");
    let alone = Alone::new(config(stub.folder()));
    let look = async {
        let begun = Instant::now();
        while stub.read("made").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", stub.calls());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As a plan of the same run does, which holds no lease.
        let found = alone.find().await.unwrap();
        let beside = alone.ready(&alone.id("agent-7")).await.unwrap();
        std::fs::remove_file(stub.path("held")).unwrap();
        (found, beside)
    };
    let (made, (found, beside)) = tokio::join!(alone.create(), look);
    let id = made.unwrap();
    assert_eq!(found, Found::Ours(id.clone()));
    assert_eq!(beside, Readiness::NotYet { again_in: Duration::from_millis(100) });
    assert_eq!(stub.read(&format!("world/{id}/machine")).trim(), id.as_str());
    assert_eq!(stub.read("made").lines().count(), 1);
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");
}

// covers: S9, S12, R1-19
#[tokio::test]
async fn a_killed_apply_is_not_repeated_before_a_person_has_looked() {
    let stub = stub();
    stub.write("dies", "");
    let alone = Alone::new(config(stub.folder()));
    let error = alone.create().await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("state_may_lack", &Verdict::Operator));
    assert_eq!(error.effect(), Effect::Unknown);
    // Its lock went with it, as that of a state in a folder does.
    let id = alone.id("agent-7");
    std::fs::remove_dir(stub.path(&format!("lock.{id}"))).unwrap();
    std::fs::remove_file(stub.path("dies")).unwrap();
    for _ in 0..2 {
        assert_eq!(alone.ready(&id).await.unwrap_err().code(), "state_may_lack");
        assert_eq!(alone.delete(&id).await.unwrap_err().code(), "state_may_lack");
    }
    assert_eq!(stub.read("made").lines().count(), 1);
    // The machine was switched off, and its memory is gone.
    for name in listed(&stub).into_iter().filter(|name| !name.ends_with(".applying")) {
        std::fs::remove_dir_all(stub.path("work").join(name)).unwrap();
    }
    assert_eq!(alone.ready(&id).await.unwrap_err().code(), "state_may_lack");
    // The person does what the hint says.
    let hint = error.hint().unwrap();
    let note = hint.split('`').find(|word| word.ends_with(".applying")).unwrap();
    std::fs::remove_file(stub.path("work").join(note)).unwrap();
    assert!(matches!(alone.ready(&id).await.unwrap(), Readiness::Ready(_)));
    let left = left(&stub).await;
    assert!(left.is_empty(), "{left:?}");
}

// covers: S9, S12
#[tokio::test]
async fn states_that_could_not_be_saved_are_kept_apart_and_stop_the_work() {
    let stub = stub();
    stub.write("module/main.tf", "the module");
    stub.write(
        "act-apply",
        r#"[ "$(cat main.tf)" = "the module" ] || exit 3
           echo "made in $(here)" > errored.tfstate
           echo '{"diagnostic":{"severity":"error","summary":"Failed to persist state"}}'; exit 1"#,
    );
    let config = config(stub.folder()).with_kept(stub.path("kept"));
    let alone = Alone::new(config);
    let eight = spec("agent-8");
    let cx = alone.cx();
    let intent = alone.host.intend(&cx, &alone.infrastructure, &eight);
    let (seven, eight) =
        tokio::join!(alone.create(), alone.infrastructure.create(&cx, &eight, &intent));
    for (name, made) in [("agent-7", seven), ("agent-8", eight)] {
        let error = made.unwrap_err();
        assert_eq!((error.code(), error.verdict()), ("state_not_saved", &Verdict::Operator));
        let id = alone.id(name);
        let kept = stub.read(&format!("kept/{id}.errored.tfstate"));
        assert_eq!(kept.trim(), format!("made in {id}"));
    }
    assert!(!stub.path("module/errored.tfstate").exists());
    std::fs::remove_file(stub.path("act-apply")).unwrap();
    let id = alone.id("agent-7");
    let plans = commands(&stub).iter().filter(|call| *call == "plan").count();
    assert_eq!(alone.ready(&id).await.unwrap_err().code(), "state_not_saved");
    assert_eq!(alone.delete(&id).await.unwrap_err().code(), "state_not_saved");
    assert_eq!(commands(&stub).iter().filter(|call| *call == "plan").count(), plans);
    std::fs::remove_file(stub.path(&format!("kept/{id}.errored.tfstate"))).unwrap();
    assert!(matches!(alone.ready(&id).await.unwrap(), Readiness::Ready(_)));
}

// covers: X8, S6
#[tokio::test]
async fn a_dropped_apply_leaves_no_values_and_is_killed_after_its_grace() {
    let stub = stub();
    stub.write("act-apply", "trap '' INT\necho $$ > \"$stub/begun\"\nsleep 300; sleep 300");
    let alone = Alone::new(config(stub.folder()).with_grace(Duration::from_secs(5)));
    let mut created = Box::pin(alone.create());
    let begun = Instant::now();
    while stub.read("begun").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", stub.calls());
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut created).await.is_err());
    }
    drop(created);
    let id = alone.id("agent-7");
    for file in ["plan", "variables.tfvars.json"] {
        assert!(!stub.path(&format!("work/{id}.0/{file}")).exists(), "{file}");
    }
    // While it may still end by itself it is waited for; then it is known that it did not.
    let going = alone.ready(&id).await.unwrap();
    assert!(matches!(going, Readiness::NotYet { .. }), "{going:?}");
    stub.is_gone("begun").await;
    assert_eq!(alone.ready(&id).await.unwrap_err().code(), "state_may_lack");
}

// covers: S9
#[tokio::test]
async fn states_that_would_go_with_the_command_and_secret_settings_are_refused() {
    let stub = stub();
    let alone = Alone::new(config(stub.folder()));
    for chosen in [
        r#"{"version":3}"#,
        r#"{"backend":{"type":"local","config":{"path":null,"workspace_dir":null}}}"#,
        r#"{"backend":{"type":"local","config":{"workspace_dir":"states"}}}"#,
    ] {
        stub.write("chosen.json", chosen);
        let error = alone.create().await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("backend_refused", Effect::None), "{chosen}");
    }
    assert!(!commands(&stub).contains(&"plan".to_owned()));
    let state = State::s3("acme-states", "eu-central-1", "agents").with("secret_key", KEY);
    let config = TerraformConfig::new(stub.path("module"), stub.path("other"), state)
        .with_program(stub.path("terraform"))
        .with_variables(["size", "join_key"]);
    let error = Alone::new(config).find().await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("secret_in_settings", &Verdict::Permanent));
    assert!(!stub.path("other").exists());
}
