//! The PostgreSQL database of a program that needs one: the one that `DATABASE_URL` names, or else
//! a private server in the data folder, whose data stays between commands.

use std::{fmt, path::Path};

use provision_core::resolver::{EnvResolver, SecretResolver};
use throwaway_services::{find, kept};

use crate::{
    exit::Trouble,
    place::{self, Server},
};

/// The variable that names a database.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// Where a private server is, in the data folder.
const FOLDER: &str = "postgres";
/// Where its data are; one whose making was cut has none.
const CLUSTER: &str = "data";
const INSTALL: &str = "set DATABASE_URL to postgres://user:password@host/database, or install the \
    package `postgresql`; `cargo xtask services run` installs it too, where root may use apt-get";

/// A database that can be used. A private server ends with the last process that uses it: keep
/// this until everything that talks to the database is gone.
pub struct Database {
    url: Server,
    private: Option<kept::Server>,
}

impl Database {
    /// Finds the database of a program, and starts a private server where there is none.
    ///
    /// # Errors
    /// Code `no_postgres`: no database is named, and no server can be started; says what to do.
    pub async fn of(data_dir: &Path) -> Result<Self, Trouble> {
        match Self::named().await? {
            Some(named) => Ok(named),
            None => Self::private(data_dir).await,
        }
    }

    /// Finds the database of a program that only looks; `None` where none is named, and no private
    /// server was ever made: nothing is made then.
    ///
    /// # Errors
    /// Code `no_postgres`: the private server that is there cannot be started.
    pub async fn existing(data_dir: &Path) -> Result<Option<Self>, Trouble> {
        let named = Self::named().await?;
        if named.is_some() || !data_dir.join(FOLDER).join(CLUSTER).is_dir() {
            return Ok(named);
        }
        Self::private(data_dir).await.map(Some)
    }

    async fn named() -> Result<Option<Self>, Trouble> {
        let named = EnvResolver::new().only([DATABASE_URL]).resolve(DATABASE_URL).await?;
        let named = named.map(|url| url.expose().trim().to_owned()).filter(|url| !url.is_empty());
        Ok(named.map(|url| Self { url: Server(url), private: None }))
    }

    async fn private(data_dir: &Path) -> Result<Self, Trouble> {
        place::prepare(data_dir)?;
        let folder = data_dir.join(FOLDER);
        let started = tokio::task::spawn_blocking(move || {
            let binaries = find::postgres().ok_or("no PostgreSQL server is installed here")?;
            kept::Server::open(&binaries, &folder)
        });
        let started = started.await.map_err(|error| Trouble::bug("task", error.to_string()))?;
        let server = started.map_err(|why| {
            let message = format!("there is no PostgreSQL database: {why}");
            Trouble::unavailable("no_postgres", message, INSTALL)
        })?;
        Ok(Self { url: Server(server.url().to_owned()), private: Some(server) })
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url.0
    }

    /// Where it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.private {
            Some(server) => format!("database: a private server, {}", server.version()),
            None => format!("database: the one of {DATABASE_URL}"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &self.url).finish_non_exhaustive()
    }
}
