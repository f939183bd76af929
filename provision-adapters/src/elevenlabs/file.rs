//! Audio in a folder: one file for each object, and one beside it for its receipt.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use provision_core::{OwnerMark, StepContext, StepError};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt,
};

use super::sink::{AudioSink, AudioUpload, Receipt, Stored, objection};

const RECEIPT: &str = ".receipt.json";
const PART: &str = ".part-";

/// Stores audio in a folder of this machine.
///
/// A file is written beside its place, synced, and linked there when it is complete; a crash leaves
/// the whole object or none. The file system has to know hard links: they are what replaces
/// nothing. Names that end in `.receipt.json` or contain `.part-` are its own.
///
/// Of runs that store under one name at the same time the first one to come with its receipt has
/// the name, until it has stored its object or its step is undone; the others fail.
#[derive(Debug, Clone)]
pub struct FileSink {
    root: PathBuf,
}

impl FileSink {
    /// Stores under this folder, which is made when it is needed.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where the object of this name is or would be.
    ///
    /// # Errors
    /// The name leads out of the folder, or is none.
    pub fn path(&self, object: &str) -> Result<PathBuf, StepError> {
        let reserved = object.ends_with(RECEIPT) || object.contains(PART);
        match objection(object) {
            None if !reserved => Ok(self.root.join(object)),
            _ => Err(StepError::permanent("store audio").with_code("invalid_object")),
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct FileUpload {
    file: File,
    part: PathBuf,
    target: PathBuf,
}

impl Drop for FileUpload {
    fn drop(&mut self) {
        // Also when the attempt is cut; what a crash leaves is removed by the next upload.
        let _ = std::fs::remove_file(with_end(&self.part, RECEIPT));
        let _ = std::fs::remove_file(&self.part);
    }
}

impl AudioSink for FileSink {
    type Upload = FileUpload;

    async fn stored(&self, _: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        let path = self.path(object)?;
        match fs::metadata(&path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble("look at stored audio", error)),
            Ok(_) => {}
        }
        let text = match fs::read(with_end(&path, RECEIPT)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Stored::Other)),
            Err(error) => return Err(trouble("look at stored audio", error)),
            Ok(text) => text,
        };
        let receipt = serde_json::from_slice(&text).ok();
        Ok(Some(receipt.map_or(Stored::Other, Stored::Audio)))
    }

    async fn begin(&self, cx: &StepContext, object: &str) -> Result<FileUpload, StepError> {
        let target = self.path(object)?;
        let prepare = async {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).await?;
            }
            // Before anything is paid.
            claimable(&with_end(&target, RECEIPT), &cx.mark()).await?;
            remove_parts(&target, &cx.mark()).await?;
            // One for each attempt: two that overlap never write into the same file.
            let part = format!("{}{}-{}", parts_of(&cx.mark()), cx.idempotency_key(), cx.attempt());
            let part = with_end(&target, &part);
            let file = File::create(&part).await?;
            Ok(FileUpload { file, part, target: target.clone() })
        };
        prepare.await.map_err(|error| trouble("begin to store audio", error))
    }

    async fn remove(&self, cx: &StepContext, object: &str) -> Result<(), StepError> {
        let path = self.path(object)?;
        let remove = async {
            let receipt = with_end(&path, RECEIPT);
            match claimable(&receipt, &cx.mark()).await {
                Ok(()) => {
                    gone(fs::remove_file(&path).await)?;
                    gone(fs::remove_file(receipt).await)?;
                }
                // S11: a receipt of another run is that run's, with its object and without.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            remove_parts(&path, &cx.mark()).await
        };
        remove.await.map_err(|error| trouble("remove stored audio", error))
    }
}

impl AudioUpload for FileUpload {
    async fn write(&mut self, piece: &[u8]) -> Result<(), StepError> {
        self.file.write_all(piece).await.map_err(|error| trouble("store audio", error))
    }

    async fn commit(mut self, receipt: &Receipt) -> Result<(), StepError> {
        let commit = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            if fs::try_exists(&self.target).await? {
                return Err(ErrorKind::AlreadyExists.into());
            }
            // The receipt first: without the object it claims the name, and the object never
            // stands without it.
            let fresh = with_end(&self.part, RECEIPT);
            let text = serde_json::to_vec(receipt)?;
            let mut file = File::create(&fresh).await?;
            file.write_all(&text).await?;
            file.flush().await?;
            file.sync_all().await?;
            let claimed = with_end(&self.target, RECEIPT);
            claim(&fresh, &claimed, &receipt.mark).await?;
            if let Err(error) = fs::hard_link(&self.part, &self.target).await {
                // S11: what stands there instead is nobody's audio, and gets no receipt of ours.
                gone(fs::remove_file(claimed).await)?;
                return Err(error);
            }
            sync_folder(&self.target).await
        };
        commit.await.map_err(|error| trouble("store audio", error))
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Puts a receipt where it claims the name of its object, unless another run's is there.
async fn claim(fresh: &Path, place: &Path, mark: &OwnerMark) -> io::Result<()> {
    match fs::hard_link(fresh, place).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            claimable(place, mark).await?;
            // Of an attempt of this step that did not come to its object.
            fs::rename(fresh, place).await
        }
        Err(error) => Err(error),
    }
}

/// Whether no other run has this receipt.
async fn claimable(place: &Path, mark: &OwnerMark) -> io::Result<()> {
    let text = match fs::read(place).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    match serde_json::from_slice::<Receipt>(&text) {
        Ok(receipt) if receipt.mark == *mark => Ok(()),
        _ => Err(ErrorKind::AlreadyExists.into()),
    }
}

/// What the unfinished files of a run and step are called after the name of their object.
fn parts_of(mark: &OwnerMark) -> String {
    format!("{PART}{}-", mark.token())
}

/// Removes what uploads of this run and step left behind; others may be under way.
async fn remove_parts(target: &Path, mark: &OwnerMark) -> io::Result<()> {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else { return Ok(()) };
    let prefix = format!("{}{}", name.to_string_lossy(), parts_of(mark));
    let mut entries = match fs::read_dir(folder).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            gone(fs::remove_file(entry.path()).await)?;
        }
    }
    Ok(())
}

/// A rename survives a power cut only once its folder is synced.
async fn sync_folder(target: &Path) -> io::Result<()> {
    match target.parent() {
        Some(folder) => File::open(folder).await?.sync_all().await,
        None => Ok(()),
    }
}

fn gone(end: io::Result<()>) -> io::Result<()> {
    match end {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn trouble(operation: &'static str, error: io::Error) -> StepError {
    StepError::retry(operation).with_code("storage").with_source(error)
}
