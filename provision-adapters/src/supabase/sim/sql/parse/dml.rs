//! `INSERT`, `UPDATE`, `DELETE` and `TRUNCATE`.

use sqlparser::ast::{Expr, SelectItem, TableWithJoins};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::super::error::SqlError;
use super::cursor::Cursor;
use super::statement::{ConflictTarget, Delete, Insert, OnConflict, Overriding, Statement, Update};

impl Cursor {
    pub(super) fn insert(&mut self) -> Result<Statement, SqlError> {
        self.expect("insert into")?;
        let table = self.name()?;
        let alias = if self.eat("as") { Some(self.ident()?) } else { None };
        // A bracket may open the list of columns or a query.
        let listed = self.at_token(&Token::LParen)
            && self
                .word(1)
                .is_none_or(|word| !["select", "values", "with"].contains(&word.as_str()));
        let columns = if listed { Some(self.bracketed(Self::ident)?) } else { None };
        let mut overriding = None;
        if self.eat("overriding system value") {
            overriding = Some(Overriding::System);
        } else if self.eat("overriding user value") {
            overriding = Some(Overriding::User);
        }
        let source = if self.eat("default values") { None } else { Some(self.query()?) };
        if source.is_none() && columns.is_some() {
            return Err(SqlError::syntax("default"));
        }
        let on_conflict = if self.eat("on conflict") { Some(self.on_conflict()?) } else { None };
        let returning = self.returning()?;
        Ok(Statement::Insert(Box::new(Insert {
            table,
            alias,
            columns,
            overriding,
            source,
            on_conflict,
            returning,
        })))
    }

    fn on_conflict(&mut self) -> Result<OnConflict, SqlError> {
        let target = if self.at_token(&Token::LParen) {
            ConflictTarget::Columns(self.bracketed(Self::ident)?)
        } else if self.eat("on constraint") {
            ConflictTarget::Constraint(self.ident()?)
        } else {
            ConflictTarget::Any
        };
        if self.at_all("do update") || self.at("where") {
            return Err(SqlError::unsupported("ON CONFLICT .. DO UPDATE"));
        }
        self.expect("do nothing")?;
        Ok(OnConflict { target })
    }

    fn returning(&mut self) -> Result<Vec<SelectItem>, SqlError> {
        if !self.eat("returning") {
            return Ok(Vec::new());
        }
        Ok(self.parser().parse_comma_separated(Parser::parse_select_item)?)
    }

    pub(super) fn update(&mut self) -> Result<Statement, SqlError> {
        self.expect("update")?;
        let only = self.eat("only");
        let table = self.name()?;
        let alias = self.alias("set")?;
        self.expect("set")?;
        let mut assignments = Vec::new();
        for part in self.list(Self::assignment)? {
            assignments.extend(part);
        }
        let from = if self.eat("from") { self.tables()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        let update = Update { table, only, alias, assignments, from, filter, returning };
        Ok(Statement::Update(Box::new(update)))
    }

    fn alias(&mut self, end: &str) -> Result<Option<String>, SqlError> {
        if self.eat("as") {
            return Ok(Some(self.ident()?));
        }
        let ends = [end, "where", "returning", "using"];
        let more = !self.at_token(&Token::EOF) && !ends.iter().any(|word| self.at(word));
        if more { Ok(Some(self.ident()?)) } else { Ok(None) }
    }

    fn assignment(&mut self) -> Result<Vec<(String, Option<Expr>)>, SqlError> {
        if self.at_token(&Token::LParen) {
            let columns = self.bracketed(Self::ident)?;
            self.expect_token(&Token::Eq)?;
            self.eat("row");
            if self.word(1).is_some_and(|word| word == "select") {
                return Err(SqlError::unsupported("UPDATE .. SET (..) = (SELECT ..)"));
            }
            let values = self.bracketed(Self::value_or_default)?;
            if values.len() != columns.len() {
                let text = "number of columns does not match number of values";
                return Err(SqlError::new(super::code::SYNTAX, text));
            }
            return Ok(columns.into_iter().zip(values).collect());
        }
        let column = self.ident()?;
        if self.at_token(&Token::LBracket) || self.at_token(&Token::Period) {
            return Err(SqlError::unsupported("UPDATE of a part of a column"));
        }
        self.expect_token(&Token::Eq)?;
        Ok(vec![(column, self.value_or_default()?)])
    }

    fn value_or_default(&mut self) -> Result<Option<Expr>, SqlError> {
        if self.eat("default") { Ok(None) } else { Ok(Some(self.expr()?)) }
    }

    fn tables(&mut self) -> Result<Vec<TableWithJoins>, SqlError> {
        Ok(self.parser().parse_comma_separated(Parser::parse_table_and_joins)?)
    }

    fn filter(&mut self) -> Result<Option<Expr>, SqlError> {
        if !self.eat("where") {
            return Ok(None);
        }
        if self.at_all("current of") {
            return Err(SqlError::unsupported("WHERE CURRENT OF"));
        }
        Ok(Some(self.expr()?))
    }

    pub(super) fn delete(&mut self) -> Result<Statement, SqlError> {
        self.expect("delete from")?;
        let only = self.eat("only");
        let table = self.name()?;
        let alias = self.alias("using")?;
        let using = if self.eat("using") { self.tables()? } else { Vec::new() };
        let filter = self.filter()?;
        let returning = self.returning()?;
        let delete = Delete { table, only, alias, using, filter, returning };
        Ok(Statement::Delete(Box::new(delete)))
    }

    pub(super) fn truncate(&mut self) -> Result<Statement, SqlError> {
        self.expect("truncate")?;
        self.eat("table");
        let tables = self.list(Self::name)?;
        if self.at("restart") || self.at("cascade") {
            return Err(SqlError::unsupported("TRUNCATE .. RESTART IDENTITY or CASCADE"));
        }
        self.eat("continue identity");
        self.eat("restrict");
        Ok(Statement::Truncate(tables))
    }
}
