//! Roles, rights and policies.

use sqlparser::tokenizer::Token;

use super::super::error::SqlError;
use super::super::state::acl::Rights;
use super::super::state::{GrantObject, PolicyCommand};
use super::cursor::Cursor;
use super::statement::{
    AlterPolicy, CreatePolicy, DefaultPrivileges, Grant, GrantRole, GrantTarget, RightsSpec,
    RoleOption, RoleSpec, Statement,
};

/// A word, and what it means with and without `NO`.
type Flag = (&'static str, fn(bool) -> RoleOption);

impl Cursor {
    pub(super) fn create_policy(&mut self) -> Result<Statement, SqlError> {
        let name = self.ident()?;
        self.expect("on")?;
        let table = self.name()?;
        let mut permissive = true;
        if self.eat("as") {
            let kinds = [("permissive", true), ("restrictive", false)];
            permissive = self.eat_any(&kinds).ok_or_else(|| self.unexpected())?;
        }
        let mut command = PolicyCommand::All;
        if self.eat("for") {
            let commands = [
                ("all", PolicyCommand::All),
                ("select", PolicyCommand::Select),
                ("insert", PolicyCommand::Insert),
                ("update", PolicyCommand::Update),
                ("delete", PolicyCommand::Delete),
            ];
            command = self.eat_any(&commands).ok_or_else(|| self.unexpected())?;
        }
        let roles = if self.eat("to") { self.list(Self::role)? } else { vec![RoleSpec::Public] };
        let using = if self.eat("using") { Some(self.bracketed_one(Self::expr)?) } else { None };
        let check =
            if self.eat("with check") { Some(self.bracketed_one(Self::expr)?) } else { None };
        Ok(Statement::CreatePolicy(CreatePolicy {
            name,
            table,
            permissive,
            command,
            roles,
            using,
            check,
        }))
    }

    pub(super) fn alter_policy(&mut self) -> Result<Statement, SqlError> {
        let name = self.ident()?;
        self.expect("on")?;
        let table = self.name()?;
        let mut policy =
            AlterPolicy { name, table, rename: None, roles: None, using: None, check: None };
        if self.eat("rename to") {
            policy.rename = Some(self.ident()?);
            return Ok(Statement::AlterPolicy(policy));
        }
        if self.eat("to") {
            policy.roles = Some(self.list(Self::role)?);
        }
        if self.eat("using") {
            policy.using = Some(self.bracketed_one(Self::expr)?);
        }
        if self.eat("with check") {
            policy.check = Some(self.bracketed_one(Self::expr)?);
        }
        Ok(Statement::AlterPolicy(policy))
    }

    pub(super) fn drop_policy(&mut self) -> Result<Statement, SqlError> {
        let if_exists = self.if_exists();
        let name = self.ident()?;
        self.expect("on")?;
        let table = self.name()?;
        self.cascade();
        Ok(Statement::DropPolicy { name, table, if_exists })
    }

    pub(super) fn create_role(&mut self, login: bool) -> Result<Statement, SqlError> {
        let name = self.ident()?;
        self.eat("with");
        let mut options = if login { vec![RoleOption::Login(true)] } else { Vec::new() };
        options.extend(self.role_options()?);
        Ok(Statement::CreateRole { name, options })
    }

    pub(super) fn alter_role(&mut self) -> Result<Statement, SqlError> {
        let name = self.ident()?;
        if self.at("rename") || self.at("in") {
            return Err(SqlError::unsupported("ALTER ROLE .. RENAME or IN DATABASE"));
        }
        if self.eat("set") {
            let setting = self.setting_name()?;
            if !self.eat("to") {
                self.expect_token(&Token::Eq)?;
            }
            let value = self.setting_value()?;
            return Ok(Statement::AlterRoleSet { name, setting, value });
        }
        if self.eat("reset") {
            let setting = self.setting_name()?;
            return Ok(Statement::AlterRoleSet { name, setting, value: None });
        }
        self.eat("with");
        let options = self.role_options()?;
        if options.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Statement::AlterRole { name, options })
    }

    fn role_options(&mut self) -> Result<Vec<RoleOption>, SqlError> {
        let mut options = Vec::new();
        while !self.at_token(&Token::EOF) {
            options.push(self.role_option()?);
        }
        Ok(options)
    }

    fn role_option(&mut self) -> Result<RoleOption, SqlError> {
        let flags: [Flag; 7] = [
            ("superuser", RoleOption::Superuser),
            ("inherit", RoleOption::Inherit),
            ("createrole", RoleOption::CreateRole),
            ("createdb", RoleOption::CreateDb),
            ("login", RoleOption::Login),
            ("replication", RoleOption::Replication),
            ("bypassrls", RoleOption::BypassRls),
        ];
        for (word, option) in flags {
            if self.eat(word) {
                return Ok(option(true));
            }
            if self.eat(&format!("no{word}")) {
                return Ok(option(false));
            }
        }
        if self.eat("connection limit") {
            return Ok(RoleOption::ConnectionLimit(self.integer()?));
        }
        if self.eat("password") || self.eat("encrypted password") {
            if !self.eat("null") {
                self.string()?;
            }
            return Ok(RoleOption::Password);
        }
        if self.eat("in role") {
            return Ok(RoleOption::InRole(self.list(Self::ident)?));
        }
        if self.eat("role") || self.eat("user") {
            return Ok(RoleOption::Members(self.list(Self::ident)?));
        }
        if self.eat("admin") {
            return Ok(RoleOption::Admins(self.list(Self::ident)?));
        }
        if self.at_all("valid until") {
            return Err(SqlError::unsupported("VALID UNTIL"));
        }
        Err(self.unexpected())
    }

    pub(super) fn grant(&mut self) -> Result<Statement, SqlError> {
        self.expect("grant")?;
        if !self.at_rights() {
            let roles = self.list(Self::ident)?;
            self.expect("to")?;
            let members = self.list(Self::role)?;
            let admin = self.eat("with admin option");
            self.granted_by()?;
            let grant = GrantRole { revoke: false, roles, members, admin };
            return Ok(Statement::GrantRole(grant));
        }
        let rights = self.rights()?;
        self.expect("on")?;
        let on = self.grant_target()?;
        self.expect("to")?;
        let roles = self.grantees()?;
        let option = self.eat("with grant option");
        self.granted_by()?;
        Ok(Statement::Grant(Grant { revoke: false, rights, on, roles, option, cascade: false }))
    }

    pub(super) fn revoke(&mut self) -> Result<Statement, SqlError> {
        self.expect("revoke")?;
        let admin = self.eat("admin option for");
        let option = !admin && self.eat("grant option for");
        if admin || !self.at_rights() {
            let roles = self.list(Self::ident)?;
            self.expect("from")?;
            let members = self.list(Self::role)?;
            self.granted_by()?;
            self.cascade();
            let grant = GrantRole { revoke: true, roles, members, admin };
            return Ok(Statement::GrantRole(grant));
        }
        let rights = self.rights()?;
        self.expect("on")?;
        let on = self.grant_target()?;
        self.expect("from")?;
        let roles = self.grantees()?;
        self.granted_by()?;
        let cascade = self.cascade();
        Ok(Statement::Grant(Grant { revoke: true, rights, on, roles, option, cascade }))
    }

    fn granted_by(&self) -> Result<(), SqlError> {
        if self.at_all("granted by") {
            return Err(SqlError::unsupported("GRANTED BY"));
        }
        Ok(())
    }

    fn grantees(&mut self) -> Result<Vec<RoleSpec>, SqlError> {
        self.list(|cursor| {
            cursor.eat("group");
            cursor.role()
        })
    }

    /// Tells rights on objects from names of roles.
    fn at_rights(&self) -> bool {
        let word = self.word(0).unwrap_or_default();
        let other = ["all", "connect", "temporary", "temp", "set", "alter"];
        let next = self.word(1).unwrap_or_default();
        let ends_list = next == "to" || next == "from";
        (Rights::from_word(&word).is_some() || other.contains(&word.as_str())) && !ends_list
    }

    fn rights(&mut self) -> Result<RightsSpec, SqlError> {
        if self.eat("all") {
            self.eat("privileges");
            if self.at_token(&Token::LParen) {
                return Err(SqlError::unsupported("ALL PRIVILEGES on columns"));
            }
            return Ok(RightsSpec(None));
        }
        let rights = self.list(|cursor| {
            let word = cursor.word(0).ok_or_else(|| cursor.unexpected())?;
            let Some(right) = Rights::from_word(&word) else {
                return Err(SqlError::unsupported(format!("privilege {word}")));
            };
            cursor.parser().advance_token();
            let listed = cursor.at_token(&Token::LParen);
            let columns = if listed { cursor.bracketed(Self::ident)? } else { Vec::new() };
            Ok((right, columns))
        })?;
        Ok(RightsSpec(Some(rights)))
    }

    fn grant_target(&mut self) -> Result<GrantTarget, SqlError> {
        let all = [
            ("all tables in schema", GrantObject::Table),
            ("all sequences in schema", GrantObject::Sequence),
            ("all functions in schema", GrantObject::Function),
            ("all routines in schema", GrantObject::Function),
        ];
        if let Some(object) = self.eat_any(&all) {
            return Ok(GrantTarget::All(object, self.list(Self::ident)?));
        }
        if self.eat("schema") {
            return Ok(GrantTarget::Schemas(self.list(Self::ident)?));
        }
        if self.eat("function") || self.eat("routine") {
            return Ok(GrantTarget::Functions(self.list(Self::function_ref)?));
        }
        if self.eat("sequence") {
            return Ok(GrantTarget::Relations(self.list(Self::name)?, true));
        }
        let other = [
            "database",
            "domain",
            "foreign",
            "language",
            "large",
            "parameter",
            "procedure",
            "tablespace",
            "type",
        ];
        let word = self.word(0).unwrap_or_default();
        let named = self.word(1).is_some_and(|next| next != "to" && next != "from");
        if other.contains(&word.as_str()) && named {
            return Err(SqlError::unsupported(format!("GRANT ON {}", word.to_uppercase())));
        }
        self.eat("table");
        Ok(GrantTarget::Relations(self.list(Self::name)?, false))
    }

    pub(super) fn default_privileges(&mut self) -> Result<Statement, SqlError> {
        let mut owners = Vec::new();
        let mut schemas = Vec::new();
        loop {
            if self.eat("for role") || self.eat("for user") {
                owners.extend(self.list(Self::role)?);
            } else if self.eat("in schema") {
                schemas.extend(self.list(Self::ident)?);
            } else {
                break;
            }
        }
        let revoke = self.eat("revoke");
        if !revoke {
            self.expect("grant")?;
        }
        let mut option = revoke && self.eat("grant option for");
        let rights = self.rights()?;
        self.expect("on")?;
        let objects = [
            ("tables", GrantObject::Table),
            ("sequences", GrantObject::Sequence),
            ("functions", GrantObject::Function),
            ("routines", GrantObject::Function),
            ("schemas", GrantObject::Schema),
        ];
        let Some(object) = self.eat_any(&objects) else {
            if self.at("types") {
                return Err(SqlError::unsupported("default privileges on types"));
            }
            return Err(self.unexpected());
        };
        self.expect(if revoke { "from" } else { "to" })?;
        let roles = self.grantees()?;
        option = option || (!revoke && self.eat("with grant option"));
        let cascade = revoke && self.cascade();
        Ok(Statement::DefaultPrivileges(DefaultPrivileges {
            owners,
            schemas,
            revoke,
            rights,
            object,
            roles,
            option,
            cascade,
        }))
    }
}
