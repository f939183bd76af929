//! The end of a server: a small shell that starts it, and outlives this process by a moment.
//!
//! It waits for the end of its input, whose other end this process holds: however this process
//! ends, a kill included, the guardian then stops the server. It is the server's parent and there
//! before it, so no server is ever without one, and it signals nothing but its own child.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt as _, fs::chown, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Outcome, find};

/// A port that was free may be taken by the time the server wants it.
const PORT_TRIES: u32 = 3;

/// Its first line says that the server is to start; each further one is a name, and answered by a
/// file of that name. A number of a process may be another one's by now, so the guardian asks each
/// time whether it is still the parent. No special builtin redirects: where that fails, they would
/// end the shell.
const GUARDIAN: &str = r#"
trap '' HUP INT QUIT TERM
removed=$1
shift
mine() {
  if [ -d /proc/self ]; then
    grep -q "^PPid:[[:space:]]*$$\$" "/proc/$server/status"
  else
    [ "$(ps -o ppid= -p "$server" | tr -d ' ')" = "$$" ]
  fi
} 2>/dev/null
if read -r _; then
  "$@" >log 2>&1 </dev/null &
  server=$!
  echo "$server"
  while read -r name; do true >"seen/$name"; done
  mine && kill -INT "$server"
  n=0
  while mine && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
  mine && kill -KILL "$server"
  wait "$server"
fi
[ -z "$removed" ] || rm -rf "$removed"
"#;

/// A folder of a server, and the user that the server has.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    /// User and group to become, when this process is root.
    user: Option<(u32, u32)>,
}

impl Home {
    /// A folder that is there; it is given to the server's user.
    pub(crate) fn at(folder: &Path) -> Outcome<Self> {
        let home = Self { folder: folder.to_owned(), user: find::unprivileged()? };
        home.give(folder)?;
        Ok(home)
    }

    /// A new folder that nobody else can read; in memory where that is asked for and possible.
    pub(crate) fn temporary(name: &str, in_memory: bool) -> Outcome<Self> {
        let memory = Path::new(IN_MEMORY);
        let parent = match in_memory && memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let folder = parent.join(format!("provision-{name}-{}", random(8)?));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        Self::at(&folder).inspect_err(|_why| drop(fs::remove_dir(&folder)))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The user that the server's processes have, where it is not this process' own.
    pub(crate) fn user(&self) -> Option<u32> {
        self.user.map(|(user, _)| user)
    }

    /// Gives a file to the server's user.
    pub(crate) fn give(&self, path: &Path) -> Outcome {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group))
            .map_err(|error| format!("chown {}: {error}", path.display()))
    }

    /// Writes a file that the server's user alone may read.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(name);
        crate::cluster::write_secret(&path, text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.give(&path)?;
        Ok(path)
    }

    /// A program in the folder, with the server's user and nothing of this process' environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// What stands in the server's log.
    pub(crate) fn said(&self) -> String {
        let said = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        said.trim().to_owned()
    }
}

/// What a guardian reads, and what it keeps open until its end.
#[derive(Debug)]
pub(crate) struct Line {
    /// The guardian's end.
    pub(crate) read: Stdio,
    /// Held by the guardian as long as it lives.
    pub(crate) held: Stdio,
    /// Our end.
    pub(crate) write: Option<File>,
}

/// A guardian with its server; dropping it stops the server.
#[derive(Debug)]
pub(crate) struct Guarded {
    guardian: Child,
    /// Closing it tells the guardian to act.
    line: Option<File>,
    process: u32,
    /// The folder that goes with the server.
    removed: Option<PathBuf>,
}

impl Guarded {
    /// Sets a guardian over a folder, which is removed with it. The server is not started yet.
    pub(crate) fn over(home: &Home, server: &[OsString]) -> Outcome<Self> {
        let line = Line { read: Stdio::piped(), held: Stdio::null(), write: None };
        let set = Self::reading(home, server, line, Some(home.folder().to_owned()));
        set.inspect_err(|_why| drop(fs::remove_dir_all(home.folder())))
    }

    /// Sets a guardian over a server whose folder stays.
    pub(crate) fn kept(home: &Home, server: &[OsString], line: Line) -> Outcome<Self> {
        Self::reading(home, server, line, None)
    }

    fn reading(
        home: &Home,
        server: &[OsString],
        line: Line,
        removed: Option<PathBuf>,
    ) -> Outcome<Self> {
        let gone = removed.as_deref().unwrap_or(Path::new(""));
        let mut shell = home.command(Path::new("/bin/sh"));
        // A group of its own: what is typed at a terminal is not meant for it.
        shell.process_group(0).args(["-c", GUARDIAN, "guardian"]).arg(gone).args(server);
        shell.stdin(line.read).stdout(Stdio::piped()).stderr(line.held);
        let mut guardian =
            shell.spawn().map_err(|error| format!("the server's guardian: {error}"))?;
        let piped = guardian.stdin.take().map(|line| File::from(OwnedFd::from(line)));
        Ok(Self { guardian, line: line.write.or(piped), process: 0, removed })
    }

    /// Has the server started; its process.
    pub(crate) fn start(&mut self) -> Outcome<u32> {
        let broken = |error: std::io::Error| format!("the server's guardian: {error}");
        let Some(line) = &mut self.line else { return Err("there is no guardian".to_owned()) };
        line.write_all(b"start\n").map_err(broken)?;
        let mut said = String::new();
        if let Some(out) = self.guardian.stdout.take() {
            BufReader::new(out).read_line(&mut said).map_err(broken)?;
        }
        let process = said.trim().parse();
        self.process = process.map_err(|_error| "the server's process is not known".to_owned())?;
        Ok(self.process)
    }

    /// Whether the server has ended by itself, where the system tells.
    pub(crate) fn has_ended(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.process)) {
            // Its parent may not have collected it yet.
            Ok(told) => {
                told.rsplit_once(") ").is_some_and(|(_, told)| told.starts_with(['Z', 'X']))
            }
            Err(_) => Path::new("/proc/self/stat").exists(),
        }
    }

    /// The guardian's own process, and its server's.
    #[cfg(test)]
    pub(crate) fn processes(&self) -> (u32, u32) {
        (self.guardian.id(), self.process)
    }

    /// Leaves the server to others who hold the guardian's line.
    pub(crate) fn leave(&mut self) {
        drop(self.line.take());
        // Collected, where it has ended before all of them.
        drop(self.guardian.try_wait());
        self.process = 0;
    }

    fn is_left(&self) -> bool {
        self.line.is_none()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.is_left() {
            return;
        }
        drop(self.line.take());
        drop(self.guardian.wait());
        // What the server's user could not: the folder stands in one that is not open to it.
        if let Some(folder) = &self.removed {
            drop(fs::remove_dir_all(folder));
        }
    }
}

/// A file system in memory, where the system has one.
const IN_MEMORY: &str = "/dev/shm";

/// Starts a server on a port that is free now, and on another one where that was taken meanwhile.
pub(crate) fn on_free_port<T>(mut start: impl FnMut(u16) -> Outcome<T>) -> Outcome<T> {
    let mut last = String::new();
    for _ in 0..PORT_TRIES {
        match start(free_port()?) {
            Ok(started) => return Ok(started),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn free_port() -> Outcome<u16> {
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
