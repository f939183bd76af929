//! The end of a server: a small shell that outlives this process by a moment.
//!
//! It waits for the end of its input, whose other end this process holds: however this process
//! ends, a kill included, the guardian then stops the server by its id and removes its folder.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::Outcome;

const GUARDIAN: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
kill -INT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"#;

/// A running server with its guardian; dropping it stops the server and removes its folder.
#[derive(Debug)]
pub(crate) struct Guarded {
    server: Child,
    guardian: Child,
    /// Closing it tells the guardian to act.
    line: Option<ChildStdin>,
}

impl Guarded {
    /// Sets a guardian over a server that runs in `folder`.
    pub(crate) fn new(server: Child, folder: &Path) -> Outcome<Self> {
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian", &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("the server's guardian: {error}"))?;
        match guardian.stdin.take() {
            Some(line) => Ok(Self { server, guardian, line: Some(line) }),
            None => Err("the server's guardian has no input".to_owned()),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.line.take());
        // The server is our child: it must be collected before the guardian sees it gone.
        drop(self.server.wait());
        drop(self.guardian.wait());
    }
}

/// A file system in memory, where the system has one.
const IN_MEMORY: &str = "/dev/shm";

/// A new folder for a server of this name; in memory where that is asked for and possible.
pub(crate) fn folder(name: &str, in_memory: bool) -> Outcome<PathBuf> {
    let memory = Path::new(IN_MEMORY);
    let parent = if in_memory && memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    let folder = parent.join(format!("provision-{name}-{}", random(8)?));
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

pub(crate) fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("port: {error}"))
}

/// Random bytes as hexadecimal digits.
pub(crate) fn random(bytes: usize) -> Outcome<String> {
    let mut drawn = vec![0; bytes];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut drawn))
        .map_err(|error| format!("randomness: {error}"))?;
    Ok(drawn.iter().map(|byte| format!("{byte:02x}")).collect())
}
