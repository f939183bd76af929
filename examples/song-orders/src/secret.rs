//! The secret that signs webhooks: the payment provider's, or one of this data folder's own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use example_command::{exit::Trouble, place};
use provision_core::{
    Secret,
    draw::{SystemEntropy, uuid_v4},
    resolver::{EnvResolver, SecretResolver},
};

/// The variable with the secret that signs webhooks.
pub const WEBHOOK_SECRET: &str = "STRIPE_WEBHOOK_SECRET";
/// A secret that everybody knows, for tests and demonstrations on one machine: whoever reaches the
/// shop can sign orders with it.
pub const DEMO_SECRET: &str = "whsec_demonstration";
/// The file of a data folder with the secret that was drawn for it.
pub const FILE: &str = "webhook-secret";

/// The secret that webhooks are signed with. Where the environment names none, one is drawn for the
/// data folder, and stays there.
///
/// # Errors
/// Code `public_secret`: the one that everybody knows is to be believed beyond this machine. Or the
/// folder cannot be used, or there is no randomness.
pub async fn webhook_secret(
    data_dir: &Path,
    listen: SocketAddr,
    live: bool,
) -> Result<Secret, Trouble> {
    let named = EnvResolver::new().only([WEBHOOK_SECRET]).resolve(WEBHOOK_SECRET).await?;
    let Some(secret) = named else { return drawn(data_dir) };
    // What listens at loopback for real orders stands behind a proxy.
    if secret.expose() == DEMO_SECRET && (live || !listen.ip().is_loopback()) {
        return Err(Trouble::usage(
            "public_secret",
            format!("everybody knows this secret, and the shop listens at {listen}"),
            "set STRIPE_WEBHOOK_SECRET to another one, leave it out to have one drawn, or listen \
             at 127.0.0.1",
        ));
    }
    Ok(secret)
}

/// The secret of the folder; commands that begin at the same time agree on one.
fn drawn(data_dir: &Path) -> Result<Secret, Trouble> {
    place::prepare(data_dir)?;
    let path = data_dir.join(FILE);
    let wrong = |error: io::Error| {
        let message = format!("{} cannot be used: {error}", path.display());
        Trouble::unavailable("webhook_secret", message, "choose another --data-dir")
    };
    if let Some(secret) = kept(&path).map_err(wrong)? {
        return Ok(secret);
    }
    let draw = || {
        let drawn = uuid_v4(&SystemEntropy).map(|drawn| drawn.simple().to_string());
        drawn.map_err(|error| Trouble::bug("no_randomness", error.to_string()))
    };
    // Whole before it has its name, and never in place of another's.
    let whole = data_dir.join(format!("{FILE}.{}", draw()?));
    let written =
        written(&whole, &format!("whsec_{}{}", draw()?, draw()?)).and_then(
            |()| match fs::hard_link(&whole, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            },
        );
    let removed = fs::remove_file(&whole);
    written.and(removed).map_err(wrong)?;
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    kept(&path).and_then(|secret| secret.ok_or_else(gone)).map_err(wrong)
}

fn kept(path: &PathBuf) -> io::Result<Option<Secret>> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(Secret::new(text.trim()))),
        Ok(_) => Err(io::Error::from(io::ErrorKind::InvalidData)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Nobody else may read it.
fn written(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{FILE, drawn};

    #[test]
    fn a_folder_has_one_secret_and_two_folders_have_two() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = one.path().to_owned();
                std::thread::spawn(move || drawn(&path).unwrap().expose().to_owned())
            })
            .collect();
        let mut secrets: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        secrets.dedup();
        assert_eq!(secrets.len(), 1);
        assert!(secrets[0].len() == 70 && drawn(other.path()).unwrap().expose() != secrets[0]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(one.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "for nobody else");
        }
    }
}
