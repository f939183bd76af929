//! The files of the project, read once.

use std::path::{Path, PathBuf};

use crate::Outcome;

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 4] = ["target", ".git", ".provision", "node_modules"];
/// Endings of the files whose text is looked at.
const READ: [&str; 8] = ["rs", "md", "toml", "sql", "lua", "sh", "yml", "json"];
/// Larger files are recorded data, not text that a person wrote.
const BYTES_MAX: u64 = 1 << 20;

/// One text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Its lines, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    pub(crate) fn is(&self, ending: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == ending)
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// All text files, sorted by path.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<Source>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Outcome<Self> {
        let mut files = Vec::new();
        walk(root, root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root: root.to_owned(), files })
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn under<'t>(&'t self, folder: &'t str) -> impl Iterator<Item = &'t Source> {
        self.files.iter().filter(move |file| file.path.starts_with(folder))
    }

    /// Whether a file or folder is there, read or not.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<Source>) -> Outcome {
    let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let kind = entry.file_type().map_err(broken)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_ref()) {
                walk(root, &path, files)?;
            }
        } else if is_read(&name, &path) && entry.metadata().map_err(broken)?.len() <= BYTES_MAX {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path);
            files.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
    Ok(())
}

fn is_read(name: &str, path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    READ.contains(&ending) || path.ends_with(".ci/run") || name.starts_with("LICENSE")
}
