//! `CREATE TABLE` and `ALTER TABLE`.

use sqlparser::ast::{DataType, Expr};
use sqlparser::tokenizer::Token;

use super::super::error::{SqlError, code};
use super::super::state::{Generated, ReferenceAction};
use super::super::value::sql_type::{self, Type};
use super::cursor::Cursor;
use super::statement::{
    AlterTable, BoundSpec, ColumnSpec, ConstraintBody, CreateTable, DropKind, PartitionRule,
    References, Statement, TableAction, TableConstraint,
};

/// Actions on tables that the server has and the model has not, by their first words.
const UNMODELLED_ACTIONS: &[&str] = &[
    "attach partition",
    "cluster on",
    "detach partition",
    "disable rule",
    "disable trigger",
    "drop",
    "enable always",
    "enable replica",
    "enable rule",
    "enable trigger",
    "inherit",
    "no inherit",
    "not of",
    "rename",
    "replica identity",
    "set access method",
    "set logged",
    "set schema",
    "set tablespace",
    "set unlogged",
    "set without",
    "validate constraint",
];

impl Cursor {
    pub(super) fn create_table(&mut self) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let mut table = CreateTable {
            name,
            if_not_exists,
            columns: Vec::new(),
            constraints: Vec::new(),
            partitioning: None,
            partition_of: None,
        };
        if self.eat("partition of") {
            let parent = self.name()?;
            table.partition_of = Some((parent, self.bound()?));
        } else {
            self.table_elements(&mut table)?;
        }
        if self.eat("partition by") {
            table.partitioning = Some(self.partition_rule()?);
        }
        Ok(Statement::CreateTable(Box::new(table)))
    }

    fn table_elements(&mut self, table: &mut CreateTable) -> Result<(), SqlError> {
        self.expect_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(());
        }
        loop {
            match self.table_constraint()? {
                Some(constraint) => table.constraints.push(constraint),
                None => table.columns.push(self.column()?),
            }
            if self.eat_token(&Token::RParen) {
                return Ok(());
            }
            self.expect_token(&Token::Comma)?;
        }
    }

    fn partition_rule(&mut self) -> Result<PartitionRule, SqlError> {
        let list = match self.word(0).as_deref() {
            Some("list") => true,
            Some("range") => false,
            Some("hash") => return Err(SqlError::unsupported("PARTITION BY HASH")),
            _ => return Err(self.unexpected()),
        };
        self.parser().advance_token();
        let columns = self.bracketed(Self::ident)?;
        Ok(PartitionRule { list, columns })
    }

    fn bound(&mut self) -> Result<BoundSpec, SqlError> {
        if self.eat("default") {
            return Ok(BoundSpec::Default);
        }
        self.expect("for values")?;
        if self.eat("in") {
            return Ok(BoundSpec::List(self.bracketed(Self::expr)?));
        }
        if self.eat("from") {
            let from = self.bracketed(Self::expr)?;
            self.expect("to")?;
            return Ok(BoundSpec::Range(from, self.bracketed(Self::expr)?));
        }
        if self.at("with") {
            return Err(SqlError::unsupported("hash partitions"));
        }
        Err(self.unexpected())
    }

    /// Reads a constraint of the table, if the next words begin one.
    fn table_constraint(&mut self) -> Result<Option<TableConstraint>, SqlError> {
        let name = if self.eat("constraint") { Some(self.ident()?) } else { None };
        if self.at("exclude") && name.is_some() || self.at_all("exclude using") {
            return Err(SqlError::unsupported("exclusion constraints"));
        }
        if self.at("like") {
            return Err(SqlError::unsupported("CREATE TABLE (LIKE ..)"));
        }
        let body = if self.eat("primary key") {
            ConstraintBody::PrimaryKey(self.bracketed(Self::ident)?)
        } else if self.eat("unique") {
            if self.at("nulls") {
                return Err(SqlError::unsupported("UNIQUE NULLS (NOT) DISTINCT"));
            }
            ConstraintBody::Unique(self.bracketed(Self::ident)?)
        } else if self.eat("check") {
            ConstraintBody::Check(Box::new(self.bracketed_one(Self::expr)?))
        } else if self.eat("foreign key") {
            let columns = self.bracketed(Self::ident)?;
            self.expect("references")?;
            ConstraintBody::References(self.references(columns)?)
        } else if name.is_some() {
            return Err(self.unexpected());
        } else {
            return Ok(None);
        };
        self.constraint_flags()?;
        Ok(Some(TableConstraint { name, body }))
    }

    /// Takes the words that say what is the case anyway.
    fn constraint_flags(&mut self) -> Result<(), SqlError> {
        self.eat("not deferrable");
        if self.at("deferrable") || self.at_all("initially deferred") || self.at_all("not valid") {
            return Err(SqlError::unsupported("constraints that are deferred or not valid"));
        }
        self.eat("initially immediate");
        Ok(())
    }

    fn references(&mut self, columns: Vec<String>) -> Result<References, SqlError> {
        let table = self.name()?;
        let listed = self.at_token(&Token::LParen);
        let target_columns = if listed { self.bracketed(Self::ident)? } else { Vec::new() };
        if self.at("match") {
            return Err(SqlError::unsupported("REFERENCES .. MATCH"));
        }
        let mut actions = (None, None);
        loop {
            let slot = if self.eat("on delete") {
                &mut actions.0
            } else if self.eat("on update") {
                &mut actions.1
            } else {
                break;
            };
            if slot.is_some() {
                return Err(self.unexpected());
            }
            let meaning = self.eat_any(&[
                ("no action", ReferenceAction::Refuse),
                ("restrict", ReferenceAction::Refuse),
                ("cascade", ReferenceAction::Cascade),
                ("set null", ReferenceAction::SetNull),
            ]);
            if meaning.is_none() && self.at_all("set default") {
                return Err(SqlError::unsupported("ON DELETE SET DEFAULT"));
            }
            *slot = Some(meaning.ok_or_else(|| self.unexpected())?);
        }
        Ok(References {
            columns,
            table,
            target_columns,
            on_delete: actions.0.unwrap_or(ReferenceAction::Refuse),
            on_update: actions.1.unwrap_or(ReferenceAction::Refuse),
        })
    }

    fn column(&mut self) -> Result<ColumnSpec, SqlError> {
        let name = self.ident()?;
        let (ty, serial) = self.column_type()?;
        let mut column = ColumnSpec {
            name,
            ty,
            serial,
            not_null: serial,
            default: None,
            generated: Generated::No,
            constraints: Vec::new(),
        };
        let mut said = Said::default();
        while self.column_constraint(&mut column, &mut said)? {}
        if said.null && (column.not_null || said.not_null) {
            let text =
                format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
            return Err(SqlError::new(code::SYNTAX, text));
        }
        column.not_null |= said.not_null;
        Ok(column)
    }

    fn column_type(&mut self) -> Result<(Type, bool), SqlError> {
        let parsed = self.parser().parse_data_type()?;
        if let DataType::Custom(name, modifiers) = &parsed {
            let serial = match name.to_string().to_ascii_lowercase().as_str() {
                "serial" | "serial4" => Some(Type::Int4),
                "bigserial" | "serial8" => Some(Type::Int8),
                "smallserial" | "serial2" => Some(Type::Int2),
                _ => None,
            };
            if let Some(ty) = serial.filter(|_| modifiers.is_empty()) {
                return Ok((ty, true));
            }
        }
        let ty = sql_type::from_ast(&parsed)?;
        let pseudo = matches!(ty, Type::Void | Type::Record | Type::Unknown);
        if pseudo {
            let text = format!("column has pseudo-type {}", ty.label());
            return Err(SqlError::new(code::INVALID_TABLE, text));
        }
        Ok((ty, false))
    }

    fn column_constraint(
        &mut self,
        column: &mut ColumnSpec,
        said: &mut Said,
    ) -> Result<bool, SqlError> {
        let name = if self.eat("constraint") { Some(self.ident()?) } else { None };
        let own = vec![column.name.clone()];
        let body = if self.eat("primary key") {
            ConstraintBody::PrimaryKey(own)
        } else if self.eat("unique") {
            ConstraintBody::Unique(own)
        } else if self.eat("check") {
            ConstraintBody::Check(Box::new(self.bracketed_one(Self::expr)?))
        } else if self.eat("references") {
            ConstraintBody::References(self.references(own)?)
        } else {
            let taken = self.column_option(column, said)?;
            return if taken || name.is_none() { Ok(taken) } else { Err(self.unexpected()) };
        };
        self.constraint_flags()?;
        column.constraints.push(TableConstraint { name, body });
        Ok(true)
    }

    fn column_option(
        &mut self,
        column: &mut ColumnSpec,
        said: &mut Said,
    ) -> Result<bool, SqlError> {
        if self.eat("not null") {
            said.not_null = true;
        } else if self.eat("null") {
            said.null = true;
        } else if self.eat("default") {
            let doubled = column.default.is_some() || column.serial;
            column.default = Some(self.default_expr()?);
            if doubled {
                let text =
                    format!("multiple default values specified for column \"{}\"", column.name);
                return Err(SqlError::new(code::SYNTAX, text));
            }
        } else if self.eat("generated") {
            self.generated(column)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn generated(&mut self, column: &mut ColumnSpec) -> Result<(), SqlError> {
        if column.generated != Generated::No || column.default.is_some() || column.serial {
            let text = format!("conflicting defaults for column \"{}\"", column.name);
            return Err(SqlError::new(code::SYNTAX, text));
        }
        if self.eat("always as identity") {
            column.generated = Generated::IdentityAlways;
        } else if self.eat("by default as identity") {
            column.generated = Generated::IdentityByDefault;
        } else {
            self.expect("always as")?;
            column.default = Some(self.bracketed_one(Self::expr)?);
            self.expect("stored")?;
            column.generated = Generated::Stored;
            return Ok(());
        }
        column.not_null = true;
        if !column.ty.is_integer() {
            let text = "identity column type must be smallint, integer, or bigint";
            return Err(SqlError::new(code::INVALID_PARAMETER, text));
        }
        if self.at_token(&Token::LParen) {
            return Err(SqlError::unsupported("options of identity columns"));
        }
        Ok(())
    }

    pub(super) fn alter_table(&mut self, kind: Option<DropKind>) -> Result<Statement, SqlError> {
        let if_exists = self.if_exists();
        // A partition or a child has nothing below it, so ONLY changes nothing for what is modelled,
        // except on partitioned tables, where the executor asks for it.
        self.eat("only");
        let name = self.name()?;
        let actions = self.list(Self::table_action)?;
        Ok(Statement::AlterTable(AlterTable { name, kind, if_exists, actions }))
    }

    fn table_action(&mut self) -> Result<TableAction, SqlError> {
        let security = self.eat_any(&[
            ("enable row level security", TableSecurity::Row(true)),
            ("disable row level security", TableSecurity::Row(false)),
            ("no force row level security", TableSecurity::Force(false)),
            ("force row level security", TableSecurity::Force(true)),
        ]);
        match security {
            Some(TableSecurity::Row(on)) => return Ok(TableAction::RowSecurity(on)),
            Some(TableSecurity::Force(on)) => return Ok(TableAction::ForceRowSecurity(on)),
            None => {}
        }
        if self.eat("owner to") {
            return Ok(TableAction::OwnerTo(self.role()?));
        }
        if self.at("set") && *self.parser().peek_nth_token_ref(1) == Token::LParen {
            self.expect("set")?;
            return Ok(TableAction::SetOptions(self.bracketed(Self::option)?));
        }
        if self.eat("add") {
            return self.add_action();
        }
        if self.eat("drop constraint") {
            let if_exists = self.if_exists();
            let name = self.ident()?;
            if self.cascade() {
                return Err(SqlError::unsupported("DROP CONSTRAINT .. CASCADE"));
            }
            return Ok(TableAction::DropConstraint { name, if_exists });
        }
        if self.eat("alter") {
            self.eat("column");
            return self.alter_column();
        }
        let action = UNMODELLED_ACTIONS.iter().find(|words| self.at_all(words));
        match action {
            Some(words) => {
                Err(SqlError::unsupported(format!("ALTER TABLE .. {}", words.to_uppercase())))
            }
            None => Err(self.unexpected()),
        }
    }

    fn add_action(&mut self) -> Result<TableAction, SqlError> {
        if let Some(constraint) = self.table_constraint()? {
            return Ok(TableAction::AddConstraint(constraint));
        }
        self.eat("column");
        let if_not_exists = self.if_not_exists();
        Ok(TableAction::AddColumn { column: Box::new(self.column()?), if_not_exists })
    }

    fn alter_column(&mut self) -> Result<TableAction, SqlError> {
        let column = self.ident()?;
        if self.eat("set not null") {
            return Ok(TableAction::SetNotNull(column));
        }
        if self.eat("drop not null") {
            return Ok(TableAction::DropNotNull(column));
        }
        if self.eat("drop default") {
            return Ok(TableAction::SetDefault(column, Box::new(None)));
        }
        if self.eat("set default") {
            let default: Expr = self.expr()?;
            return Ok(TableAction::SetDefault(column, Box::new(Some(default))));
        }
        Err(self.unexpected())
    }
}

#[derive(Debug, Clone, Copy)]
enum TableSecurity {
    Row(bool),
    Force(bool),
}

/// What was said about nulls.
#[derive(Debug, Default)]
struct Said {
    null: bool,
    not_null: bool,
}
