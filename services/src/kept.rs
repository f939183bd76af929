//! A PostgreSQL server in a folder of the caller's: its data stays there, its process ends with the
//! last one who uses it.
//!
//! Commands of one data folder may overlap: the first one starts the server, the others join it.
//!
//! | In the folder | Is |
//! |---|---|
//! | `turn` | locked by who just starts, joins or leaves |
//! | `guarded` | locked by the guardian, as long as it lives |
//! | `line` | a pipe that all users hold open; its end tells the guardian that the last one is gone |
//! | `users/NAME` | locked by one user, as long as it lives |
//! | `seen/NAME` | the guardian's answer to a user that joins: it has not stopped, and will not |
//!
//! Locks and the pipe end with who holds them, so neither a kill nor a number of a process that is
//! given out again keeps a server, or ends one that is used.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    cluster::{Cluster, Lasting, Running, write_secret},
    find,
    guardian::{Guarded, Home, Line, on_free_port, random},
};

/// How long a guardian may take to stop a server, and one that was left to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// After this time a server that was left is killed.
const ASKED_MAX: Duration = Duration::from_secs(10);
/// How long the server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server that this process uses; dropping it stops the server, unless others use it too.
pub struct Server {
    url: String,
    version: String,
    folder: PathBuf,
    hold: Option<Hold>,
    user: Option<User>,
}

/// What keeps the server.
enum Hold {
    /// Of who started it.
    Started(Guarded),
    /// The guardian's line, of who joined.
    Joined(File),
}

impl Server {
    /// Joins the server of a folder, or starts it; the folder and what is in it are made at need.
    /// Blocks until it takes connections.
    ///
    /// A server that a killed guardian has left there is stopped before. What `postmaster.pid`
    /// names is signalled only where it works in this very folder.
    ///
    /// # Errors
    /// It cannot be started; says what is in the way.
    pub fn open(binaries: &Path, folder: &Path) -> Outcome<Self> {
        let broken = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(broken)?;
        let folder = folder.canonicalize().map_err(broken)?;
        owned(&folder)?;
        fs::create_dir_all(folder.join("users")).map_err(broken)?;
        let _turn = turn(&folder).map_err(broken)?;
        let cluster = Cluster::new(binaries, Home::at(&folder)?, password(&folder)?);
        reachable(cluster.home())?;
        let user = User::enter(&folder).map_err(broken)?;
        let (hold, running) = match joined(&cluster, &user)? {
            Some((line, running)) => (Hold::Joined(line), running),
            None => {
                let (guarded, running) = started(&cluster)?;
                (Hold::Started(guarded), running)
            }
        };
        let (url, version) = (cluster.url(running.port), cluster.version());
        Ok(Self { url, version, folder, hold: Some(hold), user: Some(user) })
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
        // Nobody joins meanwhile. Without a folder nobody does either.
        let _turn = turn(&self.folder);
        drop(self.user.take());
        let is_last = !is_used(&self.folder);
        match self.hold.take() {
            Some(Hold::Started(guarded)) if is_last => drop(guarded),
            Some(Hold::Started(mut guarded)) => guarded.leave(),
            Some(Hold::Joined(line)) => {
                drop(line);
                if is_last {
                    ended(&self.folder);
                }
            }
            None => {}
        }
    }
}

/// Waits for the end of the guardian, and so of its server.
fn ended(folder: &Path) {
    let begun = Instant::now();
    while begun.elapsed() < STOP_MAX && matches!(unguarded(folder), Ok(None)) {
        thread::sleep(LOOK_EVERY);
    }
}

/// One at a time starts, joins or leaves; the lock ends with its holder.
fn turn(folder: &Path) -> io::Result<File> {
    let turn = File::create(folder.join("turn"))?;
    turn.lock()?;
    Ok(turn)
}

/// The lock of the guardian, unless one lives.
fn unguarded(folder: &Path) -> io::Result<Option<File>> {
    locked(&folder.join("guarded"))
}

fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody who lives uses the server. Names of those who do not are taken away.
fn is_used(folder: &Path) -> bool {
    let Ok(users) = fs::read_dir(folder.join("users")) else { return false };
    let lives = |path: &PathBuf| match locked(path) {
        Ok(Some(_)) => {
            drop(fs::remove_file(path));
            false
        }
        Ok(None) => true,
        Err(_) => false,
    };
    users.filter_map(|user| Some(user.ok()?.path())).filter(lives).count() > 0
}

/// Root gives a folder to the server's user: not one that is somebody else's.
fn owned(folder: &Path) -> Outcome {
    let Some((user, _)) = find::unprivileged()? else { return Ok(()) };
    let told = fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match told.uid() {
        0 => Ok(()),
        owner if owner == user => Ok(()),
        _ => Err(format!("{} belongs to another user", folder.display())),
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
fn reachable(home: &Home) -> Outcome {
    let Some(user) = home.user() else { return Ok(()) };
    for folder in home.folder().ancestors() {
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

/// Joins the server that another process has started, if its guardian lives and will not stop it.
fn joined(cluster: &Cluster, user: &User) -> Outcome<Option<(File, Running)>> {
    let folder = cluster.home().folder();
    let broken = |error: io::Error| format!("{}: {error}", folder.display());
    if unguarded(folder).map_err(broken)?.is_some() {
        return Ok(None);
    }
    // Opened for both, it is opened at once, also where nobody reads any more.
    let mut line =
        OpenOptions::new().read(true).write(true).open(folder.join("line")).map_err(broken)?;
    line.write_all(format!("{}\n", user.name).as_bytes()).map_err(broken)?;
    let (seen, begun) = (folder.join("seen").join(&user.name), Instant::now());
    while begun.elapsed() < STOP_MAX {
        if seen.exists() {
            drop(fs::remove_file(seen));
            return answering(cluster).map(|running| Some((line, running)));
        }
        // It was stopping its server when it was spoken to.
        if unguarded(folder).map_err(broken)?.is_some() {
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
    Err(format!("the guardian of the server in {} does not answer", folder.display()))
}

fn answering(cluster: &Cluster) -> Outcome<Running> {
    let answers = |running: &Running| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, running.port));
        TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok()
    };
    cluster.ready().filter(answers).ok_or_else(|| {
        let said = cluster.home().said();
        format!("postgres has ended, and other commands still wait for it; end them: {said}")
    })
}

fn started(cluster: &Cluster) -> Outcome<(Guarded, Running)> {
    cleared(cluster)?;
    if !cluster.data().is_dir() {
        cluster.init(Lasting::Yes)?;
    }
    on_free_port(|port| {
        let line = line(cluster.home())?;
        let mut guarded = Guarded::kept(cluster.home(), &cluster.server(port), line)?;
        // What is given up here is stopped by its guardian.
        let running = cluster.started(&mut guarded)?;
        Ok((guarded, running))
    })
}

/// A new line to a new guardian.
fn line(home: &Home) -> Outcome<Line> {
    let broken = |error: io::Error| format!("the guardian's line: {error}");
    let (line, seen) = (home.folder().join("line"), home.folder().join("seen"));
    drop(fs::remove_file(&line));
    drop(fs::remove_dir_all(&seen));
    fs::create_dir(&seen).map_err(broken)?;
    home.give(&seen)?;
    let mut make = Command::new("mkfifo");
    make.args(["-m", "600"]).arg(&line).stdin(Stdio::null());
    let made = make.output().map_err(|error| format!("mkfifo: {error}"))?;
    if !made.status.success() {
        return Err(format!("mkfifo: {}", String::from_utf8_lossy(&made.stderr).trim()));
    }
    // Who writes is there before who reads, which would wait otherwise.
    let write = OpenOptions::new().read(true).write(true).open(&line).map_err(broken)?;
    let read = File::open(&line).map_err(broken)?;
    let held = unguarded(home.folder()).map_err(broken)?;
    let held = held.ok_or("another guardian has come meanwhile")?;
    Ok(Line { read: read.into(), held: held.into(), write: Some(write) })
}

/// Ends what a killed guardian has left in the data folder, and takes its stale file away.
fn cleared(cluster: &Cluster) -> Outcome {
    let stale = cluster.data().join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&stale) else { return Ok(()) };
    let named = text.lines().next().and_then(|line| line.trim().parse().ok());
    let begun = Instant::now();
    while begun.elapsed() < STOP_MAX {
        // Where the system does not tell, PostgreSQL itself decides what to make of the file.
        let Some(inside) = working_in(&cluster.data()) else { return Ok(()) };
        if inside.is_empty() {
            drop(fs::remove_file(stale));
            return Ok(());
        }
        match begun.elapsed() < ASKED_MAX {
            true => inside.iter().filter(|id| Some(**id) == named).for_each(|id| tell("INT", *id)),
            false => inside.iter().for_each(|id| tell("KILL", *id)),
        }
        thread::sleep(LOOK_EVERY);
    }
    Err("a server that was left in this folder does not end".to_owned())
}

/// The processes that work in a folder, where the system tells. A server's do so in its data.
fn working_in(folder: &Path) -> Option<Vec<u32>> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        (fs::read_link(entry.path().join("cwd")).ok()? == folder).then_some(id)
    });
    Path::new("/proc/self/cwd").exists().then(|| processes.collect())
}

fn tell(signal: &str, process: u32) {
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", r#"kill -s "$1" "$2""#, "tell", signal, &process.to_string()]);
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(kill.status());
}

/// One use of a server by this process; its name goes with it, also where opening fails.
struct User {
    name: String,
    path: PathBuf,
    _lock: File,
}

impl User {
    fn enter(folder: &Path) -> io::Result<Self> {
        let name = random(8).map_err(io::Error::other)?;
        let path = folder.join("users").join(&name);
        let lock = File::create(&path)?;
        lock.lock()?;
        Ok(Self { name, path, _lock: lock })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::unix::fs::PermissionsExt as _,
        path::Path,
        process::{Child, Command},
    };

    use super::{Hold, Server, working_in};
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

    /// A process of nobody here, with its number.
    struct Foreign(Child);

    impl Foreign {
        fn new() -> Self {
            Self(Command::new("sleep").arg("120").spawn().unwrap())
        }

        fn lives(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Foreign {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn signal(name: &str, process: u32) {
        let process = process.to_string();
        assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
    }

    fn guardian(server: &Server) -> u32 {
        let Some(Hold::Started(guarded)) = &server.hold else { panic!("it was joined") };
        guarded.processes().0
    }

    #[test]
    fn a_stale_file_that_names_a_foreign_process_ends_nothing_and_is_no_hindrance() {
        let Some(binaries) = find::postgres() else {
            println!("SKIPPED: no PostgreSQL binaries are installed");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let folder = dir.path().join("postgres");
        drop(Server::open(&binaries, &folder).unwrap());
        let mut foreign = Foreign::new();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let (id, port) = (foreign.0.id(), open.local_addr().unwrap().port());
        // As whole as that of a server, at a port where somebody answers.
        let text = format!("{id}\n/d\n1763800000\n{port}\n\n127.0.0.1\n 1 1\nready   \n");
        fs::write(folder.join("data/postmaster.pid"), text).unwrap();
        // A name as it was of a process whose number lives again.
        fs::write(folder.join(format!("users/{id}-0")), "").unwrap();
        let server = Server::open(&binaries, &folder).unwrap();
        assert!(speaks(server.url()) && !server.url().contains(&format!(":{port}/")));
        let url = server.url().to_owned();
        drop(server);
        assert!(!speaks(&url), "a name that nobody holds keeps no server");
        assert!(foreign.lives(), "it is of nobody here");
        assert_eq!(fs::read_dir(folder.join("users")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_guardian_leaves_is_ended_by_the_next_one() {
        let Some(binaries) = find::postgres() else {
            println!("SKIPPED: no PostgreSQL binaries are installed");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let folder = dir.path().join("postgres");
        let server = Server::open(&binaries, &folder).unwrap();
        let url = server.url().to_owned();
        for name in ["INT", "TERM", "HUP", "QUIT"] {
            signal(name, guardian(&server));
        }
        let joined = Server::open(&binaries, &folder).unwrap();
        assert_eq!(joined.url(), url, "its guardian lives");
        drop(joined);
        signal("KILL", guardian(&server));
        drop(server);
        assert!(speaks(&url), "nobody is there to stop it");
        let next = Server::open(&binaries, &folder).unwrap();
        assert!(speaks(next.url()));
        assert!(next.url() == url || !speaks(&url), "the one that was left is over");
        let inside = working_in(&folder.canonicalize().unwrap().join("data")).unwrap();
        assert!(!inside.is_empty());
        drop(next);
        let data = folder.canonicalize().unwrap().join("data");
        assert_eq!(working_in(&data), Some(Vec::new()), "nothing of it is left");
    }

    #[test]
    fn a_start_that_is_given_up_leaves_no_process_and_no_name() {
        let Some(binaries) = find::postgres() else {
            println!("SKIPPED: no PostgreSQL binaries are installed");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let folder = dir.path().join("postgres");
        drop(Server::open(&binaries, &folder).unwrap());
        let settings = folder.join("data/postgresql.conf");
        fs::write(&settings, "no_such_setting = 1\n").unwrap();
        let refused = Server::open(&binaries, &folder).unwrap_err();
        assert!(refused.contains("no_such_setting"), "{refused}");
        let data = folder.canonicalize().unwrap().join("data");
        assert_eq!(working_in(&data), Some(Vec::new()));
        assert_eq!(fs::read_dir(folder.join("users")).unwrap().count(), 0);
        assert!(super::unguarded(&folder).unwrap().is_some(), "its guardian is over");
    }
}
