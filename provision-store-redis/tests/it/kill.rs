//! Real deaths: a process that runs the saga of ten steps is killed with SIGKILL at a point of it,
//! and another one finishes what it left on the server and in the world.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::Arc,
};

use provision_testkit::{
    harness::{Harness, Point, Script, Stage, TenSteps, Upset, World},
    skips::is_long,
};

use crate::{
    crash_matrix::OnServer,
    given::{namespace, url},
    processes::child,
};

/// Set in children; its value is the directory they work in.
const CHILD: &str = "PROVISION_REDIS_TEST_KILL";
/// What a child prints when it stands at its point.
const HERE: &str = "stands at the point";
/// How often a point is tried that a child did not come to.
const TRIES: usize = 8;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A world in the directory, and a namespace that the directory names.
fn stage(url: &str, directory: &Path) -> Stage<TenSteps, OnServer> {
    let name = directory.join("namespace");
    let namespace = fs::read_to_string(&name).unwrap_or_else(|_| {
        let new = namespace();
        fs::write(&name, &new).unwrap();
        new
    });
    let world = World::kept_in(directory.join("world.json")).unwrap();
    Stage::new(Arc::new(TenSteps::default()), world, OnServer::new(url, namespace))
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
    let stage = stage(url().unwrap(), directory);
    let here = || {
        let mut out = std::io::stdout();
        out.write_all(format!("\n{HERE}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    stage.play_to_crash(&read(directory), here).await;
}

/// Kills a child at the point of the script; whether it came there.
fn killed(url: &str, directory: &Path, script: &Script) -> bool {
    write(directory, script);
    // The name is drawn here, so that the child and what comes after it agree.
    drop(stage(url, directory));
    let test = "kill::child_plays_until_it_is_killed";
    let mut process = child(test, CHILD, directory.to_str().unwrap());
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let reached = lines.map_while(Result::ok).any(|line| line == HERE);
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert!(!reached || !status.success(), "a child that was killed cannot succeed");
    reached
}

/// A quarter of the numbers, spread by a seed; all of them when asked for.
fn chosen(number: usize) -> bool {
    const SEED: usize = 20_261_122;
    let mixed = (number + SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    is_long() || (mixed >> 40).is_multiple_of(4)
}

fn finish(url: &str, script: &Script) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..TRIES {
        let (left, calm) = (directory(), directory());
        if !killed(url, left.path(), script) {
            continue;
        }
        let (left, calm) = (stage(url, left.path()), stage(url, calm.path()));
        return runtime.block_on(left.recover(script, &calm));
    }
    vec!["no child came to this point".to_owned()]
}

/// Plays every chosen point of one of two: the way there, or the way back.
fn kill_all(way_back: bool) {
    let Some(url) = url() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = || std::future::ready(OnServer::new(url, namespace()));
    let scripts = runtime.block_on(Harness::new(TenSteps::default(), place).crash_scripts());
    let wanted = |script: &Script| (script.upset != Upset::Nothing) == way_back;
    let scripts: Vec<_> = scripts.into_iter().filter(wanted).collect();
    let chosen: Vec<_> = (0..).zip(&scripts).filter(|(number, _)| chosen(*number)).collect();
    assert!(chosen.len() * 8 >= scripts.len(), "{} of {}", chosen.len(), scripts.len());
    let flaws: Vec<_> = chosen
        .iter()
        .map(|(_, script)| (script.to_string(), finish(url, script)))
        .filter(|(_, wrong)| !wrong.is_empty())
        .collect();
    println!("SIGKILL: {} of {} points, {} flawed", chosen.len(), scripts.len(), flaws.len());
    assert!(flaws.is_empty(), "{flaws:#?}");
}

// covers: S1, S4, S5, S7, S8, S9, L1
#[test]
fn a_kill_on_the_way_there_loses_and_doubles_nothing() {
    kill_all(false);
}

// covers: S1, S5, S7, S12, S13, S14, S15, L1
#[test]
fn a_kill_on_the_way_back_leaves_nothing() {
    kill_all(true);
}
