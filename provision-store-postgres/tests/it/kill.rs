//! Real deaths: a process that runs the saga of ten steps is killed with SIGKILL at a point of it,
//! and another one finishes what it left on the server and in the world.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use provision_testkit::{
    harness::{Harness, Place as _, Point, Script, Stage, TenSteps, Upset, World},
    skips::is_long,
};
use uuid::Uuid;

use crate::{
    crash_matrix::{OnServer, pool},
    given::{Schema, URL, url},
};

/// Set in children; its value is the directory they work in.
const CHILD: &str = "PROVISION_POSTGRES_TEST_KILL";
/// What a child prints when it stands at its point.
const HERE: &str = "stands at the point";
/// How often a point is tried that a child did not come to.
const TRIES: usize = 8;

/// Starts this test binary again, to run one test with a variable set.
pub(crate) fn child(test: &str, variable: &str, path: &Path) -> Child {
    child_on(test, variable, path, &url().unwrap())
}

/// The same, on another server.
pub(crate) fn child_on(test: &str, variable: &str, path: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, path)
        .env(URL, url)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The stage in a directory, on the schema and namespace that are named there.
fn stage(directory: &Path, schema: &Arc<Schema>) -> Stage<TenSteps, OnServer> {
    let namespace = fs::read_to_string(directory.join("namespace")).unwrap();
    let place = OnServer::new(&pool(schema), schema, &namespace);
    let world = World::kept_in(directory.join("world.json")).unwrap();
    Stage::new(Arc::new(TenSteps::default()), world, place)
}

fn directory(schema: &Schema) -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::write(directory.path().join("schema"), &schema.name).unwrap();
    fs::write(directory.path().join("namespace"), Uuid::new_v4().to_string()).unwrap();
    directory
}

/// Writes a script for a child: which step is refused, and where to stop.
fn write(directory: &Path, script: &Script) {
    let refused = match &script.upset {
        Upset::Refuse { path } => path.as_str(),
        _ => "",
    };
    let point = script.crash.as_ref().unwrap();
    let text = format!("{refused}\n{}\n{}", point.nth, point.label);
    fs::write(directory.join("script"), text).unwrap();
}

fn read(directory: &Path) -> Script {
    let text = fs::read_to_string(directory.join("script")).unwrap();
    let mut lines = text.lines();
    let refused = lines.next().unwrap().to_owned();
    let nth = lines.next().unwrap().parse().unwrap();
    let label = lines.next().unwrap().to_owned();
    let upset = if refused.is_empty() { Upset::Nothing } else { Upset::Refuse { path: refused } };
    Script::of(upset).crashing_at(Point { label, nth })
}

// Only does something in a child: plays its script until it is killed.
#[tokio::test]
async fn child_plays_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let directory = Path::new(&directory);
    let name = fs::read_to_string(directory.join("schema")).unwrap();
    let schema = Arc::new(Schema::of_parent(name).unwrap());
    let here = || {
        let mut out = std::io::stdout();
        out.write_all(format!("\n{HERE}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    stage(directory, &schema).play_to_crash(&read(directory), here).await;
}

/// Kills a child at the point of the script; whether it came there.
fn killed(directory: &Path, script: &Script) -> bool {
    write(directory, script);
    let mut process = child("kill::child_plays_until_it_is_killed", CHILD, directory);
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let reached = lines.map_while(Result::ok).any(|line| line == HERE);
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert!(!reached || !status.success(), "a child that was killed cannot succeed");
    reached
}

/// A quarter of the numbers, spread by a seed; in the long lane all of them.
fn chosen(number: usize) -> bool {
    const SEED: usize = 20_261_122;
    let mixed = (number + SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    is_long() || (mixed >> 40).is_multiple_of(4)
}

fn finish(script: &Script, schema: &Arc<Schema>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..TRIES {
        let (left, calm) = (directory(schema), directory(schema));
        if !killed(left.path(), script) {
            continue;
        }
        return runtime.block_on(async {
            // The child's clock ran ahead of the server's by all its waits.
            OnServer::new(&pool(schema), schema, "clock").pass(Duration::from_secs(240)).await;
            let (left, calm) = (stage(left.path(), schema), stage(calm.path(), schema));
            left.recover(script, &calm).await
        });
    }
    vec!["no child came to this point".to_owned()]
}

/// Plays every chosen point of `part` of two: the way there, or the way back.
fn kill_all(way_back: bool) {
    let Some(schema) = Schema::new() else { return };
    let schema = Arc::new(schema);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scripts = runtime.block_on(async {
        let (pool, places) = (pool(&schema), std::sync::atomic::AtomicU64::new(0));
        let place = || {
            let number = places.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(OnServer::new(&pool, &schema, &format!("scenario-{number}")))
        };
        Box::pin(Harness::new(TenSteps::default(), place).crash_scripts()).await
    });
    let wanted = |script: &Script| (script.upset != Upset::Nothing) == way_back;
    let scripts: Vec<_> = scripts.into_iter().filter(wanted).collect();
    let chosen: Vec<_> = (0..).zip(&scripts).filter(|(number, _)| chosen(*number)).collect();
    assert!(chosen.len() * 8 >= scripts.len(), "{} of {}", chosen.len(), scripts.len());
    let flaws: Vec<_> = chosen
        .iter()
        .map(|(_, script)| (script.to_string(), finish(script, &schema)))
        .filter(|(_, wrong)| !wrong.is_empty())
        .collect();
    println!("SIGKILL: {} of {} points, {} flawed", chosen.len(), scripts.len(), flaws.len());
    assert!(flaws.is_empty(), "{flaws:#?}");
}

// covers: S1, S4, S5, S7, S8, S9, S19, L1
#[test]
fn a_kill_on_the_way_there_loses_and_doubles_nothing() {
    kill_all(false);
}

// covers: S1, S5, S7, S12, S13, S14, S15, L1
#[test]
fn a_kill_on_the_way_back_leaves_nothing() {
    kill_all(true);
}
