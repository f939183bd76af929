//! The functions and operators of the server that the model has.
//!
//! A function is a row in a table: its name, what it takes, what it gives, and how it is computed.
//! An operator is a function in the schema without a name, where no call can reach it.

mod access;
mod catalog;
mod json;
pub(crate) mod names;
pub(crate) mod session;
mod text;

use super::bind::call::argument_score;
use super::error::SqlError;
use super::plan::Typed;
use super::run::Env;
use super::value::Value;
use super::value::sql_type::Type;

/// What an argument may be.
#[derive(Debug)]
pub(crate) enum Parameter {
    Is(Type),
    ArrayOf(Type),
    AnyArray,
    /// The element of the first array among the arguments.
    Any,
    /// Either of two types; a bare literal is the first.
    Either(Type, Type),
    /// Any number of further arguments of any type.
    Rest,
}

/// The type of a result.
#[derive(Debug)]
pub(crate) enum Returns {
    Is(Type),
    ArrayOf(Type),
    /// The type of the argument at this place.
    Same(usize),
}

/// How a function is computed.
pub(crate) type Body = fn(&Env<'_>, &[Value], &[Type]) -> Result<Value, SqlError>;

/// One function of the server.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) returns: Returns,
    /// True when a null argument makes the result null.
    pub(crate) strict: bool,
    pub(crate) body: Body,
}

/// What calls need to know about a function.
pub(crate) trait Signature {
    /// The parameters for a call with so many arguments.
    fn parameters(&self, count: usize) -> Vec<&Parameter>;
    /// How well arguments fit, or nothing.
    fn score(&self, args: &[Typed]) -> Option<u32>;
}

impl Signature for Builtin {
    fn parameters(&self, count: usize) -> Vec<&Parameter> {
        let mut found: Vec<&Parameter> = self.parameters.iter().collect();
        if let Some(Parameter::Rest) = self.parameters.last() {
            while found.len() < count {
                found.push(&Parameter::Rest);
            }
        }
        found
    }

    fn score(&self, args: &[Typed]) -> Option<u32> {
        let parameters = self.parameters(args.len());
        let rest = matches!(self.parameters.last(), Some(Parameter::Rest));
        if parameters.len() != args.len()
            && !(rest && args.len().saturating_add(1) == parameters.len())
        {
            return None;
        }
        let pairs = args.iter().zip(parameters);
        let scores: Option<Vec<u32>> =
            pairs.map(|(arg, parameter)| parameter.score(&arg.ty)).collect();
        scores.map(|scores| scores.iter().sum())
    }
}

impl Parameter {
    fn score(&self, given: &Type) -> Option<u32> {
        match self {
            Self::Is(ty) => argument_score(given, ty),
            Self::ArrayOf(ty) => argument_score(given, &Type::array(ty.clone())),
            Self::AnyArray => matches!(given, Type::Array(_)).then_some(2),
            Self::Either(a, b) => argument_score(given, a).max(argument_score(given, b)),
            Self::Any | Self::Rest => Some(1),
        }
    }

    /// The type an argument is brought to.
    pub(crate) fn target(&self, given: &Type) -> Type {
        match self {
            Self::Is(ty) => ty.clone(),
            Self::ArrayOf(ty) => Type::array(ty.clone()),
            Self::Either(a, b) => {
                let first = argument_score(given, a) >= argument_score(given, b);
                if first || *given == Type::Unknown { a.clone() } else { b.clone() }
            }
            Self::AnyArray | Self::Any | Self::Rest => match given {
                Type::Unknown => Type::Text,
                other => other.clone(),
            },
        }
    }

    /// The name of the parameter's type, for the catalog.
    fn label(&self) -> Type {
        match self {
            Self::Is(ty) | Self::Either(ty, _) => ty.clone(),
            Self::ArrayOf(ty) => Type::array(ty.clone()),
            Self::AnyArray | Self::Any | Self::Rest => Type::Unknown,
        }
    }
}

impl Returns {
    pub(crate) fn of(&self, args: &[Type]) -> Result<Type, SqlError> {
        match self {
            Self::Is(ty) => Ok(ty.clone()),
            Self::ArrayOf(ty) => Ok(Type::array(ty.clone())),
            Self::Same(place) => args
                .get(*place)
                .cloned()
                .ok_or_else(|| SqlError::internal("an argument is missing")),
        }
    }
}

impl Builtin {
    /// The types of the parameters, for the catalog.
    pub(crate) fn types(&self) -> Vec<Type> {
        self.parameters.iter().map(Parameter::label).collect()
    }
}

/// Every function with its place.
pub(crate) fn all() -> impl Iterator<Item = (usize, &'static Builtin)> {
    let lists = [access::LIST, catalog::LIST, json::LIST, session::LIST, text::LIST];
    lists.into_iter().flatten().enumerate()
}

/// The places of the functions with a name.
pub(crate) fn named(schema: &str, name: &str) -> Vec<usize> {
    let same = |(_, builtin): &(usize, &Builtin)| builtin.schema == schema && builtin.name == name;
    all().filter(same).map(|(place, _)| place).collect()
}

pub(crate) fn get(place: usize) -> Result<&'static Builtin, SqlError> {
    let found = all().nth(place).map(|(_, builtin)| builtin);
    found.ok_or_else(|| SqlError::internal("a function is missing"))
}

/// Functions the server has in `pg_catalog`, the modelled ones among them.
const FOREIGN: &str = include_str!("../sql/functions.txt");

/// Tells the functions that only the server has.
pub(crate) fn is_foreign(name: &str) -> bool {
    // These are grammar in the server, and calls for the parser.
    let grammar = ["cube", "grouping", "rollup"];
    grammar.contains(&name) || FOREIGN.split_whitespace().any(|known| known == name)
}

/// Computes a function.
pub(crate) fn call(
    env: &Env<'_>,
    place: usize,
    args: &[Value],
    types: &[Type],
) -> Result<Value, SqlError> {
    let builtin = get(place)?;
    if builtin.strict && args.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    (builtin.body)(env, args, types)
}

/// The text at a place; nothing else can stand there once the call was bound.
fn str_at(args: &[Value], place: usize) -> &str {
    args.get(place).and_then(Value::as_str).unwrap_or_default()
}

fn int_at(args: &[Value], place: usize) -> i64 {
    args.get(place).and_then(Value::as_int).unwrap_or_default()
}

/// Declares a function of `pg_catalog` that is null for null arguments.
const fn strict(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: Returns,
    body: Body,
) -> Builtin {
    Builtin { schema: "pg_catalog", name, parameters, returns, strict: true, body }
}

/// Declares an operator.
const fn operator(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: Returns,
    body: Body,
) -> Builtin {
    Builtin { schema: "", name, parameters, returns, strict: true, body }
}
