//! Cuts a row of tokens at what stands outside of brackets, and tells what its parts are.

use super::super::names::Relation;
use super::tokens::{Kind, Token};

/// Some tokens in a row.
pub(super) type Tokens<'s, 't> = &'s [Token<'t>];

/// Comparisons, which bind weaker than all other operators.
const COMPARISONS: [&str; 7] = ["=", "<>", "!=", "<", ">", "<=", ">="];
/// Other operators of the server that are null when an operand is. `||` is not: it drops nulls
/// from arrays.
const STRICT: [&str; 20] = [
    "->", "->>", "#>", "#>>", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*", "@>", "<@", "&&",
    "?", "?|", "?&", "+", "-",
];
/// Words of which the server makes the role, as it is for everything it evaluates.
const ROLE: [&str; 3] = ["current_user", "current_role", "user"];
/// Words that stand in expressions and name nothing.
const KEYWORDS: [&str; 28] = [
    "select",
    "true",
    "false",
    "null",
    "is",
    "not",
    "and",
    "or",
    "distinct",
    "in",
    "any",
    "some",
    "all",
    "array",
    "case",
    "when",
    "then",
    "else",
    "end",
    "between",
    "like",
    "ilike",
    "unknown",
    "current_user",
    "current_role",
    "user",
    "current_date",
    "current_timestamp",
];
/// Settings that each request has, and that say nothing of who sends it.
const OF_ANY_REQUEST: [&str; 3] = ["request.method", "request.path", "request.cookie"];
/// Second and later words of names of types.
const TYPE_WORDS: [&str; 6] = ["varying", "precision", "with", "without", "time", "zone"];

/// The tokens at which no bracket is open, by place.
fn outside<'s, 't>(tokens: Tokens<'s, 't>) -> impl Iterator<Item = (usize, &'s Token<'t>)> {
    let mut depth = 0_usize;
    tokens.iter().enumerate().filter(move |(_, token)| {
        let before = depth;
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        before == 0
    })
}

pub(super) fn position(tokens: Tokens<'_, '_>, is: impl Fn(&Token<'_>) -> bool) -> Option<usize> {
    outside(tokens).find(|(_, token)| is(token)).map(|(at, _)| at)
}

/// What stands before a place and after it.
pub(super) fn cut<'s, 't>(tokens: Tokens<'s, 't>, at: usize) -> (Tokens<'s, 't>, Tokens<'s, 't>) {
    (tokens.get(..at).unwrap_or_default(), tokens.get(at + 1..).unwrap_or_default())
}

pub(super) fn split<'s, 't>(
    tokens: Tokens<'s, 't>,
    is: impl Fn(&Token<'_>) -> bool,
) -> Vec<Tokens<'s, 't>> {
    let mut places: Vec<usize> =
        outside(tokens).filter(|(_, token)| is(token)).map(|(at, _)| at).collect();
    places.push(tokens.len());
    let mut begin = 0;
    let mut parts = Vec::new();
    for place in places {
        parts.push(tokens.get(begin..place).unwrap_or_default());
        begin = place + 1;
    }
    parts
}

/// What stands within the brackets that are all there is.
pub(super) fn group<'s, 't>(tokens: Tokens<'s, 't>) -> Option<Tokens<'s, 't>> {
    let [first, inside @ .., last] = tokens else { return None };
    let whole = first.text == "(" && last.text == ")" && outside(tokens).count() == 1;
    whole.then_some(inside)
}

/// The tokens without brackets around all of them.
pub(super) fn bare<'s, 't>(mut tokens: Tokens<'s, 't>) -> Tokens<'s, 't> {
    while let Some(inside) = group(tokens) {
        tokens = inside;
    }
    tokens
}

/// The words, where there is nothing else.
pub(super) fn words_of(tokens: Tokens<'_, '_>) -> Vec<&'static str> {
    let known = |token: &Token<'_>| ["not", "true", "null"].into_iter().find(|word| token.is(word));
    tokens.iter().map(|token| known(token).unwrap_or("?")).collect()
}

/// The name of the function when one call with its schema is all there is.
pub(super) fn call(tokens: Tokens<'_, '_>) -> Option<Relation> {
    let [schema, dot, name, arguments @ ..] = tokens else { return None };
    group(arguments)?;
    relation(schema, dot, name)
}

/// A name with its schema.
pub(super) fn relation(schema: &Token<'_>, dot: &Token<'_>, name: &Token<'_>) -> Option<Relation> {
    let whole = schema.is_name() && dot.is_sign(".") && name.is_name();
    whole.then(|| Relation::new(plain(schema), plain(name)))
}

fn plain(token: &Token<'_>) -> String {
    match token.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => token.text.to_lowercase(),
    }
}

/// Whether it compares two values.
pub(super) fn compares(token: &Token<'_>) -> bool {
    COMPARISONS.iter().any(|sign| token.is_sign(sign))
}

/// The operands, when all that joins them is null as soon as one of them is.
pub(super) fn strict_operands<'s, 't>(tokens: Tokens<'s, 't>) -> Option<Vec<Tokens<'s, 't>>> {
    let joins = |token: &Token<'_>| STRICT.iter().any(|sign| token.is_sign(sign));
    let words = |token: &Token<'_>| {
        token
            .is_one_of(&["is", "in", "any", "some", "all", "between", "like", "ilike", "and", "or"])
            || token.is_one_of(&["not", "case", "similar", "operator", "collate", "at", "overlaps"])
    };
    let strange = |token: &Token<'_>| {
        token.kind == Kind::Operator && !compares(token) && !joins(token) && !token.is_sign("::")
    };
    if position(tokens, |token| words(token) || strange(token)).is_some() {
        return None;
    }
    let parts = match split(tokens, compares) {
        parts if parts.len() > 1 => parts,
        _ => split(tokens, joins),
    };
    (parts.len() > 1 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// Whether the rest from a `::` on is the name of a type.
pub(super) fn is_type(tokens: Tokens<'_, '_>, at: usize) -> bool {
    after_type(tokens, at + 1) == tokens.len()
}

/// The place after the name of a type.
fn after_type(tokens: Tokens<'_, '_>, begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(token) = tokens.get(at) {
        match token {
            dot if dot.is_sign(".") => at += 2,
            word if word.is_one_of(&TYPE_WORDS) => at += 1,
            open if open.kind == Kind::Open => match tokens.get(at + 1) {
                Some(close) if close.kind == Kind::Close => at += 2,
                // The length of `varchar(20)`.
                Some(size) if size.kind == Kind::Value => at += 3,
                _ => return at,
            },
            _ => return at,
        }
    }
    at
}

/// Whether an expression names no column and no table, so that it has one value for all requests
/// of those who are not signed in.
pub(super) fn is_free(tokens: Tokens<'_, '_>) -> bool {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at = match token {
            cast if cast.is_sign("::") => after_type(tokens, at + 1),
            alias if alias.is("as") => at + 2,
            word if word.is_name() => match after_name(tokens, at) {
                next if tokens.get(next).is_some_and(|open| open.text == "(") => next,
                next if next == at + 1 && word.is_one_of(&KEYWORDS) => next,
                _ => return false,
            },
            stray if stray.is_sign(".") || stray.is_sign(";") => return false,
            text if OF_ANY_REQUEST.iter().any(|name| text.text.contains(name)) => return false,
            _ => at + 1,
        };
    }
    true
}

/// The place after a name with all its parts.
fn after_name(tokens: Tokens<'_, '_>, at: usize) -> usize {
    match tokens.get(at + 1..at + 3) {
        Some([dot, name]) if dot.is_sign(".") && name.is_name() => after_name(tokens, at + 2),
        _ => at + 1,
    }
}

/// Whether an expression asks who is there: it names the role or the settings of the request, or
/// calls a function that is not the server's own (those come with their schema, as `auth.uid()`
/// does).
pub(super) fn asks_who(tokens: Tokens<'_, '_>) -> bool {
    names_the_role(tokens)
        || tokens.windows(2).any(|pair| match pair {
            [name, open] => name.is("current_setting") && open.text == "(",
            _ => false,
        })
        || tokens.windows(4).any(|four| match four {
            [schema, dot, name, open] => relation(schema, dot, name).is_some() && open.text == "(",
            _ => false,
        })
}

/// Whether the role is named that evaluates.
pub(super) fn names_the_role(tokens: Tokens<'_, '_>) -> bool {
    tokens.iter().any(|token| token.is_one_of(&ROLE))
}
