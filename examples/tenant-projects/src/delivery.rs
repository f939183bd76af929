//! Shows the keys of a project to whoever asked for it: each once. A key that was taken from where
//! it was sealed and reached nobody is lost: it is revoked, and another one takes its place.

use example_command::exit::Trouble;
use provision_core::{RunId, Secret, SecretRef, secret::SecretKey};
use serde::{Serialize, Serializer};
use sqlx::{Postgres, Transaction, query, query_as};
use uuid::Uuid;

use crate::{
    host::Host,
    keys::{PATH, Purpose},
    saga::{REPLACE, Replacement},
    tables::unread,
};

/// One command hands over at a time: what another one is about to show is not taken for lost.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('tenant-projects/delivery'))";
/// Keys that are lost one after the other, in one command.
const LOSSES_MAX: usize = 3;

/// A key in the open. It is shown where this is written as JSON, and nowhere else.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The project.
    pub project: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// Its id.
    pub id: String,
    /// The key.
    pub key: Secret,
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = [("purpose", self.purpose.as_str()), ("key", self.key.expose())];
        serializer.collect_map(fields)
    }
}

/// Keys that are about to be shown. Until [`Delivery::shown`] is called they count as lost.
#[derive(Debug)]
pub struct Delivery {
    tx: Transaction<'static, Postgres>,
    /// The keys.
    pub keys: Vec<Shown>,
}

impl Delivery {
    /// Takes every key of these projects that nobody has seen.
    ///
    /// # Errors
    /// The database cannot be read, or a key cannot be replaced.
    pub async fn of(host: &Host, projects: &[Uuid]) -> Result<Self, Trouble> {
        let mut tx = host.pool().begin().await.map_err(unread)?;
        query(ONE_AT_A_TIME).execute(&mut *tx).await.map_err(unread)?;
        let mut keys = Vec::new();
        for project in projects {
            for purpose in Purpose::ALL {
                keys.extend(unseen(host, *project, purpose).await?);
            }
        }
        Ok(Self { tx, keys })
    }

    /// Says that they were shown.
    ///
    /// # Errors
    /// The database cannot be written: they count as lost, and are replaced the next time.
    pub async fn shown(mut self) -> Result<(), Trouble> {
        let ids: Vec<String> = self.keys.into_iter().map(|shown| shown.id).collect();
        let mark = "UPDATE tenants.api_keys SET shown_at = now() WHERE id = ANY($1)";
        query(mark).bind(ids).execute(&mut *self.tx).await.map_err(unread)?;
        self.tx.commit().await.map_err(unread)
    }
}

/// The key of a purpose that nobody has seen; `None` where it was shown.
async fn unseen(host: &Host, project: Uuid, purpose: Purpose) -> Result<Option<Shown>, Trouble> {
    for _ in 0..LOSSES_MAX {
        let row = "SELECT id, run, generation FROM tenants.api_keys
            WHERE project = $1 AND purpose = $2 AND revoked_at IS NULL AND shown_at IS NULL";
        let row = query_as(row).bind(project).bind(purpose.as_str());
        let row: Option<(String, Uuid, i64)> =
            row.fetch_optional(host.pool()).await.map_err(unread)?;
        let Some((id, run, generation)) = row else { return Ok(None) };
        let run = RunId::from_uuid(run);
        let place = SecretRef::sealed(&SecretKey {
            scope: run.to_string(),
            generation: u32::try_from(generation).unwrap_or_default(),
            name: purpose.as_str().to_owned(),
            path: PATH.to_owned(),
        });
        match host.engine.reveal_once(&run, &place).await {
            Ok(key) => return Ok(Some(Shown { project, purpose, id, key })),
            Err(error) if error.code() == "secret_gone" => {
                replace(host, project, purpose, &id).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let message = format!("the {} key was lost again and again", purpose.as_str());
    Err(Trouble::unavailable("key_lost", message, "type the command again"))
}

/// Has a lost key replaced. Whoever asks for the same one again gets the same run.
async fn replace(host: &Host, project: Uuid, purpose: Purpose, lost: &str) -> Result<(), Trouble> {
    let wanted = Replacement { project, purpose };
    let start = host.engine.start(REPLACE, &wanted).key(format!("replace/{lost}"));
    let run = start.tenant(project.to_string()).queue(host.queue()).await?;
    let worker = host.worker();
    let replaced = run.output().await;
    worker.stop().await;
    Ok(replaced.map(drop)?)
}
