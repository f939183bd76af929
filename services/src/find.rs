//! Where the servers' binaries are, and which user without rights they may become.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Outcome;

/// Folders whose children are versions, each with a `bin`.
const VERSIONED: [&str; 3] =
    ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt"];
const FIXED: [&str; 3] = ["/usr/local/pgsql/bin", "/usr/libexec/postgresql", "/usr/pgsql/bin"];

/// The folder with `postgres` and `initdb`: one on the PATH, or else the newest version that is
/// installed.
#[must_use]
pub fn postgres() -> Option<PathBuf> {
    let mut versioned: Vec<PathBuf> = VERSIONED.iter().flat_map(|root| versions(root)).collect();
    versioned.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    let fixed = FIXED.iter().map(PathBuf::from);
    // A link on the PATH is followed: the server looks for its files beside its real place.
    searched().into_iter().chain(versioned).chain(fixed).find_map(|folder| {
        let server = folder.join("postgres").canonicalize().ok()?;
        let folder = server.parent()?;
        folder.join("initdb").is_file().then(|| folder.to_owned())
    })
}

/// The file `redis-server`.
#[must_use]
pub fn redis() -> Option<PathBuf> {
    on_path("redis-server")
}

/// The file `pgbouncer`.
#[must_use]
pub fn pgbouncer() -> Option<PathBuf> {
    on_path("pgbouncer")
}

/// Users without rights that systems have; PostgreSQL and its pooler refuse root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// User and group to become, where this process is root.
///
/// # Errors
/// The system has none.
pub fn unprivileged() -> Outcome<Option<(u32, u32)>> {
    if current_user() != Some(0) {
        return Ok(None);
    }
    let users =
        std::fs::read_to_string("/etc/passwd").map_err(|error| format!("users: {error}"))?;
    let found = UNPRIVILEGED.iter().find_map(|name| user_in(&users, name));
    found.map(Some).ok_or_else(|| "the server refuses root, and there is no user to become".into())
}

fn user_in(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut numbers = fields.skip(1).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

fn searched() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH");
    path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/sbin"].map(PathBuf::from);
    let folders = searched().into_iter().chain(usual);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn versions(root: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect()
}

/// The number in `.../15/bin` or `.../postgresql@17/bin`.
fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The number of this process' user, where the system tells.
#[must_use]
pub fn current_user() -> Option<u32> {
    let output = Command::new("id").arg("-u").stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{user_in, version};
    use std::path::Path;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "postgresql:x:1:1::/:/bin/sh\npostgres:x:101:104:Admin,,,:/var:/bin/bash\n";
        assert_eq!(user_in(users, "postgres"), Some((101, 104)));
        assert_eq!(user_in(users, "nobody"), None);
    }

    #[test]
    fn the_newest_version_wins() {
        assert_eq!(version(Path::new("/usr/lib/postgresql/15/bin")), 15);
        assert_eq!(version(Path::new("/opt/homebrew/opt/postgresql@17/bin")), 17);
        assert_eq!(version(Path::new("/usr/lib/postgresql/current/bin")), 0);
    }
}
