//! One connection: transactions, settings, and running one statement after the other.

use super::ResultSet;
use super::error::{SqlError, code};
use super::parse::{self, statement::Statement};
use super::run::{Env, Settings, Shared};
use super::state::{Database, Oid};
use super::{bind, ddl, dml};

/// A connection with its transaction.
#[derive(Debug)]
pub(crate) struct Session {
    db: Database,
    settings: Settings,
    role: Oid,
    now: i64,
    /// What a rollback goes back to.
    saved: (Database, Settings),
    /// True between `BEGIN` and the end of that transaction.
    explicit: bool,
}

/// What a statement works on: the database, and what lives as long as the statement.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) db: Database,
    pub(crate) shared: Shared,
}

impl Exec {
    pub(crate) fn env(&self) -> Env<'_> {
        Env::new(&self.db, &self.shared)
    }

    /// The role whose rights count.
    pub(crate) fn role(&self) -> Oid {
        self.shared.settings.borrow().role.unwrap_or(self.shared.session_role)
    }
}

impl Session {
    pub(crate) fn new(db: Database, role: Oid, now: i64) -> Self {
        let settings = Settings::default();
        let saved = (db.clone(), settings.clone());
        Self { db, settings, role, now, saved, explicit: false }
    }

    /// Runs a script; the first refusal undoes what was not committed.
    pub(crate) fn script(&mut self, sql: &str) -> Result<Vec<ResultSet>, SqlError> {
        let statements = parse::script(sql)?;
        let alone = statements.len() == 1;
        let mut results = Vec::new();
        for statement in &statements {
            match self.statement(statement, alone) {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.roll_back();
                    return Err(error);
                }
            }
        }
        Ok(results)
    }

    /// Ends the connection and gives what was committed.
    pub(crate) fn finish(mut self) -> Database {
        if self.explicit {
            self.roll_back();
        } else {
            self.commit();
        }
        self.db
    }

    fn commit(&mut self) {
        self.settings.end_transaction();
        self.saved = (self.db.clone(), self.settings.clone());
        self.explicit = false;
    }

    fn roll_back(&mut self) {
        (self.db, self.settings) = self.saved.clone();
        self.explicit = false;
    }

    fn statement(&mut self, statement: &Statement, alone: bool) -> Result<ResultSet, SqlError> {
        match statement {
            Statement::Begin { read_only } => {
                self.explicit = true;
                self.settings.read_only = read_only.unwrap_or(self.settings.read_only);
                return Ok(ResultSet::default());
            }
            Statement::Commit => {
                self.commit();
                return Ok(ResultSet::default());
            }
            Statement::Rollback => {
                self.roll_back();
                return Ok(ResultSet::default());
            }
            _ => {}
        }
        let shared = Shared::new(self.now, self.role, self.settings.clone(), self.db.drawn);
        // A refusal goes back to what was saved, so the database can be lent out whole.
        let mut exec = Exec { db: std::mem::take(&mut self.db), shared };
        let result = run(&mut exec, statement, alone)?;
        self.settings = exec.shared.settings.into_inner();
        self.db = exec.db;
        self.db.drawn = exec.shared.drawn.get();
        for (sequence, next) in exec.shared.sequences.into_inner() {
            if let Some(sequence) =
                self.db.relations.get_mut(&sequence).and_then(|relation| relation.sequence.as_mut())
            {
                sequence.next = next;
            }
        }
        if alone && !self.explicit {
            self.commit();
        }
        Ok(result)
    }
}

fn run(exec: &mut Exec, statement: &Statement, alone: bool) -> Result<ResultSet, SqlError> {
    match statement {
        Statement::Query(query) => {
            let env = exec.env();
            let (plan, uses) = bind::query(&env, query)?;
            dml::read(&env, &plan, &uses)
        }
        Statement::Set(variable) => {
            let local = variable.local;
            let value = variable.value.as_deref();
            exec.shared.settings.borrow_mut().set(&variable.name, value, local)?;
            Ok(ResultSet::default())
        }
        Statement::SetTransaction { read_only } => {
            let mut settings = exec.shared.settings.borrow_mut();
            settings.read_only = read_only.unwrap_or(settings.read_only);
            Ok(ResultSet::default())
        }
        Statement::SetRole { role, local } => set_role(exec, role.as_deref(), *local),
        Statement::Show(name) => show(exec, name),
        other => {
            if exec.shared.settings.borrow().read_only {
                let text =
                    format!("cannot execute {} in a read-only transaction", ddl::word(other));
                return Err(SqlError::new(code::READ_ONLY, text));
            }
            match other {
                Statement::Insert(insert) => dml::insert::run(exec, insert),
                Statement::Update(update) => dml::change::update(exec, update),
                Statement::Delete(delete) => dml::change::delete(exec, delete),
                Statement::Truncate(tables) => dml::truncate(exec, tables),
                other => ddl::run(exec, other, alone).map(|()| ResultSet::default()),
            }
        }
    }
}

fn set_role(exec: &mut Exec, role: Option<&str>, local: bool) -> Result<ResultSet, SqlError> {
    let role = match role {
        None => None,
        Some(name) => {
            let role = exec
                .db
                .role_oid(name)
                .map_err(|error| SqlError::new(code::INVALID_PARAMETER, error.message))?;
            if !exec.db.is_member(exec.shared.session_role, role) {
                let text = format!("permission denied to set role \"{name}\"");
                return Err(SqlError::new(code::INSUFFICIENT_PRIVILEGE, text));
            }
            Some(role)
        }
    };
    exec.shared.settings.borrow_mut().set_role(role, local);
    Ok(ResultSet::default())
}

fn show(exec: &Exec, name: &str) -> Result<ResultSet, SqlError> {
    let value = match name {
        "role" => match exec.shared.settings.borrow().role {
            Some(role) => exec.db.role(role)?.name.clone(),
            None => "none".to_owned(),
        },
        name => exec.shared.settings.borrow().get(name).ok_or_else(|| {
            let text = format!("unrecognized configuration parameter \"{name}\"");
            SqlError::new(code::UNDEFINED_OBJECT, text)
        })?,
    };
    Ok(ResultSet { columns: vec![name.to_owned()], rows: vec![vec![value.into()]] })
}
