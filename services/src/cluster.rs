//! The files of one PostgreSQL server, and the programs that work on them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{OpenOptionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Outcome, find};

/// How long a new server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// A folder of a server, with the subfolder `data` and a file `log`.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: PathBuf,
    folder: PathBuf,
    /// User and group to become, when this process is root.
    user: Option<(u32, u32)>,
    password: String,
}

/// A server that takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) process: u32,
    pub(crate) port: u16,
}

impl Cluster {
    /// A cluster in a folder that is there; the folder is given to the server's user.
    pub(crate) fn new(binaries: &Path, folder: &Path, password: String) -> Outcome<Self> {
        let user = find::unprivileged()?;
        let cluster =
            Self { binaries: binaries.to_owned(), folder: folder.to_owned(), user, password };
        cluster.give(folder)?;
        Ok(cluster)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The user that the server's processes have, where it is not this process' own.
    pub(crate) fn user(&self) -> Option<u32> {
        self.user.map(|(user, _)| user)
    }

    pub(crate) fn url(&self, port: u16) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{port}/postgres", self.password)
    }

    fn give(&self, path: &Path) -> Outcome {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(|error| format!("chown: {error}"))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes the data folder. A cut leaves none that looks whole.
    pub(crate) fn init(&self) -> Outcome {
        let (secret, new) = (self.folder.join("password.new"), self.folder.join("data.new"));
        drop(fs::remove_dir_all(&new));
        write_secret(&secret, &self.password).map_err(|error| format!("password file: {error}"))?;
        self.give(&secret)?;
        let output = self
            .command(&self.binaries.join("initdb"))
            .args(["--pgdata=data.new", "--username=postgres", "--pwfile=password.new"])
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .map_err(|error| format!("initdb: {error}"))?;
        drop(fs::remove_file(secret));
        if !output.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        fs::rename(new, self.data()).map_err(|error| format!("initdb: {error}"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's process, on a loopback port alone.
    pub(crate) fn server(&self, port: u16) -> Command {
        let mut server = self.command(&self.binaries.join("postgres"));
        server.args(arguments(port));
        server
    }

    /// Starts the server as nobody's child: who started it may end before it. Its process.
    pub(crate) fn detached(&self, port: u16) -> Outcome<u32> {
        const START: &str = r#""$@" >log 2>&1 & echo $!"#;
        let mut shell = self.command(Path::new("/bin/sh"));
        // A group of its own: what is typed at a terminal is not meant for it.
        shell.process_group(0).args(["-c", START, "start"]);
        shell.arg(self.binaries.join("postgres")).args(arguments(port));
        let output = shell.output().map_err(|error| format!("postgres: {error}"))?;
        let process = String::from_utf8_lossy(&output.stdout).trim().parse();
        process.map_err(|_error| "postgres: its process is not known".to_owned())
    }

    /// An empty log.
    pub(crate) fn log(&self) -> Outcome<File> {
        File::create(self.folder.join("log")).map_err(|error| format!("the server's log: {error}"))
    }

    /// What stands in the log.
    pub(crate) fn said(&self) -> String {
        let said = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        said.trim().to_owned()
    }

    /// What the server's own file says, once it takes connections.
    pub(crate) fn ready(&self) -> Option<Running> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        running(&text)
    }

    /// Waits until this very process takes connections; `ended` says why it no longer will.
    pub(crate) fn answers(
        &self,
        process: u32,
        mut ended: impl FnMut() -> Option<String>,
    ) -> Outcome<Running> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Some(why) = ended() {
                return Err(why);
            }
            // The file of a server that was cut off stays behind until the next one writes it.
            if let Some(running) = self.ready().filter(|running| running.process == process) {
                return Ok(running);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(format!("postgres did not answer within {} s", START_MAX.as_secs()))
    }

    pub(crate) fn version(&self) -> String {
        let output = self.command(&self.binaries.join("postgres")).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_default()
    }
}

fn arguments(port: u16) -> [String; 8] {
    ["-D", "data", "-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""].map(str::to_owned)
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
