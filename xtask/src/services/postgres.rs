//! One private PostgreSQL server with a guardian.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    find,
    guardian::{Guarded, folder, free_port, random},
};
use crate::Outcome;

/// How long a new server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);
/// A port that was free may be taken by the time the server wants it.
const PORT_TRIES: u32 = 3;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    version: String,
    binaries: PathBuf,
    _guarded: Guarded,
}

/// What a start needs to know.
struct Place {
    binaries: PathBuf,
    folder: PathBuf,
    /// User and group to become, when this process is root.
    user: Option<(u32, u32)>,
    password: String,
}

impl Server {
    /// Creates a cluster and starts it on a free loopback port.
    ///
    /// It syncs every commit to the disk, unless `in_memory` lets its folder be in memory: enough
    /// where the server outlives what is killed.
    pub(crate) fn start(binaries: &Path, in_memory: bool) -> Outcome<Self> {
        let place = Place::new(binaries, in_memory)?;
        let started = place.init().and_then(|()| place.serve());
        if started.is_err() {
            drop(fs::remove_dir_all(&place.folder));
        }
        started
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A search path on which `psql` is found too.
    pub(crate) fn path_with_clients(&self) -> OsString {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":");
        path.push(&self.binaries);
        path
    }
}

impl Place {
    fn new(binaries: &Path, in_memory: bool) -> Outcome<Self> {
        let folder = folder("postgres", in_memory)?;
        let user = find::unprivileged()?;
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).map_err(|error| format!("chown: {error}"))?;
        }
        Ok(Self { binaries: binaries.to_owned(), folder, user, password: random(16)? })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn init(&self) -> Outcome {
        let secret = self.folder.join("password");
        fs::write(&secret, &self.password).map_err(|error| format!("password file: {error}"))?;
        if let Some((user, group)) = self.user {
            chown(&secret, Some(user), Some(group)).map_err(|error| format!("chown: {error}"))?;
        }
        let output = self
            .command("initdb")
            .args(["--pgdata=data", "--username=postgres", "--pwfile=password"])
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .map_err(|error| format!("initdb: {error}"))?;
        drop(fs::remove_file(secret));
        if output.status.success() {
            return Ok(());
        }
        Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn serve(&self) -> Outcome<Server> {
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match self.serve_on(free_port()?) {
                Ok(server) => return Ok(server),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn serve_on(&self, port: u16) -> Outcome<Server> {
        let broken = |error: std::io::Error| format!("the server's log: {error}");
        let log_path = self.folder.join("log");
        let log = fs::File::create(&log_path).map_err(broken)?;
        let port = port.to_string();
        let mut server = self
            .command("postgres")
            .args(["-D", "data", "-h", "127.0.0.1", "-p", &port, "-k", ""])
            .stdout(log.try_clone().map_err(broken)?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("postgres: {error}"))?;
        if let Err(why) = self.answers(&mut server) {
            drop(server.kill());
            drop(server.wait());
            let said = fs::read_to_string(log_path).unwrap_or_default();
            return Err(format!("{why}: {}", said.trim()));
        }
        Ok(Server {
            url: format!("postgres://postgres:{}@127.0.0.1:{port}/postgres", self.password),
            version: self.version(),
            binaries: self.binaries.clone(),
            _guarded: Guarded::new(server, &self.folder)?,
        })
    }

    /// Waits until the server says in its own file that it takes connections.
    fn answers(&self, server: &mut Child) -> Outcome {
        let state = self.folder.join("data/postmaster.pid");
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Ok(Some(status)) = server.try_wait() {
                return Err(format!("postgres ended at once: {status}"));
            }
            let text = fs::read_to_string(&state).unwrap_or_default();
            if text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(format!("postgres did not answer within {} s", START_MAX.as_secs()))
    }

    fn version(&self) -> String {
        let output = self.command("postgres").arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_default()
    }
}
