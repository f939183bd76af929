//! Where a command keeps things: the data folder, and the store that `--store` names.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::exit::Trouble;

/// Where things are kept, and how they are shown.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Folder of the store, its keys and the simulated cloud.
    #[arg(long, value_name = "DIR", default_value = "./.provision", global = true)]
    pub data_dir: PathBuf,
    /// `memory:`, `sqlite:` with an optional path, `postgres://..` or `redis://..`.
    #[arg(long, value_name = "URL", default_value = "sqlite:", global = true)]
    pub store: String,
    /// Print one JSON object on the last line of stdout, and everything else on stderr.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where runs are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// In this process only.
    Memory,
    /// In this SQLite file.
    Sqlite(PathBuf),
    /// On this PostgreSQL server.
    Postgres(Server),
    /// On this Redis server.
    Redis(Server),
}

impl StoreAt {
    /// What a `--store` means; a SQLite file without a path lies in the data folder.
    ///
    /// # Errors
    /// Code `unknown_store`: no such store, or none that this program was built with.
    pub fn parse(url: &str, data_dir: &Path) -> Result<Self, Trouble> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        let begins_with = |schemes: &[&str]| schemes.iter().any(|scheme| url.starts_with(scheme));
        if begins_with(&["postgres://", "postgresql://"]) {
            return Ok(Self::Postgres(Server(url.to_owned())));
        }
        if begins_with(&["redis://"]) {
            return Ok(Self::Redis(Server(url.to_owned())));
        }
        if begins_with(&["rediss://"]) {
            return Err(Trouble::usage(
                "unknown_store",
                "this program was built without TLS for Redis",
                "build it with the feature `tls` of `provision-store-redis`, or give `redis://..` \
                 where the way to the server is safe",
            ));
        }
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err(Trouble::usage(
                "unknown_store",
                "this store URL cannot be used",
                "valid are `memory:`, `sqlite:`, `sqlite:PATH`, `postgres://..` and `redis://..`",
            ));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        Ok(Self::Sqlite(match path {
            "" => data_dir.join("provision.db"),
            path => PathBuf::from(path),
        }))
    }
}

/// URL of a server; what it is printed as holds no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Server(pub String);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes a data folder. Keys and sealed values lie there: the folder keeps itself out of
/// repositories, unless somebody has decided already what of it belongs there.
///
/// # Errors
/// Code `data_dir`: it cannot be used.
pub fn prepare(data_dir: &Path) -> Result<(), Trouble> {
    create(data_dir)?;
    match File::create_new(data_dir.join(".gitignore")) {
        Ok(mut file) => file.write_all(b"*\n").map_err(|error| unusable(data_dir, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(unusable(data_dir, &error)),
    }
}

/// Makes a folder that need not be there yet.
///
/// # Errors
/// Code `data_dir`: it cannot be used.
pub fn create(folder: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))
}

fn unusable(folder: &Path, error: &io::Error) -> Trouble {
    let message = format!("the folder {} cannot be used: {error}", folder.display());
    Trouble::unavailable("data_dir", message, "choose another --data-dir or --store")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Server, StoreAt};

    #[test]
    fn stores_are_told_apart() {
        let at = |url| StoreAt::parse(url, Path::new("d"));
        assert_eq!(at("memory:").unwrap(), StoreAt::Memory);
        assert_eq!(at("sqlite:").unwrap(), StoreAt::Sqlite("d/provision.db".into()));
        assert_eq!(at("sqlite:x.db").unwrap(), StoreAt::Sqlite("x.db".into()));
        let url = "postgres://me:hunter2@localhost/db";
        let postgres = at(url).unwrap();
        assert_eq!(postgres, StoreAt::Postgres(Server(url.to_owned())));
        assert!(!format!("{postgres:?}").contains("hunter2"));
        assert!(matches!(at("redis://localhost/3").unwrap(), StoreAt::Redis(_)));
        for url in ["", "mysql://x", "rediss://localhost"] {
            assert_eq!(at(url).unwrap_err().code(), "unknown_store", "{url}");
        }
    }
}
