//! Decides by its first words what a statement is.

use sqlparser::tokenizer::Token;

use super::super::error::SqlError;
use super::super::state::lookup::quote_ident;
use super::cursor::Cursor;
use super::statement::{DropKind, OwnedObject, SetVariable, Statement};

impl Cursor {
    pub(super) fn statement(&mut self) -> Result<Statement, SqlError> {
        let Some(first) = self.word(0) else {
            // A query may begin with a bracket.
            return Ok(Statement::Query(self.query()?));
        };
        match first.as_str() {
            "select" | "with" | "values" => Ok(Statement::Query(self.query()?)),
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => self.delete(),
            "truncate" => self.truncate(),
            "create" => self.create(),
            "alter" => self.alter(),
            "drop" => self.drop(),
            "grant" => self.grant(),
            "revoke" => self.revoke(),
            "comment" => self.comment(),
            "refresh" => self.refresh(),
            "set" | "reset" | "show" => self.setting(),
            _ => self.transaction(),
        }
    }

    fn transaction(&mut self) -> Result<Statement, SqlError> {
        if self.eat("begin") || self.eat("start transaction") {
            let _ = self.eat("transaction") || self.eat("work");
            return Ok(Statement::Begin { read_only: self.transaction_modes() });
        }
        let statement = if self.eat("commit") || self.eat("end") {
            Statement::Commit
        } else if self.eat("rollback") || self.eat("abort") {
            Statement::Rollback
        } else {
            return Err(self.unexpected());
        };
        let _ = self.eat("transaction") || self.eat("work");
        Ok(statement)
    }

    /// Reads transaction modes and gives whether the transaction may only read, if that was said.
    ///
    /// Isolation levels are one here: nothing runs beside a transaction.
    fn transaction_modes(&mut self) -> Option<bool> {
        let mut read_only = None;
        loop {
            let level = self.eat("isolation level serializable")
                || self.eat("isolation level repeatable read")
                || self.eat("isolation level read committed")
                || self.eat("isolation level read uncommitted")
                || self.eat("not deferrable");
            if !level {
                let modes = [("read only", true), ("read write", false)];
                match self.eat_any(&modes) {
                    Some(mode) => read_only = Some(mode),
                    None => return read_only,
                }
            }
            self.eat_token(&Token::Comma);
        }
    }

    fn create(&mut self) -> Result<Statement, SqlError> {
        self.expect("create")?;
        if self.eat("table") {
            return self.create_table();
        }
        if self.eat("schema") {
            return self.create_schema();
        }
        if self.eat("policy") {
            return self.create_policy();
        }
        if self.eat("unique index") {
            return self.create_index(true);
        }
        if self.eat("index") {
            return self.create_index(false);
        }
        if self.eat("role") {
            return self.create_role(false);
        }
        if self.eat("user") {
            return self.create_role(true);
        }
        if self.eat("sequence") {
            return self.create_sequence();
        }
        if self.eat("extension") {
            return self.create_extension();
        }
        if self.eat("materialized view") {
            return self.create_view(false, true);
        }
        let or_replace = self.eat("or replace");
        if self.eat("view") {
            return self.create_view(or_replace, false);
        }
        if self.eat("function") {
            return self.create_function(or_replace);
        }
        Err(self.unexpected())
    }

    fn alter(&mut self) -> Result<Statement, SqlError> {
        self.expect("alter")?;
        if self.eat("table") {
            return self.alter_table(None);
        }
        let kinds = [
            ("view", DropKind::View),
            ("materialized view", DropKind::MaterializedView),
            ("sequence", DropKind::Sequence),
        ];
        if let Some(kind) = self.eat_any(&kinds) {
            return self.alter_table(Some(kind));
        }
        if self.eat("policy") {
            return self.alter_policy();
        }
        if self.eat("function") {
            return self.alter_function();
        }
        if self.eat("default privileges") {
            return self.default_privileges();
        }
        if self.eat("role") || self.eat("user") {
            return self.alter_role();
        }
        if self.eat("schema") {
            let schema = self.ident()?;
            self.expect("owner to")?;
            let owner = self.role()?;
            return Ok(Statement::AlterOwner { object: OwnedObject::Schema(schema), owner });
        }
        Err(self.unexpected())
    }

    fn drop(&mut self) -> Result<Statement, SqlError> {
        self.expect("drop")?;
        let relations = [
            ("table", DropKind::Table),
            ("view", DropKind::View),
            ("materialized view", DropKind::MaterializedView),
            ("sequence", DropKind::Sequence),
            ("index", DropKind::Index),
        ];
        if let Some(kind) = self.eat_any(&relations) {
            return self.drop_relations(kind);
        }
        if self.eat("schema") {
            return self.drop_schemas();
        }
        if self.eat("function") {
            return self.drop_functions();
        }
        if self.eat("extension") {
            return self.drop_extensions();
        }
        if self.eat("policy") {
            return self.drop_policy();
        }
        if self.eat("role") || self.eat("user") {
            let if_exists = self.if_exists();
            return Ok(Statement::DropRole { names: self.list(Self::ident)?, if_exists });
        }
        Err(self.unexpected())
    }

    fn setting(&mut self) -> Result<Statement, SqlError> {
        if self.eat("show") {
            return Ok(Statement::Show(self.setting_name()?));
        }
        if self.eat("reset") {
            if self.eat("role") {
                return Ok(Statement::SetRole { role: None, local: false });
            }
            let name = self.setting_name()?;
            return Ok(Statement::Set(SetVariable { name, value: None, local: false }));
        }
        self.expect("set")?;
        if self.eat("transaction") {
            let read_only = self.transaction_modes();
            return Ok(Statement::SetTransaction { read_only });
        }
        let local = self.eat("local");
        if !local {
            self.eat("session");
        }
        let special = ["authorization", "characteristics", "constraints", "time"];
        if special.iter().any(|word| self.at(word)) {
            return Err(SqlError::unsupported(format!(
                "SET {}",
                self.word(0).unwrap_or_default().to_uppercase()
            )));
        }
        if self.eat("role") {
            let _ = self.eat("to") || self.eat_token(&Token::Eq);
            if self.eat("none") {
                return Ok(Statement::SetRole { role: None, local });
            }
            let role = match self.string() {
                Ok(name) => name,
                Err(_) => self.ident()?,
            };
            return Ok(Statement::SetRole { role: Some(role), local });
        }
        let name = self.setting_name()?;
        if !self.eat("to") {
            self.expect_token(&Token::Eq)?;
        }
        let value = self.setting_value()?;
        Ok(Statement::Set(SetVariable { name, value, local }))
    }

    /// Reads the name of a setting, which may have dots in or between its words.
    pub(super) fn setting_name(&mut self) -> Result<String, SqlError> {
        let mut name = if self.eat("all") { "all".to_owned() } else { self.ident()? };
        while self.eat_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.ident()?);
        }
        if name.is_empty() {
            return Err(SqlError::syntax(quote_ident(&name)));
        }
        Ok(name.to_ascii_lowercase())
    }
}
