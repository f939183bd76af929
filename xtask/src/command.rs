//! Child processes: with a limit on their time, their whole output kept, and a sign of life.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Outcome;

/// How often a long command says that it is still alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(40);

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) success: bool,
    /// Both streams in the order they were written.
    pub(crate) output: String,
}

/// Starts describing a cargo call in `dir`, with this process' own cargo and no colours.
pub(crate) fn cargo(dir: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(dir).env("CARGO_TERM_COLOR", "never");
    // Set by the cargo that runs this tool; its children are not about this crate.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end or `limit`, and keeps its output in `log`.
pub(crate) fn finish(command: &mut Command, log: &Path, limit: Duration) -> Outcome<Done> {
    let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let twin = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(twin)
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let ended = wait(&mut child, limit)?;
    let bytes = std::fs::read(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut output = String::from_utf8_lossy(&bytes).into_owned();
    if ended.is_none() {
        output.push_str(&format!("\nstopped: not done after {} s\n", limit.as_secs()));
    }
    Ok(Done { success: ended.is_some_and(|status| status.success()), output })
}

fn wait(child: &mut Child, limit: Duration) -> Outcome<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut said = begun;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) => {}
            Err(error) => return Err(format!("waiting failed: {error}")),
        }
        if begun.elapsed() > limit {
            end_tree(child.id());
            drop(child.wait());
            return Ok(None);
        }
        if said.elapsed() >= SIGN_OF_LIFE {
            said = Instant::now();
            println!("        .. {:>4} s", begun.elapsed().as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Ends a process and what it started, each by its id, children last so that none is orphaned
/// unseen.
fn end_tree(root: u32) {
    let mut ids = vec![root];
    let mut next = 0;
    while let Some(parent) = ids.get(next).copied() {
        ids.extend(children(parent));
        next += 1;
    }
    for id in ids {
        drop(Command::new("kill").args(["-KILL", &id.to_string()]).status());
    }
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| parent_of(*id) == Some(parent))
        .collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Done, POLL, finish};
    use std::{
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    fn shell(name: &str, script: &str, limit: Duration) -> Done {
        let file = format!("xtask-command-{name}-{}", std::process::id());
        let log = std::env::temp_dir().join(file);
        let done = finish(Command::new("sh").args(["-c", script]), &log, limit).unwrap();
        std::fs::remove_file(log).unwrap();
        done
    }

    #[test]
    fn both_streams_and_the_failure_are_kept() {
        let done = shell("streams", "echo one; echo two >&2; exit 3", Duration::from_secs(60));
        assert_eq!((done.success, done.output.as_str()), (false, "one\ntwo\n"));
    }

    #[test]
    fn a_command_that_never_ends_is_stopped_with_its_children() {
        let done = shell("limit", "sleep 600 & echo $!; wait", Duration::from_secs(5));
        assert!(!done.success && done.output.contains("stopped: not done"), "{done:?}");
        let child: u32 = done.output.lines().next().unwrap().parse().unwrap();
        let stat = format!("/proc/{child}/stat");
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"));
        let begun = Instant::now();
        while lives() {
            assert!(begun.elapsed() < Duration::from_secs(60), "still there: {child}");
            thread::sleep(POLL);
        }
    }
}
