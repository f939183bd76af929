//! `CREATE FUNCTION`, `ALTER FUNCTION`, and naming a function.

use sqlparser::tokenizer::Token;

use super::super::error::{SqlError, code};
use super::super::state::Volatility;
use super::super::value::sql_type;
use super::cursor::Cursor;
use super::statement::{
    AlterFunction, ArgumentSpec, CreateFunction, FunctionOptions, FunctionRef, OwnedObject,
    ReturnsSpec, Statement, TypeSpec,
};

impl Cursor {
    pub(super) fn create_function(&mut self, or_replace: bool) -> Result<Statement, SqlError> {
        let name = self.name()?;
        let arguments = self.arguments()?;
        if !self.eat("returns") {
            return Err(SqlError::unsupported("functions without RETURNS"));
        }
        let returns = self.returns()?;
        let mut options = FunctionOptions::default();
        let (mut language, mut body) = (None, None);
        loop {
            if self.eat("language") {
                let given = match self.string() {
                    Ok(name) => name.to_ascii_lowercase(),
                    Err(_) => self.ident()?,
                };
                only_once(&mut language, given)?;
            } else if self.eat("as") {
                let text = self.string()?;
                only_once(&mut body, text)?;
            } else if self.at("return") || self.at_all("begin atomic") {
                return Err(SqlError::unsupported("function bodies that are no string"));
            } else if !self.function_option(&mut options)? {
                break;
            }
        }
        let invalid = |text: &str| SqlError::new(code::INVALID_FUNCTION, text);
        match language.as_deref() {
            Some("sql") => {}
            Some(other) => return Err(SqlError::unsupported(format!("language {other}"))),
            None => return Err(invalid("no language specified")),
        }
        let body = body.ok_or_else(|| invalid("no function body specified"))?;
        let function = CreateFunction { name, or_replace, arguments, returns, body, options };
        Ok(Statement::CreateFunction(Box::new(function)))
    }

    fn arguments(&mut self) -> Result<Vec<ArgumentSpec>, SqlError> {
        self.expect_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(Vec::new());
        }
        let arguments = self.list(Self::argument)?;
        self.expect_token(&Token::RParen)?;
        let mut needed = arguments.iter().skip_while(|argument| argument.default.is_none());
        if needed.any(|argument| argument.default.is_none()) {
            let text = "input parameters after one with a default value must also have defaults";
            return Err(SqlError::new(code::INVALID_FUNCTION, text));
        }
        Ok(arguments)
    }

    fn argument(&mut self) -> Result<ArgumentSpec, SqlError> {
        for mode in ["out", "inout", "variadic"] {
            if self.at(mode) {
                return Err(SqlError::unsupported(format!("{} arguments", mode.to_uppercase())));
            }
        }
        self.eat("in");
        let name = if self.is_named_argument() { Some(self.ident()?) } else { None };
        let ty = self.data_type()?;
        let given = self.eat("default") || self.eat_token(&Token::Eq);
        let default = if given { Some(self.expr()?) } else { None };
        Ok(ArgumentSpec { name, ty, default })
    }

    /// Tells `name type` from a bare type, which may have several words of its own.
    fn is_named_argument(&mut self) -> bool {
        let followed = matches!(self.parser().peek_nth_token_ref(1).token, Token::Word(_));
        let types = ["double", "character", "timestamp", "time", "bit"];
        let spread = self.word(0).is_some_and(|word| types.contains(&word.as_str()));
        let next = self.word(1).unwrap_or_default();
        let continues = ["precision", "varying", "with", "without"].contains(&next.as_str());
        followed && next != "default" && !(spread && continues)
    }

    fn returns(&mut self) -> Result<ReturnsSpec, SqlError> {
        if self.eat("table") {
            let columns = self.bracketed(|cursor| Ok((cursor.ident()?, cursor.data_type()?)))?;
            return Ok(ReturnsSpec::Table(columns));
        }
        let set = self.eat("setof");
        Ok(ReturnsSpec::Type { ty: self.type_spec()?, set })
    }

    fn function_option(&mut self, options: &mut FunctionOptions) -> Result<bool, SqlError> {
        let volatility = [
            ("immutable", Volatility::Immutable),
            ("stable", Volatility::Stable),
            ("volatile", Volatility::Volatile),
        ];
        let security = [
            ("security definer", true),
            ("security invoker", false),
            ("external security definer", true),
            ("external security invoker", false),
        ];
        let strict = [
            ("strict", true),
            ("returns null on null input", true),
            ("called on null input", false),
        ];
        if let Some(given) = self.eat_any(&volatility) {
            only_once(&mut options.volatility, given)?;
        } else if let Some(given) = self.eat_any(&security) {
            only_once(&mut options.definer, given)?;
        } else if let Some(given) = self.eat_any(&strict) {
            only_once(&mut options.strict, given)?;
        } else if self.eat("set") {
            let name = self.setting_name()?;
            if self.at_all("from current") {
                return Err(SqlError::unsupported("SET .. FROM CURRENT"));
            }
            if !self.eat("to") {
                self.expect_token(&Token::Eq)?;
            }
            options.config.push((name, self.setting_value()?));
        } else {
            return self.function_hint();
        }
        Ok(true)
    }

    /// Takes what only guides the planner.
    fn function_hint(&mut self) -> Result<bool, SqlError> {
        if self.eat("cost") || self.eat("rows") {
            self.integer()?;
            return Ok(true);
        }
        Ok(self.eat("parallel safe")
            || self.eat("parallel unsafe")
            || self.eat("parallel restricted")
            || self.eat("not leakproof"))
    }

    pub(super) fn alter_function(&mut self) -> Result<Statement, SqlError> {
        let function = self.function_ref()?;
        if self.eat("owner to") {
            let owner = self.role()?;
            return Ok(Statement::AlterOwner { object: OwnedObject::Function(function), owner });
        }
        let mut options = FunctionOptions::default();
        let mut any = false;
        loop {
            if self.eat("reset all") {
                options.reset_all = true;
            } else if self.eat("reset") {
                let name = self.setting_name()?;
                options.config.push((name, None));
            } else if !self.function_option(&mut options)? {
                break;
            }
            any = true;
        }
        self.eat("restrict");
        if !any {
            return Err(self.unexpected());
        }
        Ok(Statement::AlterFunction(AlterFunction { function, options }))
    }

    /// Reads `name` or `name(type, ..)`; argument names before the types are passed over.
    pub(super) fn function_ref(&mut self) -> Result<FunctionRef, SqlError> {
        let name = self.name()?;
        if !self.at_token(&Token::LParen) {
            return Ok(FunctionRef { name, types: None });
        }
        self.expect_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(FunctionRef { name, types: Some(Vec::new()) });
        }
        let types = self.list(|cursor| Ok(cursor.argument()?.ty))?;
        self.expect_token(&Token::RParen)?;
        Ok(FunctionRef { name, types: Some(types) })
    }
}

fn only_once<T>(slot: &mut Option<T>, value: T) -> Result<(), SqlError> {
    if slot.replace(value).is_some() {
        return Err(SqlError::new(code::SYNTAX, "conflicting or redundant options"));
    }
    Ok(())
}

/// Reads a signature such as `public.f(uuid, text)`, as `has_function_privilege` takes it.
pub(crate) fn signature(text: &str) -> Result<FunctionRef, SqlError> {
    let mut cursor = Cursor::new(super::tokens(text)?);
    let function = cursor.function_ref()?;
    cursor.end()?;
    if function.types.is_none() {
        let text = "expected a left parenthesis";
        return Err(SqlError::new(code::INVALID_TEXT, text));
    }
    Ok(function)
}

/// Reads a name such as `public.songs`, as `regclass` takes it.
pub(crate) fn qualified_name(text: &str) -> Result<super::Name, SqlError> {
    let mut cursor = Cursor::new(super::tokens(text)?);
    let name = cursor.name()?;
    cursor.end()?;
    Ok(name)
}

/// Reads a type name kept as text, as `to_regtype` or a catalog would.
pub(crate) fn type_name(text: &str) -> Result<sql_type::Type, SqlError> {
    let mut cursor = Cursor::new(super::tokens(text)?);
    match cursor.type_spec()? {
        TypeSpec::Known(ty) => Ok(ty),
        TypeSpec::Relation(name) => {
            Err(SqlError::new(code::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")))
        }
    }
}
