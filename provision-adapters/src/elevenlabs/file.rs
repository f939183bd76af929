//! Audio in a folder: one file for each object, and one beside it for its receipt.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use provision_core::{OwnerMark, StepContext, StepError};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt,
};

use super::sink::{AudioSink, AudioUpload, Receipt, Stored, objection};

const RECEIPT: &str = ".receipt.json";
const PART: &str = ".part-";
const PROBE: &str = ".probe";
const BEGIN: &str = "begin to store audio";

/// Numbers the uploads of this process: an attempt that is repeated keeps its own number.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

/// Stores audio in a folder of this machine.
///
/// A file is written beside its place, synced, and linked there when it is complete; a crash leaves
/// the whole object or none. The file system has to know hard links: they are what replaces
/// nothing, and without them an upload is refused before anything is paid. Names that end in
/// `.receipt.json` or contain `.part-` are its own. A file without a receipt, or of another size
/// than its receipt says, is somebody else's.
///
/// Of runs that store under one name at the same time the first one to come with its receipt has
/// the name, until it has stored its object or its step is undone; the others fail. Of the
/// attempts of one step the one that began last has it.
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

/// A file that is being written, and one for its receipt.
///
/// Both have their names from the beginning until a later attempt of the step begins, or the step
/// is undone: what has lost them can be linked nowhere any more.
#[derive(Debug)]
pub struct FileUpload {
    file: File,
    receipt: File,
    part: PathBuf,
    target: PathBuf,
}

impl Drop for FileUpload {
    fn drop(&mut self) {
        // Also when the attempt is cut; what a crash leaves is removed by the next upload.
        for end in [RECEIPT, PROBE, ""] {
            let _ = std::fs::remove_file(with_end(&self.part, end));
        }
    }
}

impl AudioSink for FileSink {
    type Upload = FileUpload;

    async fn stored(&self, _: &StepContext, object: &str) -> Result<Option<Stored>, StepError> {
        let path = self.path(object)?;
        let bytes = match fs::metadata(&path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble("look at stored audio", error)),
            Ok(there) => there.len(),
        };
        let text = match fs::read(with_end(&path, RECEIPT)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Stored::Other)),
            Err(error) => return Err(trouble("look at stored audio", error)),
            Ok(text) => text,
        };
        // S11: a crash may have left the receipt alone, and somebody put a file beside it since.
        let receipt = serde_json::from_slice::<Receipt>(&text).ok();
        let receipt = receipt.filter(|receipt| receipt.made.bytes == bytes);
        Ok(Some(receipt.map_or(Stored::Other, Stored::Audio)))
    }

    async fn begin(&self, cx: &StepContext, object: &str) -> Result<FileUpload, StepError> {
        let target = self.path(object)?;
        let prepare = async {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).await?;
            }
            // Before anything is paid.
            own_receipt(&with_end(&target, RECEIPT), &cx.mark()).await?;
            remove_parts(&target, &cx.mark()).await?;
            // One for each upload: two that overlap never write into the same file.
            let (key, attempt) = (cx.idempotency_key(), cx.attempt());
            let upload = UPLOADS.fetch_add(1, Ordering::Relaxed);
            let part = format!("{}{key}-{attempt}-{upload}", parts_of(&cx.mark()));
            let part = with_end(&target, &part);
            let file = File::create(&part).await?;
            let receipt = File::create(with_end(&part, RECEIPT)).await?;
            Ok(FileUpload { file, receipt, part, target: target.clone() })
        };
        let upload: FileUpload = prepare.await.map_err(|error| trouble(BEGIN, error))?;
        can_link(&upload.part).await?;
        Ok(upload)
    }

    async fn finish(&self, _: &StepContext, _: &str, _: &Receipt) -> Result<(), StepError> {
        Err(StepError::permanent("store audio").with_code("nothing_spooled"))
    }

    async fn remove(&self, cx: &StepContext, object: &str) -> Result<(), StepError> {
        let path = self.path(object)?;
        let remove = async {
            // First: an attempt that is still under way stores nothing from here on.
            remove_parts(&path, &cx.mark()).await?;
            let place = with_end(&path, RECEIPT);
            match own_receipt(&place, &cx.mark()).await {
                Ok(Some(receipt)) => {
                    // S11: of another size it is somebody's who came after a crash.
                    if length(&path).await? == Some(receipt.made.bytes) {
                        gone(fs::remove_file(&path).await)?;
                    }
                    gone(fs::remove_file(place).await)
                }
                // S11: a receipt goes after its object, so an object without one is not ours.
                Ok(None) => Ok(()),
                // S11: a receipt of another run is that run's, with its object and without.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
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
            let text = serde_json::to_vec(receipt)?;
            self.receipt.write_all(&text).await?;
            self.receipt.flush().await?;
            self.receipt.sync_all().await?;
            if fs::try_exists(&self.target).await? {
                return Err(ErrorKind::AlreadyExists.into());
            }
            // The receipt first: without the object it claims the name, and the object never
            // stands without it.
            let claimed = with_end(&self.target, RECEIPT);
            claim(&with_end(&self.part, RECEIPT), &claimed, &receipt.mark).await?;
            if let Err(error) = fs::hard_link(&self.part, &self.target).await {
                // S11: what stands there instead is nobody's audio, and gets no receipt of ours.
                // Where the part is gone a later attempt has begun, and the name is that one's.
                let ours = error.kind() != ErrorKind::NotFound;
                if ours && fs::read(&claimed).await.is_ok_and(|there| there == text) {
                    gone(fs::remove_file(claimed).await)?;
                }
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
///
/// Of a stale attempt it replaces nothing: `fresh` is gone since a later one has begun.
async fn claim(fresh: &Path, place: &Path, mark: &OwnerMark) -> io::Result<()> {
    match fs::hard_link(fresh, place).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            own_receipt(place, mark).await?;
            // Of an attempt of this step that did not come to its object.
            fs::rename(fresh, place).await
        }
        Err(error) => Err(error),
    }
}

/// The receipt of this run and step that is there, if one is; another run's is an error.
async fn own_receipt(place: &Path, mark: &OwnerMark) -> io::Result<Option<Receipt>> {
    let text = match fs::read(place).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match serde_json::from_slice::<Receipt>(&text) {
        Ok(receipt) if receipt.mark == *mark => Ok(Some(receipt)),
        _ => Err(ErrorKind::AlreadyExists.into()),
    }
}

/// How long the file is that is there, if one is.
async fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other?.len())),
    }
}

/// Tries a hard link, without which nothing could be stored after it is paid.
async fn can_link(part: &Path) -> Result<(), StepError> {
    let probe = with_end(part, PROBE);
    let tried = match fs::hard_link(part, &probe).await {
        Ok(()) => gone(fs::remove_file(&probe).await),
        Err(error) => Err(error),
    };
    tried.map_err(|error| match error.kind() {
        // A later attempt has begun, or there is no room: that passes.
        ErrorKind::NotFound | ErrorKind::StorageFull => trouble(BEGIN, error),
        _ => StepError::permanent(BEGIN)
            .with_code("no_hard_links")
            .with_message("the file system of the folder takes no hard links")
            .with_hint("keep the audio in a folder on a file system that knows hard links")
            .with_source(error),
    })
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
