//! A server of a test's own: killed, frozen, started again, read-only.

use std::{
    ffi::OsString,
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// A private server on a port of its own, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    port: u16,
    process: Child,
}

/// Where `initdb` and `postgres` are: `cargo xtask services` puts them on the path.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file()).and_then(|folder| {
        let real = folder.join("postgres").canonicalize().ok()?;
        real.parent().map(Path::to_owned)
    })
}

/// User and group of `postgres`, where this process is root: the server refuses that.
fn owner() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8(id.stdout).unwrap().trim() != "0" {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user to become");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

impl Server {
    /// Starts a server; `None`, said aloud, where there is none to start.
    pub(crate) fn start() -> Option<Self> {
        crate::given::url()?;
        let Some(binaries) = binaries() else {
            provision_testkit::skips::refused_in_ci("no initdb on the path");
            println!("SKIPPED: no initdb on the path");
            return None;
        };
        // In memory where there is one: what is tested is the death of processes, not of disks.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        if let Some((user, group)) = owner() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = command(&binaries.join("initdb"), folder.path())
            .args(["--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = run(&binaries, folder.path(), port);
        let server = Self { folder, binaries, port, process };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:none@127.0.0.1:{}/postgres", self.port)
    }

    /// Sends a signal to the server and all its processes.
    pub(crate) fn signal(&self, name: &str) {
        let group = format!("-{}", self.process.id());
        let sent = Command::new("kill").args([&format!("-{name}"), "--", &group]).status();
        assert!(sent.unwrap().success(), "{name} was not sent");
    }

    /// Ends every process of it without a word of warning, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.signal("KILL");
        self.process.wait().unwrap();
        // The dead one cannot remove the file by which a second one would know of it.
        drop(fs::remove_file(self.folder.path().join("data/postmaster.pid")));
        let begun = Instant::now();
        loop {
            self.process = run(&self.binaries, self.folder.path(), self.port);
            std::thread::sleep(Duration::from_millis(200));
            // The port, or shared memory, may be held for a moment by what is still dying.
            match self.process.try_wait().unwrap() {
                None => break,
                Some(status) => assert!(begun.elapsed() < START_MAX, "{status}"),
            }
        }
        self.wait();
    }

    /// Waits until it says in its own file that it takes connections.
    fn wait(&self) {
        let begun = Instant::now();
        let state = self.folder.path().join("data/postmaster.pid");
        let is_ready = || {
            let text = fs::read_to_string(&state).unwrap_or_default();
            text.lines().nth(7).is_some_and(|line| line.trim() == "ready")
        };
        while !is_ready() {
            assert!(begun.elapsed() < START_MAX, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let group = format!("-{}", self.process.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status());
        drop(self.process.wait());
    }
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("PATH", OsString::from("/usr/bin:/bin")).env("LC_ALL", "C");
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

fn run(binaries: &Path, folder: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let port = port.to_string();
    command(&binaries.join("postgres"), folder)
        .args(["-D", "data", "-h", "127.0.0.1", "-p", &port, "-k", ""])
        // A group of its own, so that a signal meets all of it.
        .process_group(0)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
