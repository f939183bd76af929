//! What is kept of a workspace beside its state: that an apply has begun, and a state that could
//! not be saved.
//!
//! Terraform's state names what an apply has made only once it is written down. An apply that is
//! killed before that has made what no state names, and a second one would make it again. So an
//! apply is noted before it begins, and the note goes when the apply has come to its own end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{OUTPUT_BYTES_MAX, model::Line};
use crate::tools::folder::is_used;

/// What Terraform calls a state that its backend did not take; it writes it where it runs.
const ERRORED_FILE: &str = "errored.tfstate";
/// Ends of the names of what is kept.
const BEGUN: &str = "applying";
const UNSAVED: &str = "errored.tfstate";

/// What is kept of one workspace.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Folder of what is kept.
    pub(crate) folder: PathBuf,
    /// Folder of the folders of commands.
    pub(crate) work: PathBuf,
    pub(crate) workspace: String,
    /// Where commands run, inside of the folder of a command.
    pub(crate) module: PathBuf,
}

/// How the last apply of a workspace stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has come to its end, and so has the state.
    Settled,
    /// It is still at its work.
    Going,
    /// It was killed: it may have made what the state does not name.
    Cut,
    /// It made what the state does not name; a file does.
    Unsaved,
}

impl Kept {
    /// Whether the note of a begun apply says that it works in a folder.
    pub(crate) fn is_noted(folder: &Path, scratch: &str) -> bool {
        let Some((workspace, _)) = scratch.rsplit_once('.') else { return false };
        let noted = fs::read_to_string(folder.join(format!("{workspace}.{BEGUN}")));
        noted.is_ok_and(|noted| noted == scratch)
    }

    /// Name of the note of a begun apply.
    pub(crate) fn note(&self) -> String {
        format!("{}.{BEGUN}", self.workspace)
    }

    /// Name of a state that could not be saved.
    pub(crate) fn unsaved(&self) -> String {
        format!("{}.{UNSAVED}", self.workspace)
    }

    /// How the last apply stands. Removes the note of one that has come to its end.
    pub(crate) fn standing(&self, outputs: &[&str]) -> io::Result<Standing> {
        if self.folder.join(self.unsaved()).exists() {
            return Ok(Standing::Unsaved);
        }
        let scratch = match fs::read_to_string(self.folder.join(self.note())) {
            Ok(scratch) => self.work.join(scratch),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Settled),
            Err(error) => return Err(error),
        };
        if is_used(&scratch) {
            return Ok(Standing::Going);
        }
        if self.rescue(&scratch)? {
            return Ok(Standing::Unsaved);
        }
        if !scratch.is_dir() {
            // The folder went with the machine's memory.
            return Ok(Standing::Cut);
        }
        for output in outputs {
            if let Some(said) = end_of(&scratch.join(output))?
                && !tells_its_end(&said)
            {
                return Ok(Standing::Cut);
            }
        }
        self.settle()?;
        // What cannot be removed is swept by the next command.
        let _ = fs::remove_dir_all(&scratch);
        Ok(Standing::Settled)
    }

    /// Notes that an apply begins; `false` if another one has.
    pub(crate) fn begin(&self, scratch: &str) -> io::Result<bool> {
        fs::create_dir_all(&self.folder)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        let mut file = match file.open(self.folder.join(self.note())) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            opened => opened?,
        };
        file.write_all(scratch.as_bytes())?;
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        Ok(true)
    }

    /// Removes the note of an apply that has come to its end, or never began.
    pub(crate) fn settle(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(self.note())) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes over a state that could not be saved; `false` if there is none.
    pub(crate) fn rescue(&self, scratch: &Path) -> io::Result<bool> {
        let from = scratch.join(&self.module).join(ERRORED_FILE);
        let bytes = match fs::read(&from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(self.folder.join(self.unsaved()))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        self.settle()?;
        fs::remove_file(from)?;
        Ok(true)
    }
}

/// The last bytes of a file, if it is there.
fn end_of(file: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let most = u64::try_from(OUTPUT_BYTES_MAX).unwrap_or(u64::MAX);
    let begin = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(begin))?;
    let mut said = Vec::new();
    file.take(most).read_to_end(&mut said)?;
    Ok(Some(said))
}

/// Whether an apply says of itself that it is over: both lines are written after the state is.
pub(crate) fn tells_its_end(said: &[u8]) -> bool {
    let lines = said.split(|byte| *byte == b'\n');
    let mut lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    lines.any(|line| {
        let summed_up = line.changes.is_some_and(|changes| changes.operation != "plan");
        summed_up || line.diagnostic.is_some_and(|diagnostic| diagnostic.severity == "error")
    })
}

#[cfg(test)]
mod tests {
    use super::tells_its_end;

    // covers: S9
    #[test]
    fn an_apply_is_over_when_it_has_summed_up_or_complained() {
        let summary = |operation: &str| {
            format!(
                r#"{{"type":"change_summary","changes":{{"add":1,"operation":"{operation}"}}}}"#
            )
        };
        assert!(tells_its_end(summary("apply").as_bytes()));
        assert!(tells_its_end(summary("destroy").as_bytes()));
        let complaint = r#"{"diagnostic":{"severity":"error","summary":"x"}}"#;
        assert!(tells_its_end(format!("{{}}\n{complaint}\n").as_bytes()));
        let warning = r#"{"diagnostic":{"severity":"warning","summary":"x"}}"#;
        for said in ["", "text", warning, &summary("plan"), r#"{"type":"apply_complete"}"#] {
            assert!(!tells_its_end(said.as_bytes()), "{said}");
        }
    }
}
