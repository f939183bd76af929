//! Whose turn it is to write: an OS file lock, taken for one bounded batch at a time.
//!
//! Waiting inside SQLite does not queue: with four busy processes its busy handler starves three
//! of them. The kernel's lock lets them in one after the other, and is freed when its holder dies.

use std::{fs::File, path::Path};

use provision_core::error::{StoreError, StoreErrorKind};

/// The lock file of one handle.
#[derive(Debug)]
pub(crate) struct Turn(File);

/// A turn under way; ends when dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a File);

impl Turn {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::options().create(true).truncate(false).write(true).open(path);
        file.map(Self).map_err(|error| {
            StoreError::new(StoreErrorKind::Unsuitable, "sqlite_cannot_open", "open the turn file")
                .with_hint("check that the directory exists and is writable for this process")
                .with_source(error)
        })
    }

    /// Waits for the turn.
    pub(crate) fn take(&self) -> Result<Taken<'_>, StoreError> {
        self.0.lock().map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "sqlite_turn", "take the turn to write")
                .with_source(error)
        })?;
        Ok(Taken(&self.0))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The kernel frees the lock in any case when the file is closed; there is nobody to tell.
        let _ = self.0.unlock();
    }
}
