//! A place in a list of tokens, with the small moves the grammar is made of.

use sqlparser::ast::{DataType, Expr, Query};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::super::error::SqlError;
use super::super::value::sql_type::{self, Type};
use super::statement::{RoleSpec, TypeSpec};
use super::{Name, checked, is_reserved};

static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Binding power just above `IS` and `NOT`, so that a column default ends before `NOT NULL`.
const DEFAULT_PRECEDENCE: u8 = 40;

/// Reads tokens one after the other.
pub(crate) struct Cursor {
    parser: Parser<'static>,
}

impl Cursor {
    pub(crate) fn new(tokens: Vec<TokenWithSpan>) -> Self {
        Self { parser: Parser::new(&DIALECT).with_tokens_with_locations(tokens) }
    }

    /// The parser itself, for what `sqlparser` reads.
    pub(crate) fn parser(&mut self) -> &mut Parser<'static> {
        &mut self.parser
    }

    /// The unquoted word `ahead` tokens from here, in small letters.
    pub(crate) fn word(&self, ahead: usize) -> Option<String> {
        match &self.parser.peek_nth_token_ref(ahead).token {
            Token::Word(word) if word.quote_style.is_none() => {
                Some(word.value.to_ascii_lowercase())
            }
            _ => None,
        }
    }

    pub(crate) fn at(&self, word: &str) -> bool {
        self.word(0).is_some_and(|found| found == word)
    }

    /// Tells whether the next tokens are these words.
    pub(crate) fn at_all(&self, words: &str) -> bool {
        let mut words = words.split(' ').enumerate();
        words.all(|(ahead, word)| self.word(ahead).is_some_and(|found| found == word))
    }

    /// Takes these words if all of them come next.
    pub(crate) fn eat(&mut self, words: &str) -> bool {
        let found = self.at_all(words);
        if found {
            for _ in words.split(' ') {
                self.parser.advance_token();
            }
        }
        found
    }

    pub(crate) fn expect(&mut self, words: &str) -> Result<(), SqlError> {
        if self.eat(words) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes one of the words, if one comes next.
    pub(crate) fn eat_any<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| self.eat(word)).map(|(_, meaning)| *meaning)
    }

    pub(crate) fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(crate) fn at_token(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.eat_token(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The refusal for the token that comes next.
    pub(crate) fn unexpected(&self) -> SqlError {
        let token = &self.parser.peek_token_ref().token;
        if *token == Token::EOF {
            return SqlError::new(super::code::SYNTAX, "syntax error at end of input");
        }
        SqlError::syntax(token)
    }

    pub(crate) fn end(&self) -> Result<(), SqlError> {
        if self.at_token(&Token::EOF) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn ident(&mut self) -> Result<String, SqlError> {
        if !matches!(self.parser.peek_token_ref().token, Token::Word(_)) {
            return Err(self.unexpected());
        }
        checked(&self.parser.parse_identifier()?)
    }

    pub(crate) fn name(&mut self) -> Result<Name, SqlError> {
        let first = self.ident()?;
        if !self.eat_token(&Token::Period) {
            return Ok(Name { schema: None, name: first });
        }
        let name = self.ident()?;
        if self.at_token(&Token::Period) {
            return Err(SqlError::unsupported("names of three parts"));
        }
        Ok(Name { schema: Some(first), name })
    }

    pub(crate) fn string(&mut self) -> Result<String, SqlError> {
        let text = match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(text) => text.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.parser.advance_token();
        Ok(text)
    }

    pub(crate) fn integer(&mut self) -> Result<i64, SqlError> {
        let negative = self.eat_token(&Token::Minus);
        let number = match &self.parser.peek_token_ref().token {
            Token::Number(text, false) => text.parse::<i64>().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.unexpected())?;
        self.parser.advance_token();
        Ok(if negative { number.saturating_neg() } else { number })
    }

    pub(crate) fn expr(&mut self) -> Result<Expr, SqlError> {
        Ok(self.parser.parse_expr()?)
    }

    /// Reads the default of a column, which ends where the next constraint begins.
    pub(crate) fn default_expr(&mut self) -> Result<Expr, SqlError> {
        Ok(self.parser.parse_subexpr(DEFAULT_PRECEDENCE)?)
    }

    pub(crate) fn query(&mut self) -> Result<Box<Query>, SqlError> {
        Ok(self.parser.parse_query()?)
    }

    pub(crate) fn data_type(&mut self) -> Result<Type, SqlError> {
        sql_type::from_ast(&self.parser.parse_data_type()?)
    }

    /// Reads a type, or the name of a table whose row type is meant.
    pub(crate) fn type_spec(&mut self) -> Result<TypeSpec, SqlError> {
        let parsed = self.parser.parse_data_type()?;
        let error = match sql_type::from_ast(&parsed) {
            Ok(ty) => return Ok(TypeSpec::Known(ty)),
            Err(error) => error,
        };
        let DataType::Custom(name, modifiers) = &parsed else { return Err(error) };
        let idents: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident()).collect();
        let parts: Vec<String> =
            idents.unwrap_or_default().into_iter().map(checked).collect::<Result<_, _>>()?;
        let undefined = error.sqlstate == super::code::UNDEFINED_OBJECT && modifiers.is_empty();
        match parts.as_slice() {
            [name] if undefined => {
                Ok(TypeSpec::Relation(Name { schema: None, name: name.clone() }))
            }
            [schema, name] if undefined => {
                Ok(TypeSpec::Relation(Name { schema: Some(schema.clone()), name: name.clone() }))
            }
            _ => Err(error),
        }
    }

    /// Reads one or more items with commas between them.
    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut items = vec![item(self)?];
        while self.eat_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Reads a list in round brackets.
    pub(crate) fn bracketed<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        self.expect_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    /// Reads one thing in round brackets.
    pub(crate) fn bracketed_one<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.expect_token(&Token::LParen)?;
        let found = item(self)?;
        self.expect_token(&Token::RParen)?;
        Ok(found)
    }

    pub(crate) fn if_exists(&mut self) -> bool {
        self.eat("if exists")
    }

    pub(crate) fn if_not_exists(&mut self) -> bool {
        self.eat("if not exists")
    }

    /// Reads `CASCADE` or `RESTRICT`; nothing means the latter.
    pub(crate) fn cascade(&mut self) -> bool {
        self.eat("cascade") || {
            self.eat("restrict");
            false
        }
    }

    pub(crate) fn role(&mut self) -> Result<RoleSpec, SqlError> {
        let special = [
            ("current_user", RoleSpec::Current),
            ("current_role", RoleSpec::Current),
            ("session_user", RoleSpec::Session),
            ("public", RoleSpec::Public),
        ];
        for (word, role) in special {
            if self.eat(word) {
                return Ok(role);
            }
        }
        let name = self.ident()?;
        if name == "none" || name == "public" {
            let text = format!("role name \"{name}\" is reserved");
            return Err(SqlError::new(super::code::RESERVED_NAME, text));
        }
        Ok(RoleSpec::Named(name))
    }

    /// Reads a storage option, `name` or `name = value`.
    pub(crate) fn option(&mut self) -> Result<(String, Option<String>), SqlError> {
        let name = self.ident()?;
        if !self.eat_token(&Token::Eq) {
            return Ok((name, None));
        }
        Ok((name, Some(self.option_value()?)))
    }

    fn option_value(&mut self) -> Result<String, SqlError> {
        let text = match &self.parser.peek_token_ref().token {
            Token::Word(word) => word.value.clone(),
            Token::Number(text, false) => text.clone(),
            _ => return self.string(),
        };
        self.parser.advance_token();
        Ok(text)
    }

    /// Reads what stands after `SET name =` or `TO`, as the text `SHOW` would print.
    ///
    /// No value is `DEFAULT`.
    pub(crate) fn setting_value(&mut self) -> Result<Option<String>, SqlError> {
        if self.eat("default") {
            return Ok(None);
        }
        let parts = self.list(|cursor| {
            if cursor.at_token(&Token::Minus) {
                return Ok((cursor.integer()?.to_string(), false));
            }
            let name = match &cursor.parser.peek_token_ref().token {
                Token::Word(word)
                    if word.quote_style.is_none() && is_reserved_value(&word.value) =>
                {
                    return Err(cursor.unexpected());
                }
                Token::Word(word) => Some(match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_ascii_lowercase(),
                }),
                _ => None,
            };
            match name {
                Some(name) => {
                    cursor.parser.advance_token();
                    Ok((name, true))
                }
                None => Ok((cursor.option_value()?, false)),
            }
        })?;
        if let [(only, _)] = parts.as_slice() {
            return Ok(Some(only.clone()));
        }
        let quoted = |(part, _): &(String, bool)| super::super::state::lookup::quote_ident(part);
        Ok(Some(parts.iter().map(quoted).collect::<Vec<_>>().join(", ")))
    }
}

fn is_reserved_value(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    is_reserved(&word) && !matches!(word.as_str(), "true" | "false" | "on")
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cursor").field("at", &self.parser.peek_token_ref().token).finish()
    }
}
