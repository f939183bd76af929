//! One private PostgreSQL server with a guardian.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    Outcome,
    cluster::{Cluster, Lasting},
    guardian::{Guarded, Home, on_free_port, random},
};

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
        on_free_port(|port| {
            let home = Home::temporary("postgres", in_memory)?;
            let cluster = Cluster::new(binaries, home, random(16)?);
            let mut guarded = Guarded::over(cluster.home(), &cluster.server(port))?;
            cluster.init(Lasting::No)?;
            let running = cluster.started(&mut guarded)?;
            Ok(Self {
                url: cluster.url(running.port),
                version: cluster.version(),
                binaries: cluster.binaries().to_owned(),
                _guarded: guarded,
            })
        })
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
