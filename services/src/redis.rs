//! One private Redis server with a guardian.
//!
//! It is set as the store asks for: every write synced to its file, nothing evicted.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    guardian::{Guarded, folder, free_port, random},
};

/// How long a new server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);
/// A port that was free may be taken by the time the server wants it.
const PORT_TRIES: u32 = 3;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    url: String,
    version: String,
    _guarded: Guarded,
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
        let folder = folder("redis", in_memory)?;
        let started =
            (0..PORT_TRIES).try_fold(String::new(), |_, _| match serve(binary, &folder) {
                Ok(server) => Err(server),
                Err(why) => Ok(why),
            });
        match started {
            Err(server) => Ok(server),
            Ok(why) => {
                drop(fs::remove_dir_all(&folder));
                Err(why)
            }
        }
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

fn serve(binary: &Path, folder: &PathBuf) -> Outcome<Server> {
    let (port, password) = (free_port()?, random(16)?);
    // Not on the command line, which every user of the machine can read.
    let settings = format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {password}\nappendonly yes\n\
         appendfsync always\nmaxmemory-policy noeviction\nsave \"\"\ndaemonize no\n"
    );
    let file = folder.join("redis.conf");
    fs::write(&file, settings).map_err(|error| format!("{}: {error}", file.display()))?;
    let broken = |error: std::io::Error| format!("the server's log: {error}");
    let log_path = folder.join("log");
    let log = fs::File::create(&log_path).map_err(broken)?;
    let mut server = Command::new(binary)
        .arg(&file)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(broken)?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("redis-server: {error}"))?;
    let version = match answers(&mut server, port, &password) {
        Ok(version) => version,
        Err(why) => {
            drop(server.kill());
            drop(server.wait());
            let said = fs::read_to_string(log_path).unwrap_or_default();
            return Err(format!("{why}: {}", said.trim()));
        }
    };
    let url = format!("redis://:{password}@127.0.0.1:{port}");
    Ok(Server { url, version, _guarded: Guarded::new(server, folder)? })
}

/// Waits until the server answers to its password; its version.
fn answers(server: &mut Child, port: u16, password: &str) -> Outcome<String> {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(format!("redis-server ended at once: {status}"));
        }
        if let Some(version) = asked(port, password) {
            return Ok(version);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("redis-server did not answer within {} s", START_MAX.as_secs()))
}

fn asked(port: u16, password: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("AUTH {password}\r\nINFO server\r\n").as_bytes()).ok()?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take(20);
    let version = lines.filter_map(|line| Some(line.strip_prefix("redis_version:")?.to_owned()));
    version.into_iter().next().map(|version| format!("redis {version}"))
}
