//! The file lock of a living worker: the kernel frees it at death, which proves the death to other
//! workers on the same machine.
//!
//! A file is named by its incarnation and holds the boot id of its machine: a lock says nothing
//! about a worker under another kernel, which may share the folder, nor about one of an earlier
//! boot, whose lease the store judges. Who proves a death keeps the lock until the store knows of it,
//! and removes the file before letting go, so that nobody takes a later look for another proof.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::store::Incarnation;

/// What the names of lock files end with.
const SUFFIX: &str = ".alive";
/// Most files that one look through the folder considers.
const CLEARED_AT_ONCE: usize = 1_000;
/// Longest boot id that is read.
const BOOT_BYTES: u64 = 100;

/// Holds the lock of one incarnation while it lives.
#[derive(Debug)]
pub(crate) struct LifeLock {
    dir: PathBuf,
    worker: Incarnation,
    boot: String,
    _file: File,
}

/// The lock of a worker that is surely dead. Letting go of it changes nothing.
#[derive(Debug)]
pub(crate) struct Grave {
    pub(crate) worker: Incarnation,
    path: PathBuf,
    _file: File,
}

impl Grave {
    /// Removes the file, when the store knows of the death, and then lets go of the lock.
    pub(crate) fn close(self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn path_of(dir: &Path, worker: Incarnation) -> PathBuf {
    dir.join(format!("{}{SUFFIX}", worker.0))
}

/// Tells this boot of this kernel from every other; empty where the system has none.
fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Takes a lock that is free, of the file that still stands under its name.
fn lock(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    // Who buried it may have removed the file between the opening and the lock.
    let named = fs::metadata(path).ok()?;
    is_same(&file.metadata().ok()?, &named).then_some(file)
}

impl LifeLock {
    /// Creates and locks the file of an incarnation.
    pub(crate) fn take(dir: &Path, worker: Incarnation) -> io::Result<Self> {
        Self::take_in(dir, worker, boot_id())
    }

    fn take_in(dir: &Path, worker: Incarnation, boot: String) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = path_of(dir, worker);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => error,
            fs::TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
        })?;
        file.write_all(boot.as_bytes())?;
        Ok(Self { dir: dir.to_owned(), worker, boot, _file: file })
    }

    /// Whether another incarnation is surely dead: its very file is here, of this boot of this
    /// machine, and its lock is free. Then the lock is held until the answer is dropped.
    pub(crate) fn proves_dead(&self, peer: Incarnation) -> Option<Grave> {
        let path = path_of(&self.dir, peer);
        let file = lock(&path)?;
        let mut boot = String::new();
        Read::take(&file, BOOT_BYTES).read_to_string(&mut boot).ok()?;
        (boot == self.boot).then_some(Grave { worker: peer, path, _file: file })
    }

    /// Removes the files of workers that the store does not count among the living, and that hold
    /// no lock: nobody asks for a proof of their death any more.
    pub(crate) fn clear(&self, alive: &[Incarnation]) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten().take(CLEARED_AT_ONCE) {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let Some(id) = id.and_then(|id| Uuid::parse_str(id).ok()) else { continue };
            let worker = Incarnation(id);
            if worker == self.worker || alive.contains(&worker) {
                continue;
            }
            let path = entry.path();
            if let Some(file) = lock(&path) {
                Grave { worker, path, _file: file }.close();
            }
        }
    }
}

impl Drop for LifeLock {
    fn drop(&mut self) {
        // A worker that ends in order leaves no file behind; one that is killed leaves its proof.
        let _ = fs::remove_file(path_of(&self.dir, self.worker));
    }
}

#[cfg(test)]
mod tests {
    use super::{Grave, Incarnation, LifeLock, Uuid, fs, lock, path_of};

    /// A folder of its own, gone with the test.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("provision-locks-{}", Uuid::now_v7())))
        }

        fn take(&self, number: u128, boot: &str) -> LifeLock {
            LifeLock::take_in(&self.0, who(number), boot.to_owned()).unwrap()
        }

        /// The worker is killed: its lock is free, its file stays.
        fn killed(&self, number: u128, boot: &str) {
            drop(self.take(number, boot));
            fs::write(path_of(&self.0, who(number)), boot).unwrap();
        }

        fn has(&self, number: u128) -> bool {
            path_of(&self.0, who(number)).exists()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn who(number: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(number))
    }

    // covers: L2
    #[test]
    fn a_lock_proves_a_death_under_the_same_boot_only() {
        let folder = Folder::new();
        let me = folder.take(1, "this boot");
        let living = folder.take(2, "this boot");
        assert!(me.proves_dead(who(2)).is_none(), "it lives");
        drop(living);
        assert!(me.proves_dead(who(2)).is_none(), "it ended in order, and took its file along");
        folder.killed(3, "this boot");
        assert!(me.proves_dead(who(3)).is_some());
        // A machine that shares the folder, or this one before it was started anew.
        folder.killed(4, "another boot");
        assert!(me.proves_dead(who(4)).is_none());
        folder.killed(5, "");
        assert!(me.proves_dead(who(5)).is_none());
    }

    // covers: L2
    #[test]
    fn who_proves_a_death_holds_the_lock_until_the_file_is_gone() {
        let folder = Folder::new();
        let (me, peer) = (folder.take(1, "boot"), folder.take(2, "boot"));
        folder.killed(3, "boot");
        let grave = me.proves_dead(who(3)).unwrap();
        assert!(peer.proves_dead(who(3)).is_none(), "one of them buries it");
        drop(grave);
        assert!(folder.has(3), "the store was not told: the proof stays");
        let grave = peer.proves_dead(who(3)).unwrap();
        Grave::close(grave);
        assert!(!folder.has(3) && me.proves_dead(who(3)).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn the_lock_of_a_file_that_is_gone_proves_nothing() {
        let folder = Folder::new();
        folder.killed(3, "boot");
        let path = path_of(&folder.0, who(3));
        let late = fs::OpenOptions::new().write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // Another file stands under the name that was opened.
        folder.killed(3, "boot");
        late.try_lock().unwrap();
        let (opened, named) = (late.metadata().unwrap(), fs::metadata(&path).unwrap());
        assert!(!super::is_same(&opened, &named));
        assert!(lock(&path).is_some(), "the file under the name is another one");
    }

    #[test]
    fn files_of_workers_that_nobody_asks_about_are_removed() {
        let folder = Folder::new();
        let me = folder.take(1, "boot");
        let _living = folder.take(2, "boot");
        folder.killed(3, "boot");
        folder.killed(4, "boot");
        folder.killed(5, "another boot");
        fs::write(folder.0.join("notes.txt"), "").unwrap();
        me.clear(&[who(3)]);
        let left: Vec<_> = (1..=5).filter(|number| folder.has(*number)).collect();
        assert_eq!(left, [1, 2, 3], "3 is not buried yet: its file is the proof");
        assert!(folder.0.join("notes.txt").exists());
    }
}
