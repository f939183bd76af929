//! One private PostgreSQL server with a guardian.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Outcome,
    cluster::Cluster,
    guardian::{Guarded, folder, free_port, random},
};

/// A port that was free may be taken by the time the server wants it.
const PORT_TRIES: u32 = 3;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    url: String,
    version: String,
    binaries: PathBuf,
    _guarded: Guarded,
}

impl Server {
    /// Creates a cluster and starts it on a free loopback port.
    ///
    /// It syncs every commit to the disk, unless `in_memory` lets its folder be in memory: enough
    /// where the server outlives what is killed.
    ///
    /// # Errors
    /// It cannot be started; says what the server said.
    pub fn start(binaries: &Path, in_memory: bool) -> Outcome<Self> {
        let cluster = Cluster::new(binaries, &folder("postgres", in_memory)?, random(16)?)?;
        let started = cluster.init().and_then(|()| serve(&cluster));
        if started.is_err() {
            drop(fs::remove_dir_all(cluster.folder()));
        }
        started
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

    /// A search path on which `psql` is found too.
    #[must_use]
    pub fn path_with_clients(&self) -> OsString {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":");
        path.push(&self.binaries);
        path
    }
}

fn serve(cluster: &Cluster) -> Outcome<Server> {
    let mut last = String::new();
    for _ in 0..PORT_TRIES {
        match serve_on(cluster, free_port()?) {
            Ok(server) => return Ok(server),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn serve_on(cluster: &Cluster, port: u16) -> Outcome<Server> {
    let log = cluster.log()?;
    let twin = log.try_clone().map_err(|error| format!("the server's log: {error}"))?;
    let mut server = cluster
        .server(port)
        .stdout(twin)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("postgres: {error}"))?;
    let process = server.id();
    let ended = || {
        let status = server.try_wait().ok().flatten()?;
        Some(format!("postgres ended at once: {status}"))
    };
    if let Err(why) = cluster.answers(process, ended) {
        drop(server.kill());
        drop(server.wait());
        return Err(format!("{why}: {}", cluster.said()));
    }
    Ok(Server {
        url: cluster.url(port),
        version: cluster.version(),
        binaries: cluster.binaries().to_owned(),
        _guarded: Guarded::new(server, cluster.folder())?,
    })
}
