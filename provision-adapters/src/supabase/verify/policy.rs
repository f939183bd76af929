//! Whether a policy opens rows to an anonymous request.
//!
//! A policy counts as open when its condition does not ask who is there, or when it holds for an
//! anonymous request on a row that has nothing but nulls: what is true there is true without
//! looking at the row. The database evaluates the condition itself, as the anonymous role.

use super::{
    Answer, Budget, Executor, Trouble,
    catalog::{Command, Policy, Seen, text},
    finding::{Finding, Rule},
    names::{Openings, Relation, quote_identifier, quote_literal},
    probe::{Asker, Filter, preamble},
};

/// One condition that decides about anonymous requests, and what it would open.
struct Condition<'a> {
    policy: &'a Policy,
    expression: &'a str,
    rules: Vec<Rule>,
}

/// One expression over one table, and all conditions that are written so.
struct Question<'a> {
    table: &'a Relation,
    expression: &'a str,
    conditions: Vec<Condition<'a>>,
}

pub(super) async fn evaluate<E: Executor>(
    executor: &E,
    seen: &Seen,
    openings: &Openings,
    budget: &mut Budget,
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let (open, asking): (Vec<_>, Vec<_>) = seen
        .policies
        .iter()
        .flat_map(|policy| conditions(policy, openings))
        .partition(|condition| !asks_who(condition.expression));
    let mut findings: Vec<Finding> = open.iter().flat_map(findings_of).collect();
    let questions = questions(asking);
    let mut groups = vec![questions.as_slice()];
    while let Some(group) = groups.pop() {
        budget.spend(1)?;
        match (run(executor, seen, group, Asker::Anonymous).await?, group) {
            (Evaluated::Opens(opens), _) => findings.extend(opens),
            (Evaluated::Refused(sqlstate), [question]) => {
                findings.extend(refused(executor, seen, question, sqlstate, budget).await?);
            }
            // One expression that raises an error hides the others: look for it by halves.
            (Evaluated::Refused(_), _) => {
                let (left, right) = group.split_at(group.len() / 2);
                groups.extend([left, right]);
            }
        }
    }
    Ok(findings)
}

fn questions(conditions: Vec<Condition<'_>>) -> Vec<Question<'_>> {
    let mut questions: Vec<Question<'_>> = Vec::new();
    for condition in conditions {
        let (table, expression) = (&condition.policy.table, condition.expression);
        match questions.iter_mut().find(|q| q.table == table && q.expression == expression) {
            Some(question) => question.conditions.push(condition),
            None => questions.push(Question { table, expression, conditions: vec![condition] }),
        }
    }
    questions
}

/// Judges an expression that was refused as the anonymous role. That role may not be allowed to
/// name what the expression names, such as a function in a closed schema; the policy reaches it
/// all the same, since its names were looked up when it was made. The owner asks in its stead.
async fn refused<E: Executor>(
    executor: &E,
    seen: &Seen,
    question: &Question<'_>,
    sqlstate: String,
    budget: &mut Budget,
) -> Result<Vec<Finding>, Trouble<E::Error>> {
    let mut evaluated = Evaluated::Refused(sqlstate);
    if matches!(&evaluated, Evaluated::Refused(state) if state == "42501") {
        budget.spend(1)?;
        evaluated = run(executor, seen, std::slice::from_ref(question), Asker::Owner).await?;
    }
    Ok(match evaluated {
        Evaluated::Opens(opens) => opens,
        Evaluated::Refused(state) if unclear(&state) => question
            .conditions
            .iter()
            .map(|condition| Finding::new(subject(condition), Rule::PolicyUnclear))
            .collect(),
        // The condition raised an error, as it will for every anonymous request.
        Evaluated::Refused(_) => Vec::new(),
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

/// What came of evaluating expressions.
enum Evaluated {
    /// What those open that hold.
    Opens(Vec<Finding>),
    /// At least one was refused.
    Refused(String),
}

/// Evaluates all questions in one statement.
async fn run<E: Executor>(
    executor: &E,
    seen: &Seen,
    questions: &[Question<'_>],
    asker: Asker,
) -> Result<Evaluated, Trouble<E::Error>> {
    const QUESTION: &str = "policy conditions";
    if questions.is_empty() {
        return Ok(Evaluated::Opens(Vec::new()));
    }
    let statements: Vec<String> = questions
        .iter()
        .enumerate()
        .map(|(place, question)| statement(place, question, seen))
        .collect();
    let batch = format!("{}{}", preamble(asker, Filter::On), statements.join("\nunion all\n"));
    let rows = match executor.run(batch).await.map_err(Trouble::Executor)? {
        Answer::Refused { sqlstate } => return Ok(Evaluated::Refused(sqlstate)),
        Answer::Rows(rows) => rows,
    };
    let mut findings = Vec::new();
    for row in &rows {
        let place = text(row, "place").and_then(|place| place.parse::<usize>().ok());
        let question = place.and_then(|place| questions.get(place));
        match (question, text(row, "opens")) {
            (Some(question), Some("true" | "t")) => {
                findings.extend(question.conditions.iter().flat_map(findings_of));
            }
            (Some(_), Some(_)) => {}
            _ => return Err(Trouble::Unreadable { question: QUESTION }),
        }
    }
    // A condition without an answer would pass for closed.
    if rows.len() == questions.len() {
        return Ok(Evaluated::Opens(findings));
    }
    Err(Trouble::Unreadable { question: QUESTION })
}

/// Whether a refusal says that the statement was not understood, rather than that the condition
/// refused: only 42501 (no right) of its class is the condition's own.
fn unclear(sqlstate: &str) -> bool {
    sqlstate.starts_with("0A") || (sqlstate.starts_with("42") && sqlstate != "42501")
}

fn statement(place: usize, question: &Question<'_>, seen: &Seen) -> String {
    let nulls = null_row(question.table, seen);
    let alias = quote_identifier(&question.table.name);
    let place = quote_literal(&place.to_string());
    let expression = question.expression;
    format!(
        "select {place}::text as place, coalesce(({expression}), false)::text as opens\n\
         from (select {nulls}) as {alias}"
    )
}

/// A row of the table in which every column is null.
fn null_row(table: &Relation, seen: &Seen) -> String {
    let columns: Vec<String> = seen
        .columns
        .iter()
        .filter(|column| column.table == *table)
        .map(|column| format!("null::{} as {}", column.kind, quote_identifier(&column.name)))
        .collect();
    columns.join(", ")
}

/// Whether a condition, as the server prints it with an empty search path, asks who is there.
///
/// It does when it names the session's user or settings, looks into another table, or calls a
/// function that is not the server's own (those come with their schema, as `auth.uid()` does).
fn asks_who(expression: &str) -> bool {
    let bare = without_literals(expression).to_ascii_lowercase();
    let words = ["current_user", "session_user", "current_role", "current_setting(", "select "];
    words.iter().any(|word| bare.contains(word)) || calls_foreign_function(&bare)
}

/// Whether `schema.function(` stands in the text.
fn calls_foreign_function(text: &str) -> bool {
    text.match_indices('(').any(|(end, _)| {
        let before = text.get(..end).unwrap_or_default();
        let name = before.trim_end_matches(|c: char| c.is_alphanumeric() || "_$\"".contains(c));
        name.len() < before.len() && name.ends_with('.')
    })
}

/// The text with its quoted literals emptied.
fn without_literals(text: &str) -> String {
    text.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

#[cfg(test)]
mod tests {
    use super::{asks_who, unclear};

    // covers: X11
    #[test]
    fn a_condition_asks_who_is_there_or_is_open() {
        let cases = [
            ("true", false),
            ("(1 = 1)", false),
            ("(id IS NOT NULL)", false),
            ("published", false),
            ("(lower(kind) = 'auth.uid()'::text)", false),
            ("((title)::text <> 'select one'::text)", false),
            ("(auth.uid() = owner)", true),
            ("(owner = (CURRENT_USER)::text)", true),
            ("((current_setting('request.headers'::text, true))::json ->> 'k') = token", true),
            ("(EXISTS ( SELECT 1 FROM public.members m WHERE m.org = posts.org))", true),
            ("public.is_member(org)", true),
            ("\"App\".\"isMember\"(org)", true),
        ];
        for (expression, expected) in cases {
            assert_eq!(asks_who(expression), expected, "{expression}");
        }
    }

    #[test]
    fn only_a_refusal_of_our_own_statement_is_unclear() {
        for (sqlstate, expected) in
            [("42501", false), ("P0001", false), ("22012", false), ("42883", true), ("0A000", true)]
        {
            assert_eq!(unclear(sqlstate), expected, "{sqlstate}");
        }
    }
}
