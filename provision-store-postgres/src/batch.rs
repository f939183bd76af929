//! The values of many appends as columns: one array for each column of one statement.

use provision_core::store::{Append, Release};
use uuid::Uuid;

use crate::{
    append::Job,
    db::{Db, Statement},
    error::Fault,
    rows::{json, moment, signed},
};

/// The sequence number the row must have before the append; a frame's own begins with 1.
pub(crate) fn seq_before(append: &Append) -> i64 {
    signed(append.seq).saturating_sub(i64::from(append.frame.is_some()))
}

#[derive(Default)]
struct Fences {
    ns: Vec<i32>,
    run: Vec<Uuid>,
    owner: Vec<Uuid>,
    epoch: Vec<i64>,
    nonce: Vec<i64>,
    before: Vec<i64>,
    seq: Vec<i64>,
}

impl Fences {
    fn of(jobs: &[&Job]) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            let append = &job.append;
            columns.ns.push(job.ns);
            columns.run.push(*append.run.as_uuid());
            columns.owner.push(append.fence.owner.0);
            columns.epoch.push(signed(append.fence.epoch));
            columns.nonce.push(signed(append.fence.nonce));
            columns.before.push(seq_before(append));
            columns.seq.push(signed(append.seq));
        }
        columns
    }

    fn bind(self, statement: Statement) -> Statement {
        let statement = statement.bind(self.ns).bind(self.run).bind(self.owner);
        statement.bind(self.epoch).bind(self.nonce).bind(self.before).bind(self.seq)
    }
}

#[derive(Default)]
struct Changes {
    at: Vec<i64>,
    status: Vec<&'static str>,
    summary: Vec<String>,
    open: Vec<bool>,
    settled: Vec<bool>,
    consumed: Vec<i64>,
    dead_letter: Vec<bool>,
    releases: Vec<bool>,
    polls: Vec<Option<String>>,
    due: Vec<i64>,
    seen: Vec<i64>,
    wakes: Vec<bool>,
}

impl Changes {
    fn push(&mut self, append: &Append) -> Result<(), Fault> {
        self.at.push(moment(append.at));
        self.status.push(append.status.as_str());
        self.summary.push(json(&append.summary)?);
        self.open.push(append.open);
        self.settled.push(append.settled);
        self.consumed.push(signed(append.consumed));
        self.dead_letter.push(append.summary.is_dead_letter(append.status));
        self.releases.push(append.release.is_some());
        let release = append.release.as_ref();
        self.polls.push(release.map(|Release { polls, .. }| json(polls)).transpose()?);
        self.due.push(release.map_or(0, |release| moment(release.due)));
        self.seen.push(release.map_or(0, |release| signed(release.seen)));
        self.wakes.push(append.status.is_moving());
        Ok(())
    }
}

/// The statement that writes all of these: `locked` waits for nobody at all, and costs more. Most
/// runs are never asked anything, and do not pay for a look at what was asked.
pub(crate) fn appending(db: &Db, jobs: &[&Job], locked: bool) -> Result<Statement, Fault> {
    let consuming = jobs.iter().any(|job| job.append.consumed > 0);
    let text = match (locked, consuming) {
        (true, _) => &db.sql.append_locked,
        (false, true) => &db.sql.append_consuming,
        (false, false) => &db.sql.append,
    };
    let mut changes = Changes::default();
    for job in jobs {
        changes.push(&job.append)?;
    }
    let bodies: Vec<Option<&str>> = jobs.iter().map(|job| job.append.frame.as_deref()).collect();
    let statement = Fences::of(jobs).bind(db.query(text)).bind(changes.at).bind(bodies);
    let statement = statement.bind(changes.status).bind(changes.summary).bind(changes.open);
    let statement = statement.bind(changes.settled).bind(changes.consumed);
    let statement = statement.bind(changes.dead_letter).bind(changes.releases);
    let statement = statement.bind(changes.polls).bind(changes.due).bind(changes.seen);
    Ok(statement.bind(changes.wakes))
}

/// The statement that asks why these were not written.
pub(crate) fn asking_why(db: &Db, jobs: &[&Job]) -> Statement {
    let bodies: Vec<Option<&str>> = jobs.iter().map(|job| job.append.frame.as_deref()).collect();
    Fences::of(jobs).bind(db.query(&db.sql.append_why)).bind(bodies)
}
