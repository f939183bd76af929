//! The file lock of a living worker: the kernel frees it at death, which proves the death to other
//! workers on the same machine.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use crate::store::Incarnation;

/// Holds the lock of one incarnation while it lives.
#[derive(Debug)]
pub(crate) struct LifeLock {
    dir: PathBuf,
    path: PathBuf,
    _file: File,
}

fn path_of(dir: &Path, worker: Incarnation) -> PathBuf {
    dir.join(format!("{}.alive", worker.0))
}

impl LifeLock {
    /// Creates and locks the file of an incarnation.
    pub(crate) fn take(dir: &Path, worker: Incarnation) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = path_of(dir, worker);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => error,
            fs::TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
        })?;
        Ok(Self { dir: dir.to_owned(), path, _file: file })
    }

    /// Whether another incarnation of this machine is surely dead: its very file is here, and its
    /// lock is free. The file is removed once its death is known to the store, by the next look.
    pub(crate) fn proves_dead(&self, peer: Incarnation) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(path_of(&self.dir, peer)) else {
            return false;
        };
        file.try_lock().is_ok()
    }
}

impl Drop for LifeLock {
    fn drop(&mut self) {
        // A worker that ends in order leaves no file behind; one that is killed leaves its proof.
        let _ = fs::remove_file(&self.path);
    }
}
