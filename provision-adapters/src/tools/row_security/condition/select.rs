//! Queries within conditions, and those that functions are made of.

use super::parts::{Tokens, cut, position, relation, split};
use super::tokens::{Kind, Token};
use super::{Must, Proof, Reader, guess};

/// A query of one level, in its parts.
struct Query<'s, 't> {
    list: Tokens<'s, 't>,
    from: Option<Tokens<'s, 't>>,
    filter: Option<Tokens<'s, 't>>,
}

impl<'r> Reader<'r> {
    /// What would prove that a query shows no row.
    pub(super) fn no_rows(self, tokens: Tokens<'_, 'r>) -> Proof {
        let Some(query) = query(tokens) else { return guess(tokens) };
        // An aggregate shows a row of nothing.
        if query.list.iter().any(|token| token.kind == Kind::Open) {
            return guess(tokens);
        }
        let Some(from) = query.from else { return guess(tokens) };
        let mut proofs = vec![query.filter.map_or(Proof::Open, |filter| self.never(filter))];
        // A function may run as its owner, whom row-level security does not hold.
        if self.calls == 0 && self.reads_closed(from) {
            proofs.push(Proof::Closed);
        }
        Proof::One(proofs)
    }

    /// The same of the value of a query: without a row it is null.
    pub(super) fn scalar(self, tokens: Tokens<'_, 'r>, must: Must) -> Proof {
        if self.is_free(tokens) {
            return self.ask(tokens, must);
        }
        let Some(Query { list, from, .. }) = query(tokens) else { return guess(tokens) };
        let value = match position(list, |token| token.is("as")) {
            Some(at) => cut(list, at).0,
            None => list,
        };
        let one = position(value, |token| token.is_sign(",")).is_none();
        let value = match must {
            _ if !one => guess(tokens),
            Must::BeNull => self.null(value),
            Must::NotBeTrue => self.never(value),
        };
        match from {
            // Whatever the rows are, an aggregate can make another value of them.
            Some(_) if list.iter().any(|token| token.kind == Kind::Open) => guess(tokens),
            Some(_) => Proof::One(vec![value, self.no_rows(tokens)]),
            None => value,
        }
    }

    /// Whether rows are taken from a relation that shows none to an anonymous reader.
    fn reads_closed(self, from: Tokens<'_, 'r>) -> bool {
        let other = ["left", "right", "full", "lateral", "select"];
        if from.iter().any(|token| token.is_one_of(&other)) {
            return false;
        }
        let begins = |before: &[Token<'_>]| {
            let last = before.iter().rev().find(|token| token.kind != Kind::Open);
            last.is_none_or(|token| token.is("join") || token.is_sign(","))
        };
        (0..from.len()).any(|at| {
            let (before, rest) = from.split_at(at);
            let [schema, dot, name, rest @ ..] = rest else { return false };
            // Arguments in brackets would make it a function.
            let is_function = rest.first().is_some_and(|token| token.text == "(");
            begins(before)
                && !is_function
                && relation(schema, dot, name).is_some_and(|name| (self.known.closed)(&name))
        })
    }
}

/// Reads a query; none where its parts do more than filter.
fn query<'s, 't>(tokens: Tokens<'s, 't>) -> Option<Query<'s, 't>> {
    const MORE: [&str; 8] =
        ["union", "intersect", "except", "group", "having", "window", "into", "values"];
    const TAIL: [&str; 5] = ["order", "limit", "offset", "fetch", "for"];
    let [select, rest @ ..] = tokens else { return None };
    let distinct = |token: &Token<'_>| token.is("distinct");
    if !select.is("select")
        || position(rest, |token| token.is_one_of(&MORE) || token.is_sign(";")).is_some()
        || position(rest, distinct).is_some()
    {
        return None;
    }
    let rest = *split(rest, |token| token.is_one_of(&TAIL)).first()?;
    let (rest, filter) = match position(rest, |token| token.is("where")) {
        Some(at) => (cut(rest, at).0, Some(cut(rest, at).1)),
        None => (rest, None),
    };
    let (list, from) = match position(rest, |token| token.is("from")) {
        Some(at) => (cut(rest, at).0, Some(cut(rest, at).1)),
        None => (rest, None),
    };
    Some(Query { list, from, filter })
}
