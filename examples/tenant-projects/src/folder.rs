//! What tells a data folder from all others: its keys, its services and its runs belong together,
//! and the database may have those of several.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use example_command::exit::Trouble;
use provision_core::{
    draw::{SystemEntropy, uuid_v4},
    store::RunHead,
};
use sqlx::{PgPool, query, query_as};
use uuid::Uuid;

use crate::tables::unread;

/// File with the folder's token.
const TOKEN: &str = "token";

/// A data folder. Its token goes with it wherever it is moved to.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    queue: String,
}

impl Folder {
    /// Reads the token of a folder, and draws it where there is none. The caller holds the lock of
    /// the folder's services.
    ///
    /// # Errors
    /// The folder cannot be used, or its token is none.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let unusable = |error: io::Error| {
            let message = format!("the token of {} cannot be used: {error}", path.display());
            Trouble::unavailable("data_dir", message, "choose another --data-dir")
        };
        let file = path.join(TOKEN);
        let token = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(io::Error::other).map_err(unusable)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                draw(&file)?.map_err(unusable)?
            }
            Err(error) => return Err(unusable(error)),
        };
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, queue: format!("projects/{}", token.simple()) })
    }

    /// Whether commands have worked in a folder: it has a token.
    #[must_use]
    pub fn is_begun(path: &Path) -> bool {
        path.join(TOKEN).is_file()
    }

    /// The queue of the runs whose keys and services are here.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Notes in the database where this folder is, for those who look for it elsewhere.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn note(&self, pool: &PgPool) -> Result<(), Trouble> {
        let note = "INSERT INTO tenants.folders (queue, path) VALUES ($1, $2)
            ON CONFLICT (queue) DO UPDATE SET path = excluded.path
            WHERE folders.path <> excluded.path";
        let note = query(note).bind(&self.queue).bind(self.path.display().to_string());
        note.execute(pool).await.map(drop).map_err(unread)
    }

    /// Refuses a run of another folder: nobody here could drive it.
    ///
    /// # Errors
    /// Code `other_folder`, with the name of that folder.
    pub async fn owns(&self, pool: &PgPool, run: &RunHead) -> Result<(), Trouble> {
        if run.queue == self.queue {
            return Ok(());
        }
        let path = "SELECT path FROM tenants.folders WHERE queue = $1";
        let path: Option<(String,)> =
            query_as(path).bind(&run.queue).fetch_optional(pool).await.map_err(unread)?;
        let path = path.map_or_else(|| "that is not known".to_owned(), |(path,)| path);
        let token = run.queue.rsplit('/').next().unwrap_or_default();
        let message =
            format!("run {} belongs to another data folder: {path}, token {token}", run.id);
        let hint = format!(
            "give that folder as --data-dir; where it is gone for good, write its token into the \
             file `{TOKEN}` of a new one, which then goes on without its keys and services"
        );
        Err(Trouble::usage("other_folder", message, hint))
    }
}

/// Draws a token, and keeps it: whole, or not at all.
fn draw(file: &Path) -> Result<io::Result<Uuid>, Trouble> {
    let token = uuid_v4(&SystemEntropy)
        .map_err(|error| Trouble::unavailable("no_randomness", error.to_string(), "try again"))?;
    let kept = || {
        let whole = file.with_extension("new");
        let mut new = File::create(&whole)?;
        new.write_all(token.to_string().as_bytes())?;
        new.sync_all()?;
        fs::rename(whole, file)?;
        Ok(token)
    };
    Ok(kept())
}
