//! Evaluates what was bound: expressions over rows, queries over tables.

pub(crate) mod aggregate;
pub(crate) mod cast;
pub(crate) mod expr;
pub(crate) mod query;
pub(crate) mod settings;
pub(crate) mod source;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::error::{SqlError, code};
use super::state::lookup::Resolver;
use super::state::{Database, Oid};
use super::value::Value;

pub(crate) use self::settings::Settings;

/// Rows that one statement may look at.
const WORK_MAX: u64 = 2_000_000;

/// Steps down that binding and evaluating may take together; each costs some hundred bytes of stack.
const DEPTH_MAX: u32 = 120;

/// What lives as long as one statement and is seen by everything in it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Moment of the transaction, in microseconds since 1970.
    pub(crate) now: i64,
    /// Role that opened the session.
    pub(crate) session_role: Oid,
    pub(crate) settings: RefCell<Settings>,
    /// New positions of the sequences that were advanced.
    pub(crate) sequences: RefCell<BTreeMap<Oid, i64>>,
    pub(crate) drawn: Cell<u64>,
    work: Cell<u64>,
    depth: Cell<u32>,
}

impl Shared {
    pub(crate) fn new(now: i64, session_role: Oid, settings: Settings, drawn: u64) -> Self {
        Self {
            now,
            session_role,
            settings: RefCell::new(settings),
            sequences: RefCell::new(BTreeMap::new()),
            drawn: Cell::new(drawn),
            work: Cell::new(0),
            depth: Cell::new(0),
        }
    }

    /// Counts one row of work.
    pub(crate) fn work(&self) -> Result<(), SqlError> {
        let done = self.work.get().saturating_add(1);
        self.work.set(done);
        if done > WORK_MAX {
            return Err(SqlError::new(code::PROGRAM_LIMIT, "statement looks at too many rows"));
        }
        Ok(())
    }

    /// Goes one step down, and back up when the guard is dropped.
    pub(crate) fn enter(&self) -> Result<Depth<'_>, SqlError> {
        let depth = self.depth.get().saturating_add(1);
        if depth > DEPTH_MAX {
            return Err(SqlError::too_complex());
        }
        self.depth.set(depth);
        Ok(Depth(&self.depth))
    }
}

/// One step down.
#[derive(Debug)]
pub(crate) struct Depth<'a>(&'a Cell<u32>);

impl Drop for Depth<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The surroundings an expression is bound and evaluated in.
#[derive(Debug, Clone)]
pub(crate) struct Env<'a> {
    pub(crate) db: &'a Database,
    /// Role whose rights count: the current user.
    pub(crate) role: Oid,
    pub(crate) path: Vec<String>,
    /// Settings of the function being evaluated, over those of the session.
    pub(crate) config: Vec<(String, String)>,
    pub(crate) shared: &'a Shared,
    pub(crate) params: Vec<Value>,
}

impl<'a> Env<'a> {
    /// The surroundings of a statement.
    pub(crate) fn new(db: &'a Database, shared: &'a Shared) -> Self {
        let settings = shared.settings.borrow();
        let role = settings.role.unwrap_or(shared.session_role);
        let path = settings.search_path();
        Self { db, role, path, config: Vec::new(), shared, params: Vec::new() }
    }

    /// Looks names up as the current role on the current path.
    pub(crate) fn resolver(&self) -> Resolver<'_> {
        Resolver { db: self.db, role: self.role, path: &self.path, check_usage: true }
    }

    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        let own = self.config.iter().rev().find(|(key, _)| key == name);
        own.map(|(_, value)| value.clone()).or_else(|| self.shared.settings.borrow().get(name))
    }
}

/// A row with the rows of the queries around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'r> {
    pub(crate) row: &'r [Value],
    pub(crate) parent: Option<&'r Self>,
}

impl<'r> Frame<'r> {
    pub(crate) const EMPTY: Frame<'static> = Frame { row: &[], parent: None };

    pub(crate) fn value(&self, up: usize, index: usize) -> Result<Value, SqlError> {
        let mut frame = self;
        for _ in 0..up {
            frame = frame.parent.ok_or_else(|| SqlError::internal("a row is missing"))?;
        }
        frame.row.get(index).cloned().ok_or_else(|| SqlError::internal("a column is missing"))
    }
}
