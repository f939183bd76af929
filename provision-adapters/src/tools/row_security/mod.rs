//! Proves that whoever holds the anonymous key of a database reads and writes nothing that was not
//! opened by name.
//!
//! Row-level security that is switched on still lets the anonymous role read through views,
//! materialized views and functions that run with their owner's rights, so trusting a script or
//! one flag in the catalog is not enough. [`verify`] asks the catalog, evaluates every policy for
//! an anonymous request, and then reads as the anonymous role itself. It differs from the steps
//! around it in that it knows no provider: SQL goes to any [`Executor`], and what comes back is
//! judged here.

mod catalog;
mod condition;
mod finding;
mod judge;
mod names;
mod policy;
mod probe;
mod scope;
#[cfg(test)]
mod tests;
mod told;

use std::future::Future;

pub use finding::{Finding, Rule};
#[cfg(feature = "postgres-admin")]
pub(crate) use names::quote_literal;
pub use names::{Openings, Relation as RelationName, quote_identifier};
use scope::Question;
pub use scope::{PROBES_MAX, Scope};
pub use told::prove;

/// Rows of one answer: names and values in their order, every value as text.
pub type Row = Vec<(String, Option<String>)>;

/// What a database says to one batch of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The rows of the batch's only statement that has rows.
    Rows(Vec<Row>),
    /// It refused, with this SQLSTATE; the whole batch had no effect.
    Refused {
        /// Five characters.
        sqlstate: String,
    },
}

/// Sends a batch of statements as one transaction, with the rights of the database's owner; for
/// [`Scope::role`] with those that it names. A batch that says `begin` and `rollback` itself is sent
/// as it is.
pub trait Executor: Sync {
    /// What goes wrong when no answer comes.
    type Error: Send;

    /// Runs one batch.
    fn run(&self, batch: String) -> impl Future<Output = Result<Answer, Self::Error>> + Send;
}

/// Why nothing could be said about a database.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble<E> {
    /// The executor had no answer.
    Executor(E),
    /// The database refused a question about its catalog.
    Refused {
        /// Which question.
        question: &'static str,
        /// What it said.
        sqlstate: String,
    },
    /// An answer lacked a column, or had a value of another form.
    Unreadable {
        /// Which question.
        question: &'static str,
    },
    /// The anonymous role is granted so much that the scope's number of batches is not enough.
    TooMany,
}

/// An executor with the scope it is asked for.
struct Database<'a, E> {
    executor: &'a E,
    scope: &'a Scope,
}

impl<E: Executor> Database<'_, E> {
    async fn run(&self, batch: String) -> Result<Answer, E::Error> {
        self.executor.run(batch).await
    }

    /// Asks one question in the place of an anonymous request.
    async fn ask(&self, question: &Question<'_>) -> Result<Answer, E::Error> {
        self.run(self.scope.request(question)).await.map(|answer| self.scope.answer(answer))
    }
}

/// Batches that may still be sent as the anonymous role.
#[derive(Debug)]
struct Budget(usize);

impl Budget {
    fn spend<E>(&mut self, batches: usize) -> Result<(), Trouble<E>> {
        self.0 = self.0.checked_sub(batches).ok_or(Trouble::TooMany)?;
        Ok(())
    }
}

/// Looks for everything an anonymous reader could reach that `openings` does not name.
///
/// An empty answer is the proof that keys may be given out. Every batch is read-only and leaves
/// nothing behind, so a look that was cut is simply repeated.
///
/// # Errors
/// [`Trouble`]; it never means that the database is closed.
pub async fn verify<E: Executor>(
    executor: &E,
    scope: &Scope,
    openings: &Openings,
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let database = &Database { executor, scope };
    // Boxed: each of these is large, and steps hold this future within their own.
    let seen = Box::pin(catalog::look(database)).await?;
    let mut findings = judge::judge(&seen, openings);
    probe::may_ask(database).await?;
    let mut budget = Budget(scope.probes_max);
    let opened = Box::pin(policy::evaluate(database, &seen, openings, &mut budget)).await?;
    findings.extend(opened);
    findings.extend(Box::pin(probe::read(database, &seen, openings, &mut budget)).await?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}
