//! One transaction under way: what every operation works with.

use std::{cell::Cell, collections::HashMap};

use provision_core::{id::Timestamp, store::SagaRef};
use rusqlite::{CachedStatement, Params, Row, Transaction};

use crate::{clock::Reading, counters::Tally, error::Fault, host::EndHandlers, rows::signed, sql};

/// Nonces are below 2^53, so that every store could keep them.
const NONCE_MASK: i64 = (1 << 53) - 1;

/// What the writer remembers between transactions. Rows it names are never deleted.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    lanes: HashMap<(i64, String, SagaRef), i64>,
    /// For each namespace, lane and priority, the tenant that is served first next time.
    pub(crate) turns: HashMap<(i64, i64, i32), String>,
}

impl Caches {
    /// Forgets what may not have been committed.
    pub(crate) fn forget(&mut self) {
        self.lanes.clear();
    }
}

/// What a transaction did, to be told once it is committed.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) stirred: bool,
    pub(crate) appends: u64,
}

/// The statements of the common step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    Fence,
    Frame,
}

/// One transaction.
pub(crate) struct Unit<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    pub(crate) now: Reading,
    pub(crate) caches: &'a mut Caches,
    pub(crate) handlers: &'a EndHandlers,
    tally: &'a Tally,
    /// Held for the transaction: to look one up in the cache costs a part of what it does.
    fence: Option<CachedStatement<'a>>,
    frame: Option<CachedStatement<'a>>,
    /// The nonce of all leases of this transaction.
    nonce: Cell<Option<i64>>,
    stirred: bool,
    appends: u64,
}

impl<'a> Unit<'a> {
    pub(crate) fn new(
        tx: &'a Transaction<'a>,
        now: Reading,
        caches: &'a mut Caches,
        tally: &'a Tally,
        handlers: &'a EndHandlers,
    ) -> Self {
        Self {
            tx,
            now,
            caches,
            handlers,
            tally,
            fence: None,
            frame: None,
            nonce: Cell::new(None),
            stirred: false,
            appends: 0,
        }
    }

    pub(crate) fn done(self) -> Done {
        Done { stirred: self.stirred, appends: self.appends }
    }

    /// The store's clock, the same for the whole transaction.
    pub(crate) fn wall(&self) -> Timestamp {
        self.now.wall
    }

    /// Notes that a run became due, so that waiting claims look again.
    pub(crate) fn stir(&mut self) {
        self.stirred = true;
    }

    /// Appends accepted so far.
    pub(crate) fn appends(&self) -> u64 {
        self.appends
    }

    pub(crate) fn count_append(&mut self) {
        self.appends = self.appends.saturating_add(1);
    }

    pub(crate) fn uncount_append(&mut self) {
        self.appends = self.appends.saturating_sub(1);
    }

    /// The nonce of a lease, from SQLite's generator, which the system seeds at each start: a file
    /// restored from a backup cannot repeat it. Drawn once for a transaction: of one run, two leases
    /// in it differ by their epochs.
    pub(crate) fn draw_nonce(&self) -> Result<i64, Fault> {
        if let Some(drawn) = self.nonce.get() {
            return Ok(drawn);
        }
        let drawn = self.first(sql::NONCE, (), |row| Ok(row.get::<_, i64>(0)?))?;
        let drawn = drawn.unwrap_or_default() & NONCE_MASK;
        self.nonce.set(Some(drawn));
        Ok(drawn)
    }

    /// A statement of the common step.
    pub(crate) fn kept(&mut self, which: Kept) -> Result<&mut CachedStatement<'a>, Fault> {
        self.tally.statement();
        let (slot, text) = match which {
            Kept::Fence => (&mut self.fence, sql::APPEND_FENCE),
            Kept::Frame => (&mut self.frame, sql::FRAME_ADD),
        };
        match slot {
            Some(statement) => Ok(statement),
            None => Ok(slot.insert(self.tx.prepare_cached(text)?)),
        }
    }

    pub(crate) fn statement(&self, text: &str) -> Result<CachedStatement<'a>, Fault> {
        self.tally.statement();
        Ok(self.tx.prepare_cached(text)?)
    }

    /// Runs a statement; the number of rows it changed.
    pub(crate) fn run(&self, text: &str, params: impl Params) -> Result<usize, Fault> {
        Ok(self.statement(text)?.execute(params)?)
    }

    /// The first row, if there is one.
    pub(crate) fn first<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut statement = self.statement(text)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    /// All rows.
    pub(crate) fn all<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.tally.statement();
        crate::rows::all(self.tx, text, params, read)
    }

    /// The lane of a queue and saga, made when it is new.
    pub(crate) fn lane(&mut self, ns: i64, queue: &str, saga: &SagaRef) -> Result<i64, Fault> {
        let key = (ns, queue.to_owned(), saga.clone());
        if let Some(lane) = self.caches.lanes.get(&key) {
            return Ok(*lane);
        }
        let values = (ns, queue, &saga.name, saga.version, &saga.fingerprint);
        self.run(sql::LANE_ADD, values)?;
        let lane = self.first(sql::LANE_FIND, values, |row| Ok(row.get(0)?))?;
        let lane = lane.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.caches.lanes.insert(key, lane);
        Ok(lane)
    }
}

/// Where a run that nobody holds belongs: 0 never due, 1 later, 2 ready.
pub(crate) fn place(due: Timestamp, now: Timestamp) -> i64 {
    match due {
        Timestamp::NEVER => 0,
        due if due <= now => 2,
        _ => 1,
    }
}

/// Milliseconds of the clock of leases, `by` later.
pub(crate) fn awake_after(now: &Reading, by: std::time::Duration) -> i64 {
    signed(now.awake_ms.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}
