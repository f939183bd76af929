//! What the catalog says, in the terms the judgement needs.

use super::{
    Answer, Database, Executor, Row, Rule, Trouble, condition::Body, names::Relation as Name,
};

/// One role whose rights matter.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) bypasses: bool,
    pub(super) anon_is_member: bool,
}

/// Kinds of relations that hold or show rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    MaterializedView,
    ForeignTable,
}

/// One relation.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) row_security: bool,
    pub(super) owner: String,
    pub(super) security_invoker: bool,
    pub(super) anon: Rights,
}

/// What the anonymous role may do with a relation, by grants alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub(super) selects: bool,
    pub(super) writes: bool,
    pub(super) truncates: bool,
}

/// What a policy is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    All,
    Select,
    Insert,
    Change,
}

/// One permissive policy that applies to the anonymous role.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) table: Name,
    pub(super) name: String,
    pub(super) command: Command,
    pub(super) shows: Option<String>,
    pub(super) takes: Option<String>,
}

/// One function the anonymous role may call.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent columns of the catalog")]
pub(super) struct Function {
    pub(super) name: Name,
    pub(super) arguments: String,
    pub(super) aggregate: bool,
    pub(super) definer: bool,
    pub(super) returns_set: bool,
    pub(super) callable_bare: bool,
}

/// Something the anonymous role reaches that holds no rows of its own.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) subject: String,
    pub(super) rule: Rule,
}

/// Everything the catalog says.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) anonymous: String,
    pub(super) roles: Vec<Role>,
    pub(super) relations: Vec<Relation>,
    pub(super) policies: Vec<Policy>,
    pub(super) bodies: Vec<Body>,
    pub(super) functions: Vec<Function>,
    pub(super) reached: Vec<Reached>,
}

/// Every question is asked read-only, and with no schema but the server's own in the path.
const PREAMBLE: &str = "set transaction read only;\nset local search_path = '';\n";

pub(super) async fn look<E: Executor>(
    database: &Database<'_, E>,
) -> Result<Seen, Trouble<E::Error>> {
    let roles: Vec<Role> = ask(database, "roles", include_str!("sql/roles.sql"), role).await?;
    // An executor that answers nothing to everything must not pass for a closed database.
    if !roles.iter().any(|role| role.name == database.scope.anonymous && role.anon_is_member) {
        return Err(Trouble::Unreadable { question: "roles" });
    }
    let relations = ask(database, "relations", include_str!("sql/relations.sql"), relation).await?;
    let all = ask(database, "policies", include_str!("sql/policies.sql"), policy).await?;
    let policies: Vec<Policy> = all
        .into_iter()
        .filter(|(_, applies_to)| applies_to.iter().any(|to| is_anonymous(to, &roles)))
        .filter_map(|(policy, _)| policy)
        .collect();
    let bodies = match policies.is_empty() {
        true => Vec::new(),
        false => ask(database, "bodies", include_str!("sql/bodies.sql"), body).await?,
    };
    let functions = callable(database).await?;
    let reached = ask(database, "reached", include_str!("sql/reached.sql"), reached).await?;
    let anonymous = database.scope.anonymous.clone();
    Ok(Seen { anonymous, roles, relations, policies, bodies, functions, reached })
}

/// What the anonymous role may call. An aggregate runs with its owner's rights where a part of it
/// does.
async fn callable<E: Executor>(
    database: &Database<'_, E>,
) -> Result<Vec<Function>, Trouble<E::Error>> {
    let sql = include_str!("sql/functions.sql");
    let mut functions = ask(database, "functions", sql, function).await?;
    if functions.iter().any(|function| function.aggregate) {
        let sql = include_str!("sql/aggregates.sql");
        let elevated = ask(database, "aggregates", sql, |row| {
            Some((name(row)?, text(row, "arguments").unwrap_or_default().to_owned()))
        })
        .await?;
        for function in functions.iter_mut().filter(|function| function.aggregate) {
            let same = |(name, arguments): &(Name, String)| {
                *name == function.name && *arguments == function.arguments
            };
            function.definer |= elevated.iter().any(same);
        }
    }
    Ok(functions)
}

/// Whether a policy for `role` holds for the anonymous role.
fn is_anonymous(role: &str, roles: &[Role]) -> bool {
    role == "public" || roles.iter().any(|known| known.anon_is_member && known.name == role)
}

async fn ask<E: Executor, T>(
    database: &Database<'_, E>,
    question: &'static str,
    sql: &str,
    read: impl Fn(&Row) -> Option<T>,
) -> Result<Vec<T>, Trouble<E::Error>> {
    match database
        .run(format!("{PREAMBLE}{}", database.scope.render(sql)))
        .await
        .map_err(Trouble::Executor)?
    {
        Answer::Refused { sqlstate } => Err(Trouble::Refused { question, sqlstate }),
        Answer::Rows(rows) => {
            let read: Option<Vec<T>> = rows.iter().map(read).collect();
            read.ok_or(Trouble::Unreadable { question })
        }
    }
}

pub(super) fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.iter().find(|(name, _)| name == column).and_then(|(_, value)| value.as_deref())
}

fn flag(row: &Row, column: &str) -> Option<bool> {
    match text(row, column)? {
        "true" | "t" => Some(true),
        "false" | "f" => Some(false),
        _ => None,
    }
}

fn name(row: &Row) -> Option<Name> {
    Some(Name::new(text(row, "schema")?, text(row, "name")?))
}

fn role(row: &Row) -> Option<Role> {
    Some(Role {
        name: text(row, "role")?.to_owned(),
        bypasses: flag(row, "superuser")? || flag(row, "bypasses")?,
        anon_is_member: flag(row, "anon_is_member")?,
    })
}

fn relation(row: &Row) -> Option<Relation> {
    let kind = match text(row, "kind")? {
        "r" | "p" => Kind::Table,
        "v" => Kind::View,
        "m" => Kind::MaterializedView,
        "f" => Kind::ForeignTable,
        _ => return None,
    };
    Some(Relation {
        name: name(row)?,
        kind,
        row_security: flag(row, "row_security")?,
        owner: text(row, "owner")?.to_owned(),
        // Options are kept as they were written: `true`, `on`, `1`, `yes`.
        security_invoker: text(row, "options").unwrap_or_default().split(',').any(|option| {
            option.split_once('=').is_some_and(|(name, value)| {
                let value = value.to_ascii_lowercase();
                name == "security_invoker" && matches!(&*value, "true" | "on" | "1" | "yes")
            })
        }),
        anon: Rights {
            selects: flag(row, "anon_selects")?,
            writes: flag(row, "anon_writes")?,
            truncates: flag(row, "anon_truncates")?,
        },
    })
}

/// The policy, unless it only restricts, with the roles it is for.
fn policy(row: &Row) -> Option<(Option<Policy>, Vec<String>)> {
    let roles = text(row, "roles")?.split(',').map(str::to_owned).collect();
    let command = match text(row, "command")? {
        "ALL" => Command::All,
        "SELECT" => Command::Select,
        "INSERT" => Command::Insert,
        "UPDATE" | "DELETE" => Command::Change,
        _ => return None,
    };
    // A restrictive policy takes rows away and never opens any. That it might close what another
    // policy opens is not counted: what is opened has to be closed where it is opened.
    let permissive = match text(row, "permissive")? {
        "PERMISSIVE" => true,
        "RESTRICTIVE" => false,
        _ => return None,
    };
    let filled = |column| text(row, column).filter(|text| !text.is_empty()).map(str::to_owned);
    let policy = Policy {
        table: name(row)?,
        name: text(row, "policy")?.to_owned(),
        command,
        shows: filled("shows"),
        takes: filled("takes"),
    };
    Some((permissive.then_some(policy), roles))
}

fn body(row: &Row) -> Option<Body> {
    Some(Body { name: name(row)?, source: text(row, "source").unwrap_or_default().to_owned() })
}

fn function(row: &Row) -> Option<Function> {
    Some(Function {
        name: name(row)?,
        arguments: text(row, "arguments").unwrap_or_default().to_owned(),
        aggregate: text(row, "kind")? == "a",
        definer: flag(row, "definer")?,
        returns_set: flag(row, "returns_set")?,
        callable_bare: text(row, "arguments_required")? == "0",
    })
}

fn reached(row: &Row) -> Option<Reached> {
    // Some executors answer nothing for a text that is empty.
    let schema = text(row, "schema").unwrap_or_default();
    let place = Name::new(schema, text(row, "name")?);
    let part = text(row, "part").unwrap_or_default();
    let (subject, rule) = match text(row, "what")? {
        "rule" => (format!("{place}/{part}"), Rule::RewriteRule),
        "sequence" => (place.to_string(), Rule::SetsSequence),
        "schema" => (place.name, Rule::Creates),
        "database" => (format!("database {}", place.name), Rule::Creates),
        _ => return None,
    };
    Some(Reached { subject, rule })
}
