//! Shows the keys of projects to whoever asked for them: each once. A key that was taken from where
//! it was sealed, and of which nobody said that it was shown, is lost: it is revoked, and another
//! one takes its place.
//!
//! One command hands over at a time: the host holds the lock of its data folder, and keys of other
//! folders are sealed elsewhere. So what is about to be shown is not taken for lost.

use std::sync::Arc;

use async_trait::async_trait;
use example_command::{
    drive::{Driver, Order, Subject},
    exit::{Exit, Trouble},
    progress::Screen,
    signals::interrupted,
};
use provision_core::{
    RunId, RunStatus, Secret, SecretRef, api_key::ApiKey, secret::SecretKey, store::RunHead,
};
use serde::Serialize;
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::{
    host::Host,
    input::Project,
    keys::{PATH, Purpose},
    saga::{REPLACE, Replacement},
    tables::unread,
};

/// Keys that are lost one after the other, in one command.
const LOSSES_MAX: usize = 3;
/// What says that a value cannot be had any more: it was erased, or the keys that it was sealed
/// with are gone.
const LOST: [&str; 2] = ["secret_gone", "secret_unopenable"];

/// A valid key that nobody is known to have seen, as the tables have it.
#[derive(Debug)]
struct Unseen {
    id: String,
    purpose: Purpose,
    run: RunId,
    generation: u32,
}

/// A key as programs read it.
#[derive(Serialize)]
struct ClearKey<'a> {
    project: &'a str,
    purpose: Purpose,
    id: &'a str,
    /// Keys that somebody may have, and that open nothing any more.
    replaces: &'a [String],
    key: &'a str,
}

/// Hands keys over, one at a time: taken, shown, and marked as shown before the next one is
/// touched.
#[derive(Debug)]
pub struct Delivery<'a> {
    host: &'a Arc<Host>,
    screen: &'a Screen,
    json: bool,
}

impl<'a> Delivery<'a> {
    /// Hands over on stdout; with `json` each key is a line of its own with one JSON object.
    #[must_use]
    pub fn new(host: &'a Arc<Host>, screen: &'a Screen, json: bool) -> Self {
        Self { host, screen, json }
    }

    /// Shows every key of these projects that nobody is known to have seen. Ends between two keys
    /// where it is interrupted; what is left is shown the next time.
    ///
    /// # Errors
    /// Code `not_shown`: stdout takes no more; a key that was taken counts as lost, and is replaced
    /// the next time. Or the database cannot be read or written.
    pub async fn all(&self, projects: &[Project]) -> Result<Exit, Trouble> {
        let (stopped, stop) = interrupted();
        let mut worst = Exit::Done;
        for project in projects {
            for purpose in Purpose::ALL {
                if *stop.borrow() {
                    self.screen.line("interrupted: the other keys are shown the next time");
                    return Ok(worst.or_worse(Exit::Cancelled));
                }
                worst = worst.or_worse(self.one(project, purpose).await?);
            }
        }
        drop(stopped);
        Ok(worst)
    }

    /// Shows one key, after having it replaced as often as it was lost.
    async fn one(&self, project: &Project, purpose: Purpose) -> Result<Exit, Trouble> {
        for _ in 0..LOSSES_MAX {
            let Some(unseen) = self.unseen(project, purpose).await? else { return Ok(Exit::Done) };
            if self.shown(project, &unseen).await? {
                return Ok(Exit::Done);
            }
            let replaced = self.replace(project, &unseen).await?;
            if replaced != Exit::Done {
                return Ok(replaced);
            }
        }
        let message =
            format!("the {} key of `{}` was lost again and again", purpose.as_str(), project.slug);
        Err(Trouble::unavailable("key_lost", message, "type the command again"))
    }

    async fn unseen(&self, project: &Project, purpose: Purpose) -> Result<Option<Unseen>, Trouble> {
        let row = "SELECT id, run, generation FROM tenants.api_keys
            WHERE project = $1 AND purpose = $2 AND revoked_at IS NULL AND shown_at IS NULL";
        let row = query_as(row).bind(project.id).bind(purpose.as_str());
        let row: Option<(String, Uuid, i64)> =
            row.fetch_optional(self.host.pool()).await.map_err(unread)?;
        Ok(row.map(|(id, run, generation)| Unseen {
            id,
            purpose,
            run: RunId::from_uuid(run),
            generation: u32::try_from(generation).unwrap_or_default(),
        }))
    }

    /// Takes a key, shows it, and says so; false where it is lost.
    async fn shown(&self, project: &Project, unseen: &Unseen) -> Result<bool, Trouble> {
        // A command that died while it had the key replaced leaves a run that has to end first.
        if !self.host.engine.run(&unseen.run).await?.status.is_end() {
            return Ok(false);
        }
        let replaces = self.replaced(project, unseen).await?;
        if !self.json {
            // Before the key is touched: where nobody reads this, nothing is lost.
            self.screen.deliver(heading(project, unseen, &replaces))?;
        }
        let Some(key) = self.take(unseen).await? else { return Ok(false) };
        let key = key.expose();
        if self.json {
            let (project, purpose, id) = (&*project.slug, unseen.purpose, &*unseen.id);
            let line = ClearKey { project, purpose, id, replaces: &replaces, key };
            let line = serde_json::to_string(&line);
            let line = line.map_err(|error| Trouble::bug("json", error.to_string()))?;
            self.screen.deliver(line)?;
        } else {
            self.screen.deliver(key)?;
        }
        let mark = "UPDATE tenants.api_keys SET shown_at = now() WHERE id = $1";
        let mark = query(mark).bind(&unseen.id).execute(self.host.pool());
        mark.await.map_err(unread)?;
        Ok(true)
    }

    /// Keys of the same purpose that somebody may have seen without having said so.
    async fn replaced(&self, project: &Project, by: &Unseen) -> Result<Vec<String>, Trouble> {
        let rows = "SELECT id FROM tenants.api_keys WHERE project = $1 AND purpose = $2
            AND id <> $3 AND taken_at IS NOT NULL ORDER BY drawn_at";
        let rows = query_as(rows).bind(project.id).bind(by.purpose.as_str()).bind(&by.id);
        let rows: Vec<(String,)> = rows.fetch_all(self.host.pool()).await.map_err(unread)?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The key itself, which is erased where it was; `None` where it is lost.
    async fn take(&self, unseen: &Unseen) -> Result<Option<Secret>, Trouble> {
        let mark = "UPDATE tenants.api_keys SET taken_at = now() WHERE id = $1";
        let mark = query(mark).bind(&unseen.id).execute(self.host.pool());
        mark.await.map_err(unread)?;
        let place = SecretRef::sealed(&SecretKey {
            scope: unseen.run.to_string(),
            generation: unseen.generation,
            name: unseen.purpose.as_str().to_owned(),
            path: PATH.to_owned(),
        });
        match self.host.engine.reveal_once(&unseen.run, &place).await {
            // What the row has no hash of would open nothing.
            Ok(key) => {
                let id = ApiKey::id_of(unseen.purpose.prefix(), key.expose());
                Ok((id == Some(&*unseen.id)).then_some(key))
            }
            Err(error) if LOST.contains(&error.code()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has a lost key replaced, by the run that is doing so already where there is one. It is shown
    /// like every other run, and may be interrupted.
    async fn replace(&self, project: &Project, lost: &Unseen) -> Result<Exit, Trouble> {
        let replacing = Replacing {
            host: Arc::clone(self.host),
            id: format!("{}/{}", project.slug, lost.purpose.as_str()),
            wanted: Replacement { project: project.id, purpose: lost.purpose },
            lost: lost.id.clone(),
        };
        let worker = self.host.worker();
        let subjects: Vec<Arc<dyn Subject>> = vec![Arc::new(replacing)];
        let driver = Driver::new(&self.host.engine, self.screen).with_labels(true);
        let runs = driver.drive(worker, subjects, Order::Run, &**self.host).await?;
        let Some(run) = runs.first() else { return Ok(Exit::Cancelled) };
        let head = self.host.engine.run(run).await?;
        if head.status == RunStatus::Succeeded {
            return Ok(Exit::Done);
        }
        if let Some(failure) = &head.summary.failure {
            self.screen.line(format!("the key was not replaced: {failure}"));
        }
        Ok(Exit::of(head.status, head.summary.failure.is_some()))
    }
}

fn heading(project: &Project, key: &Unseen, replaces: &[String]) -> String {
    let instead = match replaces {
        [] => String::new(),
        [one] => format!(" in place of {one}, which opens nothing any more,"),
        all => format!(" in place of {}, which open nothing any more,", all.join(", ")),
    };
    let Unseen { id, purpose, .. } = key;
    let purpose = purpose.as_str();
    format!("{purpose} key {id} of project `{}`,{instead} shown this once:", project.slug)
}

/// A lost key that is to be replaced.
struct Replacing {
    host: Arc<Host>,
    id: String,
    wanted: Replacement,
    lost: String,
}

impl Replacing {
    /// Held by the one run that replaces it, until that has ended in whatever way.
    fn guard(&self) -> String {
        format!("replace/{}/{}", self.wanted.project, self.wanted.purpose.as_str())
    }
}

#[async_trait]
impl Subject for Replacing {
    fn id(&self) -> &str {
        &self.id
    }

    async fn current(&self) -> Result<Option<RunHead>, Trouble> {
        self.host.holding(self.guard()).await
    }

    async fn begin(&self) -> Result<(RunId, String), Trouble> {
        let start = self.host.engine.start(REPLACE, &self.wanted);
        let start = start.unique_while_running(self.guard());
        let start = start.tenant(self.wanted.project.to_string()).queue(self.host.queue());
        let run = *start.await?.id();
        Ok((run, format!("key {} is lost: run {run} replaces it", self.lost)))
    }

    async fn newest(&self) -> Result<RunHead, Trouble> {
        let message = "a replacement is never torn down";
        self.current().await?.ok_or_else(|| Trouble::bug("replacement", message))
    }
}
