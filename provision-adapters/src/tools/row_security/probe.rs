//! Reads as the anonymous role itself.
//!
//! A fresh database has no rows, so counting them proves little. With `row_security = off` the
//! server refuses a query that row-level security would have filtered, whether there are rows or
//! not: a read that goes through in that mode went around the policies.

use super::{
    Answer, Budget, Database, Executor, Trouble,
    catalog::{Function, Kind, Relation, Seen, text},
    finding::{Finding, Rule},
    names::{Openings, quote_literal},
    scope::{Asker, Filter, Question},
};

/// Looks whether the executor may ask as the anonymous role at all: where it may not, every question
/// is refused, and would pass for one that is closed to that role.
pub(super) async fn may_ask<E: Executor>(
    database: &Database<'_, E>,
) -> Result<(), Trouble<E::Error>> {
    let select = "select 'asked'::text as said";
    match read_as(database, Filter::On, (select, &["said"])).await? {
        Answer::Rows(_) => Ok(()),
        Answer::Refused { sqlstate } => Err(Trouble::Refused { question: "ask as anon", sqlstate }),
    }
}

pub(super) async fn read<E: Executor>(
    database: &Database<'_, E>,
    seen: &Seen,
    openings: &Openings,
    budget: &mut Budget,
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let relations: Vec<_> =
        seen.relations.iter().filter(|r| r.anon.selects && !openings.reads(&r.name)).collect();
    let functions: Vec<_> = seen
        .functions
        .iter()
        .filter(|f| f.callable_bare && f.returns_set && !openings.calls(&f.name))
        .collect();
    let views = relations.iter().filter(|r| r.kind == Kind::View).count();
    budget.spend(relations.len() + views + functions.len())?;
    let mut findings = Vec::new();
    for relation in &relations {
        if unfiltered(database, relation).await? {
            findings.push(Finding::new(relation.name.to_string(), Rule::ReadUnfiltered));
        }
    }
    findings.extend(rows(database, &relations).await?);
    for function in functions {
        findings.extend(call(database, function).await?);
    }
    Ok(findings)
}

/// Whether a read goes through although row-level security was told to refuse what it filters.
async fn unfiltered<E: Executor>(
    database: &Database<'_, E>,
    relation: &Relation,
) -> Result<bool, Trouble<E::Error>> {
    let answer = read_as(database, Filter::Refuse, (&count(relation), &["name", "shown"])).await?;
    refused_or("read as anon", &answer).map(|rows| rows.is_some())
}

/// Relations that show a row. Tables are read together; a view can be refused for what lies
/// under it, and would hide the others, so each is read alone.
async fn rows<E: Executor>(
    database: &Database<'_, E>,
    relations: &[&Relation],
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let (views, tables): (Vec<&Relation>, Vec<&Relation>) =
        relations.iter().copied().partition(|relation| relation.kind == Kind::View);
    let mut groups: Vec<&[&Relation]> = views.chunks(1).collect();
    groups.extend((!tables.is_empty()).then_some(tables.as_slice()));
    let mut findings = Vec::new();
    for group in groups {
        let selects: Vec<String> = group.iter().map(|relation| count(relation)).collect();
        let select = selects.join("\nunion all\n");
        let answer = read_as(database, Filter::On, (&select, &["name", "shown"])).await?;
        let Some(rows) = refused_or("rows as anon", &answer)? else { continue };
        if rows.len() != group.len() {
            return Err(Trouble::Unreadable { question: "rows as anon" });
        }
        for row in rows {
            let (Some(name), Some(count)) = (text(row, "name"), text(row, "shown")) else {
                return Err(Trouble::Unreadable { question: "rows as anon" });
            };
            if count != "0" {
                findings.push(Finding::new(name, Rule::ReadRows));
            }
        }
    }
    Ok(findings)
}

/// Calls a function that needs no arguments; rows it gives past row-level security are a finding.
async fn call<E: Executor>(
    database: &Database<'_, E>,
    function: &Function,
) -> Result<Option<Finding>, Trouble<E::Error>> {
    let select = format!(
        "select count(*)::text as shown from (select 1 from {}() limit 1) as probe",
        function.name.quoted()
    );
    let answer = read_as(database, Filter::Refuse, (&select, &["shown"])).await?;
    let Some(rows) = refused_or("call as anon", &answer)? else { return Ok(None) };
    let gave = rows.iter().any(|row| text(row, "shown").is_some_and(|count| count != "0"));
    let subject = format!("{}({})", function.name, function.arguments);
    Ok((gave || function.definer).then(|| Finding::new(subject, Rule::FunctionRows)))
}

/// Reads as the anonymous role.
async fn read_as<E: Executor>(
    database: &Database<'_, E>,
    filter: Filter,
    (select, columns): (&str, &[&str]),
) -> Result<Answer, Trouble<E::Error>> {
    let asker = Asker::Anonymous;
    let question = Question { asker, filter, select, columns, emptied: &[] };
    database.ask(&question).await.map_err(Trouble::Executor)
}

fn count(relation: &Relation) -> String {
    format!(
        "select {}::text as name, count(*)::text as shown from (select 1 from {} limit 1) as probe",
        quote_literal(&relation.name.to_string()),
        relation.name.quoted()
    )
}

/// The SQLSTATE of a missing right, which row-level security gives as well. No other refusal proves
/// anything: a time-out or an error that was raised may not come for the next request.
pub(super) const NO_RIGHT: &str = "42501";

/// The rows, or none where the right to read them is missing; every other refusal is trouble.
fn refused_or<'a, E>(
    question: &'static str,
    answer: &'a Answer,
) -> Result<Option<&'a [super::Row]>, Trouble<E>> {
    match answer {
        Answer::Rows(rows) => Ok(Some(rows)),
        Answer::Refused { sqlstate } if sqlstate == NO_RIGHT => Ok(None),
        Answer::Refused { sqlstate } => {
            Err(Trouble::Refused { question, sqlstate: sqlstate.clone() })
        }
    }
}
