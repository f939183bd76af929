//! From text to statements.
//!
//! `sqlparser` reads tokens, expressions, queries and type names; the definition statements have a
//! grammar of their own here, because a parser that accepts a clause and a model that overlooks it
//! would together report success for something that never happened.

mod access;
pub(crate) mod cursor;
mod dispatch;
mod dml;
mod object;
pub(crate) mod routine;
pub(crate) mod statement;
mod table;

use std::fmt;

use sqlparser::ast::{Expr, Ident, Query};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use self::cursor::Cursor;
use self::statement::Statement;
use super::error::{SqlError, code};

/// Longest text of one call, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;

/// Most tokens between two commas of one nesting level.
///
/// The parser builds chains of operators without counting their depth; every tree built from so few
/// tokens can be walked and dropped on a small stack.
const ELEMENT_TOKENS_MAX: usize = 600;

/// Most set operations of one nesting level, which also become a chain.
const SET_OPERATIONS_MAX: usize = 100;

/// A name with an optional schema, folded as the server folds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(formatter, "{schema}.")?;
        }
        formatter.write_str(&self.name)
    }
}

/// Folds an identifier: unquoted letters become small, and 63 bytes are kept.
pub(crate) fn fold(ident: &Ident) -> String {
    let folded = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    super::value::text::truncate_name(&folded)
}

/// Words that are never a name without quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Tells whether a word can only be a name in quotes.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Reads a name that may be any word, as after `AS`; a string literal is not one.
pub(crate) fn label(ident: &Ident) -> Result<String, SqlError> {
    if ident.quote_style.is_some_and(|quote| quote != '"') {
        return Err(SqlError::new(code::SYNTAX, "string literal where a name must stand"));
    }
    Ok(fold(ident))
}

/// Refuses an unquoted reserved word where a name must stand.
pub(crate) fn checked(ident: &Ident) -> Result<String, SqlError> {
    let folded = label(ident)?;
    if ident.quote_style.is_none() && is_reserved(&folded) {
        let text = format!("reserved word where a name must stand: \"{folded}\"");
        return Err(SqlError::new(code::SYNTAX, text));
    }
    if folded.is_empty() {
        return Err(SqlError::new(
            code::SYNTAX,
            "zero-length delimited identifier at or near \"\"",
        ));
    }
    Ok(folded)
}

/// Reads a whole script; nothing runs unless all of it can be read.
pub(crate) fn script(text: &str) -> Result<Vec<Statement>, SqlError> {
    let mut statements = Vec::new();
    for tokens in split(tokens(text)?) {
        statements.push(statement(tokens)?);
    }
    Ok(statements)
}

/// Reads one expression that was kept as text.
pub(crate) fn expression(text: &str) -> Result<Expr, SqlError> {
    let mut cursor = Cursor::new(tokens(text)?);
    let expr = cursor.expr()?;
    cursor.end()?;
    Ok(expr)
}

/// Reads one query that was kept as text.
pub(crate) fn query(text: &str) -> Result<Box<Query>, SqlError> {
    let mut cursor = Cursor::new(tokens(text)?);
    let query = cursor.query()?;
    cursor.end()?;
    Ok(query)
}

fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("statement text is longer than {TEXT_BYTES_MAX} bytes");
        return Err(SqlError::new(code::PROGRAM_LIMIT, text));
    }
    if text.contains('\0') {
        return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location()?;
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    check_depth(&tokens)?;
    Ok(tokens)
}

/// Counts tokens between commas and set operations, for each open bracket anew.
fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut counts = vec![(0_usize, 0_usize)];
    for token in tokens {
        match token.token {
            Token::LParen | Token::LBracket => counts.push((0, 0)),
            Token::RParen | Token::RBracket if counts.len() > 1 => {
                counts.pop();
            }
            _ => {}
        }
        let Some((elements, operations)) = counts.last_mut() else { continue };
        *elements = elements.saturating_add(1);
        match &token.token {
            Token::SemiColon => (*elements, *operations) = (0, 0),
            Token::Comma => *elements = 0,
            Token::Word(word) if is_set_operation(&word.value) => {
                *operations = operations.saturating_add(1);
            }
            _ => {}
        }
        if *elements > ELEMENT_TOKENS_MAX || *operations > SET_OPERATIONS_MAX {
            return Err(SqlError::too_complex());
        }
    }
    Ok(())
}

fn is_set_operation(word: &str) -> bool {
    ["union", "except", "intersect"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn split(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut statements = vec![Vec::new()];
    for token in tokens {
        if token.token == Token::SemiColon {
            statements.push(Vec::new());
        } else if let Some(last) = statements.last_mut() {
            last.push(token);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

fn statement(tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    let mut cursor = Cursor::new(tokens.clone());
    let read = cursor.statement().and_then(|statement| cursor.end().map(|()| statement));
    read.map_err(|error| {
        // Only what the grammar could not read at all may be SQL that it does not know.
        let unread = error.sqlstate == code::SYNTAX && error.message.starts_with("syntax error");
        if unread { explain(tokens, error) } else { error }
    })
}

/// Tells what is not modelled from what is no SQL.
fn explain(tokens: Vec<TokenWithSpan>, error: SqlError) -> SqlError {
    let words = tokens.iter().map_while(|token| match &token.token {
        Token::Word(word) => Some(word.value.to_ascii_uppercase()),
        _ => None,
    });
    let start = words.take(3).collect::<Vec<_>>().join(" ");
    let known = COMMANDS.iter().any(|command| start.starts_with(command));
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    let accepted = parser.parse_statement().is_ok() && parser.peek_token_ref().token == Token::EOF;
    if accepted || known {
        return SqlError::unsupported(format!("this form of {start} ({})", error.message));
    }
    error
}

/// Statements of the server that the grammar has no room for at all.
const COMMANDS: &[&str] = &[
    "ALTER AGGREGATE",
    "ALTER COLLATION",
    "ALTER CONVERSION",
    "ALTER DATABASE",
    "ALTER DOMAIN",
    "ALTER EVENT",
    "ALTER EXTENSION",
    "ALTER FOREIGN",
    "ALTER GROUP",
    "ALTER INDEX",
    "ALTER LANGUAGE",
    "ALTER LARGE",
    "ALTER OPERATOR",
    "ALTER PROCEDURE",
    "ALTER PUBLICATION",
    "ALTER ROUTINE",
    "ALTER RULE",
    "ALTER SERVER",
    "ALTER STATISTICS",
    "ALTER SUBSCRIPTION",
    "ALTER SYSTEM",
    "ALTER TABLESPACE",
    "ALTER TEXT",
    "ALTER TRIGGER",
    "ALTER TYPE",
    "ANALYZE",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COPY",
    "CREATE ACCESS",
    "CREATE AGGREGATE",
    "CREATE CAST",
    "CREATE COLLATION",
    "CREATE CONVERSION",
    "CREATE DATABASE",
    "CREATE DOMAIN",
    "CREATE EVENT",
    "CREATE FOREIGN",
    "CREATE LANGUAGE",
    "CREATE OPERATOR",
    "CREATE PROCEDURE",
    "CREATE PUBLICATION",
    "CREATE RULE",
    "CREATE SERVER",
    "CREATE STATISTICS",
    "CREATE SUBSCRIPTION",
    "CREATE TABLESPACE",
    "CREATE TEXT",
    "CREATE TRANSFORM",
    "CREATE TRIGGER",
    "CREATE TYPE",
    "DEALLOCATE",
    "DECLARE",
    "DISCARD",
    "DO",
    "DROP OWNED",
    "DROP TRIGGER",
    "DROP TYPE",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "IMPORT",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REINDEX",
    "RELEASE",
    "SAVEPOINT",
    "SECURITY LABEL",
    "TABLE",
    "UNLISTEN",
    "VACUUM",
];
