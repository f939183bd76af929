//! Binds expressions.

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CastKind, Expr as Ast, Subscript, UnaryOperator,
};

use super::super::error::{SqlError, code};
use super::super::parse::{checked, fold};
use super::super::plan::{Arithmetic, Comparison, Expr, SubqueryKind, Typed};
use super::super::value::Value;
use super::super::value::decimal::Decimal;
use super::super::value::sql_type::{self, Type};
use super::Binder;
use super::scope::{FoundColumn, Scope};

impl Binder<'_> {
    /// Binds an expression over the names of a scope.
    pub(crate) fn expr(&self, ast: &Ast, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let _depth = self.env.shared.enter()?;
        match ast {
            Ast::Identifier(ident) => self.identifier(ident, scope),
            Ast::CompoundIdentifier(parts) => self.compound(parts, scope),
            Ast::Nested(inner) => self.expr(inner, scope),
            Ast::Value(value) => self.literal(&value.value),
            Ast::TypedString(text) => self.typed_string(text),
            Ast::Interval(interval) => self.interval(interval),
            Ast::BinaryOp { left, op, right } => self.binary((left, op, right), scope),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr, scope),
            Ast::Cast { kind, expr, data_type, format } => {
                let known = matches!(kind, CastKind::Cast | CastKind::DoubleColon);
                if !known || format.is_some() {
                    return Err(SqlError::unsupported(ast));
                }
                self.cast(expr, data_type, scope)
            }
            Ast::Function(function) => self.call(function, scope),
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case((operand.as_deref(), conditions, else_result.as_deref()), scope)
            }
            Ast::Array(array) if array.named => self.array(&array.elem, scope),
            Ast::Tuple(items) => {
                let items: Vec<Typed> =
                    items.iter().map(|item| self.expr(item, scope)).collect::<Result<_, _>>()?;
                let exprs = items.into_iter().map(|item| item.expr).collect();
                Ok(Typed { expr: Expr::Row(exprs), ty: Type::Record })
            }
            _ => self.predicate(ast, scope),
        }
    }

    fn predicate(&self, ast: &Ast, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        match ast {
            Ast::IsNull(inner) => self.is_null((inner, false), scope),
            Ast::IsNotNull(inner) => self.is_null((inner, true), scope),
            Ast::IsTrue(inner) => self.is((inner, true, false), scope),
            Ast::IsNotTrue(inner) => self.is((inner, true, true), scope),
            Ast::IsFalse(inner) => self.is((inner, false, false), scope),
            Ast::IsNotFalse(inner) => self.is((inner, false, true), scope),
            Ast::IsDistinctFrom(left, right) => self.distinct((left, right, false), scope),
            Ast::IsNotDistinctFrom(left, right) => self.distinct((left, right, true), scope),
            Ast::InList { expr, list, negated } => self.in_list((expr, list, *negated), scope),
            Ast::InSubquery { expr, subquery, negated } => {
                self.in_subquery((expr, subquery, *negated), scope)
            }
            Ast::Between { expr, negated, low, high } => {
                self.between((expr, low, high, *negated), scope)
            }
            Ast::AnyOp { left, compare_op, right, is_some: _ } => {
                self.quantified((left, compare_op, right, false), scope)
            }
            Ast::AllOp { left, compare_op, right } => {
                self.quantified((left, compare_op, right, true), scope)
            }
            Ast::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like((expr, pattern, false, *negated), scope)
            }
            Ast::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like((expr, pattern, true, *negated), scope)
            }
            Ast::Exists { subquery, negated } => {
                let plan = self.query(subquery, scope)?;
                let kind = SubqueryKind::Exists;
                let exists = Expr::Subquery { kind, query: Box::new(plan) };
                Ok(boolean(if *negated { Expr::Not(Box::new(exists)) } else { exists }))
            }
            Ast::Subquery(query) => self.scalar(query, scope),
            Ast::CompoundFieldAccess { root, access_chain } => {
                self.element(root, access_chain, scope)
            }
            other => Err(SqlError::unsupported(format!("expression {other}"))),
        }
    }

    fn identifier(&self, ident: &ast::Ident, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let word = ident.value.to_ascii_lowercase();
        if ident.quote_style.is_none() && (word == "current_role" || word == "user") {
            return self.bare(&word);
        }
        let name = checked(ident)?;
        if let Some(found) = scope.column(&name)? {
            return Ok(self.column(found));
        }
        let argument = self.arguments.iter().position(|(known, _)| known.as_ref() == Some(&name));
        match argument.and_then(|index| Some((index, self.arguments.get(index)?))) {
            Some((index, (_, ty))) => Ok(Typed { expr: Expr::Param(index), ty: ty.clone() }),
            None => Err(SqlError::undefined_column(name)),
        }
    }

    fn compound(&self, parts: &[ast::Ident], scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let names: Vec<String> = parts.iter().map(fold).collect();
        let (schema, table, column) = match names.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema.as_str()), table, column),
            _ => return Err(SqlError::unsupported(format!("name {}", names.join(".")))),
        };
        if let Some(found) = scope.qualified((schema, table), column)? {
            return Ok(self.column(found));
        }
        let text = format!("missing FROM-clause entry for table \"{table}\"");
        Err(SqlError::new(code::UNDEFINED_TABLE, text))
    }

    /// Notes the use of a column and refers to it.
    pub(crate) fn column(&self, found: FoundColumn) -> Typed {
        if let Some((used, place)) = found.used
            && let Some(entry) = self.uses.borrow_mut().tables.get_mut(used)
        {
            entry.read.insert(place);
        }
        let expr = Expr::Column { up: found.up, index: found.index };
        Typed { expr, ty: found.ty }
    }

    fn literal(&self, value: &ast::Value) -> Result<Typed, SqlError> {
        let constant = |value: Value, ty: Type| Ok(Typed { expr: Expr::Const(value), ty });
        match value {
            ast::Value::Number(text, false) => number(text),
            ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
                constant(Value::text(text), Type::Unknown)
            }
            ast::Value::DollarQuotedString(text) => {
                constant(Value::text(&text.value), Type::Unknown)
            }
            ast::Value::Boolean(value) => constant(Value::Bool(*value), Type::Bool),
            ast::Value::Null => Ok(super::coercion::null()),
            ast::Value::Placeholder(name) => self.placeholder(name),
            other => Err(SqlError::unsupported(format!("literal {other}"))),
        }
    }

    fn placeholder(&self, name: &str) -> Result<Typed, SqlError> {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        let found = index.and_then(|index| Some((index, self.arguments.get(index)?)));
        found
            .map(|(index, (_, ty))| Typed { expr: Expr::Param(index), ty: ty.clone() })
            .ok_or_else(|| SqlError::new("42P02", format!("there is no parameter {name}")))
    }

    fn typed_string(&self, text: &ast::TypedString) -> Result<Typed, SqlError> {
        if text.uses_odbc_syntax {
            return Err(SqlError::unsupported(text));
        }
        let literal = self.literal(&text.value.value)?;
        self.explicit(&literal, &sql_type::from_ast(&text.data_type)?)
    }

    fn interval(&self, interval: &ast::Interval) -> Result<Typed, SqlError> {
        let plain = interval.leading_field.is_none()
            && interval.leading_precision.is_none()
            && interval.last_field.is_none()
            && interval.fractional_seconds_precision.is_none();
        let Ast::Value(value) = interval.value.as_ref() else {
            return Err(SqlError::unsupported(interval));
        };
        if !plain {
            return Err(SqlError::unsupported(interval));
        }
        self.explicit(&self.literal(&value.value)?, &Type::Interval)
    }

    fn cast(
        &self,
        inner: &Ast,
        data_type: &ast::DataType,
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let to = sql_type::from_ast(data_type)?;
        if let (Ast::Array(array), Type::Array(element)) = (inner, &to)
            && array.elem.is_empty()
        {
            return Ok(Typed {
                expr: Expr::Array(Vec::new()),
                ty: Type::array((**element).clone()),
            });
        }
        let typed = self.expr(inner, scope)?;
        self.explicit(&typed, &to)
    }

    fn array(&self, items: &[Ast], scope: &Scope<'_>) -> Result<Typed, SqlError> {
        if items.is_empty() {
            let text = "cannot determine type of empty array";
            return Err(SqlError::new(code::INDETERMINATE_TYPE, text));
        }
        let items =
            items.iter().map(|item| self.expr(item, scope)).collect::<Result<Vec<_>, _>>()?;
        let (exprs, ty) = self.unify(&items, "ARRAY")?;
        if matches!(ty, Type::Array(_) | Type::Record) {
            return Err(SqlError::unsupported(format!("arrays of {}", ty.label())));
        }
        Ok(Typed { expr: Expr::Array(exprs), ty: Type::array(ty) })
    }

    fn case(
        &self,
        (operand, conditions, otherwise): (Option<&Ast>, &[ast::CaseWhen], Option<&Ast>),
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let operand = operand.map(|operand| self.expr(operand, scope)).transpose()?;
        let mut whens = Vec::new();
        let mut results = Vec::new();
        for when in conditions {
            let condition = self.expr(&when.condition, scope)?;
            whens.push(match &operand {
                None => self.condition(&condition, "CASE/WHEN")?,
                Some(operand) => {
                    let (left, right, _) = self.comparable((operand, &condition), "=")?;
                    compare(Comparison::Equal, left, right)
                }
            });
            results.push(self.expr(&when.result, scope)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expr(otherwise, scope)?,
            None => super::coercion::null(),
        });
        let (mut results, ty) = self.unify(&results, "CASE")?;
        let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
        let branches = whens.into_iter().zip(results).collect();
        Ok(Typed { expr: Expr::Case { branches, otherwise }, ty })
    }

    fn unary(&self, op: UnaryOperator, inner: &Ast, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let typed = self.expr(inner, scope)?;
        match op {
            UnaryOperator::Not => Ok(boolean(Expr::Not(Box::new(self.condition(&typed, "NOT")?)))),
            UnaryOperator::Minus | UnaryOperator::Plus if typed.ty.is_number() => {
                if op == UnaryOperator::Plus {
                    return Ok(typed);
                }
                let zero = match typed.ty {
                    Type::Numeric(_) => Value::Decimal(Decimal::from_int(0)),
                    Type::Float8 => Value::Float(0.0),
                    _ => Value::Int(0),
                };
                if let Expr::Const(value) = &typed.expr {
                    let op = Arithmetic::Subtract;
                    // The literal of the smallest number is read as a larger type and negated.
                    let negated = super::super::run::expr::arithmetic(op, &zero, value, &typed.ty)?;
                    return Ok(Typed {
                        ty: narrow(&negated, typed.ty),
                        expr: Expr::Const(negated),
                    });
                }
                Ok(calculate(Arithmetic::Subtract, (Expr::Const(zero), typed.expr), typed.ty))
            }
            UnaryOperator::Minus | UnaryOperator::Plus => {
                let text = format!("operator does not exist: {op} {}", typed.ty.label());
                Err(SqlError::new(code::UNDEFINED_FUNCTION, text))
            }
            other => Err(SqlError::unsupported(format!("operator {other}"))),
        }
    }

    fn scalar(&self, query: &ast::Query, scope: &Scope<'_>) -> Result<Typed, SqlError> {
        let plan = self.query(query, scope)?;
        let ty = single_type(&plan)?;
        let kind = SubqueryKind::Scalar;
        Ok(Typed { expr: Expr::Subquery { kind, query: Box::new(plan) }, ty })
    }

    fn element(
        &self,
        root: &Ast,
        chain: &[AccessExpr],
        scope: &Scope<'_>,
    ) -> Result<Typed, SqlError> {
        let [AccessExpr::Subscript(Subscript::Index { index })] = chain else {
            return Err(SqlError::unsupported("fields of composite values and slices"));
        };
        let array = self.expr(root, scope)?;
        let Type::Array(element) = &array.ty else {
            let text = format!("cannot subscript type {}", array.ty.label());
            return Err(SqlError::new(code::DATATYPE_MISMATCH, text));
        };
        let index = self.implicit(&self.expr(index, scope)?, &Type::Int4)?;
        let ty = (**element).clone();
        Ok(Typed {
            expr: Expr::Element { array: Box::new(array.expr), index: Box::new(index) },
            ty,
        })
    }
}

/// The type of a subquery that must have one column.
pub(crate) fn single_type(plan: &super::super::plan::QueryPlan) -> Result<Type, SqlError> {
    match plan.columns.as_slice() {
        [only] => Ok(only.ty.clone()),
        _ => Err(SqlError::new(code::SYNTAX, "subquery must return only one column")),
    }
}

pub(crate) fn boolean(expr: Expr) -> Typed {
    Typed { expr, ty: Type::Bool }
}

pub(crate) fn compare(op: Comparison, left: Expr, right: Expr) -> Expr {
    Expr::Compare { op, left: Box::new(left), right: Box::new(right) }
}

pub(crate) fn calculate(op: Arithmetic, (left, right): (Expr, Expr), ty: Type) -> Typed {
    let expr =
        Expr::Arithmetic { op, left: Box::new(left), right: Box::new(right), ty: ty.clone() };
    Typed { expr, ty }
}

/// Tells comparisons from other operators.
pub(crate) fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn number(text: &str) -> Result<Typed, SqlError> {
    let constant = |value, ty| Ok(Typed { expr: Expr::Const(value), ty });
    if let Ok(whole) = text.parse::<i64>() {
        let ty = if i32::try_from(whole).is_ok() { Type::Int4 } else { Type::Int8 };
        return constant(Value::Int(whole), ty);
    }
    match Decimal::parse(text) {
        Some(decimal) => constant(Value::Decimal(decimal), Type::Numeric(None)),
        None => Err(SqlError::unsupported(format!("number {text}"))),
    }
}

fn narrow(value: &Value, ty: Type) -> Type {
    match value {
        Value::Int(number) if i32::try_from(*number).is_ok() => Type::Int4,
        _ => ty,
    }
}
