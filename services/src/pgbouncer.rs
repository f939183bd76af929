//! One private `PgBouncer` in transaction mode, before a PostgreSQL server, with a guardian.

use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    guardian::{Guarded, Home, on_free_port},
};

/// How long a new pooler may take until it takes connections.
const START_MAX: Duration = Duration::from_secs(30);

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
        on_free_port(|port| serve(binary, &behind, port))
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

fn serve(binary: &Path, behind: &Behind<'_>, port: u16) -> Outcome<Server> {
    let home = Home::temporary("pgbouncer", true)?;
    let server = [binary.as_os_str().to_owned(), "pgbouncer.ini".into()];
    let mut guarded = Guarded::over(&home, &server)?;
    let Behind { user, password, host, port: behind_port, database } = behind;
    let settings = format!(
        "[databases]\n* = host={host} port={behind_port}\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = users\npool_mode = transaction\n\
         max_client_conn = 500\ndefault_pool_size = 20\n",
    );
    home.write_secret("users", &format!("\"{user}\" \"{password}\"\n"))?;
    home.write_secret("pgbouncer.ini", &settings)?;
    guarded.start()?;
    answers(&guarded, port).map_err(|why| format!("pgbouncer {why}: {}", home.said()))?;
    Ok(Server {
        url: format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}"),
        version: version(binary),
        _guarded: guarded,
    })
}

/// Waits until the pooler takes connections.
fn answers(server: &Guarded, port: u16) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        if server.has_ended() {
            return Err("ended at once".to_owned());
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("did not answer within {} s", START_MAX.as_secs()))
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
