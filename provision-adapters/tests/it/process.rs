//! Programs run as calls: what they get, what they may not have, and when they are dead.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use provision_adapters::tools::process::{COMPLAINT_BYTES_MAX, Ended, Program};
use provision_core::{Call, Effect, RunId, Secret, StepContext, StepError, Verdict};
use provision_testkit::solo::SoloHost;
use tempfile::tempdir;
use uuid::Uuid;

fn context() -> StepContext {
    SoloHost::new().context(RunId::from_uuid(Uuid::from_u128(1)), "program")
}

async fn run(program: Program) -> Result<Ended, StepError> {
    program.run(&context(), &Call::read("run a program")).await
}

fn text(ended: &Ended) -> &str {
    std::str::from_utf8(ended.output()).unwrap()
}

// covers: X8, R1-49
#[tokio::test]
async fn arguments_are_no_commands() {
    let folder = tempdir().unwrap();
    for hostile in ["x; touch made", "$(touch made)", "`touch made`", "| touch made", "--\n\"'"] {
        let program = Program::new("printf").arguments(["%s", hostile]).in_folder(folder.path());
        assert_eq!(text(&run(program).await.unwrap()), hostile);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

// covers: X8, X1
#[tokio::test]
async fn the_environment_is_its_own_and_a_secret_is_in_no_argument() {
    let secret = Secret::new("hunter2-hunter2");
    let program = |name: &str| {
        Program::new(name).with_variable("LANG", "C").with_secret("PGPASSWORD", &secret)
    };
    let shown = run(program("env")).await.unwrap();
    let mut names: Vec<&str> =
        text(&shown).lines().map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    // A test is run with dozens of variables of cargo.
    assert!(std::env::vars_os().count() > 10);
    assert_eq!(names, ["LANG", "PATH", "PGPASSWORD"]);
    let arguments = program("cat").arguments(["/proc/self/cmdline", "/proc/self/environ"]);
    let shown = run(arguments.clone()).await.unwrap();
    let (line, environment) = text(&shown).split_once("/proc/self/environ\0").unwrap();
    assert!(!line.contains("hunter2") && environment.contains("hunter2"), "{line}");
    assert!(!format!("{arguments:?} {shown:?}").contains("hunter2"));
}

// covers: X8, S6
#[tokio::test]
async fn the_deadline_kills_a_program_and_all_it_started() {
    let folder = tempdir().unwrap();
    // A program that starts another, which holds nothing of it but the group.
    let script = "sleep 300 >/dev/null 2>&1 & echo $! > grandchild; echo $$ > child; wait";
    let program = || Program::new("sh").arguments(["-c", script]).in_folder(folder.path());
    let call = Call::mutate("run a program").with_timeout(Duration::from_secs(4));
    let began = Instant::now();
    let error = program().run(&context(), &call).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("timeout", Effect::Unknown));
    assert!(began.elapsed() < Duration::from_secs(100));
    gone(folder.path()).await;
    // The one who waits may go away as well.
    let call = Call::mutate("run a program").with_timeout(Duration::from_secs(300));
    let (program, cx, child) = (program(), context(), folder.path().join("child"));
    tokio::select! {
        ended = program.run(&cx, &call) => panic!("it has ended: {ended:?}"),
        () = written(&child) => {}
    }
    gone(folder.path()).await;
}

/// Waits until both processes are gone, or nothing but entries nobody has asked for yet.
async fn gone(folder: &Path) {
    let began = Instant::now();
    for name in ["child", "grandchild"] {
        let id = fs::read_to_string(folder.join(name)).unwrap();
        let stat = format!("/proc/{}/stat", id.trim());
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < Duration::from_secs(60), "the {name} lives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fs::remove_file(folder.join(name)).unwrap();
    }
}

// covers: X8
#[tokio::test]
async fn what_a_program_leaves_in_its_group_ends_with_it() {
    let folder = tempdir().unwrap();
    let script = "sleep 300 >/dev/null 2>&1 & echo $! > grandchild; echo $$ > child; exit 3";
    let ended = run(Program::new("sh").arguments(["-c", script]).in_folder(folder.path())).await;
    assert_eq!(ended.unwrap().code(), Some(3));
    gone(folder.path()).await;
}

// covers: X8, S25
#[tokio::test]
async fn input_and_output_pass_whole_or_not_at_all() {
    let much = vec![b'x'; 3 << 20];
    let cat = || Program::new("cat").with_input(much.clone());
    // Both directions at once: neither waits for the other.
    let ended = run(cat().with_output_max(much.len())).await.unwrap();
    assert!(ended.is_success() && ended.output() == much);
    let error = run(cat().with_output_max(much.len() - 1)).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("output_too_large", Effect::None));
    // Who reads nothing does not stop the writer, and who gets no input sees its end.
    assert!(run(Program::new("true").with_input(much.clone())).await.unwrap().is_success());
    assert_eq!(run(Program::new("cat")).await.unwrap().output(), b"");
    // Of complaints the end is kept.
    let script = "seq 1 100000 >&2; echo last >&2; exit 1";
    let ended = run(Program::new("sh").arguments(["-c", script])).await.unwrap();
    assert!(!ended.is_success() && ended.complaint().ends_with("100000\nlast\n"));
    assert_eq!(ended.complaint().len(), COMPLAINT_BYTES_MAX);
}

// covers: S9
#[tokio::test]
async fn what_never_began_had_no_effect() {
    let call = Call::mutate("run a program");
    for (program, code) in [
        (Program::new("no-program-of-this-name"), "program_missing"),
        (Program::new("true").in_folder("/no/such/folder"), "program_missing"),
        (Program::new("true").arguments(["nul\0byte"]), "bad_arguments"),
    ] {
        let error = program.run(&context(), &call).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), (code, Effect::None));
        assert_eq!(*error.verdict(), Verdict::Permanent);
    }
}

// covers: X8
#[tokio::test]
async fn what_it_writes_into_a_file_is_read_from_there_and_by_nobody_else() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("said");
    let program = Program::new("sh").arguments(["-c", "printf 0123456789; echo why >&2; exit 4"]);
    let program = program.with_output_file(&file);
    for (most, said) in [(100, "0123456789"), (4, "6789")] {
        let ended = run(program.clone().with_output_max(most)).await.unwrap();
        assert_eq!((text(&ended), ended.code()), (said, Some(4)));
        assert_eq!(ended.complaint(), "why\n");
    }
    for file in [file, folder.path().join("said.errors")] {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// Waits until a file has something in it.
async fn written(file: &Path) {
    while fs::read(file).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// covers: X8, S6
#[tokio::test]
async fn with_a_grace_it_is_interrupted_first_and_may_end_by_itself() {
    let folder = tempdir().unwrap();
    let (told, said) = (folder.path().join("told"), folder.path().join("said"));
    let script = "trap 'echo told > told; exit 3' INT; echo began; sleep 300 & wait";
    // What began with interrupts ignored, as a job in the background is, hands that down, and a
    // shell cannot trap them then.
    let program = Program::new("env")
        .arguments(["--default-signal=INT", "sh", "-c", script])
        .in_folder(folder.path())
        .with_output_file(&said)
        .with_grace(Duration::from_secs(30));
    // Interrupted after four seconds, by when a busy machine has started it.
    let call = Call::read("run a program").with_timeout(Duration::from_secs(34));
    let ended = program.run(&context(), &call).await.unwrap();
    assert_eq!((text(&ended), ended.code()), ("began\n", Some(3)));
    assert!(told.exists());

    // Dropped, it is told the same, and nobody waits for it.
    fs::remove_file(&told).unwrap();
    fs::remove_file(&said).unwrap();
    let cx = context();
    tokio::select! {
        ended = program.run(&cx, &call) => panic!("it has ended: {ended:?}"),
        () = written(&said) => {}
    }
    let began = Instant::now();
    while !told.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "it was not interrupted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// covers: X8, S6
#[tokio::test]
async fn who_ignores_an_interrupt_is_killed_after_its_grace_though_nobody_waits() {
    let folder = tempdir().unwrap();
    let script = "trap '' INT; sleep 300 & echo $! > grandchild; echo $$ > child; wait; sleep 300";
    let program = Program::new("sh")
        .arguments(["-c", script])
        .in_folder(folder.path())
        .with_output_file(folder.path().join("said"))
        .with_grace(Duration::from_secs(2));
    let call = Call::mutate("run a program").with_timeout(Duration::from_secs(300));
    let (cx, child) = (context(), folder.path().join("child"));
    tokio::select! {
        ended = program.run(&cx, &call) => panic!("it has ended: {ended:?}"),
        () = written(&child) => {}
    }
    let child = fs::read_to_string(child).unwrap();
    assert!(Path::new(&format!("/proc/{}", child.trim())).exists(), "it has its grace");
    gone(folder.path()).await;

    // Where it is waited for, it is told how it ended.
    let call = Call::mutate("run a program").with_timeout(Duration::from_secs(6));
    let ended = program.run(&cx, &call).await.unwrap();
    assert_eq!(ended.code(), None);
    gone(folder.path()).await;
}

// covers: X8
#[tokio::test]
async fn a_file_of_output_is_the_one_that_was_made_for_the_program() {
    let folder = tempdir().unwrap();
    let said = folder.path().join("said");
    // Somebody else's file comes into its place.
    let script = "echo mine; rm said; echo other > said";
    let program = |script: &str| {
        Program::new("sh")
            .arguments(["-c", script])
            .in_folder(folder.path())
            .with_output_file(&said)
            .with_output_max(5)
    };
    let ended = run(program(script)).await.unwrap();
    assert_eq!((text(&ended), ended.was_cut()), ("mine\n", false));
    let ended = run(program("echo 12345; echo 6789")).await.unwrap();
    assert_eq!((text(&ended), ended.was_cut()), ("6789\n", true));
    let nowhere = program("true").with_output_file("/no/such/folder/said");
    let error = run(nowhere).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("output_file", Effect::None));
    assert_eq!(*error.verdict(), Verdict::Retry { after: None });
}
