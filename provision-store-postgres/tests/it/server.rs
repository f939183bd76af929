//! A server of a test's own: killed, frozen, started again, read-only, without room.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// What of a server lies where there is little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Small {
    /// Everything but the log of what is written.
    Tables,
    /// That log.
    Log,
}

impl Small {
    /// Its room: enough for hundreds of runs, as long as nobody else takes it.
    const fn bytes(self) -> u64 {
        match self {
            Self::Tables => 64 << 20,
            Self::Log => 96 << 20,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tables => "data",
            Self::Log => "log-of-writes",
        }
    }
}

/// A file system of its own, in memory; it goes with this value.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this process may not do that.
    fn at(path: PathBuf, bytes: u64, (user, group): (u32, u32)) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let options = format!("size={bytes},mode=0700,uid={user},gid={group}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path);
        let mounted = mount.stdin(Stdio::null()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is still open there keeps it alive, and nothing else does.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// A private server on a port of its own, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    small: Option<Mounted>,
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

/// A folder for a server: in memory where there is one, since what is tested is the death of
/// processes, not of disks. `None`, said aloud, where servers are not wanted.
fn folder() -> Option<tempfile::TempDir> {
    crate::given::url()?;
    Some(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
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
        Self::start_in(folder()?, None, &[])
    }

    /// Starts a server part of which lies on a small file system; `None`, said aloud, where there is
    /// none to start, or where this process may not mount one.
    pub(crate) fn start_on_little_room(small: Small) -> Option<Self> {
        let folder = folder()?;
        let Some(mounted) = owner()
            .and_then(|owner| Mounted::at(folder.path().join(small.name()), small.bytes(), owner))
        else {
            println!("SKIPPED: only root may mount a small file system");
            return None;
        };
        let log = folder.path().join(Small::Log.name());
        let log = format!("--waldir={}", log.display());
        Self::start_in(folder, Some(mounted), &[&log, "--wal-segsize=1"])
    }

    fn start_in(folder: tempfile::TempDir, small: Option<Mounted>, more: &[&str]) -> Option<Self> {
        let Some(binaries) = binaries() else {
            provision_testkit::skips::refused_in_ci("no initdb on the path");
            println!("SKIPPED: no initdb on the path");
            return None;
        };
        if let Some((user, group)) = owner() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = command(&binaries.join("initdb"), folder.path())
            .args(["--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"])
            .args(more)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = run(&binaries, folder.path(), port);
        let server = Self { small, folder, binaries, port, process };
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

    /// Takes all room that is left on the small file system.
    pub(crate) fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        // The last write takes what there is.
        while ballast.write_all(&[0; 4_096]).is_ok() {}
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.small.as_ref().expect("a small file system").0.join("ballast")
    }

    /// How often the server has said that there is no room.
    pub(crate) fn out_of_room(&self) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.matches("No space left on device").count()
    }

    /// Whether the process has not ended by itself.
    pub(crate) fn lives(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Ends every process of it without a word of warning, and starts it again.
    pub(crate) fn restart(&mut self) {
        if self.lives() {
            self.signal("KILL");
            self.process.wait().unwrap();
        }
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
