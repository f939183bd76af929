//! Keys in a file that only its owner may read.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::keys::{Ring, check_id};
use crate::{
    draw::Entropy,
    error::{Error, ErrorKind},
};

/// Largest key file, in bytes: about seven hundred keys.
const LARGEST: u64 = 64 * 1024;

pub(super) type Key = Zeroizing<[u8; 32]>;

/// Draws a key with an id that nobody else has.
pub(super) fn draw_key(entropy: &dyn Entropy) -> Result<(String, Key), Error> {
    let no_randomness =
        |e| Error::new(ErrorKind::Secret, "no_randomness", "draw key").with_source(e);
    let (mut id, mut key) = ([0_u8; 8], Zeroizing::new([0_u8; 32]));
    entropy.fill(&mut id).map_err(no_randomness)?;
    entropy.fill(key.as_mut_slice()).map_err(no_randomness)?;
    Ok((format!("local-{}", &*hex(&id)), key))
}

pub(super) fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Ring, Error> {
    if !path.exists() {
        let (id, key) = draw_key(entropy)?;
        let fresh = write_beside(path, &line(&id, &key), &id)?;
        // A hard link fails where the name exists: of two creators, one wins and both read it.
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh).map_err(|e| failed(path, e))?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(path, e)),
            _ => sync_folder(path)?,
        }
    }
    load(path)
}

pub(super) fn load(path: &Path) -> Result<Ring, Error> {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    refuse_if_open_to_others(&file, path)?;
    let mut text = Zeroizing::new(String::new());
    file.take(LARGEST).read_to_string(&mut text).map_err(|e| failed(path, e))?;
    parse(&text).ok_or_else(|| {
        Error::new(ErrorKind::Secret, "key_file_damaged", "read key file")
            .with_context(path.display().to_string())
            .with_hint("one key per line: an id and 64 hexadecimal digits")
    })
}

/// Writes the file anew with one more key in front, then reads it back.
pub(super) fn prepend(path: &Path, id: &str, key: &Key) -> Result<Ring, Error> {
    // X9: two processes that rotate at once keep both keys. The lock ends with the file handle.
    let turn = lock_folder(path)?;
    let before = load(path)?;
    let mut text = line(id, key);
    for id in std::iter::once(&before.current)
        .chain(before.keys.keys().filter(|id| **id != before.current))
    {
        if let Some(key) = before.keys.get(id) {
            text.push_str(&line(id, key));
        }
    }
    let fresh = write_beside(path, &text, id)?;
    fs::rename(&fresh, path).map_err(|e| failed(path, e))?;
    sync_folder(path)?;
    let ring = load(path);
    drop(turn);
    ring
}

/// A lock between processes, on the folder: the key file itself is replaced, so it cannot carry
/// one. Elsewhere than on Unix folders cannot be locked.
fn lock_folder(path: &Path) -> Result<Option<File>, Error> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(|e| failed(path, e))?;
    folder.lock().map_err(|e| failed(path, e))?;
    Ok(Some(folder))
}

fn parse(text: &str) -> Option<Ring> {
    let mut current = None;
    let mut keys = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (id, digits) = line.split_once(' ')?;
        check_id(id).ok()?;
        let key = unhex(digits.trim())?;
        if keys.insert(id.to_owned(), key).is_some() {
            return None;
        }
        current.get_or_insert_with(|| id.to_owned());
    }
    Some(Ring { current: current?, keys })
}

fn line(id: &str, key: &Key) -> Zeroizing<String> {
    let digits = hex(key.as_slice());
    let mut out = Zeroizing::new(String::with_capacity(id.len() + digits.len() + 2));
    for part in [id, " ", &digits, "\n"] {
        out.push_str(part);
    }
    out
}

fn write_beside(path: &Path, text: &str, tag: &str) -> Result<PathBuf, Error> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let fresh = path.with_file_name(format!(".{name}.{tag}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh).map_err(|e| failed(path, e))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| failed(path, e))?;
    Ok(fresh)
}

/// Makes the new name survive a power cut: a key that vanishes takes its values with it.
fn sync_folder(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed(path, e))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn refuse_if_open_to_others(file: &File, path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(|e| failed(path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::new(ErrorKind::Secret, "key_file_open", "read key file")
                .with_context(path.display().to_string())
                .with_hint("others than its owner may read it: chmod 600"));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Secret, "key_file", "use key file")
        .with_context(path.display().to_string())
        .with_source(error)
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    let mut out = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    out
}

fn unhex(text: &str) -> Option<Key> {
    let digits = Zeroizing::new(
        text.chars()
            .map(|c| c.to_digit(16).and_then(|n| u8::try_from(n).ok()))
            .collect::<Option<Vec<u8>>>()?,
    );
    let mut key = Zeroizing::new([0_u8; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (to, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *to = pair.iter().fold(0, |all, n| all << 4 | n);
    }
    Some(key)
}
