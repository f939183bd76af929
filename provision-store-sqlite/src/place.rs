//! Where the file lies: its companions, and whether its file system can be trusted with locks.

use std::path::{Path, PathBuf};

use provision_core::error::{StoreError, StoreErrorKind};

/// File systems whose locks and shared memory do not hold between machines.
const REMOTE: [&str; 18] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "9p",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "davfs",
    "orangefs",
    "ocfs2",
    // Folders of the machine around a virtual one.
    "vboxsf",
    "vmhgfs",
];
/// The same, behind FUSE.
const REMOTE_FUSE: [&str; 10] = [
    "sshfs",
    "s3fs",
    "rclone",
    "glusterfs",
    "gcsfuse",
    "ceph",
    "smbnetfs",
    "davfs2",
    "goofys",
    "vmhgfs-fuse",
];

/// A path beside the database: `<db>-<suffix>`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-");
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses a path on a network file system, where the system says what it is mounted on.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    // A directory that cannot be read is reported when the file is opened, with the better reason.
    // A database that is a link lies where the link leads.
    let real = path.canonicalize().or_else(|_| directory.canonicalize());
    let Ok(real) = real else { return Ok(()) };
    match file_system(&mounts, &real) {
        Some(kind) if is_remote(&kind) => {
            Err(StoreError::new(StoreErrorKind::Unsuitable, "sqlite_network_fs", "open the store")
                .with_context(format!("the file system is {kind}"))
                .with_hint(
                    "put the file on a local disk; for several machines use a server's store",
                ))
        }
        _ => Ok(()),
    }
}

fn is_remote(kind: &str) -> bool {
    REMOTE.contains(&kind)
        || kind.strip_prefix("fuse.").is_some_and(|kind| REMOTE_FUSE.contains(&kind))
}

/// The type of the file system that holds `place`, from the text of `mountinfo`.
fn file_system(mounts: &str, place: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(unescape) else { continue };
        let Some(kind) = right.split(' ').next() else { continue };
        let depth = Path::new(&point).components().count();
        // Of two mounts on the same point the later line is the one that is seen.
        if place.starts_with(&point) && best.is_none_or(|(found, _)| depth >= found) {
            best = Some((depth, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Undoes the octal escapes of `mountinfo`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::{Path, beside, file_system, is_remote};

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/me/My\\040Disk rw shared:5 - fuse.sshfs me@host: rw
32 30 8:1 / /home/me/local rw - xfs /dev/sdb1 rw
33 27 0:50 / /mnt rw - ext4 /dev/sdc rw
34 27 0:51 / /mnt rw - 9p share rw
";

    #[test]
    fn the_deepest_mount_decides() {
        let kind = |path| file_system(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(kind("/var/lib"), "ext4");
        assert_eq!(kind("/home/me"), "nfs4");
        assert_eq!(kind("/homes"), "ext4");
        assert_eq!(kind("/home/me/My Disk/db"), "fuse.sshfs");
        assert_eq!(kind("/home/me/local/x"), "xfs");
        assert_eq!(kind("/mnt"), "9p", "the later mount covers the earlier");
    }

    #[test]
    fn network_file_systems_are_known() {
        for remote in
            ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph", "vboxsf"]
        {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.ntfs-3g", "apfs"] {
            assert!(!is_remote(local), "{local}");
        }
    }

    #[test]
    fn companions_lie_beside_the_file() {
        assert_eq!(beside(Path::new("/a/p.db"), "turn"), Path::new("/a/p.db-turn"));
    }
}
