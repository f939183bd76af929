//! Binds function calls: aggregates, special forms, functions of the server and of the users.

use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ObjectName, OrderByExpr,
};

use super::super::error::{SqlError, code};
use super::super::func::{self, Signature};
use super::super::parse::{self, Name, label};
use super::super::plan::{
    Aggregate, AggregateKind, Comparison, Expr, SetFunction, SubqueryKind, TableFunction, Typed,
};
use super::super::state::{Oid, Shape};
use super::super::value::Value;
use super::super::value::sql_type::{CastLevel, Type, cast_level};
use super::Binder;
use super::expr::compare;
use super::scope::Scope;

/// A function in a `FROM` list, with the columns it gives.
pub(crate) type TableCall = (TableFunction, Vec<(String, Type)>);

/// What a call turned out to name.
#[derive(Debug, Clone)]
pub(crate) enum Callee {
    Server(usize),
    User(Oid),
}

impl Binder<'_> {
    pub(super) fn call(&self, function: &Function, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let name = function_name(&function.name)?;
        let plain = !function.uses_odbc_syntax
            && function.parameters == FunctionArguments::None
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && function.over.is_none();
        if !plain {
            return Err(SqlError::unsupported(format!("this form of call: {function}")));
        }
        let system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        let list = match &function.args {
            FunctionArguments::None if system => return self.bare(&name.name),
            FunctionArguments::Subquery(query) if system && name.name == "array" => {
                let plan = self.query(query, scope)?;
                let ty = Type::array(super::expr::single_type(&plan)?);
                let kind = SubqueryKind::Array;
                return Ok(Typed { expr: Expr::Subquery { kind, query: Box::new(plan) }, ty });
            }
            FunctionArguments::List(list) => list,
            _ => return Err(SqlError::unsupported(format!("this form of call: {function}"))),
        };
        if system && let Some(aggregate) = self.aggregate((&name.name, function, list), scope)? {
            return Ok(aggregate);
        }
        if function.filter.is_some() || list.duplicate_treatment.is_some() {
            let text = format!("{name} is not an aggregate function");
            return Err(SqlError::new(code::WRONG_OBJECT_TYPE, text));
        }
        if !list.clauses.is_empty() {
            return Err(SqlError::unsupported(format!("this form of call: {function}")));
        }
        let args = self.call_args(&list.args, scope)?;
        if name.schema.is_none()
            && let Some(special) = self.special_form(&name.name, &args)?
        {
            return Ok(special);
        }
        self.named_call(&name, &args)
    }

    fn call_args(&self, args: &[FunctionArg], scope: &Scope<'_>) -> Result<Vec<Typed>, SqlError> {
        let bind = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr, scope),
            other => Err(SqlError::unsupported(format!("argument {other}"))),
        };
        args.iter().map(bind).collect()
    }

    /// Words that are calls without brackets.
    pub(super) fn bare(&self, name: &str) -> Result<Typed, SqlError> {
        let canonical = match name {
            "current_role" | "user" => "current_user",
            "current_timestamp" => "now",
            "localtimestamp" | "current_time" | "localtime" | "current_catalog" => {
                return Err(SqlError::unsupported(name));
            }
            "current_user" | "session_user" | "current_date" | "current_schema" => name,
            other => return Err(SqlError::undefined_column(other)),
        };
        self.named_call(&Name { schema: None, name: canonical.to_owned() }, &[])
    }

    fn special_form(&self, name: &str, args: &[Typed]) -> Result<Option<Typed>, SqlError> {
        let typed = |(items, ty): (Vec<Expr>, Type), form: fn(Vec<Expr>) -> Expr| {
            Ok(Some(Typed { expr: form(items), ty }))
        };
        match (name, args) {
            ("coalesce", [_, ..]) => typed(self.unify(args, "COALESCE")?, Expr::Coalesce),
            ("greatest", [_, ..]) => typed(self.unify(args, "GREATEST")?, |items| Expr::Extremum {
                items,
                greatest: true,
            }),
            ("least", [_, ..]) => {
                typed(self.unify(args, "LEAST")?, |items| Expr::Extremum { items, greatest: false })
            }
            ("nullif", [left, right]) => {
                let (a, b, _) = self.comparable((left, right), "=")?;
                let settled = self.settle(left.clone())?;
                let branches = vec![(compare(Comparison::Equal, a, b), Expr::Const(Value::Null))];
                let otherwise = Box::new(settled.expr);
                let expr = Expr::Case { branches, otherwise };
                Ok(Some(Typed { expr, ty: settled.ty }))
            }
            ("row", items) => {
                let items = items.iter().map(|item| item.expr.clone()).collect();
                Ok(Some(Typed { expr: Expr::Row(items), ty: Type::Record }))
            }
            _ => Ok(None),
        }
    }

    /// Finds the function and binds the call as a value.
    fn named_call(&self, name: &Name, args: &[Typed]) -> Result<Typed, SqlError> {
        match self.resolve(name, args)? {
            Callee::Server(index) => self.server_call(index, args),
            Callee::User(oid) => {
                let found = self.env.db.functions.get(&oid);
                let found = found.ok_or_else(|| SqlError::internal("a function is missing"))?;
                let Shape::Scalar(ty) = &found.returns.shape else {
                    return Err(SqlError::unsupported(format!("rows of {name} as a value")));
                };
                if found.returns.set {
                    return Err(SqlError::unsupported(format!("rows of {name} as a value")));
                }
                let args = self.user_arguments(oid, args)?;
                Ok(Typed { expr: Expr::UserCall { function: oid, args }, ty: ty.clone() })
            }
        }
    }

    pub(super) fn operator_call(&self, symbol: &str, args: &[Typed]) -> Result<Typed, SqlError> {
        match self.choose(&func::named("", symbol), args)? {
            Some(index) => self.server_call(index, args),
            None => Err(unknown_operator(symbol, args)),
        }
    }

    fn server_call(&self, index: usize, args: &[Typed]) -> Result<Typed, SqlError> {
        let builtin = func::get(index)?;
        let mut exprs = Vec::new();
        let mut types = Vec::new();
        for (arg, wanted) in args.iter().zip(builtin.parameters(args.len())) {
            let ty = wanted.target(&arg.ty);
            exprs.push(self.implicit(arg, &ty)?);
            types.push(ty);
        }
        let ty = builtin.returns.of(&types)?;
        Ok(Typed { expr: Expr::Call { function: index, args: exprs, types }, ty })
    }

    /// Brings arguments to the declared types and fills in the defaults.
    fn user_arguments(&self, oid: Oid, args: &[Typed]) -> Result<Vec<Expr>, SqlError> {
        self.uses.borrow_mut().functions.push(oid);
        self.depends(oid);
        let found = self.env.db.functions.get(&oid);
        let found = found.ok_or_else(|| SqlError::internal("a function is missing"))?;
        let mut exprs = Vec::new();
        for (place, parameter) in found.arguments.iter().enumerate() {
            let given = match (args.get(place), &parameter.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => self.stored_expr(default, &Scope::ROOT)?,
                (None, None) => return Err(SqlError::internal("an argument is missing")),
            };
            exprs.push(self.implicit(&given, &parameter.ty)?);
        }
        Ok(exprs)
    }

    /// Finds the one function that a name with these arguments means.
    pub(crate) fn resolve(&self, name: &Name, args: &[Typed]) -> Result<Callee, SqlError> {
        let mut best: Option<(u32, Callee)> = None;
        let mut doubled = false;
        let mut consider = |score: Option<u32>, callee: Callee| {
            let Some(score) = score else { return };
            match &best {
                Some((known, _)) if *known > score => {}
                Some((known, _)) if *known == score => doubled = true,
                _ => {
                    best = Some((score, callee));
                    doubled = false;
                }
            }
        };
        let schema = name.schema.as_deref();
        if schema.is_none_or(|schema| schema == "pg_catalog") {
            for index in func::named("pg_catalog", &name.name) {
                let score = func::get(index)?.score(args);
                consider(score, Callee::Server(index));
            }
        }
        for function in self.resolver().functions(name)? {
            consider(user_score(function, args), Callee::User(function.oid));
        }
        match best {
            Some(_) if doubled => {
                let text = format!("function {} is not unique", described(name, args));
                Err(SqlError::new(code::AMBIGUOUS_FUNCTION, text))
            }
            Some((_, callee)) => Ok(callee),
            None => Err(self.unknown_function(name, args)),
        }
    }

    /// Tells a function that the server has and the model has not from one that nobody has.
    fn unknown_function(&self, name: &Name, args: &[Typed]) -> SqlError {
        let described = described(name, args);
        let system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if system && func::is_foreign(&name.name) {
            return SqlError::unsupported(format!("function {described}"));
        }
        let text = format!("function {described} does not exist");
        SqlError::new(code::UNDEFINED_FUNCTION, text)
    }

    fn choose(&self, candidates: &[usize], args: &[Typed]) -> Result<Option<usize>, SqlError> {
        let mut best: Option<(u32, usize)> = None;
        for index in candidates {
            if let Some(score) = func::get(*index)?.score(args)
                && best.is_none_or(|(known, _)| score > known)
            {
                best = Some((score, *index));
            }
        }
        Ok(best.map(|(_, index)| index))
    }

    fn aggregate(
        &self,
        (name, function, list): (&str, &Function, &FunctionArgumentList),
        scope: &Scope<'_>,
    ) -> Result<Option<Typed>, SqlError> {
        let Some(mut kind) = aggregate_kind(name) else { return Ok(None) };
        let star =
            matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let args = if star { Vec::new() } else { self.call_args(&list.args, scope)? };
        if star {
            if kind != AggregateKind::Count {
                return Err(SqlError::new(
                    code::UNDEFINED_FUNCTION,
                    format!("function {name}() does not exist"),
                ));
            }
            kind = AggregateKind::CountRows;
        }
        let wanted = match kind {
            AggregateKind::CountRows => 0,
            AggregateKind::StringAgg => 2,
            _ => 1,
        };
        if args.len() != wanted {
            let text = format!("function {name} with {} arguments does not exist", args.len());
            return Err(SqlError::new(code::UNDEFINED_FUNCTION, text));
        }
        let (args, types, mut ty) = self.aggregate_types(kind, args)?;
        if name == "json_agg" {
            ty = Type::Json;
        }
        let distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        if distinct && (star || types.first().is_some_and(|ty| !ty.has_equality())) {
            return Err(SqlError::unsupported(format!("DISTINCT in {function}")));
        }
        let filter = match &function.filter {
            Some(filter) => Some(self.condition(&self.expr(filter, scope)?, "FILTER")?),
            None => None,
        };
        let order = match list.clauses.as_slice() {
            [] => Vec::new(),
            [FunctionArgumentClause::OrderBy(keys)] => self.aggregate_order(keys, scope)?,
            _ => return Err(SqlError::unsupported(format!("this form of call: {function}"))),
        };
        if distinct && !order.is_empty() {
            return Err(SqlError::unsupported("DISTINCT with ORDER BY in an aggregate"));
        }
        let aggregate = Aggregate { kind, args, types, distinct, filter, order };
        Ok(Some(Typed { expr: Expr::Aggregate(Box::new(aggregate)), ty }))
    }

    fn aggregate_order(
        &self,
        keys: &[OrderByExpr],
        scope: &Scope<'_>,
    ) -> Result<Vec<super::super::plan::SortKey>, SqlError> {
        keys.iter()
            .map(|key| {
                let typed = self.settle(self.expr(&key.expr, scope)?)?;
                super::query::sort_key(key, typed.expr)
            })
            .collect()
    }

    fn aggregate_types(
        &self,
        kind: AggregateKind,
        args: Vec<Typed>,
    ) -> Result<(Vec<Expr>, Vec<Type>, Type), SqlError> {
        let untyped = args.iter().any(|arg| arg.ty == Type::Unknown);
        if untyped && matches!(kind, AggregateKind::Sum) {
            let text = "function sum(unknown) is not unique";
            return Err(SqlError::new(code::AMBIGUOUS_FUNCTION, text));
        }
        let settled = |arg: Typed| match kind {
            AggregateKind::BoolAnd | AggregateKind::BoolOr if arg.ty == Type::Unknown => {
                Ok(Typed { expr: self.implicit(&arg, &Type::Bool)?, ty: Type::Bool })
            }
            _ => self.settle(arg),
        };
        let args: Vec<Typed> = args.into_iter().map(settled).collect::<Result<_, _>>()?;
        let first = args.first().map_or(Type::Unknown, |arg| arg.ty.base());
        let fits = |fits: bool, ty: Type| fits.then_some(ty);
        let ty = match kind {
            AggregateKind::CountRows | AggregateKind::Count => Some(Type::Int8),
            AggregateKind::Sum => match first {
                Type::Int2 | Type::Int4 => Some(Type::Int8),
                Type::Int8 | Type::Numeric(_) => Some(Type::Numeric(None)),
                Type::Float8 => Some(Type::Float8),
                _ => None,
            },
            AggregateKind::Min | AggregateKind::Max => {
                let ordered = first.is_number() || first.is_moment() || first.is_string();
                fits(ordered || first == Type::Interval, first.clone())
            }
            AggregateKind::BoolAnd | AggregateKind::BoolOr => fits(first == Type::Bool, Type::Bool),
            AggregateKind::ArrayAgg => {
                fits(!matches!(first, Type::Array(_) | Type::Record), Type::array(first.clone()))
            }
            AggregateKind::StringAgg => fits(args.iter().all(|arg| arg.ty.is_string()), Type::Text),
            AggregateKind::JsonAgg => fits(first != Type::Record, Type::Jsonb),
        };
        let Some(ty) = ty else {
            let text =
                format!("aggregate over {} does not exist or is not modelled", first.label());
            return Err(SqlError::new(code::UNDEFINED_FUNCTION, text));
        };
        let types = args.iter().map(|arg| arg.ty.clone()).collect();
        let exprs = args.into_iter().map(|arg| arg.expr).collect();
        Ok((exprs, types, ty))
    }

    /// Binds a call in a `FROM` list: its function, the columns it gives, and their names.
    pub(super) fn table_function(
        &self,
        name: &Name,
        args: &[FunctionArg],
        scope: &Scope<'_>,
    ) -> Result<TableCall, SqlError> {
        let args = self.call_args(args, scope)?;
        let system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        if system && let Some(found) = self.set_function(&name.name, &args)? {
            return Ok(found);
        }
        if let Callee::User(oid) = self.resolve(name, &args)? {
            let columns = self.shape_columns(oid)?;
            let exprs = self.user_arguments(oid, &args)?;
            let width = columns.len();
            return Ok((TableFunction::User { function: oid, args: exprs, width }, columns));
        }
        let typed = self.named_call(name, &args)?;
        let columns = vec![(name.name.clone(), typed.ty)];
        Ok((TableFunction::Scalar(typed.expr), columns))
    }

    fn shape_columns(&self, oid: Oid) -> Result<Vec<(String, Type)>, SqlError> {
        let found = self.env.db.functions.get(&oid);
        let found = found.ok_or_else(|| SqlError::internal("a function is missing"))?;
        Ok(match &found.returns.shape {
            Shape::Scalar(ty) => vec![(found.name.clone(), ty.clone())],
            Shape::Table(columns) => columns.clone(),
            Shape::Relation(relation) => {
                let columns = &self.env.db.relation(*relation)?.columns;
                columns.iter().map(|column| (column.name.clone(), column.ty.clone())).collect()
            }
        })
    }

    fn set_function(&self, name: &str, args: &[Typed]) -> Result<Option<TableCall>, SqlError> {
        let one = |ty: Type| vec![(name.to_owned(), ty)];
        let (kind, exprs, columns) = match (name, args) {
            ("unnest", [array]) => {
                let Type::Array(element) = &array.ty else {
                    return Err(SqlError::new(
                        code::UNDEFINED_FUNCTION,
                        "function unnest needs an array",
                    ));
                };
                (SetFunction::Unnest, vec![array.expr.clone()], one((**element).clone()))
            }
            ("generate_series", [_, _] | [_, _, _]) => {
                let (exprs, ty) = self.unify(args, "generate_series")?;
                if !ty.is_integer() {
                    return Err(SqlError::unsupported(format!(
                        "generate_series over {}",
                        ty.label()
                    )));
                }
                (SetFunction::GenerateSeries, exprs, one(ty))
            }
            ("aclexplode", [acl]) => {
                let expr = self.implicit(acl, &Type::array(Type::AclItem))?;
                let columns = vec![
                    ("grantor".to_owned(), Type::Oid),
                    ("grantee".to_owned(), Type::Oid),
                    ("privilege_type".to_owned(), Type::Text),
                    ("is_grantable".to_owned(), Type::Bool),
                ];
                (SetFunction::AclExplode, vec![expr], columns)
            }
            ("jsonb_array_elements", [json]) => {
                let expr = self.implicit(json, &Type::Jsonb)?;
                (
                    SetFunction::JsonArrayElements,
                    vec![expr],
                    vec![("value".to_owned(), Type::Jsonb)],
                )
            }
            ("jsonb_array_elements_text", [json]) => {
                let expr = self.implicit(json, &Type::Jsonb)?;
                (
                    SetFunction::JsonArrayElementsText,
                    vec![expr],
                    vec![("value".to_owned(), Type::Text)],
                )
            }
            _ => return Ok(None),
        };
        Ok(Some((TableFunction::Call { kind, args: exprs }, columns)))
    }
}

/// Reads the name of a function in a call.
pub(crate) fn function_name(name: &ObjectName) -> Result<Name, SqlError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        let ident = part.as_ident();
        parts.push(label(ident.ok_or_else(|| SqlError::unsupported(name))?)?);
    }
    match parts.as_slice() {
        [name] => Ok(Name { schema: None, name: name.clone() }),
        [schema, name] => Ok(Name { schema: Some(schema.clone()), name: name.clone() }),
        _ => Err(SqlError::unsupported(format!("name {}", parts.join(".")))),
    }
}

fn described(name: &Name, args: &[Typed]) -> String {
    let types: Vec<String> = args.iter().map(|arg| arg.ty.label()).collect();
    format!("{name}({})", types.join(", "))
}

fn unknown_operator(symbol: &str, args: &[Typed]) -> SqlError {
    let types: Vec<String> = args.iter().map(|arg| arg.ty.label()).collect();
    let written = types.join(&format!(" {symbol} "));
    if args.len() > 1 && args.iter().all(|arg| arg.ty == Type::Unknown) {
        let text = format!("operator is not unique: {written}");
        return SqlError::new(code::AMBIGUOUS_FUNCTION, text);
    }
    let rich = |arg: &Typed| arg.ty.is_moment() || matches!(arg.ty, Type::Interval | Type::Jsonb);
    let known = !func::named("", symbol).is_empty() || "+-*/%".contains(symbol);
    // The server calculates with moments and documents in more ways than the model.
    if !known || ("+-*/%".contains(symbol) && args.iter().any(rich)) {
        return SqlError::unsupported(format!("operator {written}"));
    }
    SqlError::new(code::UNDEFINED_FUNCTION, format!("operator does not exist: {written}"))
}

/// How well arguments fit a function of a user: nothing when they do not.
fn user_score(function: &super::super::state::Function, args: &[Typed]) -> Option<u32> {
    let required = function.arguments.iter().filter(|argument| argument.default.is_none()).count();
    if args.len() < required || args.len() > function.arguments.len() {
        return None;
    }
    let pairs = args.iter().zip(&function.arguments);
    let scores: Option<Vec<u32>> =
        pairs.map(|(arg, parameter)| argument_score(&arg.ty, &parameter.ty)).collect();
    scores.map(|scores| scores.iter().sum())
}

/// How well one type fits another in a call.
pub(crate) fn argument_score(given: &Type, wanted: &Type) -> Option<u32> {
    if cast_level(given, wanted) != Some(CastLevel::Implicit) {
        return None;
    }
    Some(match (given, wanted) {
        (Type::Unknown, Type::Text) => 3,
        (Type::Unknown, wanted) if wanted.is_string() => 2,
        (Type::Unknown, _) => 1,
        (given, wanted) if given.base() == wanted.base() => 4,
        (given, Type::Text) if given.is_string() => 3,
        _ => 2,
    })
}

fn aggregate_kind(name: &str) -> Option<AggregateKind> {
    Some(match name {
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        "bool_and" | "every" => AggregateKind::BoolAnd,
        "bool_or" => AggregateKind::BoolOr,
        "array_agg" => AggregateKind::ArrayAgg,
        "string_agg" => AggregateKind::StringAgg,
        "json_agg" | "jsonb_agg" => AggregateKind::JsonAgg,
        _ => return None,
    })
}

/// Tells whether a call written like this reads a keyword of the parser; used by column names.
pub(crate) fn last_part(name: &ObjectName) -> String {
    function_name(name).map_or_else(|_| String::new(), |name: parse::Name| name.name)
}
