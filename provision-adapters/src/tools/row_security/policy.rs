//! Whether a policy opens rows to an anonymous request.
//!
//! A condition is read from its text (see [`super::condition`]); what is left are expressions about
//! the reader alone. The database evaluates those, as the anonymous role.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Answer, Budget, Database, Executor, Trouble,
    catalog::{Command, Policy, Seen, text},
    condition::{Body, Judgement, Known, Leaf, Must, Proof, proof, without_comments},
    finding::{Finding, Rule},
    names::{Openings, Relation, quote_literal},
    probe::NO_RIGHT,
    scope::{Asker, Filter, Question},
};

/// By what an expression reads a setting.
const READS_SETTING: &str = "current_setting";
/// Most settings of one expression that are tried in every mixture; one that reads more is unclear.
const SETTINGS_MAX: usize = 4;
/// The class of SQLSTATEs for values that cannot be read or computed with.
const BAD_VALUE: &str = "22";

/// One condition that decides about anonymous requests, and what it would open.
struct Condition<'a> {
    policy: &'a Policy,
    expression: &'a str,
    rules: Vec<Rule>,
}

pub(super) async fn evaluate<E: Executor>(
    database: &Database<'_, E>,
    seen: &Seen,
    openings: &Openings,
    budget: &mut Budget,
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let conditions = read(seen, openings);
    let leaves: Vec<&Leaf> = conditions.iter().flat_map(|(_, proof)| proof.leaves()).collect();
    let mut answers = ask(database, leaves, &[], budget).await?;
    ask_with_empty_settings(database, seen, &mut answers, budget).await?;
    let leaf = |leaf: &Leaf| answers.get(leaf).copied().unwrap_or(Judgement::Unclear);
    let findings = |(condition, proof): &(Condition<'_>, Proof)| match proof.judge(&leaf) {
        Judgement::Closed => Vec::new(),
        Judgement::Open => findings_of(condition),
        Judgement::Unclear => vec![Finding::new(subject(condition), Rule::PolicyUnclear)],
    };
    Ok(conditions.iter().flat_map(findings).collect())
}

/// Reads every condition that decides about anonymous requests.
fn read<'a>(seen: &'a Seen, openings: &Openings) -> Vec<(Condition<'a>, Proof)> {
    // A relation that was looked at and is not opened shows no row, or is a finding of its own.
    let closed = |name: &Relation| {
        !openings.reads(name) && seen.relations.iter().any(|relation| relation.name == *name)
    };
    let known = Known { bodies: &seen.bodies, closed: &closed };
    let conditions = seen.policies.iter().flat_map(|policy| conditions(policy, openings));
    conditions
        .map(|condition| {
            let proof = proof(&known, condition.expression);
            (condition, proof)
        })
        .collect()
}

/// Asks the database for each leaf once, with these settings empty.
async fn ask<'l, E: Executor>(
    database: &Database<'_, E>,
    mut leaves: Vec<&'l Leaf>,
    emptied: &[String],
    budget: &mut Budget,
) -> Result<BTreeMap<&'l Leaf, Judgement>, Trouble<E::Error>> {
    leaves.sort_unstable();
    leaves.dedup();
    let mut answers = BTreeMap::new();
    let mut groups = vec![leaves.as_slice()];
    while let Some(group) = groups.pop().filter(|group| !group.is_empty()) {
        budget.spend(1)?;
        match (run(database, group, (Asker::Anonymous, emptied)).await?, group) {
            (Evaluated::All(judgements), _) => {
                answers.extend(group.iter().copied().zip(judgements))
            }
            (Evaluated::Refused(sqlstate), [leaf]) => {
                let judgement = refused(database, (leaf, emptied), &sqlstate, budget).await?;
                answers.insert(leaf, judgement);
            }
            // One expression that raises an error hides the others: look for it by halves.
            (Evaluated::Refused(_), _) => {
                let (left, right) = group.split_at(group.len() / 2);
                groups.extend([left, right]);
            }
        }
    }
    Ok(answers)
}

/// Asks again with settings empty that a policy or a function reads: one that was set for an earlier
/// transaction of the same connection is empty after it, and not missing. Which ones were is by chance,
/// so what an expression reads is tried in every mixture.
async fn ask_with_empty_settings<'l, E: Executor>(
    database: &Database<'_, E>,
    seen: &Seen,
    answers: &mut BTreeMap<&'l Leaf, Judgement>,
    budget: &mut Budget,
) -> Result<(), Trouble<E::Error>> {
    let closed: Vec<&'l Leaf> = closed(answers).collect();
    let mut all = BTreeSet::new();
    let mut mixtures: BTreeMap<Vec<String>, Vec<&'l Leaf>> = BTreeMap::new();
    // What an operator or a cast calls is named nowhere: all that anybody reads is tried at once.
    all.extend(seen.bodies.iter().flat_map(|body| settings(&body.source).named));
    for leaf in &closed {
        let read = settings_read(leaf, seen).map(|mut names| {
            names.retain(|name| !database.scope.is_always_set(name));
            names
        });
        let Some(read) = read.filter(|names| names.len() <= SETTINGS_MAX) else {
            answers.insert(leaf, Judgement::Unclear);
            continue;
        };
        for emptied in mixtures_of(&read) {
            mixtures.entry(emptied).or_default().push(leaf);
        }
        all.extend(read);
    }
    all.retain(|name| !database.scope.is_always_set(name));
    if !all.is_empty() {
        mixtures.insert(all.into_iter().collect(), closed);
    }
    for (emptied, leaves) in mixtures {
        // What was found open, or unclear, stays so.
        let leaves =
            leaves.into_iter().filter(|leaf| answers.get(leaf) == Some(&Judgement::Closed));
        let asked = ask(database, leaves.collect(), &emptied, budget).await?;
        answers.extend(asked);
    }
    Ok(())
}

fn closed<'a, 'l>(
    answers: &'a BTreeMap<&'l Leaf, Judgement>,
) -> impl Iterator<Item = &'l Leaf> + use<'a, 'l> {
    answers.iter().filter(|(_, judgement)| **judgement == Judgement::Closed).map(|(leaf, _)| *leaf)
}

/// The settings that an expression reads, by itself and in the functions whose names stand in it;
/// `None` where the name of one is put together.
fn settings_read(leaf: &Leaf, seen: &Seen) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut texts = vec![leaf.expression.as_str()];
    let mut unread: Vec<&Body> = seen.bodies.iter().collect();
    while let Some(text) = texts.pop() {
        let read = settings(text);
        if read.others {
            return None;
        }
        names.extend(read.named);
        let lower = text.to_lowercase();
        unread.retain(|body| {
            let called = calls(text, &body.name.name) || calls(&lower, &body.name.name);
            if called {
                texts.push(&body.source);
            }
            !called
        });
    }
    Some(names)
}

/// Whether a function of this name is called, of whatever schema.
fn calls(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let after = text.get(at + name.len()..).unwrap_or_default();
        after.strip_prefix('"').unwrap_or(after).trim_start().starts_with('(')
    })
}

/// Every selection of these names that has at least one.
fn mixtures_of(names: &BTreeSet<String>) -> Vec<Vec<String>> {
    let mut mixtures = vec![Vec::new()];
    for name in names {
        let with = mixtures.iter().map(|mixture: &Vec<String>| {
            mixture.iter().chain([name]).cloned().collect::<Vec<String>>()
        });
        let with: Vec<Vec<String>> = with.collect();
        mixtures.extend(with);
    }
    mixtures.split_off(1)
}

/// The settings that an expression reads, but for the server's own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    /// Those whose names stand in it.
    named: BTreeSet<String>,
    /// Whether it reads one whose name is not a plain text.
    others: bool,
}

/// Finds where an expression reads settings. A comment reads none.
fn settings(expression: &str) -> Settings {
    let text = without_comments(expression).unwrap_or_else(|| expression.to_owned());
    let text = text.to_ascii_lowercase();
    let mut read = Settings::default();
    for (at, found) in text.match_indices(READS_SETTING) {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + found.len()..).unwrap_or_default();
        let after = after.strip_prefix('"').unwrap_or(after).trim_start();
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        // A longer name is another function, and a column of this name is no call.
        let column = after.is_empty() || after.starts_with([',', ';', ')']);
        if before.is_some_and(word) || after.starts_with(word) || column {
            continue;
        }
        match setting_named(after) {
            Some(name) if name.contains('.') => drop(read.named.insert(name.to_owned())),
            Some(_) => {}
            None => read.others = true,
        }
    }
    read
}

/// The name in `('app.user', ..)` or `('app.user'::text, ..)`.
fn setting_named(arguments: &str) -> Option<&str> {
    let name = arguments.strip_prefix('(')?.trim_start().strip_prefix('\'')?;
    let (name, rest) = name.split_once('\'')?;
    let rest = rest.strip_prefix("::text").unwrap_or(rest).trim_start();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    (rest.starts_with([',', ')']) && name.chars().all(plain)).then_some(name)
}

/// Judges an expression that was refused as the anonymous role. That role may not be allowed to
/// name what the expression names, such as a function in a closed schema; the policy reaches it
/// all the same, since its names were looked up when it was made. So it is asked once more, with
/// the names that its author found.
async fn refused<E: Executor>(
    database: &Database<'_, E>,
    (leaf, emptied): (&Leaf, &[String]),
    sqlstate: &str,
    budget: &mut Budget,
) -> Result<Judgement, Trouble<E::Error>> {
    // Most often a number or an id is read from the empty text, which every such request refuses.
    if !emptied.is_empty() && sqlstate.starts_with(BAD_VALUE) {
        return Ok(Judgement::Closed);
    }
    // X11: only a missing right says something of every request. A time-out, an error that the
    // condition raises, or a statement that is not understood say nothing.
    if sqlstate != NO_RIGHT || (leaf.names_the_role && !database.scope.is_guarded()) {
        return Ok(Judgement::Unclear);
    }
    budget.spend(1)?;
    Ok(match run(database, &[leaf], (Asker::Author, emptied)).await? {
        Evaluated::All(judgements) => judgements.first().copied().unwrap_or(Judgement::Unclear),
        Evaluated::Refused(sqlstate) if sqlstate == NO_RIGHT => Judgement::Closed,
        Evaluated::Refused(sqlstate) if !emptied.is_empty() && sqlstate.starts_with(BAD_VALUE) => {
            Judgement::Closed
        }
        Evaluated::Refused(_) => Judgement::Unclear,
    })
}

fn subject(condition: &Condition<'_>) -> String {
    format!("{}/{}", condition.policy.table, condition.policy.name)
}

fn findings_of(condition: &Condition<'_>) -> Vec<Finding> {
    condition.rules.iter().map(|rule| Finding::new(subject(condition), *rule)).collect()
}

/// The conditions of one policy, with what each of them would open. A missing condition opens
/// nothing: the server reads it as false.
fn conditions<'a>(policy: &'a Policy, openings: &Openings) -> Vec<Condition<'a>> {
    let (mut shows, mut takes) = (Vec::new(), Vec::new());
    if matches!(policy.command, Command::All | Command::Select) && !openings.reads(&policy.table) {
        shows.push(Rule::PolicyShowsAll);
    }
    if matches!(policy.command, Command::All | Command::Change) {
        shows.push(Rule::PolicyChangesAll);
    }
    if matches!(policy.command, Command::All | Command::Insert) && !openings.inserts(&policy.table)
    {
        takes.push(Rule::PolicyTakesAll);
    }
    // Without a condition of its own for new rows, a policy for everything uses the one it has.
    let for_new = match (policy.command, &policy.takes) {
        (Command::All, None) => &policy.shows,
        (_, takes) => takes,
    };
    [(&policy.shows, shows), (for_new, takes)]
        .into_iter()
        .filter(|(_, rules)| !rules.is_empty())
        .filter_map(|(expression, rules)| {
            Some(Condition { policy, expression: expression.as_deref()?, rules })
        })
        .collect()
}

/// What came of evaluating leaves.
enum Evaluated {
    /// A judgement of each.
    All(Vec<Judgement>),
    /// At least one was refused, with this SQLSTATE.
    Refused(String),
}

/// Evaluates all leaves in one statement.
async fn run<E: Executor>(
    database: &Database<'_, E>,
    leaves: &[&Leaf],
    (asker, emptied): (Asker, &[String]),
) -> Result<Evaluated, Trouble<E::Error>> {
    let statements: Vec<String> =
        leaves.iter().enumerate().map(|(place, leaf)| statement(place, leaf)).collect();
    let select = statements.join("\nunion all\n");
    let columns = &["place", "holds"];
    let question = Question { asker, filter: Filter::On, select: &select, columns, emptied };
    let rows = match database.ask(&question).await.map_err(Trouble::Executor)? {
        Answer::Refused { sqlstate } => return Ok(Evaluated::Refused(sqlstate)),
        Answer::Rows(rows) => rows,
    };
    let mut held = BTreeMap::new();
    for row in &rows {
        let place = text(row, "place").and_then(|place| place.parse::<usize>().ok());
        held.extend(place.zip(text(row, "holds")));
    }
    // A leaf without an answer would pass for closed.
    let judgement = |(place, leaf): (usize, &&Leaf)| match (*held.get(&place)?, leaf.must) {
        ("true" | "t", _) => Some(Judgement::Closed),
        ("false" | "f", Must::NotBeTrue) => Some(Judgement::Open),
        ("false" | "f", Must::BeNull) => Some(Judgement::Unclear),
        _ => None,
    };
    let judgements: Option<Vec<Judgement>> = leaves.iter().enumerate().map(judgement).collect();
    judgements.map(Evaluated::All).ok_or(Trouble::Unreadable { question: "policy conditions" })
}

fn statement(place: usize, leaf: &Leaf) -> String {
    let place = quote_literal(&place.to_string());
    let must = match leaf.must {
        Must::BeNull => "is null",
        Must::NotBeTrue => "is not true",
    };
    format!("select {place}::text as place, (({}) {must})::text as holds", leaf.expression)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Settings, mixtures_of, settings};

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    // covers: X11
    #[test]
    fn settings_are_read_by_plain_names_or_not_at_all() {
        for (expression, read) in [
            ("(current_setting('app.user'::text, true))::uuid", &["app.user"][..]),
            ("pg_catalog.current_setting( 'App.User' ,true)", &["app.user"]),
            ("\"current_setting\"('a.b') || current_setting('c.d')", &["a.b", "c.d"]),
            ("current_setting('role') = 'x'", &[]),
            ("private.current_settings(x) = my_current_setting(y)", &[]),
            ("auth.uid()", &[]),
            ("current_setting /* here */ ('app.user')", &["app.user"]),
            ("-- current_setting() is read\nselect current_setting('a.b') -- it's text", &["a.b"]),
            ("select current_setting('a.b'::text, true) as current_setting;", &["a.b"]),
        ] {
            let read = Settings { named: names(read), others: false };
            assert_eq!(settings(expression), read, "{expression}");
        }
        for expression in [
            "current_setting(('app.'::text || 'user'::text), true)",
            "current_setting('app.' || $1)",
            "current_setting($1, true)",
            "current_setting(E'app.user')",
            "current_setting('app.user'::public.name)",
            "current_setting('a''b.c')",
            "begin execute $a$ select current_setting /* here */ ('app.user') $a$; end",
        ] {
            let read = Settings { named: names(&[]), others: true };
            assert_eq!(settings(expression), read, "{expression}");
        }
        // One whose name is not known hides none of the others.
        let read = settings("current_setting($1) || current_setting('app.user')");
        assert_eq!(read, Settings { named: names(&["app.user"]), others: true });
    }

    #[test]
    fn every_mixture_is_tried_once() {
        assert!(mixtures_of(&names(&[])).is_empty());
        let all = mixtures_of(&names(&["a", "b", "c"]));
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), different.len()), (7, 7), "{all:?}");
    }
}
