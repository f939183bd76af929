//! Folders for files of commands under way, for this user alone.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{fs, io::AsyncWriteExt};

/// Makes a folder and those above it; one that is there stays as it is. Answers its whole path.
pub(crate) async fn make(folder: &Path) -> io::Result<PathBuf> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).await?;
    fs::canonicalize(folder).await
}

/// Writes a file in place of one that may be there.
pub(crate) async fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(file).await?;
    open.write_all(bytes).await?;
    open.flush().await
}

/// Removes a file, if it is there.
#[cfg(feature = "terraform")]
pub(crate) async fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
