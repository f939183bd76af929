//! Whether a condition can hold for a request of somebody who is not signed in, read from its text.
//!
//! A condition is closed when the reader alone makes it fail, whatever the row holds. Each part
//! that is joined by OR is judged by itself: one open part opens the row. What is left to ask the
//! database are expressions without any part of a row ([`Leaf`]): their answer for one anonymous
//! request is the answer for all. What cannot be taken apart safely is never closed.
//!
//! The server prints conditions with brackets around every operation and an empty search path.
//! Bodies of functions stand as their author wrote them, so the order of operators is kept here.

mod parts;
mod select;
mod tokens;

use super::names::Relation;
use parts::{
    Tokens, asks_who, bare, call, cut, group, is_free, names_the_role, position, split, words_of,
};
use tokens::{Kind, read, written};

pub(super) use tokens::without_comments;

/// What one leaf must be for an anonymous request, so that its condition cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Must {
    BeNull,
    NotBeTrue,
}

/// An expression about the reader alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaf {
    pub(super) must: Must,
    pub(super) expression: String,
    /// Its value depends on the role that evaluates it.
    pub(super) names_the_role: bool,
}

/// What would prove that a condition cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// It cannot hold.
    Closed,
    /// It does not ask who is there.
    Open,
    /// It asks, in a way that is not understood.
    Unclear,
    /// The answer of the database to this.
    Ask(Leaf),
    /// Each of these, as none of them may hold.
    Each(Vec<Self>),
    /// One of these, as they have to hold together.
    One(Vec<Self>),
}

/// How a condition was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Closed,
    Open,
    Unclear,
}

impl Proof {
    /// Everything that has to be asked.
    pub(super) fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Self::Ask(leaf) => vec![leaf],
            Self::Each(proofs) | Self::One(proofs) => {
                proofs.iter().flat_map(Self::leaves).collect()
            }
            Self::Closed | Self::Open | Self::Unclear => Vec::new(),
        }
    }

    /// The judgement, once every leaf has one.
    pub(super) fn judge(&self, leaf: &impl Fn(&Leaf) -> Judgement) -> Judgement {
        let all = |proofs: &[Self]| -> Vec<Judgement> {
            proofs.iter().map(|proof| proof.judge(leaf)).collect()
        };
        match self {
            Self::Closed => Judgement::Closed,
            Self::Open => Judgement::Open,
            Self::Unclear => Judgement::Unclear,
            Self::Ask(asked) => leaf(asked),
            Self::Each(proofs) => match all(proofs) {
                all if all.contains(&Judgement::Open) => Judgement::Open,
                all if all.contains(&Judgement::Unclear) => Judgement::Unclear,
                _ => Judgement::Closed,
            },
            Self::One(proofs) => match all(proofs) {
                all if all.contains(&Judgement::Closed) => Judgement::Closed,
                all if all.contains(&Judgement::Unclear) => Judgement::Unclear,
                _ => Judgement::Open,
            },
        }
    }
}

/// The source of one function that a policy can call.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) name: Relation,
    pub(super) source: String,
}

/// What has to be known to read conditions.
pub(super) struct Known<'k> {
    pub(super) bodies: &'k [Body],
    /// Whether no anonymous request sees a row of a relation, or another finding says that it does.
    pub(super) closed: &'k dyn Fn(&Relation) -> bool,
}

/// Deepest nesting of brackets, and of functions that call functions, that is read.
const DEPTH_MAX: usize = 48;
const CALLS_MAX: usize = 3;

/// Reads one condition.
pub(super) fn proof(known: &Known<'_>, condition: &str) -> Proof {
    Reader { known, source: condition, depth: 0, calls: 0 }.whole()
}

/// A place in a condition, or in a function that it calls.
#[derive(Clone, Copy)]
struct Reader<'r> {
    known: &'r Known<'r>,
    source: &'r str,
    depth: usize,
    /// How many functions deep.
    calls: usize,
}

impl<'r> Reader<'r> {
    fn whole(self) -> Proof {
        read(self.source).map_or(Proof::Unclear, |tokens| self.never(&tokens))
    }

    /// One level of brackets further in.
    fn within(self) -> Option<Self> {
        let depth = self.depth + 1;
        (depth < DEPTH_MAX).then_some(Self { depth, ..self })
    }

    /// What would prove that an expression is never true.
    fn never(self, tokens: Tokens<'_, 'r>) -> Proof {
        let Some(inner) = self.within() else { return Proof::Unclear };
        let tokens = bare(tokens);
        if tokens.first().is_some_and(|first| first.is("select")) {
            return inner.scalar(tokens, Must::NotBeTrue);
        }
        let either = split(tokens, |token| token.is("or"));
        if either.len() > 1 {
            return Proof::Each(either.into_iter().map(|part| inner.never(part)).collect());
        }
        // The AND of a BETWEEN joins nothing.
        let between = position(tokens, |token| token.is("between")).is_some();
        let both = split(tokens, |token| token.is("and") && !between);
        if both.len() > 1 {
            return Proof::One(both.into_iter().map(|part| inner.never(part)).collect());
        }
        if self.is_free(tokens) && (asks_who(tokens) || is_constant(tokens)) {
            return self.ask(tokens, Must::NotBeTrue);
        }
        match tokens {
            [first, rest @ ..] if first.is("not") => inner.null(rest),
            [first, rest @ ..] if first.is("exists") => match group(rest) {
                Some(query) => inner.no_rows(query),
                None => guess(tokens),
            },
            [first, rest @ ..] if first.is("coalesce") => match group(rest) {
                Some(list) => {
                    let list = split(list, |token| token.is_sign(","));
                    Proof::Each(list.into_iter().map(|part| inner.never(part)).collect())
                }
                None => guess(tokens),
            },
            _ => inner.comparison(tokens),
        }
    }

    /// The same, for what is left when no connective stands in it.
    fn comparison(self, tokens: Tokens<'_, 'r>) -> Proof {
        if let Some(at) = position(tokens, |token| token.is("is")) {
            let (left, right) = cut(tokens, at);
            return match &*words_of(right) {
                ["true"] => self.never(left),
                ["not", "null"] => self.null(left),
                _ => guess(tokens),
            };
        }
        let member = |token: &tokens::Token<'_>| token.is_one_of(&["in", "any", "some"]);
        if let Some(at) = position(tokens, member) {
            let (left, right) = cut(tokens, at);
            let operand = match (tokens.get(at), left) {
                (Some(word), [left @ .., last]) if !word.is("in") => {
                    (last.kind == Kind::Operator).then_some(left)
                }
                (_, [.., last]) if last.is("not") => None,
                _ => Some(left),
            };
            // IN binds stronger than a comparison before it.
            let operand = operand.filter(|left| position(left, parts::compares).is_none());
            return match (operand, group(right)) {
                (Some(left), Some([first, ..])) if first.is("select") => {
                    // Each of its rows is compared, so it is enough that each is null.
                    Proof::One(vec![self.null(left), self.scalar(bare(right), Must::BeNull)])
                }
                (Some(left), Some(list)) if !tokens.get(at).is_some_and(|word| word.is("in")) => {
                    Proof::One(vec![self.null(left), self.null(list)])
                }
                (Some(left), Some(_)) => self.null(left),
                _ => guess(tokens),
            };
        }
        match call(tokens) {
            Some(called) => self.called(&called, tokens, Must::NotBeTrue),
            None => self.null(tokens),
        }
    }

    /// What would prove that an expression is always null.
    fn null(self, tokens: Tokens<'_, 'r>) -> Proof {
        let Some(inner) = self.within() else { return Proof::Unclear };
        let tokens = bare(tokens);
        match tokens {
            [first, ..] if first.is("select") => return inner.scalar(tokens, Must::BeNull),
            [first, rest @ ..] if first.is("not") => return inner.null(rest),
            _ => {}
        }
        if self.is_free(tokens) {
            return if asks_who(tokens) { self.ask(tokens, Must::BeNull) } else { Proof::Open };
        }
        if let Some(operands) = parts::strict_operands(tokens) {
            return Proof::One(operands.into_iter().map(|part| inner.null(part)).collect());
        }
        if let Some(called) = call(tokens) {
            return inner.called(&called, tokens, Must::BeNull);
        }
        match position(tokens, |token| token.is_sign("::")) {
            Some(at) if parts::is_type(tokens, at) => inner.null(cut(tokens, at).0),
            _ => guess(tokens),
        }
    }

    /// What would prove it of a function's result, whatever its arguments.
    fn called(self, name: &Relation, tokens: Tokens<'_, 'r>, must: Must) -> Proof {
        let bodies: Vec<&Body> =
            self.known.bodies.iter().filter(|body| body.name == *name).collect();
        if bodies.is_empty() || self.calls == CALLS_MAX {
            return guess(tokens);
        }
        // Which of several functions of one name is meant is not looked at: each must be closed.
        let proof = |body: &&'r Body| {
            let reader = Self { source: &body.source, calls: self.calls + 1, ..self };
            reader.body(must)
        };
        Proof::Each(bodies.iter().map(proof).collect())
    }

    /// Reads the source of a function: one query, or a block that returns one expression.
    fn body(self, must: Must) -> Proof {
        let Some(tokens) = read(self.source) else { return Proof::Unclear };
        let ends = |token: &tokens::Token<'_>| token.is_sign(";");
        let statements = split(&tokens, ends);
        let expression = match &*statements {
            [query] | [query, []] if query.first().is_some_and(|word| word.is("select")) => *query,
            [[begin, returns, value @ ..], [end]] | [[begin, returns, value @ ..], [end], []]
                if begin.is("begin") && returns.is("return") && end.is("end") =>
            {
                value
            }
            _ => return Proof::Unclear,
        };
        match must {
            Must::BeNull => self.null(expression),
            Must::NotBeTrue => self.never(expression),
        }
    }

    fn ask(self, tokens: Tokens<'_, 'r>, must: Must) -> Proof {
        Proof::Ask(Leaf {
            must,
            expression: written(self.source, tokens).to_owned(),
            names_the_role: names_the_role(tokens),
        })
    }

    /// Whether an expression has one value for a whole request. Within a function the role may be
    /// its owner, so what names the role has no value here.
    fn is_free(self, tokens: Tokens<'_, 'r>) -> bool {
        is_free(tokens) && (self.calls == 0 || !names_the_role(tokens))
    }
}

/// What is said of an expression that is not understood.
fn guess(tokens: Tokens<'_, '_>) -> Proof {
    if asks_who(tokens) { Proof::Unclear } else { Proof::Open }
}

/// Whether an expression of values alone calls nothing.
fn is_constant(tokens: Tokens<'_, '_>) -> bool {
    tokens.iter().all(|token| {
        matches!(token.kind, Kind::Value | Kind::Operator)
            || token.is_one_of(&["true", "false", "null", "boolean", "text", "integer"])
    })
}

#[cfg(test)]
mod tests;
