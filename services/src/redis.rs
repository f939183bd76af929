//! One private Redis server with a guardian.
//!
//! It is set as the store asks for: every write synced to its file, nothing evicted.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    guardian::{Guarded, Home, on_free_port, random},
};

/// How long a new server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    url: String,
    version: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its end"))]
    guarded: Guarded,
}

impl Server {
    /// Starts a server on a free loopback port, with a password of its own.
    ///
    /// It syncs every write to the disk, unless `in_memory` lets its folder be in memory: enough
    /// where nothing that is tested cuts the power, and several times as fast.
    ///
    /// # Errors
    /// It cannot be started; says what the server said.
    pub fn start(binary: &Path, in_memory: bool) -> Outcome<Self> {
        on_free_port(|port| serve(binary, in_memory, port))
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

fn serve(binary: &Path, in_memory: bool, port: u16) -> Outcome<Server> {
    let password = random(16)?;
    let home = Home::temporary("redis", in_memory)?;
    let server = [binary.as_os_str().to_owned(), "redis.conf".into()];
    let mut guarded = Guarded::over(&home, &server)?;
    // Not on the command line, which every user of the machine can read.
    let settings = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\nappendonly yes\n\
         appendfsync always\nmaxmemory-policy noeviction\nsave \"\"\ndaemonize no\n"
    );
    home.write_secret("redis.conf", &settings)?;
    guarded.start()?;
    let version = answers(&guarded, port, &password)
        .map_err(|why| format!("redis-server {why}: {}", home.said()))?;
    let url = format!("redis://:{password}@127.0.0.1:{port}");
    Ok(Server { url, version, guarded })
}

/// Waits until the server answers to its password; its version.
fn answers(server: &Guarded, port: u16, password: &str) -> Outcome<String> {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        if server.has_ended() {
            return Err("ended at once".to_owned());
        }
        if let Some(version) = asked(port, password) {
            return Ok(version);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("did not answer within {} s", START_MAX.as_secs()))
}

fn asked(port: u16, password: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("AUTH {password}\r\nINFO server\r\n").as_bytes()).ok()?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take(20);
    let version = lines.filter_map(|line| Some(line.strip_prefix("redis_version:")?.to_owned()));
    version.into_iter().next().map(|version| format!("redis {version}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::Server;
    use crate::find;

    #[test]
    fn its_password_can_be_read_by_its_user_alone_and_it_runs_without_rights() {
        let Some(binary) = find::redis() else {
            println!("SKIPPED: no redis-server is installed");
            return;
        };
        let server = Server::start(&binary, true).unwrap();
        let process = server.guarded.processes().1;
        let Ok(folder) = fs::read_link(format!("/proc/{process}/cwd")) else {
            println!("SKIPPED: the system does not tell where a process works");
            return;
        };
        let user = find::unprivileged()
            .unwrap()
            .map_or_else(|| find::current_user().unwrap(), |(user, _)| user);
        for (path, mode) in [(folder.clone(), 0o700), (folder.join("redis.conf"), 0o600)] {
            let told = fs::metadata(&path).unwrap();
            assert_eq!((told.mode() & 0o777, told.uid()), (mode, user), "{}", path.display());
        }
        assert_eq!(fs::metadata(format!("/proc/{process}")).unwrap().uid(), user);
        drop(server);
        assert!(!folder.exists(), "it is removed with it");
    }
}
