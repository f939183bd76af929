//! One private `PgBouncer` in transaction mode, before a PostgreSQL server, with a guardian.

use std::{
    fs,
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome, find,
    guardian::{Guarded, folder, free_port},
};

/// How long a new pooler may take until it takes connections.
const START_MAX: Duration = Duration::from_secs(30);
/// A port that was free may be taken by the time the pooler wants it.
const PORT_TRIES: u32 = 3;

/// A running pooler; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    url: String,
    version: String,
    _guarded: Guarded,
}

/// The server behind it, taken from its URL.
#[derive(Debug, PartialEq, Eq)]
struct Behind<'a> {
    user: &'a str,
    password: &'a str,
    host: &'a str,
    port: &'a str,
    database: &'a str,
}

impl Server {
    /// Starts a pooler on a free loopback port, with the user and password of the server behind it
    /// and the settings that the package ships with.
    ///
    /// # Errors
    /// It cannot be started; says what the server said.
    pub fn start(binary: &Path, behind: &str) -> Outcome<Self> {
        let Some(behind) = Behind::of(behind) else {
            return Err("the server's URL names no user, password, host and port".to_owned());
        };
        let folder = folder("pgbouncer", true)?;
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match serve(binary, &folder, &behind) {
                Ok(server) => return Ok(server),
                Err(why) => last = why,
            }
        }
        drop(fs::remove_dir_all(&folder));
        Err(last)
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

impl<'a> Behind<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (who, place) = url.split_once("://")?.1.rsplit_once('@')?;
        let (user, password) = who.split_once(':')?;
        let (place, database) = place.split_once('/')?;
        let (host, port) = place.rsplit_once(':')?;
        Some(Self { user, password, host, port, database })
    }
}

fn serve(binary: &Path, folder: &PathBuf, behind: &Behind<'_>) -> Outcome<Server> {
    let port = free_port()?;
    let Behind { user, password, host, port: behind_port, database } = behind;
    let users = folder.join("users");
    let settings = format!(
        "[databases]\n* = host={host} port={behind_port}\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
         max_client_conn = 500\ndefault_pool_size = 20\n",
        users.display()
    );
    let file = folder.join("pgbouncer.ini");
    let owner = find::unprivileged()?;
    let give = |path: &Path| match owner {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    };
    let prepared = fs::write(&users, format!("\"{user}\" \"{password}\"\n"))
        .and_then(|()| fs::write(&file, settings))
        .and_then(|()| [folder, &users, &file].into_iter().try_for_each(|path| give(path)));
    prepared.map_err(|error| format!("{}: {error}", folder.display()))?;
    let broken = |error: std::io::Error| format!("the pooler's log: {error}");
    let log_path = folder.join("log");
    let log = fs::File::create(&log_path).map_err(broken)?;
    let mut command = Command::new(binary);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    let mut server = command
        .arg(&file)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(broken)?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("pgbouncer: {error}"))?;
    if let Err(why) = answers(&mut server, port) {
        drop(server.kill());
        drop(server.wait());
        let said = fs::read_to_string(log_path).unwrap_or_default();
        return Err(format!("{why}: {}", said.trim()));
    }
    Ok(Server {
        url: format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}"),
        version: version(binary),
        _guarded: Guarded::new(server, folder)?,
    })
}

/// Waits until the pooler takes connections.
fn answers(server: &mut Child, port: u16) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(format!("pgbouncer ended at once: {status}"));
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("pgbouncer did not answer within {} s", START_MAX.as_secs()))
}

fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::Behind;

    #[test]
    fn the_server_behind_is_read_from_its_url() {
        let found = Behind::of("postgres://me:it@127.0.0.1:5432/db").unwrap();
        let Behind { user, password, host, port, database } = found;
        assert_eq!((user, password, host, port, database), ("me", "it", "127.0.0.1", "5432", "db"));
        assert_eq!(Behind::of("postgres://localhost/db"), None);
    }
}
