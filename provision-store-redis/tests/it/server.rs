//! Servers of a test's own: killed, started again, set badly, full.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);

/// A private server on a port of its own, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a server set as the store asks for, with more settings after those; `None`, said
    /// aloud, where there is no `redis-server`.
    pub(crate) fn start(more: &str) -> Option<Self> {
        crate::given::url()?;
        let binary = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
            .map(PathBuf::from)
            .into_iter()
            .find(|file| file.is_file());
        let Some(_) = binary else {
            provision_testkit::skips::refused_in_ci("no redis-server to start");
            std::io::stderr().write_all(b"skipped: no redis-server to start\n").unwrap();
            return None;
        };
        // In memory where there is one: what is tested is the death of processes, not of disks.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let settings = format!(
            "bind 127.0.0.1\nport {port}\nappendonly yes\nappendfsync always\n\
             maxmemory-policy noeviction\nsave \"\"\ndaemonize no\n{more}\n"
        );
        fs::write(folder.path().join("redis.conf"), settings).unwrap();
        let process = run(folder.path());
        let server = Self { folder, port, process };
        server.wait();
        Some(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// Sends a command of words.
    pub(crate) fn ask(&self, words: &str) -> redis::RedisResult<redis::Value> {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.client().get_connection()?)
    }

    /// Ends the process without a word of warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets the process stand still.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Adds settings that it has when it is started again.
    pub(crate) fn set(&self, more: &str) {
        let path = self.folder.path().join("redis.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(format!("{more}\n").as_bytes()).unwrap();
    }

    /// Starts it again on what it has written. Whether it said meanwhile that it still reads that.
    pub(crate) fn again(&mut self) -> bool {
        self.process = run(self.folder.path());
        self.wait()
    }

    /// Waits until it answers, whatever it says, but that it still reads its file; whether it did.
    fn wait(&self) -> bool {
        let (begun, mut has_read) = (Instant::now(), false);
        while begun.elapsed() < START_MAX {
            match word(self.port) {
                Some(word) if word.starts_with("-LOADING") => has_read = true,
                Some(_) => return has_read,
                None => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("no answer from the server: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn run(folder: &std::path::Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new("redis-server")
        .arg("redis.conf")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What a server says to a first word; nothing where there is none.
fn word(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"PING\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line).filter(|line| !line.is_empty())
}
