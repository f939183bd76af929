//! The state of a simulated cloud on disk: whole, or as it was before.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{SimTime, message::SimRequest};

/// What is written: the provider's state, and requests that have not landed yet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) state: serde_json::Value,
    #[serde(default)]
    pub(super) late: Vec<Late>,
}

/// A request that lands later than its sender believes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Late {
    pub(super) due: SimTime,
    pub(super) request: SimRequest,
}

/// Writes states to one file, skipping those that are there already.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    written: Vec<u8>,
}

impl Disk {
    /// Opens the file of a cloud, and reads what an earlier process left.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Saved>)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let written = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let saved = if written.is_empty() { None } else { Some(serde_json::from_slice(&written)?) };
        Ok((Self { path: path.to_owned(), written }, saved))
    }

    /// Makes the state durable: a new file, synced, takes the place of the old one.
    pub(super) fn write(&mut self, saved: &Saved) -> io::Result<()> {
        let bytes = serde_json::to_vec(saved)?;
        if bytes == self.written {
            return Ok(());
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The rename itself survives a power cut only once the folder is synced.
            File::open(folder)?.sync_all()?;
        }
        self.written = bytes;
        Ok(())
    }
}
