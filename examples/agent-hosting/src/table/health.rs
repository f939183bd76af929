//! What was heard of agents. Each is asked at every beat; one that has missed [`MISSED_MAX`] of them
//! in a row is not well.

use example_command::exit::Trouble;
use provision_core::{RunId, Timestamp};
use rusqlite::Transaction;

use super::{Table, mails::put, millis};
use crate::mails;

/// Beats that are missed in a row before an agent counts as not well.
pub const MISSED_MAX: u32 = 2;

/// What was heard of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The last beat at which it has answered; none if it never has.
    pub seen_at: Option<Timestamp>,
    /// Beats it has missed since.
    pub missed: u32,
}

impl Heard {
    /// Whether it counts as well: one missed beat is no alarm.
    #[must_use]
    pub fn is_well(self) -> bool {
        self.missed < MISSED_MAX
    }
}

/// How an agent that was asked has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its subscription.
    pub subscription: String,
    /// The run that has made its machine: of another machine nothing is said.
    pub run: RunId,
    /// Whether it said in time that it is well.
    pub answered: bool,
}

impl Table {
    /// Writes what was heard at a beat, and with it the mail to this address about agents that count
    /// as not well from now on; answers their subscriptions. Written again for the same beat, it
    /// counts nothing and tells nothing again.
    ///
    /// # Errors
    /// The store is away.
    pub async fn note_heard(
        &self,
        beat: Timestamp,
        asked: Vec<Asked>,
        to: &str,
    ) -> Result<Vec<String>, Trouble> {
        let (beat, to) = (millis(beat), to.to_owned());
        let noted = self.0.execute_host(move |tx| {
            asked.iter().try_for_each(|one| note(tx, beat, one))?;
            let silent = silent(tx)?;
            let (Some(mail), Some(first)) = (mails::silent(&to, &silent), silent.first()) else {
                return Ok(silent);
            };
            let mail = serde_json::to_string(&mail)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            // Nobody begins to be silent twice at one beat.
            put(tx, &format!("silent:{beat}:{first}"), &mail)?;
            Ok(silent)
        });
        Ok(noted.await?)
    }
}

/// Those that are not well and of whom nothing was told; from now on it was.
fn silent(tx: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let silent = "select s.id from subscriptions s
        join health h on h.subscription = s.id and h.run = s.run
        where s.state = 'running' and h.missed >= ?1 and h.told = 0 order by s.id";
    let mut query = tx.prepare_cached(silent)?;
    let ids = query.query_map([MISSED_MAX], |row| row.get(0))?;
    let ids = ids.collect::<Result<Vec<String>, _>>()?;
    let told = "update health set told = 1 where subscription = ?1";
    ids.iter().try_for_each(|id| tx.execute(told, [id]).map(drop))?;
    Ok(ids)
}

/// A machine that was stopped or removed meanwhile has missed nothing.
fn note(tx: &Transaction<'_>, beat: i64, asked: &Asked) -> rusqlite::Result<()> {
    let note = "insert into health (subscription, run, seen_at, asked_at, missed)
        select id, run, iif(?3, ?4, null), ?4, iif(?3, 0, 1) from subscriptions
            where id = ?1 and run = ?2 and state = 'running'
        on conflict (subscription) do update set
            missed = case when ?3 then 0 when run <> excluded.run then 1
                when excluded.asked_at > asked_at then missed + 1 else missed end,
            seen_at = case when ?3 then excluded.asked_at when run <> excluded.run then null
                else seen_at end,
            told = case when ?3 or run <> excluded.run then 0 else told end,
            run = excluded.run, asked_at = excluded.asked_at
            where excluded.asked_at >= asked_at";
    let run = asked.run.to_string();
    tx.execute(note, (&asked.subscription, run, asked.answered, beat)).map(drop)
}
