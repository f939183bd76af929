//! Folders for files of commands under way, for this user alone.

use std::{
    fmt,
    fs::{DirBuilder, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tokio::{fs, io::AsyncWriteExt, task::spawn_blocking};

/// Locked by the process that uses a folder, for as long as it does.
const HELD_FILE: &str = "held";
/// Most entries of a folder that is mirrored.
#[cfg(feature = "terraform")]
const MIRRORED_MAX: usize = 20_000;

/// Which folders stay although nobody uses them, by their names.
type Stays = dyn Fn(&str) -> bool + Send + Sync;

/// A folder that nobody else uses.
///
/// It goes when it is dropped. What a killed process leaves goes when the next one is made in the
/// same place, and so does what a program still used that outlived its call: its files are locked.
pub(crate) struct Scratch {
    path: PathBuf,
    held: File,
    stays: Box<Stays>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Scratch {
    /// Makes one in `work`, which is made too if it is not there. Its name is `name` and a number.
    pub(crate) async fn make(
        work: &Path,
        name: &str,
        stays: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (work, name) = (work.to_path_buf(), name.to_owned());
        let stays: Box<Stays> = Box::new(stays);
        blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&work)?;
            // Programs may run elsewhere, so every path they get is a whole one.
            let work = std::fs::canonicalize(work)?;
            // One at a time: nobody takes away what is not held yet.
            let turn = File::open(&work)?;
            turn.lock()?;
            sweep(&work, &*stays)?;
            let path = numbered(&work, &name, &*stays)?;
            let held = File::create_new(path.join(HELD_FILE))?;
            held.try_lock()?;
            Ok(Self { path, held, stays })
        })
        .await
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in the folder it was made in.
    pub(crate) fn name(&self) -> &str {
        name_of(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays here is for this user alone, and the next one sweeps it.
        let released = self.held.unlock().is_ok();
        if released && !(self.stays)(self.name()) && !is_used(&self.path) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The first folder of that name that is not there. One that is gone and should stay is left out:
/// its name means something to somebody.
fn numbered(work: &Path, name: &str, stays: &Stays) -> io::Result<PathBuf> {
    let names = (0..=u32::MAX).map(|number| format!("{name}.{number}"));
    for name in names.filter(|name| !stays(name)) {
        let path = work.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(ErrorKind::QuotaExceeded.into())
}

/// Removes what nobody uses any more.
fn sweep(work: &Path, stays: &Stays) -> io::Result<()> {
    for entry in std::fs::read_dir(work)? {
        let path = entry?.path();
        let ours = path.join(HELD_FILE).exists();
        if ours && !stays(name_of(&path)) && !is_used(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Whether a process holds a folder, or a program may still write into one of its files.
pub(crate) fn is_used(folder: &Path) -> bool {
    let is_locked = |file: &Path| {
        File::open(file)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    };
    // This one first: while it is held, no lock of the others is tried, which may just be made.
    if is_locked(&folder.join(HELD_FILE)) {
        return true;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let mut files = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()));
    files.any(|entry| is_locked(&entry.path()))
}

/// Rebuilds a folder as folders with links to its files, but for entries of the names `without`
/// and the folder `beside`.
#[cfg(feature = "terraform")]
pub(crate) fn mirror(from: &Path, to: &Path, without: &[&str], beside: &Path) -> io::Result<()> {
    let mut left = MIRRORED_MAX;
    let mut folders = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = folders.pop() {
        DirBuilder::new().mode(0o700).create(&to)?;
        for entry in std::fs::read_dir(&from)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            if path == beside || without.iter().any(|left_out| name == *left_out) {
                continue;
            }
            left = left.checked_sub(1).ok_or(ErrorKind::FileTooLarge)?;
            match entry.file_type()?.is_dir() {
                true => folders.push((path, to.join(name))),
                false => std::os::unix::fs::symlink(path, to.join(name))?,
            }
        }
    }
    Ok(())
}

/// Does what blocks, where that troubles nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Writes a file in place of one that may be there.
pub(crate) async fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(file).await?;
    open.write_all(bytes).await?;
    open.flush().await
}
