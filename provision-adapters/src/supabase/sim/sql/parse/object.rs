//! Schemas, views, indexes, sequences, extensions, comments, and dropping all of them.

use sqlparser::ast::Expr;
use sqlparser::tokenizer::Token;

use super::super::error::{SqlError, code};
use super::Name;
use super::cursor::Cursor;
use super::statement::{
    CommentTarget, CreateIndex, CreateSchema, CreateSequence, CreateView, Drop, DropKind, Dropped,
    Statement,
};

impl Cursor {
    pub(super) fn create_schema(&mut self) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = if self.at("authorization") { None } else { Some(self.ident()?) };
        let owner = if self.eat("authorization") { Some(self.role()?) } else { None };
        if self.at("create") || self.at("grant") {
            return Err(SqlError::unsupported("CREATE SCHEMA with elements"));
        }
        Ok(Statement::CreateSchema(CreateSchema { name, owner, if_not_exists }))
    }

    pub(super) fn create_view(
        &mut self,
        or_replace: bool,
        materialized: bool,
    ) -> Result<Statement, SqlError> {
        let if_not_exists = materialized && self.if_not_exists();
        let name = self.name()?;
        let listed = self.at_token(&Token::LParen);
        let columns = if listed { self.bracketed(Self::ident)? } else { Vec::new() };
        let options = if self.eat("with") { self.bracketed(Self::option)? } else { Vec::new() };
        self.expect("as")?;
        let query = self.query()?;
        let mut with_data = true;
        if materialized {
            with_data = !self.eat("with no data");
            self.eat("with data");
        } else if self.at("with") {
            return Err(SqlError::unsupported("views WITH CHECK OPTION"));
        }
        Ok(Statement::CreateView(CreateView {
            name,
            or_replace,
            if_not_exists,
            materialized,
            columns,
            options,
            query,
            with_data,
        }))
    }

    pub(super) fn refresh(&mut self) -> Result<Statement, SqlError> {
        self.expect("refresh materialized view")?;
        if self.at("concurrently") {
            return Err(SqlError::unsupported("REFRESH .. CONCURRENTLY"));
        }
        let name = self.name()?;
        let with_data = !self.eat("with no data");
        self.eat("with data");
        Ok(Statement::Refresh { name, with_data })
    }

    pub(super) fn create_index(&mut self, unique: bool) -> Result<Statement, SqlError> {
        let concurrently = self.eat("concurrently");
        let if_not_exists = self.if_not_exists();
        let name = if self.at("on") { None } else { Some(self.ident()?) };
        if name.is_none() && if_not_exists {
            return Err(self.unexpected());
        }
        self.expect("on")?;
        self.eat("only");
        let table = self.name()?;
        let mut method = "btree".to_owned();
        if self.eat("using") {
            method = self.ident()?;
            let known = ["btree", "hash", "gin", "gist", "brin", "spgist"];
            if !known.contains(&method.as_str()) {
                let text = format!("access method \"{method}\" does not exist");
                return Err(SqlError::new(code::UNDEFINED_OBJECT, text));
            }
            if method != "btree" && (unique || method != "hash") {
                return Err(SqlError::unsupported(format!("index method {method}")));
            }
        }
        let parts = self.bracketed(|cursor| cursor.index_part())?;
        if self.at("include") || self.at("with") || self.at("tablespace") || self.at("nulls") {
            return Err(SqlError::unsupported("options of indexes"));
        }
        let filter = if self.eat("where") { Some(self.expr()?) } else { None };
        if unique && filter.is_some() {
            return Err(SqlError::unsupported("partial unique indexes"));
        }
        let mut text: String = parts.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ");
        text = format!("USING {method} ({text})");
        if let Some(filter) = &filter {
            text = format!("{text} WHERE ({filter})");
        }
        let index =
            CreateIndex { name, table, unique, if_not_exists, concurrently, parts, filter, text };
        Ok(Statement::CreateIndex(index))
    }

    fn index_part(&mut self) -> Result<Expr, SqlError> {
        let expr = self.expr()?;
        let _ = self.eat("asc") || self.eat("desc");
        let _ = self.eat("nulls first") || self.eat("nulls last");
        Ok(expr)
    }

    pub(super) fn create_sequence(&mut self) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let (mut start, mut increment) = (1, 1);
        loop {
            if self.eat("start") {
                self.eat("with");
                start = self.integer()?;
            } else if self.eat("increment") {
                self.eat("by");
                increment = self.integer()?;
            } else {
                break;
            }
        }
        if increment < 1 || start < 1 {
            return Err(SqlError::unsupported("sequences that start or step below one"));
        }
        Ok(Statement::CreateSequence(CreateSequence { name, if_not_exists, start, increment }))
    }

    pub(super) fn create_extension(&mut self) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.ident()?;
        self.eat("with");
        let schema = if self.eat("schema") { Some(self.ident()?) } else { None };
        Ok(Statement::CreateExtension { name, schema, if_not_exists })
    }

    pub(super) fn drop_relations(&mut self, kind: DropKind) -> Result<Statement, SqlError> {
        if self.at("concurrently") {
            return Err(SqlError::unsupported("DROP INDEX CONCURRENTLY"));
        }
        let if_exists = self.if_exists();
        let names = self.list(Self::name)?;
        let cascade = self.cascade();
        let what = Dropped::Relations(kind, names);
        Ok(Statement::Drop(Drop { what, if_exists, cascade }))
    }

    pub(super) fn drop_schemas(&mut self) -> Result<Statement, SqlError> {
        let if_exists = self.if_exists();
        let what = Dropped::Schemas(self.list(Self::ident)?);
        Ok(Statement::Drop(Drop { what, if_exists, cascade: self.cascade() }))
    }

    pub(super) fn drop_extensions(&mut self) -> Result<Statement, SqlError> {
        let if_exists = self.if_exists();
        let what = Dropped::Extensions(self.list(Self::ident)?);
        Ok(Statement::Drop(Drop { what, if_exists, cascade: self.cascade() }))
    }

    pub(super) fn drop_functions(&mut self) -> Result<Statement, SqlError> {
        let if_exists = self.if_exists();
        let what = Dropped::Functions(self.list(Self::function_ref)?);
        Ok(Statement::Drop(Drop { what, if_exists, cascade: self.cascade() }))
    }

    pub(super) fn comment(&mut self) -> Result<Statement, SqlError> {
        self.expect("comment on")?;
        let relations = [
            ("table", DropKind::Table),
            ("view", DropKind::View),
            ("materialized view", DropKind::MaterializedView),
            ("sequence", DropKind::Sequence),
            ("index", DropKind::Index),
        ];
        let on = if let Some(kind) = self.eat_any(&relations) {
            CommentTarget::Relation(self.name()?, Some(kind))
        } else if self.eat("column") {
            self.comment_column()?
        } else if self.eat("schema") {
            CommentTarget::Schema(self.ident()?)
        } else if self.eat("function") {
            CommentTarget::Function(self.function_ref()?)
        } else if self.eat("policy") {
            let policy = self.ident()?;
            self.expect("on")?;
            CommentTarget::Policy(policy, self.name()?)
        } else {
            let what = self.word(0).unwrap_or_default();
            return Err(SqlError::unsupported(format!("COMMENT ON {what}")));
        };
        self.expect("is")?;
        let text = if self.eat("null") { None } else { Some(self.string()?) };
        Ok(Statement::Comment { on, text })
    }

    fn comment_column(&mut self) -> Result<CommentTarget, SqlError> {
        let mut parts = vec![self.ident()?];
        while self.eat_token(&Token::Period) {
            parts.push(self.ident()?);
        }
        let column = parts.pop();
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.clone()),
            [schema, name] => (Some(schema.clone()), name.clone()),
            _ => return Err(SqlError::new(code::SYNTAX, "column name must be qualified")),
        };
        Ok(CommentTarget::Column(Name { schema, name }, column.unwrap_or_default()))
    }
}
