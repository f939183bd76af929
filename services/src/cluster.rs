//! The files of one PostgreSQL server, and the programs that work on them.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    guardian::{Guarded, Home},
};

/// How long a new server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// Whether what a new cluster holds is to outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It is gone with who uses it.
    No,
    /// Its files are synced.
    Yes,
}

/// A folder of a server, with the subfolder `data` and a file `log`.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: PathBuf,
    home: Home,
    password: String,
}

/// A server that takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) process: u32,
    pub(crate) port: u16,
}

impl Cluster {
    /// A cluster in a folder of its own.
    pub(crate) fn new(binaries: &Path, home: Home, password: String) -> Self {
        Self { binaries: binaries.to_owned(), home, password }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn binaries(&self) -> &Path {
        &self.binaries
    }

    pub(crate) fn url(&self, port: u16) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{port}/postgres", self.password)
    }

    /// Makes the data folder. A cut leaves none that looks whole.
    pub(crate) fn init(&self, lasting: Lasting) -> Outcome {
        let new = self.home.folder().join("data.new");
        drop(fs::remove_dir_all(&new));
        let secret = self.home.write_secret("password.new", &self.password)?;
        let mut initdb = self.home.command(&self.binaries.join("initdb"));
        initdb.args(["--pgdata=data.new", "--username=postgres", "--pwfile=password.new"]);
        initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        if lasting == Lasting::No {
            initdb.arg("--no-sync");
        }
        let output = initdb.output().map_err(|error| format!("initdb: {error}"));
        drop(fs::remove_file(secret));
        let output = output?;
        if !output.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        fs::rename(new, self.data()).map_err(|error| format!("initdb: {error}"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.folder().join("data")
    }

    /// The server's command line, on a loopback port alone.
    pub(crate) fn server(&self, port: u16) -> Vec<OsString> {
        let arguments = ["-D", "data", "-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""];
        let program = self.binaries.join("postgres").into_os_string();
        [program].into_iter().chain(arguments.map(OsString::from)).collect()
    }

    /// What the server's own file says, once it takes connections.
    pub(crate) fn ready(&self) -> Option<Running> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        running(&text)
    }

    /// Starts the server that is guarded, and waits until it takes connections.
    pub(crate) fn started(&self, guarded: &mut Guarded) -> Outcome<Running> {
        let process = guarded.start()?;
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            // The file of a server that was cut off stays behind until the next one writes it.
            if let Some(running) = self.ready().filter(|running| running.process == process) {
                return Ok(running);
            }
            if guarded.has_ended() {
                return Err(format!("postgres ended at once: {}", self.home.said()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        let (limit, said) = (START_MAX.as_secs(), self.home.said());
        Err(format!("postgres did not answer within {limit} s: {said}"))
    }

    pub(crate) fn version(&self) -> String {
        let output = self.home.command(&self.binaries.join("postgres")).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_default()
    }
}

/// Writes a file that nobody else may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The file has a line each for: process, folder, start, port, sockets, address, memory, state.
fn running(text: &str) -> Option<Running> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.get(7) != Some(&"ready") {
        return None;
    }
    Some(Running { process: lines.first()?.parse().ok()?, port: lines.get(3)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Running, running};

    #[test]
    fn a_server_is_there_once_it_says_so() {
        let text = "71\n/d\n1763800000\n5433\n\n127.0.0.1\n  5432001  32\nready   \n";
        assert_eq!(running(text), Some(Running { process: 71, port: 5433 }));
        assert_eq!(running(&text.replace("ready", "starting")), None);
        assert_eq!(running("71\n/d\n"), None);
    }
}
