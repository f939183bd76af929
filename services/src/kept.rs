//! A PostgreSQL server in a folder of the caller's: its data stays there, its process ends with the
//! last one who uses it.
//!
//! Commands of one data folder may overlap: the first one starts the server, the others join it.
//! Who uses it has a file in `users`, named after its process. When a process ends, its guardian
//! takes that file away and stops the server, unless other processes that live are named there.

use std::{
    fmt,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    cluster::{Cluster, Running, write_secret},
    guardian::{free_port, random},
};

/// A port that was free may be taken by the time the server wants it.
const PORT_TRIES: u32 = 3;
/// How long a guardian may take to stop a server.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long the server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// First it says that it stops, then it looks who is there; who comes does it the other way round.
/// So one of two at least sees the other, and nobody is left with a server that ends.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
rm -f "users/$2"
: >stopping
for user in users/*; do
  [ -e "$user" ] || continue
  id=${user#users/}
  if kill -0 "${id%-*}" 2>/dev/null; then rm -f stopping; exit; fi
done
kill -INT "$1" 2>/dev/null
n=0
while [ -e data/postmaster.pid ] && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
[ -e data/postmaster.pid ] && kill -KILL "$1" 2>/dev/null
rm -f stopping
"#;

/// A server that this process uses; dropping it stops the server, unless others use it too.
pub struct Server {
    url: String,
    version: String,
    guardian: Child,
    /// Closing it tells the guardian to act.
    line: Option<ChildStdin>,
}

impl Server {
    /// Joins the server of a folder, or starts it; the folder and what is in it are made at need.
    /// Blocks until it takes connections.
    ///
    /// # Errors
    /// It cannot be started; says what is in the way.
    pub fn open(binaries: &Path, folder: &Path) -> Outcome<Self> {
        let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder.join("users")).map_err(broken)?;
        let folder = folder.canonicalize().map_err(broken)?;
        // One at a time starts or joins; the lock ends with its holder.
        let turn = File::create(folder.join("turn")).map_err(broken)?;
        turn.lock().map_err(broken)?;
        let cluster = Cluster::new(binaries, &folder, password(&folder)?)?;
        reachable(&cluster)?;
        let user = User::enter(&folder)?;
        let running = match answering(&cluster) {
            Some(running) => running,
            None => started(&cluster)?,
        };
        let (guardian, line) = user.guarded(running)?;
        let (url, version) = (cluster.url(running.port), cluster.version());
        Ok(Self { url, version, guardian, line: Some(line) })
    }

    /// Where it is, with user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says of itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds the password.
        f.debug_struct("Server").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.line.take());
        drop(self.guardian.wait());
    }
}

/// The password the cluster was made with, or a new one for a new cluster.
fn password(folder: &Path) -> Outcome<String> {
    let path = folder.join("password");
    let broken = |error: std::io::Error| format!("{}: {error}", path.display());
    if folder.join("data").is_dir() {
        return fs::read_to_string(&path).map_err(broken);
    }
    let drawn = random(16)?;
    write_secret(&path, &drawn).map_err(broken)?;
    Ok(drawn)
}

/// PostgreSQL refuses root; the user that it gets instead must be able to come to its files.
fn reachable(cluster: &Cluster) -> Outcome {
    let Some(user) = cluster.user() else { return Ok(()) };
    for folder in cluster.folder().ancestors() {
        let told = fs::metadata(folder);
        let told = told.map_err(|error| format!("{}: {error}", folder.display()))?;
        let own = told.uid() == user && told.mode() & 0o100 != 0;
        if !own && told.mode() & 0o001 == 0 {
            return Err(format!(
                "PostgreSQL refuses root, and {} is closed to other users",
                folder.display()
            ));
        }
    }
    Ok(())
}

/// The server that another process has started.
fn answering(cluster: &Cluster) -> Option<Running> {
    let running = cluster.ready()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, running.port));
    // The file of a server that was cut off stays behind.
    TcpStream::connect_timeout(&address, CONNECT_MAX).ok().map(|_| running)
}

fn started(cluster: &Cluster) -> Outcome<Running> {
    if !cluster.data().is_dir() {
        cluster.init()?;
    }
    let mut last = String::new();
    for _ in 0..PORT_TRIES {
        let process = cluster.detached(free_port()?)?;
        let ended = || (!lives(process)).then(|| "postgres ended at once".to_owned());
        match cluster.answers(process, ended) {
            Ok(running) => return Ok(running),
            Err(why) => last = format!("{why}: {}", cluster.said()),
        }
    }
    Err(last)
}

fn lives(process: u32) -> bool {
    let mut asked = Command::new("/bin/sh");
    asked.args(["-c", r#"kill -0 "$1""#, "lives", &process.to_string()]).stdin(Stdio::null());
    asked.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// One use of a server by this process.
struct User {
    name: String,
    folder: PathBuf,
}

impl User {
    /// Says that the server is used; then waits for a guardian that is just stopping it.
    fn enter(folder: &Path) -> Outcome<Self> {
        static USES: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), USES.fetch_add(1, Ordering::Relaxed));
        let file = folder.join("users").join(&name);
        let (stopping, begun) = (folder.join("stopping"), Instant::now());
        let enter = || {
            File::create(&file).map(drop).map_err(|error| format!("{}: {error}", file.display()))
        };
        enter()?;
        while stopping.exists() && begun.elapsed() < STOP_MAX {
            thread::sleep(Duration::from_millis(20));
        }
        // Of a guardian that was killed itself.
        drop(fs::remove_file(stopping));
        Ok(Self { name, folder: folder.to_owned() })
    }

    /// Sets a guardian over this use.
    fn guarded(self, server: Running) -> Outcome<(Child, ChildStdin)> {
        let mut guardian = Command::new("/bin/sh")
            .args(["-c", GUARDIAN, "guardian", &server.process.to_string(), &self.name])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("the server's guardian: {error}"))?;
        match guardian.stdin.take() {
            Some(line) => Ok((guardian, line)),
            None => Err("the server's guardian has no input".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io::{Read as _, Write as _},
        net::TcpStream,
        os::unix::fs::PermissionsExt as _,
        path::Path,
    };

    use super::Server;
    use crate::find;

    /// Whether a PostgreSQL server speaks at this URL: it answers a request for TLS with one byte.
    fn speaks(url: &str) -> bool {
        let place = url.rsplit_once('@').unwrap().1.split('/').next().unwrap();
        let Ok(mut stream) = TcpStream::connect(place) else { return false };
        let mut answer = [0];
        let asked = stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]);
        asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"N"
    }

    fn open_to_all(folder: &Path) {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_server_is_shared_ends_with_its_last_user_and_keeps_its_data() {
        let Some(binaries) = find::postgres() else {
            println!("SKIPPED: no PostgreSQL binaries are installed");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let folder = dir.path().join("postgres");
        let first = Server::open(&binaries, &folder).unwrap();
        let second = Server::open(&binaries, &folder).unwrap();
        assert_eq!(first.url(), second.url(), "joined, not started");
        let url = first.url().to_owned();
        drop(first);
        assert!(speaks(&url), "another one uses it");
        drop(second);
        assert!(!speaks(&url), "nobody uses it");
        let password = fs::read_to_string(folder.join("password")).unwrap();
        let again = Server::open(&binaries, &folder).unwrap();
        assert!(again.url().contains(&password) && speaks(again.url()), "the same cluster");
        assert!(again.version().starts_with("postgres (PostgreSQL)"), "{}", again.version());
    }

    #[test]
    fn root_is_told_where_the_server_cannot_go() {
        let (Some(binaries), Some(0)) = (find::postgres(), find::current_user()) else {
            println!("SKIPPED: this process is not root, or no binaries are installed");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let refused = Server::open(&binaries, &dir.path().join("postgres")).unwrap_err();
        assert!(refused.contains("is closed to other users"), "{refused}");
    }
}
