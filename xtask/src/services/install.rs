//! How the servers' binaries come onto a machine that has none.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use throwaway_services::find;

use crate::Outcome;

/// The folder with `postgres` and `initdb`.
pub(super) fn postgres() -> Outcome<PathBuf> {
    if let Some(folder) = find::postgres() {
        return Ok(folder);
    }
    apt("PostgreSQL", "postgresql")?;
    find::postgres().ok_or_else(|| "installed, but no server binaries were found".to_owned())
}

/// The file `redis-server`.
pub(super) fn redis() -> Outcome<PathBuf> {
    installed(find::redis, "Redis", "redis-server")
}

/// The file `pgbouncer`.
pub(super) fn pgbouncer() -> Outcome<PathBuf> {
    installed(find::pgbouncer, "PgBouncer", "pgbouncer")
}

/// A server whose package, program and service are called alike.
fn installed(look: impl Fn() -> Option<PathBuf>, name: &str, package: &str) -> Outcome<PathBuf> {
    if let Some(server) = look() {
        return Ok(server);
    }
    apt(name, package)?;
    // The package may start a server of its own, which nobody asked for.
    let mut service = Command::new("/usr/sbin/service");
    service.args([package, "stop"]).stdin(Stdio::null());
    drop(service.stdout(Stdio::null()).stderr(Stdio::null()).status());
    look().ok_or_else(|| format!("installed, but no `{package}` was found"))
}

fn apt(name: &str, package: &str) -> Outcome {
    if find::current_user() != Some(0) || !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!(
            "no server binaries, and only root with apt-get can install them here; install the \
             package `{package}`"
        ));
    }
    eprintln!("{name}: no server binaries, installing the package `{package}` by apt-get");
    let call = |args: &[&str]| {
        Command::new("/usr/bin/apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("apt-get: {error}"))
    };
    let install = ["install", "-y", "-qq", "--no-install-recommends", package];
    let mut output = call(&install)?;
    if !output.status.success() {
        // A new machine has no package lists yet.
        call(&["update", "-qq"])?;
        output = call(&install)?;
    }
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("apt-get could not install it: {}", errors.lines().last().unwrap_or_default()))
}
